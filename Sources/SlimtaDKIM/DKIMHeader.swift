// The header that leaves, as signatures see it: which fields there are, and which of them a name in `h=` means. Made by who
// signs, of a message and of what was put above it; DKIMSigner and DKIMVerifier hash it.

package import NIOCore
package import SlimtaMail

/// The fields of a header in their order, and no other.
package struct DKIMHeader: Sendable {
    /// One of them.
    package struct Field: Sendable {
        /// The name in lower case, without blanks.
        package let name: String
        /// All of its lines.
        package let octets: ByteBuffer

        /// What is behind the colon, folded as it is, without the line end behind it.
        var value: ByteBufferView {
            var value = octets.readableBytesView.drop { $0 != UInt8(ascii: ":") }.dropFirst()
            if value.last == UInt8(ascii: "\n") { value = value.dropLast() }
            if value.last == UInt8(ascii: "\r") { value = value.dropLast() }
            return value
        }
    }

    /// From the topmost.
    package private(set) var fields: [Field] = []
    /// Whether the header ends where each reader of the message sees its end. Else a verifier takes lines for the body, or
    /// for the header, that we did not.
    package private(set) var isWellFormed: Bool

    /// What was found in `buffer`.
    package init(_ header: HeaderBlock, in buffer: ByteBuffer) {
        isWellFormed = header.isWellFormed
        fields = header.fields.compactMap { field in
            buffer.getSlice(at: buffer.readerIndex + field.range.lowerBound, length: field.range.count)
                .map { Field(name: field.name(in: buffer).asciiLowercased(), octets: $0) }
        }
    }

    /// Puts whole fields above those that are there.
    package mutating func prepend(_ octets: ByteBuffer) {
        guard octets.readableBytes > 0 else { return }
        let block = HeaderBlock(scanning: octets)
        let above = DKIMHeader(block, in: octets)
        fields = above.fields + fields
        // Nothing but fields: an empty line would end the header.
        isWellFormed = isWellFormed && !block.isComplete && block.end == octets.readableBytes
    }

    /// The header without one of its fields: as the signature in it saw it.
    package func without(_ place: Int) -> DKIMHeader {
        var header = self
        header.fields.remove(at: place)
        return header
    }

    /// Whether signatures see the same in both: of fields that are never signed they may have others.
    package func isSigned(like other: DKIMHeader) -> Bool {
        isWellFormed == other.isWellFormed
            && fields.lazy.filter { SignedNames.canBeSigned($0.name) }.map(\.octets)
                .elementsEqual(other.fields.lazy.filter { SignedNames.canBeSigned($0.name) }.map(\.octets))
    }

    /// How often each name is there.
    var counts: [String: Int] { fields.reduce(into: [:]) { $0[$1.name, default: 0] += 1 } }

    /// The fields that `names` sign, in canonical form (RFC 6376 sections 3.7 and 5.4.2): of a name that is there more than
    /// once, each mention takes the lowest field that none has taken yet, and nothing when all are taken.
    func canonical(_ names: [String], _ canonicalization: Canonicalization) -> [UInt8] {
        // Of each name the lowest that none has taken, and of each field the next one of its name above it.
        var lowest: [String: Int] = [:]
        let above = fields.enumerated().map { place, field in lowest.updateValue(place, forKey: field.name) }
        var text: [UInt8] = []
        for name in names {
            guard let place = lowest[name] else { continue }
            lowest[name] = above[place]
            fields[place].octets.withUnsafeReadableBytes { canonicalization.append(field: $0, to: &text) }
        }
        return text
    }

    /// The blanks between names and colons of fields that are signed (`Subject :`, RFC 5322 section 4.5), from the first.
    ///
    /// They are to be taken out of a message before it is signed: there are verifiers that take such a field for none, and
    /// servers that take them out.
    package static func blanksBeforeColons(_ header: HeaderBlock, in buffer: ByteBuffer) -> [Range<Int>] {
        header.fields.compactMap { field in
            let end = field.valueOffset(in: buffer) - 1
            guard end > field.name.upperBound, SignedNames.canBeSigned(field.name(in: buffer).asciiLowercased()) else {
                return nil
            }
            return field.name.upperBound..<end
        }
    }
}
