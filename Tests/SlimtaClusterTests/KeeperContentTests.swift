// Contents that are moved, swept and emptied while others are at the same tables: nothing that is queued loses its content.

import NIOCore
import SlimtaMail
import SlimtaQueue
import TestKit
import Testing

@testable import SlimtaCluster

@Suite("Keeper: contents", .needsPostgres)
struct KeeperContentTests {
    @Test func movedAndEmptied() async throws {
        let bench = try LookingBench.kept()
        let envelopes = try await bench.storeOld(3, in: 3)
        try await bench.store([.init(envelope: bench.envelope(at: 9), part: 3)])
        // Nobody's, and in no table of anybody's.
        try await bench.store([.init(envelope: bench.envelope(at: 10), part: 4)])
        _ = try bench.sql("delete from slimtad.item where id = \(envelopes[1].id.literal)")
        try await bench.keep { try $0.emptyParts() }.value()
        #expect(try bench.places() == "24 24 24 4")
        #expect(try bench.count("message_03") == 0 && bench.count("message_long") == 2)
        #expect(try bench.sql("select count(*) from slimtad.part where closed is not null") == "0")
        for envelope in [envelopes[0], envelopes[2]] {
            let stored = try await bench.reader.load(envelope.id)
            #expect(String(buffer: stored.message.head) == "Subject: x\r\n\r\nbody\r\n")
        }
        // When the last envelope of a message has gone, its content goes too, and no other.
        let ids = [envelopes[0], envelopes[2]].map(\.id.literal).joined(separator: ",")
        _ = try bench.sql("delete from slimtad.item where id in (\(ids))")
        try await bench.keep { try $0.sweep() }.value()
        #expect(try bench.places() == "24 4" && bench.count("message_long") == 1)
        await bench.close()
    }

    /// A sibling has been moved before and has left: what is copied is there already, and a sweep that began before does not
    /// know that it is needed again.
    @Test func movedBesideASweep() async throws {
        let bench = try LookingBench.kept()
        let garbage = bench.envelope()
        try await bench.store([.init(envelope: garbage, part: ContentTable.long)])
        _ = try await bench.storeOld(1, in: 3)
        _ = try bench.sql(
            """
            delete from slimtad.item where id = \(garbage.id.literal);
            insert into slimtad.message_long select * from slimtad.message_03
            """)
        try await bench.hold("select 1 from slimtad.message_long where id = \(garbage.id.literal) for update")
        let sweep = bench.keep { try $0.sweep() }
        #expect(try await bench.areWaiting(1))
        let move = bench.keep { turn in try turn.place(try turn.copy(3), 3) }
        #expect(try await bench.areWaiting(2))
        try await bench.letGo()
        try await sweep.value()
        #expect(try await move.value() == 1)
        #expect(try bench.places() == "24" && bench.count("message_long") == 1)
        await bench.close()
    }

    /// A sweep between the copy and what it was made for takes the copy: then nothing says that it is there.
    @Test func sweptBeforeItIsNeeded() async throws {
        let bench = try LookingBench.kept()
        _ = try await bench.storeOld(2, in: 3)
        let copied = try await bench.keep { try $0.copy(3) }.value()
        #expect(copied.count == 2)
        #expect(try bench.count("message_long") == 1)
        try await bench.keep { try $0.sweep() }.value()
        #expect(try await bench.keep { try $0.place(copied, 3) }.value() == 0)
        #expect(try bench.places() == "3 3")
        try await bench.keep { try $0.emptyParts() }.value()
        #expect(try bench.places() == "24 24")
        await bench.close()
    }

    /// An outcome is recorded while contents are copied, however long that takes.
    @Test func copyingHoldsNothing() async throws {
        let bench = try LookingBench.kept()
        _ = try await bench.storeOld(2, in: 3)
        // Somebody is just writing the same row: the copy waits in its midst.
        try await bench.hold("insert into slimtad.message_long select * from slimtad.message_03")
        let move = bench.keep { turn in try turn.place(try turn.copy(3), 3) }
        #expect(try await bench.areWaiting(1))
        _ = try bench.sql("set lock_timeout = '1s'; update slimtad.item set attempts = 1")
        try await bench.letGo()
        #expect(try await move.value() == 2)
        await bench.close()
    }

