// Fields with parameters: Content-Type, Content-Disposition. What is not ASCII in one goes as RFC 2231 has it; others stay
// as they are.

internal import SlimtaMail

extension FieldEncoder {
    /// Octets of a value in one piece; what is longer is cut.
    private static var longestPiece: Int { 54 }

    /// The field with its parameters in ASCII. Comments that are not are left out: they say nothing (RFC 2045 section 5.1).
    func parameters() throws(FieldFault) -> [UInt8] {
        let parsed = ParameterizedValue(parsing: value)
        guard parsed.value.isASCII else { throw fault(.unreadable) }
        let unfolded = value[parsed.head].filter { $0 != 0x0D && $0 != 0x0A }
        let blank = Array(unfolded.prefix { $0 == 0x20 || $0 == 0x09 })
        let isPlain = !unfolded.contains { $0 >= 0x80 } && unfolded.count <= 900
        var text = isPlain ? Array(unfolded.dropFirst(blank.count)) : Array(parsed.withoutComments.utf8)
        while let last = text.last, last == 0x20 || last == 0x09 { text.removeLast() }
        var pieces = FieldPieces(name: name)
        pieces.append(text, blank: blank)
        // What is in pieces, by the name of all of them; what they say together, and which of that is written anew.
        let groups = Dictionary(
            grouping: parsed.parameters.filter { $0.piece.isExtended || $0.piece.number != nil }, by: \.piece.base)
        let wholes = groups.compactMapValues { ParameterizedValue.extended($0) }
        let changed = Set(groups.filter { $0.value.contains(where: mustChange) }.keys)
        var done: Set<String> = []
        for parameter in parsed.parameters {
            guard parameter.name.isASCII else { throw fault(.unreadable) }
            let piece = parameter.piece
            let isPiece = piece.isExtended || piece.number != nil
            if isPiece, changed.contains(piece.base), let whole = wholes[piece.base] {
                // Written where the first one stands.
                if done.insert(piece.base).inserted {
                    append(piece.base, whole.value, charset: whole.charset, to: &pieces)
                }
            } else if !mustChange(parameter) {
                append(raw(parameter), to: &pieces)
            } else if isPiece || wholes[piece.base] == nil && done.insert(piece.base).inserted {
                // Beside what says the same in RFC 2231's form it would be there twice in that.
                append(parameter.name, parameter.value, charset: "", to: &pieces)
            }
        }
        return try written(pieces)
    }

    private func mustChange(_ parameter: ParameterizedValue.Parameter) -> Bool {
        parameter.value.contains { $0 >= 0x80 } || parameter.value.count > 900
    }

    private func append(_ parameter: [UInt8], to pieces: inout FieldPieces) {
        pieces.append([UInt8(ascii: ";")])
        pieces.append(parameter, blank: [0x20])
    }

    /// As it stands there; anew where there is more than name and value.
    private func raw(_ parameter: ParameterizedValue.Parameter) -> [UInt8] {
        var raw = value[parameter.range].filter { $0 != 0x0D && $0 != 0x0A }
        while let last = raw.last, last == 0x20 || last == 0x09 { raw.removeLast() }
        let quotes = raw.count { $0 == UInt8(ascii: "\"") }
        if raw.count <= 950, quotes == 0 || quotes == 2 && raw.last == UInt8(ascii: "\""),
            !raw.contains(where: { $0 >= 0x80 })
        {
            return raw
        }
        var octets = Array("\(parameter.name)=\"".utf8)
        for octet in parameter.value {
            if octet == UInt8(ascii: "\"") || octet == UInt8(ascii: "\\") { octets.append(UInt8(ascii: "\\")) }
            octets.append(octet)
        }
        return octets + [UInt8(ascii: "\"")]
    }

    /// `name*=utf-8''…` (RFC 2231 section 4), in pieces (section 3) where it is long. No character is cut.
    private func append(_ name: String, _ text: [UInt8], charset: String, to pieces: inout FieldPieces) {
        let isName =
            !charset.isEmpty && charset.utf8.allSatisfy { $0.isASCIILetterOrDigit || "-_.:+".utf8.contains($0) }
        let charset = isName ? charset : EncodedWord.charset(of: text)
        var parts: [[UInt8]] = [Array("\(charset)''".utf8)]
        for (index, octet) in text.enumerated() {
            let encoded = CollectionOfOne(octet).percentEncoded(except: "._-").utf8
            let isWithin = charset == "utf-8" && octet & 0xC0 == 0x80 && index > 0
            if !isWithin, parts[parts.count - 1].count + encoded.count > Self.longestPiece - 9 { parts.append([]) }
            parts[parts.count - 1] += encoded
        }
        for (number, part) in parts.enumerated() {
            let place = parts.count > 1 ? "*\(number)" : ""
            append(Array("\(name)\(place)*=".utf8) + part, to: &pieces)
        }
    }
}
