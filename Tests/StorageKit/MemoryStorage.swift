// A storage that keeps the queue in memory: for tests of what has a storage, and for simulations of several nodes. It passes
// the suite that every storage has to pass.

import NIOCore
package import SlimtaMail
package import SlimtaQueue
import Synchronization

/// One node's way to a queue in memory. What it has stored is in the database after its end too.
package final class MemoryStorage: MovableBackend {
    private typealias Completion = @Sendable (Result<Void, StorageError>) -> Void

    private enum Work: Sendable {
        case commit(QueueCommit, Completion)
        case events([QueueEvent])
        case end(CheckedContinuation<Void, Never>)
    }

    private enum Phase {
        case opened, running, closed
    }

    package let database: MemoryDatabase
    private let delivers: Bool
    private let identity: MemoryDatabase.Identity
    private var name: String { identity.name }
    private let phase = Mutex(Phase.opened)
    private let work: AsyncStream<Work>
    private let worker: AsyncStream<Work>.Continuation

    /// - Parameter name: the node's; two that work at once on one database have different ones.
    /// - Parameter delivers: whether it may have a part of the queue.
    package init(_ database: MemoryDatabase = MemoryDatabase(), name: String = "node", delivers: Bool = true) {
        self.database = database
        self.delivers = delivers
        identity = MemoryDatabase.Identity(name: name)
        (work, worker) = AsyncStream.makeStream()
    }

    deinit { worker.finish() }

    /// Takes the buckets that are nobody's.
    package func start(_ events: @escaping @Sendable ([QueueEvent]) -> Void) async throws(StorageOpenError) {
        let isFirst = phase.withLock { phase in
            defer { if phase == .opened { phase = .running } }
            return phase == .opened
        }
        guard isFirst else { throw .inUse(processID: nil) }
        let found = database.state.withLock { state in
            state.nodes[name] = .init(storage: self, identity: identity)
            var numbers: Set<UInt16> = []
            for number in 0..<database.bucketCount where delivers && state.owners[number] == nil {
                state.owners[number] = name
                numbers.insert(number)
            }
            return state.summaries(in: QueueBuckets(numbers: numbers))
        }
        events([.acquired(found)])
        Task { [work, identity, database] in
            for await work in work {
                // Whoever has always something to commit must not have the thread for ever.
                await Task.yield()
                switch work {
                case .commit(let commit, let completion): Self.perform(commit, identity, database, completion, events)
                case .events(let told): events(told)
                case .end(let ended):
                    ended.resume()
                    return
                }
            }
        }
    }

    /// Has an event told, behind all that is under way.
    func tell(_ events: [QueueEvent]) { worker.yield(.events(events)) }

    // MARK: QueueStorage

    /// The bucket is one of the node's, or the sibling's. Of a node that has none, anybody's.
    package func newID(at time: Timestamp, beside sibling: QueueID?) -> QueueID {
        if let sibling { return QueueID(at: time, bucket: sibling.bucket) }
        let bucket = database.state.withLock { state in
            state.owners.filter { $0.value == name && state.heirs[$0.key] == nil }.keys.randomElement()
                ?? state.owners.keys.randomElement() ?? .random(in: 0..<database.bucketCount)
        }
        return QueueID(at: time, bucket: bucket)
    }

    package func keeps(_ id: QueueID) -> Bool { database.state.withLock { $0.isOwner(name, of: id) } }

    package func admission(of size: Int) -> Admission {
        database.state.withLock { state in
            guard let node = state.node(identity) else { return .away("the storage is closed") }
            if let reason = node.away { return .away(reason) }
            if node.isFenced { return .away("nothing is ours") }
            return size > state.capacity - state.octets ? .full : .open
        }
    }

    package func commit(
        _ commit: QueueCommit, completion: @escaping @Sendable (Result<Void, StorageError>) -> Void
    ) {
        let isTaken = phase.withLock { phase in
            if phase == .running { worker.yield(.commit(commit, completion)) }
            return phase == .running
        }
        if !isTaken { completion(.failure(.closed)) }
    }

    private static func perform(
        _ commit: QueueCommit, _ identity: MemoryDatabase.Identity, _ database: MemoryDatabase,
        _ completion: Completion,
        _ events: ([QueueEvent]) -> Void
    ) {
        var takenBack: [QueueID] = []
        let result: Result<Void, StorageError> = database.state.withLock { state in
            if let refusal = state.refusal(commit, of: identity) { return .failure(refusal) }
            guard let cameThrough = state.nodes[identity.name]?.doubts.popLast() else {
                state.perform(commit)
                return .success(())
            }
            guard cameThrough else { return .failure(.doubtful) }
            state.perform(commit)
            // Outcomes are made again by the queue, what a client sent by the client.
            if commit.states.isEmpty, commit.ended.isEmpty, !commit.outlivesDoubt {
                takenBack = commit.accepted.map(\.envelope.id)
                state.takeBack(takenBack, commit.receipts)
            }
            return .failure(.doubtful)
        }
        completion(result)
        if !takenBack.isEmpty { events([.withdrawn(takenBack)]) }
    }

    package func load(_ id: QueueID) async throws(StorageError) -> StoredEnvelope {
        let item = try item(id)
        if item.isDamaged { throw .damaged("its message was lost") }
        return StoredEnvelope(envelope: item.envelope, state: item.state, message: item.message)
    }

    package func remains(of id: QueueID) async -> StoredEnvelope? {
        guard let item = try? item(id) else { return nil }
        return StoredEnvelope(
            envelope: item.envelope, state: item.state, message: Message(head: ByteBuffer()), isRemains: true)
    }

    package func states(_ ids: [QueueID]) async -> [Result<EnvelopeState, StorageError>] {
        ids.map { id in
            do throws(StorageError) { return .success(try item(id).state) } catch { return .failure(error) }
        }
    }

    package func receipt(for key: Receipt.Digest) async throws(StorageError) -> Receipt? {
        try database.state.withLock { state throws(StorageError) in
            try reachable(state)
            return state.receipts.find(key)
        }
    }

    package func receipt(of id: QueueID) async throws(StorageError) -> Receipt? {
        try database.state.withLock { state throws(StorageError) in
            try reachable(state)
            return state.receipts.find(id)
        }
    }

    package func receipts(after place: Receipt.Digest?, count: Int) async throws(StorageError) -> [Receipt] {
        try database.state.withLock { state throws(StorageError) in
            try reachable(state)
            return state.receipts.page(after: place, count: count)
        }
    }

    private func item(_ id: QueueID) throws(StorageError) -> MemoryDatabase.Item {
        try database.state.withLock { state throws(StorageError) in
            try reachable(state)
            guard let item = state.items[id] else { throw .notFound }
            guard state.isOwner(name, of: id) else { throw .lost }
            return item
        }
    }

    private func reachable(_ state: borrowing MemoryDatabase.State) throws(StorageError) {
        guard let node = state.node(identity) else { throw .closed }
        if let reason = node.away { throw .away(reason) }
    }

    package func beginSpool(_ id: QueueID) -> any SpoolWriter {
        MemorySpoolWriter(id, isClosed: phase.withLock { $0 } != .running)
    }

    package func released(_ buckets: QueueBuckets) {
        database.state.withLock { state in
            // One that was asked for twice may have gone before.
            let ours = buckets.numbers.filter { state.owners[$0] == name }
            state.handOver(QueueBuckets(numbers: ours))
        }
    }

    package func ask(_ command: OperatorCommand) async -> OperatorAnswer {
        var answer = OperatorAnswer()
        let asked = database.state.withLock { state -> [(MemoryStorage, OperatorCommand)] in
            if command.verb == .flushAll {
                return state.nodes.values.filter { $0.identity != identity }.map { ($0.storage, command) }
            }
            let queued = command.ids.filter { state.items[$0] != nil }
            answer.failed = Set(command.ids).subtracting(queued).map { .init(id: $0, error: .notFound) }
            return Dictionary(grouping: queued) { state.owners[$0.bucket] }.compactMap { owner, ids in
                guard let node = owner.flatMap({ state.nodes[$0] }) else {
                    answer.failed += ids.map { .init(id: $0, error: .elsewhere("nobody has it")) }
                    return nil
                }
                return (node.storage, OperatorCommand(command.verb, ids, because: command.reason, by: command.by))
            }
        }
        for (storage, command) in asked {
            answer.add(
                await withCheckedContinuation { told in
                    storage.tell([.command(command) { told.resume(returning: $0) }])
                })
        }
        return answer
    }

    // MARK: QueueBackend

    package func page(after place: QueueID?, count: Int) async throws(StorageError) -> QueuedPage {
        try database.state.withLock { state throws(StorageError) in
            try reachable(state)
            let ids = state.items.keys.filter { id in place.map { $0 < id } ?? true }.sorted().prefix(count)
            var page = QueuedPage(next: ids.count < count ? nil : ids.last)
            for id in ids {
                guard let item = state.items[id] else { continue }
                if item.isDamaged {
                    page.unreadable.append((id, "its message was lost"))
                } else {
                    page.envelopes.append(QueuedEnvelope(envelope: item.envelope, state: item.state))
                }
            }
            return page
        }
    }

    package func look(at id: QueueID) async throws(StorageError) -> StoredEnvelope {
        try database.state.withLock { state throws(StorageError) in
            try reachable(state)
            guard let item = state.items[id] else { throw .notFound }
            if item.isDamaged { throw .damaged("its message was lost") }
            return StoredEnvelope(envelope: item.envelope, state: item.state, message: item.message)
        }
    }

    package func status() -> StorageStatus {
        database.state.withLock { state in
            var status = StorageStatus()
            guard let node = state.node(identity) else {
                status.failure = "closed"
                return status
            }
            status.freeOctets = UInt64(state.capacity - state.octets)
            status.freeInodes = .max
            status.isFull = state.octets >= state.capacity
            status.failure = node.away
            status.losses = state.losses
            return status
        }
    }

    package func count() async throws(StorageError) -> Int {
        try database.state.withLock { state throws(StorageError) in
            try reachable(state)
            return state.items.count
        }
    }

    package func ledger() async throws(StorageError) -> Ledger {
        try database.state.withLock { state throws(StorageError) in
            try reachable(state)
            return state.balance
        }
    }

    package func audit() async throws(StorageError) -> StorageAudit {
        try database.state.withLock { state throws(StorageError) in
            try reachable(state)
            var audit = StorageAudit(ledger: state.balance)
            audit.running = state.balance
            for (id, item) in state.items {
                if item.isDamaged {
                    audit.add("its message was lost", id)
                    continue
                }
                audit.envelopes += 1
                audit.octets += Int64(item.message.size)
                if item.message.rest != nil { audit.spooled += 1 }
            }
            for loss in state.losses { audit.add(loss) }
            return audit
        }
    }

    package func acknowledgeLosses() async throws(StorageError) -> [String] {
        try database.state.withLock { state throws(StorageError) in
            try reachable(state)
            defer { state.losses = [] }
            return state.losses
        }
    }

    /// Its buckets are nobody's afterwards.
    package func close() async {
        let wasRunning = phase.withLock { phase in
            defer { phase = .closed }
            return phase == .running
        }
        if wasRunning { await withCheckedContinuation { worker.yield(.end($0)) } }
        leave()
    }

    /// Ends at once, as a kill does: what was not begun is never done, and nobody is told.
    package func crash() {
        phase.withLock { $0 = .closed }
        leave()
        worker.finish()
    }

    private func leave() {
        database.state.withLock { state in
            // Another one may have taken the name since.
            guard state.node(identity) != nil else { return }
            state.nodes[name] = nil
            for (number, owner) in state.owners where owner == name { state.owners[number] = nil }
        }
    }
}
