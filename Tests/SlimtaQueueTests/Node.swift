// A node of a shared queue in memory, for tests of what nodes do to each other: its storage, whose answers can be kept back,
// its queue, and a relay that waits where it is told to.

import Logging
import NIOCore
import SlimtaMail
import StorageKit
import Synchronization
import Testing

@testable import SlimtaQueue

/// Delivers; to domains that begin with "slow" only when it is told to. Where it is for "bounce", it fails for good.
final class GatedRelay: Relay {
    private struct State {
        var attempts: [QueueID: Int] = [:]
        var isOpen = false
        var open: Set<String> = []
        var waiting: [(domain: String, CheckedContinuation<Void, Never>)] = []

        func isOpen(_ domain: String) -> Bool { isOpen || open.contains(domain) }
    }

    private let state = Mutex(State())

    func attempt(_ delivery: Delivery) async -> [Outcome] {
        state.withLock { $0.attempts[delivery.envelope.id, default: 0] += 1 }
        let recipient = delivery.envelope.recipients[0]
        let domain = recipient.foldedDomain
        if domain.hasPrefix("slow") {
            await withCheckedContinuation { continuation in
                let isOpen = state.withLock { state in
                    if !state.isOpen(domain) { state.waiting.append((domain, continuation)) }
                    return state.isOpen(domain)
                }
                if isOpen { continuation.resume() }
            }
        }
        let outcome =
            recipient.localPart == "bounce"
            ? Outcome(.permanent, Reply(550, .init(5, 1, 1), "nobody"), isRemote: true)
            : Outcome(.delivered, Reply(250, .init(2, 0, 0), "ok"), isRemote: true)
        return delivery.recipients.map { _ in outcome }
    }

    /// Waits no more for this domain; nil: for any.
    func open(_ domain: String? = nil) {
        let waiting = state.withLock { state in
            if let domain { state.open.insert(domain) } else { state.isOpen = true }
            let all = state.waiting
            state.waiting = all.filter { !state.isOpen($0.domain) }
            return all.filter { state.isOpen($0.domain) }
        }
        for (_, continuation) in waiting { continuation.resume() }
    }

    func attempts(_ id: QueueID) -> Int { state.withLock { $0.attempts[id] ?? 0 } }
    var attempted: Set<QueueID> { state.withLock { Set($0.attempts.keys) } }
}

/// A way to a storage on which answers to commits with new envelopes can be kept back: such a commit is durable, and its
/// queue does not know.
final class GatedStorage: QueueStorage {
    private struct State {
        var isShut = false
        var kept: [@Sendable () -> Void] = []
        var released: [QueueBuckets] = []
    }

    private let storage: MemoryStorage
    private let state = Mutex(State())

    init(_ storage: MemoryStorage) { self.storage = storage }

    func shut() { state.withLock { $0.isShut = true } }

    func open() {
        let kept = state.withLock { state in
            defer { state = State(released: state.released) }
            return state.kept
        }
        for answer in kept { answer() }
    }

    /// How many answers are kept back.
    var kept: Int { state.withLock { $0.kept.count } }
    /// What the queue has given back, in order.
    var released: [QueueBuckets] { state.withLock { $0.released } }

    func commit(_ commit: QueueCommit, completion: @escaping @Sendable (Result<Void, StorageError>) -> Void) {
        let isNews = !commit.accepted.isEmpty
        storage.commit(commit) { [self] result in
            let isKept = state.withLock { state in
                guard isNews, state.isShut else { return false }
                state.kept.append { completion(result) }
                return true
            }
            if !isKept { completion(result) }
        }
    }

    func released(_ buckets: QueueBuckets) {
        state.withLock { $0.released.append(buckets) }
        storage.released(buckets)
    }

    func newID(at time: Timestamp, beside sibling: QueueID?) -> QueueID { storage.newID(at: time, beside: sibling) }
    func keeps(_ id: QueueID) -> Bool { storage.keeps(id) }
    func admission(of size: Int) -> Admission { storage.admission(of: size) }
    func load(_ id: QueueID) async throws(StorageError) -> StoredEnvelope { try await storage.load(id) }
    func remains(of id: QueueID) async -> StoredEnvelope? { await storage.remains(of: id) }
    func states(_ ids: [QueueID]) async -> [Result<EnvelopeState, StorageError>] { await storage.states(ids) }
    func receipt(for key: Receipt.Digest) async throws(StorageError) -> Receipt? { try await storage.receipt(for: key) }
    func receipt(of id: QueueID) async throws(StorageError) -> Receipt? { try await storage.receipt(of: id) }
    func beginSpool(_ id: QueueID) -> any SpoolWriter { storage.beginSpool(id) }
}

/// A node: its storage, its queue, and what delivers.
final class Node: Sendable {
    let storage: MemoryStorage
    let gate: GatedStorage
    let queue: Queue
    let relay = GatedRelay()
    private let running: Task<Void, Never>

    init(
        _ database: MemoryDatabase, _ name: String, delivers: Bool = true, isEdge: Bool = false,
        clock: QueueClock = QueueClock(), log: any LogHandler = SwiftLogNoOpLogHandler()
    ) async throws {
        storage = MemoryStorage(database, name: name, delivers: !isEdge)
        gate = GatedStorage(storage)
        queue = Queue(
            storage: gate, relay: relay,
            configuration: .init(
                schedule: RetrySchedule(intervals: [.seconds(1)], expire: .seconds(3600), warn: nil),
                limits: .init(attempts: 50, attemptsPerDestination: 20), delivers: delivers, hostname: "queue.test"),
            logger: Logger(label: "test") { _ in log }, clock: clock)
        try await storage.start { [queue] in queue.receive($0) }
        running = Task { [queue] in await queue.run() }
    }

    func end() async {
        queue.drain()
        gate.open()
        relay.open()
        await running.value
        await storage.close()
    }

    func envelope(to recipient: String, in bucket: UInt16? = nil) -> Envelope {
        let now = Timestamp.now()
        return Envelope(
            id: bucket.map { QueueID(at: now, bucket: $0) } ?? storage.newID(at: now),
            sender: Mailbox(parsing: "sender@client.test"),
            recipients: [Mailbox(parsing: recipient)!], received: now,
            client: ClientInfo(address: "", name: "c", protocolWord: "ESMTP"))
    }

    func outcome(of envelope: Envelope, due: Timestamp? = nil) async -> StorageError? {
        let result: Result<Void, StorageError> = await withCheckedContinuation { continuation in
            queue.accept([envelope], Message(head: ByteBuffer(string: "Subject: x\r\n\r\nbody\r\n")), due: due) {
                continuation.resume(returning: $0)
            }
        }
        if case .failure(let error) = result { return error }
        return nil
    }

    func accept(to recipient: String, in bucket: UInt16? = nil, due: Timestamp? = nil) async throws -> QueueID {
        let envelope = envelope(to: recipient, in: bucket)
        #expect(await outcome(of: envelope, due: due) == nil)
        return envelope.id
    }

    /// Whether the scheduler has it.
    func knows(_ id: QueueID) -> Bool { queue.state.withLock { $0.machine.accepted(id) != nil } }

    /// Returns when the queue has heard all that its storage has told, and has looked for what is to be done after that.
    func settled() async throws {
        try await storage.commit(QueueCommit())
        let passes = queue.passes
        queue.look()
        try await eventually("the queue looks") { queue.passes > passes }
    }
}

func eventually(_ what: Comment, _ condition: () async -> Bool) async throws {
    for _ in 0..<4000 {
        if await condition() { return }
        try await Task.sleep(for: .milliseconds(5))
    }
    Issue.record(what)
}
