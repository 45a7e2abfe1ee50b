// What the storage reads back: records and values. Octets of a disk are not trusted.

import NIOCore
import SlimtaMail
import SlimtaQueue
import SlimtaRecords

@testable import SlimtaCluster
@testable import SlimtaStorage

extension FuzzTarget {
    /// Records: whatever the octets are, reading comes back; what was read is written and read as the same.
    static let records = FuzzTarget(name: "records", maximumLength: 2048) { octets in
        guard let kind = octets.first else { return }
        let octets = Array(octets.dropFirst())
        try octets.withUnsafeBytes { bytes in
            switch kind % 8 {
            case 0: try checkEnvelope(bytes)
            case 1: try checkState(bytes)
            case 2: try checkMeta(bytes)
            case 3:
                try checkEnding(bytes)
                try checkReceipt(bytes)
            case 4: try checkValue(bytes)
            case 5: try checkSuperblock(octets)
            case 6: try checkWritten(octets)
            default:
                _ = FrameHeader(bytes)
                _ = SegmentHeader.decode(bytes)
                _ = InlineKey(bytes)
                _ = StoredValue.claim(bytes)
                if let label = MapLabel(octets) { try same(label.octets, octets, "a map's label") }
            }
        }
    }
}

/// What `write` writes into a field, without the field's tag and length.
private func encoded(_ write: (OutputBuffer) -> Void) -> [UInt8] {
    let output = OutputBuffer(capacity: 256)
    write(output)
    return Array(output.array.dropFirst(5))
}

private func checkEnvelope(_ octets: UnsafeRawBufferPointer) throws {
    _ = try? EnvelopeCodec.outline(octets)
    guard let (envelope, due) = try? EnvelopeCodec.decode(octets) else { return }
    let written = encoded { EnvelopeCodec.encode(envelope, due: due, tag: RecordTag.envelope, into: $0) }
    try written.withUnsafeBytes { bytes in
        let (second, again) = try EnvelopeCodec.decode(bytes)
        try same(second, envelope, "an envelope")
        try same(again, due, "when it is due")
        let outline = try EnvelopeCodec.outline(bytes)
        try same(outline.id, envelope.id, "the id of an outline")
        try same(
            outline.domains.reduce(0) { $0 + Int($1.count) }, envelope.recipients.count, "recipients of an outline")
        try same(outline.isNotice, envelope.sender == nil, "whether it is a notice")
    }
}

private func checkState(_ octets: UnsafeRawBufferPointer) throws {
    _ = try? StateCodec.outline(octets)
    guard let state = try? StateCodec.decode(octets) else { return }
    let written = encoded { StateCodec.encode(state, tag: RecordTag.state, into: $0) }
    try written.withUnsafeBytes { bytes in
        try same(try StateCodec.decode(bytes), state, "a state")
        let outline = try StateCodec.outline(bytes)
        try same(outline.due, state.due, "when it is due")
        try same(
            outline.firstPending.map { Int($0) }, state.recipients.firstIndex { $0.fate == .pending }, "who is pending")
        try same(outline.fates, Fates(state), "fates")
    }
}

private func checkMeta(_ octets: UnsafeRawBufferPointer) throws {
    guard let (record, state) = try? MetaRecord.decode(octets) else { return }
    _ = try? StateCodec.decode(state)
    let output = OutputBuffer(capacity: 256)
    record.encode(state: state, into: output)
    try withExtendedLifetime(output) {
        let (second, stateAgain) = try MetaRecord.decode(output.octets)
        try same("\(second)", "\(record)", "a meta record")
        try hold(stateAgain.elementsEqual(state), "the state of a meta record")
    }
}

private func checkEnding(_ octets: UnsafeRawBufferPointer) throws {
    var cursor = InputCursor(octets)
    while let field = try? cursor.field() {
        guard let (ending, recipients) = try? EndingCodec.decode(field) else { continue }
        let output = OutputBuffer(capacity: 256)
        EndingCodec.encode(ending, recipients, tag: RecordTag.ending, into: output)
        try withExtendedLifetime(output) {
            var again = InputCursor(output.octets)
            guard let second = try again.field() else { throw Broken(description: "an ending is not written") }
            let (removed, counted) = try EndingCodec.decode(second)
            try same("\(removed)", "\(ending)", "an ending")
            try same(counted?.raw, recipients?.raw, "the recipients of an ending")
        }
    }
}

private func checkReceipt(_ octets: UnsafeRawBufferPointer) throws {
    _ = try? OutcomeCodec.decode(Field(tag: RecordTag.outcome, value: octets))
    try checkEnded(octets)
    guard let record = try? ReceiptRecord(octets) else { return }
    let receipt = try record.receipt()
    let written = ReceiptRecord(receipt)
    try same(try written.receipt(), receipt, "a receipt")
    try same(written.outline.envelopes, receipt.envelopes.map(\.id), "the envelopes of a receipt")
}

