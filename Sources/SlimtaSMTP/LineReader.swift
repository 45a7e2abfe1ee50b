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

    /// Octets of the buffer that are known to hold no LF: so that a slow line is not scanned again and again.
    private var scanned = 0
    /// A line was too long, and its end has not come yet.
    private var isDiscarding = false

    /// The next line of `input`, at most `limit` octets with its CRLF; nil if its end is not there yet.
    mutating func next(_ input: inout ByteBuffer, limit: Int) -> Line? {
        guard let length = lengthOfLine(input) else {
            scanned = input.readableBytes
            if scanned >= limit {
                // Keep the last octet: it may be the CR of the line's end.
                input.moveReaderIndex(forwardBy: scanned - 1)
                scanned = 1
                isDiscarding = true
            }
            return nil
        }
        scanned = 0
        defer { input.moveReaderIndex(forwardBy: length) }
        if isDiscarding || length > limit {
            isDiscarding = false
            return .tooLong
        }
        let line = input.getSlice(at: input.readerIndex, length: max(length - 2, 0))
        guard let line, length >= 2, endsWithCRLF(input, length), !hasControl(line) else { return .malformed }
        return .line(line)
    }

    private func lengthOfLine(_ input: ByteBuffer) -> Int? {
        input.withUnsafeReadableBytes { octets in
            guard let base = octets.baseAddress, octets.count > scanned,
                let found = memchr(base + scanned, Int32(UInt8(ascii: "\n")), octets.count - scanned)
            else { return nil }
            return UnsafeRawPointer(found) - base + 1
        }
    }

    private func endsWithCRLF(_ input: ByteBuffer, _ length: Int) -> Bool {
        input.getInteger(at: input.readerIndex + length - 2, as: UInt8.self) == UInt8(ascii: "\r")
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
