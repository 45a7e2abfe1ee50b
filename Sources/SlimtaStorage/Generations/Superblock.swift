// `super`: what counts. Writing it is the commit point of a checkpoint. A start reads it
// first of all.

import SlimtaMail
import SlimtaQueue
import SlimtaRecords

/// A sealed GDBM file.
struct GenerationInfo: Hashable {
    enum Kind: UInt8 {
        /// Envelopes and bodies.
        case contents = 0x65  // "e"
        /// States: all envelopes of the contents of that time.
        case base = 0x6D  // "m"
        /// States: what has changed since.
        case delta = 0x64  // "d"
    }

    var kind: Kind
    var number: UInt32
    /// The records in it, without its label and what is told of receipts.
    var records: UInt64
    /// What is told of receipts in it: apart from the records, of which older versions want to know each.
    var receipts: UInt64 = 0
    /// The envelopes among them; 0 in a file with states.
    var envelopes: UInt64 = 0
    var salt: UInt64

    /// All that it tells.
    var told: UInt64 { records + receipts }

    /// The file's name in `queue/`.
    var name: String {
        let digits = String(number)
        let padded = String(repeating: "0", count: max(0, 8 - digits.count)) + digits
        return (kind == .contents ? "env-" : "meta-") + padded + ".gdbm"
    }
}

/// The content of `super`: two slots of 64 KiB with the same content, written one after the other:
///
///     "SLTSUPR1"  u32 format version  u32 length  u64 sequence  u64 first segment  u64 number of the last frame that
///     was checkpointed  u32 number of the next generation  u32 generations  { u8 kind  u32 number  u64 records  u64 envelopes
///     u64 salt }
///     the ledger as of that frame (LedgerCodec; since version 2)
///     u8 1 if the journal had failed, else 0  u32 losses  { u16 length, text }  u32 files with receipts { u32 number
///     u64 receipts }: only as much of it as says something
///     u32 CRC32C of all before
///
/// Zeros fill the slot's last page.
struct Superblock: Equatable {
    static let slotSize = 64 << 10
    static let version: UInt32 = 2
    static let magic: UInt64 = 0x3152_5055_5354_4C53  // "SLTSUPR1"

    var sequence: UInt64 = 1
    /// The oldest segment that counts.
    var firstSegment: UInt64 = 1
    /// Frames up to this number are in generations.
    var checkpointed: UInt64 = 0
    var nextGeneration: UInt32 = 1
    /// Contents, then the base, then the deltas, oldest first.
    var generations: [GenerationInfo] = []
    /// The journal had failed, and there may be no segment that counts.
    var journalHadFailed = false
    /// What was counted up to `checkpointed`; nil: version 1, which did not count.
    var ledger: Ledger?
    /// Mail that is lost, in words, until an operator has acknowledged it.
    private(set) var losses: [String] = []

    /// Losses that are told apart, and the octets of each that are kept.
    private static let lossLimit = 32
    private static let lossLength = 400

    /// Writes down that mail is lost; false if that is known.
    mutating func add(loss text: String) -> Bool {
        var text = text
        while text.utf8.count > Self.lossLength { text.removeLast() }
        if losses.count >= Self.lossLimit { text = "and more, see the log" }
        if losses.contains(text) { return false }
        losses.append(text)
        return true
    }

    /// An operator has acknowledged them.
    mutating func forgetLosses() { losses = [] }

    func encode() -> OutputBuffer {
        let output = OutputBuffer(capacity: 4096)
        output.append(Self.magic)
        output.append(Self.version)
        output.append(UInt32(0))
        output.append(sequence)
        output.append(firstSegment)
        output.append(checkpointed)
        output.append(nextGeneration)
        output.append(UInt32(generations.count))
        for generation in generations {
            output.append(generation.kind.rawValue)
            output.append(generation.number)
            output.append(generation.records)
            output.append(generation.envelopes)
            output.append(generation.salt)
        }
        guard let ledger else { preconditionFailure("a superblock without a ledger is read, never written") }
        LedgerCodec.encode(ledger, into: output)
        let receipts = generations.filter { $0.receipts > 0 }
        if journalHadFailed || !losses.isEmpty || !receipts.isEmpty {
            output.append(UInt8(journalHadFailed ? 1 : 0))
        }
        if !losses.isEmpty || !receipts.isEmpty {
            output.append(UInt32(losses.count))
            for loss in losses {
                output.append(UInt16(loss.utf8.count))
                output.append(loss)
            }
        }
        if !receipts.isEmpty {
            output.append(UInt32(receipts.count))
            for generation in receipts {
                output.append(generation.number)
                output.append(generation.receipts)
            }
        }
        output.patch(UInt32(output.count + 4), at: 12)
        output.append(crc32c(0, output.octets))
        output.pad(to: OutputBuffer.page)
        // 41 octets for each of some thirty generations, 73 for each of some thirty operators, 402 for each loss: far
        // from it.
        precondition(output.count <= Self.slotSize)
        return output
    }

