// Quoted-printable, some octets at a time (RFC 2045 section 6.7): of content that is none, and of content that nearly is.
// Used where content is converted while it passes; QuotedPrintable is for what is in memory as a whole.

package import NIOCore

/// Writes content as quoted-printable: lines of at most 76, with CRLF where content has it.
package struct QuotedPrintableWriter {
    /// Octets that may follow the one that is written, and decide how it is: "rom " of "From ", blanks not counted.
    private static let lookahead = 5

    /// At the beginning of a line it is encoded: lines are broken where none was, and must not come to be delimiters.
    private static let dash = UInt8(ascii: "-")

    private let isMending: Bool
    private let keepsDashes: Bool
    /// What was not written.
    private var held: [UInt8] = []
    private var column = 0
    /// Whether the line has been begun in the content: what was written of it may have ended with a soft line end.
    private var isInLine = false

    /// - Parameters:
    ///   - isMending: what comes is quoted-printable: what it has encoded stays so.
    ///   - keepsDashes: no delimiter that it could stand next to begins as a line of quoted-printable can.
    package init(isMending: Bool, keepsDashes: Bool = false) {
        (self.isMending, self.keepsDashes) = (isMending, keepsDashes)
    }

    /// Writes the next octets, cut anywhere, as far as what follows does not matter.
    package mutating func write(_ octets: UnsafeRawBufferPointer, to output: inout ByteBuffer) {
        held += octets
        advance(isLast: false, to: &output)
    }

    /// Writes what is left. `isAtEnd`: the message ends too, so that the last line has to have its end.
    package mutating func finish(isAtEnd: Bool, to output: inout ByteBuffer) {
        advance(isLast: true, to: &output)
        // The message's last line gets an end on its way; this one is not part of the content.
        if isAtEnd, isInLine { output.writeStaticString("=\r\n") }
    }

    private mutating func advance(isLast: Bool, to output: inout ByteBuffer) {
        let octets = held
        held = []
        let used = octets.withUnsafeBytes { octets in
            var index = 0
            while index < octets.count, isLast || index + Self.lookahead < octets.count {
                let next = isMending ? mend(octets, index, isLast, &output) : encode(octets, index, &output)
                guard let next else { break }
                index = next
            }
            return index
        }
        held = Array(octets[used...])
    }

    // MARK: What is not encoded

    /// Writes the octet at `index`, or the line end; returns where to go on.
    private mutating func encode(_ octets: UnsafeRawBufferPointer, _ index: Int, _ output: inout ByteBuffer) -> Int {
        if Self.isLineEnd(octets, index) {
            endLine(&output)
            return index + 2
        }
        let octet = octets[index]
        let isBlank = octet == 0x20 || octet == 0x09
        let isLastOfLine = index + 1 == octets.count || Self.isLineEnd(octets, index + 1)
        if isBlank ? !isLastOfLine : (33...126).contains(octet) && octet != UInt8(ascii: "=") {
            breakLine(before: 1, &output)
            // What some host would change is encoded at the beginning of a line: a "." alone, "From ".
            if column > 0 || octet != UInt8(ascii: ".") && !isEscapedDash(octet) && !Self.isFrom(octets, index) {
                put(octet, &output)
                return index + 1
            }
        }
        putEncoded(octet, &output)
        return index + 1
    }

    private func isEscapedDash(_ octet: UInt8) -> Bool { octet == Self.dash && !keepsDashes }

    private static func isFrom(_ octets: UnsafeRawBufferPointer, _ index: Int) -> Bool {
        octets[index] == UInt8(ascii: "F") && octets[index...].starts(with: "From ".utf8)
    }

    // MARK: What is encoded but for something

    /// Writes what is one at `index`: an encoded octet, an end of a line, a run of blanks, another octet. Nil: where that ends
    /// is not known.
    private mutating func mend(
        _ octets: UnsafeRawBufferPointer, _ index: Int, _ isLast: Bool, _ output: inout ByteBuffer
    ) -> Int? {
        if Self.isLineEnd(octets, index) {
            endLine(&output)
            return index + 2
        }
        let octet = octets[index]
        switch octet {
        case 0x20, 0x09:
            guard let end = endOfBlanks(octets, index, isLast) else { return nil }
            // At the end of a line they mean nothing (rule 3), and must not come to mean something.
            if end == octets.count || Self.isLineEnd(octets, end) {
                for octet in octets[index..<end] { put(octet, &output) }
            } else {
                for octet in octets[index..<end] {
                    breakLine(before: 1, &output)
                    put(octet, &output)
                }
            }
            return end
        case UInt8(ascii: "="):
            if index + 2 < octets.count, octets[index + 1].hexadecimalValue != nil,
                octets[index + 2].hexadecimalValue != nil
            {
                breakLine(before: 3, &output)
                for octet in octets[index..<(index + 3)] { put(octet, &output) }
                return index + 3
            }
            // Rule 5: it continues the line, also with blanks behind it.
            guard let end = endOfBlanks(octets, index + 1, isLast) else { return nil }
            if end == octets.count { return end }
            if Self.isLineEnd(octets, end) || octets[end] == UInt8(ascii: "\n") {
                output.writeStaticString("=\r\n")
                column = 0
                return end + (octets[end] == UInt8(ascii: "\n") ? 1 : 2)
            }
            putEncoded(octet, &output)
            return index + 1
        case 33...126:
            breakLine(before: 1, &output)
            if column == 0, isEscapedDash(octet) { putEncoded(octet, &output) } else { put(octet, &output) }
            return index + 1
        default:
            putEncoded(octet, &output)
            return index + 1
        }
    }

    /// Nil: more may come.
    private func endOfBlanks(_ octets: UnsafeRawBufferPointer, _ start: Int, _ isLast: Bool) -> Int? {
        var end = start
        while end < octets.count, octets[end] == 0x20 || octets[end] == 0x09 { end += 1 }
        // A CR may be half of a line's end.
        return isLast || end + 1 < octets.count ? end : nil
    }

    // MARK: Lines

    private static func isLineEnd(_ octets: UnsafeRawBufferPointer, _ index: Int) -> Bool {
        index + 1 < octets.count && octets[index] == UInt8(ascii: "\r") && octets[index + 1] == UInt8(ascii: "\n")
    }

    private mutating func endLine(_ output: inout ByteBuffer) {
        output.writeStaticString("\r\n")
        (column, isInLine) = (0, false)
    }

    /// A soft line end (rule 5) where there is no room: one octet is left for the "=" that it is.
    private mutating func breakLine(before count: Int, _ output: inout ByteBuffer) {
        guard column + count > 75 else { return }
        output.writeStaticString("=\r\n")
        column = 0
    }

    private mutating func put(_ octet: UInt8, _ output: inout ByteBuffer) {
        output.writeInteger(octet)
        column += 1
        isInLine = true
    }

    private mutating func putEncoded(_ octet: UInt8, _ output: inout ByteBuffer) {
        breakLine(before: 3, &output)
        output.writeInteger(UInt8(ascii: "="))
        output.writeInteger(UInt8(hexadecimalDigit: octet >> 4, uppercase: true))
        output.writeInteger(UInt8(hexadecimalDigit: octet, uppercase: true))
        column += 3
        isInLine = true
    }
}
