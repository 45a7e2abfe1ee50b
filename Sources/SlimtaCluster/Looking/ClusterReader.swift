// The read path of a storage in PostgreSQL as a whole: what ClusterStorage asks of it, which has one. What is read, and how,
// is in the files beside this one.

import NIOCore
import SlimtaMail
import SlimtaQueue
import SlimtaThreads

/// Reads envelopes, pages, receipts and balances, and takes the rest of large messages.
final class ClusterReader: Sendable {
    let access: ReadAccess
    let ledgers = LedgerShelf()
    var node: NodeState { access.node }
    var losses: LossBook { access.losses }
    var pool: ReaderPool { access.pool }

    /// Nothing is done before `start`.
    init(_ options: ClusterOptions, _ node: NodeState, report: @escaping @Sendable (ClusterEvent) -> Void) {
        access = ReadAccess(options, node, report: report)
    }

    /// Starts the threads.
    func start() throws(ThreadError) {
        for pool in access.pools { try pool.start() }
    }

    /// What is under way comes to its end; all else fails with `.closed` from now on.
    func close() async {
        for pool in access.pools { await pool.close() }
    }

    /// Another thread of the node has reached the database: who could not need not wait any longer.
    func tryAgain() { for pool in access.pools { pool.tryAgain() } }

    /// Begins the rest of a large message: it goes into the content table that is written now.
    func beginSpool(_ id: QueueID) -> any SpoolWriter {
        ChunkWriter(id, part: node.withLock { $0.part }, access, failure: node.unreachable)
    }

    /// Of all nodes: see ``QueueBackend/acknowledgeLosses()``.
    func acknowledgeLosses() async throws(StorageError) -> [String] {
        try node.reachable()
        return try await pool.run { [losses] connection, deadline in
            try losses.acknowledge(connection, deadline)
        }
    }
}
