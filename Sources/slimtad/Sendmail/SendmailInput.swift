// The message on standard input, as it comes: chunk by chunk, with CRLF at the ends of its lines, up to its end.

import Glibc
import NIOCore
import SlimtaMail
import SlimtaSystem

/// Reads a message from a descriptor. Its memory is that of one chunk.
struct SendmailInput {
    private static let chunk = 64 << 10

    private let descriptor: CInt
    /// nil: only the input's end is the end.
    private var dot: DotEnd?
    private var reader = ContentReader(limit: .max)
    private var isAtEnd = false
    /// Where the message is refused: what was read last, which has the fault, in lines that end with CRLF.
    private(set) var refused = ByteBuffer()

    /// - Parameter stopsAtDot: whether a line of a dot ends the message.
    init(_ descriptor: CInt, stopsAtDot: Bool) {
        self.descriptor = descriptor
        dot = stopsAtDot ? DotEnd() : nil
    }

    /// The next octets, none of which need be there: an end of a line may have been kept back; nil at the end.
    mutating func next() throws(Failure) -> ByteBuffer? {
        guard !isAtEnd else { return nil }
        let octets: ByteBuffer?
        if let more = try read() {
            octets = dot?.read(more) ?? more
            isAtEnd = dot?.isFound ?? false
        } else {
            octets = dot?.finish()
            isAtEnd = true
        }
        var content = ByteBuffer()
        if let octets { reader.read(octets, into: &content) }
        if isAtEnd { reader.finish(into: &content) }
        if let refusal = reader.refusal {
            refused = octets.map(Self.lines(of:)) ?? ByteBuffer()
            throw Failure(.data, "the message is refused: \(refusal.text)")
        }
        return content
    }

    /// For a person: only the ends of lines are other ones.
    private static func lines(of octets: ByteBuffer) -> ByteBuffer {
        var lines = ByteBuffer()
        var rest = octets.readableBytesView
        while let end = rest.firstIndex(of: UInt8(ascii: "\n")) {
            let line = rest[..<end]
            lines.writeBytes(line.last == UInt8(ascii: "\r") ? line.dropLast() : line)
            lines.writeStaticString("\r\n")
            rest = rest[rest.index(after: end)...]
        }
        lines.writeBytes(rest)
        return lines
    }

    /// Reads what nobody wants any more: who writes it is not to be killed by SIGPIPE. Not what somebody types.
    func drain() {
        guard isatty(descriptor) == 0 else { return }
        while let octets = try? read(), octets.readableBytes > 0 {}
    }

    /// nil at the end.
    private func read() throws(Failure) -> ByteBuffer? {
        var buffer = ByteBufferAllocator().buffer(capacity: Self.chunk)
        var result = 0
        repeat {
            buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: Self.chunk) { octets in
                result = Glibc.read(descriptor, octets.baseAddress, Self.chunk)
                return max(0, result)
            }
        } while result < 0 && errno == EINTR
        guard result >= 0 else {
            // Closed, or a folder: there is no message. Else there was one, and a part of it is none.
            let status: ExitStatus = errno == EBADF || errno == EISDIR ? .noInput : .inputOutput
            throw Failure(status, "standard input cannot be read: \(String(cString: strerror(errno)))")
        }
        return result > 0 ? buffer : nil
    }
}
