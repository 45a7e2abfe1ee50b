// Commands as they come in: finds the ends of lines, within a limit, whatever way the octets were cut.
// Used by SMTPServerMachine for commands and AUTH responses.

internal import NIOCore
internal import SlimtaMail

/// Takes lines ended by CRLF out of a buffer.
struct LineReader {
    enum Line: Equatable {
        /// A whole line, without CRLF.
        case line(ByteBuffer)
        /// A line that ended with a bare LF, or had a bare CR or a NUL in it: it is gone. Nothing behind it is to be read,
        /// since others find other lines there.
        case malformed
        /// A line longer than the limit: it is gone.
        case tooLong
    }

    /// Whether what comes belongs to a line that is too long, up to its end.
    private(set) var isTooLong = false
    /// Octets of the buffer that are known to hold no LF: so that a slow line is not scanned again and again.
    private var scanned = 0

    /// The next line of `input`, at most `limit` octets with its CRLF; nil if its end is not there yet.
    mutating func next(_ input: inout ByteBuffer, limit: Int) -> Line? {
        if let length = lengthOfLine(input) {
            let endsWithCRLF =
                length >= 2
                && input.getInteger(at: input.readerIndex + length - 2, as: UInt8.self) == UInt8(ascii: "\r")
            let line = input.readSlice(length: length)?.getSlice(at: 0, length: max(length - 2, 0))
            scanned = 0
            defer { isTooLong = false }
            guard let line, endsWithCRLF else { return .malformed }
            if isTooLong || length > limit { return .tooLong }
            return hasControl(line) ? .malformed : .line(line)
        }
        scanned = input.readableBytes
        if scanned >= limit { isTooLong = true }
        if isTooLong { drop(&input) }
        return nil
    }

    /// Forgets what came of a line that is too long, but for the last octet: it may be the CR of the line's end.
    private mutating func drop(_ input: inout ByteBuffer) {
        guard input.readableBytes > 1 else { return }
        input.moveReaderIndex(forwardBy: input.readableBytes - 1)
        scanned = 1
    }

    private func lengthOfLine(_ input: ByteBuffer) -> Int? {
        input.withUnsafeReadableBytes { octets in
            octets.firstOffset(of: UInt8(ascii: "\n"), from: scanned).map { $0 + 1 }
        }
    }

    /// A CR within a line, or a NUL: another server would read such a line otherwise.
    private func hasControl(_ line: ByteBuffer) -> Bool {
        line.withUnsafeReadableBytes { octets in
            octets.firstOffset(of: UInt8(ascii: "\r")) != nil || octets.firstOffset(of: 0) != nil
        }
    }
}
