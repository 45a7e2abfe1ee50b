// The values in GDBM files: how they are sealed, and how they are found in a damaged file without its index.

import SlimtaMail
import SlimtaQueue
import SlimtaRecords

/// What a value in a GDBM file is. The key is the kind's letter and the id's 16 octets (two little-endian halves).
enum ValueKind: UInt8 {
    /// An envelope, as in the journal.
    case envelope = 0x65  // "e"
    /// The octets of a message.
    case body = 0x62  // "b"
    /// The state of an envelope and what recovery needs of it (``MetaRecord``).
    case meta = 0x6D  // "m"
    /// An envelope that an older file lists has left the queue.
    case tombstone = 0x74  // "t"
    /// A receipt, as in the journal; its id is the first half of its key. Older versions pass over it.
    case receipt = 0x72  // "r"
    /// A receipt that an older file has is not needed any more: its key, as in the journal.
    case forgotten = 0x66  // "f"
    /// The number, kind and salt of the file itself.
    case label = 0x67  // "g"
}

/// A value in a GDBM file; a header of 32 octets and the payload:
///
///     "SLTV"  u8 format version  u8 kind  u16 zero  id (16)  u32 length of the payload  u32 CRC32C (salt, header before
///     this field, payload)
///
/// The salt is the file's own and random: nothing that is inside a message can pass for a value.
struct StoredValue {
    static let size = 32
    static let version: UInt8 = 1
    static let magic: UInt32 = 0x5654_4C53  // "SLTV"

    let kind: UInt8
    let id: QueueID
    /// Valid as long as what it was read from.
    let payload: UnsafeRawBufferPointer

    /// The value at the beginning of `octets`, which may be longer; throws if it is not whole.
    init(_ octets: UnsafeRawBufferPointer, salt: UInt64) throws(FormatError) {
        guard octets.count >= Self.size, octets.number(at: 0, as: UInt32.self) == Self.magic else {
            throw FormatError("value header")
        }
        guard octets[4] == Self.version else { throw FormatError("value version") }
        kind = octets[5]
        id = QueueID(high: octets.number(at: 8), low: octets.number(at: 16))
        let length = Int(octets.number(at: 24, as: UInt32.self))
        guard octets.count - Self.size >= length else { throw FormatError("value length") }
        payload = UnsafeRawBufferPointer(rebasing: octets[Self.size..<(Self.size + length)])
        guard octets.number(at: 28, as: UInt32.self) == Self.crc(octets, payload, salt) else {
            throw FormatError("value checksum")
        }
    }

    /// What a value whose checksum is wrong says that it is; nil if not even that can be read.
    static func claim(_ octets: UnsafeRawBufferPointer) -> (kind: ValueKind, id: QueueID)? {
        guard octets.count >= size, octets.number(at: 0, as: UInt32.self) == magic,
            let kind = ValueKind(rawValue: octets[5])
        else { return nil }
        return (kind, QueueID(high: octets.number(at: 8), low: octets.number(at: 16)))
    }

    /// Begins a value in `output`.
    static func begin(_ kind: ValueKind, _ id: QueueID, into output: OutputBuffer) {
        precondition(output.count == 0)
        output.append(magic)
        output.append(version)
        output.append(kind.rawValue)
        output.append(UInt16(0))
        output.append(id.high)
        output.append(id.low)
        output.append(UInt64(0))
    }

    /// Ends it: length and checksum.
    static func end(salt: UInt64, in output: OutputBuffer) {
        output.patch(UInt32(output.count - size), at: 24)
        let octets = output.octets
        output.patch(crc(octets, UnsafeRawBufferPointer(rebasing: octets.dropFirst(size)), salt), at: 28)
    }

    /// The id of the value of a receipt with this key.
    static func id(of key: Receipt.Digest) -> QueueID { QueueID(high: key.a, low: key.b) }

    static func key(_ kind: ValueKind, _ id: QueueID) -> InlineKey { InlineKey(kind: kind, id: id) }

    private static func crc(
        _ octets: UnsafeRawBufferPointer, _ payload: UnsafeRawBufferPointer, _ salt: UInt64
    ) -> UInt32 {
        crc32c(crc32c(crc32c(salt: salt), UnsafeRawBufferPointer(rebasing: octets.prefix(28))), payload)
    }
}

/// A key of a GDBM file.
struct InlineKey: Hashable {
    var kind: ValueKind
    var id: QueueID

    /// Calls `body` with the 17 octets.
    func withOctets<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result {
        withUnsafeTemporaryAllocation(byteCount: 17, alignment: 8) { octets in
            octets[0] = kind.rawValue
            octets.storeBytes(of: id.high.littleEndian, toByteOffset: 1, as: UInt64.self)
            octets.storeBytes(of: id.low.littleEndian, toByteOffset: 9, as: UInt64.self)
            return body(UnsafeRawBufferPointer(octets))
        }
    }

    init(kind: ValueKind, id: QueueID) {
        self.kind = kind
        self.id = id
    }

    /// The key that `octets` are; nil if it is none of ours.
    init?(_ octets: UnsafeRawBufferPointer) {
        guard octets.count == 17, let kind = ValueKind(rawValue: octets[0]) else { return nil }
        self.kind = kind
        id = QueueID(high: octets.number(at: 1), low: octets.number(at: 9))
    }
}

/// The payload of a `meta` value:
///
///     1 number of the file with the envelope (4)  2 received  3 recipients' folded domains  4 id of the body, if other
///     envelopes may have it too (16)  5 where the rest of a large message is  6 state, as in the journal  7 whether it
///     is a notice
///
/// A domain is the number of neighbouring recipients with it (4 octets) and its text; once for each such group.
struct MetaRecord {
    var generation: UInt32
    var received: Timestamp
    var domains: [DomainRun]
    var isNotice = false
    var body: QueueID?
    var spool: SpoolReference?

    /// Appends the payload, with `state` as it stands in the journal or in an older record.
    func encode(state: UnsafeRawBufferPointer, into output: OutputBuffer) {
        output.field(1, generation)
        output.field(2, received.milliseconds)
        for run in domains {
            let start = output.begin(3)
            output.append(run.count)
            output.append(run.domain)
            output.end(start)
        }
        if let body { output.field(4, body) }
        if let spool { SpoolCodec.encode(spool, tag: 5, into: output) }
        if isNotice { output.field(7, UInt8(1)) }
        output.field(6, state)
    }

    /// Reads a payload; the state is returned as it stands.
    static func decode(
        _ octets: UnsafeRawBufferPointer
    ) throws(FormatError) -> (MetaRecord, state: UnsafeRawBufferPointer) {
        var cursor = InputCursor(octets)
        var generation: UInt32?
        var record = MetaRecord(generation: 0, received: Timestamp(milliseconds: 0), domains: [])
        var state: UnsafeRawBufferPointer?
        while let field = try cursor.field() {
            switch field.tag {
            case 1: generation = try field.number()
            case 2: record.received = Timestamp(milliseconds: try field.number())
            case 3:
                var run = field.cursor
                let count: UInt32 = try run.number()
                record.domains.append(DomainRun(count: count, domain: String(decoding: run.rest, as: UTF8.self)))
            case 4: record.body = try field.id()
            case 5: record.spool = try SpoolCodec.decode(field)
            case 6: state = field.value
            case 7: record.isNotice = try field.number(UInt8.self) != 0
            default: break  // from a newer version
            }
        }
        guard let generation, let state else { throw FormatError("meta record") }
        record.generation = generation
        return (record, state)
    }
}
