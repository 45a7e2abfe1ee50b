// Receipts and outcomes: what is written is read back, and what was changed on the way is an error or means something else.

import NIOCore
import SlimtaMail
import SlimtaQueue
import SlimtaRecords
import StorageKit
import Testing

@Suite struct ReceiptCodecTests {
    private static var full: Receipt {
        var receipt = makeReceipt(1, of: [makeEnvelope(to: ["ü@x.test", "b@y.test"]), makeEnvelope()])
        var state = EnvelopeState(
            of: makeEnvelope(receipt.envelopes[0].id, to: ["ü@x.test", "b@y.test"]), due: someDue)
        state.recipients[0] = RecipientState(fate: .delivered, reply: "250 2.0.0 schön", relay: "mx")
        state.recipients[1] = RecipientState(fate: .bounced, reply: String(repeating: "é", count: 150))
        receipt.note(Ending(of: state))
        return receipt
    }

    @Test func roundTrip() throws {
        #expect(Self.full.envelopes[0].recipients[1].reply.utf8.count == Receipt.replyLimit)
        for receipt in [Self.full, makeReceipt(2, expires: nil, answer: "")] {
            let record = ReceiptRecord(receipt)
            #expect(try record.receipt() == receipt)
            let again = try record.octets.withUnsafeBytes { try ReceiptRecord($0) }
            #expect(again.octets == record.octets && again.outline.envelopes == receipt.envelopes.map(\.id))
            #expect(again.outline.expires == receipt.expires && again.outline.owner == receipt.owner)
        }
    }

    @Test func anOutcomeIsReadBack() throws {
        let id = QueueID(high: 1, low: 2)
        var ending = Ending(id: id, delivered: 1, bounced: 1)
        ending.recipients = [
            RecipientState(fate: .delivered, reply: "250 ok"), RecipientState(fate: .bounced, reply: "550 é"),
        ]
        let output = OutputBuffer()
        OutcomeCodec.encode(ending, tag: 10, into: output)
        var cursor = InputCursor(output.octets)
        let field = try #require(try cursor.field())
        let (found, recipients) = try OutcomeCodec.decode(field)
        #expect(field.tag == 10 && found == id && recipients == ending.recipients)
        withExtendedLifetime(output) {}
    }

    /// Whatever is cut off or changed: an error, or something else; not a trap.
    @Test func hostileReceiptsAreErrors() {
        let octets = ReceiptRecord(Self.full).octets
        func read(_ octets: [UInt8]) {
            octets.withUnsafeBytes { octets in
                _ = try? ReceiptCodec.decode(octets)
                _ = try? OutcomeCodec.decode(Field(tag: 10, value: octets))
            }
        }
        for length in octets.indices { read(Array(octets.prefix(length))) }
        for bit in 0..<(octets.count * 8) {
            var changed = octets
            changed[bit / 8] ^= 1 << UInt8(bit % 8)
            read(changed)
        }
        for offset in 0..<(octets.count - 4) {
            var changed = octets
            changed.replaceSubrange(offset..<(offset + 4), with: [255, 255, 255, 255])
            read(changed)
        }
    }
}
