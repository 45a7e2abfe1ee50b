// The balance, and what an audit finds: what was done to the tables and nothing else.

import SlimtaMail
import SlimtaQueue
import Synchronization
import TestKit
import Testing

@testable import SlimtaCluster

@Suite("Looking: ledger and audit", .enabled(if: PostgresServer.isThere, "\(PostgresServer.missing)"))
struct LookingAuditTests {
    @Test func ledger() async throws {
        let bench = try LookingBench()
        let empty = try await bench.reader.ledger()
        #expect(empty.isBalanced && empty.total == .init())
        #expect(try bench.sql("select since from slimtad.schema") == "\(empty.since.milliseconds)")
        let mail = bench.envelope(to: ["a@x.test", "b@x.test", "c@y.test", "d@z.test"])
        var state = EnvelopeState(of: mail, due: LookingBench.due)
        (state.recipients[1].fate, state.recipients[2].fate) = (.delivered, .bounced)
        try await bench.store(mail, state)
        try await bench.store(bench.envelope(sender: nil))
        _ = try bench.sql(
            """
            update slimtad.ledger set accepted = 100, delivered = 80, bounced = 10, expired = 5, removed = 3, lost = 2
                where kind = 0;
            insert into slimtad.ledger_step values (0, 4, 0, 0, 0, 0, 0, 0), (0, 9, 0, 0, 0, 0, 0, 0),
                (0, -1, 0, 0, 0, 0, 0, 0), (0, 0, 2, 1, 2, 3, 0, 0), (1, 1, 0, 0, 0, 0, 0, 0);
            insert into slimtad.removed_step values ('root', 2), ('filter', 3), ('root', 1);
            """)
        let ledger = try await bench.reader.ledger()
        #expect(ledger.isBalanced)
        var submitted = Ledger.Account()
        (submitted.accepted, submitted.delivered, submitted.bounced, submitted.expired) = (112, 83, 12, 7)
        (submitted.removed, submitted.lost, submitted.queued) = (6, 2, 2)
        #expect(ledger.submitted == submitted)
        #expect(ledger.notices.accepted == 1 && ledger.notices.queued == 1)
        #expect(ledger.removedBy == ["root": 3, "filter": 3])
        _ = try bench.sql("insert into slimtad.ledger_step values (1, 0, 0, 0, 0, 0, 0, 2), (0, 0, 0, 0, 0, 0, 0, 1)")
        #expect(try await bench.reader.ledger().mismatched == 3)
        _ = try bench.sql(
            "insert into slimtad.removed_step select 'operator ' || n, 1 from generate_series(1, 40) as n")
        let names = try await bench.reader.ledger().removedBy
        #expect(names.count == Ledger.operatorLimit + 1 && names[Ledger.others] == 10 && names["root"] == 3)
        await bench.close()
    }

    /// Mail in all buckets and two tables, and one large message; clean.
    private func filled() async throws -> (LookingBench, large: Envelope) {
        let bench = try LookingBench()
        var stored: [LookingBench.Stored] = []
        for number in 0..<1100 {
            let envelope = bench.envelope(
                to: ["b@Example.org", "ü@other.test"], sender: number % 7 == 0 ? nil : "a@example.com",
                at: Int64(number))
            var state = EnvelopeState(of: envelope, due: LookingBench.due)
            (state.attempts, state.isHeld, state.isWarned) = (2, number % 4 == 0, number % 6 == 0)
            state.recipients[0].fate = number % 8 == 0 ? .expired : .pending
            state.history = [
                AttemptRecord(
                    time: .init(milliseconds: Int64(number)), result: .temporary, relay: "mx", tls: "", reply: "451",
                    recipient: 0, count: 1)
            ]
            stored.append(
                .init(envelope: envelope, state: number % 2 == 0 ? state : nil, part: number % 3 == 0 ? 24 : 1))
        }
        let large = bench.envelope(to: ["b@example.org"], bucket: 7, at: 5000)
        let rest = SpoolReference(id: bench.envelope().id, length: 300_000, crc32c: 1)
        stored.append(.init(envelope: large, rest: rest, part: 1))
        try await bench.store(stored)
        _ = try bench.sql(
            """
            insert into slimtad.message_01 values (\(rest.id.literal), 1, convert_to(repeat('x', 262144), 'UTF8')),
                (\(rest.id.literal), 2, convert_to(repeat('x', 37856), 'UTF8'));
            insert into slimtad.ledger_step select (flags & 4) / 4, sum(recipients), 0, 0, 0, 0, 0, 0
                from slimtad.item group by 1;
            """)
        return (bench, large)
    }

