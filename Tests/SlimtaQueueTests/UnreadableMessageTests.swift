// Messages that the storage cannot give back: their senders are told so, by us and of us. With the real storage, and a
// relay that reads what it is to send.

import Foundation
import Logging
import NIOCore
import SlimtaMail
import SlimtaStorage
import Synchronization
import Testing

@testable import SlimtaQueue

/// A host that takes what can be read, and of the rest says what a relay says.
private final class ReadingRelay: Relay {
    let received = Mutex<[String: String]>([:])
    /// What was attempted for which domain.
    let attempts = Mutex<[String: Int]>([:])

    func attempt(_ delivery: Delivery) async -> [Outcome] {
        let domain = delivery.envelope.recipients[delivery.recipients[0]].foldedDomain
        attempts.withLock { $0[domain, default: 0] += 1 }
        var text = String(buffer: delivery.message.head)
        do {
            if let reader = delivery.message.rest?.makeReader() {
                while let part = try await reader.next(50_000) { text += String(buffer: part) }
            }
        } catch {
            let reply = Reply(451, EnhancedStatus(4, 3, 0), "the stored message cannot be read")
            return delivery.recipients.map { _ in
                Outcome(.temporary, reply, isRemote: true, relay: "mx.test[192.0.2.1]:25", remoteHost: "mx.test")
            }
        }
        let received = text
        self.received.withLock { $0[domain] = received }
        return delivery.recipients.map { _ in Outcome(.delivered, Reply(250, EnhancedStatus(2, 0, 0), "ok")) }
    }
}

@Suite struct UnreadableMessageTests {
    private let path = FileManager.default.temporaryDirectory.appendingPathComponent("queue-\(UUID().uuidString)").path
    private let relay = ReadingRelay()

    private func open() throws -> (JournaledStorage, Queue) {
        let storage = try JournaledStorage.open(directory: path, owner: nil, options: StorageOptions()) { _ in }
        let queue = Queue(
            storage: storage, relay: relay,
            configuration: .init(
                schedule: RetrySchedule(intervals: [.seconds(3600)], expire: .seconds(7200), warn: nil),
                limits: .init(attempts: 50, attemptsPerDestination: 20), delivers: true, hostname: "queue.test"),
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        queue.receive([.acquired(try storage.recover())])
        return (storage, queue)
    }

    private func accept(_ queue: Queue, _ rest: (any SpooledBody)?, _ id: QueueID, to domain: String) async throws {
        let envelope = Envelope(
            id: id, sender: Mailbox(parsing: "sender@client.test"), recipients: [Mailbox(parsing: "x@\(domain)")!],
            received: .now(), client: ClientInfo(address: "", name: "c", protocolWord: "ESMTP"))
        let message = Message(
            head: ByteBuffer(string: "Subject: the subject\r\n\r\n" + String(repeating: "text ", count: 500)),
            rest: rest)
        try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
            queue.accept([envelope], message) { continuation.resume(with: $0.mapError { $0 as any Error }) }
        }
    }

    private func run(_ queue: Queue, until isDone: @escaping @Sendable () -> Bool) async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await queue.run() }
            for _ in 0..<6000 where !isDone() { try? await Task.sleep(for: .milliseconds(10)) }
            queue.drain()
        }
        #expect(isDone())
    }

    private func check(_ notice: String?, returnsHeader: Bool) throws {
        let notice = try #require(notice)
        #expect(notice.contains("Reporting-MTA: dns; queue.test\r\n") && notice.contains("Status: 5.3.0\r\n"))
        #expect(notice.contains("Diagnostic-Code: x-slimtad; 554 5.3.0 the message was damaged in our storage"))
        #expect(!notice.contains("Remote-MTA") && !notice.contains("mx.test"))
        #expect(notice.contains("Subject: the subject") == returnsHeader)
        #expect(notice.contains("please send it again") == !returnsHeader)
    }

    @Test func damageInTheSpoolIsNotThePeersFault() async throws {
        defer { try? FileManager.default.removeItem(atPath: path) }
        let (storage, queue) = try open()
        let id = QueueID(at: .now())
        let writer = storage.beginSpool(id)
        writer.append(ByteBuffer(repeating: 65, count: 300_000)) { _ in }
        let body = try await withCheckedContinuation { continuation in
            writer.finish { continuation.resume(returning: $0) }
        }.get()
        try await accept(queue, body, id, to: "x.test")
        let file = "\(path)/spool/\(id.description.suffix(2))/\(id)"
        var octets = try Data(contentsOf: URL(fileURLWithPath: file))
        octets[1000] ^= 1
        try octets.write(to: URL(fileURLWithPath: file))
        await run(queue) { queue.count == 0 }
        try check(relay.received.withLock { $0["client.test"] }, returnsHeader: true)
        #expect(relay.attempts.withLock { $0["x.test"] } == 1)
        #expect(storage.ledger().submitted.bounced == 1 && storage.ledger().isBalanced)
        #expect(!FileManager.default.fileExists(atPath: file))
        await storage.close()
    }

    @Test func damageInASealedFileIsToldAtOnce() async throws {
        defer { try? FileManager.default.removeItem(atPath: path) }
        var (storage, queue) = try open()
        try await accept(queue, nil, QueueID(at: .now()), to: "x.test")
        try await accept(queue, nil, QueueID(at: .now()), to: "y.test")
        await storage.close()
        let folder = "\(path)/queue"
        let name = try #require(
            try FileManager.default.contentsOfDirectory(atPath: folder).first { $0.hasPrefix("env-") })
        let file = URL(fileURLWithPath: "\(folder)/\(name)")
        var octets = try Data(contentsOf: file)
        octets[try #require(octets.range(of: Data("text text".utf8))).lowerBound + 100] ^= 1
        try octets.write(to: file)
        (storage, queue) = try open()
        #expect(queue.count == 2)
        await run(queue) { [queue] in queue.count == 0 }
        try check(relay.received.withLock { $0["client.test"] }, returnsHeader: false)
        // One of them was hit, the other one went.
        let attempts = relay.attempts.withLock { ($0["x.test"] ?? 0) + ($0["y.test"] ?? 0) }
        #expect(attempts == 1)
        #expect(storage.ledger().submitted.bounced == 1 && storage.ledger().isBalanced)
        await storage.close()
    }

    /// What may pass is tried again; what was delivered stays so.
    @Test func whatIsSaidOfIt() {
        let damaged = Outcome(unreadable: .damaged("x"))
        #expect(damaged.result == .permanent && !damaged.isRemote && damaged.relay == nil)
        for error in [StorageError.failed("x"), .full, .notFound, .closed] {
            let outcome = Outcome(unreadable: error)
            #expect(outcome.result == .temporary && !outcome.isRemote && outcome.relay == nil)
            #expect(!outcome.isHostFailure)
        }
    }
}
