// Text that has to pass as lines of ASCII: quoted-printable (RFC 2045 section 6.7). Notices are written with it.

package import NIOCore

/// The content-transfer-encoding "quoted-printable".
package enum QuotedPrintable {
    /// `octets` in lines of at most 76, with CRLF as the ends of lines that it is in `octets`. What some host would change on
    /// the way is encoded too: blanks at a line's end, a "." or "From " at its beginning.
    package static func encode(_ octets: ByteBufferView) -> ByteBuffer {
        var output = ByteBufferAllocator().buffer(capacity: octets.count + octets.count / 2)
        var writer = QuotedPrintableWriter(isMending: false, keepsDashes: true)
        octets.withUnsafeBytes { writer.write($0, to: &output) }
        writer.finish(isAtEnd: false, to: &output)
        return output
    }
}
