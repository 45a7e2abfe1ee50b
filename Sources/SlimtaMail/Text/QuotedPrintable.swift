// Text that has to pass as lines of ASCII: quoted-printable (RFC 2045 section 6.7). Notices are written with it.

package import NIOCore

/// The content-transfer-encoding "quoted-printable".
package enum QuotedPrintable {
    /// `octets` in lines of at most 76, with CRLF as the ends of lines that it is in `octets`. What some host would change on
    /// the way is encoded too: blanks at a line's end, a "." or "From " at its beginning.
    package static func encode(_ octets: ByteBufferView) -> ByteBuffer {
        var output = ByteBufferAllocator().buffer(capacity: octets.count + octets.count / 2)
        var column = 0
        var index = octets.startIndex
        while index < octets.endIndex {
            if isLineEnd(octets, index) {
                output.writeStaticString("\r\n")
                (index, column) = (index + 2, 0)
                continue
            }
            let octet = octets[index]
            let isPlain: Bool =
                switch octet {
                case UInt8(ascii: "="): false
                case UInt8(ascii: "."): column > 0
                case UInt8(ascii: "F"): column > 0 || !octets[index...].starts(with: "From ".utf8)
                case UInt8(ascii: " "), UInt8(ascii: "\t"): index + 1 < octets.endIndex && !isLineEnd(octets, index + 1)
                default: (33...126).contains(octet)
                }
            // One is left for the "=" that ends the line.
            if column + (isPlain ? 1 : 3) > 75 {
                output.writeStaticString("=\r\n")
                column = 0
            }
            if isPlain {
                output.writeInteger(octet)
                column += 1
            } else {
                output.writeInteger(UInt8(ascii: "="))
                output.writeInteger(UInt8(hexadecimalDigit: octet >> 4, uppercase: true))
                output.writeInteger(UInt8(hexadecimalDigit: octet, uppercase: true))
                column += 3
            }
            index += 1
        }
        return output
    }

    private static func isLineEnd(_ octets: ByteBufferView, _ index: Int) -> Bool {
        octets[index] == UInt8(ascii: "\r") && index + 1 < octets.endIndex && octets[index + 1] == UInt8(ascii: "\n")
    }
}
