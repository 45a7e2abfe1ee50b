// A home and a local storage put together, as the suites want a place to be. Which of them takes new mail is the test's to
// say: home need not be away for it, so that all that is said of both can be asked for.

import SlimtaMail
package import SlimtaQueue
import Synchronization

/// Storages that are each made of two.
package final class FallbackPlace: SharedPlace {
    /// Who takes new mail.
    package enum Taker: Sendable, CaseIterable {
        case home, local
        /// Each every second message.
        case both
    }

    private struct Parts {
        let whole: FallbackStorage
        let home: any QueueBackend
        let local: any QueueBackend
        let journal: any StoragePlace
    }

    private let home: any SharedPlace
    private let taker: Taker
    private let isOpen: Bool
    private let makeJournal: @Sendable () -> any StoragePlace
    private let journal: any StoragePlace
    private let parts = Mutex<[Parts]>([])

    /// - Parameters:
    ///   - isOpen: whether the local storage takes mail while home is truly away.
    ///   - makeJournal: makes places for local storages: one for those that are opened one after the other, and one for each
    ///     node.
    package init(
        home: any SharedPlace, _ taker: Taker, isOpen: Bool = true,
        journal makeJournal: @escaping @Sendable () -> any StoragePlace
    ) {
        (self.home, self.taker, self.isOpen, self.makeJournal) = (home, taker, isOpen, makeJournal)
        journal = makeJournal()
    }

    package func open() async throws -> any QueueBackend {
        try await join(try await home.open(), journal)
    }

    package func open(node name: String) async throws -> any QueueBackend {
        try await join(try await home.open(node: name), makeJournal())
    }

    package func open(edge name: String) async throws -> any QueueBackend {
        try await join(try await home.open(edge: name), makeJournal())
    }

    private func join(_ home: any QueueBackend, _ journal: any StoragePlace) async throws -> any QueueBackend {
        let local = try await journal.open()
        let whole = FallbackStorage(
            home: ReluctantStorage(home, taker), local: isOpen ? local : ReluctantStorage(local, .local))
        parts.withLock { $0.append(Parts(whole: whole, home: home, local: local, journal: journal)) }
        return whole
    }

    package func crash(_ storage: any QueueBackend) async {
        guard let whole = storage as? FallbackStorage else { return }
        let ended = parts.withLock { all in
            defer { all.removeAll { $0.whole === whole } }
            return all.first { $0.whole === whole }
        }
        guard let ended else { return }
        await home.crash(ended.home)
        await ended.journal.crash(ended.local)
    }

    package func move(_ buckets: QueueBuckets, to name: String) async { await home.move(buckets, to: name) }
    package func fence(_ name: String, heir: String) async { await home.fence(name, heir: heir) }
    package func setAway(_ name: String, _ reason: String?) async { await home.setAway(name, reason) }
    package func doubtNext(_ name: String, cameThrough: Bool) async {
        await home.doubtNext(name, cameThrough: cameThrough)
    }
}

/// Says that it is away, and does all that it is asked for.
private final class ReluctantStorage: QueueBackend {
    private let storage: any QueueBackend
    private let taker: FallbackPlace.Taker
    private let asked = Atomic(0)

    init(_ storage: any QueueBackend, _ taker: FallbackPlace.Taker) { (self.storage, self.taker) = (storage, taker) }

    func admission(of size: Int) -> Admission {
        let number = asked.add(1, ordering: .relaxed).newValue
        let isAway = taker == .local || taker == .both && number % 2 == 0
        return isAway ? .away("it says so") : storage.admission(of: size)
    }

    func newID(at time: Timestamp, beside sibling: QueueID?) -> QueueID { storage.newID(at: time, beside: sibling) }
    func commit(_ commit: QueueCommit, completion: @escaping @Sendable (Result<Void, StorageError>) -> Void) {
        storage.commit(commit, completion: completion)
    }
    func load(_ id: QueueID) async throws(StorageError) -> StoredEnvelope { try await storage.load(id) }
    func remains(of id: QueueID) async -> StoredEnvelope? { await storage.remains(of: id) }
    func states(_ ids: [QueueID]) async -> [Result<EnvelopeState, StorageError>] { await storage.states(ids) }
    func receipt(for key: Receipt.Digest) async throws(StorageError) -> Receipt? { try await storage.receipt(for: key) }
    func receipt(of id: QueueID) async throws(StorageError) -> Receipt? { try await storage.receipt(of: id) }
    func beginSpool(_ id: QueueID) -> any SpoolWriter { storage.beginSpool(id) }
    func keeps(_ id: QueueID) -> Bool { storage.keeps(id) }
    func ask(_ command: OperatorCommand) async -> OperatorAnswer { await storage.ask(command) }
    func look(at id: QueueID) async throws(StorageError) -> StoredEnvelope { try await storage.look(at: id) }
    func count() async throws(StorageError) -> Int { try await storage.count() }
    func report(_ sites: [SiteDemand]) { storage.report(sites) }
    func released(_ buckets: QueueBuckets) { storage.released(buckets) }
    func start(_ events: @escaping @Sendable ([QueueEvent]) -> Void) async throws(StorageOpenError) {
        try await storage.start(events)
    }
    func page(after place: QueueID?, count: Int) async throws(StorageError) -> QueuedPage {
        try await storage.page(after: place, count: count)
    }
    func status() -> StorageStatus { storage.status() }
    func ledger() async throws(StorageError) -> Ledger { try await storage.ledger() }
    func audit() async throws(StorageError) -> StorageAudit { try await storage.audit() }
    func acknowledgeLosses() async throws(StorageError) -> [String] { try await storage.acknowledgeLosses() }
    func close() async { await storage.close() }
}
