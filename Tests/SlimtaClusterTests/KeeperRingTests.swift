// The ring goes on, whatever is in its way, or somebody is told; and a turn ends when it is told to.

import NIOCore
import SlimtaMail
import SlimtaQueue
import SlimtaThreads
import StorageKit
import TestKit
import Testing

@testable import SlimtaCluster

@Suite("Keeper: ring", .needsPostgres)
struct KeeperRingTests {
    private static let due = "update slimtad.ring set turned = clock_timestamp() - interval '1 hour'"

    private func current(_ bench: LookingBench) throws -> String { try bench.sql("select current from slimtad.ring") }

    @Test func turns() async throws {
        let bench = try LookingBench.kept()
        try await bench.keep { try $0.turnRing() }.value()
        #expect(try current(bench) == "0")
        _ = try bench.sql(Self.due)
        try await bench.keep { try $0.turnRing() }.value()
        #expect(try current(bench) == "1")
        #expect(try bench.sql("select number from slimtad.part where closed is not null") == "0")
        // It has just turned.
        try await bench.keep { try $0.turnRing() }.value()
        #expect(try current(bench) == "1")
        _ = try bench.sql(
            "update slimtad.ring set current = 23, turned = 'epoch'; update slimtad.part set closed = null")
        try await bench.keep { try $0.turnRing() }.value()
        #expect(try current(bench) == "0")
        await bench.close()
    }

    /// A piece of a message was written into a table after it had been emptied: it is nobody's, and in nobody's way.
    @Test(arguments: [false, true]) func turnsWhereSomethingIsLeft(_ isLocked: Bool) async throws {
        let bench = try LookingBench.kept()
        _ = try bench.sql("insert into slimtad.message_01 values (gen_random_uuid(), 7, 'x'); \(Self.due)")
        if isLocked { try await bench.hold("lock table slimtad.message_01 in access share mode") }
        try await bench.keep { try $0.turnRing() }.value()
        #expect(try current(bench) == "1" && bench.count("message_01") == (isLocked ? 1 : 0))
        await bench.close()
    }

    /// Envelopes in a table that counts as empty are not harmed by a turn.
    @Test func turnsWhereSomethingIsQueued() async throws {
        let bench = try LookingBench.kept()
        try await bench.store([.init(envelope: bench.envelope(), part: 1)])
        _ = try bench.sql(Self.due)
        try await bench.keep { try $0.turnRing() }.value()
        #expect(try current(bench) == "1" && bench.places() == "1")
        await bench.close()
    }

    @Test func goesPastTablesThatAreClosed() async throws {
        let bench = try LookingBench.kept()
        _ = try bench.sql("update slimtad.part set closed = clock_timestamp() where number in (1, 2); \(Self.due)")
        try await bench.keep { try $0.turnRing() }.value()
        #expect(try current(bench) == "3")
        await bench.close()
    }

