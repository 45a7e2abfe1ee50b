// Text in header fields that is not plain ASCII: the encoded words of RFC 2047. FieldWriter puts them into fields.

/// Encoded words (RFC 2047 section 2), in UTF-8.
enum EncodedWord {
    /// Octets of the longest one.
    static let limit = 75
    private static let start = (q: "=?utf-8?q?", b: "=?utf-8?b?")
    private static let end = "?="
    /// What a word has beside its text.
    private static let frame = 12
    /// The longest scalar in the longer of both encodings.
    private static let scalar = 12

    /// `text` as one or several words, which a reader joins without the blanks between them (section 6.2). No scalar is cut,
    /// and blanks are within the words.
    ///
    /// - Parameter room: octets for the first of them, if that is enough for anything.
    static func words(_ text: String, room: Int) -> [String] {
        let isQ = quotedLength(text) <= (text.utf8.count + 2) / 3 * 4
        var words: [String] = []
        var octets: [UInt8] = []
        var length = 0
        var most = max(min(room, limit) - frame, scalar)
        func close() {
            let content = isQ ? quoted(octets) : Base64.encode(octets)
            words.append((isQ ? start.q : start.b) + content + end)
            (octets, length, most) = ([], 0, limit - frame)
        }
        for scalar in text.unicodeScalars {
            let added = UTF8.encode(scalar).map(Array.init) ?? []
            let next = isQ ? length + quotedLength(added) : (octets.count + added.count + 2) / 3 * 4
            if next > most, !octets.isEmpty {
                close()
                length = isQ ? quotedLength(added) : 0
            } else {
                length = next
            }
            octets += added
        }
        if !octets.isEmpty { close() }
        return words
    }

    private static func quotedLength(_ octets: some Sequence<UInt8>) -> Int {
        octets.reduce(0) { $0 + (isPlain($1) || $1 == UInt8(ascii: " ") ? 1 : 3) }
    }

    private static func quotedLength(_ text: String) -> Int { quotedLength(text.utf8) }

    private static func quoted(_ octets: [UInt8]) -> String {
        var text: [UInt8] = []
        for octet in octets {
            switch octet {
            case UInt8(ascii: " "): text.append(UInt8(ascii: "_"))
            case _ where isPlain(octet): text.append(octet)
            default: text += "=\(String(hexadecimal: octet, digits: 2, uppercase: true))".utf8
            }
        }
        return String(decoding: text, as: UTF8.self)
    }

    /// What may stand for itself wherever a word may (section 5, rule 3).
    private static func isPlain(_ octet: UInt8) -> Bool { octet.isASCIILetterOrDigit || "!*+-/".utf8.contains(octet) }
}
