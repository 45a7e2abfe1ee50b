// The content of a message that comes by other ways than SMTP: from a program's output, a file, the body of an HTTP request.
// There a line ends with LF as often as with CRLF. Edges of those kinds read through it, chunk by chunk.

package import NIOCore

/// Makes CRLF of every end of a line, LF or CRLF, however they are mixed and however the octets were cut.
///
/// Refused is what another host could read otherwise (RFC 5321 sections 2.3.8 and 4.1.1.4): a CR without LF, and a NUL.
/// Lines may be of any length, as over SMTP: programs' reports have longer ones than RFC 5322 section 2.1.1 wants. Nothing
/// is repaired but the ends. What was given out before a fault is worth nothing. Costs a search for each of the three octets
/// and one copy.
package struct ContentReader: Sendable {
    /// Why the content is refused: the first fault that is in it.
    package enum Fault: Hashable, Sendable {
        /// It is larger than the limit.
        case tooLarge
        /// A CR without LF.
        case bareCarriageReturn
        case null
    }

    private let limit: Int
    /// The line so far has octets.
    private var isInLine = false
    /// The last octet was a CR; it is given out with its LF.
    private var isAfterCR = false

    /// The number of the line that is read; where there is a fault, of the one that has it. The first is 1.
    package private(set) var line = 1
    /// The octets given out.
    package private(set) var size = 0
    /// What is wrong with the content, once something is: then nothing more is read.
    package private(set) var fault: Fault?
    /// Whether an octet above 127 was in it.
    package private(set) var hasEightBit = false

    /// What whoever sent the content is told of the fault; nil: there is none.
    package var refusal: Reply? {
        switch fault {
        case nil: nil
        case .tooLarge: Reply(552, .init(5, 3, 4), "Message exceeded size limit")
        case .bareCarriageReturn:
            Reply(554, .init(5, 6, 0), "Line \(line) has a CR without LF; lines end with LF or CRLF")
        case .null: Reply(554, .init(5, 6, 0), "Line \(line) has a NUL")
        }
    }

    /// - Parameter limit: the most octets that the message may have, each end of a line counted as the two that it becomes.
    package init(limit: Int) { self.limit = limit }

    /// Appends what `octets` are to `content`, which gets at most the limit over all calls.
    package mutating func read(_ octets: ByteBuffer, into content: inout ByteBuffer) {
        octets.withUnsafeReadableBytes { read($0, into: &content) }
    }

    /// Behind the last octets: ends the last line, if its end is missing.
    package mutating func finish(into content: inout ByteBuffer) {
        guard fault == nil else { return }
        if isAfterCR { return fault = .bareCarriageReturn }
        if isInLine { endLine(into: &content) }
    }

    private mutating func read(_ octets: UnsafeRawBufferPointer, into content: inout ByteBuffer) {
        guard !octets.isEmpty, fault == nil else { return }
        var offset = 0
        if isAfterCR {
            guard octets[0] == UInt8(ascii: "\n") else { return fault = .bareCarriageReturn }
            endLine(into: &content)
            offset = 1
        }
        // What is good as it is and not yet copied begins here.
        var start = offset
        var ends = TextEnds(octets)
        while offset < octets.count, fault == nil {
            let end = ends.next(from: offset)
            take(text: end - offset)
            guard fault == nil, end < octets.count else { break }
            offset = end + 1
            switch octets[end] {
            case 0: fault = .null
            case UInt8(ascii: "\n"):
                copy(octets, start..<end, to: &content)
                endLine(into: &content)
                start = offset
            default:
                guard offset < octets.count else {
                    copy(octets, start..<end, to: &content)
                    return isAfterCR = true
                }
                guard octets[offset] == UInt8(ascii: "\n") else { return fault = .bareCarriageReturn }
                offset += 1
                endLine()
            }
        }
        if fault == nil { copy(octets, start..<octets.count, to: &content) }
    }

    /// Counts octets of a line.
    private mutating func take(text count: Int) {
        guard count <= limit - size else { return fault = .tooLarge }
        size += count
        if count > 0 { isInLine = true }
    }

    /// Counts the end of a line, and appends it.
    private mutating func endLine(into content: inout ByteBuffer) {
        endLine()
        if fault == nil { content.writeStaticString("\r\n") }
    }

    /// Counts the end of a line, which is among what will be copied.
    private mutating func endLine() {
        guard size + 2 <= limit else { return fault = .tooLarge }
        size += 2
        (isInLine, line, isAfterCR) = (false, line + 1, false)
    }

    private mutating func copy(_ octets: UnsafeRawBufferPointer, _ range: Range<Int>, to content: inout ByteBuffer) {
        let slice = UnsafeRawBufferPointer(rebasing: octets[range])
        if !hasEightBit { hasEightBit = slice.hasEightBit }
        content.writeBytes(slice)
    }
}
