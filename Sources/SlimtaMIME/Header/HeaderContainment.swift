// Whether a header can be in ASCII, and what makes it so: SMTPUTF8 is needed for addresses, not for a Subject (RFC 6531
// section 3.2, RFC 6532). Asked before a message is signed, and for every header of a message that is made 7-bit.

package import NIOCore
package import SlimtaMail

/// What a header needs to be in ASCII: edits of its fields, or SMTPUTF8.
package struct HeaderContainment: Hashable, Sendable {
    /// A field that is written anew.
    package struct Edit: Hashable, Sendable {
        /// The field with its lines, as offsets into the header.
        package let range: Range<Int>
        /// As it is written.
        package let name: String
        /// The field in ASCII, with its lines and the line end of the last one.
        package let field: [UInt8]
    }

    /// The fields that have to change, in their order. Those that ``faults`` names are not among them.
    package let edits: [Edit]
    /// What cannot be in ASCII. Empty: with its edits the header is, in lines of at most 998 octets.
    package let faults: [FieldFault]

    /// The longest line that may be sent (RFC 5322 section 2.1.1).
    static let longestLine = 998

    /// Looks at what `header` found in `buffer`: at the header alone.
    package init(of header: HeaderBlock, in buffer: ByteBuffer) {
        var (edits, faults) = ([Edit](), [FieldFault]())
        for field in header.fields where Self.mustChange(field, buffer) {
            let name = field.name(in: buffer)
            do throws(FieldFault) {
                let encoder = FieldEncoder(name: Array(name.utf8), value: Array(field.value(in: buffer)))
                edits.append(Edit(range: field.range, name: name, field: try encoder.encoded()))
            } catch {
                faults.append(error)
            }
        }
        (self.edits, self.faults) = (edits, faults)
    }

    /// What needs SMTPUTF8 wherever the message goes: an address or identifier that has no other form. Nil: with its edits
    /// the header needs it no more, unless a field is among ``faults`` that may not be changed.
    package var smtputf8Need: FieldFault? {
        faults.first { fault in
            switch fault.reason {
            case .address, .identifier: true
            case .untouchable, .unreadable, .longLine: false
            }
        }
    }

    /// The octets of the header, and what is behind them in `buffer`, with the edits made.
    package func applied(to buffer: ByteBuffer) -> ByteBuffer {
        guard !edits.isEmpty else { return buffer }
        let octets = buffer.readableBytesView
        var written = ByteBuffer()
        var offset = 0
        for edit in edits {
            written.writeBytes(octets[(octets.startIndex + offset)..<(octets.startIndex + edit.range.lowerBound)])
            written.writeBytes(edit.field)
            offset = edit.range.upperBound
        }
        written.writeBytes(octets[(octets.startIndex + offset)...])
        return written
    }

    private static func mustChange(_ field: HeaderBlock.Field, _ buffer: ByteBuffer) -> Bool {
        buffer.withUnsafeReadableBytes { octets in
            if UnsafeRawBufferPointer(rebasing: octets[field.range]).hasEightBit { return true }
            guard field.range.count > longestLine else { return false }
            var start = field.range.lowerBound
            while start < field.range.upperBound {
                let end = min(octets.endOfLine(from: start), field.range.upperBound)
                var text = end
                while text > start, octets[text - 1] == 0x0D || octets[text - 1] == 0x0A { text -= 1 }
                if text - start > longestLine { return true }
                start = end
            }
            return false
        }
    }
}
