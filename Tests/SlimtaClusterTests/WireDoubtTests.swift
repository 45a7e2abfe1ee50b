// What is not known: connections that are lost or silent at each place where that can be, and commits that come with a
// warning.

import Foundation
import TestKit
import Testing

@testable import SlimtaCluster

@Suite(.needsPostgres) struct WireDoubtTests {
    private static let insert = statement("insert", [.int4, .bytea], "insert into t values ($1, $2)")
    private static let all = "select n from t order by n"
    private static let short = Duration.milliseconds(500)

    /// A table, behind a link that passes.
    private static func table(_ server: PostgresServer? = nil) throws -> (WireDatabase, PostgresLink) {
        let database = try WireDatabase(server)
        try database.sql("create table t (n int4, octets bytea)")
        return (database, try PostgresLink(to: database.server.port))
    }

    /// Inserts a row.
    private static func add(
        _ number: Int32, _ connection: PostgresConnection, _ octets: [UInt8] = [], within: Duration = patience
    ) -> PostgresError? {
        failure { try connection.run(insert, [.int4(number), .bytea(octets)], by: .after(within)) }
    }

    // MARK: Time

    @Test func noAnswerInTime() throws {
        let (database, link) = try Self.table()
        let connection = try database.connect(over: link)
        #expect(Self.add(1, connection) == nil)
        link.set(.silent)
        let taken = ContinuousClock().measure {
            let error = Self.add(2, connection, within: Self.short)
            #expect(error == .doubtful("time was over before the answer came"))
            #expect(error?.mayHaveCommitted == true)
        }
        #expect(Self.short <= taken && taken < .seconds(10))
        #expect(connection.isBroken)
        #expect(Self.add(3, connection) == .unreachable("the connection was given up"))
        // Others are not kept from anything by it.
        #expect(try database.connect().numbers(Self.all).contains(1))
    }

    @Test func notAllIsSentInTime() throws {
        let (database, link) = try Self.table()
        let connection = try database.connect(over: link)
        #expect(Self.add(1, connection) == nil)
        link.set(.silent)
        let taken = ContinuousClock().measure {
            let error = Self.add(2, connection, [UInt8](repeating: 7, count: 64 << 20), within: Self.short)
            #expect(error == .doubtful("time was over before all was sent"))
        }
        #expect(taken < .seconds(10))
        #expect(connection.isBroken)
        // What was not sent never is, whatever the network does.
        connection.close()
        link.set(.pass)
        try database.wait(
            until: "1", "select count(*) from pg_stat_activity where datname = '\(database.name)'")
        #expect(try database.connect().numbers(Self.all) == [1])
    }

    @Test func aStatementThatTakesTooLong() throws {
        let connection = try WireDatabase().connect()
        let sleep = statement("sleep", "select pg_sleep(20)")
        #expect(failure { try connection.run(sleep, [], by: .after(Self.short)) }?.isDoubtful == true)
        #expect(connection.isBroken)
        let other = try WireDatabase().connect()
        let error = failure { try other.execute("select pg_sleep(20)", by: .after(Self.short)) }
        #expect(error?.isDoubtful == true)
        #expect(other.isBroken)
    }

    @Test func whatCouldNotBePreparedHasChangedNothing() throws {
        let (database, link) = try Self.table()
        let connection = try database.connect(over: link)
        link.set(.silent)
        let error = Self.add(1, connection, within: Self.short)
        #expect(error == .unreachable("time was over before the answer came"))
        #expect(connection.isBroken)
    }

    @Test func noTimeIsLeft() throws {
        let (database, _) = try Self.table()
        let connection = try database.connect()
        #expect(Self.add(1, connection, within: .zero) == .unreachable("no time is left"))
        #expect(!connection.isBroken)
        #expect(Self.add(2, connection) == nil)
        #expect(try connection.numbers(Self.all) == [2])
    }

    // MARK: Connections that are lost

