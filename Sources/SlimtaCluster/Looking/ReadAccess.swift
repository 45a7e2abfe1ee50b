// What all of the read path has at hand: threads with connections, what is known of the node, and where losses are told.
// ClusterReader makes it; what it gives away keeps it.

import SlimtaMail
import SlimtaQueue

/// Ways to the database for who reads.
struct ReadAccess: Sendable {
    let node: NodeState
    let losses: LossBook
    /// How long a large message may take to arrive.
    let arrivalLimit: Duration
    /// What messages that are to be sent wait for.
    let pool: ReaderPool
    /// Takes large messages: a standby that is slow to confirm them must not keep others from being read.
    let writers: ReaderPool
    /// For what reads whole tables, and takes as long as it takes.
    let scans: ReaderPool

    init(_ options: ClusterOptions, _ node: NodeState, report: @escaping @Sendable (ClusterEvent) -> Void) {
        self.node = node
        losses = LossBook(report)
        arrivalLimit = options.arrivalLimit
        let threads = max(1, options.readers)
        let connect: ReaderPool.Connect = { (deadline: Deadline) throws(PostgresError) in
            try PostgresConnection.session(
                options, node, patience: options.commitTimeout,
                by: deadline.orAfter(options.database.connectTimeout * 2))
        }
        let timeline: @Sendable () -> Int64 = { node.timeline }
        pool = ReaderPool(threads: threads, patience: options.commitTimeout, timeline: timeline, connect: connect)
        writers = ReaderPool(threads: threads, patience: options.commitTimeout, timeline: timeline, connect: connect)
        scans = ReaderPool(
            threads: 2, patience: .seconds(24 * 3600), keepsConnections: false, timeline: timeline, connect: connect)
    }

    var pools: [ReaderPool] { [pool, writers, scans] }
}

extension NodeState {
    /// Why nothing can be read; nil: it can.
    var unreachable: StorageError? {
        withLock { values in
            if values.phase != .running { return .closed }
            return values.away.map { .away($0) }
        }
    }

    /// Of the latest server that was met; 0: none was.
    var timeline: Int64 { withLock { $0.timeline } }

    /// Throws why nothing can be read.
    func reachable() throws(StorageError) { if let error = unreachable { throw error } }

    /// Whether what is in the envelope's bucket is delivered here.
    func owns(_ id: QueueID) -> Bool { withLock { $0.owns(id) } }

    /// The envelope's bucket as columns have it.
    func bucketNumber(of id: QueueID) -> Int32 { withLock { Int32(id.bucket(of: $0.bucketCount)) } }
}
