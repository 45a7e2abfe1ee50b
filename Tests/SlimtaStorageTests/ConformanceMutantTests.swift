// The suite finds storages that do not keep the contract: each mutant is the storage in memory with one fault.

import NIOCore
import SlimtaMail
import SlimtaQueue
import StorageKit
import Synchronization
import Testing

/// What is wrong with a storage.
private enum Fault: String, CaseIterable {
    /// Ends are made a moment after the rest of their commit.
    case notAtOnce
    /// States are added up, not taken as they are.
    case countsAttempts
    /// Acknowledged before it is stored.
    case early
    /// A page begins with the last one of the page before.
    case overlappingPages
    /// What comes in while somebody walks pushes the rest away.
    case pagesByNumber
    /// States come in any order.
    case sortedStates
    /// Commits complete in any order.
    case unordered
    /// The rest of a large message is cut off.
    case shortSpool
    /// Notices are counted as mail.
    case oneAccount
    /// A storage that is closed still answers.
    case reads
    /// The next start forgets what is held.
    case forgetsHolds
    /// A key that is there is no reason to refuse a message.
    case takesKeysTwice
    /// The receipt is written a moment after its message.
    case receiptApart
    /// Ends are not noted in receipts.
    case notesNothing
    /// What goes on in another storage is counted as removed.
    case removesDeparted
    /// What goes on in another storage stays here too.
    case keepsDeparted

    /// The check that is to find it.
    var check: String {
        switch self {
        case .notAtOnce, .early: "all of a commit or nothing"
        case .countsAttempts: "states are absolute"
        case .overlappingPages, .pagesByNumber: "pages"
        case .sortedStates: "what was accepted is read back"
        case .unordered: "order"
        case .shortSpool: "large messages"
        case .oneAccount: "the ledger"
        case .reads: "nothing after close"
        case .forgetsHolds: "restart after a crash"
        case .takesKeysTwice: "a receipt's key comes once"
        case .receiptApart: "a message and its receipt are one"
        case .removesDeparted, .keepsDeparted: "what goes on elsewhere"
        case .notesNothing: "what became of a submission"
        }
    }
}

/// A storage in memory with a fault.
private final class Mutant: QueueBackend {
    private let sound: MemoryStorage
    private let fault: Fault
    private let states = Mutex<[QueueID: UInt32]>([:])
    /// Completions that wait for others: see `unordered`.
    private let held = Mutex<[@Sendable () -> Void]>([])
    /// What is done later, in this order: see ``later(behind:_:)``.
    private let waiting = Mutex<[@Sendable () -> Void]>([])

    init(_ database: MemoryDatabase, _ fault: Fault) {
        sound = MemoryStorage(database)
        self.fault = fault
    }

    func crash() { sound.crash() }

    /// Does it when this has been asked for `count` times more: no time decides whether a crash finds it undone.
    private func later(behind count: Int, _ action: @escaping @Sendable () -> Void) {
        let next = waiting.withLock { waiting in
            waiting.append(action)
            return waiting.count > count ? waiting.removeFirst() : nil
        }
        next?()
    }

    func start(_ events: @escaping @Sendable ([QueueEvent]) -> Void) async throws(StorageOpenError) {
        guard fault == .forgetsHolds else { return try await sound.start(events) }
        try await sound.start { told in
            events(
                told.map { event in
                    guard case .acquired(let summaries) = event else { return event }
                    return .acquired(
                        summaries.map { summary in
                            var summary = summary
                            summary.isHeld = false
                            return summary
                        })
                })
        }
    }

    func newID(at time: Timestamp, beside sibling: QueueID?) -> QueueID { sound.newID(at: time, beside: sibling) }
    func admission(of size: Int) -> Admission { sound.admission(of: size) }

    func commit(_ commit: QueueCommit, completion: @escaping @Sendable (Result<Void, StorageError>) -> Void) {
        switch fault {
        case .notAtOnce where !commit.accepted.isEmpty && !commit.ended.isEmpty:
            var first = commit
            first.ended = []
            sound.commit(first) { result in
                self.later(behind: 1) {
                    self.sound.commit(QueueCommit(ended: commit.ended)) { _ in completion(result) }
                }
            }
        case .early:
            // Not before it is closed: that is another fault.
            guard sound.status().failure == nil else { return sound.commit(commit, completion: completion) }
            // Of each of the check's twenty chains one may not have been heard of.
            later(behind: 64) { self.sound.commit(commit) { _ in } }
            Task { completion(.success(())) }
        case .countsAttempts:
            var commit = commit
            for index in commit.states.indices {
                commit.states[index].attempts += states.withLock { states in
                    defer { states[commit.states[index].id, default: 0] += 1 }
                    return states[commit.states[index].id, default: 0]
                }
            }
            sound.commit(commit, completion: completion)
        case .unordered:
            sound.commit(commit) { result in
                // Four at a time, the last one first.
                let ended = self.held.withLock { held in
                    held.append { completion(result) }
                    guard held.count == 4 else { return [@Sendable () -> Void]() }
                    defer { held = [] }
                    return held
                }
                for completion in ended.reversed() { completion() }
            }
        case .oneAccount:
            var commit = commit
            for index in commit.accepted.indices where commit.accepted[index].envelope.sender == nil {
                commit.accepted[index].envelope.sender = Mailbox(parsing: "a@x.test")
            }
            sound.commit(commit, completion: completion)
        case .takesKeysTwice:
            sound.commit(commit) { result in
                guard case .failure(.repeated) = result else { return completion(result) }
                var commit = commit
                commit.receipts = []
                self.sound.commit(commit, completion: completion)
            }
        case .receiptApart where !commit.receipts.isEmpty:
            var first = commit
            first.receipts = []
            sound.commit(first) { _ in
                self.later(behind: 1) {
                    self.sound.commit(QueueCommit(receipts: commit.receipts), completion: completion)
                }
            }
        case .removesDeparted:
            Task {
                var commit = commit
                for id in commit.departed {
                    guard case .success(let state) = await self.sound.states([id])[0] else { continue }
                    commit.ended.append(state.removed(by: "nobody"))
                }
                commit.departed = []
                self.sound.commit(commit, completion: completion)
            }
        case .keepsDeparted:
            var commit = commit
            commit.departed = []
            sound.commit(commit, completion: completion)
        case .notAtOnce, .overlappingPages, .pagesByNumber, .sortedStates, .shortSpool, .reads, .forgetsHolds,
            .receiptApart, .notesNothing:
            sound.commit(commit, completion: completion)
        }
    }

