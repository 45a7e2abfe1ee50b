// The encoders: what they write is read back, and what was changed on the way is noticed or means the same; never a trap.

import NIOCore
import SlimtaMail
import SlimtaQueue
import SlimtaRecords
import StorageKit
import TestKit
import Testing

@Suite struct CodecTests {
    /// Copies octets to where they are read from: reads behind them would then be found by a sanitizer.
    private func with<Result>(_ octets: [UInt8], _ body: (UnsafeRawBufferPointer) throws -> Result) rethrows -> Result {
        try octets.withUnsafeBytes(body)
    }

    private func encoded(_ encode: (OutputBuffer) -> Void) -> [UInt8] {
        let output = OutputBuffer()
        encode(output)
        return output.array
    }

    static let plain = Envelope(
        id: QueueID(high: 1, low: 2), sender: nil, recipients: [Mailbox(localPart: "\"a@b\"", domain: "[192.0.2.1]")],
        received: Timestamp(milliseconds: 0),
        client: ClientInfo(address: "", name: "", protocolWord: ""))

    /// With whom the sender has named instead of some recipients, and when it is told of some.
    static let forwarded: Envelope = {
        var envelope = makeEnvelope(to: ["a@x.test", "b@x.test", "\"c d\"@x.test"])
        envelope.setOriginal(Mailbox(localPart: "team", domain: "x.test"), of: envelope.recipients[0])
        envelope.setOriginal(Mailbox(localPart: "\"t@t\"", domain: "\u{FC}.test"), of: envelope.recipients[2])
        envelope.setNotifications([], of: envelope.recipients[1])
        envelope.setNotifications([.success, .delay], of: envelope.recipients[2])
        envelope.isTLSReport = true
        return envelope
    }()

    @Test(arguments: [plain, makeEnvelope(to: (0..<20).map { "r\($0)@d\($0 / 3).example" }), forwarded])
    func envelopeRoundTrip(_ envelope: Envelope) throws {
        let octets = encoded { EnvelopeCodec.encode(envelope, due: someDue, tag: 1, into: $0) }
        try with(Array(octets.dropFirst(5))) { octets in
            let (decoded, due) = try EnvelopeCodec.decode(octets)
            #expect(decoded == envelope)
            #expect(due == someDue)
        }
    }

    @Test func stateRoundTrip() throws {
        var state = EnvelopeState(of: makeEnvelope(to: ["a@b", "c@d", "e@f", "g@h", "i@j"]), due: someDue)
        for (index, fate) in [.delivered, .pending, .bounced, .expired, .removed].enumerated()
            as EnumeratedSequence<[RecipientState.Fate]>
        {
            state.recipients[index] = RecipientState(fate: fate, reply: "4\(index)0 later é", relay: "mx\(index)")
        }
        (state.attempts, state.isHeld, state.isWarned) = (.max, true, true)
        let record = AttemptRecord(
            time: someDue, result: .temporary, relay: "mx[192.0.2.1]:25", tls: "TLSv1.3 X", reply: "450 later é",
            recipient: 1, count: 2)
        var again = record
        again.time = someDue + .seconds(60)
        var other = again
        (other.result, other.tls, other.relay, other.reply) = (.delivered, "", "", "")
        state.history = [record, again, other, record, again]
        let octets = encoded { StateCodec.encode(state, tag: 4, into: $0) }
        #expect(try with(Array(octets.dropFirst(5))) { try StateCodec.decode($0) } == state)
    }

    /// Whatever is cut off or changed: an error, or something else; not a trap.
    @Test func hostileRecordsAreErrors() {
        let envelope = encoded { EnvelopeCodec.encode(makeEnvelope(), due: someDue, tag: 1, into: $0) }
        let state = encoded {
            var state = EnvelopeState(of: makeEnvelope(), due: someDue)
            state.history = [
                AttemptRecord(
                    time: someDue, result: .permanent, relay: "mx", tls: "T", reply: "5", recipient: 0, count: 1)
            ]
            StateCodec.encode(state, tag: 1, into: $0)
        }
        func readAll(_ octets: [UInt8]) {
            with(octets) { octets in
                _ = try? EnvelopeCodec.decode(octets)
                _ = try? StateCodec.decode(octets)
                let field = Field(tag: 1, value: octets)
                _ = try? SpoolCodec.decode(field)
                _ = try? EndingCodec.decode(field)
            }
        }
        for record in [Array(envelope.dropFirst(5)), Array(state.dropFirst(5))] {
            for length in 0...record.count { readAll(Array(record.prefix(length))) }
            for bit in 0..<(record.count * 8) {
                var changed = record
                changed[bit / 8] ^= 1 << (bit % 8)
                readAll(changed)
            }
            for offset in 0..<max(0, record.count - 4) {
                var changed = record
                changed.replaceSubrange(offset..<(offset + 4), with: [255, 255, 255, 255])
                readAll(changed)
            }
        }
    }

    @Test func crc32cIsTheKnownOne() {
        // RFC 3720 appendix B.4.
        let vectors: [([UInt8], UInt32)] = [
            ([UInt8](repeating: 0, count: 32), 0x8A91_36AA), ([UInt8](repeating: 255, count: 32), 0x62A8_AB43),
            (Array(0..<32), 0x46DD_794E), (Array("123456789".utf8), 0xE306_9283),
        ]
        for (octets, expected) in vectors {
            #expect(octets.withUnsafeBytes { crc32c(0, $0) } == expected)
        }
    }

    /// Long ones are done in three strides at once, and what is left after them: the same as bit by bit.
    @Test func crc32cOfAnyLength() {
        func slow(_ crc: UInt32, _ octets: some Sequence<UInt8>) -> UInt32 {
            var crc = ~crc
            for octet in octets {
                crc ^= UInt32(octet)
                for _ in 0..<8 { crc = crc & 1 == 1 ? crc >> 1 ^ 0x82F6_3B78 : crc >> 1 }
            }
            return ~crc
        }
        var random = SeededGenerator(seed: 9)
        let octets = (0..<5000).map { _ in UInt8.random(in: 0...255, using: &random) }
        for length in [0, 1, 7, 8, 9, 255, 256, 767, 768, 769, 775, 1535, 1536, 1537, 2304, 4096, 4990] {
            let piece = octets.dropFirst(length % 7).prefix(length)
            let seed = UInt32(truncatingIfNeeded: random.next())
            #expect(piece.withUnsafeBytes { crc32c(seed, $0) } == slow(seed, piece))
        }
    }
}
