// Reads the journal's segments at a start: every frame that is whole is found, what is missing is told, and a torn tail
// is told from damage.

import CLinux
import SlimtaMail
import SlimtaQueue
import SlimtaRecords

/// Numbers that are missing, and where they should have been.
struct JournalGap {
    var first: UInt64
    var last: UInt64
    /// Where the unreadable octets begin; nil: between segments.
    var segment: Segment?
    var from: Int
    var to: Int
    /// The segment with the frame that comes next.
    var before: UInt64
    /// Recipients that the missing frames had accepted, as far as the next one tells.
    var accepted = AcceptedCount()
}

/// Goes through segments, oldest first.
///
/// All valid frames count, also behind a gap: a frame that was never acknowledged may count (the client was told
/// nothing), one that was must not be lost. Only frames that an ABORT names do not count.
struct JournalScan {
    private let core: StorageCore
    private let segments: [Segment]
    private let reader: FrameReader
    private var aborted: [ClosedRange<UInt64>] = []
    /// The number of each segment's first frame; nil if it has none.
    private var firstNumbers: [UInt64?] = []

    /// The number that the next frame is to have.
    private(set) var expected: UInt64
    /// The highest number that a frame says was durable.
    private(set) var durable: UInt64
    private(set) var gaps: [JournalGap] = []
    /// Where the newest segment's last frame ends, if what follows looks like one that is not whole.
    private(set) var tail: (segment: Segment, offset: Int)?
    /// Where a segment's last frames are unreadable, until the next one tells what is missing.
    private var hole: (segment: Segment, from: Int)?
    private(set) var frames = 0
    /// Recipients accepted up to the frame before, as frames tell it; nil: they do not.
    private var accepted: AcceptedCount?
    /// The last gap is a frame that nobody understands: what it accepted shows in the next one.
    private var isLastGapOpen = false

    /// Later frames are passed over.
    private let limit: UInt64

    private let beginsAnywhere: Bool

    /// `checkpointed`: the frame before the first that counts; nil: the first that is there counts.
    /// `limit`: the last frame that is of interest; nil: all are.
    /// `accepted`: the recipients accepted up to frame `checkpointed`; nil if nobody counted them.
    init(
        _ core: StorageCore, _ segments: [Segment], after checkpointed: UInt64?, upTo limit: UInt64?,
        accepted: AcceptedCount?
    ) {
        self.limit = limit ?? .max
        self.core = core
        self.segments = segments
        reader = FrameReader(core.fileSystem, windowSize: 1 << 20)
        beginsAnywhere = checkpointed == nil
        expected = (checkpointed ?? 0) + 1
        durable = checkpointed ?? 0
        self.accepted = accepted
    }

    /// What is told of a frame that counts; answers with the recipients that it accepted.
    typealias Visitor = (FrameType, UnsafeRawBufferPointer, Location) throws(FormatError) -> AcceptedCount

    /// Calls `each` with every frame that counts. Throws what the disk says, or that a newer slimtad wrote it.
    mutating func run(_ each: Visitor) throws {
        for segment in segments {
            firstNumbers.append(try first(segment))
        }
        if beginsAnywhere, let first = firstNumbers.lazy.compactMap({ $0 }).first {
            (expected, durable) = (first, first - 1)
        }
        for (place, segment) in segments.enumerated() {
            try scan(segment, place, each)
            segment.lastNumber = expected - 1
        }
    }

    /// Looks at the first frame: an ABORT says which frames of the segments before do not count.
    private mutating func first(_ segment: Segment) throws -> UInt64? {
        guard let (header, payload) = try valid(segment, SegmentHeader.space) else { return nil }
        if header.type == FrameType.abort.rawValue {
            var cursor = InputCursor(payload)
            while let field = try? cursor.field() {
                var range = field.cursor
                if field.tag == RecordTag.range, let from = try? range.number(UInt64.self),
                    let to = try? range.number(UInt64.self), from <= to, FrameHeader.isNumber(to)
                {
                    aborted.append(from...to)
                }
            }
        }
        return header.number
    }

