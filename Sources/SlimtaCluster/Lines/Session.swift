// A connection that the storage may write by: it is set up, and leads to a server that does not lose what it confirms.

import SlimtaQueue

extension PostgresConnection {
    /// What is said of a server that confirms without a standby.
    static let noStandby = """
        no synchronous standby is configured (synchronous_standby_names), and [[queue.postgresql]] synchronous is "required"
        """

    private static let facts = PostgresStatement(
        name: "facts",
        sql: """
            select current_setting('synchronous_standby_names') <> ''
                    and current_setting('synchronous_commit') in ('on', 'remote_apply', 'remote_write'),
                substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)
            """,
        parameters: [])

    /// A connection for the line, the node's thread or the keeper. Refuses a server without the standby that is demanded, and one
    /// that a failover has left behind.
    ///
    /// - Parameter patience: how long a statement waits for a lock: a little less than whoever asks waits for the answer. What
    ///   outlives him would hold others up. nil: a commit's time.
    static func session(
        _ options: ClusterOptions, _ node: NodeState, patience: Duration? = nil, by deadline: Deadline
    ) throws(PostgresError) -> PostgresConnection {
        try PostgresConnection.first(of: options.database, from: node.now.firstHost, by: deadline) {
            (connection, deadline) throws(PostgresError) in
            try connection.execute(
                SessionSettings.sql(patience: (patience ?? options.commitTimeout) * 0.9), by: deadline)
            try connection.check(options, node, by: deadline)
        }
    }

    private func check(
        _ options: ClusterOptions, _ node: NodeState, by deadline: Deadline
    ) throws(PostgresError) {
        let facts = try run(Self.facts, [], by: deadline)
        if options.needsStandby, !facts.bool(0, 0) { throw .unreachable(Self.noStandby) }
        let timeline = Int64(facts.text(0, 1), radix: 16) ?? 0
        let isOld = node.withLock { values in
            values.timeline = max(values.timeline, timeline)
            return timeline < values.timeline
        }
        if isOld { throw .unreachable("this server was left behind by a failover (timeline \(timeline))") }
    }
}

extension NodeState {
    /// A server that did not confirm what it was asked is asked last from now on. It may be one that a failover has left
    /// behind, which is a primary for who does not know of the other one, and has no standby.
    func mistrust(_ connection: PostgresConnection?, _ error: PostgresError) {
        if let connection, error.mayHaveCommitted { withLock { $0.firstHost = connection.place + 1 } }
    }
}

/// What the server says when something is divided by zero: see WriteStatements.
enum PostgresCode {
    static let divisionByZero = "22012"
    static let uniqueViolation = "23505"
    /// Others were in the way, and nothing was done: what was asked may be asked again.
    static let retriable: Set<String> = ["40001", "40P01", "55P03"]
}

extension PostgresColumn {
    /// Adds a null.
    mutating func appendNull() { append(nil as Never?) }
}
