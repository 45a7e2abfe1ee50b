// Makes of a message's octets what goes out behind DATA's 354. Used by the relay's SMTP driver, chunk by chunk.

package import NIOCore
internal import SlimtaMail

/// Why a message cannot be sent as it is: here its octets are not changed, so the transaction is over.
package enum ContentError: Error, Hashable, Sendable {
    /// A CR without LF, a LF without CR, or a NUL: RFC 5321 section 2.3.8 forbids them, and a next hop that takes one
    /// for an end of line could be made to see a second message (SMTP smuggling).
    case bareLineEnd
    case nul
    /// An octet above 127, for a server without 8BITMIME (RFC 6152 section 3).
    case eightBit
}

/// Transparency (RFC 5321 section 4.5.2): doubles a dot at the start of a line, ends the message with CRLF "." CRLF.
///
/// The chunks may be cut anywhere. After an error nothing more may be sent: what was sent so far is no whole message,
/// and the connection has to be closed before the server could take it for one.
package struct DotStuffer: Sendable {
    private let allowsEightBit: Bool
    /// Whether the next octet begins a line.
    private var isAtLineStart = true
    /// Whether the last octet was a CR: the next one must be LF.
    private var isBehindCR = false

    /// - Parameter allowsEightBit: false for a server without 8BITMIME.
    package init(allowsEightBit: Bool) { self.allowsEightBit = allowsEightBit }

    /// Appends a chunk of the message to `out`.
    package mutating func append(_ chunk: ByteBuffer, to out: inout ByteBuffer) throws(ContentError) {
        let error: ContentError? = chunk.withUnsafeReadableBytes { octets in
            if octets.isEmpty { return nil }
            if octets.firstOffset(of: 0) != nil { return .nul }
            if !allowsEightBit, octets.hasEightBit { return .eightBit }
            return stuff(octets, to: &out)
        }
        if let error { throw error }
    }

    /// Appends the end of the message to `out`, with a CRLF before it if the message did not end with one.
    package mutating func finish(into out: inout ByteBuffer) throws(ContentError) {
        if isBehindCR { throw .bareLineEnd }
        out.writeStaticString(isAtLineStart ? ".\r\n" : "\r\n.\r\n")
        isAtLineStart = true
    }

    private mutating func stuff(_ octets: UnsafeRawBufferPointer, to out: inout ByteBuffer) -> ContentError? {
        /// What is before was written to `out`.
        var written = 0
        var position = 0
        if isBehindCR {
            guard octets[0] == UInt8(ascii: "\n") else { return .bareLineEnd }
            isBehindCR = false
            isAtLineStart = true
            position = 1
        }
        while position < octets.count {
            if isAtLineStart, octets[position] == UInt8(ascii: ".") {
                // The dot is written here, and once more with what follows.
                out.writeBytes(UnsafeRawBufferPointer(rebasing: octets[written...position]))
                written = position
            }
            let lineEnd = octets.firstOffset(of: UInt8(ascii: "\r"), from: position) ?? octets.count
            if octets.firstOffset(of: UInt8(ascii: "\n"), from: position, to: lineEnd) != nil { return .bareLineEnd }
            isAtLineStart = false
            if lineEnd == octets.count { break }
            if lineEnd + 1 == octets.count {
                isBehindCR = true
                break
            }
            guard octets[lineEnd + 1] == UInt8(ascii: "\n") else { return .bareLineEnd }
            isAtLineStart = true
            position = lineEnd + 2
        }
        out.writeBytes(UnsafeRawBufferPointer(rebasing: octets[written...]))
        return nil
    }
}
