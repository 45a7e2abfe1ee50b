// A file of the journal, and how frames are read from it. The housekeeper makes it, the journal's writer fills it,
// ContentReader reads single messages back.

import CLinux
import SlimtaMail
import SlimtaQueue
import SlimtaRecords

/// One file of the journal. Closed when nobody needs it any more, so that a reader never meets another file's content.
///
/// `@unchecked Sendable`: what changes (`end`, `lastNumber`, `ledger`, `isPoisoned`) is set by the writer before the segment
/// is handed to others under the journal's lock.
final class Segment: @unchecked Sendable {
    let header: SegmentHeader
    let file: File
    let size: Int
    private let fileSystem: any FileSystem
    /// Behind the last commit.
    var end = SegmentHeader.space
    /// The number of its last frame that is durable; that of the segment before if it has none.
    var lastNumber: UInt64 = 0
    /// What frames had told the ledger up to and with that one.
    var ledger = Ledger(since: Timestamp(milliseconds: 0))
    /// A write or sync failed: it is never written or synced again, and its file is not used again.
    var isPoisoned = false

    var number: UInt64 { header.number }
    /// Octets that are kept for states and endings when there is no other segment: the queue can drain.
    var reserved: Int { size / 4 }

    init(header: SegmentHeader, file: File, size: Int, fileSystem: any FileSystem) {
        self.header = header
        self.file = file
        self.size = size
        self.fileSystem = fileSystem
    }

    deinit { fileSystem.close(file) }

    /// Segment numbers as they are in names.
    static func name(_ number: UInt64) -> String {
        let digits = String(number)
        return String(repeating: "0", count: max(0, 16 - digits.count)) + digits + ".wal"
    }

    /// The number that `name` says; nil if it is not a segment's name.
    static func number(_ name: String) -> UInt64? {
        guard name.hasSuffix(".wal"), name.utf8.count == 20 else { return nil }
        return UInt64(name.dropLast(4))
    }
}

/// Reads frames of segments through a window, in any order, best ascending. Belongs to one thread.
final class FrameReader {
    private let fileSystem: any FileSystem
    private let windowSize: Int
    private let window: AlignedMemory
    private var segment: Segment?
    private var start = 0
    private var filled = 0
    private var checked = -1

    /// `windowSize` octets are read at a time.
    init(_ fileSystem: any FileSystem, windowSize: Int) {
        self.fileSystem = fileSystem
        self.windowSize = windowSize
        window = AlignedMemory(windowSize)
    }

    /// Reads all anew: what was read may have been overwritten.
    func forget() {
        segment = nil
        checked = -1
    }

    /// The frame at `offset`, its checksum right; throws `FormatError` if there is none. Valid until the next call.
    func frame(
        _ segment: Segment, at offset: Int
    ) throws -> (header: FrameHeader, payload: UnsafeRawBufferPointer) {
        let wasRead = self.segment === segment
        do {
            return try checkedFrame(segment, at: offset)
        } catch {
            // What is in the window may be older than the frame.
            guard wasRead else { throw error }
            forget()
            return try checkedFrame(segment, at: offset)
        }
    }

    private func checkedFrame(
        _ segment: Segment, at offset: Int
    ) throws -> (header: FrameHeader, payload: UnsafeRawBufferPointer) {
        let octets = try frameOctets(segment, at: offset)
        guard let header = FrameHeader(octets) else { throw FormatError("frame header") }
        if checked != offset {
            guard FrameHeader.isValid(octets, header, salt: segment.header.salt) else {
                throw FormatError("frame checksum")
            }
            checked = offset
        }
        return (header, UnsafeRawBufferPointer(rebasing: octets[FrameHeader.size..<(FrameHeader.size + header.length)]))
    }

    /// At least the octets of the frame that the header at `offset` announces, unchecked; at the end of the segment what
    /// there is.
    func frameOctets(_ segment: Segment, at offset: Int) throws(DiskError) -> UnsafeRawBufferPointer {
        let octets = try self.octets(segment, at: offset, atLeast: FrameHeader.size)
        guard let header = FrameHeader(octets), header.frameSize <= segment.size - offset else { return octets }
        return try self.octets(segment, at: offset, atLeast: header.frameSize)
    }

    /// What is at `offset`, at least `count` octets if the segment has them.
    func octets(
        _ segment: Segment, at offset: Int, atLeast count: Int
    ) throws(DiskError) -> UnsafeRawBufferPointer {
        let wanted = min(count, max(0, segment.size - offset))
        if self.segment !== segment || offset < start || offset + wanted > start + filled {
            let page = OutputBuffer.page
            // Who goes back a little is likely to go on to and fro: frames are nearly in the order that is asked for.
            let isBack = self.segment === segment && offset < start && offset >= start - windowSize / 2
            let from = max(0, offset - (isBack ? windowSize / 2 : 0)) / page * page
            let size = min(roundedUp(max(windowSize, offset - from + wanted), to: page), segment.size - from)
            window.reserve(size)
            self.segment = nil
            checked = -1
            filled = try fileSystem.read(
                segment.file, into: UnsafeMutableRawBufferPointer(start: window.base, count: size), at: from)
            start = from
            self.segment = segment
        }
        let skipped = min(offset - start, filled)
        return UnsafeRawBufferPointer(start: window.base + skipped, count: filled - skipped)
    }
}

/// Aligned memory that is only read into.
final class AlignedMemory {
    private(set) var base: UnsafeMutableRawPointer
    private var capacity: Int

    init(_ size: Int) {
        capacity = roundedUp(max(size, 1), to: OutputBuffer.page)
        base = .allocate(byteCount: capacity, alignment: OutputBuffer.page)
    }

    deinit { base.deallocate() }

    /// Makes room; what was in it is gone then.
    func reserve(_ size: Int) {
        if size <= capacity { return }
        base.deallocate()
        capacity = roundedUp(size, to: OutputBuffer.page)
        base = .allocate(byteCount: capacity, alignment: OutputBuffer.page)
    }
}
