// Names that are encoded, as text: RFC 2047's words where clients take them although they may not stand there, and values
// in other charsets. Used by ParameterizedValue.

internal import SlimtaMail

/// Reads texts of header fields.
enum EncodedText {
    /// `octets` as text: UTF-8, or Latin-1 where that is said. Of other charsets the ASCII is right, which is what is asked
    /// for in names: their extension.
    static func text(_ octets: [UInt8], charset: String) -> String {
        switch charset {
        case "iso-8859-1", "iso-8859-15", "windows-1252", "latin1":
            octets.reduce(into: "") { $0.unicodeScalars.append(Unicode.Scalar($1)) }
        default: String(decoding: octets, as: UTF8.self)
        }
    }

    private struct Piece {
        /// Nil: stands as it is.
        var charset: String?
        var octets: [UInt8]
    }

    /// `octets` with all encoded words in it decoded, wherever they stand.
    static func decoded(_ octets: [UInt8]) -> String {
        var pieces: [Piece] = []
        var plain: [UInt8] = []
        var rest = octets[...]
        func flush() {
            // Blanks between two words are none (RFC 2047 section 6.2), and a character may be cut between them.
            let isBlank = plain.allSatisfy { $0 == 0x20 || $0 == 0x09 }
            if !plain.isEmpty, !isBlank || pieces.last?.charset == nil { pieces.append(Piece(octets: plain)) }
            plain = []
        }
        while !rest.isEmpty {
            if let (word, end) = word(rest) {
                flush()
                if let last = pieces.last, last.charset == word.charset {
                    pieces[pieces.count - 1].octets += word.octets
                } else {
                    pieces.append(word)
                }
                rest = rest[end...]
            } else {
                plain.append(rest.removeFirst())
            }
        }
        if !plain.isEmpty { pieces.append(Piece(octets: plain)) }
        return pieces.map { text($0.octets, charset: $0.charset ?? "") }.joined()
    }

    /// The encoded word at the beginning of `octets` (RFC 2047 section 2), and where it ends.
    private static func word(_ octets: ArraySlice<UInt8>) -> (Piece, end: Int)? {
        guard octets.starts(with: "=?".utf8) else { return nil }
        let start = octets.startIndex + 2
        guard let first = octets[start...].firstIndex(of: UInt8(ascii: "?")), first > start,
            first + 3 < octets.endIndex, octets[first + 2] == UInt8(ascii: "?")
        else { return nil }
        let content = first + 3
        var end = content
        while end + 1 < octets.endIndex, octets[end] != UInt8(ascii: "?") { end += 1 }
        guard end + 1 < octets.endIndex, octets[end + 1] == UInt8(ascii: "=") else { return nil }
        // RFC 2231 section 5: a language may stand behind a "*".
        let charset = String(decoding: octets[start..<first].prefix { $0 != UInt8(ascii: "*") }, as: UTF8.self)
            .asciiLowercased()
        let text = octets[content..<end]
        switch octets[first + 1].asciiLowercased() {
        case UInt8(ascii: "q"):
            let octets = unescaped(text, by: UInt8(ascii: "="), others: { $0 == UInt8(ascii: "_") ? 0x20 : $0 })
            return (Piece(charset: charset, octets: octets), end + 2)
        case UInt8(ascii: "b"): return (Piece(charset: charset, octets: Base64Letters.decoded(text)), end + 2)
        default: return nil
        }
    }

    /// `text` with `sign` and two hexadecimal digits as the octet that they say; a sign without them stands for itself.
    static func unescaped(
        _ text: ArraySlice<UInt8>, by sign: UInt8, others: (UInt8) -> UInt8 = { $0 }
    ) -> [UInt8] {
        var octets: [UInt8] = []
        var rest = text
        while let octet = rest.popFirst() {
            if octet == sign, rest.count >= 2,
                let high = rest[rest.startIndex].hexadecimalValue, let low = rest[rest.startIndex + 1].hexadecimalValue
            {
                octets.append(high << 4 | low)
                rest = rest.dropFirst(2)
            } else {
                octets.append(others(octet))
            }
        }
        return octets
    }
}

/// The alphabet of base64 (RFC 4648 section 4), for what is not read strictly.
enum Base64Letters {
    private static let letters = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)

    /// The letter for the lower six bits.
    static func letter(_ bits: UInt32) -> UInt8 { letters[Int(bits & 0x3F)] }

    /// What a letter stands for; nil: it is none.
    static func value(of octet: UInt8) -> UInt8? {
        switch octet {
        case UInt8(ascii: "A")...UInt8(ascii: "Z"): octet - UInt8(ascii: "A")
        case UInt8(ascii: "a")...UInt8(ascii: "z"): octet - UInt8(ascii: "a") + 26
        case UInt8(ascii: "0")...UInt8(ascii: "9"): octet - UInt8(ascii: "0") + 52
        case UInt8(ascii: "+"): 62
        case UInt8(ascii: "/"): 63
        default: nil
        }
    }

    /// What `text` encodes, whatever else is in it.
    static func decoded(_ text: some Sequence<UInt8>) -> [UInt8] {
        var octets: [UInt8] = []
        var (bits, count) = (UInt32(0), 0)
        for octet in text {
            guard let value = value(of: octet) else { continue }
            (bits, count) = (bits << 6 | UInt32(value), count + 6)
            if count >= 8 {
                count -= 8
                octets.append(UInt8(truncatingIfNeeded: bits >> UInt32(count)))
            }
        }
        return octets
    }
}
