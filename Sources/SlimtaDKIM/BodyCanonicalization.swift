// A body in canonical form (RFC 6376 sections 3.4.3 and 3.4.4) while it comes in: each chunk is seen once, whatever its size,
// and what is ready goes on to a digest. BodyHasher has one, tests have one that collects.

import SlimtaMail

/// Where canonical octets go.
protocol OctetSink: ~Copyable {
    /// These come next; they are there until it returns.
    mutating func take(_ octets: UnsafeRawBufferPointer)
}

/// Makes a body canonical, chunk by chunk.
///
/// Lines that are canonical as they are, which is nearly all, go on as they lie in the chunk, all up to the next that is not.
/// The others are written anew, and those that a chunk's end cuts go octet by octet. What cannot be known before more octets come is all the state there is:
/// a CR that may be half of a line end, blanks that may be at the end of a line, empty lines that may be the last.
struct BodyCanonicalization {
    private let isRelaxed: Bool
    /// Empty lines behind the last line that has content.
    private var emptyLines = 0
    /// Blanks came, of which one is left if content follows on the line. Relaxed only.
    private var hasBlank = false
    /// A CR came, and nothing behind it yet.
    private var hasCR = false
    /// Something of this line has gone out.
    private var lineHasContent = false
    /// Something of the body has gone out.
    private var hasContent = false
    /// What goes out next.
    private var room: [UInt8] = []
    private static let roomSize = 4096
    private static let lineEnds = [UInt8](repeatElement([0x0D, 0x0A], count: 2048).joined())

    init(_ canonicalization: Canonicalization) { isRelaxed = canonicalization == .relaxed }

    private var isAtLineStart: Bool { !lineHasContent && !hasBlank && !hasCR }

    /// The body's next octets.
    mutating func take<Sink: OctetSink & ~Copyable>(_ octets: UnsafeRawBufferPointer, into sink: inout Sink) {
        var place = 0
        while place < octets.count {
            if isAtLineStart {
                let end = octets.endOfLines(place..<(isRelaxed ? firstChange(octets, from: place) : octets.count))
                if end > place {
                    takeLines(UnsafeRawBufferPointer(rebasing: octets[place..<end]), into: &sink)
                    place = end
                    continue
                }
                if isRelaxed, let end = octets.firstOffset(of: UInt8(ascii: "\n"), from: place), end > place,
                    octets[end - 1] == UInt8(ascii: "\r")
                {
                    takeLine(UnsafeRawBufferPointer(rebasing: octets[place..<end - 1]), into: &sink)
                    place = end + 1
                    continue
                }
            }
            takeOne(octets[place], into: &sink)
            place += 1
        }
        sendRoom(into: &sink)
    }

    /// The end of the body: what it has to end with (a CRLF, which the wire gets too), nothing of the empty lines at its end.
    mutating func finish<Sink: OctetSink & ~Copyable>(into sink: inout Sink) {
        if hasCR { append(UInt8(ascii: "\r"), into: &sink) }
        // Section 3.4.3: an empty body is a CRLF; section 3.4.4: it is nothing.
        if lineHasContent || !hasContent && !isRelaxed { room += "\r\n".utf8 }
        sendRoom(into: &sink)
    }

    /// The first octet from `start` on that does not stay as it is, or may not: a tab, a blank before another, or before a
    /// line's end. The end, if there is none.
    private func firstChange(_ octets: UnsafeRawBufferPointer, from start: Int) -> Int {
        let (tab, space, cr) = (
            SIMD16<UInt8>(repeating: 0x09), SIMD16<UInt8>(repeating: 0x20), SIMD16<UInt8>(repeating: 0x0D)
        )
        // 16 octets, each with the one behind it; a lane's bits are set where its octet changes.
        @inline(__always) func changes(_ place: Int) -> SIMD2<UInt64> {
            let these = octets.loadUnaligned(fromByteOffset: place, as: SIMD16<UInt8>.self)
            let next = octets.loadUnaligned(fromByteOffset: place + 1, as: SIMD16<UInt8>.self)
            let isAtBlank = (these .== space) .& ((next .== space) .| (next .== cr))
            // What any(_:) is made into takes longer than all of this.
            return unsafeBitCast((these .== tab) .| isAtBlank, to: SIMD2<UInt64>.self)
        }
        var place = start
        while place + 64 < octets.count {
            let found = changes(place) | changes(place + 16) | changes(place + 32) | changes(place + 48)
            if found[0] | found[1] != 0 { break }
            place += 64
        }
        while place + 16 < octets.count {
            let found = changes(place)
            if found[0] != 0 { return place + found[0].trailingZeroBitCount / 8 }
            if found[1] != 0 { return place + 8 + found[1].trailingZeroBitCount / 8 }
            place += 16
        }
        while place < octets.count {
            let next = place + 1 < octets.count ? octets[place + 1] : 0x20
            if octets[place] == 0x09 || octets[place] == 0x20 && (next == 0x20 || next == 0x0D) { return place }
            place += 1
        }
        return place
    }

