// The storage of a queue in PostgreSQL: QueueBackend as the daemon has it. Commits go to the line, questions to the reader, and
// what becomes of the node is its thread's affair. The composition root opens, starts and closes it.

package import SlimtaMail
package import SlimtaQueue
import SlimtaThreads
import Synchronization

/// One node's way to the queue that is in a database.
///
/// What is ours is in buckets that the node owns: it has the summaries in memory, as the journal has, and is the only one that
/// records what comes of them. Every transaction that does so holds the node's fence, which is counted up by whoever declares
/// it dead: a node that was only slow records nothing any more.
package final class ClusterStorage: SharedBackend {
    private let options: ClusterOptions
    private let node = NodeState()
    private let reader: ClusterReader
    private let asker: CommandAsker
    private let report: @Sendable (ClusterEvent) -> Void
    /// What keeps others from having the same node: held as long as the storage is open.
    private let lock: Mutex<(any Sendable)?>
    private let events = Mutex<(@Sendable ([QueueEvent]) -> Void)?>(nil)
    private let running = Mutex<Running?>(nil)
    private let questions = Mutex<CommandDesk.Ask?>(nil)

    private static let notJoined = "the node has not joined yet"

    private struct Running: Sendable {
        let line: WriterLine
        let thread: NodeThread
        let desk: CommandDesk
        let keeper: Keeper
        let calls: NodeCalls
        let threads: [Thread]
    }

    /// Nothing is asked of the database before ``start(_:)``.
    ///
    /// - Parameter lock: what keeps another process of this machine from being the same node; let go of when the storage ends.
    package init(
        _ options: ClusterOptions, lock: (any Sendable)? = nil, report: @escaping @Sendable (ClusterEvent) -> Void
    ) {
        self.options = options
        self.lock = Mutex(lock)
        let reader = ClusterReader(options, node, report: report)
        self.report = { event in
            if case .databaseBack = event { reader.tryAgain() }
            report(event)
        }
        self.reader = reader
        asker = CommandAsker(options, node, reader.pool)
    }

    deinit { abandon() }

    // MARK: Beginning and ending

    /// Joins the nodes of the database and reads what is ours. A database that cannot be reached now is one that is away: then
    /// mail is refused until it is there.
    package func start(_ events: @escaping @Sendable ([QueueEvent]) -> Void) async throws(StorageOpenError) {
        let isFirst = node.withLock { values in
            if values.phase != .opened { return false }
            values.phase = .running
            // Until the node's thread has had its first look.
            values.troubles[.start] = "the node has not joined yet"
            return true
        }
        guard isFirst else { throw .inUse(processID: nil) }
        self.events.withLock { $0 = events }
        let calls = NodeCalls(options, node, report: report)
        let line = WriterLine(options, node, calls, report: report, tell: { [weak self] in self?.tell($0) })
        let desk = CommandDesk(
            options, node, reader.pool, give: { [weak self] in self?.give($0, answer: $1) },
            ask: { [weak self] in await self?.answer($0) ?? "" })
        let thread = NodeThread(options, node, line, desk, report: report, tell: { [weak self] in self?.tell($0) })
        let keeper = Keeper(options, node, reader.losses, report: report)
        let result: Result<Void, StorageOpenError> = await withCheckedContinuation { continuation in
            thread.onStart { continuation.resume(returning: $0) }
            do throws(ThreadError) {
                try reader.start()
                let threads = [
                    try Thread("cluster-line") { LineRun.run(line) },
                    try Thread("cluster-node") { NodeRun.run(thread) },
                    try Thread("cluster-keeper") { keeper.run() },
                    try Thread("cluster-calls") { calls.run { thread.call() } },
                ]
                running.withLock {
                    $0 = Running(
                        line: line, thread: thread, desk: desk, keeper: keeper, calls: calls, threads: threads)
                }
            } catch {
                thread.stop(isAbandoned: true)
                line.stop(isAbandoned: true)
                keeper.stop()
                calls.stop()
                thread.started(.failure(.system("\(error)")))
            }
        }
        if case .failure(let error) = result {
            await close()
            throw error
        }
    }

    /// One call at a time, in order.
    private func tell(_ told: [QueueEvent]) { events.withLock { $0?(told) } }

    /// Has the queue carry out what was asked of us. Where there is none any more, nothing was done.
    private func give(_ command: OperatorCommand, answer: @escaping @Sendable (OperatorAnswer) -> Void) {
        let isTold = events.withLock { events in
            events?([.command(command, answer: answer)])
            return events != nil
        }
        if isTold { return }
        answer(OperatorAnswer(of: command.ids, failed: command.ids.map { .init(id: $0, error: .storage(.closed)) }))
    }

    private func answer(_ question: NodeQuestion) async -> String {
        await questions.withLock { $0 }?(question) ?? ""
    }

    /// Of the daemons of all others: see ``CommandAsker``.
    package func ask(_ question: NodeQuestion) async throws(StorageError) -> [NodeAnswer] {
        try await asker.ask(question)
    }

    /// Who answers for ours.
    package func onQuestion(_ answer: @escaping @Sendable (NodeQuestion) async -> String) {
        questions.withLock { $0 = answer }
    }

    /// What was committed before is finished; then the node leaves, and what it had is free.
    package func close() async {
        // What others have asked for is done, or said not to be, while it can be.
        await running.withLock { $0?.desk }?.close()
        let isRunning = node.withLock { values in
            defer { values.phase = .closed }
            return values.phase == .running
        }
        guard isRunning, let running = running.withLock({ $0 }) else { return }
        // Threads are waited for by one of their own: they may wait for the database.
        await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
            let end: @Sendable () -> Void = {
                running.line.stop()
                running.threads[0].join()
                running.thread.stop()
                running.keeper.stop()
                running.calls.stop()
                for thread in running.threads[1...] { thread.join() }
                continuation.resume()
            }
            if (try? Thread.detached("cluster-close", end)) == nil { end() }
        }
        self.running.withLock { $0 = nil }
        events.withLock { $0 = nil }
        await reader.close()
        lock.withLock { $0 = nil }
    }

    /// Ends as a process does that is killed: what is under way is not waited for, and the node does not leave.
    package func abandon() {
        node.withLock { $0.phase = .closed }
        events.withLock { $0 = nil }
        guard
            let running = running.withLock({ running in
                defer { running = nil }
                return running
            })
        else { return }
        running.line.stop(isAbandoned: true)
        running.thread.stop(isAbandoned: true)
        running.keeper.stop()
        running.calls.stop()
        for thread in running.threads { thread.detach() }
        Task { [reader] in await reader.close() }
    }

    // MARK: QueueStorage

    /// In one of the buckets that are ours, or in that of `sibling`. Where nothing is ours, in one of those who deliver.
    package func newID(at time: Timestamp, beside sibling: QueueID?) -> QueueID {
        let buckets = node.withLock { $0.bucketCount }
        if let sibling { return QueueID(at: time, bucket: sibling.bucket(of: buckets)) }
        let bucket = node.withLock { $0.open.randomElement() ?? $0.placement?.buckets.randomElement() }
        // Where nothing is known yet the commit is refused, unless that changes until then.
        return QueueID(at: time, bucket: bucket ?? .random(in: 0..<QueueBuckets.none))
    }

    /// Whether its bucket is ours, and the queue has been told what was in it.
    package func keeps(_ id: QueueID) -> Bool {
        node.withLock { values in
            values.owns(id) && !values.loading.contains(id.bucket(of: values.bucketCount))
        }
    }

    /// From memory: the node's thread and the line know whether the database answers. Where nobody delivers mail is taken all the
    /// same: it waits.
    package func admission(of size: Int) -> Admission {
        node.withLock { values in
            if values.phase != .running { return .away("the storage is closed") }
            if let away = values.away { return .away(away) }
            if values.isDraining { return .draining }
            if values.placement == nil || values.incarnation == 0 { return .away(Self.notJoined) }
            return values.fullUntil > 0 && values.fullUntil > monotonicMilliseconds() ? .full : .open
        }
    }

    /// By the line: see ``WriterLine``. `lost` at once where a bucket is not ours, unless all of it is for others.
    package func commit(
        _ commit: QueueCommit, completion: @escaping @Sendable (Result<Void, StorageError>) -> Void
    ) {
        guard let line = running.withLock({ $0?.line }) else { return completion(.failure(.closed)) }
        if let refusal = tooOld(commit) { return completion(.failure(refusal)) }
        // Under one lock: a bucket that is handed over is so behind all that was committed to it, or that fails.
        let refusal = node.withLock { values -> StorageError? in
            if values.phase != .running { return .closed }
            if let away = values.away { return .away(away) }
            if commit.isForOthers {
                if values.incarnation == 0 { return .away(Self.notJoined) }
                if !commit.isOfItselfAlone { return .lost }
            } else if !commit.ids.allSatisfy({ values.owns($0) }) {
                return .lost
            }
            let pending = CommitGroup.Pending(commit: commit, incarnation: values.incarnation, completion: completion)
            return line.give(.commit(pending)) ? nil : .closed
        }
        if let refusal { completion(.failure(refusal)) }
    }

    /// The table that the rest of a large message is in may be emptied soon.
    private func tooOld(_ commit: QueueCommit) -> StorageError? {
        guard let rest = commit.message?.rest as? SpooledChunks else { return nil }
        let age = monotonicMilliseconds() - rest.begun
        return age > options.arrivalLimit.milliseconds ? .failed("the message took too long to arrive") : nil
    }

    /// Of what is ours; `lost` of all else.
    package func load(_ id: QueueID) async throws(StorageError) -> StoredEnvelope { try await reader.load(id) }

    /// What its record still says.
    package func remains(of id: QueueID) async -> StoredEnvelope? { await reader.remains(of: id) }

    /// Of all nodes' envelopes: a client may ask any node what became of a submission.
    package func states(_ ids: [QueueID]) async -> [Result<EnvelopeState, StorageError>] { await reader.states(ids) }

    /// Of all nodes' submissions.
    package func receipt(for key: Receipt.Digest) async throws(StorageError) -> Receipt? {
        try await reader.receipt(for: key)
    }

    /// Of all nodes' submissions.
    package func receipt(of id: QueueID) async throws(StorageError) -> Receipt? { try await reader.receipt(of: id) }

    /// Goes into the database in pieces while it comes.
    package func beginSpool(_ id: QueueID) -> any SpoolWriter { reader.beginSpool(id) }

    /// They go to who wants them, behind all that was committed to them.
    package func released(_ buckets: QueueBuckets) { running.withLock { $0?.thread }?.released(buckets) }

    /// Of those who have them: see ``CommandAsker``.
    package func ask(_ command: OperatorCommand) async -> OperatorAnswer {
        await asker.ask(command) { [weak self] in self?.give($0, answer: $1) }
    }

    // MARK: QueueBackend

    /// Also of other nodes.
    package func look(at id: QueueID) async throws(StorageError) -> StoredEnvelope { try await reader.look(at: id) }
    /// Goes with the next beat.
    package func report(_ sites: [SiteDemand]) { running.withLock { $0?.thread }?.siteReports = sites }

    /// Of the whole queue, whoever has it.
    package func page(after place: QueueID?, count: Int) async throws(StorageError) -> QueuedPage {
        try await reader.page(after: place, count: count)
    }

    /// Of this node.
    package func status() -> StorageStatus {
        let values = node.now
        var status = StorageStatus()
        status.isFull = values.fullUntil > monotonicMilliseconds()
        status.failure = values.phase == .running ? values.away : "the storage is closed"
        status.losses = reader.losses.texts
        status.progress = values.progress
        status.isBusy = values.isBusy
        status.node = .init(
            name: options.node, incarnation: values.incarnation, buckets: values.owned.count,
            isDraining: values.isDraining, relays: values.placement?.relays)
        return status
    }

    /// Of the whole queue.
    package func count() async throws(StorageError) -> Int { try await reader.count() }

    /// Each page asks all buckets.
    package var pageSize: Int { 2048 }

    /// Of the whole queue.
    package func ledger() async throws(StorageError) -> Ledger { try await reader.ledger() }

    /// Of the whole queue, in one snapshot.
    package func audit() async throws(StorageError) -> StorageAudit { try await reader.audit() }

    /// Of all nodes.
    package func acknowledgeLosses() async throws(StorageError) -> [String] { try await reader.acknowledgeLosses() }

    // MARK: SharedBackend

    /// As their rows say.
    package func sharing(isCounting: Bool) async throws(StorageError) -> SharedQueue {
        try await reader.sharing(lease: options.lease, isCounting: isCounting)
    }

    /// In the node's row: it finds it there at its next beat.
    package func change(_ node: String, _ change: NodeChange) async throws(NodeRefusal) {
        try await reader.change(node, change, lease: options.lease)
    }
}