    private func isAborted(_ number: UInt64) -> Bool { aborted.contains { $0.contains(number) } }

    /// The frame at `offset`; nil if there is none, or not a whole one.
    private func valid(
        _ segment: Segment, _ offset: Int
    ) throws(DiskError) -> (header: FrameHeader, payload: UnsafeRawBufferPointer)? {
        guard offset + FrameHeader.size <= segment.size else { return nil }
        let octets = try reader.frameOctets(segment, at: offset)
        guard let header = FrameHeader(octets), header.number > 0, header.frameSize <= segment.size - offset,
            FrameHeader.isValid(octets, header, salt: segment.header.salt)
        else { return nil }
        return (header, UnsafeRawBufferPointer(rebasing: octets[FrameHeader.size..<(FrameHeader.size + header.length)]))
    }

    private mutating func scan(_ segment: Segment, _ place: Int, _ each: Visitor) throws {
        var offset = SegmentHeader.space
        var skipped: Int?
        segment.end = offset
        while offset + FrameHeader.size <= segment.size {
            if let (header, payload) = try valid(segment, offset) {
                try take(header, payload, segment, offset, skipped, each)
                skipped = nil
                offset += header.frameSize
                segment.end = min(roundedUp(offset, to: OutputBuffer.page), segment.size)
                continue
            }
            // Padding behind a commit, the end of what was written, or damage.
            let boundary = roundedUp(offset + 1, to: OutputBuffer.page)
            let start = skipped ?? offset
            // Behind a damaged frame there may be others of its commit before the next one.
            if let (header, _) = try valid(segment, boundary), follows(header) {
                skipped = start
                offset = boundary
                continue
            }
            if isComplete(place) { return }
            guard let next = try search(segment, from: offset + 8) else {
                let isLast = firstNumbers.dropFirst(place + 1).allSatisfy { $0 == nil }
                if isLast, try looksTorn(segment, start) { tail = (segment, start) }
                hole = (segment, start)
                return
            }
            skipped = start
            offset = next
        }
    }

    /// Whether nothing is missing before this frame.
    private func follows(_ header: FrameHeader) -> Bool {
        let before = header.type == FrameType.marker.rawValue ? header.durable : header.number - 1
        return before < expected || areAborted(expected..<before + 1)
    }

    /// Whether nothing is missing between here and the next segment.
    private func isComplete(_ place: Int) -> Bool {
        guard let next = firstNumbers.dropFirst(place + 1).lazy.compactMap({ $0 }).first else { return false }
        return next == expected || next > expected && areAborted(expected..<next)
    }

    private func areAborted(_ numbers: Range<UInt64>) -> Bool {
        var number = numbers.lowerBound
        while number < numbers.upperBound {
            guard let range = aborted.first(where: { $0.contains(number) }) else { return false }
            number = range.upperBound + 1
        }
        return true
    }

    private mutating func take(
        _ header: FrameHeader, _ payload: UnsafeRawBufferPointer, _ segment: Segment, _ offset: Int, _ skipped: Int?,
        _ each: Visitor
    ) throws {
        guard let type = FrameType(rawValue: header.type) else {
            throw StorageOpenError.newerFormat(
                "\(segment.file.path): a record of type \(header.type), which this version does not know")
        }
        // What a marker says of itself is that nothing had come after `durable`.
        if (type == .marker ? header.durable : header.number) > limit { return }
        if type == .marker {
            // It has no number of its own; what it says was durable stands before it.
            durable = max(durable, header.durable)
            if header.durable >= expected {
                noteGap(to: header.durable, segment, offset, skipped)
                expected = header.durable + 1
                count(before: payload)
            }
            return
        }
        // Frames of a failed commit do not count, nor do they say anything.
        if isAborted(header.number) { return }
        durable = max(durable, header.durable)
        guard header.number >= expected else { return }
        if header.number > expected { noteGap(to: header.number - 1, segment, offset, skipped) }
        expected = header.number + 1
        frames += 1
        count(before: payload)
        do throws(FormatError) {
            let more = try each(type, payload, .journal(segment.number, offset))
            accepted = accepted.map { $0 + more }
        } catch {
            // Whole, and not understood: reported like damage, and kept.
            gaps.append(
                JournalGap(
                    first: header.number, last: header.number, segment: segment, from: offset,
                    to: offset + header.frameSize, before: segment.number))
            isLastGapOpen = true
            durable = max(durable, header.number)
        }
    }

