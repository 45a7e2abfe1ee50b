// One field in ASCII: what stands raw in it is encoded so that it says the same (RFC 2047, RFC 2231, RFC 6531 section 3.2
// for domains). Called by HeaderContainment for each field that needs it.

internal import SlimtaMail

/// Why a field cannot be in ASCII.
package struct FieldFault: Error, Hashable, Sendable, CustomStringConvertible {
    /// What stands in the way.
    package enum Reason: Hashable, Sendable {
        /// This address has a local part that is not ASCII: it needs SMTPUTF8.
        case address(String)
        /// An identifier that is not ASCII: it needs SMTPUTF8.
        case identifier
        /// The field is signed or was stamped by a host: it stays as it is.
        case untouchable
        /// It is not what such a field has to be.
        case unreadable
        /// A line of it has more than 998 octets, and no place to be folded.
        case longLine
    }

    /// The name of the field, as it is written.
    package let field: String
    /// What stands in the way.
    package let reason: Reason

    /// What needs SMTPUTF8, in words: "the address ü@example.com in the field To"; nil: it is another fault.
    package var need: String? {
        switch reason {
        case .address(let address): "the address \(address.visible) in the field \(field)"
        case .identifier: "an identifier in the field \(field)"
        case .untouchable, .unreadable, .longLine: nil
        }
    }

    /// In words: "the address ü@example.com in the field To needs SMTPUTF8".
    package var description: String {
        switch reason {
        case .address, .identifier: "\(need ?? "") needs SMTPUTF8"
        case .untouchable: "the field \(field) has octets above 127 and must not be changed"
        case .unreadable: "the field \(field) has octets above 127 where none can be encoded"
        case .longLine: "the field \(field) has a line of more than 998 octets"
        }
    }
}

/// Writes one field anew.
struct FieldEncoder {
    /// As it is written.
    let name: [UInt8]
    /// What is behind the colon, with its folding, without the last line end.
    let value: [UInt8]

    /// The field in ASCII, with its lines.
    func encoded() throws(FieldFault) -> [UInt8] {
        switch FieldKind(of: String(decoding: name, as: UTF8.self).asciiLowercased()) {
        case .unstructured: try unstructured()
        case .addresses: try structured(.addresses)
        case .identifiers: try structured(.identifiers)
        case .comments: try structured(.comments)
        case .phrases: try structured(.phrases)
        case .parameters: try parameters()
        case .untouchable: throw fault(value.contains { $0 >= 0x80 } ? .untouchable : .longLine)
        }
    }

    func fault(_ reason: FieldFault.Reason) -> FieldFault {
        FieldFault(field: String(decoding: name, as: UTF8.self), reason: reason)
    }

    /// The whole field, if no line of it is too long.
    func written(_ pieces: FieldPieces, trailing blank: [UInt8] = []) throws(FieldFault) -> [UInt8] {
        guard let field = pieces.field(trailing: blank) else { throw fault(.longLine) }
        return field
    }

    /// Text: words between blanks (RFC 2047 section 5, rule 1).
    private func unstructured() throws(FieldFault) -> [UInt8] {
        var pieces = FieldPieces(name: name)
        let (words, blank) = Self.words(value)
        pieces.append(words)
        return try written(pieces, trailing: blank)
    }

    /// The words of a text and the blanks behind the last one, folding undone.
    static func words(_ text: some Sequence<UInt8>) -> ([FieldPieces.Word], trailing: [UInt8]) {
        var words: [FieldPieces.Word] = []
        var (blank, word) = ([UInt8](), [UInt8]())
        func close() {
            if !word.isEmpty {
                words.append(.init(blank: blank, raw: word, text: word))
                (blank, word) = ([], [])
            }
        }
        for octet in text {
            switch octet {
            case 0x0D, 0x0A: close()
            case 0x20, 0x09:
                close()
                blank.append(octet)
            default: word.append(octet)
            }
        }
        close()
        return (words, blank)
    }
}