    @Test func endedBeforeAQuestion() throws {
        let (database, _) = try Self.table()
        let connection = try database.connect()
        #expect(Self.add(1, connection) == nil)
        #expect(try database.sql("select pg_terminate_backend(\(connection.process()), 20000)") == "t")
        #expect(
            Self.add(2, connection)
                == .unreachable("57P01: terminating connection due to administrator command"))
        #expect(connection.isBroken)
    }

    @Test func resetBeforeAQuestion() throws {
        let (database, link) = try Self.table()
        let connection = try database.connect(over: link)
        #expect(Self.add(1, connection) == nil)
        link.set(.refuse)
        #expect(Self.add(2, connection)?.isUnreachable == true)
        #expect(connection.isBroken)
        #expect(failure { try database.connect(over: link) }?.text.contains("refused") == true)
        link.set(.pass)
        #expect(try database.connect(over: link).numbers(Self.all) == [1])
    }

    @Test func endedWhileItWorks() async throws {
        let (database, _) = try Self.table()
        let ended = Background { () -> PostgresError? in
            let connection = try database.connect()
            var batch = PostgresBatch()
            batch.run(Self.insert, [.int4(1), .bytea([])])
            batch.sync()
            batch.run(Self.insert, [.int4(2), .bytea([])])
            batch.run(
                statement("end", "select pg_terminate_backend(pg_backend_pid()), pg_sleep(20)"), [])
            let error = failure { try connection.run(batch, by: .after(patience)) }
            #expect(connection.isBroken)
            return error
        }
        #expect(try await ended.value() == .doubtful("57P01: terminating connection due to administrator command"))
        // Which of the two transactions came through is not told.
        #expect(try database.connect().numbers(Self.all) == [1])
    }

    @Test func resetWhileItWorks() async throws {
        let (database, link) = try Self.table()
        let lost = Background { () -> PostgresError? in
            let connection = try database.connect(over: link)
            return failure { try connection.execute("select pg_sleep(20)", by: .after(patience)) }
        }
        try database.wait(
            until: "1",
            "select count(*) from pg_stat_activity where datname = '\(database.name)' and wait_event = 'PgSleep'")
        link.set(.refuse)
        #expect(try await lost.value()?.isDoubtful == true)
    }

    @Test func anAnswerThatIsLost() throws {
        let (database, link) = try Self.table()
        let connection = try database.connect(over: link)
        #expect(Self.add(1, connection) == nil)
        link.set(.loseAnswer(toClientDataContaining: Array("needle".utf8)))
        #expect(Self.add(2, connection) == nil)
        #expect(Self.add(3, connection, Array("a needle in it".utf8))?.isDoubtful == true)
        #expect(link.losses == 1 && link.mode == .pass)
        // It came through all the same.
        #expect(try database.connect(over: link).numbers(Self.all) == [1, 2, 3])
    }

    @Test func aQuestionThatIsLost() throws {
        let (database, link) = try Self.table()
        let connection = try database.connect(over: link)
        #expect(Self.add(1, connection) == nil)
        link.set(.loseQuestion(containing: Array("needle".utf8)))
        #expect(Self.add(2, connection, Array("a needle in it".utf8))?.isDoubtful == true)
        #expect(link.losses == 1 && link.mode == .pass)
        #expect(try database.connect(over: link).numbers(Self.all) == [1])
    }

    @Test func aLongAnswerThatIsLost() throws {
        let (database, link) = try Self.table()
        let connection = try database.connect(over: link)
        let mirror = statement("mirror", [.bytea], "insert into t values (5, $1) returning octets")
        try connection.prepare([mirror], by: .after(patience))
        let octets = Array("needle".utf8) + [UInt8](repeating: 1, count: 3 << 20)
        link.set(.loseAnswer(toClientDataContaining: Array("needle".utf8)))
        #expect(failure { try connection.run(mirror, [.bytea(octets)], by: .after(patience)) }?.isDoubtful == true)
        #expect(try database.connect(over: link).numbers(Self.all) == [5])
    }

    // MARK: A standby that is not there

    /// A server whose commits wait for a standby that nobody has.
    private static func waiting() throws -> WireDatabase {
        let server = try PostgresServer()
        let (database, _) = try table(server)
        try server.sql("alter system set synchronous_standby_names = 'nobody'")
        try server.sql("select pg_reload_conf()")
        try database.wait(until: "nobody", "show synchronous_standby_names")
        return database
    }

    private static func act(_ database: WireDatabase, _ what: String) throws {
        let wait = "from pg_stat_activity where wait_event = 'SyncRep'"
        try database.wait(until: "1", "select count(*) \(wait)")
        try database.sql("select \(what)(pid) \(wait)")
    }

    @Test func aCommitThatWaitsForAStandby() async throws {
        let database = try Self.waiting()
        let cancelled = Background { () -> PostgresError? in
            let connection = try database.connect()
            let error = Self.add(1, connection)
            // It is as good as before: this reads what was committed.
            #expect(try connection.numbers(Self.all) == [1])
            #expect(!connection.isBroken)
            return error
        }
        try Self.act(database, "pg_cancel_backend")
        let error = try await cancelled.value()
        #expect(error == .warned("01000: canceling wait for synchronous replication due to user request"))
        #expect(error?.mayHaveCommitted == true)

        let ended = Background { Self.add(2, try database.connect()) }
        try Self.act(database, "pg_terminate_backend")
        #expect(try await ended.value()?.isDoubtful == true)
        try database.wait(until: "1", "select count(*) from t where n = 2")

        // Its deadline is the only one that ends the wait.
        let late = Background { () -> PostgresError? in
            let connection = try database.connect()
            try connection.execute("set statement_timeout = 100", by: .after(patience))
            return Self.add(3, connection, within: .seconds(2))
        }
        #expect(try await late.value() == .doubtful("time was over before the answer came"))
        // It waits there yet, and is seen when it does no more.
        #expect(try database.connect().numbers(Self.all) == [1, 2])
        try Self.act(database, "pg_cancel_backend")
        try database.wait(until: "1", "select count(*) from t where n = 3")
    }
}
