// The content of one part as lines of 7 bits, some octets at a time (RFC 2045 sections 6.7 and 6.8). Used by
// SevenBitConverter, one for each part that is encoded.

internal import NIOCore
internal import SlimtaMail

/// What is done to the content of a part.
package enum BodyChange: Hashable, Sendable {
    /// It is encoded as quoted-printable; ends of lines stay.
    case quotedPrintable
    /// It is encoded as base64, ends of lines too.
    case base64
    /// It is quoted-printable, but for some octets, or some lines: they are mended.
    case mendedQuotedPrintable
    /// It is base64, but for some octets, or some lines: they are mended.
    case mendedBase64
}

/// Writes one content.
struct BodyEncoder {
    private enum Way {
        case quotedPrintable(QuotedPrintableWriter)
        case base64(Base64Writer)
    }

    private var way: Way

    init(_ change: BodyChange) {
        way =
            switch change {
            case .quotedPrintable: .quotedPrintable(QuotedPrintableWriter(isMending: false))
            case .mendedQuotedPrintable: .quotedPrintable(QuotedPrintableWriter(isMending: true))
            case .base64: .base64(Base64Writer(isMending: false))
            case .mendedBase64: .base64(Base64Writer(isMending: true))
            }
    }

    /// Writes the next octets, cut anywhere, as far as what follows does not matter.
    mutating func write(_ octets: UnsafeRawBufferPointer, to output: inout ByteBuffer) {
        switch way {
        case .quotedPrintable(var writer):
            // Moved out and back, so that its octets are not copied.
            way = .base64(Base64Writer(isMending: false))
            writer.write(octets, to: &output)
            way = .quotedPrintable(writer)
        case .base64(var writer):
            writer.write(octets, to: &output)
            way = .base64(writer)
        }
    }

    /// Whether what was written ends within a line.
    var isWithinLine: Bool {
        switch way {
        // Ends of lines stay as they are.
        case .quotedPrintable: false
        case .base64(let writer): writer.isWithinLine
        }
    }

    /// Writes what is left. `isAtEnd`: the message ends too, so that the last line has to have its end.
    mutating func finish(isAtEnd: Bool, to output: inout ByteBuffer) {
        switch way {
        case .quotedPrintable(var writer): writer.finish(isAtEnd: isAtEnd, to: &output)
        case .base64(var writer): writer.finish(isAtEnd: isAtEnd, to: &output)
        }
    }
}

/// Base64 in lines of 76.
struct Base64Writer {
    private static let width = 76

    private let isMending: Bool
    private var bits: UInt32 = 0
    private var count = 0
    private var column = 0
    var isWithinLine: Bool { column > 0 }

    /// - Parameter isMending: what comes is base64: letters and padding are put into new lines, the rest is dropped.
    init(isMending: Bool) { self.isMending = isMending }

    mutating func write(_ octets: UnsafeRawBufferPointer, to output: inout ByteBuffer) {
        for octet in octets {
            if isMending {
                if octet == UInt8(ascii: "=") || Base64.value(of: octet) != nil { put(octet, to: &output) }
                continue
            }
            (bits, count) = (bits << 8 | UInt32(octet), count + 1)
            if count == 3 { flush(to: &output) }
        }
    }

    mutating func finish(isAtEnd: Bool, to output: inout ByteBuffer) {
        if count > 0 {
            let missing = 3 - count
            bits <<= UInt32(8 * missing)
            count = 4 - missing
            for position in 0..<4 {
                let letter = Base64.letter(bits >> UInt32(18 - 6 * position))
                put(position < count ? letter : UInt8(ascii: "="), to: &output)
            }
            count = 0
        }
        if isAtEnd, column > 0 { output.writeStaticString("\r\n") }
    }

    private mutating func flush(to output: inout ByteBuffer) {
        for shift in [18, 12, 6, 0] as [UInt32] { put(Base64.letter(bits >> shift), to: &output) }
        (bits, count) = (0, 0)
    }

    /// A line ends when there is another letter for the next one: the end of the last line is the delimiter's.
    private mutating func put(_ letter: UInt8, to output: inout ByteBuffer) {
        if column == Self.width {
            output.writeStaticString("\r\n")
            column = 0
        }
        output.writeInteger(letter)
        column += 1
    }
}
