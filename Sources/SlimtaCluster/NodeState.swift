// What the threads of a node share: whose the buckets are, whether the database answers, where contents go. Written by the
// node's thread and its line, read by all, from memory.

import Glibc
import SlimtaMail
import SlimtaQueue
import Synchronization

/// What is known of the node at this moment.
final class NodeState: Sendable {
    enum Phase: Hashable, Sendable {
        case opened, running, closed
    }

    /// Who may find that the database is away, each by itself.
    enum Observer: Hashable, Sendable {
        case line, node
        /// Nobody has looked yet.
        case start
    }

    struct Values: Sendable {
        var phase = Phase.opened
        /// Of the node's row; 0: it has not joined, or was fenced.
        var incarnation: Int64 = 0
        /// Of the line's fence when the node joined.
        var fence: Int64 = 0
        /// Buckets that are ours: what is in them is read, delivered and recorded here.
        var owned: Set<UInt16> = [] { didSet { choose() } }
        /// Buckets that are being handed over, or were lost, and of which something is still in flight here: no new mail
        /// goes into them, and they do not become ours again.
        var leaving: Set<UInt16> = [] { didSet { choose() } }
        /// Those of `owned` of which the queue has not been told yet: no new mail goes into them.
        var loading: Set<UInt16> = [] { didSet { choose() } }
        /// What new mail goes into.
        private(set) var open: [UInt16] = []
        /// How many buckets there are: ids that a storage without buckets has made are spread over them too.
        var bucketCount = QueueBuckets.most
        /// Where mail goes that is not ours; nil: nobody has looked yet.
        var placement: Placement?
        /// Until when others leave us what we own: milliseconds by the clock that goes on while the machine sleeps. Somewhat
        /// before they take us for dead we do so ourselves, and begin nothing more.
        var leaseEnd: Int64 = 0
        /// Why nothing can be committed, by who has found out.
        var troubles: [Observer: String] = [:]
        /// Until when new mail is refused because the server has no room; by the monotonic clock, in milliseconds.
        var fullUntil: Int64 = 0
        /// The content table that is written: see ContentTable.
        var part = 0
        /// An operator has told others to take what we have: no new mail.
        var isDraining = false
        /// Grows with each group that was committed or refused.
        var progress: UInt64 = 0
        /// Whether the line has something to do.
        var isBusy = false
        /// The highest timeline of the server that was seen: one with a lower number was left behind by a failover.
        var timeline: Int64 = 0
        /// Which host of the connection string is asked first, counted round the list.
        var firstHost = 0

        /// Why nothing can be committed now; nil: it can.
        var away: String? {
            if let trouble = troubles[.node] ?? troubles[.line] ?? troubles[.start] { return trouble }
            return incarnation != 0 && bootMilliseconds() > leaseEnd ? "the database was not reached for too long" : nil
        }

        /// Whether what is in the envelope's bucket is ours.
        func owns(_ id: QueueID) -> Bool { owned.contains(id.bucket(of: bucketCount)) }

        private mutating func choose() { open = owned.subtracting(leaving).subtracting(loading).sorted() }
    }

    private let values = Mutex(Values())
    private let telling = Mutex(())

    /// All of it at one moment.
    var now: Values { values.withLock { $0 } }

    /// Looks at some of it, or changes it; `body` must not block.
    func withLock<Result>(_ body: (inout Values) -> Result) -> Result { values.withLock { body(&$0) } }

    /// Tells the queue what comes and goes, by what is so while `body` runs: what the node's thread has read of a bucket is not
    /// told when the line's has just told that the bucket is lost.
    func inOrder<Result>(_ body: () -> Result) -> Result { telling.withLock { _ in body() } }

    /// An observer has found that the database is away, or, nil, that it is not. What that is to the operator: news only if
    /// nobody had found so before, or the last one finds that it works again.
    func found(_ trouble: String?, by observer: Observer) -> ClusterEvent? {
        withLock { values in
            let before = values.troubles[.node] ?? values.troubles[.line]
            values.troubles[observer] = trouble
            if observer == .node { values.troubles[.start] = nil }
            let after = values.troubles[.node] ?? values.troubles[.line]
            if before == nil { return after.map { .databaseAway($0) } }
            return after == nil ? .databaseBack : nil
        }
    }

    /// The node's row says whether it is drained; what that is to the operator, if it is news.
    func isTold(isDraining: Bool) -> ClusterEvent? {
        withLock { values in
            defer { values.isDraining = isDraining }
            return values.isDraining == isDraining ? nil : .draining(isDraining)
        }
    }

    /// Why an envelope must not be read or changed here; nil: it is ours, and the storage works.
    func refusal(of id: QueueID) -> StorageError? {
        withLock { values in
            if values.phase != .running { return .closed }
            if let away = values.away { return .away(away) }
            return values.owns(id) ? nil : .lost
        }
    }

    /// Another node has taken this one for dead: nothing is ours any more, and what is in flight is to be forgotten. False: that
    /// was another life of the node.
    func loseAll(of incarnation: Int64, _ tell: ([QueueEvent]) -> Void) -> Bool {
        inOrder {
            let lost = withLock { values -> QueueBuckets? in
                guard values.incarnation == incarnation else { return nil }
                let lost = QueueBuckets(numbers: values.owned, of: values.bucketCount)
                (values.incarnation, values.owned, values.loading) = (0, [], [])
                values.leaving.formUnion(lost.numbers)
                return lost
            }
            guard let lost else { return false }
            if !lost.numbers.isEmpty { tell([.releasing(lost)]) }
            return true
        }
    }
}

/// Milliseconds by the clock that nobody sets and that goes on while the machine sleeps.
func bootMilliseconds() -> Int64 {
    var time = timespec()
    clock_gettime(CLOCK_BOOTTIME, &time)
    return Int64(time.tv_sec) * 1000 + Int64(time.tv_nsec) / 1_000_000
}
