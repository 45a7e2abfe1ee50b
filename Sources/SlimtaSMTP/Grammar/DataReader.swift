// Mail data as it comes in (RFC 5321 section 4.5.2): finds CRLF.CRLF, undoes dot-stuffing, refuses what another server
// could read as an end. Used by SMTPServerMachine behind DATA.

internal import NIOCore
internal import SlimtaMail

/// Reads one message's data, whatever way the octets were cut: of two faults, the first is the one that is told. Costs
/// two memchr a line and one copy.
///
/// Data with a bare CR, a bare LF or a NUL is refused and is the last that is read of a session. So it may end at a line
/// of a dot whose line ends are others than CRLF: a client that writes such a line waits for a reply behind it, and
/// nothing is taken for a command there.
struct DataReader {
    /// Why the data is refused. It is read to its end all the same.
    enum Fault: Equatable {
        /// More than the limit.
        case tooLarge
        /// A CR without LF, a LF without CR, or a NUL.
        case bareLineEnd
    }

    private enum Position {
        /// At the first octet of a line, whatever ended the one before.
        case lineStart
        /// Within a line.
        case inLine
        /// Behind a CR, which has been given out with its line only when its LF came.
        case afterCR
        /// Behind a dot that began a line.
        case afterDot
        /// Behind a dot that began a line, and a CR.
        case afterDotCR
    }

    private let limit: Int
    private var position = Position.lineStart
    private var size = 0
    /// What is wrong with the data, once something is.
    private(set) var fault: Fault?
    /// Whether a bare CR, a bare LF or a NUL was in it, even if that is not the fault that is told.
    private(set) var hasBareLineEnd = false
    /// Whether an octet above 127 was in it.
    private(set) var hasEightBit = false

    /// - Parameter limit: the most octets that a message may have, dot-stuffing undone.
    init(limit: Int) { self.limit = limit }

    /// Takes octets from `input` and appends the data that they are to `content`.
    ///
    /// - Returns: whether the end was found; `input` then begins with what is behind it.
    mutating func read(_ input: inout ByteBuffer, into content: inout ByteBuffer) -> Bool {
        let (consumed, isEnd) = input.withUnsafeReadableBytes { octets in read(octets, into: &content) }
        input.moveReaderIndex(forwardBy: consumed)
        return isEnd
    }

    private mutating func read(_ octets: UnsafeRawBufferPointer, into content: inout ByteBuffer) -> (Int, Bool) {
        var offset = 0
        // What is good and not yet copied begins here.
        var start = 0
        var ends = TextEnds(octets)
        while offset < octets.count {
            switch position {
            case .lineStart:
                position = octets[offset] == UInt8(ascii: ".") ? .afterDot : .inLine
                guard position == .afterDot else { continue }
                append(octets, start..<offset, to: &content)
                offset += 1
                start = offset
            case .afterDot:
                if octets[offset] == UInt8(ascii: "\r") {
                    offset += 1
                    start = offset
                    position = .afterDotCR
                } else if octets[offset] == UInt8(ascii: "\n") {
                    foundBareLineEnd()
                    return (offset + 1, true)
                } else {
                    position = .inLine
                }
            case .afterDotCR:
                if octets[offset] == UInt8(ascii: "\n") { return (offset + 1, true) }
                foundBareLineEnd()
                position = .lineStart
            case .afterCR:
                if octets[offset] == UInt8(ascii: "\n") {
                    // The CR may have come with octets before these.
                    if start == offset, offset == 0 { appendCR(to: &content) }
                    offset += 1
                } else {
                    append(octets, start..<max(start, offset - 1), to: &content)
                    foundBareLineEnd()
                }
                position = .lineStart
            case .inLine:
                offset = ends.next(from: offset)
                guard offset < octets.count else { continue }
                offset += 1
                guard octets[offset - 1] == UInt8(ascii: "\r") else {
                    append(octets, start..<(offset - 1), to: &content)
                    if octets[offset - 1] == UInt8(ascii: "\n") { position = .lineStart }
                    foundBareLineEnd()
                    continue
                }
                position = .afterCR
                // A CR that is last is given out when it is known to be the first half of CRLF.
                if offset == octets.count {
                    append(octets, start..<(offset - 1), to: &content)
                    start = offset
                }
            }
        }
        append(octets, start..<octets.count, to: &content)
        return (octets.count, false)
    }

    /// What came before was counted already, so that the fault does not depend on how the octets were cut.
    private mutating func found(_ fault: Fault) { self.fault = self.fault ?? fault }

    private mutating func foundBareLineEnd() {
        hasBareLineEnd = true
        found(.bareLineEnd)
    }

    private mutating func append(_ octets: UnsafeRawBufferPointer, _ range: Range<Int>, to content: inout ByteBuffer) {
        guard !range.isEmpty, fault == nil else { return }
        guard size + range.count <= limit else { return found(.tooLarge) }
        size += range.count
        let slice = UnsafeRawBufferPointer(rebasing: octets[range])
        if !hasEightBit { hasEightBit = slice.hasEightBit }
        content.writeBytes(slice)
    }

    private mutating func appendCR(to content: inout ByteBuffer) {
        guard fault == nil else { return }
        guard size < limit else { return found(.tooLarge) }
        size += 1
        content.writeInteger(UInt8(ascii: "\r"))
    }
}
