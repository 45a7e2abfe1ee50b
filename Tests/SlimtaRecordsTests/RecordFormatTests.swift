// What is written down, octet for octet, as the comments of the codecs tell it: queues of earlier versions are read by later
// ones. The octets were made from those comments, not by the codecs.

import NIOCore
import SlimtaMail
import SlimtaQueue
import SlimtaRecords
import StorageKit
import Testing

@Suite struct RecordFormatTests {
    private let id = QueueID(high: 0x018b_cfe5_6800_abcd, low: 0x1122_3344_5566_7788)

    private func hex(_ encode: (OutputBuffer) -> Void) -> String {
        let output = OutputBuffer()
        encode(output)
        return output.array.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }

    private func joined(_ text: String) -> String { text.filter { $0 != "\n" } }

    @Test func envelope() {
        let expected = """
            01fc0000000110000000cdab0068e5cf8b018877665544332211021000000001000000616578616d706c652e636f6d03
            1000000001000000626578616d706c652e6f7267030c00000002000000c3bc782e7465737404080000007b68e5cf8b01
            00000508000000a0eee6cf8b01000006010000000107010000000108090000003139322e302e322e31090e000000636c
            69656e742e6578616d706c650a0700000045534d545053410b07000000544c5376312e330c16000000544c535f414553
            5f3235365f47434d5f5348413338340d04000000757365720e0a0000007375626d697373696f6e0f1500000052656365
            697665643a2066726f6d20686572650d0a
            """
        let envelope = makeEnvelope(id, to: ["b@example.org", "\u{fc}@x.test"])
        #expect(hex { EnvelopeCodec.encode(envelope, due: someDue, tag: 1, into: $0) } == joined(expected))
    }

    @Test func state() {
        let expected = """
            04b00000000110000000cdab0068e5cf8b0188776655443322110204000000070000000308000000a0eee6cf8b010000
            040100000003050d0000000106000000323530206f6b6d7805050000000000000000050b000000020600000035353020
            6e6f0505000000030000000005050000000400000000062d000000a0eee6cf8b01000001010000000200000009000000
            544c5376312e332058020000006d78343530206c61746572060800000000d9e7cf8b010000
            """
        var state = EnvelopeState(
            id: id, attempts: 7, due: someDue, isHeld: true, isWarned: true,
            recipients: [
                RecipientState(fate: .delivered, reply: "250 ok", relay: "mx"), RecipientState(),
                RecipientState(fate: .bounced, reply: "550 no"), RecipientState(fate: .expired),
                RecipientState(fate: .removed),
            ])
        let record = AttemptRecord(
            time: someDue, result: .temporary, relay: "mx", tls: "TLSv1.3 X", reply: "450 later", recipient: 1, count: 2
        )
        var again = record
        again.time = someDue + .seconds(60)
        state.history = [record, again]
        #expect(hex { StateCodec.encode(state, tag: 4, into: $0) } == joined(expected))
    }

    @Test func heldByARule() {
        var state = EnvelopeState(id: id, due: someDue, recipients: [RecipientState()])
        state.hold(because: "at night")
        let plain = EnvelopeState(id: id, due: someDue, isHeld: true, recipients: [RecipientState()])
        let before = hex { StateCodec.encode(plain, tag: 4, into: $0) }.dropFirst(10)
        let after = hex { StateCodec.encode(state, tag: 4, into: $0) }.dropFirst(10)
        #expect(after == before + "0708000000" + "6174206e69676874")
    }

    @Test func spool() {
        let expected = """
            031c000000cdab0068e5cf8b018877665544332211e093040000000000efbeadde
            """
        let reference = SpoolReference(id: id, length: 300_000, crc32c: 0xdead_beef)
        #expect(hex { SpoolCodec.encode(reference, tag: 3, into: $0) } == joined(expected))
    }

    @Test func ending() {
        let expected = """
            0528000000cdab0068e5cf8b018877665544332211010000000200000003000000040000000a000000726f6f74
            """
        let ending = Ending(id: id, delivered: 1, bounced: 2, expired: 3, removed: 4, by: "root")
        #expect(
            hex { EndingCodec.encode(ending, RecipientCount(10, .submitted), tag: 5, into: $0) } == joined(expected))
    }
}
