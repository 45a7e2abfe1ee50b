// A queue is carried from files into PostgreSQL and back: all that it has been through goes along, and wherever that is cut off
// each message is delivered by one side, and both ledgers balance.

import NIOCore
import SlimtaMail
import SlimtaQueue
import SlimtaRecords
import StorageKit
import Synchronization
import TestKit
import Testing

@testable import SlimtaCluster
@testable import SlimtaStorage

@Suite(.enabled(if: PostgresServer.isThere, Comment(rawValue: PostgresServer.missing)), .serialized)
struct QueueMoveTests {
    /// An id as a local queue makes them.
    private static func movable(at milliseconds: Int64) -> QueueID {
        QueueID(at: Timestamp(milliseconds: milliseconds), bucket: .random(in: 0..<QueueBuckets.none))
    }

    /// Envelopes of all kinds, and receipts: of one that is queued, of one that has ended.
    private static func fill(_ bench: MoveBench) async throws {
        let local = try await bench.openLocal()
        func envelope(_ number: Int64, to recipients: [String] = ["b@example.org"], sender: String? = "a@example.com")
            -> Envelope
        {
            var envelope = makeEnvelope(
                Self.movable(at: 1_700_000_000_000 + number), to: recipients, sender: sender)
            envelope.received = Timestamp(milliseconds: 1_700_000_000_000 + number)
            return envelope
        }
        func accept(_ envelopes: [Envelope], _ text: String, rest: (any SpooledBody)? = nil, receipt: Int? = nil)
            async throws
        {
            try await local.commit(
                QueueCommit(
                    accepted: envelopes.map { .init($0, due: someDue) },
                    message: Message(head: ByteBuffer(string: text), rest: rest),
                    receipts: receipt.map { [makeReceipt($0, of: envelopes)] } ?? []))
        }
        // As many as need several groups.
        for number in 0..<450 { try await accept([envelope(Int64(number))], "Subject: \(number)\r\n\r\nx\r\n") }
        var partly = envelope(1000, to: ["a@x.test", "b@x.test", "c@y.test", "d@z.test"])
        // Of the first group that comes out of a database.
        partly.id = QueueID(at: partly.id.time, bucket: 16)
        try await accept([partly], "partly\r\n", receipt: 1)
        var state = EnvelopeState(of: partly, due: someDue + .seconds(77))
        (state.attempts, state.isWarned) = (2, true)
        state.recipients[1] = RecipientState(fate: .delivered, reply: "250 2.0.0 ok", relay: "mx.x.test")
        state.recipients[2] = RecipientState(fate: .bounced, reply: "550 5.1.1 no", relay: "mx.y.test")
        state.history = [
            AttemptRecord(
                time: Timestamp(milliseconds: 1_700_000_050_000), result: .temporary, relay: "mx.x.test",
                tls: "TLSv1.3", reply: "451 4.3.0 later", recipient: 0, count: 2)
        ]
        let held = envelope(1001)
        try await accept([held], "held\r\n")
        var heldState = EnvelopeState(of: held, due: someDue)
        heldState.hold(because: "a rule")
        try await local.commit(QueueCommit(states: [state, heldState]))
        try await accept([envelope(1002, sender: nil)], "a notice\r\n")
        let shared = envelope(1003)
        var other = envelope(1003, to: ["z@other.test"])
        other.received = shared.received
        try await accept([shared, other], "of both\r\n")
        let large = envelope(1004)
        try await accept([large], "Subject: large\r\n\r\n", rest: try await Self.rest(local, large.id, 700_001))
        let ended = envelope(1005)
        try await accept([ended], "ended\r\n", receipt: 2)
        var endedState = EnvelopeState(of: ended, due: someDue)
        endedState.recipients[0] = RecipientState(fate: .delivered, reply: "250 ok", relay: "mx")
        try await local.commit(QueueCommit(ended: [Ending(of: endedState)]))
        await local.close()
    }