    func load(_ id: QueueID) async throws(StorageError) -> StoredEnvelope {
        do throws(StorageError) { return try await sound.load(id) } catch {
            guard fault == .reads, error == .closed else { throw error }
            throw .notFound
        }
    }

    func remains(of id: QueueID) async -> StoredEnvelope? { await sound.remains(of: id) }

    func states(_ ids: [QueueID]) async -> [Result<EnvelopeState, StorageError>] {
        await sound.states(fault == .sortedStates ? ids.sorted() : ids)
    }

    func receipt(for key: Receipt.Digest) async throws(StorageError) -> Receipt? { try await sound.receipt(for: key) }
    func receipt(of id: QueueID) async throws(StorageError) -> Receipt? {
        var receipt = try await sound.receipt(of: id)
        guard fault == .notesNothing, let parts = receipt?.envelopes else { return receipt }
        receipt?.envelopes = parts.map { part in
            .init(id: part.id, recipients: part.recipients.map { .init(address: $0.address) })
        }
        return receipt
    }

    func beginSpool(_ id: QueueID) -> any SpoolWriter {
        let writer = sound.beginSpool(id)
        return fault == .shortSpool ? ShortWriter(writer) : writer
    }

    func released(_ buckets: QueueBuckets) { sound.released(buckets) }

    func page(after place: QueueID?, count: Int) async throws(StorageError) -> QueuedPage {
        switch fault {
        case .overlappingPages:
            return try await sound.page(after: place?.predecessor, count: count)
        case .pagesByNumber:
            // As `offset` of a query does it: what has left meanwhile moves the rest.
            let all = try await sound.page(after: nil, count: 1 << 20).envelopes
            let offset = states.withLock { states in
                if place == nil { states = [:] }
                defer { states[QueueID(high: 0, low: 0), default: 0] += UInt32(count) }
                return Int(states[QueueID(high: 0, low: 0), default: 0])
            }
            let page = Array(all.dropFirst(offset).prefix(count))
            return QueuedPage(envelopes: page, next: page.count < count ? nil : page.last?.envelope.id)
        case .notAtOnce, .countsAttempts, .early, .sortedStates, .unordered, .shortSpool, .oneAccount, .reads,
            .forgetsHolds, .takesKeysTwice, .receiptApart, .notesNothing, .removesDeparted, .keepsDeparted:
            return try await sound.page(after: place, count: count)
        }
    }

    func count() async throws(StorageError) -> Int { try await sound.count() }
    func status() -> StorageStatus { sound.status() }
    func ledger() async throws(StorageError) -> Ledger { try await sound.ledger() }
    func audit() async throws(StorageError) -> StorageAudit { try await sound.audit() }
    func acknowledgeLosses() async throws(StorageError) -> [String] { try await sound.acknowledgeLosses() }
    func close() async { await sound.close() }
}

/// Leaves out the last octet of all that is appended.
private final class ShortWriter: SpoolWriter {
    private let sound: any SpoolWriter

    init(_ sound: any SpoolWriter) { self.sound = sound }

    func append(_ bytes: ByteBuffer, completion: @escaping @Sendable (StorageError?) -> Void) {
        sound.append(bytes.getSlice(at: bytes.readerIndex, length: bytes.readableBytes - 1)!, completion: completion)
    }

    func finish(completion: @escaping @Sendable (Result<any SpooledBody, StorageError>) -> Void) {
        sound.finish(completion: completion)
    }

    func abandon() { sound.abandon() }
}

private struct MutantPlace: StoragePlace {
    let database = MemoryDatabase()
    let fault: Fault

    func open() async throws -> any QueueBackend { Mutant(database, fault) }
    func crash(_ storage: any QueueBackend) async { (storage as? Mutant)?.crash() }
}

@Suite struct ConformanceMutantTests {
    @Test(arguments: Fault.allCases.map(\.rawValue)) func isFound(fault name: String) async throws {
        let fault = try #require(Fault(rawValue: name))
        let check = try #require(StorageSuite.checks.first { $0.description == fault.check })
        await #expect(throws: (any Error).self) { try await check.run(MutantPlace(fault: fault)) }
    }
}
