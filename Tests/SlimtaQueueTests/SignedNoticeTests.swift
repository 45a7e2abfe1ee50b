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

    func renewal(of envelope: Envelope, _ message: Message, at now: Timestamp) async -> SignatureRenewal {
        guard let sender = envelope.sender else { return .none }
        var renewed = envelope
        renewed.prependedFields = ByteBuffer(string: "X-Signed: anew\r\n")
        return sender.localPart == "never" ? .impossible : .renewed(renewed)
    }
}

/// Delivers notices and keeps them; of other mail, what is for "later" is put off, the rest refused.
private final class NoticeRelay: Relay {
    let notices = Mutex<[Delivery]>([])
    let others = Mutex<[Delivery]>([])

    func attempt(_ delivery: Delivery) async -> [Outcome] {
        if delivery.envelope.sender != nil { others.withLock { $0.append(delivery) } }
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

/// Of a disk that does not give states back, whatever else it gives.
private struct WithoutStates: QueueStorage {
    let sound: MemoryStorage

    func states(_ ids: [QueueID]) async -> [Result<EnvelopeState, StorageError>] {
        ids.map { _ in .failure(.failed("the disk fails")) }
    }

    func newID(at time: Timestamp, beside sibling: QueueID?) -> QueueID { sound.newID(at: time, beside: sibling) }
    func admission(of size: Int) -> Admission { sound.admission(of: size) }
    func commit(_ commit: QueueCommit, completion: @escaping @Sendable (Result<Void, StorageError>) -> Void) {
        sound.commit(commit, completion: completion)
    }
    func load(_ id: QueueID) async throws(StorageError) -> StoredEnvelope { try await sound.load(id) }
    func remains(of id: QueueID) async -> StoredEnvelope? { await sound.remains(of: id) }
    func receipt(for key: Receipt.Digest) async throws(StorageError) -> Receipt? { try await sound.receipt(for: key) }
    func receipt(of id: QueueID) async throws(StorageError) -> Receipt? { try await sound.receipt(of: id) }
    func beginSpool(_ id: QueueID) -> any SpoolWriter { sound.beginSpool(id) }
    func released(_ buckets: QueueBuckets) { sound.released(buckets) }
}

@Suite(.timeLimit(.minutes(4)))
struct SignedNoticeTests {
    private let storage = MemoryStorage()
    private let relay = NoticeRelay()
    private let queue: Queue

    init() { queue = Self.queue(storage, relay) }

    private static func queue(_ storage: any QueueStorage, _ relay: NoticeRelay) -> Queue {
        var configuration = Queue.Configuration(
            schedule: RetrySchedule(intervals: [.seconds(3600)], expire: .seconds(360000), warn: .zero),
            limits: .init(attempts: 50, attemptsPerDestination: 20), delivers: true, hostname: "queue.test")
        configuration.signer = WordSigner()
        return Queue(
            storage: storage, relay: relay, configuration: configuration,
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    }

    private func accept(
        to recipients: [String], heldReason: String? = nil, from sender: String = "a", age: Duration = .zero,
        by queue: Queue? = nil
    ) async throws -> QueueID {
        let queue = queue ?? self.queue
        let received = Timestamp.now() + (.zero - age)
        let envelope = Envelope(
            id: storage.newID(at: received), sender: Mailbox(localPart: sender, domain: "client.test"),
            recipients: recipients.map { Mailbox(localPart: $0, domain: "x.test") }, received: received,
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

    /// What has waited for half an hour may need another signature: nothing of that is stored. What can have none waits.
    @Test func whatHasWaited() async throws {
        try await storage.start { queue.receive($0) }
        for (sender, age) in [("new", Duration.seconds(1700)), ("old", .seconds(1900)), ("never", .seconds(1900))] {
            _ = try await accept(to: ["gone"], from: sender, age: age)
        }
        let texts = try await notices(3)
        #expect(texts.count { $0.contains("Subject: Delayed") } == 1)
        let tried = relay.others.withLock { others in
            Dictionary(uniqueKeysWithValues: others.map { ($0.envelope.sender!.localPart, $0) })
        }
        #expect(Set(tried.keys) == ["new", "old"])
        #expect(tried["new"]?.envelope.prependedFields.readableBytes == 0)
        #expect(tried["old"].map { String(buffer: $0.envelope.prependedFields) } == "X-Signed: anew\r\n")
        await storage.close()
    }

    /// What was never accepted never leaves, whatever filter it is released by, and nobody is told of it.
    @Test func whatIsKept() async throws {
        try await storage.start { queue.receive($0) }
        let kept = try await accept(to: ["later"], heldReason: EnvelopeState.keptReason)
        let held = try await accept(to: ["later"], heldReason: "a rule")
        let failed = await queue.release([kept, held], by: "root")
        #expect(failed == [QueueOperationFailure(id: kept, error: .kept)])
        await #expect(throws: QueueOperationError.kept) { try await queue.bounce(kept, by: "root") }
        let state = try await storage.states([kept])[0].get()
        #expect(state.isHeld && state.isKept)
        #expect(await queue.remove([kept], by: "root").isEmpty)
        await storage.close()
    }

    /// The message that would be given up says whether it was accepted, and nothing that may not be read beside it.
    @Test func whatIsKeptWhereStatesCannotBeRead() async throws {
        let queue = Self.queue(WithoutStates(sound: storage), relay)
        try await storage.start { queue.receive($0) }
        let kept = try await accept(to: ["later"], heldReason: EnvelopeState.keptReason, by: queue)
        await #expect(throws: QueueOperationError.kept) { try await queue.bounce(kept, by: "root") }
        #expect(try await storage.states([kept])[0].get().isKept)
        let held = try await accept(to: ["later"], heldReason: "a rule", by: queue)
        try await queue.bounce(held, by: "root")
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
