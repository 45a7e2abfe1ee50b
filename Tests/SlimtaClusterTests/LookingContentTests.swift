// Envelopes, their messages and their states as they are read back, whole, moved and damaged.

import NIOCore
import SlimtaMail
import SlimtaQueue
import TestKit
import Testing

@testable import SlimtaCluster

@Suite("Looking: envelopes", .enabled(if: PostgresServer.isThere, "\(PostgresServer.missing)"))
struct LookingContentTests {
    @Test func whatIsStoredIsReadBack() async throws {
        let bench = try LookingBench()
        let fresh = bench.envelope(to: ["b@example.org", "ü@Example.NET"])
        let notice = bench.envelope(sender: nil)
        var state = EnvelopeState(of: notice, due: LookingBench.due + .seconds(7))
        (state.attempts, state.isHeld, state.heldReason) = (3, true, "rule")
        state.recipients[0].reply = "451 later"
        let sibling = bench.envelope()
        try await bench.store([
            .init(envelope: fresh, head: "the one", part: 7), .init(envelope: notice, state: state, head: "the other"),
            .init(envelope: sibling, head: "the one", part: 7, message: fresh.id, hasContent: false),
        ])
        for (envelope, expected, text) in [
            (fresh, EnvelopeState(of: fresh, due: LookingBench.due), "the one"), (notice, state, "the other"),
            (sibling, EnvelopeState(of: sibling, due: LookingBench.due), "the one"),
        ] {
            let stored = try await bench.reader.load(envelope.id)
            #expect(stored.envelope == envelope)
            #expect(stored.state == expected)
            #expect(String(buffer: stored.message.head) == text)
            #expect(stored.message.rest == nil && !stored.isRemains)
        }
        let never = bench.envelope().id
        let states = await bench.reader.states([notice.id, never, fresh.id, notice.id])
        #expect(
            states == [
                .success(state), .failure(.notFound), .success(EnvelopeState(of: fresh, due: LookingBench.due)),
                .success(state),
            ])
        #expect(await bench.reader.states([]).isEmpty)
        #expect(bench.told.events.isEmpty)
        await bench.close()
    }

    @Test func manyStates() async throws {
        let bench = try LookingBench()
        let envelopes = (0..<1203).map { bench.envelope(at: Int64($0)) }
        try await bench.store(envelopes.map { .init(envelope: $0) })
        let ids = envelopes.map(\.id).shuffled()
        let states = await bench.reader.states(ids)
        #expect(states.map { try? $0.get().id } == ids)
        await bench.close()
    }

    @Test func whatIsNotOurs() async throws {
        let bench = try LookingBench()
        let envelope = try await bench.store(bench.envelope(bucket: 3))
        let gone = bench.envelope(bucket: 3)
        bench.node.withLock { _ = $0.owned.remove(3) }
        #expect(await failure { () async throws(StorageError) in try await bench.reader.load(envelope.id) } == .lost)
        // What has gone another node has delivered.
        #expect(await failure { () async throws(StorageError) in try await bench.reader.load(gone.id) } == .lost)
        // States may be asked for of all nodes: a client asks whichever it reaches.
        let states = await bench.reader.states([envelope.id, gone.id])
        #expect(try states[0].get().id == envelope.id)
        #expect(states[1] == .failure(.notFound))
        #expect(await bench.reader.remains(of: envelope.id) == nil)
        // A page is of all nodes.
        #expect(try await bench.reader.page(after: nil, count: 5).envelopes.map(\.envelope.id) == [envelope.id])
        bench.node.withLock { $0.phase = .closed }
        #expect(await failure { () async throws(StorageError) in try await bench.reader.load(envelope.id) } == .closed)
        #expect(await bench.reader.states([envelope.id]) == [.failure(.closed)])
        await bench.close()
    }

    /// The row is read, the content is moved before it is read: it is found where it is now.
    @Test func movedWhileItIsRead() async throws {
        let bench = try LookingBench()
        let envelope = bench.envelope()
        try await bench.store([.init(envelope: envelope, head: "moved", part: 3)])
        async let moving: Void = bench.rows.run { connection, deadline in
            try connection.execute(
                "begin; lock table slimtad.message_03 in access exclusive mode", by: deadline)
        }
        try await moving
        async let loaded = bench.reader.load(envelope.id)
        #expect(try await bench.areWaiting(1))
        try await bench.rows.run { connection, deadline in
            try connection.execute(
                """
                insert into slimtad.message_long select * from slimtad.message_03; update slimtad.item set part = 24;
                truncate slimtad.message_03; commit
                """, by: deadline)
        }
        #expect(String(buffer: try await loaded.message.head) == "moved")
        #expect(bench.told.events.isEmpty)
        await bench.close()
    }

    @Test func aMessageThatIsGone() async throws {
        let bench = try LookingBench()
        let envelope = bench.envelope(to: ["b@example.org", "c@example.org"])
        try await bench.store([.init(envelope: envelope, hasContent: false)])
        let text = "its message is gone: from a@example.com to b@example.org and 1 more"
        for _ in 0..<2 {
            #expect(
                await failure { () async throws(StorageError) in try await bench.reader.load(envelope.id) }
                    == .damaged(text))
        }
        #expect(bench.told.events == [.damaged(id: envelope.id, description: text)])
        #expect(
            try bench.sql("select id, text from slimtad.loss") == "\(hyphenated(envelope.id))|\(envelope.id): \(text)")
        #expect(bench.reader.losses.texts == ["\(envelope.id): \(text)"])
        let remains = try #require(await bench.reader.remains(of: envelope.id))
        #expect(remains.envelope == envelope && remains.isRemains && remains.message.size == 0)
        #expect(remains.state == EnvelopeState(of: envelope, due: LookingBench.due))
        // Another node's finding is seen with the next look at the table.
        let other = bench.envelope().id
        _ = try bench.sql("insert into slimtad.loss values (\(other.literal), 'found elsewhere')")
        try await bench.rows.run { [losses = bench.reader.losses] connection, deadline in
            try losses.refresh(connection, deadline)
        }
        #expect(Set(bench.reader.losses.texts) == ["\(envelope.id): \(text)", "found elsewhere"])
        let acknowledged = try await bench.reader.acknowledgeLosses()
        #expect(Set(acknowledged) == ["\(envelope.id): \(text)", "found elsewhere"])
        #expect(bench.reader.losses.texts.isEmpty)
        #expect(try bench.sql("select count(*) from slimtad.loss") == "0")
        #expect(try await bench.reader.acknowledgeLosses().isEmpty)
        // Who has acknowledged it is not told again.
        _ = await failure { () async throws(StorageError) in try await bench.reader.load(envelope.id) }
        #expect(bench.told.events.count == 1 && bench.reader.losses.texts.isEmpty)
        await bench.close()
    }

    /// `change` to the row of an envelope with two recipients; whether its state is known, and what is left of it.
    @Test(arguments: [
        ("envelope = '\\x01'", false, false), ("state = '\\x0501'", true, true),
        ("state = '\\x0501', delivered = 1", true, false),
        ("octets = octets + 1", true, true), ("part = 25", true, true), ("part = 23", true, true),
        ("envelope = (select envelope from slimtad.item where destination = 'other.test')", false, false),
    ])
    func damagedRecords(_ change: String, hasEnvelope: Bool, remains: Bool) async throws {
        let bench = try LookingBench()
        let envelope = try await bench.store(bench.envelope(to: ["b@example.org", "c@example.org"]))
        try await bench.store(bench.envelope(to: ["x@other.test"]))
        _ = try bench.sql("update slimtad.item set \(change) where id = \(envelope.id.literal)")
        let error = await failure { () async throws(StorageError) in try await bench.reader.load(envelope.id) }
        guard case .damaged(let text) = error else { return #expect(error == .damaged("")) }
        #expect(bench.told.events == [.damaged(id: envelope.id, description: text)])
        #expect(bench.reader.losses.texts == ["\(envelope.id): \(text)"])
        #expect((await bench.reader.remains(of: envelope.id) != nil) == remains)
        #expect(text.contains("from a@example.com") == remains)
        if change.hasPrefix("envelope") || change.hasPrefix("state") {
            let state = await bench.reader.states([envelope.id])[0]
            if case .failure(.damaged) = state {} else { #expect(state == .failure(.damaged(""))) }
        }
        await bench.close()
    }

    private func hyphenated(_ id: QueueID) -> String {
        let text = String(describing: id)
        var parts: [Substring] = []
        var rest = Substring(text)
        for length in [8, 4, 4, 4, 12] {
            parts.append(rest.prefix(length))
            rest = rest.dropFirst(length)
        }
        return parts.joined(separator: "-")
    }
}