/// What is written of an ending is read as it was written.
private func checkEnded(_ octets: UnsafeRawBufferPointer) throws {
    let id = QueueID(high: 7, low: 9)
    func written(_ ending: Ending) -> [UInt8] {
        let output = OutputBuffer(capacity: 256)
        EndedCodec.encode(ending, into: output)
        return output.array
    }
    guard let ending = try? EndedCodec.decode(octets, of: id) else { return }
    // Replies may be cut, and what is no UTF-8 is mended.
    let once = written(ending)
    let again = try once.withUnsafeBytes { try EndedCodec.decode($0, of: id) }
    try same(written(again), once, "the end of an envelope with a receipt")
}

private func checkValue(_ octets: UnsafeRawBufferPointer) throws {
    _ = try? StoredValue(octets, salt: 0)
    // A value of these octets is read as them, and not with another salt.
    let output = OutputBuffer(capacity: 256)
    let id = QueueID(high: 7, low: 9)
    StoredValue.begin(.body, id, into: output)
    output.append(octets)
    StoredValue.end(salt: 42, in: output)
    try withExtendedLifetime(output) {
        let value = try StoredValue(output.octets, salt: 42)
        try same(value.id, id, "the id of a value")
        try hold(value.payload.elementsEqual(octets), "the payload of a value")
        try hold((try? StoredValue(output.octets, salt: 43)) == nil, "a value of another file")
    }
    // Nor with a bit turned around.
    if let place = octets.first.map({ Int($0) % output.count }) {
        var damaged = output.array
        damaged[place] ^= 1 << (octets[octets.count - 1] & 7)
        let isRead = damaged.withUnsafeBytes { (try? StoredValue($0, salt: 42)) != nil }
        try hold(!isRead, "bit \(octets[octets.count - 1] & 7) of octet \(place) can be anything")
    }
}

private func checkSuperblock(_ octets: [UInt8]) throws {
    // The checksum is made right, else nothing is looked at.
    var slot = octets
    if slot.count < 52 { slot += [UInt8](repeating: 0, count: 52 - slot.count) }
    let output = OutputBuffer(capacity: 4096)
    output.append(Superblock.magic)
    output.append(octets.first.map { UInt32($0 % 3) } ?? 2)
    output.append(UInt32(slot.count))
    slot.withUnsafeBytes { output.append(UnsafeRawBufferPointer(rebasing: $0[16..<(slot.count - 4)])) }
    output.append(crc32c(0, output.octets))
    let reading = withExtendedLifetime(output) { Superblock.decode(output.octets) }
    // Names and losses become shorter the first time, if they are not what we write.
    guard case .superblock(let block) = reading, let ledger = block.ledger, block.generations.count < 100,
        block.losses.count < 40, ledger.removedBy.count < 40,
        ledger.removedBy.keys.allSatisfy({ $0.utf8.count <= 255 })
    else { return }
    let written = block.encode()
    try withExtendedLifetime(written) {
        try same(Superblock.decode(written.octets), .superblock(block), "a superblock")
    }
}

/// Values of our own making, of any content.
private func checkWritten(_ octets: [UInt8]) throws {
    var choices = Choices(octets)
    func mailbox() -> Mailbox {
        Mailbox(localPart: choices.text(), domain: choices.text())
    }
    var client = ClientInfo(address: choices.text(), name: choices.text(), protocolWord: choices.text())
    if choices.flag() { client.tls = TLSDescription(version: choices.text(), cipher: choices.text()) }
    if choices.flag() { client.login = choices.text() }
    let envelope = Envelope(
        id: QueueID(high: choices.integer(), low: choices.integer()), sender: choices.flag() ? mailbox() : nil,
        recipients: (0..<choices.number(below: 5)).map { _ in mailbox() },
        received: Timestamp(milliseconds: choices.integer()), body: choices.flag() ? .eightBitMIME : .sevenBit,
        smtpUTF8: choices.flag(), client: client, prependedFields: ByteBuffer(bytes: choices.octets()))
    let due = Timestamp(milliseconds: choices.integer())
    try encoded { EnvelopeCodec.encode(envelope, due: due, tag: 1, into: $0) }.withUnsafeBytes {
        let (read, again) = try EnvelopeCodec.decode($0)
        try same(read, envelope, "an envelope of ours")
        try same(again, due, "when it is due")
    }
    var state = EnvelopeState(
        id: envelope.id, attempts: choices.integer(), due: due, isHeld: choices.flag(),
        heldReason: choices.flag() ? choices.text() : nil, isWarned: choices.flag(), recipients: [])
    for _ in 0..<choices.number(below: 5) {
        state.recipients.append(
            RecipientState(
                fate: choices.one(of: [.pending, .delivered, .bounced, .expired, .removed]), reply: choices.text(),
                relay: choices.text()))
    }
    for _ in 0..<choices.number(below: 5) {
        var record = AttemptRecord(
            time: Timestamp(milliseconds: choices.integer()),
            result: choices.one(of: [.delivered, .temporary, .permanent]),
            relay: choices.text(), tls: choices.text(), reply: choices.text(), recipient: choices.integer(),
            count: choices.integer())
        if choices.flag(), let last = state.history.last {
            record = last
            record.time = Timestamp(milliseconds: choices.integer())
        }
        state.history.append(record)
    }
    try encoded { StateCodec.encode(state, tag: 4, into: $0) }.withUnsafeBytes {
        try same(try StateCodec.decode($0), state, "a state of ours")
    }
}