    /// Whole lines that stay as they are. Of empty ones at their end nobody knows yet whether they are the last.
    private mutating func takeLines<Sink: OctetSink & ~Copyable>(
        _ lines: UnsafeRawBufferPointer, into sink: inout Sink
    ) {
        var end = lines.count
        while lines.hasLineEnd(before: end) { end -= 2 }
        // The first of these ends the line before it.
        if end > 0 { end += 2 }
        if end > 0 {
            sendEmptyLines(into: &sink)
            sendRoom(into: &sink)
            hasContent = true
            sink.take(UnsafeRawBufferPointer(rebasing: lines[..<end]))
        }
        emptyLines += (lines.count - end) / 2
    }

    /// A whole line without its CRLF, of which blanks have to go. Relaxed only.
    private mutating func takeLine<Sink: OctetSink & ~Copyable>(
        _ line: UnsafeRawBufferPointer, into sink: inout Sink
    ) {
        guard let first = line.firstIndex(where: { !Canonicalization.isBlank($0) }) else {
            emptyLines += 1
            return
        }
        sendEmptyLines(into: &sink)
        hasContent = true
        var isBehindBlank = first > 0
        for octet in line[first...] {
            if Canonicalization.isBlank(octet) {
                isBehindBlank = true
                continue
            }
            if isBehindBlank { room.append(UInt8(ascii: " ")) }
            isBehindBlank = false
            room.append(octet)
        }
        room += "\r\n".utf8
        if room.count >= Self.roomSize { sendRoom(into: &sink) }
    }

    private mutating func takeOne<Sink: OctetSink & ~Copyable>(_ octet: UInt8, into sink: inout Sink) {
        if hasCR {
            hasCR = false
            if octet == UInt8(ascii: "\n") { return endLine() }
            append(UInt8(ascii: "\r"), into: &sink)
        }
        if octet == UInt8(ascii: "\r") {
            hasCR = true
        } else if isRelaxed, Canonicalization.isBlank(octet) {
            hasBlank = true
        } else {
            append(octet, into: &sink)
        }
    }

    private mutating func endLine() {
        // A line of blanks is an empty one once they are gone.
        hasBlank = false
        if lineHasContent { room += "\r\n".utf8 } else { emptyLines += 1 }
        lineHasContent = false
    }

    private mutating func append<Sink: OctetSink & ~Copyable>(_ octet: UInt8, into sink: inout Sink) {
        sendEmptyLines(into: &sink)
        if hasBlank { room.append(UInt8(ascii: " ")) }
        hasBlank = false
        (lineHasContent, hasContent) = (true, true)
        room.append(octet)
        if room.count >= Self.roomSize { sendRoom(into: &sink) }
    }

    private mutating func sendEmptyLines<Sink: OctetSink & ~Copyable>(into sink: inout Sink) {
        guard emptyLines > 0 else { return }
        hasContent = true
        sendRoom(into: &sink)
        while emptyLines > 0 {
            let count = min(emptyLines, Self.lineEnds.count / 2)
            Self.lineEnds.withUnsafeBytes { sink.take(UnsafeRawBufferPointer(rebasing: $0[..<(2 * count)])) }
            emptyLines -= count
        }
    }

    private mutating func sendRoom<Sink: OctetSink & ~Copyable>(into sink: inout Sink) {
        guard !room.isEmpty else { return }
        room.withUnsafeBytes { sink.take($0) }
        room.removeAll(keepingCapacity: true)
    }
}

extension UnsafeRawBufferPointer {
    /// Whether a CRLF is in front of an offset.
    fileprivate func hasLineEnd(before offset: Int) -> Bool {
        offset >= 2 && self[offset - 1] == UInt8(ascii: "\n") && self[offset - 2] == UInt8(ascii: "\r")
    }

    /// The offset behind the last CRLF in a range; where the range begins, if there is none.
    fileprivate func endOfLines(_ range: Range<Int>) -> Int {
        var end = range.upperBound
        while end >= range.lowerBound + 2 {
            if hasLineEnd(before: end) { return end }
            end -= 1
        }
        return range.lowerBound
    }
}
