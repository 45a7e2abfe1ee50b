// Batches: what a refusal takes with it, what a warning means, what is prepared when.

import SlimtaMail
import TestKit
import Testing

@testable import SlimtaCluster

@Suite(.needsPostgres) struct WireBatchTests {
    private static let insert = statement("insert", [.int4], "insert into t values ($1)")
    private static let divide = statement("divide", [.int4], "select 1 / $1")
    private static let all = "select n from t order by n"

    private static func table() throws -> (WireDatabase, PostgresConnection) {
        let database = try WireDatabase()
        let connection = try database.connect()
        try connection.execute("create table t (n int4 not null)", by: .after(patience))
        return (database, connection)
    }

    private static func run(_ batch: PostgresBatch, _ connection: PostgresConnection) -> PostgresError? {
        failure { try connection.run(batch, by: .after(patience)) }
    }

    @Test func severalTransactionsAtOnce() throws {
        let (_, connection) = try Self.table()
        let count = statement("count", "select count(*), (select pg_current_xact_id()::text) from t")
        var batch = PostgresBatch()
        batch.sync()
        for number in 1...3 {
            batch.run(Self.insert, [.int4(Int32(number))])
            batch.run(count, [])
            batch.sync()
            batch.sync()
        }
        batch.run(count, [])
        #expect(batch.count == 7 && batch.transactions == 3)
        let rows = try connection.run(batch, by: .after(patience))
        #expect(rows.count == 7)
        #expect(rows[0].count == 0)
        #expect([1, 3, 5, 6].map { rows[$0].int(0, 0) } == [1, 2, 3, 3])
        // Each is a transaction of its own.
        #expect(Set([1, 3, 5, 6].map { rows[$0].text(0, 1) }).count == 4)
        #expect(try connection.run(PostgresBatch(), by: .after(patience)).isEmpty)
    }

    @Test func aRefusalTakesItsTransactionAlone() throws {
        let (_, connection) = try Self.table()
        var batch = PostgresBatch()
        batch.run(Self.insert, [.int4(1)])
        batch.sync()
        batch.run(Self.insert, [.int4(2)])
        batch.run(Self.divide, [.int4(0)])
        batch.run(Self.insert, [.int4(3)])
        batch.sync()
        batch.run(Self.insert, [.int4(4)])
        batch.run(Self.divide, [.int4(0)])
        batch.sync()
        batch.run(Self.insert, [.int4(5)])
        let error = Self.run(batch, connection)
        #expect(error == .refused(state: "22012", text: "division by zero", step: 2))
        #expect(error?.mayHaveCommitted == false)
        #expect(!connection.isBroken)
        #expect(try connection.numbers(Self.all) == [1, 5])
    }