    /// What is copied at once is limited by octets, and one is always taken.
    @Test func portions() async throws {
        let bench = try LookingBench.kept()
        _ = try await bench.storeOld(5, in: 3)
        for (octets, count) in [(10 << 20, 2), (100 << 20, 1), (1 << 10, 5)] {
            _ = try bench.sql("update slimtad.item set octets = \(octets)")
            #expect(try await bench.keep { try $0.copy(3) }.value().count == count)
        }
        _ = try bench.sql("update slimtad.item set octets = \(40 << 20)")
        try await bench.keep { try $0.emptyParts() }.value()
        #expect(try bench.places() == "24 24 24 24 24" && bench.count("message_03") == 0)
        await bench.close()
    }

    /// What is just being changed is left to another turn, and what is queued keeps its table.
    @Test func lockedEnvelopes() async throws {
        let bench = try LookingBench.kept()
        let envelopes = try await bench.storeOld(2, in: 3)
        try await bench.hold("select 1 from slimtad.item where id = \(envelopes[0].id.literal) for update")
        try await bench.keep { try $0.emptyParts() }.value()
        #expect(try bench.places() == "3 24" && bench.count("message_03") == 1)
        try await bench.letGo()
        try await bench.keep { try $0.emptyParts() }.value()
        #expect(try bench.places() == "24 24" && bench.count("message_03") == 0)
        await bench.close()
    }

    /// An envelope whose content is gone anyway does not keep the table from being emptied.
    @Test func lostContent() async throws {
        let bench = try LookingBench.kept()
        _ = try await bench.storeOld(1, in: 3)
        try await bench.store([.init(envelope: bench.envelope(at: 5), part: 3, hasContent: false)])
        try await bench.keep { try $0.emptyParts() }.value()
        #expect(try bench.places() == "24 lost" && bench.count("message_03") == 0)
        #expect(try bench.sql("select count(*) from slimtad.item where part = 24") == "2")
        await bench.close()
    }

    /// Between the last look and the end of a table hours may pass: nobody empties one that is in use again.
    @Test(arguments: [
        ("update slimtad.ring set current = 3", 1),
        ("update slimtad.part set closed = clock_timestamp() + interval '1 minute' where number = 3", 1),
        ("update slimtad.part set closed = null where number = 3", 1),
        (
            """
            insert into slimtad.node (name, incarnation, machine, roles, egress, version, part)
            values ('other', 1, 'm', 3, 'other', '', 3)
            """, 1
        ),
        ("update slimtad.item set part = 3", 1),
        ("delete from slimtad.item", 0),
    ])
    func looksAgain(_ change: String, _ left: Int) async throws {
        let bench = try LookingBench.kept()
        _ = try await bench.storeOld(1, in: 3)
        _ = try bench.sql("update slimtad.item set part = 24; \(change)")
        try await bench.keep { try $0.emptyClosed(3) }.value()
        #expect(try bench.count("message_03") == left)
        await bench.close()
    }

    /// A look at some envelopes of a table is a look at its index, whatever the planner thinks of a table that it never saw full.
    @Test func plans() async throws {
        let bench = try LookingBench.kept()
        _ = try await bench.storeOld(1, in: 3)
        for statement in [KeeperStatements.copy[3], KeeperStatements.place[3]] {
            let types = statement.parameters.map { $0 == .int4Array ? "int4[]" : "uuid[]" }.joined(separator: ",")
            let arguments = statement.parameters.map { _ in "'{}'" }.joined(separator: ",")
            let call = types.isEmpty ? ("", "") : ("(\(types))", "(\(arguments))")
            let plan = try bench.sql(
                "\(SessionSettings.sql(patience: .seconds(10))); prepare p\(call.0) as \(statement.sql); explain (costs off) execute p\(call.1)"
            )
            #expect(!plan.contains("Seq Scan") && !plan.contains("Hash Join"), "\(plan)")
            #expect(plan.contains("using message_03_pkey") || plan.contains("on message_03_pkey"), "\(plan)")
        }
        await bench.close()
    }
}
