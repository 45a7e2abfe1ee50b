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
/// Lines that are canonical as they are, which is nearly all, go on as they lie in the chunk, many at a time. The others are
/// written anew, and those that a chunk's end cuts go octet by octet. What cannot be known before more octets come is all the state there is:
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
        // From here to `place` they go out as they are.
        var start = 0
        while place < octets.count {
            if isAtLineStart, let end = octets.firstOffset(of: UInt8(ascii: "\n"), from: place) {
                if end == place + 1, octets[place] == UInt8(ascii: "\r") {
                    send(octets, start..<place, into: &sink)
                    emptyLines += 1
                    (place, start) = (end + 1, end + 1)
                    continue
                }
                if isCanonical(octets, place..<end) {
                    sendEmptyLines(into: &sink)
                    hasContent = true
                    place = end + 1
                    continue
                }
                if end > place, octets[end - 1] == UInt8(ascii: "\r") {
                    send(octets, start..<place, into: &sink)
                    takeLine(UnsafeRawBufferPointer(rebasing: octets[place..<end - 1]), into: &sink)
                    (place, start) = (end + 1, end + 1)
                    continue
                }
            }
            send(octets, start..<place, into: &sink)
            takeOne(octets[place], into: &sink)
            place += 1
            start = place
        }
        send(octets, start..<place, into: &sink)
        sendRoom(into: &sink)
    }

    /// The end of the body: what it has to end with (a CRLF, which the wire gets too), nothing of the empty lines at its end.
    mutating func finish<Sink: OctetSink & ~Copyable>(into sink: inout Sink) {
        if hasCR { append(UInt8(ascii: "\r"), into: &sink) }
        // Section 3.4.3: an empty body is a CRLF; section 3.4.4: it is nothing.
        if lineHasContent || !hasContent && !isRelaxed { room += "\r\n".utf8 }
        sendRoom(into: &sink)
    }

    /// Whether a line, which is not empty and ends with the LF at the end of `line`, stays as it is.
    private func isCanonical(_ octets: UnsafeRawBufferPointer, _ line: Range<Int>) -> Bool {
        guard line.count > 1, octets[line.upperBound - 1] == UInt8(ascii: "\r") else { return false }
        guard isRelaxed else { return true }
        let end = line.upperBound - 1
        guard octets[end - 1] != UInt8(ascii: " ") else { return false }
        // 16 octets at a time, each with the one behind it, which is the CR in the end.
        var place = line.lowerBound
        let (tab, space) = (SIMD16<UInt8>(repeating: 0x09), SIMD16<UInt8>(repeating: 0x20))
        while place + 16 <= end {
            let these = octets.loadUnaligned(fromByteOffset: place, as: SIMD16<UInt8>.self)
            let next = octets.loadUnaligned(fromByteOffset: place + 1, as: SIMD16<UInt8>.self)
            if any((these .== tab) .| ((these .== space) .& (next .== space))) { return false }
            place += 16
        }
        while place < end {
            if octets[place] == 0x09 || octets[place] == 0x20 && octets[place + 1] == 0x20 { return false }
            place += 1
        }
        return true
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

    private mutating func send<Sink: OctetSink & ~Copyable>(
        _ octets: UnsafeRawBufferPointer, _ range: Range<Int>, into sink: inout Sink
    ) {
        guard !range.isEmpty else { return }
        sendRoom(into: &sink)
        sink.take(UnsafeRawBufferPointer(rebasing: octets[range]))
    }

    private mutating func sendRoom<Sink: OctetSink & ~Copyable>(into sink: inout Sink) {
        guard !room.isEmpty else { return }
        room.withUnsafeBytes { sink.take($0) }
        room.removeAll(keepingCapacity: true)
    }
}
