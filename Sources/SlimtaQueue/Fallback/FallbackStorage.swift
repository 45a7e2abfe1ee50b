// A queue that has a home and, for the time that this is away, another storage beside it: `when_away = "local"`. The composition
// root puts it together, of the database and the node's journal; it does no I/O of its own.

package import SlimtaMail
import Synchronization

/// New mail goes home, and into the local storage while home is away. What a storage has taken stays in it, and is delivered
/// from there.
///
/// **Where an envelope is** its id says: the ids of the local storage are made here, in a bucket that no storage with buckets
/// has. So nothing has to be remembered, and buckets that go from node to node are always home's. All envelopes of a commit
/// with new mail are in one storage, since ids are made beside each other.
///
/// **Doubt** stays doubt: what home may have taken is not given to the local storage too. A commit that home refused is not
/// either, since its ids are home's: the client comes back, and its ids are new.
///
/// **Keys** that clients choose are home's alone. While it is away nobody can tell whether it has one, or another node takes
/// it in this moment; so what comes with one waits. A key that was made of an id goes where the id is.
package final class FallbackStorage: CheckpointedBackend, SharedBackend {
    private let home: any QueueBackend
    private let local: any QueueBackend
    private let turn = Turn()

    /// Held while an event is told: there is one call at a time, whoever tells.
    private final class Turn: Sendable {
        let lock = Mutex(())
    }

    /// The bucket of all that is in the local storage. Databases number theirs from 0 and have no more than a few thousand.
    package static let bucket = QueueBuckets.none

    /// Neither is started.
    package init(home: any QueueBackend, local: any QueueBackend) {
        self.home = home
        self.local = local
    }

    /// Whether the envelope is in the local storage, or was.
    package static func isLocal(_ id: QueueID) -> Bool { id.bucket == bucket }

    /// Where the envelope is.
    private func storage(of id: QueueID) -> any QueueBackend { Self.isLocal(id) ? local : home }

    // MARK: Beginning and ending

    /// The local one first: nothing that home does keeps mail from being delivered that is there.
    package func start(_ events: @escaping @Sendable ([QueueEvent]) -> Void) async throws(StorageOpenError) {
        let told: @Sendable ([QueueEvent]) -> Void = { [turn] told in turn.lock.withLock { _ in events(told) } }
        try await local.start(told)
        do throws(StorageOpenError) { try await home.start(told) } catch {
            await close()
            throw error
        }
    }

    /// Home first: the local one may hold what keeps other processes away from both.
    package func close() async {
        await home.close()
        await local.close()
    }

    // MARK: QueueStorage

    /// In the storage that takes mail now, or in that of `sibling`.
    package func newID(at time: Timestamp, beside sibling: QueueID?) -> QueueID {
        let isLocal = sibling.map { Self.isLocal($0) } ?? isHomeAway
        return isLocal ? QueueID(at: time, bucket: Self.bucket) : home.newID(at: time, beside: sibling)
    }

    private var isHomeAway: Bool {
        switch home.admission(of: 0) {
        case .away: true
        case .open, .full, .draining: false
        }
    }

    /// Home's, and while it is away the local one's. Away is what both are.
    package func admission(of size: Int) -> Admission {
        let first = home.admission(of: size)
        guard case .away(let reason) = first else { return first }
        let own = local.admission(of: size)
        if case .away = own { return .away(reason) }
        return own
    }

    /// What is in the local storage is this node's.
    package func keeps(_ id: QueueID) -> Bool { Self.isLocal(id) || home.keeps(id) }

    /// Two.
    package var members: StorageMembers { [.home, .local] }

    /// By its id.
    package func member(of id: QueueID) -> StorageMembers { Self.isLocal(id) ? .local : .home }

    /// Each by itself.
    package var awayMembers: StorageMembers {
        var away: StorageMembers = isHomeAway ? .home : []
        if case .away = local.admission(of: 0) { away.insert(.local) }
        return away
    }

    /// New mail goes whole where its ids are. Of all else each storage gets its part: states and ends are absolute, and may be
    /// made again where only one of them has come through.
    package func commit(
        _ commit: QueueCommit, completion: @escaping @Sendable (Result<Void, StorageError>) -> Void
    ) {
        if let new = commit.accepted.first?.envelope.id {
            guard Self.isLocal(new) else { return home.commit(commit, completion: completion) }
            if commit.receipts.contains(where: { $0.reach == .anywhere }) {
                return completion(.failure(.away("a key of a submission is known where the queue is at home")))
            }
            return local.commit(commit, completion: completion)
        }
        var (ofHome, ofLocal) = (commit, QueueCommit(forgotten: commit.forgotten))
        ofHome.states.removeAll { Self.isLocal($0.id) }
        ofHome.ended.removeAll { Self.isLocal($0.id) }
        ofHome.departed.removeAll(where: Self.isLocal)
        ofLocal.departed = commit.departed.filter(Self.isLocal)
        if ofHome.states.count < commit.states.count { ofLocal.states = commit.states.filter { Self.isLocal($0.id) } }
        if ofHome.ended.count < commit.ended.count { ofLocal.ended = commit.ended.filter { Self.isLocal($0.id) } }
        if ofLocal.isEmpty { return home.commit(ofHome, completion: completion) }
        if ofHome.isEmpty { return local.commit(ofLocal, completion: completion) }
        let both = BothResults(completion)
        local.commit(ofLocal, completion: both.note)
        home.commit(ofHome, completion: both.note)
    }

    /// From where it is.
    package func load(_ id: QueueID) async throws(StorageError) -> StoredEnvelope {
        try await storage(of: id).load(id)
    }

    /// From where it is.
    package func remains(of id: QueueID) async -> StoredEnvelope? { await storage(of: id).remains(of: id) }

    /// Each from where it is.
    package func states(_ ids: [QueueID]) async -> [Result<EnvelopeState, StorageError>] {
        let own = ids.filter(Self.isLocal)
        if own.isEmpty { return await home.states(ids) }
        if own.count == ids.count { return await local.states(ids) }
        var ofLocal = await local.states(own).makeIterator()
        var ofHome = await home.states(ids.filter { !Self.isLocal($0) }).makeIterator()
        return ids.map { (Self.isLocal($0) ? ofLocal.next() : ofHome.next()) ?? .failure(.notFound) }
    }

    /// Of both; where home cannot be asked nobody knows.
    package func receipt(for key: Receipt.Digest) async throws(StorageError) -> Receipt? {
        if let found = try await local.receipt(for: key) { return found }
        return try await home.receipt(for: key)
    }

    /// From where its message is, or was.
    package func receipt(of id: QueueID) async throws(StorageError) -> Receipt? {
        try await storage(of: id).receipt(of: id)
    }

    /// Where the message will be.
    package func beginSpool(_ id: QueueID) -> any SpoolWriter { storage(of: id).beginSpool(id) }

    /// The local storage has none that would be asked for.
    package func released(_ buckets: QueueBuckets) { home.released(buckets) }

    // MARK: QueueBackend

    /// Of both, in the order of ids.
    package func page(after place: QueueID?, count: Int) async throws(StorageError) -> QueuedPage {
        let ofHome = try await home.page(after: place, count: count)
        return QueuedPage(ofHome, try await local.page(after: place, count: count), atMost: count)
    }

    /// Home's.
    package var pageSize: Int { home.pageSize }

    /// From where it is.
    package func look(at id: QueueID) async throws(StorageError) -> StoredEnvelope {
        try await storage(of: id).look(at: id)
    }

    /// Of other nodes for what is at home; what is in the local storage no other has.
    package func ask(_ command: OperatorCommand) async -> OperatorAnswer { await home.ask(command) }

    /// Home's other nodes share limits.
    package func report(_ sites: [SiteDemand]) { home.report(sites) }

    /// Of both.
    package func count() async throws(StorageError) -> Int {
        let ofHome = try await home.count()
        return try await ofHome + local.count()
    }

    /// How many envelopes are in the local storage.
    package func countLocal() async throws(StorageError) -> Int { try await local.count() }

    /// Home's nodes.
    package func sharing(isCounting: Bool) async throws(StorageError) -> SharedQueue {
        guard let home = home as? any SharedBackend else { throw .notFound }
        return try await home.sharing(isCounting: isCounting)
    }

    /// One of home's nodes.
    package func change(_ node: String, _ change: NodeChange) async throws(NodeRefusal) {
        guard let home = home as? any SharedBackend else { throw .unknown }
        try await home.change(node, change)
    }

    /// Those that share home.
    package func ask(_ question: NodeQuestion) async throws(StorageError) -> [NodeAnswer] {
        guard let home = home as? any SharedBackend else { return [] }
        return try await home.ask(question)
    }

    /// What they ask.
    package func onQuestion(_ answer: @escaping @Sendable (NodeQuestion) async -> String) {
        (home as? any SharedBackend)?.onQuestion(answer)
    }

    /// Of both together.
    package func status() -> StorageStatus { StorageStatus(home: home.status(), local: local.status()) }

    /// The sum.
    package func ledger() async throws(StorageError) -> Ledger {
        let ofHome = try await home.ledger()
        return try await ofHome + local.ledger()
    }

    /// Of both, one after the other.
    package func audit() async throws(StorageError) -> StorageAudit {
        var audit = try await home.audit()
        audit.add(try await local.audit())
        return audit
    }

    /// Of both.
    package func acknowledgeLosses() async throws(StorageError) -> [String] {
        let ofHome = try await home.acknowledgeLosses()
        return try await ofHome + local.acknowledgeLosses()
    }

    /// Of the one that has something to put in order.
    package func checkpoint() async throws(StorageError) {
        for storage in [home, local] { try await (storage as? any CheckpointedBackend)?.checkpoint() }
    }
}

/// Waits for what two storages say to a commit, and says one thing.
private final class BothResults: Sendable {
    private let first = Mutex<Result<Void, StorageError>?>(nil)
    private let completion: @Sendable (Result<Void, StorageError>) -> Void

    init(_ completion: @escaping @Sendable (Result<Void, StorageError>) -> Void) { self.completion = completion }

    @Sendable func note(_ result: Result<Void, StorageError>) {
        let before = first.withLock { first -> Result<Void, StorageError>? in
            defer { first = result }
            return first
        }
        guard let before else { return }
        // What is in doubt is made again, and then the other tells the same once more.
        let failures = [before, result].compactMap { $0.error }
        let failure = failures.first { $0 == .doubtful } ?? failures.first
        completion(failure.map { .failure($0) } ?? .success(()))
    }
}

extension Result where Success == Void, Failure == StorageError {
    fileprivate var error: StorageError? {
        if case .failure(let error) = self { return error }
        return nil
    }
}