    @Test func aRefusalOfTheCommitItself() throws {
        let (_, connection) = try Self.table()
        try connection.execute(
            "create table u (n int4 constraint once unique deferrable initially deferred)", by: .after(patience))
        let late = statement("late", [.int4], "insert into u values ($1)")
        var batch = PostgresBatch()
        batch.run(late, [.int4(77)])
        batch.run(late, [.int4(77)])
        batch.sync()
        batch.run(Self.insert, [.int4(1)])
        let error = Self.run(batch, connection)
        // Not which value it is.
        #expect(
            error
                == .refused(
                    state: "23505", text: "duplicate key value violates unique constraint \"once\"", step: 1))
        #expect(try connection.numbers(Self.all) == [1])
        #expect(try connection.numbers("select count(*) from u", as: "others") == [0])
        #expect(!connection.isBroken)
    }

    @Test func whatCannotBePreparedIsSaidBeforeAnythingIsRun() throws {
        let (database, connection) = try Self.table()
        var batch = PostgresBatch()
        batch.run(Self.insert, [.int4(1)])
        batch.sync()
        batch.run(statement("nowhere", "select * from nowhere"), [])
        let error = Self.run(batch, connection)
        #expect(error == .refused(state: "42P01", text: "relation \"nowhere\" does not exist", step: 1))
        #expect(!connection.isBroken)
        #expect(try connection.numbers(Self.all) == [])
        // What was prepared before it is not again; the other one is, once its table is there.
        try database.sql("create table nowhere (n int4)")
        #expect(try connection.run(batch, by: .after(patience)).count == 2)
        #expect(try connection.numbers(Self.all) == [1])
    }

    @Test func eachStatementIsPreparedOnce() throws {
        let (_, connection) = try Self.table()
        try connection.prepare([Self.insert, Self.divide, Self.insert], by: .after(patience))
        let prepared = statement(
            "prepared", "select count(*) from pg_prepared_statements where name in ('insert', 'divide')")
        #expect(try connection.run(prepared, [], by: .after(patience)).int(0, 0) == 2)
        try connection.prepare([Self.insert], by: .after(patience))
        for _ in 0..<3 { _ = try connection.run(Self.insert, [.int4(1)], by: .after(patience)) }
        #expect(try connection.run(prepared, [], by: .after(patience)).int(0, 0) == 2)
    }

    @Test func aConnectionThatAnotherOneMayReplace() throws {
        let (database, connection) = try Self.table()
        let star = statement("star", "select * from t")
        _ = try connection.run(star, [], by: .after(patience))
        try database.sql("alter table t add m int8")
        #expect(failure { try connection.run(star, [], by: .after(patience)) }?.state == "0A000")
        #expect(connection.isBroken)

        let other = try database.connect()
        try other.execute("set default_transaction_read_only = on", by: .after(patience))
        let write = statement("write", "insert into t (n) values (1)")
        #expect(failure { try other.run(write, [], by: .after(patience)) }?.state == "25006")
        #expect(other.isBroken)
    }

    // MARK: The simple way

    @Test func textsOfSeveralStatements() throws {
        let (_, connection) = try Self.table()
        try connection.execute("insert into t values (1); select n from t; set work_mem = '5MB'", by: .after(patience))
        let error = failure {
            try connection.execute("insert into t values (2); select 1; select 1 / 0; select 2", by: .after(patience))
        }
        #expect(error == .refused(state: "22012", text: "division by zero", step: 2))
        #expect(!connection.isBroken)
        #expect(try connection.numbers(Self.all) == [1])
        let setting = try connection.run(statement("setting", "show work_mem"), [], by: .after(patience))
        #expect(setting.text(0, 0) == "5MB")
        try connection.execute("", by: .after(patience))
    }

    // MARK: Notices

    private static let raising = """
        create function raise_notice() returns int4 language plpgsql as $$ begin raise notice 'one'; return 1; end $$;
        create function raise_warning() returns int4 language plpgsql as $$ begin raise warning 'two'; return 2; end $$
        """
    private static let notice = statement("notice", "select raise_notice()")
    private static let warning = statement("warning", "select raise_warning()")

    @Test func aNoticeIsNoWarning() throws {
        let (_, connection) = try Self.table()
        try connection.execute(Self.raising, by: .after(patience))
        #expect(try connection.run(Self.notice, [], by: .after(patience)).int(0, 0) == 1)
        try connection.execute("drop table if exists nobody; select raise_notice()", by: .after(patience))
    }

    @Test func aWarningIsDoubt() throws {
        let (_, connection) = try Self.table()
        try connection.execute(Self.raising, by: .after(patience))
        var batch = PostgresBatch()
        batch.run(Self.insert, [.int4(1)])
        batch.run(Self.warning, [])
        let error = Self.run(batch, connection)
        #expect(error == .warned("01000: two"))
        #expect(error?.mayHaveCommitted == true)
        // It has been committed, the connection is as good as before, and the warning is not that of the next one.
        #expect(!connection.isBroken)
        #expect(try connection.numbers(Self.all) == [1])
        let text = failure {
            try connection.execute("select raise_warning()", by: .after(patience))
        }
        #expect(text == .warned("01000: two"))
    }

    @Test func aWarningBesideARefusal() throws {
        let (_, connection) = try Self.table()
        try connection.execute(Self.raising, by: .after(patience))
        // What is rolled back is not in doubt.
        var batch = PostgresBatch()
        batch.run(Self.warning, [])
        batch.run(Self.divide, [.int4(0)])
        #expect(Self.run(batch, connection) == .refused(state: "22012", text: "division by zero", step: 1))
        // Another transaction of the same batch is.
        batch.sync()
        batch.run(Self.insert, [.int4(1)])
        #expect(Self.run(batch, connection) == .warned("01000: two"))
        #expect(try connection.numbers(Self.all) == [1])
    }
}
