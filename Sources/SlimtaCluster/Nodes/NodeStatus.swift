// What operators see of the nodes of a queue and of their server, and what they do to nodes: see SharedBackend. Asked of the
// database by the threads that read.

import SlimtaMail
import SlimtaQueue
import Synchronization

extension ClusterReader {
    private enum Statements {
        private static func nodes(_ name: String, _ shares: String) -> PostgresStatement {
            PostgresStatement(
                name: name,
                sql: """
                    select n.name, n.incarnation, n.roles, n.egress, n.version,
                        (extract(epoch from clock_timestamp() - n.begun) * 1000)::int8,
                        (extract(epoch from clock_timestamp() - n.beat) * 1000)::int8,
                        n.is_gone, n.beat < clock_timestamp() - $1 * interval '1 millisecond', n.is_draining,
                        o.queued::int8, coalesce(o.buckets, 0)::int8
                    from slimtad.node as n left join \(shares) as o on o.owner = n.name
                    order by n.name
                    """,
                parameters: [.int8])
        }

        static let countedNodes = nodes("look_counted_nodes", NodeStatements.shares)
        static let nodes = nodes(
            "look_nodes",
            "(select owner, null as queued, count(*) as buckets from slimtad.bucket group by owner)")

        static let database = PostgresStatement(
            name: "look_database",
            sql: """
                select count(*), count(*) filter (where owner is null), pg_current_wal_lsn()::text from slimtad.bucket
                """,
            parameters: [])

        /// What a role that is nobody special may not see is null.
        static let standbys = PostgresStatement(
            name: "look_standbys",
            sql: """
                select coalesce(application_name, ''), pg_wal_lsn_diff(pg_current_wal_lsn(), flush_lsn)::int8, sync_state
                from pg_stat_replication order by application_name
                """,
            parameters: [])

        static let count = PostgresStatement(
            name: "count_items", sql: "select count(*) from slimtad.item", parameters: [])
    }

    /// The nodes, and the database: see ``SharedBackend/sharing(isCounting:)``.
    func sharing(lease: Duration, isCounting: Bool) async throws(StorageError) -> SharedQueue {
        try node.reachable()
        guard isCounting else {
            return try await pool.run { connection, deadline in
                try Self.sharing(Statements.nodes, lease, connection, deadline)
            }
        }
        return try await access.scans.run { connection, _ in
            let deadline = Deadline.after(Self.scanPatience)
            try connection.execute(SessionSettings.beginScan, by: deadline)
            let sharing = try Self.sharing(Statements.countedNodes, lease, connection, deadline)
            try connection.execute("commit", by: deadline)
            return sharing
        }
    }

    private static func sharing(
        _ statement: PostgresStatement, _ lease: Duration, _ connection: PostgresConnection, _ deadline: Deadline
    ) throws(PostgresError) -> SharedQueue {
        let database = try connection.run(Statements.database, [], by: deadline)
        let standbys = try connection.run(Statements.standbys, [], by: deadline)
        let oldest = try connection.run(KeeperStatements.oldest, [], by: deadline)
        let nodes = try connection.run(statement, [.int8(lease.milliseconds)], by: deadline)
        return SharedQueue(
            nodes: (0..<nodes.count).map { SharedQueue.Node(nodes, $0) },
            buckets: Int(database.int(0, 0)), freeBuckets: Int(database.int(0, 1)), logPosition: database.text(0, 2),
            standbys: (0..<standbys.count).map { row in
                SharedQueue.Standby(
                    name: standbys.text(row, 0), behind: standbys.isNull(row, 1) ? nil : standbys.int(row, 1),
                    mode: standbys.isNull(row, 2) ? nil : standbys.text(row, 2))
            },
            oldestTransaction: oldest.count == 0 || oldest.isNull(0, 0) ? nil : .milliseconds(oldest.int(0, 0)))
    }

    /// Of all nodes: see ``QueueBackend/count()``.
    func count() async throws(StorageError) -> Int {
        try node.reachable()
        return try await access.scans.run { connection, _ in
            let deadline = Deadline.after(Self.scanPatience)
            try connection.execute(SessionSettings.beginScan, by: deadline)
            let count = try connection.run(Statements.count, [], by: deadline).int(0, 0)
            try connection.execute("commit", by: deadline)
            return Int(count)
        }
    }
}