    enum Reading: Equatable {
        case superblock(Superblock)
        case newer(UInt32)
        case unreadable
    }

    /// Reads one slot.
    static func decode(_ slot: UnsafeRawBufferPointer) -> Reading {
        guard slot.count >= 52, slot.number(at: 0, as: UInt64.self) == magic else { return .unreadable }
        let length = Int(slot.number(at: 12, as: UInt32.self))
        guard length >= 52, length <= slot.count,
            slot.number(at: length - 4, as: UInt32.self)
                == crc32c(0, UnsafeRawBufferPointer(rebasing: slot.prefix(length - 4)))
        else { return .unreadable }
        let found = slot.number(at: 8, as: UInt32.self)
        guard found <= version else { return .newer(found) }
        var result = Superblock()
        var cursor = InputCursor(UnsafeRawBufferPointer(rebasing: slot[16..<(length - 4)]))
        do throws(FormatError) {
            result.sequence = try cursor.number()
            result.firstSegment = try cursor.number()
            result.checkpointed = try cursor.number()
            result.nextGeneration = try cursor.number()
            let count: UInt32 = try cursor.number()
            for _ in 0..<count {
                guard let kind = GenerationInfo.Kind(rawValue: try cursor.number()) else { return .unreadable }
                result.generations.append(
                    GenerationInfo(
                        kind: kind, number: try cursor.number(), records: try cursor.number(),
                        envelopes: try cursor.number(), salt: try cursor.number()))
            }
            if found >= 2 { result.ledger = try LedgerCodec.decode(&cursor) }
            if found >= 2, !cursor.isAtEnd { result.journalHadFailed = try cursor.number(UInt8.self) != 0 }
            if found >= 2, !cursor.isAtEnd {
                for _ in 0..<(try cursor.number(UInt32.self)) {
                    let length = Int(try cursor.number(UInt16.self))
                    let text = String(decoding: try cursor.octets(length), as: UTF8.self)
                    result.losses.append(text.cut(toOctets: lossLength))
                }
            }
            if found >= 2, !cursor.isAtEnd { try result.readReceipts(&cursor) }
        } catch {
            return .unreadable
        }
        return .superblock(result)
    }

    private mutating func readReceipts(_ cursor: inout InputCursor) throws(FormatError) {
        for _ in 0..<(try cursor.number(UInt32.self)) {
            let number: UInt32 = try cursor.number()
            let count: UInt64 = try cursor.number()
            for place in generations.indices where generations[place].number == number {
                generations[place].receipts = count
            }
        }
    }

    /// The readable ones of the two slots of the file `path`; throws if a newer version wrote one.
    static func read(_ octets: [UInt8], _ path: String) throws(StorageOpenError) -> [Superblock] {
        var readings: [Superblock] = []
        var newer: UInt32?
        octets.withUnsafeBytes { octets in
            for start in [0, slotSize] {
                switch decode(UnsafeRawBufferPointer(rebasing: octets.dropFirst(start).prefix(slotSize))) {
                case .superblock(let found): readings.append(found)
                case .newer(let version): newer = version
                case .unreadable: break
                }
            }
        }
        if let newer { throw .newerFormat("\(path): format \(newer), this version knows \(version)") }
        return readings
    }

    var contents: [GenerationInfo] { generations.filter { $0.kind == .contents } }
    /// Base first, then the deltas in the order in which they were made.
    var metas: [GenerationInfo] { generations.filter { $0.kind != .contents }.sorted { $0.number < $1.number } }
}
