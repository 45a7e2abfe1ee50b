// Policies that look on while a large message comes: what they see, when they are believed, and that the storage gets its own
// file back.

import Foundation
import Logging
import NIOCore
import SlimtaMail
import SlimtaQueue
import SlimtaStorage
import Synchronization
import Testing

@testable import SlimtaPolicy

/// Keeps what it sees.
private final class Watcher: ContentObserver {
    let seen = Mutex<[String]>([])

    func begin(_ head: ByteBuffer) { seen.withLock { $0.append("head " + String(buffer: head)) } }

    func take(_ octets: ByteBuffer) { seen.withLock { $0.append(String(buffer: octets)) } }
}

/// Another kind of it.
private final class Counter: ContentObserver {
    let count = Mutex(0)

    func begin(_ head: ByteBuffer) {}

    func take(_ octets: ByteBuffer) { count.withLock { $0 += octets.readableBytes } }
}

/// Asks what was seen, and refuses with it.
private struct Watching: QueuePolicy, ObservingPolicy {
    var place: PolicyPlace { .forward }

    func makeObserver() -> (any ContentObserver)? { Watcher() }

    func apply(to mail: inout PolicyMail, _ context: PolicyContext) throws(PolicyRefusal) {
        guard let watcher = mail.observer(Watcher.self) else { return mail.prepend(["X-Seen: no\r\n"]) }
        mail.prepend(["X-Seen: \(watcher.seen.withLock { $0 }.joined(separator: "|").filter { !$0.isNewline })\r\n"])
    }
}

private struct Counting: WaitingPolicy, ObservingPolicy {
    var place: PolicyPlace { .milters }

    let makes: Bool

    func makeObserver() -> (any ContentObserver)? { makes ? Counter() : nil }

    func apply(to mail: inout PolicyMail, _ context: PolicyContext) async throws(PolicyRefusal) {
        let count = mail.observer(Counter.self).map { $0.count.withLock { $0 } }
        mail.prepend(["X-Count: \(count.map(String.init) ?? "no")\r\n"])
    }
}

@Suite struct ObserverTests {
    private static func stored(_ policies: [PolicyStep], isLarge: Bool = true) async throws -> StoredEnvelope {
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("observed-\(UUID().uuidString)").path
        defer { try? FileManager.default.removeItem(atPath: path) }
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        var options = StorageOptions()
        (options.segmentSize, options.minimumFree, options.reserveSize) = (1 << 20, 0, 0)
        let storage = try JournaledStorage.open(directory: path, owner: nil, options: options, report: { _ in })
        let queue = Queue(
            storage: storage, relay: NoRelay(),
            configuration: .init(
                schedule: RetrySchedule(intervals: [.seconds(1)], expire: .seconds(3600), warn: nil),
                limits: .init(attempts: 1, attemptsPerDestination: 1), delivers: false, hostname: "queue.test"),
            logger: logger)
        let intake = Intake(
            policies: PolicyChain(policies, receivedHops: 9), hostname: "h.test", queue: queue, storage: storage,
            logger: logger)
        try await storage.start { queue.receive($0) }
        let id = intake.newID(at: .now())
        let envelope = Envelope(
            id: id, sender: nil, recipients: [Mailbox(localPart: "a", domain: "x.test")], received: .now(),
            client: ClientInfo(address: "192.0.2.7", name: "c", protocolWord: "ESMTP"))
        var message = Message(head: ByteBuffer(string: "From: a@b\r\n\r\na"))
        if isLarge {
            let writer = intake.beginSpool(id, behind: message.head)
            for part in ["bc", "", "def\r\n"] { writer.append(ByteBuffer(string: part)) { _ in } }
            message.rest = try await withCheckedContinuation { continuation in
                writer.finish { continuation.resume(returning: $0) }
            }.get()
            #expect(message.size == 21)
        }
        let reply = await withCheckedContinuation { continuation in
            intake.submit(envelope, message, terms: SubmissionTerms(), session: "1") {
                continuation.resume(returning: $0)
            }
        }
        #expect(reply.code == 250, "\(reply)")
        let stored = try await storage.load(id)
        if isLarge {
            let reader = try #require(stored.message.rest?.makeReader())
            #expect(try await reader.next(100).map { String(buffer: $0) } == "bcdef\r\n")
        }
        await storage.close()
        return stored
    }

    private static func fields(_ policies: [PolicyStep], isLarge: Bool = true) async throws -> String {
        String(buffer: try await stored(policies, isLarge: isLarge).envelope.prependedFields)
    }

    @Test func whatIsSeen() async throws {
        let steps: [PolicyStep] = [.immediate(Watching()), .waiting(Counting(makes: true))]
        #expect(try await Self.fields(steps) == "X-Count: 7\r\nX-Seen: head From: a@ba|bc||def\r\n")
        // Nobody is asked to look on.
        #expect(try await Self.fields([.waiting(Counting(makes: false))]) == "X-Count: no\r\n")
        #expect(try await Self.fields(steps, isLarge: false) == "X-Count: no\r\nX-Seen: no\r\n")
        #expect(try await Self.fields([]) == "")
    }
}

/// Makes no attempts: the queue does not run in these tests.
private struct NoRelay: Relay {
    func attempt(_ delivery: Delivery) async -> [Outcome] { [] }
}
