// The frames of the journal, octet by octet, and the header of a segment. Batch writes them, JournalScan reads them.

import CLinux
import SlimtaMail
import SlimtaQueue
import SlimtaRecords

/// What a frame is. A type that is not known stops the start: it was written by a newer version.
enum FrameType: UInt8 {
    /// New envelopes with their message once; also states and endings that belong to the same transaction.
    case accept = 1
    /// New states, and endings with them. Absolute values: the last one is the truth.
    case state = 2
    /// Envelopes that leave the queue.
    case remove = 3
    /// Says how far the journal is durable, nothing else. It has the number of the frame that comes next: it is written
    /// without a sync, so it may be lost, and its loss must not look like one.
    case marker = 4
    /// The first frame of a segment that follows a failure or a torn tail: frames of that range do not count.
    case abort = 5
}

/// The header of a frame; 40 octets, followed by the payload and zeros up to a multiple of 8:
///
///     u32 magic  u32 CRC32C (salt, header behind this field, payload)  u32 length of the payload  u8 type  u8 flags
///     u16 zero  u64 number  u64 durable  u64 milliseconds since 1970
///
/// `number` is one more than the frame's before, and never used twice. `durable` is the highest number that was known
/// to be durable when the frame was made: it tells a torn tail from damage.
struct FrameHeader: Equatable {
    static let size = 40
    static let magic: UInt32 = 0x4A46_4C53  // "SLFJ"

    var crc: UInt32
    var length: Int
    var type: UInt8
    var number: UInt64
    var durable: UInt64
    var milliseconds: UInt64

    /// The octets of the whole frame.
    var frameSize: Int { Self.size + roundedUp(length, to: 8) }

    /// The highest number that a frame can have: far more than are ever written, and far from where adding to it traps.
    /// Damage makes any number, and a frame that is torn has no CRC that would tell.
    private static let highestNumber = UInt64(Int64.max)

    /// Whether frames can have this number.
    static func isNumber(_ number: UInt64) -> Bool { number <= highestNumber }

    /// The header at the beginning of `octets`; nil if there is none. Its CRC is still to be checked.
    init?(_ octets: UnsafeRawBufferPointer) {
        guard octets.count >= Self.size, octets.number(at: 0, as: UInt32.self) == Self.magic else { return nil }
        crc = octets.number(at: 4)
        length = Int(octets.number(at: 8, as: UInt32.self))
        type = octets[12]
        number = octets.number(at: 16)
        durable = octets.number(at: 24)
        milliseconds = octets.number(at: 32)
        guard Self.isNumber(number), Self.isNumber(durable) else { return nil }
    }

    /// Whether `frame` (header and payload, at least) is what was written with this salt.
    static func isValid(_ frame: UnsafeRawBufferPointer, _ header: FrameHeader, salt: UInt64) -> Bool {
        guard frame.count >= size + header.length else { return false }
        return crc32c(crc32c(salt: salt), slice(frame, header.length)) == header.crc
    }

    /// Begins a frame in `output`; returns its offset.
    static func begin(
        _ type: FrameType, number: UInt64, durable: UInt64, at time: Timestamp = .now(), into output: OutputBuffer
    ) -> Int {
        let start = output.count
        let header = output.extend(size)
        header.store(magic)
        header.store(UInt64(0), at: 4)
        header.store(UInt32(type.rawValue), at: 12)
        header.store(number, at: 16)
        header.store(durable, at: 24)
        header.store(time.milliseconds, at: 32)
        return start
    }

    /// Ends a frame: length, CRC, padding.
    static func end(_ start: Int, salt: UInt64, in output: OutputBuffer) {
        output.patch(UInt32(output.count - start - size), at: start + 8)
        output.pad(to: 8)
        seal(start, salt: salt, in: output)
    }

    /// Writes the CRC of the frame at `start`, for a segment with this salt.
    static func seal(_ start: Int, salt: UInt64, in output: OutputBuffer) {
        let frame = UnsafeRawBufferPointer(rebasing: output.octets[start...])
        let length = Int(frame.number(at: 8, as: UInt32.self))
        output.patch(crc32c(crc32c(salt: salt), slice(frame, length)), at: start + 4)
    }

    private static func slice(_ frame: UnsafeRawBufferPointer, _ length: Int) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(rebasing: frame[8..<(size + length)])
    }
}

/// The header of a segment; written at 0 and again at 2048, frames begin at 4096:
///
///     "SLTJSEG1"  u32 format version  u32 zero  u64 number  u64 salt  u64 milliseconds since 1970  u32 CRC32C
///     u64 previous  u32 CRC32C of all before (older versions wrote zeros here)
///
/// The salt is random and in every frame's CRC: what a recycled file held before never counts.
struct SegmentHeader: Equatable {
    static let size = 44
    private static let fullSize = size + 12
    static let version: UInt32 = 1
    static let magic: UInt64 = 0x3147_4553_4A54_4C53  // "SLTJSEG1"
    /// Where frames begin.
    static let space = 4096

    var number: UInt64
    var salt: UInt64
    /// The segment that was written when this one was made, or after a start the last one that has frames: if this one
    /// is there, that one has to be, unless `super` does not need it any more. What is between the two was never needed.
    /// 0: there is none, or an older version made it.
    var previous: UInt64 = 0

    /// The first page of a segment.
    func encode() -> OutputBuffer {
        let output = OutputBuffer(capacity: Self.space)
        for copy in [0, 2048] {
            output.pad(to: 2048)
            precondition(output.count == copy)
            output.append(Self.magic)
            output.append(Self.version)
            output.append(UInt32(0))
            output.append(number)
            output.append(salt)
            output.append(UInt64(bitPattern: Timestamp.now().milliseconds))
            output.append(crc32c(0, UnsafeRawBufferPointer(rebasing: output.octets.dropFirst(copy))))
            output.append(previous)
            output.append(crc32c(0, UnsafeRawBufferPointer(rebasing: output.octets.dropFirst(copy))))
        }
        output.pad(to: Self.space)
        return output
    }

    enum Reading: Equatable {
        case header(SegmentHeader)
        case newer(UInt32)
        case unreadable
    }

    /// Reads the first page of a segment: either copy will do.
    static func decode(_ octets: UnsafeRawBufferPointer) -> Reading {
        var newer: UInt32?
        var header: SegmentHeader?
        for copy in [0, 2048] where octets.count >= copy + size {
            let part = UnsafeRawBufferPointer(rebasing: octets[copy..<(copy + size)])
            guard part.number(at: 0, as: UInt64.self) == magic,
                part.number(at: 40, as: UInt32.self)
                    == crc32c(0, UnsafeRawBufferPointer(rebasing: part.prefix(size - 4)))
            else { continue }
            let found = part.number(at: 8, as: UInt32.self)
            if found != version {
                newer = found
                continue
            }
            var one = header ?? SegmentHeader(number: part.number(at: 16), salt: part.number(at: 24))
            if part.number(at: 24) == one.salt { one.previous = max(one.previous, previous(octets, copy)) }
            header = one
        }
        return header.map { .header($0) } ?? newer.map { .newer($0) } ?? .unreadable
    }

    private static func previous(_ octets: UnsafeRawBufferPointer, _ copy: Int) -> UInt64 {
        guard octets.count >= copy + fullSize else { return 0 }
        let part = UnsafeRawBufferPointer(rebasing: octets[copy..<(copy + fullSize)])
        let isWhole =
            part.number(at: fullSize - 4, as: UInt32.self)
            == crc32c(0, UnsafeRawBufferPointer(rebasing: part.prefix(fullSize - 4)))
        return isWhole ? part.number(at: size) : 0
    }
}
