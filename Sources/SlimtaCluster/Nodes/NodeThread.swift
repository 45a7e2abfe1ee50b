// The thread that makes a node of a storage: it joins, tells that it lives, sees to whose the buckets are, and leaves. Owned by
// ClusterStorage; what it does is NodeRun's.

import SlimtaMail
import SlimtaQueue
import SlimtaThreads
import Synchronization

/// What others say to the node's thread.
final class NodeThread: Sendable {
    private struct State {
        var isStopped = false
        var isAbandoned = false
        var isCalled = false
        var siteReports: [SiteDemand] = []
        /// Told once how the start came out.
        var started: (@Sendable (Result<Void, StorageOpenError>) -> Void)?
    }

    let options: ClusterOptions
    let node: NodeState
    let line: WriterLine
    let desk: CommandDesk
    let report: @Sendable (ClusterEvent) -> Void
    let tell: @Sendable ([QueueEvent]) -> Void
    private let state = Mutex(State())
    private let event = Event()

    init(
        _ options: ClusterOptions, _ node: NodeState, _ line: WriterLine, _ desk: CommandDesk,
        report: @escaping @Sendable (ClusterEvent) -> Void, tell: @escaping @Sendable ([QueueEvent]) -> Void
    ) {
        self.options = options
        self.node = node
        self.line = line
        self.desk = desk
        self.report = report
        self.tell = tell
    }

    /// Nothing of these is in flight any more. They are not ours from now on: the line hands them over, behind all that it has to
    /// record of them; commits are given to it under the same lock, so none of these buckets' comes behind that.
    func released(_ buckets: QueueBuckets) {
        let (node, line) = (node, line)
        let left = node.withLock { values -> Int? in
            let ours = values.owned.intersection(buckets.numbers)
            values.leaving.subtract(buckets.numbers.subtracting(ours))
            if ours.isEmpty { return nil }
            values.owned.subtract(ours)
            let isGiven = line.give(
                .handOver(ours.sorted(), incarnation: values.incarnation) {
                    node.withLock { $0.leaving.subtract(ours) }
                })
            if !isGiven { values.leaving.subtract(ours) }
            return values.owned.count
        }
        if let left { report(.buckets(left)) }
    }

    /// What other nodes are to know of destinations and sites, as it was last reported.
    var siteReports: [SiteDemand] {
        get { state.withLock { $0.siteReports } }
        set { state.withLock { $0.siteReports = newValue } }
    }

    /// Ends: the node leaves, or, if `isAbandoned`, is found dead by others.
    func stop(isAbandoned: Bool = false) {
        state.withLock { state in
            state.isStopped = true
            if isAbandoned { state.isAbandoned = true }
        }
        event.signal()
    }

    /// Another node has put something into our part of the queue.
    func call() {
        state.withLock { $0.isCalled = true }
        event.signal()
    }

    /// Whether one has, since this was asked last.
    func takeCall() -> Bool {
        state.withLock { state in
            defer { state.isCalled = false }
            return state.isCalled
        }
    }

    var isStopped: Bool { state.withLock { $0.isStopped } }
    var isAbandoned: Bool { state.withLock { $0.isAbandoned } }

    /// Waits for something to do.
    func wait(_ timeout: Duration) { if timeout > .zero { event.wait(timeout) } }

    /// `done` is called when the first look at the database is over.
    func onStart(_ done: @escaping @Sendable (Result<Void, StorageOpenError>) -> Void) {
        state.withLock { $0.started = done }
    }

    func started(_ result: Result<Void, StorageOpenError>) {
        let done = state.withLock { state in
            defer { state.started = nil }
            return state.started
        }
        done?(result)
    }
}
