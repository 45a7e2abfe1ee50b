// What `slimtad database status` tells: tables, nodes, buckets, sizes. Asked in one go by an operator, never by a node.

/// A database as an operator wants to see it.
package struct DatabaseStatus: Hashable, Sendable {
    /// A row of `slimtad.node`.
    package struct Node: Hashable, Sendable {
        /// Unique.
        package var name: String
        /// Grows with each start, and when it is declared dead.
        package var incarnation: Int64
        /// What it does.
        package var roles: NodeRoles
        /// Nodes with the same word send from the same addresses.
        package var egress: String
        /// Its release.
        package var version: String
        /// Milliseconds since it began, and since it was last heard of, both by the server's clock.
        package var begun, heard: Int64
        /// Whether it was declared dead, or has left.
        package var isGone: Bool
        /// Whether it gives its buckets away.
        package var isDraining: Bool
        /// Envelopes in its buckets.
        package var queued: Int64
        /// Buckets that it owns.
        package var buckets: Int64
    }

    /// The tables.
    package var form: DatabaseForm
    /// The server.
    package var server: ServerFacts
    /// By name.
    package var nodes: [Node]
    /// Buckets that no node owns.
    package var freeBuckets: Int64
    /// Octets on disk: of contents, of the queue's rows with their indexes, of the whole database.
    package var contents, items, database: Int64
}

extension ClusterDatabase {
    /// All of it.
    package func status() throws(ClusterDatabaseError) -> DatabaseStatus {
        guard let form = try form() else { throw .noTables }
        let server = try server()
        do throws(PostgresError) {
            let deadline = Deadline.after(.seconds(60))
            let sizes = try connection.run(Self.sizesStatement, [], by: deadline)
            return DatabaseStatus(
                form: form, server: server, nodes: try nodes(by: deadline), freeBuckets: sizes.int(0, 0),
                contents: sizes.int(0, 1), items: sizes.int(0, 2), database: sizes.int(0, 3))
        } catch {
            throw .server(error)
        }
    }

    private func nodes(by deadline: Deadline) throws(PostgresError) -> [DatabaseStatus.Node] {
        let rows = try connection.run(Self.nodesStatement, [], by: deadline)
        return (0..<rows.count).map { row in
            DatabaseStatus.Node(
                name: rows.text(row, 0), incarnation: rows.int(row, 1),
                roles: NodeRoles(rawValue: Int32(truncatingIfNeeded: rows.int(row, 2))), egress: rows.text(row, 3),
                version: rows.text(row, 4), begun: rows.int(row, 5), heard: rows.int(row, 6),
                isGone: rows.bool(row, 7), isDraining: rows.bool(row, 8), queued: rows.int(row, 9),
                buckets: rows.int(row, 10))
        }
    }

    private static let nodesStatement = PostgresStatement(
        name: "nodes",
        sql: """
            select n.name, n.incarnation, n.roles, n.egress, n.version,
                (extract(epoch from clock_timestamp() - n.begun) * 1000)::int8,
                (extract(epoch from clock_timestamp() - n.beat) * 1000)::int8,
                n.is_gone, n.is_draining, coalesce(o.queued, 0)::int8, coalesce(o.buckets, 0)::int8
            from slimtad.node as n left join \(NodeStatements.shares) as o on o.owner = n.name
            order by n.name
            """,
        parameters: [])

    private static let sizesStatement = PostgresStatement(
        name: "sizes",
        sql: """
            select (select count(*) from slimtad.bucket where owner is null),
                coalesce(sum(pg_catalog.pg_total_relation_size(c.oid)) filter (where c.relname like 'message\\_%'), 0)::int8,
                coalesce(sum(pg_catalog.pg_total_relation_size(c.oid)) filter (where c.relname = 'item'), 0)::int8,
                pg_catalog.pg_database_size(pg_catalog.current_database())
            from pg_catalog.pg_class as c join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
            where n.nspname = 'slimtad' and c.relkind = 'r'
            """,
        parameters: [])
}
