// Messages of ours are signed before they are durable: bounces and delay notices of attempts, bounces that an operator asks for,
// and what others have the queue take.

import Logging
import NIOCore
import SlimtaMail
import StorageKit
import Synchronization
import Testing

@testable import SlimtaQueue

/// Its word is the id of what it signs.
private struct WordSigner: NoticeSigner {
    func fields(for envelope: Envelope, _ message: Message) async -> ByteBuffer {
        await Task.yield()
        #expect(String(buffer: message.head).contains("From: Mail Delivery System") && envelope.sender == nil)
        return ByteBuffer(string: "X-Signed: \(envelope.id)\r\n")
    }
}

/// Delivers notices and keeps them; of other mail, what is for "later" is put off, the rest refused.
private final class NoticeRelay: Relay {
    let notices = Mutex<[Delivery]>([])

    func attempt(_ delivery: Delivery) async -> [Outcome] {
        if delivery.envelope.sender == nil { notices.withLock { $0.append(delivery) } }
        return delivery.recipients.map { index in
            if delivery.envelope.sender == nil {
                return Outcome(.delivered, Reply(250, .init(2, 0, 0), "ok"), isRemote: true)
            }
            return delivery.envelope.recipients[index].localPart == "later"
                ? Outcome(.temporary, Reply(450, .init(4, 2, 0), "later"), isRemote: true)
                : Outcome(.permanent, Reply(550, .init(5, 1, 1), "no"), isRemote: true)
        }
    }
}

@Suite(.timeLimit(.minutes(4)))
struct SignedNoticeTests {
    private let storage = MemoryStorage()
    private let relay = NoticeRelay()
    private let queue: Queue

    init() {
        var configuration = Queue.Configuration(
            schedule: RetrySchedule(intervals: [.seconds(3600)], expire: .seconds(360000), warn: .zero),
            limits: .init(attempts: 50, attemptsPerDestination: 20), delivers: true, hostname: "queue.test")
        configuration.signer = WordSigner()
        queue = Queue(
            storage: storage, relay: relay, configuration: configuration,
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    }

    private func accept(to recipients: [String], heldReason: String? = nil) async throws -> QueueID {
        let envelope = Envelope(
            id: storage.newID(at: .now()), sender: Mailbox(localPart: "a", domain: "client.test"),
            recipients: recipients.map { Mailbox(localPart: $0, domain: "x.test") }, received: .now(),
            client: ClientInfo(address: "", name: "c", protocolWord: "ESMTP"))
        let result: Result<Void, StorageError> = await withCheckedContinuation { done in
            queue.accept([envelope], Message(head: ByteBuffer(string: "S: x\r\n\r\n")), heldReason: heldReason) {
                done.resume(returning: $0)
            }
        }
        try result.get()
        return envelope.id
    }

    /// So many notices, as they were delivered: each has the word of its own.
    private func notices(_ count: Int) async throws -> [String] {
        let run = Task { await queue.run() }
        while relay.notices.withLock({ $0.count }) < count { try await Task.sleep(for: .milliseconds(5)) }
        queue.drain()
        await run.value
        return relay.notices.withLock { notices in
            notices.map { notice in
                #expect(String(buffer: notice.envelope.prependedFields) == "X-Signed: \(notice.envelope.id)\r\n")
                return String(buffer: notice.message.head)
            }
        }
    }

    /// One attempt owes both: each is in another commit.
    @Test func bounceAndDelay() async throws {
        try await storage.start { queue.receive($0) }
        _ = try await accept(to: ["gone", "later"])
        let texts = try await notices(2)
        #expect(texts.count { $0.contains("Subject: Undelivered") } == 1)
        #expect(texts.count { $0.contains("Subject: Delayed") } == 1)
        await storage.close()
    }

    @Test func byAnOperator() async throws {
        try await storage.start { queue.receive($0) }
        let id = try await accept(to: ["gone"], heldReason: "a rule")
        try await queue.bounce(id, by: "root")
        #expect(try await notices(1).count == 1)
        await storage.close()
    }

    /// Others have messages of ours too.
    @Test func whatOthersMake() async {
        let envelope = Envelope(
            id: QueueID(high: 1, low: 1), sender: nil, recipients: [Mailbox(localPart: "a", domain: "x.test")],
            received: .now(), client: ClientInfo(address: "", name: "", protocolWord: "LOCAL"))
        let message = Message(head: ByteBuffer(string: "From: Mail Delivery System <a@b>\r\n\r\n"))
        let signed = await queue.signed(envelope, message)
        #expect(String(buffer: signed.prependedFields) == "X-Signed: \(envelope.id)\r\n")
    }
}