    /// Frames from `expected` to `last` are not there, though they stood before `offset`.
    private mutating func noteGap(to last: UInt64, _ segment: Segment, _ offset: Int, _ skipped: Int?) {
        guard !areAborted(expected..<last + 1) else { return }
        var gap = JournalGap(
            first: expected, last: last, segment: skipped == nil ? nil : segment, from: skipped ?? offset, to: offset,
            before: segment.number)
        if skipped == nil, let hole {
            (gap.segment, gap.from, gap.to) = (hole.segment, hole.from, hole.segment.size)
        }
        gaps.append(gap)
        isLastGapOpen = true
    }

    /// A frame says how many recipients had been accepted before it: what is more than before was in the gap.
    private mutating func count(before payload: UnsafeRawBufferPointer) {
        var cursor = InputCursor(payload)
        guard let field = try? cursor.field(), field.tag == RecordTag.accepted else {
            accepted = nil
            isLastGapOpen = false
            return
        }
        var numbers = field.cursor
        guard let submitted = try? numbers.number(UInt64.self), let notices = try? numbers.number(UInt64.self) else {
            return
        }
        let told = AcceptedCount(submitted: submitted, notices: notices)
        if isLastGapOpen, let accepted { gaps[gaps.count - 1].accepted = told.missing(since: accepted) }
        isLastGapOpen = false
        accepted = told
    }

    /// The next whole frame of this segment behind `from`.
    private func search(_ segment: Segment, from: Int) throws(DiskError) -> Int? {
        var offset = roundedUp(from, to: 8)
        let magic = FrameHeader.magic.littleEndian
        while offset + FrameHeader.size <= segment.size {
            let octets = try reader.octets(segment, at: offset, atLeast: FrameHeader.size)
            guard octets.count >= FrameHeader.size else { return nil }
            let found = withUnsafeBytes(of: magic) { slimta_find(octets.baseAddress, octets.count, $0.baseAddress) }
            if found < 0 {
                offset += (octets.count - 3) / 8 * 8
                continue
            }
            let candidate = offset + Int(found)
            offset = candidate / 8 * 8 + 8
            // A recycled file is full of frames with lower numbers: they need no checksum to be passed over.
            guard candidate % 8 == 0, candidate + FrameHeader.size <= segment.size,
                let header = FrameHeader(try reader.octets(segment, at: candidate, atLeast: FrameHeader.size)),
                header.number >= expected
            else { continue }
            if try valid(segment, candidate) != nil { return candidate }
        }
        return nil
    }

    /// Whether what follows the last frame is part of a frame of this segment's time.
    private func looksTorn(_ segment: Segment, _ offset: Int) throws(DiskError) -> Bool {
        guard offset + FrameHeader.size <= segment.size else { return false }
        let boundary = roundedUp(offset, to: OutputBuffer.page)
        for place in boundary == offset ? [offset] : [offset, boundary]
        where place + FrameHeader.size <= segment.size {
            let octets = try reader.octets(segment, at: place, atLeast: FrameHeader.size)
            guard octets.count >= FrameHeader.size else { continue }
            let header = FrameHeader(octets)
            // A marker has the number that comes next: in a file that is used again it may still be that. And if it is
            // of this time, its loss is none.
            if let header, header.type == FrameType.marker.rawValue, header.number == header.durable + 1 { continue }
            if octets.number(at: 16, as: UInt64.self) == expected { return true }
            if let header, header.number >= expected { return true }
        }
        return false
    }
}
