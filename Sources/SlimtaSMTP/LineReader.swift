// Commands as they come in: finds the ends of lines, within a limit, whatever way the octets were cut.
// Used by SMTPServerMachine for commands and AUTH responses.

import Glibc
internal import NIOCore

/// Takes lines ended by CRLF out of a buffer.
struct LineReader {
    enum Line: Equatable {
        /// A whole line, without CRLF.
        case line(ByteBuffer)
        /// A line that ended with a bare LF, or had a bare CR or a NUL in it: it is gone.
        case malformed
        /// A line longer than the limit: it is gone.
        case tooLong
    }

    private enum State {
        case reading
        /// What comes belongs to a line that is refused, up to its CRLF: a bare LF does not end it, and nothing in it is
        /// a command. What is said of it at its first LF; nil: that was said.
        case discarding(Line?)
    }

    private var state = State.reading
    /// Octets of the buffer that are known to hold no LF: so that a slow line is not scanned again and again.
    private var scanned = 0

    /// The next line of `input`, at most `limit` octets with its CRLF; nil if its end is not there yet.
    mutating func next(_ input: inout ByteBuffer, limit: Int) -> Line? {
        while let length = lengthOfLine(input) {
            let endsWithCRLF =
                length >= 2
                && input.getInteger(at: input.readerIndex + length - 2, as: UInt8.self) == UInt8(ascii: "\r")
            let line = input.readSlice(length: length)?.getSlice(at: 0, length: max(length - 2, 0))
            scanned = 0
            switch state {
            case .discarding(let report):
                // Said at the first LF: a client that ends its lines with LF alone would wait for ever.
                state = endsWithCRLF ? .reading : .discarding(nil)
                if let report { return report }
            case .reading:
                if !endsWithCRLF { state = .discarding(nil) }
                if length > limit { return .tooLong }
                guard let line, endsWithCRLF, !hasControl(line) else { return .malformed }
                return .line(line)
            }
        }
        scanned = input.readableBytes
        switch state {
        case .discarding: drop(&input)
        case .reading:
            guard scanned >= limit else { break }
            state = .discarding(.tooLong)
            drop(&input)
        }
        return nil
    }

    /// Forgets what came of a refused line, but for the last octet: it may be the CR of the line's end.
    private mutating func drop(_ input: inout ByteBuffer) {
        guard input.readableBytes > 1 else { return }
        input.moveReaderIndex(forwardBy: input.readableBytes - 1)
        scanned = 1
    }

    private func lengthOfLine(_ input: ByteBuffer) -> Int? {
        input.withUnsafeReadableBytes { octets in
            guard let base = octets.baseAddress, octets.count > scanned,
                let found = memchr(base + scanned, Int32(UInt8(ascii: "\n")), octets.count - scanned)
            else { return nil }
            return UnsafeRawPointer(found) - base + 1
        }
    }

    /// A CR within a line, or a NUL: another server would read such a line otherwise.
    private func hasControl(_ line: ByteBuffer) -> Bool {
        line.withUnsafeReadableBytes { octets in
            guard let base = octets.baseAddress, octets.count > 0 else { return false }
            return memchr(base, Int32(UInt8(ascii: "\r")), octets.count) != nil
                || memchr(base, 0, octets.count) != nil
        }
    }
}
