// Where a message on standard input ends that was called without -i: a line that is a dot, as somebody types it.

import NIOCore
import SlimtaMail

/// Passes octets on up to a line of a lone dot, which ends with LF, CRLF or the input, however the octets are cut. Dots at the
/// beginning of other lines are theirs: nothing is undone, unlike in SMTP.
struct DotEnd {
    private enum Position {
        case lineStart, inLine, afterDot, afterDotCR
    }

    private var position = Position.lineStart
    /// Whether the line was found: nothing behind it belongs to the message.
    private(set) var isFound = false

    /// What of `octets` belongs to the message, with what was kept back of those before.
    mutating func read(_ octets: ByteBuffer) -> ByteBuffer {
        guard !isFound else { return ByteBuffer() }
        if position == .inLine || position == .lineStart, !mayEnd(octets) { return octets }
        var message = ByteBuffer()
        message.reserveCapacity(octets.readableBytes + 2)
        for octet in octets.readableBytesView {
            switch (position, octet) {
            case (.lineStart, UInt8(ascii: ".")):
                position = .afterDot
                continue
            case (.afterDot, UInt8(ascii: "\r")):
                position = .afterDotCR
                continue
            case (.afterDot, UInt8(ascii: "\n")), (.afterDotCR, UInt8(ascii: "\n")):
                isFound = true
                return message
            case (.afterDot, _): message.writeStaticString(".")
            case (.afterDotCR, _): message.writeStaticString(".\r")
            case (.lineStart, _), (.inLine, _): break
            }
            message.writeInteger(octet)
            position = octet == UInt8(ascii: "\n") ? .lineStart : .inLine
        }
        return message
    }

    /// What was kept back when the input ended: a dot alone is the end, whatever is behind it.
    mutating func finish() -> ByteBuffer {
        defer { position = .inLine }
        guard !isFound else { return ByteBuffer() }
        switch position {
        case .afterDotCR: return ByteBuffer(string: ".\r")
        case .afterDot, .lineStart, .inLine: return ByteBuffer()
        }
    }

    /// Whether a line of `octets` begins with a dot; if not, they are passed on whole, and where they end is noted.
    private mutating func mayEnd(_ octets: ByteBuffer) -> Bool {
        octets.withUnsafeReadableBytes { octets in
            guard let last = octets.last else { return false }
            var start = position == .lineStart ? 0 : octets.endOfLine(from: 0)
            while start < octets.count {
                if octets[start] == UInt8(ascii: ".") { return true }
                start = octets.endOfLine(from: start)
            }
            position = last == UInt8(ascii: "\n") ? .lineStart : .inLine
            return false
        }
    }
}
