// What a relay tells of before its attempt ends is durable before that: a crash delivers it to nobody twice.

import Foundation
import Logging
import NIOCore
import SlimtaMail
import SlimtaStorage
import Synchronization
import Testing

@testable import SlimtaQueue

/// Tells of the recipients at even places, and waits; its outcomes come when it is let go.
private final class SlowRelay: Relay {
    private let asked = Mutex<[[Int]]>([])
    private let isLetGo = Mutex(false)

    var attempts: [[Int]] { asked.withLock { $0 } }
    func letGo() { isLetGo.withLock { $0 = true } }

    func attempt(_ delivery: Delivery) async -> [Outcome] {
        asked.withLock { $0.append(delivery.recipients) }
        let outcomes = delivery.recipients.map { recipient in
            recipient.isMultiple(of: 2)
                ? Outcome(.delivered, Reply(250, .init(2, 0, 0), "r\(recipient)"), isRemote: true, relay: "host")
                : Outcome(.temporary, Reply(452, .init(4, 2, 2), "full"), isRemote: true, relay: "host")
        }
        for (recipient, outcome) in zip(delivery.recipients, outcomes) { delivery.report(recipient, outcome) }
        while !isLetGo.withLock({ $0 }) { try? await Task.sleep(for: .milliseconds(5)) }
        return outcomes
    }
}

@Suite(.timeLimit(.minutes(4)))
struct EarlyOutcomeTests {
    private func open(_ path: String, _ relay: SlowRelay) throws -> (JournaledStorage, Queue) {
        let storage = try JournaledStorage.open(
            directory: path, owner: nil, options: StorageOptions(), report: { _ in })
        let queue = Queue(
            storage: storage, relay: relay,
            configuration: .init(
                schedule: RetrySchedule(intervals: [.seconds(3600)], expire: .seconds(360000), warn: nil),
                limits: .init(attempts: 50, attemptsPerDestination: 20), delivers: true, hostname: "queue.test"),
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        queue.receive([.acquired(try storage.recover())])
        return (storage, queue)
    }

    private func fates(_ storage: JournaledStorage, _ id: QueueID) async throws -> [RecipientState.Fate] {
        try await #require(storage.states([id]).first).get().recipients.map(\.fate)
    }

    private func envelope(_ count: Int) -> Envelope {
        Envelope(
            id: QueueID(at: .now()), sender: nil,
            recipients: (0..<count).map { Mailbox(localPart: "r\($0)", domain: "x.test") }, received: .now(),
            client: ClientInfo(address: "", name: "", protocolWord: "ESMTP"))
    }

    /// The attempt is under way when the storage is closed, as by a crash: behind that only the others are tried.
    @Test func aCrashAmongOutcomes() async throws {
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("queue-\(UUID().uuidString)").path
        defer { try? FileManager.default.removeItem(atPath: path) }
        let relay = SlowRelay()
        var (storage, queue) = try open(path, relay)
        let mail = envelope(5)
        let accepted: Result<Void, StorageError> = await withCheckedContinuation { done in
            queue.accept([mail], Message(head: .init(string: "S: x\r\n\r\n"))) { done.resume(returning: $0) }
        }
        try accepted.get()
        let first = Task { [queue] in await queue.run() }
        let wanted: [RecipientState.Fate] = [.delivered, .pending, .delivered, .pending, .delivered]
        while try await fates(storage, mail.id) != wanted { try await Task.sleep(for: .milliseconds(5)) }
        // It still goes on, and counts for nothing yet.
        #expect(try await storage.load(mail.id).state.attempts == 0)
        await storage.close()
        relay.letGo()
        queue.drain()
        await first.value

        (storage, queue) = try open(path, relay)
        let second = Task { [queue] in await queue.run() }
        while relay.attempts.count < 2 { try await Task.sleep(for: .milliseconds(5)) }
        queue.drain()
        await second.value
        #expect(relay.attempts == [[0, 1, 2, 3, 4], [1, 3]])
        let state = try await storage.load(mail.id).state
        #expect(state.attempts == 1 && state.recipients.map(\.fate) == wanted)
        #expect(state.recipients[0].reply == "250 2.0.0 r0" && state.recipients[0].relay == "host")
        await storage.close()
    }

    /// What is told just before the end is the same as the end says, and the end is the last word.
    @Test func theEnd() async throws {
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("queue-\(UUID().uuidString)").path
        defer { try? FileManager.default.removeItem(atPath: path) }
        let relay = SlowRelay()
        relay.letGo()
        let (storage, queue) = try open(path, relay)
        for count in [1, 2] {
            var mail = envelope(count)
            mail.recipients = mail.recipients.map { _ in Mailbox(localPart: "r", domain: "x.test") }
            queue.accept([mail], Message(head: .init(string: "S: x\r\n\r\n"))) { _ in }
        }
        let run = Task { await queue.run() }
        while relay.attempts.count < 2 { try await Task.sleep(for: .milliseconds(5)) }
        queue.drain()
        await run.value
        // Of two, one was put off.
        #expect(queue.count == 1)
        await storage.close()
    }
}
