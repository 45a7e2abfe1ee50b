// Header fields as they are written: which words a text becomes, and where lines are folded (RFC 5322 section 2.2.3).
// ComposedMessage writes every field of a message and of its parts with it.

/// One field while it is written.
///
/// A line is folded before a word for which there is no room, never behind the colon: some readers take the blank of the line
/// that follows for part of the text.
struct FieldWriter {
    /// Octets of a line, but for words that are longer themselves (RFC 2047 section 2; RFC 5322 section 2.1.1 has 78).
    private static let width = 76
    /// A word beyond is encoded, which can be cut: no line comes near the 998 octets that it may have.
    private static let longestWord = 900
    /// A name beyond is encoded, for the same reason.
    private static let longestName = 60

    private(set) var octets: [UInt8]
    private var column: Int
    private var isEmpty = true

    init(_ name: String) {
        octets = Array("\(name):".utf8)
        column = octets.count
    }

    /// The field as a whole.
    var field: [UInt8] { octets + "\r\n".utf8 }

    /// Puts a word behind so many blanks, on a line of its own if there is no room.
    mutating func append(_ word: some StringProtocol, blanks: Int = 1) {
        let count = word.utf8.count
        if !isEmpty, column + blanks + count > Self.width {
            octets += "\r\n".utf8
            column = 0
        }
        octets += repeatElement(UInt8(ascii: " "), count: blanks)
        octets += word.utf8
        column += blanks + count
        isEmpty = false
    }

    /// Octets for a word on this line; as many as there can be where a line ends for it.
    private var room: Int { Self.width - column - 1 }

    private mutating func appendEncoded(_ text: String) {
        let room = isEmpty || room > 30 ? room : EncodedWord.limit
        for word in EncodedWord.words(Array(text.utf8), room: room) { append(word) }
    }

    // MARK: unstructured text

    /// Any text: as it is if every reader gets it back like that, else as encoded words, all of it.
    mutating func append(text: String) {
        guard Self.isPlain(text) else { return appendEncoded(text) }
        var blanks = 1
        for word in text.split(separator: " ", omittingEmptySubsequences: false) {
            if word.isEmpty {
                blanks += 1
            } else {
                append(word, blanks: blanks)
                blanks = 1
            }
        }
    }

    /// Visible ASCII in words that fit, no blank at either end, and nothing that looks like an encoded word.
    private static func isPlain(_ text: String) -> Bool {
        let octets = text.utf8
        guard octets.first != UInt8(ascii: " "), octets.last != UInt8(ascii: " ") else { return false }
        var length = 0
        var last: UInt8 = 0
        for octet in octets {
            guard (0x20...0x7E).contains(octet), last != UInt8(ascii: "=") || octet != UInt8(ascii: "?") else {
                return false
            }
            length = octet == UInt8(ascii: " ") ? 0 : length + 1
            guard length <= longestWord else { return false }
            last = octet
        }
        return true
    }

    /// Ends what is there before a parameter follows.
    mutating func close() {
        octets.append(UInt8(ascii: ";"))
        column += 1
    }

    // MARK: addresses

    /// The addresses of a field (RFC 5322 section 3.4).
    /// - Parameter allowsUTF8: whether names may stand in UTF-8 (RFC 6532 section 3.2).
    mutating func append(_ addresses: [MailDraft.Address], allowsUTF8: Bool) {
        for (index, address) in addresses.enumerated() {
            let end = index + 1 < addresses.count ? "," : ""
            guard let name = address.name else {
                append("\(address.mailbox)\(end)")
                continue
            }
            append(phrase: name, allowsUTF8)
            append("<\(address.mailbox)>\(end)")
        }
    }

    /// A display name: words, a quoted string, or encoded words, which never stand within quotes (RFC 2047 section 5).
    private mutating func append(phrase name: String, _ allowsUTF8: Bool) {
        let isPrintable = name.utf8.allSatisfy { (0x20...0x7E).contains($0) || allowsUTF8 && $0 >= 0x80 }
        guard isPrintable, name.utf8.count <= Self.longestName, !name.utf8Contains("=?") else {
            return appendEncoded(name)
        }
        if name.utf8.allSatisfy({ $0 == UInt8(ascii: " ") || $0.isAtomText || $0 >= 0x80 }) {
            for word in name.unicodeScalars.split(separator: " ") { append(String(word)) }
        } else {
            append(name.quoted)
        }
    }
}

extension String {
    /// As a quoted-string (RFC 5322 section 3.2.4) of what has no controls in it.
    var quoted: String {
        var octets: [UInt8] = [UInt8(ascii: "\"")]
        for octet in utf8 {
            if octet == UInt8(ascii: "\"") || octet == UInt8(ascii: "\\") { octets.append(UInt8(ascii: "\\")) }
            octets.append(octet)
        }
        octets.append(UInt8(ascii: "\""))
        return String(decoding: octets, as: UTF8.self)
    }

    /// Whether these octets are in it, whatever characters they are part of.
    func utf8Contains(_ part: StaticString) -> Bool {
        let first = part.utf8Start[0]
        let second = part.utf8Start[1]
        precondition(part.utf8CodeUnitCount == 2)
        var last: UInt8 = 0
        for octet in utf8 {
            if last == first, octet == second { return true }
            last = octet
        }
        return false
    }
}
