// How much of a header field may change on its way without breaking a signature (RFC 6376 section 3.4). Bodies are in
// BodyCanonicalization.swift. DKIMHeader has every field go through here, the signature's own too.

import SlimtaMail

/// A canonicalization algorithm, of header fields or of bodies.
package enum Canonicalization: String, Hashable, Sendable, CaseIterable {
    /// Next to nothing may change (sections 3.4.1 and 3.4.3).
    case simple
    /// White space may (sections 3.4.2 and 3.4.4).
    case relaxed

    /// Puts a field in canonical form behind `text`, ended by CRLF.
    ///
    /// - Parameter field: its lines as they go out, with or without the last line end. Octets, whatever they encode: text
    ///   that is no UTF-8 must stay what it is.
    func append(field: UnsafeRawBufferPointer, to text: inout [UInt8]) {
        var end = field.count
        if end >= 2, field[end - 2] == UInt8(ascii: "\r"), field[end - 1] == UInt8(ascii: "\n") { end -= 2 }
        let field = UnsafeRawBufferPointer(rebasing: field[..<end])
        switch self {
        case .simple: text += field
        case .relaxed: Self.appendRelaxed(field, to: &text)
        }
        text += "\r\n".utf8
    }

    /// A field in canonical form.
    package func canonical(_ field: [UInt8]) -> [UInt8] {
        var text: [UInt8] = []
        field.withUnsafeBytes { append(field: $0, to: &text) }
        return text
    }

    /// Section 3.4.2: the name in lower case, no blanks around the colon nor at the end, lines joined, blanks one.
    private static func appendRelaxed(_ field: UnsafeRawBufferPointer, to text: inout [UInt8]) {
        let colon = field.firstIndex(of: UInt8(ascii: ":")) ?? field.endIndex
        var nameEnd = colon
        while nameEnd > 0, isBlank(field[nameEnd - 1]) { nameEnd -= 1 }
        for octet in field[..<nameEnd] { text.append(octet.asciiLowercased()) }
        text.append(UInt8(ascii: ":"))
        var place = colon + 1
        var (isBehindBlank, hasValue) = (false, false)
        while place < field.endIndex {
            let octet = field[place]
            if octet == UInt8(ascii: "\r"), place + 1 < field.endIndex, field[place + 1] == UInt8(ascii: "\n") {
                // A fold is its CRLF: the blanks behind it are blanks like others.
                place += 2
                continue
            }
            if isBlank(octet) {
                isBehindBlank = true
            } else {
                if isBehindBlank, hasValue { text.append(UInt8(ascii: " ")) }
                (isBehindBlank, hasValue) = (false, true)
                text.append(octet)
            }
            place += 1
        }
    }

    /// WSP of RFC 6376 section 2.8. No other octet is white space here: form feeds are content.
    static func isBlank(_ octet: UInt8) -> Bool { octet == UInt8(ascii: " ") || octet == UInt8(ascii: "\t") }
}

/// Both of a signature's: `c=` (RFC 6376 section 3.5).
package struct Canonicalizations: Hashable, Sendable, CustomStringConvertible {
    /// What signatures are made with unless told otherwise: bodies get other white space on their way, and fields new folds.
    package static let relaxed = Canonicalizations(header: .relaxed, body: .relaxed)

    /// That of header fields.
    package let header: Canonicalization
    /// That of the body.
    package let body: Canonicalization

    /// These two.
    package init(header: Canonicalization, body: Canonicalization) {
        (self.header, self.body) = (header, body)
    }

    /// As in the field: "relaxed/simple".
    package var description: String { "\(header.rawValue)/\(body.rawValue)" }
}