    @Test func isToldIfThereIsNone() async throws {
        let bench = try LookingBench.kept()
        _ = try bench.sql(
            "update slimtad.part set closed = clock_timestamp() + interval '1 hour' where number > 0; \(Self.due)")
        try await bench.keep { try $0.run() }.value()
        #expect(try current(bench) == "0")
        #expect(
            bench.told.events == [
                .housekeepingFailed("content table 0 is written since 60 minutes: no other one is empty")
            ])
        await bench.close()
    }

    /// One table that somebody holds: the others are emptied all the same, and what comes behind them is done.
    @Test func oneTableIsLocked() async throws {
        let bench = try LookingBench.kept()
        _ = try await bench.storeOld(1, in: 5)
        _ = try await bench.storeOld(1, in: 6)
        _ = try bench.sql(
            """
            insert into slimtad.message_long values (gen_random_uuid(), 0, 'x');
            insert into slimtad.ledger_step values (0, 2, 0, 0, 0, 0, 0, 0); \(Self.due)
            """)
        try await bench.hold("lock table slimtad.message_05 in access share mode")
        try await bench.keep { try $0.run() }.value()
        #expect(try bench.count("message_05") == 1 && bench.count("message_06") == 0)
        #expect(try bench.places() == "24 24" && bench.count("message_long") == 2)
        #expect(try bench.count("ledger_step") == 0 && current(bench) == "1")
        guard case .housekeepingFailed(let text) = bench.told.events.first else {
            return #expect(bench.told.events.count == 1)
        }
        #expect(text.hasPrefix("content table 5: ") && text.hasSuffix("(55P03)") && bench.told.events.count == 1)
        await bench.close()
    }

    /// A turn is one node's; nobody waits for the one who has it.
    @Test func oneAtATime() async throws {
        let bench = try LookingBench.kept()
        _ = try bench.sql("insert into slimtad.ledger_step values (0, 2, 0, 0, 0, 0, 0, 0)")
        try await bench.hold("update slimtad.ring set kept = 'epoch'")
        try await bench.keep { try $0.run() }.value()
        #expect(try bench.count("ledger_step") == 1)
        try await bench.letGo()
        try await bench.keep { try $0.run() }.value()
        #expect(try bench.count("ledger_step") == 0)
        _ = try bench.sql("insert into slimtad.ledger_step values (0, 2, 0, 0, 0, 0, 0, 0)")
        try await bench.keep { try $0.run() }.value()
        #expect(try bench.count("ledger_step") == 1)
        #expect(try bench.sql("select accepted from slimtad.ledger where kind = 0") == "2")
        await bench.close()
    }

    /// What has expired by the database's clock goes, with its parts; nodes that are gone for a month go, with their fences.
    @Test func whatIsOver() async throws {
        let bench = try LookingBench.kept()
        _ = try bench.sql(
            """
            insert into slimtad.receipt select decode(k, 'hex'), 'o', gen_random_uuid(),
                case when d is not null then (extract(epoch from clock_timestamp()) * 1000)::int8 + d end, 1, 'r'
            from (values ('01', -1), ('02', 600000), ('03', null)) as x(k, d);
            insert into slimtad.receipt_part select gen_random_uuid(), key, null from slimtad.receipt;
            insert into slimtad.node (name, incarnation, machine, roles, egress, version, beat, is_gone)
            select n, 1, 'm', 3, n, '', clock_timestamp() - d * interval '1 day', g
            from (values ('left', 31, true), ('owns', 31, true), ('lately', 29, true), ('silent', 31, false))
                as x(n, d, g);
            insert into slimtad.fence select name, 0, 1 from slimtad.node;
            update slimtad.bucket set owner = 'owns' where number = 3
            """)
        try await bench.keep { try $0.run() }.value()
        for table in ["receipt", "receipt_part"] {
            #expect(
                try bench.sql("select string_agg(encode(key, 'hex'), ' ' order by key) from slimtad.\(table)")
                    == "02 03")
        }
        #expect(try bench.sql("select string_agg(name, ' ' order by name) from slimtad.node") == "lately owns silent")
        #expect(try bench.sql("select string_agg(node, ' ' order by node) from slimtad.fence") == "lately owns silent")
        #expect(bench.told.events.isEmpty)
        await bench.close()
    }

    /// A storage that is closed does not wait for what its keeper waits for: that would be ten seconds at least.
    @Test func stops() async throws {
        let place = try ClusterPlace { $0.housekeeping = .milliseconds(20) }
        let holder = try place.session()
        // Nobody but the keeper wants this one.
        try holder.execute("begin; lock table slimtad.message_long in access exclusive mode", by: .after(patience))
        let storage = try await place.open()
        try await storage.start { _ in }
        var isWaiting = false
        for _ in 0..<1000 where !isWaiting {
            isWaiting =
                try place.server.sql(
                    """
                    select exists (select 1 from pg_stat_activity
                    where datname = '\(place.name)' and wait_event_type = 'Lock')
                    """) == "t"
            if !isWaiting { try await Task.sleep(for: .milliseconds(10)) }
        }
        #expect(isWaiting)
        let start = monotonicMilliseconds()
        await storage.close()
        #expect(monotonicMilliseconds() - start < 6_000)
        #expect(!place.events.contains { if case .housekeepingFailed = $0 { true } else { false } })
        try holder.execute("commit", by: .after(patience))
    }
}