    @Test func nothingIsWrong() async throws {
        let (bench, _) = try await filled()
        let audit = try await bench.reader.audit()
        #expect(audit.isClean && audit.findings.isEmpty)
        #expect(audit.envelopes == 1101 && audit.spooled == 1)
        #expect(audit.octets == 1101 * 20 + 300_000)
        #expect(audit.ledger == (try await bench.reader.ledger()) && audit.running == audit.ledger)
        #expect(audit.ledger.submitted.expired > 0 && audit.ledger.notices.queued > 0)
        await bench.close()
    }

    /// A change to one row, and how the one finding begins.
    @Test(arguments: [
        ("update slimtad.item set recipients = 2", "-1 recipients are not accounted for"),
        ("update slimtad.item set delivered = 1", "ITEM: its row says something else than its records: how many"),
        ("update slimtad.item set received = 1", "ITEM: its row says something else than its records: received"),
        ("update slimtad.item set due = 1", "ITEM: its row says something else than its records: due"),
        ("update slimtad.item set tried = 1", "ITEM: its row says something else than its records: tried"),
        ("update slimtad.item set attempts = 1", "ITEM: its row says something else than its records: attempts"),
        ("update slimtad.item set flags = flags | 1", "ITEM: its row says something else than its records: held"),
        ("update slimtad.item set flags = flags | 2", "ITEM: its row says something else than its records: warned"),
        ("update slimtad.item set destination = 'x'", "ITEM: its row says something else than its records: destin"),
        ("update slimtad.item set pending = -1", "ITEM: its row says something else than its records: pending"),
        ("update slimtad.item set rest_crc = null", "ITEM: its row says something else than its records: rest"),
        ("update slimtad.item set envelope = '\\x02'", "ITEM: its records are unreadable"),
        ("update slimtad.item set state = '\\x02'", "ITEM: its records are unreadable"),
        ("update slimtad.item set octets = octets + 1", "ITEM: its message has 20 octets, not 21"),
        ("update slimtad.item set part = 2", "ITEM: its message is gone"),
        ("update slimtad.item set part = 25", "ITEM: its message is in no table"),
        ("update slimtad.item set message = rest", "ITEM: its message is gone"),
        ("update slimtad.item set rest = message", "ITEM: the rest of its message is gone"),
        ("insert into slimtad.loss select id, 'lost' from slimtad.item", "ITEM: lost"),
    ])
    func whatIsWrong(_ change: String, _ finding: String) async throws {
        let (bench, large) = try await filled()
        _ = try bench.sql("\(change) where id = \(large.id.literal)")
        let audit = try await bench.reader.audit()
        #expect(!audit.isClean)
        let texts = audit.findings.map { ($0.id == large.id ? "ITEM: " : "") + $0.text }
        #expect(texts.contains { $0.hasPrefix(finding) }, "\(texts)")
        #expect(texts.filter { $0.hasPrefix("ITEM") }.count <= 2 && texts.count <= 2, "\(texts)")
        await bench.close()
    }

    @Test(arguments: [
        ("delete from slimtad.message_01 where chunk = 2", "the rest of its message has 262144 octets, not 300000"),
        ("update slimtad.message_01 set chunk = 3 where chunk = 2", "the rest of its message has 300000 octets"),
        ("update slimtad.message_01 set octets = '\\x00' where chunk = 2", "the rest of its message has 262145"),
        ("delete from slimtad.message_01 where chunk > 0", "the rest of its message is gone"),
    ])
    func aRestThatIsNotWhole(_ change: String, _ finding: String) async throws {
        let (bench, large) = try await filled()
        _ = try bench.sql(change)
        let audit = try await bench.reader.audit()
        #expect(audit.findings.count == 1 && audit.findings[0].id == large.id)
        #expect(audit.findings[0].text.hasPrefix(finding), "\(audit.findings[0].text)")
        #expect(audit.spooled == 0 && audit.octets == 1100 * 20)
        await bench.close()
    }

    /// Emptying a table does not wait for our snapshot: what was moved out of it is sought where it is.
    @Test func movedWhileItIsAudited() async throws {
        let (bench, large) = try await filled()
        let audit = try await bench.rows.run { connection, _ in
            let looks = Mutex(0)
            var auditor = ClusterAuditor(connection, patience: .seconds(30)) {
                let look = looks.withLock { looks in
                    looks += 1
                    return looks
                }
                // Before the first page, so that no lock keeps it from being emptied; some of it has left as well.
                if look == 1 {
                    _ = try? bench.sql(
                        """
                        begin; delete from slimtad.item where bucket = 3 and id <> \(large.id.literal);
                        insert into slimtad.message_long select * from slimtad.message_01;
                        update slimtad.item set part = 24; commit; truncate slimtad.message_01
                        """)
                }
                return false
            }
            return try auditor.run()
        }
        #expect(audit.isClean && audit.findings.isEmpty)
        #expect(audit.envelopes == 1101 && audit.spooled == 1)
        #expect(try bench.sql("select count(*) from slimtad.message_01") == "0")
        await bench.close()
    }
}
