// Receipts as they are read, with the ends of their envelopes.

import SlimtaMail
import SlimtaQueue
import SlimtaRecords
import TestKit
import Testing

@testable import SlimtaCluster

@Suite("Looking: receipts", .enabled(if: PostgresServer.isThere, "\(PostgresServer.missing)"))
struct LookingReceiptTests {
    private static let insert = PostgresStatement(
        name: "test_receipt", sql: "insert into slimtad.receipt values ($1, $2, $3, $4, $5, $6)",
        parameters: [.bytea, .bytea, .uuid, .int8, .int4, .bytea])
    private static let insertPart = PostgresStatement(
        name: "test_part", sql: "insert into slimtad.receipt_part values ($1, $2, $3)",
        parameters: [.uuid, .bytea, .bytea])

    private static func octets(_ ending: Ending) -> [UInt8] {
        let output = OutputBuffer()
        EndedCodec.encode(ending, into: output)
        return output.array
    }

    private func receipt(
        _ number: UInt64, of envelopes: [Envelope], expires: Timestamp? = .now() + .seconds(1000)
    ) -> Receipt {
        Receipt(
            key: .init(1 << 63, number, 7, .max), owner: .init(high: 1, low: 2), fingerprint: .init(1, 2, 3, 4),
            id: envelopes[0].id, answer: Array("answer".utf8), expires: expires
        ).of(envelopes)
    }

    private func store(_ receipt: Receipt, _ endings: [Ending], _ bench: LookingBench) async throws {
        try await bench.rows.run { connection, deadline in
            let record = ReceiptRecord(receipt).octets
            var batch = PostgresBatch()
            batch.run(
                Self.insert,
                [
                    .bytea(receipt.key.octets), .bytea(receipt.owner.octets), .uuid(receipt.id),
                    .int8(receipt.expires?.milliseconds), .int4(Int32(record.count)), .bytea(record),
                ])
            for part in receipt.envelopes {
                let ending = endings.first { $0.id == part.id }
                batch.run(
                    Self.insertPart,
                    [.uuid(part.id), .bytea(receipt.key.octets), .bytea(ending.map(Self.octets))])
            }
            _ = try connection.run(batch, by: deadline)
        }
    }

    @Test func foundByKeyAndByID() async throws {
        let bench = try LookingBench()
        let envelopes = [bench.envelope(to: ["a@x.test", "b@x.test"]), bench.envelope(to: ["ü@y.test"])]
        let left = receipt(1, of: envelopes)
        let forever = receipt(2, of: [bench.envelope()], expires: nil)
        let expired = receipt(3, of: [bench.envelope()], expires: .now() + .milliseconds(-1))
        for one in [left, forever, expired] { try await store(one, [], bench) }
        for one in [left, forever] {
            #expect(try await bench.reader.receipt(for: one.key) == one)
            #expect(try await bench.reader.receipt(of: one.id) == one)
        }
        #expect(try await bench.reader.receipt(for: expired.key) == nil)
        #expect(try await bench.reader.receipt(of: expired.id) == nil)
        #expect(try await bench.reader.receipt(of: envelopes[1].id) == nil)
        #expect(try await bench.reader.receipt(for: .init(0, 0, 0, 0)) == nil)
        bench.node.withLock { $0.phase = .closed }
        #expect(
            await failure { () async throws(StorageError) in try await bench.reader.receipt(for: left.key) } == .closed)
        await bench.close()
    }

    @Test func howItsEnvelopesEnded() async throws {
        let bench = try LookingBench()
        let envelopes = [
            bench.envelope(to: ["a@x.test", "b@x.test"]), bench.envelope(),
            bench.envelope(to: ["c@x.test", "d@x.test"]),
        ]
        var state = EnvelopeState(of: envelopes[0], due: LookingBench.due)
        state.recipients[0] = RecipientState(fate: .delivered, reply: "250 ok", relay: "mx")
        state.recipients[1] = RecipientState(fate: .bounced, reply: String(repeating: "ü", count: 300), relay: "mx")
        let endings = [Ending(of: state), Ending(id: envelopes[2].id, removed: 2, by: "root")]
        var left = receipt(1, of: envelopes)
        try await store(left, endings, bench)
        for ending in endings { left.note(ending) }
        let found = try #require(try await bench.reader.receipt(for: left.key))
        #expect(found == left)
        #expect(found.envelopes[0].recipients.map(\.fate) == [.delivered, .bounced])
        #expect(found.envelopes[1].fates == nil)
        #expect(found.envelopes[2].recipients.map(\.fate) == [.removed, .removed])
        _ = try bench.sql("update slimtad.receipt_part set ended = '\\x01' where ended is not null")
        let error = await failure { () async throws(StorageError) in try await bench.reader.receipt(for: left.key) }
        #expect(error == .damaged("number"))
        await bench.close()
    }

    @Test func endings() throws {
        let id = QueueID(at: .now())
        var ending = Ending(id: id, delivered: 1, bounced: 2, expired: 3, removed: 1 << 31)
        for recipients in [
            [], [RecipientState(fate: .expired, reply: "451 später")],
            [RecipientState(), RecipientState(fate: .removed)],
        ] {
            ending.recipients = recipients
            let octets = Self.octets(ending)
            let read = try octets.withUnsafeBytes { octets in try EndedCodec.decode(octets, of: id) }
            #expect(read == ending)
            // Cut off anywhere it is none, but where it ends between two recipients.
            for count in 0..<16 {
                #expect(throws: FormatError.self) {
                    try octets.prefix(count).withUnsafeBytes { octets in try EndedCodec.decode(octets, of: id) }
                }
            }
        }
    }
}
