// The thread that keeps house in the database: each node has a keeper, and by turns one of them works. Started and ended by
// ClusterStorage; what is done in a turn is KeeperTurn's.

import SlimtaThreads

/// Keeps the tables small.
final class Keeper: Sendable {
    private let options: ClusterOptions
    private let node: NodeState
    private let losses: LossBook
    private let report: @Sendable (ClusterEvent) -> Void
    private let limit = DeadlineLimit()
    private let event = Event()

    /// What is under way when it is told to stop may take so long.
    private static let grace = Duration.seconds(1)

    init(
        _ options: ClusterOptions, _ node: NodeState, _ losses: LossBook,
        report: @escaping @Sendable (ClusterEvent) -> Void
    ) {
        self.options = options
        self.node = node
        self.losses = losses
        self.report = report
    }

    /// It ends soon, whatever the database does: a transaction that is not over by then is done or not, as after a crash.
    func stop() {
        limit.end(after: Self.grace)
        event.signal()
    }

    /// Works until it is stopped.
    func run() {
        while true {
            event.wait(options.housekeeping)
            if limit.isSet { return }
            if node.now.incarnation == 0 || node.now.away != nil { continue }
            do throws(PostgresError) {
                var turn = try KeeperTurn(options, node, losses, limit, report: report)
                try turn.run()
            } catch {
                if !limit.isSet { report(.housekeepingFailed(error.description)) }
            }
        }
    }
}
