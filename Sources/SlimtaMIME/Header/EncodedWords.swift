// Encoded words for what stands raw in a header (RFC 2047). Unlike those that SlimtaMail composes they need not be UTF-8:
// what no charset is known of says so (RFC 1428). Used by FieldPieces.

internal import SlimtaMail

/// Makes encoded words of octets.
enum EncodedWords {
    /// Octets of one word. RFC 2047 section 2 allows 75; what stands next to it without a blank shares its line.
    private static let longest = 70

    /// The charset of octets, as far as it can be known: nothing is guessed.
    static func charset(of octets: [UInt8]) -> String {
        String(validating: octets.span) == nil ? "unknown-8bit" : "utf-8"
    }

    /// `octets` as words that are read as one (section 6.2). No character is cut, and blanks are within the words. Q or B,
    /// whichever is shorter.
    /// - Parameter room: octets for the first word, where that is enough for anything.
    static func words(_ octets: [UInt8], room: Int) -> [[UInt8]] {
        let charset = charset(of: octets)
        let isQ = octets.reduce(0) { $0 + (isPlain($1) || $1 == 0x20 ? 1 : 3) } <= (octets.count + 2) / 3 * 4
        let frame = charset.utf8.count + 7
        var words: [[UInt8]] = []
        var content: [UInt8] = []
        var length = 0
        var most = room >= frame + 16 ? min(room, longest) - frame : longest - frame
        for character in characters(octets, isUTF8: charset == "utf-8") {
            let added = character.reduce(0) { $0 + (isPlain($1) || $1 == 0x20 ? 1 : 3) }
            let next = isQ ? length + added : (content.count + character.count + 2) / 3 * 4
            if next > most, !content.isEmpty {
                words.append(word(content, charset, isQ: isQ))
                (content, most) = ([], longest - frame)
                length = added
            } else {
                length = next
            }
            content += character
        }
        if !content.isEmpty { words.append(word(content, charset, isQ: isQ)) }
        return words
    }

    private static func word(_ content: [UInt8], _ charset: String, isQ: Bool) -> [UInt8] {
        var word = Array("=?\(charset)?\(isQ ? "q" : "b")?".utf8)
        if isQ {
            for octet in content {
                if octet == 0x20 {
                    word.append(UInt8(ascii: "_"))
                } else if isPlain(octet) {
                    word.append(octet)
                } else {
                    word += [UInt8(ascii: "="), UInt8(hexadecimalDigit: octet >> 4, uppercase: true)]
                    word.append(UInt8(hexadecimalDigit: octet, uppercase: true))
                }
            }
        } else {
            word += Base64.encode(content).utf8
        }
        return word + "?=".utf8
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

    /// What may stand for itself wherever a word may (section 5, rule 3).
    private static func isPlain(_ octet: UInt8) -> Bool { octet.isASCIILetterOrDigit || "!*+-/".utf8.contains(octet) }
}
