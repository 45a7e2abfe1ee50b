// What the journal and GDBM put around records: a changed bit of it is noticed, and never a trap. And the outlines of
// records, by which recovery and checkpoints go, and the index.

import NIOCore
import SlimtaMail
import SlimtaQueue
import SlimtaRecords
import StorageKit
import TestKit
import Testing

@testable import SlimtaStorage

@Suite struct SealTests {
    /// Copies octets to where they are read from: reads behind them would then be found by a sanitizer.
    private func with<Result>(_ octets: [UInt8], _ body: (UnsafeRawBufferPointer) throws -> Result) rethrows -> Result {
        try octets.withUnsafeBytes(body)
    }

    private func encoded(_ encode: (OutputBuffer) -> Void) -> [UInt8] {
        let output = OutputBuffer()
        encode(output)
        return output.array
    }

    /// With whom the sender has named instead of a recipient.
    private static let forwarded: Envelope = {
        var envelope = makeEnvelope(to: ["a@x.test", "b@x.test"])
        envelope.setOriginal(Mailbox(localPart: "team", domain: "x.test"), of: envelope.recipients[0])
        envelope.setNotifications([.success, .delay], of: envelope.recipients[1])
        return envelope
    }()

    @Test(
        arguments: [
            makeEnvelope(to: ["\"a@b\"@[192.0.2.1]"], sender: nil), forwarded,
            makeEnvelope(to: (0..<20).map { "r\($0)@d\($0 / 3).example" }),
        ])
    func theOutlineOfAnEnvelope(_ envelope: Envelope) throws {
        let octets = encoded { EnvelopeCodec.encode(envelope, due: someDue, tag: 1, into: $0) }
        try with(Array(octets.dropFirst(5))) { octets in
            let outline = try EnvelopeCodec.outline(octets)
            #expect(outline.id == envelope.id && outline.due == someDue && outline.received == envelope.received)
            #expect(outline.isNotice == (envelope.sender == nil))
            #expect(outline.domains.map { Int($0.count) }.reduce(0, +) == envelope.recipients.count)
            #expect(outline.recipients == RecipientCount(envelope))
        }
    }

    @Test func theOutlineOfAState() throws {
        let envelope = makeEnvelope(to: ["a@b", "c@d", "e@f"])
        var state = EnvelopeState(of: envelope, due: someDue)
        state.recipients[0].fate = .delivered
        (state.attempts, state.isHeld) = (.max, true)
        let octets = encoded { StateCodec.encode(state, tag: 4, into: $0) }
        try with(Array(octets.dropFirst(5))) { octets in
            let outline = try StateCodec.outline(octets)
            #expect(outline.id == envelope.id && outline.attempts == .max && outline.fates.delivered == 1)
            #expect(outline.firstPending == 1 && outline.isHeld)
        }
    }

