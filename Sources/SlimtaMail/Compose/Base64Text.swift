// Octets that come in base64 and go out in base64: they are checked, and never decoded.

/// Canonical base64 (RFC 4648 section 4) without white space: the content of an attachment.
package struct Base64Text: Hashable, Sendable {
    /// Why a text is none, in words that follow the name of what it is.
    package struct Fault: Error, Hashable, Sendable, CustomStringConvertible {
        /// "is not base64: ..."
        package let description: String
    }

    /// Letters of the alphabet and padding.
    package let text: String

    /// Takes base64 as programs make it: with padding; white space anywhere.
    package init(checking text: String) throws(Fault) {
        let isSpaced = text.utf8.contains(where: Self.isSpace)
        let text = isSpaced ? String(decoding: text.utf8.filter { !Self.isSpace($0) }, as: UTF8.self) : text
        if let fault = Self.fault(of: text) { throw Fault(description: "is not base64: \(fault)") }
        self.text = text
    }

    /// The base64 of octets.
    package init(encoding octets: some Collection<UInt8>) { text = Base64.encode(octets) }

    private static func isSpace(_ octet: UInt8) -> Bool {
        octet == 0x20 || (0x09...0x0A).contains(octet) || octet == 0x0D
    }

    private static func fault(of text: String) -> String? {
        var text = text
        return text.withUTF8 { octets in
            let padding = octets.suffix(2).reversed().prefix { $0 == UInt8(ascii: "=") }.count
            let letters = octets.dropLast(padding)
            if let wrong = letters.first(where: { Base64.value(of: $0) == nil }) {
                switch wrong {
                case UInt8(ascii: "-"), UInt8(ascii: "_"):
                    return "it is the alphabet for URLs, with - and _ for + and /"
                case UInt8(ascii: "="): return "there is padding within it"
                default: return "there is another character in it"
                }
            }
            guard octets.count % 4 == 0 else { return "it is not padded with = to a multiple of 4 characters" }
            // Bits that no octet has: another decoder might make something of them.
            let spare: UInt8 = padding == 2 ? 0xF : padding == 1 ? 0x3 : 0
            guard let last = letters.last.flatMap(Base64.value), last & spare != 0 else { return nil }
            return "it ends with bits that belong to no octet"
        }
    }
}
