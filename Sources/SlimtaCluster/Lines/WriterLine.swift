// The line: the thread that writes. What was committed while one transaction was under way is the next one. ClusterStorage
// gives it commits and buckets to hand over; nobody else writes what concerns the queue's envelopes.

import SlimtaMail
import SlimtaQueue
import SlimtaThreads
import Synchronization

/// Writes commits in their order, many in one transaction.
final class WriterLine: Sendable {
    enum Work: Sendable {
        case commit(CommitGroup.Pending)
        /// These buckets of an incarnation go to who wants them; called when they have, or when they are not ours any more.
        case handOver([UInt16], incarnation: Int64, @Sendable () -> Void)
    }

    fileprivate struct State {
        var work: [Work] = []
        var next = 0
        /// No more is taken; what was taken is finished.
        var isStopped = false
        /// What was taken is not finished either.
        var isAbandoned = false
        var isEnded = false
    }

    let options: ClusterOptions
    let node: NodeState
    let calls: NodeCalls
    let report: @Sendable (ClusterEvent) -> Void
    let tell: @Sendable ([QueueEvent]) -> Void
    private let state = Mutex(State())
    private let event = Event()

    init(
        _ options: ClusterOptions, _ node: NodeState, _ calls: NodeCalls,
        report: @escaping @Sendable (ClusterEvent) -> Void, tell: @escaping @Sendable ([QueueEvent]) -> Void
    ) {
        self.options = options
        self.node = node
        self.calls = calls
        self.report = report
        self.tell = tell
    }

    /// Gives the line something to do; false: it has been stopped.
    func give(_ work: Work) -> Bool {
        let isTaken = state.withLock { state in
            if state.isStopped { return false }
            state.work.append(work)
            return true
        }
        if isTaken { event.signal() }
        return isTaken
    }

    /// Takes no more. What was taken is finished, or, if `isAbandoned`, fails as it does where a process is killed: nobody is
    /// told.
    func stop(isAbandoned: Bool = false) {
        state.withLock { state in
            state.isStopped = true
            if isAbandoned { (state.isAbandoned, state.work, state.next) = (true, [], 0) }
        }
        event.signal()
    }

    var isAbandoned: Bool { state.withLock { $0.isAbandoned } }

    /// Whether somebody waits for it, or it has been told to end.
    var hasWork: Bool { state.withLock { $0.next < $0.work.count } }
    var isStopped: Bool { state.withLock { $0.isStopped } }

    /// There may be something to do.
    func wake() { event.signal() }

    /// Waits for something to do, not longer than `timeout`.
    func wait(_ timeout: Duration? = nil) { event.wait(timeout) }

    /// The next group, or buckets to hand over; nil: there is nothing to do.
    func take() -> Turn? {
        state.withLock { state in
            defer { state.compact() }
            guard state.next < state.work.count else { return nil }
            if case .handOver(let buckets, let incarnation, let done) = state.work[state.next] {
                state.next += 1
                return .handOver(buckets, incarnation: incarnation, done)
            }
            var group = CommitGroup()
            while state.next < state.work.count, case .commit(let pending) = state.work[state.next], group.add(pending)
            {
                state.next += 1
            }
            return .group(group)
        }
    }

    enum Turn {
        case group(CommitGroup)
        case handOver([UInt16], incarnation: Int64, @Sendable () -> Void)
    }

    /// Everything that waits fails.
    func failAll(_ error: StorageError) {
        let work = state.withLock { state in
            defer { (state.work, state.next) = ([], 0) }
            return Array(state.work[state.next...])
        }
        for work in work {
            switch work {
            case .commit(let pending): pending.completion(.failure(error))
            case .handOver(_, _, let done): done()
            }
        }
    }
}

extension WriterLine.State {
    /// Forgets what was taken.
    fileprivate mutating func compact() {
        if next == work.count {
            work.removeAll(keepingCapacity: true)
            next = 0
        } else if next >= 1024 {
            work.removeFirst(next)
            next = 0
        }
    }
}