    /// Whatever is cut off or changed: an error, or something else; not a trap.
    @Test func hostileOctetsAreErrors() {
        let envelope = encoded { EnvelopeCodec.encode(makeEnvelope(), due: someDue, tag: 1, into: $0) }
        let state = encoded {
            var state = EnvelopeState(of: makeEnvelope(), due: someDue)
            state.history = [
                AttemptRecord(
                    time: someDue, result: .permanent, relay: "mx", tls: "T", reply: "5", recipient: 0, count: 1)
            ]
            StateCodec.encode(state, tag: 1, into: $0)
        }
        let meta = encoded { output in
            MetaRecord(
                generation: 3, received: someDue, domains: [DomainRun(count: 1, domain: "x")],
                body: QueueID(high: 1, low: 1),
                spool: SpoolReference(id: QueueID(high: 2, low: 2), length: 3, crc32c: 4)
            ).encode(state: UnsafeRawBufferPointer(start: nil, count: 0), into: output)
        }
        func readAll(_ octets: [UInt8]) {
            with(octets) { octets in
                _ = try? EnvelopeCodec.outline(octets)
                _ = try? StateCodec.outline(octets)
                _ = try? MetaRecord.decode(octets)
                _ = Superblock.decode(octets)
                _ = SegmentHeader.decode(octets)
                _ = try? StoredValue(octets, salt: 1)
                _ = FrameHeader(octets).map { FrameHeader.isValid(octets, $0, salt: 1) }
            }
        }
        for record in [Array(envelope.dropFirst(5)), Array(state.dropFirst(5)), meta] {
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

    @Test func everyChangedBitOfAFrameIsNoticed() throws {
        let output = OutputBuffer()
        let start = FrameHeader.begin(.remove, number: 7, durable: 6, into: output)
        EndingCodec.encode(Ending(id: QueueID(high: 1, low: 2), delivered: 3), nil, tag: RecordTag.ending, into: output)
        FrameHeader.end(start, salt: 99, in: output)
        let frame = output.array
        func isValid(_ frame: [UInt8], salt: UInt64) -> Bool {
            with(frame) { octets in FrameHeader(octets).map { FrameHeader.isValid(octets, $0, salt: salt) } ?? false }
        }
        #expect(isValid(frame, salt: 99))
        #expect(!isValid(frame, salt: 98))
        // The padding at the end is not part of it.
        let significant = with(frame) { FrameHeader.size + FrameHeader($0)!.length }
        for bit in 0..<(significant * 8) {
            var changed = frame
            changed[bit / 8] ^= 1 << (bit % 8)
            #expect(!isValid(changed, salt: 99), "bit \(bit)")
        }
        for length in 0..<significant { #expect(!isValid(Array(frame.prefix(length)), salt: 99)) }
    }

    /// Damage makes any number: those that nobody can add to are no frame's, so that the start does not end with them.
    @Test(arguments: [16, 24]) func theHighestNumbersAreNoFrames(_ offset: Int) {
        let output = OutputBuffer()
        FrameHeader.end(FrameHeader.begin(.remove, number: 7, durable: 6, into: output), salt: 99, in: output)
        for (octets, isOne) in [([0xFF, 0x7F], true), ([0xFF, 0x80], false), ([0xFF, 0xFF], false)] as [([UInt8], Bool)]
        {
            var frame = output.array
            frame.replaceSubrange(offset..<(offset + 8), with: Array(repeating: octets[0], count: 7) + [octets[1]])
            with(frame) { #expect((FrameHeader($0) != nil) == isOne) }
        }
    }

    @Test func everyChangedBitOfAValueIsNoticed() throws {
        let output = OutputBuffer()
        StoredValue.begin(.body, QueueID(high: 5, low: 6), into: output)
        output.append("some octets")
        StoredValue.end(salt: 11, in: output)
        let value = output.array
        try with(value) { octets in
            let stored = try StoredValue(octets, salt: 11)
            #expect(stored.id == QueueID(high: 5, low: 6))
            #expect(Array(stored.payload) == Array("some octets".utf8))
        }
        for bit in 0..<(value.count * 8) {
            var changed = value
            changed[bit / 8] ^= 1 << (bit % 8)
            with(changed) { octets in _ = #expect(throws: FormatError.self) { try StoredValue(octets, salt: 11) } }
        }
        with(value) { octets in _ = #expect(throws: FormatError.self) { try StoredValue(octets, salt: 12) } }
    }

    @Test func everyChangedBitOfASuperblockIsNoticed() {
        var ledger = Ledger(since: someDue)
        (ledger.submitted.accepted, ledger.submitted.bounced, ledger.notices.lost) = (5, 4, .max)
        for number in 0..<100 { ledger.countRemoved(2, by: "operator \(number)") }
        let superblock = Superblock(
            sequence: 9, firstSegment: 4, checkpointed: 1234, nextGeneration: 8,
            generations: [
                GenerationInfo(kind: .contents, number: 5, records: 6, envelopes: 3, salt: 7),
                GenerationInfo(kind: .base, number: 6, records: 6, salt: 8),
            ], ledger: ledger)
        let page = superblock.encode().array
        #expect(with(page) { Superblock.decode($0) } == .superblock(superblock))
        #expect(page.count == 4096)
        let length = with(page) { Int($0.number(at: 12, as: UInt32.self)) }
        #expect(length > 110 + 33 * 10)
        for bit in 0..<(length * 8) {
            var changed = page
            changed[bit / 8] ^= 1 << (bit % 8)
            #expect(with(changed) { Superblock.decode($0) } == .unreadable, "bit \(bit)")
        }
    }

    @Test func aSegmentsHeaderSurvivesTheLossOfOneCopy() {
        let header = SegmentHeader(number: 3, salt: 77)
        let page = header.encode().array
        #expect(page.count == 4096)
        for copy in [0, 2048] {
            for bit in 0..<(SegmentHeader.size * 8) {
                var changed = page
                changed[copy + bit / 8] ^= 1 << (bit % 8)
                #expect(with(changed) { SegmentHeader.decode($0) } == .header(header))
            }
        }
        #expect(with([UInt8](repeating: 0, count: 4096)) { SegmentHeader.decode($0) } == .unreadable)
    }

    /// A checkpoint lists what is in the segments that it is about, and nothing of later ones.
    @Test func onlyWhatACheckpointMayListIsBuried() {
        var index = Index()
        let ids = (0..<4).map { QueueID(high: UInt64($0), low: 1) }
        for (id, segment) in zip(ids, [3, 5, 6, 7] as [UInt64]) {
            index.accept(id, RecipientCount(1, .submitted), at: .journal(segment, 4096), body: IndexEntry.noBody)
        }
        _ = index.remove(ids[0])
        #expect(index.tombstones.isEmpty)
        index.checkpointing = 5
        for id in ids[1...] { _ = index.remove(id) }
        #expect(index.tombstones == [ids[1]])
    }

    @Test func theIndexIsADictionary() {
        var random = SeededGenerator(seed: 5)
        var index = Index()
        var model: [QueueID: Location] = [:]
        for step in 0..<20_000 {
            // Few different ids with equal low bits: collisions, and endings in the middle of them.
            let id = QueueID(high: random.next() % 64, low: random.next() % 64 << 40)
            if Bool.random(using: &random) {
                let location = Location.journal(UInt64(step % 1000), step % 4096 * 8)
                index.accept(id, RecipientCount(1, .submitted), at: location, body: IndexEntry.noBody)
                model[id] = location
            } else {
                _ = index.remove(id)
                model[id] = nil
            }
        }
        #expect(index.count == model.count)
        for high in 0..<UInt64(64) {
            for low in 0..<UInt64(64) {
                let id = QueueID(high: high, low: low << 40)
                #expect(index.entry(id)?.envelope == model[id])
            }
        }
    }
}