    private static func rest(
        _ storage: any QueueStorage, _ id: QueueID, _ size: Int
    ) async throws -> any SpooledBody {
        let writer = storage.beginSpool(id)
        let octets = ByteBuffer(bytes: (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 / 251) })
        let refusal = await withCheckedContinuation { continuation in
            writer.append(octets) { continuation.resume(returning: $0) }
        }
        #expect(refusal == nil)
        let body: Result<any SpooledBody, StorageError> = await withCheckedContinuation { continuation in
            writer.finish { continuation.resume(returning: $0) }
        }
        return try body.get()
    }

    /// What both receipts say: one envelope is queued, the other has been delivered.
    private static func checkReceipts(_ storage: any QueueBackend) async throws {
        let queued = try #require(try await storage.receipt(for: makeReceipt(1).key))
        #expect(queued.envelopes.count == 1 && queued.envelopes[0].fates == nil)
        let ended = try #require(try await storage.receipt(for: makeReceipt(2).key))
        #expect(ended.envelopes[0].fates?.delivered == 1 && ended.envelopes[0].recipients[0].reply == "250 ok")
    }

    @Test func thereAndBack() async throws {
        let bench = try MoveBench()
        try await Self.fill(bench)
        let before = try await bench.local()
        #expect(before.all.count == 456 && Set(before.all.keys.map(\.bucket)).contains { $0 > 15 })

        let there = try await bench.move(.intoDatabase)
        #expect(there.envelopes == 456 && there.receipts == 2 && there.left == 0 && !there.isInterrupted)
        // Nodes that have their buckets already are told of each.
        #expect(try bench.place.server.sql("select count(*) from slimtad.inbox", in: bench.place.name) == "456")
        let empty = try await bench.local()
        #expect(empty.all.isEmpty && empty.ledger.total.queued == 0)
        let shared = try await bench.shared { node in try await Self.checkReceipts(node) }
        #expect(shared.all == before.all)
        #expect(empty.ledger.together(with: shared.ledger) == before.ledger.together(with: Ledger(since: .now())))
        // The message of two is there once.
        #expect(
            try bench.place.server.sql("select count(distinct message) from slimtad.item", in: bench.place.name)
                == "455")

        let back = try await bench.move(.outOfDatabase)
        #expect(back.envelopes == 456 && back.receipts == 2 && back.left == 0)
        let after = try await bench.local()
        #expect(after.all == before.all && after.ledger == before.ledger)
        let none = try await bench.shared()
        #expect(none.all.isEmpty && none.ledger.total.accepted == 0)
        let local = try await bench.openLocal()
        try await Self.checkReceipts(local)
        await local.close()
    }

    /// What ended there is told in the receipt there.
    @Test func whatEndsThere() async throws {
        let bench = try MoveBench()
        try await Self.fill(bench)
        _ = try await bench.move(.intoDatabase)
        let found = try await bench.shared { node in
            let id = try #require(try await node.receipt(for: makeReceipt(1).key)).envelopes[0].id
            var state = try await node.states([id])[0].get()
            for index in state.pending { state.recipients[index].fate = .delivered }
            try await node.commit(QueueCommit(ended: [Ending(of: state)]))
            let receipt = try #require(try await node.receipt(for: makeReceipt(1).key))
            #expect(receipt.envelopes[0].fates?.delivered == 3 && receipt.envelopes[0].fates?.bounced == 1)
        }
        #expect(found.ledger.isBalanced && found.all.count == 455)
    }

    static let into: [MoveFault] =
        [
            MoveFault(statement: "move_receipts_in", cameThrough: true),
            MoveFault(statement: "move_receipts_in", cameThrough: false),
            MoveFault(statement: "carried_in", cameThrough: true),
            MoveFault(statement: "carried_in", cameThrough: false), MoveFault(statement: "set_down", cameThrough: true),
            MoveFault(statement: "set_down", cameThrough: false),
        ] + (0..<4).flatMap { [MoveFault(commit: $0, cameThrough: true), MoveFault(commit: $0, cameThrough: false)] }

    @Test(arguments: into) func cutOffOnTheWayIn(_ fault: MoveFault) async throws {
        let bench = try MoveBench()
        try await Self.fill(bench)
        let before = try await bench.local()
        await #expect(throws: MoveError.self) { _ = try await bench.move(.intoDatabase, fault) }
        let files = try await bench.local()
        let shared = try await bench.shared()
        #expect(Set(files.all.keys).isDisjoint(with: shared.all.keys), "none is delivered by both")
        #expect(files.ledger.isBalanced && shared.ledger.isBalanced)
        _ = try await bench.move(.intoDatabase)
        let end = try await bench.shared { node in try await Self.checkReceipts(node) }
        let empty = try await bench.local()
        #expect(end.all == before.all && empty.all.isEmpty)
        #expect(empty.ledger.together(with: end.ledger) == before.ledger.together(with: Ledger(since: .now())))
    }

    static let out: [MoveFault] =
        [
            MoveFault(statement: "take_up", cameThrough: true), MoveFault(statement: "take_up", cameThrough: false),
            MoveFault(statement: "departed", cameThrough: true), MoveFault(statement: "departed", cameThrough: false),
            MoveFault(statement: "forgotten", cameThrough: true), MoveFault(statement: "forgotten", cameThrough: false),
        ]
        + [0, 1, 2, 3, 201, 203].flatMap {
            [MoveFault(commit: $0, cameThrough: true), MoveFault(commit: $0, cameThrough: false)]
        }

    @Test(arguments: out) func cutOffOnTheWayOut(_ fault: MoveFault) async throws {
        let bench = try MoveBench()
        try await Self.fill(bench)
        let before = try await bench.local()
        _ = try await bench.move(.intoDatabase)
        await #expect(throws: MoveError.self) { _ = try await bench.move(.outOfDatabase, fault) }
        let files = try await bench.local()
        let shared = try await bench.shared()
        #expect(Set(files.all.keys).isDisjoint(with: shared.all.keys), "none is delivered by both")
        #expect(files.ledger.isBalanced && shared.ledger.isBalanced)
        // It may go on, or turn back.
        if fault.cameThrough {
            _ = try await bench.move(.outOfDatabase)
            let (end, none) = (try await bench.local(), try await bench.shared())
            #expect(end.all == before.all && none.all.isEmpty && end.ledger == before.ledger)
        } else {
            _ = try await bench.move(.intoDatabase)
            let (none, end) = (try await bench.local(), try await bench.shared())
            for (id, seen) in before.all { #expect(end.all[id] == seen) }
            #expect(end.all.count == before.all.count && none.all.isEmpty)
            #expect(none.ledger.together(with: end.ledger) == before.ledger.together(with: Ledger(since: .now())))
        }
    }

    @Test func stopsBetweenGroups() async throws {
        let bench = try MoveBench()
        try await Self.fill(bench)
        let before = try await bench.local()
        let first = try await bench.move(.intoDatabase, stopsBehind: 0)
        #expect(first.isInterrupted && first.envelopes == 200 && first.left == 256)
        let (files, shared) = (try await bench.local(), try await bench.shared())
        #expect(files.all.count == 256 && shared.all.count == 200, "nothing is on its way")
        #expect(!(try await bench.move(.intoDatabase)).isInterrupted)
        let stopped = try await bench.move(.outOfDatabase, stopsBehind: 1)
        #expect(stopped.isInterrupted && stopped.left == 256)
        #expect(try await bench.move(.outOfDatabase).left == 0)
        #expect(try await bench.local().all == before.all)
    }

    /// Out of the database only when nobody works with it; into it beside those who do.
    @Test func othersAtWork() async throws {
        let bench = try MoveBench()
        try await Self.fill(bench)
        let node = try await bench.place.open(node: "other")
        let told = Mutex<[QueueID]>([])
        try await node.start { events in
            for case .acquired(let summaries) in events { told.withLock { $0 += summaries.map(\.id) } }
        }
        #expect(try await bench.move(.intoDatabase).left == 0)
        // Whatever bucket their ids name: one of the database's own is meant.
        for _ in 0..<6000 where told.withLock({ $0.count }) < 456 { try await Task.sleep(for: .milliseconds(10)) }
        #expect(told.withLock { $0.count } == 456 && Set(told.withLock { $0 }).count == 456)
        do {
            _ = try await bench.move(.outOfDatabase)
            Issue.record("it was carried away under a node's hands")
        } catch MoveError.others(let text) {
            #expect(text.hasPrefix("node other works with the queue"))
        }
        // Of the one that is refused nothing is left that would keep slimtad from starting.
        #expect(bench.movesBegun == 1)
        await node.close()
        #expect(try await bench.move(.outOfDatabase).left == 0)
    }

    /// A database that goes away before anything is carried leaves nothing begun either.
    @Test func awayAtTheBeginning() async throws {
        let bench = try MoveBench()
        await #expect(throws: MoveError.self) {
            _ = try await bench.move(.intoDatabase, MoveFault(statement: "move_counts", cameThrough: false))
        }
        await #expect(throws: MoveError.self) {
            _ = try await bench.move(.outOfDatabase, MoveFault(statement: "move_others", cameThrough: false))
        }
        #expect(bench.movesBegun == 0)
    }

    /// What has an id of the local queue of `when_away` stays, and its receipt beside it.
    @Test func whatIsLocalStays() async throws {
        let bench = try MoveBench()
        let local = try await bench.openLocal()
        let stays = makeEnvelope(QueueID(at: .now(), bucket: FallbackStorage.bucket))
        let goes = makeEnvelope(QueueID(at: .now(), bucket: 7))
        for (number, envelopes) in [[stays], [goes]].enumerated() {
            try await local.commit(
                QueueCommit(
                    accepted: envelopes.map { .init($0, due: someDue) },
                    message: Message(head: ByteBuffer(string: "\(number)\r\n")),
                    receipts: [makeReceipt(number + 1, of: envelopes)]))
        }
        await local.close()
        for moved in [1, 0] {
            let result = try await bench.move(.intoDatabase)
            #expect(result.envelopes == moved && result.receipts == moved && result.left == 1 && !result.isInterrupted)
            #expect(result.failed.map(\.id) == [stays.id])
        }
        let again = try await bench.openLocal()
        #expect(try await again.receipt(of: stays.id)?.key == makeReceipt(1).key)
        #expect(try await again.receipt(for: makeReceipt(2).key) == nil)
        await again.close()
        let shared = try await bench.shared { node in
            let (none, its) = (try await node.receipt(for: makeReceipt(1).key), try await node.receipt(of: goes.id))
            #expect(none == nil && its?.key == makeReceipt(2).key)
        }
        #expect(shared.all.keys.sorted() == [goes.id])
    }

    /// A copy that was made before a move was cut off, and damaged since, is made again of the one in the database.
    @Test(arguments: [true, false]) func damagedCopy(_ isMessage: Bool) async throws {
        let bench = try MoveBench()
        try await Self.fill(bench)
        let before = try await bench.local()
        _ = try await bench.move(.intoDatabase)
        await #expect(throws: MoveError.self) {
            _ = try await bench.move(.outOfDatabase, MoveFault(statement: "departed", cameThrough: false))
        }
        await (try await bench.openLocal()).close()
        let carried = try bench.place.server.sql(
            "select replace(id::text, '-', '') from slimtad.item where bucket < 0", in: bench.place.name)
        let harmed = try #require(
            carried.split(separator: "\n").compactMap { QueueID($0).flatMap { before.all[$0] } }
                .first { isMessage ? $0.envelope.recipients.count == 1 : $0.state.attempts == 2 })
        try bench.damage(isMessage ? String(buffer: harmed.content) : "451 4.3.0 later")
        let damaged = try await bench.openLocal()
        // Without its message it cannot be read; without its state it is as it was accepted.
        let found = try? await damaged.load(harmed.envelope.id)
        #expect(isMessage ? found == nil : found?.state.attempts == 0)
        damaged.halt()

        let result = try await bench.move(.outOfDatabase)
        #expect(result.failed.isEmpty && result.left == 0)
        let end = try await bench.openLocal()
        #expect(try await MoveBench.all(end) == before.all)
        await end.close()
        #expect(try await bench.shared().all.isEmpty)
    }

    /// What cannot be read of the receipts in the database stays there, and keeps nothing else.
    @Test func damagedReceipt() async throws {
        let bench = try MoveBench()
        try await Self.fill(bench)
        _ = try await bench.move(.intoDatabase)
        _ = try bench.place.server.sql(
            "update slimtad.receipt set record = 'x' where key = (select key from slimtad.receipt order by key limit 1)",
            in: bench.place.name)
        for moved in [(456, 1), (0, 0)] {
            let result = try await bench.move(.outOfDatabase)
            #expect(result.envelopes == moved.0 && result.receipts == moved.1 && result.left == 0)
            #expect(result.failed.isEmpty && !result.isInterrupted)
            let key = "0000000000000001" + "0000000000000001" + "0000000000000002" + "ffffffffffffffff"
            #expect(result.failedReceipts.map(\.key) == [key])
        }
    }

    /// Who is declared dead while it carries does no harm.
    @Test func declaredDead() async throws {
        let bench = try MoveBench()
        try await Self.fill(bench)
        let place = bench.place
        let before = try await bench.local()
        let local = try await bench.openLocal()
        do {
            _ = try await QueueMove.run(
                .intoDatabase, local, bench.options,
                isStopped: {
                    _ = try? place.server.sql(
                        """
                        update slimtad.node set incarnation = incarnation + 1, is_gone = true where name = 'carrier';
                        update slimtad.fence set incarnation = incarnation + 1 where node = 'carrier'
                        """, in: place.name)
                    return false
                })
            Issue.record("it went on")
        } catch MoveError.fenced {
        }
        local.halt()
        _ = try await bench.move(.intoDatabase)
        #expect(try await bench.shared().all == before.all)
    }
}
