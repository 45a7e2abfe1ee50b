// Making the tables of a queue: on a real server, twice, by many at once, by roles with few rights; and what a node finds.

import Foundation
import Synchronization
import TestKit
import Testing

@testable import SlimtaCluster

/// Something that runs on a thread of its own.
private final class Run<Value: Sendable>: Sendable {
    private let end = Mutex<Result<Value, any Error>?>(nil)
    private let semaphore = DispatchSemaphore(value: 0)

    init(_ body: @escaping @Sendable () throws -> Value) {
        Thread.detachNewThread {
            let value = Result { try body() }
            self.end.withLock { $0 = value }
            self.semaphore.signal()
        }
    }

    /// nil: it still runs.
    var result: Result<Value, any Error>? { end.withLock { $0 } }

    /// What came of it, within a minute.
    func wait() -> Result<Value, any Error>? {
        _ = semaphore.wait(timeout: .now() + 60)
        return result
    }
}

/// A database of a test's own.
struct SchemaPlace {
    let server: PostgresServer
    let name: String

    init() throws {
        server = try PostgresServer.shared()
        name = try server.createDatabase()
    }

    func connect(as user: String = "postgres") throws -> ClusterDatabase {
        try ClusterDatabase(
            PostgresOptions(connection: server.connection(to: name, user: user)), patience: .seconds(20))
    }

    /// Another session, to be in the way.
    func session() throws -> PostgresConnection {
        try PostgresConnection(PostgresOptions(connection: server.connection(to: name)), by: .after(.seconds(20)))
    }

    @discardableResult
    func sql(_ text: String) throws -> String { try server.sql(text, in: name) }

    func tables() throws -> Set<String> {
        Set(
            try sql("select tablename from pg_tables where schemaname = 'slimtad'").split(separator: "\n").map(
                String.init))
    }

    /// What `body` comes to that runs beside an open transaction of another session with `sql`, which is committed when `body`
    /// waits for it.
    func race<Value: Sendable>(
        with sql: String, _ body: @escaping @Sendable () throws -> Value
    ) throws -> Result<Value, any Error> {
        let holder = try session()
        try holder.execute("begin; \(sql)", by: .after(.seconds(20)))
        let run = Run(body)
        let watcher = try session()
        let isWaiting = PostgresStatement(
            name: "waiting",
            sql: """
                select exists (select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock')
                """, parameters: [])
        let deadline = Deadline.after(.seconds(20))
        while try run.result == nil && !watcher.run(isWaiting, [], by: deadline).bool(0, 0) {}
        try holder.execute("commit", by: .after(.seconds(20)))
        return try #require(run.wait())
    }

    /// A role that is nobody special, for this database; its name.
    func addRole(_ grant: String) throws -> String {
        let role = "role_of_\(name)"
        try server.sql("create role \(role) login")
        try sql(grant.replacing("ROLE", with: role).replacing("DATABASE", with: name))
        return role
    }
}

