// Text in header fields that is not plain ASCII: the encoded words of RFC 2047, as they are written. Used for fields that are
// composed, and for those that came raw. EncodedWordReader reads them.

/// Encoded words (RFC 2047 section 2).
package enum EncodedWord {
    /// Octets of the longest one.
    package static let limit = 75
    /// The longest character in the longer of both encodings.
    private static let character = 12

    /// The charset of octets, as far as it can be known: nothing is guessed (RFC 1428 for what is not UTF-8).
    package static func charset(of octets: [UInt8]) -> String {
        String(validating: octets.span) == nil ? "unknown-8bit" : "utf-8"
    }

    /// `octets` as one or several words, which a reader joins without the blanks between them (section 6.2). No character is
    /// cut, and blanks are within the words. Q or B, whichever is shorter.
    ///
    /// - Parameters:
    ///   - room: octets for the first of them, if that is enough for anything.
    ///   - limit: of each.
    package static func words(_ octets: [UInt8], room: Int, limit: Int = limit) -> [String] {
        let charset = charset(of: octets)
        let isQ = quotedLength(octets) <= (octets.count + 2) / 3 * 4
        let (start, end) = ("=?\(charset)?\(isQ ? "q" : "b")?", "?=")
        let frame = start.utf8.count + end.utf8.count
        var words: [String] = []
        var (content, length) = ([UInt8](), 0)
        var most = max(min(room, limit) - frame, character)
        func close() {
            words.append(start + (isQ ? quoted(content) : Base64.encode(content)) + end)
            (content, most) = ([], limit - frame)
        }
        for character in characters(octets, isUTF8: charset == "utf-8") {
            let added = quotedLength(character)
            let next = isQ ? length + added : (content.count + character.count + 2) / 3 * 4
            if next > most, !content.isEmpty {
                close()
                length = added
            } else {
                length = next
            }
            content += character
        }
        if !content.isEmpty { close() }
        return words
    }

    /// Octets that stay together.
    private static func characters(_ octets: [UInt8], isUTF8: Bool) -> [ArraySlice<UInt8>] {
        var characters: [ArraySlice<UInt8>] = []
        var start = 0
        for index in octets.indices.dropFirst() where !isUTF8 || octets[index] & 0xC0 != 0x80 {
            characters.append(octets[start..<index])
            start = index
        }
        if start < octets.count { characters.append(octets[start...]) }
        return characters
    }

    private static func quotedLength(_ octets: some Sequence<UInt8>) -> Int {
        octets.reduce(0) { $0 + (isPlain($1) || $1 == UInt8(ascii: " ") ? 1 : 3) }
    }

    private static func quoted(_ octets: [UInt8]) -> String {
        var text: [UInt8] = []
        for octet in octets {
            switch octet {
            case UInt8(ascii: " "): text.append(UInt8(ascii: "_"))
            case _ where isPlain(octet): text.append(octet)
            default:
                text += [UInt8(ascii: "="), UInt8(hexadecimalDigit: octet >> 4, uppercase: true)]
                text.append(UInt8(hexadecimalDigit: octet, uppercase: true))
            }
        }
        return String(decoding: text, as: UTF8.self)
    }

    /// What may stand for itself wherever a word may (section 5, rule 3).
    private static func isPlain(_ octet: UInt8) -> Bool { octet.isASCIILetterOrDigit || "!*+-/".utf8.contains(octet) }
}