extension SharedQueue.Node {
    /// Of a row. One without buckets has nothing, whether it is counted or not.
    fileprivate init(_ rows: PostgresRows, _ row: Int) {
        let roles = NodeRoles(rawValue: Int32(truncatingIfNeeded: rows.int(row, 2)))
        self.init(
            name: rows.text(row, 0), incarnation: rows.int(row, 1), isEdge: roles.contains(.edge),
            isRelay: roles.contains(.relay), egress: rows.text(row, 3), version: rows.text(row, 4),
            begun: .milliseconds(rows.int(row, 5)), heard: .milliseconds(rows.int(row, 6)), isGone: rows.bool(row, 7),
            isSilent: rows.bool(row, 8), isDraining: rows.bool(row, 9),
            queued: rows.int(row, 11) == 0 ? 0 : rows.isNull(row, 10) ? nil : Int(rows.int(row, 10)),
            buckets: Int(rows.int(row, 11)))
    }
}

// MARK: Changes

extension ClusterReader {
    private enum Changes {
        /// Of two that are drained at once neither is taken for the one that stays: all rows are locked before they are looked at.
        static let drain = PostgresStatement(
            name: "drain_node",
            sql: """
                with locked as materialized (
                    select name, roles, is_gone, is_draining, beat from slimtad.node order by name for update)
                update slimtad.node set is_draining = true where name = $1
                    and ($3 or (roles & \(NodeRoles.relay.rawValue)) = 0 or (
                        select count(*) from locked where name <> $1 and not is_gone and not is_draining
                            and (roles & \(NodeRoles.relay.rawValue)) <> 0
                            and beat >= clock_timestamp() - $2 * interval '1 millisecond') > 0)
                returning 1
                """,
            parameters: [.text, .int8, .bool])

        static let resume = PostgresStatement(
            name: "resume_node", sql: "update slimtad.node set is_draining = false where name = $1 returning 1",
            parameters: [.text])

        static let known = PostgresStatement(
            name: "known_node",
            sql: """
                select incarnation, is_gone or beat < clock_timestamp() - $2 * interval '1 millisecond'
                from slimtad.node where name = $1
                """,
            parameters: [.text, .int8])

        /// Behind the statements that declare a node dead, in their transaction: what one that was gone before may still have.
        static let free = PostgresStatement(
            name: "free_forgotten",
            sql: """
                update slimtad.bucket set owner = case when owner = $1 then null else owner end,
                    wanted = case when wanted = $1 then null else wanted end
                where (owner = $1 or wanted = $1) and exists (select 1 from slimtad.node where name = $1 and is_gone)
                """,
            parameters: [.text])

        /// Its fence stays: what the node records that wakes up after years must not count, though another one has its name.
        static let forget = PostgresStatement(
            name: "forget_node", sql: "delete from slimtad.node where name = $1 and is_gone returning 1",
            parameters: [.text])
    }

    /// Changes a node: see ``SharedBackend/change(_:_:)``.
    func change(_ name: String, _ change: NodeChange, lease: Duration) async throws(NodeRefusal) {
        let result: NodeRefusal?
        // Where the answer is lost it is asked again, and one that was forgotten by the first time is not there.
        let wasForgotten = Atomic(false)
        do throws(StorageError) {
            try node.reachable()
            result = try await pool.run { connection, deadline -> NodeRefusal? in
                let known = try connection.run(
                    Changes.known, [.text(name), .int8(lease.milliseconds)], by: deadline)
                guard known.count == 1 else { return wasForgotten.load(ordering: .relaxed) ? nil : .unknown }
                switch change {
                case .drain(let isForced):
                    let rows = try connection.run(
                        Changes.drain, [.text(name), .int8(lease.milliseconds), .bool(isForced)], by: deadline)
                    return rows.count == 1 ? nil : .last
                case .resume:
                    return try connection.run(Changes.resume, [.text(name)], by: deadline).count == 1 ? nil : .unknown
                case .forget:
                    guard known.bool(0, 1) else { return .works }
                    wasForgotten.store(true, ordering: .relaxed)
                    let isForgotten = try Self.forget(name, known.int(0, 0), lease, connection, deadline)
                    return isForgotten ? nil : .works
                }
            }
        } catch {
            throw .storage(error)
        }
        if let result { throw result }
    }

    /// As one that is not heard of is declared dead, and then not known any more. False: it was heard of again.
    private static func forget(
        _ name: String, _ incarnation: Int64, _ lease: Duration, _ connection: PostgresConnection, _ deadline: Deadline
    ) throws(PostgresError) -> Bool {
        var batch = PostgresBatch()
        batch.run(NodeStatements.declareDead, [.text(name), .int8(incarnation), .int8(lease.milliseconds)])
        batch.run(NodeStatements.fenceOff, [.text(name), .int8(incarnation)])
        batch.run(NodeStatements.setFree, [.text(name), .int8(incarnation)])
        batch.run(Changes.free, [.text(name)])
        batch.run(Changes.forget, [.text(name)])
        batch.sync()
        return try connection.run(batch, by: deadline)[4].count == 1
    }
}