@Suite(.enabled(if: PostgresServer.isThere, "\(PostgresServer.missing)")) struct SchemaTests {
    private static let names = Set(
        """
        bucket command fence inbox item ledger ledger_step loss message_long move node part receipt receipt_part removed_step \
        ring schema site
        """.split(separator: " ").map(String.init)
    ).union((0..<24).map { String(ContentTable.name($0).dropFirst("slimtad.".count)) })

    @Test func namesOfContents() {
        #expect(ContentTable.name(0) == "slimtad.message_00" && ContentTable.name(7) == "slimtad.message_07")
        #expect(ContentTable.name(23) == "slimtad.message_23")
        #expect(ContentTable.name(ContentTable.long) == "slimtad.message_long" && ContentTable.count == 24)
    }

    @Test func tablesAndRows() throws {
        let place = try SchemaPlace()
        let (isNew, form) = try place.connect().initialise()
        #expect(isNew && form.version == 1 && form.oldest == 1 && form.buckets == 256)
        let now = Int64(Date().timeIntervalSince1970 * 1000)
        #expect(abs(form.since - now) < 600_000)
        #expect(try place.tables() == Self.names)
        #expect(
            try place.sql("select count(*), min(number), max(number), count(owner) from slimtad.bucket")
                == "256|0|255|0")
        #expect(try place.sql("select current, turned > now() - interval '1 minute' from slimtad.ring") == "0|t")
        #expect(
            try place.sql("select count(*), min(number), max(number), count(closed) from slimtad.part") == "24|0|23|0")
        #expect(
            try place.sql(
                "select kind, accepted + delivered + bounced + expired + removed + lost + mismatched from slimtad.ledger order by 1"
            ) == "0|0\n1|0")
        #expect(try place.sql("select count(*) from slimtad.schema") == "1")
    }

    /// Contents are compressed by lz4 where the server can, which Debian's can.
    @Test func compression() throws {
        let place = try SchemaPlace()
        let database = try place.connect()
        let hasLZ4 = try database.server().hasLZ4
        _ = try database.initialise()
        let found = try place.sql(
            """
            select a.attcompression, count(*) from pg_attribute a join pg_class c on c.oid = a.attrelid
            join pg_namespace n on n.oid = c.relnamespace
            where n.nspname = 'slimtad' and c.relname like 'message%' and a.attname = 'octets' and c.relkind = 'r' group by 1
            """)
        #expect(found == (hasLZ4 ? "l|25" : "|25"))
        #expect(!Schema.tables(withLZ4: false).contains("lz4"))
    }

    @Test func aServerWithoutLZ4() throws {
        let place = try SchemaPlace()
        try place.sql("create schema slimtad")
        try place.session().execute(
            Schema.tables(withLZ4: false) + Schema.rows(buckets: 1), by: .after(.seconds(20)))
        #expect(try place.tables() == Self.names)
        #expect(try place.connect().check().buckets == 1)
    }

    @Test func twice() throws {
        let place = try SchemaPlace()
        #expect(try place.connect().initialise(buckets: 8).isNew)
        try place.sql("update slimtad.bucket set owner = 'mx1'")
        let (isNew, form) = try place.connect().initialise(buckets: 512)
        #expect(!isNew && form.buckets == 8)
        #expect(try place.sql("select count(owner) from slimtad.bucket") == "8")
    }

    @Test func manyAtOnce() throws {
        let place = try SchemaPlace()
        let results = Mutex<[Result<Bool, any Error>]>([])
        DispatchQueue.concurrentPerform(iterations: 8) { _ in
            let result = Result { try place.connect().initialise().isNew }
            results.withLock { $0.append(result) }
        }
        let made = try results.withLock { try $0.map { try $0.get() } }
        #expect(made.filter { $0 }.count == 1 && made.count == 8)
        #expect(try place.tables() == Self.names)
    }

    /// Somebody else makes them at the same time, and is faster by a commit.
    @Test func outrun() throws {
        let place = try SchemaPlace()
        let others = "create schema slimtad; \(Schema.tables(withLZ4: false)) \(Schema.rows(buckets: 3))"
        let (isNew, form) = try place.race(with: others) { try place.connect().initialise() }.get()
        #expect(!isNew && form.buckets == 3)
    }

    /// CREATE on the database is enough, and so is a schema that somebody else has made.
    @Test(arguments: [
        "grant create on database DATABASE to ROLE", "create schema slimtad authorization ROLE",
        "create schema slimtad; grant usage, create on schema slimtad to ROLE",
    ])
    func roleWithFewRights(_ grant: String) throws {
        let place = try SchemaPlace()
        let role = try place.addRole(grant)
        #expect(try place.connect(as: role).initialise().isNew)
        #expect(try place.sql("select distinct tableowner from pg_tables where schemaname = 'slimtad'") == role)
    }

    @Test func roleWithoutRights() throws {
        let place = try SchemaPlace()
        let role = try place.addRole("select 1")
        let error = #expect(throws: ClusterDatabaseError.self) { try place.connect(as: role).initialise() }
        guard case .server(.refused(state: "42501", _, _)) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(try place.tables().isEmpty)
    }

    /// One table cannot be made: none is.
    @Test func allOrNothing() throws {
        let place = try SchemaPlace()
        try place.sql("create schema slimtad; create table slimtad.command (x int)")
        #expect(throws: ClusterDatabaseError.self) { try place.connect().initialise() }
        #expect(try place.tables() == ["command"])
    }

    @Test func whatANodeFinds() throws {
        let place = try SchemaPlace()
        let database = try place.connect()
        #expect(throws: ClusterDatabaseError.noTables) { try database.check() }
        try place.sql("create schema slimtad")
        #expect(throws: ClusterDatabaseError.noTables) { try database.check() }
        try place.sql("drop schema slimtad")
        _ = try database.initialise(buckets: 16)
        #expect(try database.check().buckets == 16)
        // Newer, and for all that it says that is fine.
        try place.sql("update slimtad.schema set version = 9")
        #expect(try database.check().version == 9)
        try place.sql("update slimtad.schema set oldest = 2")
        #expect(throws: ClusterDatabaseError.newer(version: 9, oldest: 2)) { try database.check() }
        try place.sql("update slimtad.schema set version = 0, oldest = 0")
        #expect(throws: ClusterDatabaseError.older(version: 0)) { try database.check() }
    }

    @Test func status() throws {
        let place = try SchemaPlace()
        let database = try place.connect()
        #expect(throws: ClusterDatabaseError.noTables) { try database.status() }
        _ = try database.initialise()
        #expect(try database.status().nodes.isEmpty && database.status().freeBuckets == 256)
        try place.sql(
            """
            insert into slimtad.node (name, incarnation, machine, roles, egress, version, is_draining, beat)
                values ('b', 4, 'm', 2, 'e', '1.0', true, clock_timestamp() - interval '7 s'),
                    ('a', 1, 'm', 3, 'a', '1.1', false, clock_timestamp());
            update slimtad.bucket set owner = 'b' where number >= 250;
            insert into slimtad.item (bucket, id, message, part, octets, received, due, attempts, flags, destination,
                    recipients, delivered, bounced, expired, removed, envelope)
                select 249 + n / 2, gen_random_uuid(), gen_random_uuid(), 0, 1, 1, 1, 0, 0, '', 1, 0, 0, 0, 0, ''
                from generate_series(1, 6) as n;
            insert into slimtad.message_03 (id, chunk, octets)
                select gen_random_uuid(), 0, string_agg(gen_random_uuid()::text, '')::bytea from generate_series(1, 5000);
            """)
        let status = try database.status()
        #expect(status.nodes.map(\.name) == ["a", "b"] && status.freeBuckets == 250)
        let node = status.nodes[1]
        #expect(node.incarnation == 4 && node.roles == [.relay] && node.egress == "e" && node.version == "1.0")
        #expect(node.isDraining && !node.isGone && node.queued == 5 && node.buckets == 6)
        #expect((7000..<60_000).contains(node.heard) && (0..<60_000).contains(node.begun))
        #expect(status.contents > 100_000 && status.items > 0 && status.database > status.contents)
    }
}
