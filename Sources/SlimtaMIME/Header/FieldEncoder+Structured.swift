// Fields that are made of words, quoted strings, comments and signs (RFC 5322 section 3.2): addresses, identifiers, dates,
// names of lists. What is not ASCII may stand in comments and in phrases, and nowhere else (RFC 2047 section 5).

internal import SlimtaMail

extension FieldEncoder {
    /// What may be encoded beside comments.
    enum Structure { case addresses, identifiers, comments, phrases }

    private enum Token {
        case blank([UInt8])
        /// With its parentheses.
        case comment([UInt8])
        /// With its quotes.
        case quoted([UInt8])
        case word([UInt8])
        /// One of `,;:`
        case sign(UInt8)
        /// From "<" to ">".
        case angle([UInt8])
    }

    /// The field with its comments and phrases in encoded words, and its domains in A-labels.
    func structured(_ structure: Structure) throws(FieldFault) -> [UInt8] {
        var pieces = FieldPieces(name: name)
        // What stands before the next sign, and whether that is behind a "<...>".
        var item: [Token] = []
        var isBehindAngle = false
        for token in try tokens() {
            switch token {
            case .angle(let octets):
                guard !isBehindAngle || structure == .identifiers else { throw fault(.unreadable) }
                let isApart = try append(item, to: &pieces, isPhrase: structure == .addresses || structure == .phrases)
                let address = try angle(octets, structure)
                append(address, behind: isApart, to: &pieces)
                (item, isBehindAngle) = ([], true)
            case .sign(let sign):
                // What is before ":" names a group of addresses.
                let isPhrase = structure == .phrases || structure == .addresses && sign == UInt8(ascii: ":")
                let last = try append(
                    item, to: &pieces, isPhrase: isPhrase && !isBehindAngle, isBehindAngle ? nil : structure)
                pieces.append([sign], blank: last.isEncoded ? [0x20] : [])
                (item, isBehindAngle) = ([], false)
            case .blank, .comment, .quoted, .word: item.append(token)
            }
        }
        var trailing: [UInt8] = []
        if case .blank(let blank)? = item.last {
            trailing = blank
            item.removeLast()
        }
        _ = try append(
            item, to: &pieces, isPhrase: structure == .phrases && !isBehindAngle, isBehindAngle ? nil : structure)
        return try written(pieces, trailing: trailing)
    }

    /// What is behind a phrase. A blank that is missing is put between an encoded word and that.
    private func append(_ octets: [UInt8], behind last: Appended, to pieces: inout FieldPieces) {
        pieces.append(octets, blank: last.blank.isEmpty && last.isEncoded ? [0x20] : last.blank)
    }

    /// What was put behind the pieces: whether it ends with an encoded word, and blanks that are still to come.
    private typealias Appended = (isEncoded: Bool, blank: [UInt8])

    /// Writes what stands between signs.
    /// - Parameters:
    ///   - isPhrase: whether words may be encoded.
    ///   - structure: nil: no word may need anything.
    private func append(
        _ item: [Token], to pieces: inout FieldPieces, isPhrase: Bool, _ structure: Structure? = nil
    ) throws(FieldFault) -> Appended {
        var words: [FieldPieces.Word] = []
        var blank: [UInt8] = []
        var isGlued = false
        var isEncoded = false
        var (item, isPhrase) = (item, isPhrase)
        if !isPhrase, structure == .addresses {
            // Names of which a comma without quotes made two, or that stand alone, are text: they need no SMTPUTF8.
            if Self.hasAt(item) { item = try withoutRawAddress(item) } else { isPhrase = true }
        }
        for token in item {
            switch token {
            case .blank(let octets):
                blank += octets
                isGlued = false
            case .comment(let octets):
                isEncoded = pieces.append(words)
                if blank.isEmpty, isEncoded { blank = [0x20] }
                append(comment: octets, blank: blank, to: &pieces)
                (words, blank, isGlued, isEncoded) = ([], [], false, false)
            case .quoted(let raw), .word(let raw):
                guard isPhrase || !raw.contains(where: { $0 >= 0x80 }) else { throw fault(.unreadable) }
                var text = raw
                if case .quoted = token { text = Self.unquoted(raw) }
                if isGlued, !words.isEmpty {
                    words[words.count - 1].raw += raw
                    words[words.count - 1].text += text
                } else {
                    words.append(.init(blank: blank, raw: raw, text: text))
                }
                (blank, isGlued) = ([], true)
            case .sign, .angle: break
            }
        }
        if !words.isEmpty { isEncoded = pieces.append(words) }
        return (isEncoded, blank)
    }

    /// Whether there is an "@" that is not in quotes.
    private static func hasAt(_ item: [Token]) -> Bool {
        item.contains { if case .word(let octets) = $0 { octets.contains(UInt8(ascii: "@")) } else { false } }
    }

    /// Whether blanks or comments stand between words, other than beside "." or "@": then it is several words, not an address
    /// (RFC 5322 section 4.4).
    private static func isParted(_ item: [Token]) -> Bool {
        func joins(_ octet: UInt8?) -> Bool { octet == UInt8(ascii: ".") || octet == UInt8(ascii: "@") }
        var last: UInt8?
        var isApart = false
        for token in item {
            switch token {
            case .quoted(let octets), .word(let octets):
                if isApart, last != nil, !joins(last), !joins(octets.first) { return true }
                (last, isApart) = (octets.last, false)
            case .blank, .comment: isApart = true
            case .sign, .angle: (last, isApart) = (nil, false)
            }
        }
        return false
    }

    /// The address that stands without "<" and ">", and without blanks and comments.
    private static func address(_ item: [Token]) -> [UInt8] {
        item.reduce(into: []) { address, token in
            switch token {
            case .quoted(let octets), .word(let octets): address += octets
            case .blank, .comment, .sign, .angle: break
            }
        }
    }

    /// An address without "<" and ">" with its domain in A-labels.
    private func withoutRawAddress(_ item: [Token]) throws(FieldFault) -> [Token] {
        let address = Self.address(item)
        guard address.contains(where: { $0 >= 0x80 }) else { return item }
        guard !Self.isParted(item) else { throw fault(.unreadable) }
        let ascii = try asciiAddress(address)
        var isFirst = true
        return item.compactMap { token in
            switch token {
            case .quoted, .word:
                defer { isFirst = false }
                return isFirst ? .word(ascii) : nil
            case .blank, .comment, .sign, .angle: return token
            }
        }
    }

    private func asciiAddress(_ address: [UInt8]) throws(FieldFault) -> [UInt8] {
        guard let at = address.lastIndex(of: UInt8(ascii: "@")) else { throw fault(.unreadable) }
        guard !address[..<at].contains(where: { $0 >= 0x80 }),
            let ascii = Self.asciiDomain(address[(at + 1)...].filter { $0 != 0x20 && $0 != 0x09 })
        else { throw fault(.address(String(decoding: address, as: UTF8.self))) }
        return Array(address[...at]) + ascii.utf8
    }

    private static func asciiDomain(_ octets: [UInt8]) -> String? {
        guard let domain = String(validating: octets.span) else { return nil }
        return DomainName.ascii(domain)
    }

    private func angle(_ octets: [UInt8], _ structure: Structure) throws(FieldFault) -> [UInt8] {
        let octets = octets.filter { $0 != 0x0D && $0 != 0x0A }
        guard octets.contains(where: { $0 >= 0x80 }) else { return octets }
        switch structure {
        case .addresses:
            let address = Array(octets.dropFirst().dropLast())
            let isParted = Self.isParted(try FieldEncoder(name: name, value: address).tokens())
            guard !isParted else { throw fault(.unreadable) }
            let ascii = try asciiAddress(address)
            return [UInt8(ascii: "<")] + ascii + [UInt8(ascii: ">")]
        case .identifiers: throw fault(octets.contains(UInt8(ascii: "@")) ? .identifier : .unreadable)
        case .comments, .phrases: throw fault(.unreadable)
        }
    }

    // MARK: Comments

    /// A comment (RFC 5322 section 3.2.2); within its parentheses are words, and other comments (RFC 2047 section 5, rule 2).
    private func append(comment: [UInt8], blank: [UInt8], to pieces: inout FieldPieces) {
        guard comment.contains(where: { $0 >= 0x80 }) || comment.count > 900 else {
            return pieces.append(comment.filter { $0 != 0x0D && $0 != 0x0A }, blank: blank)
        }
        var blank = blank
        var text: [UInt8] = []
        var isEscaped = false
        func flush(_ pieces: inout FieldPieces) {
            var (words, trailing) = Self.words(text)
            // Behind a parenthesis the first word needs no blank, and gets none.
            if let first = words.first, !blank.isEmpty { words[0].blank = blank + first.blank }
            let unescaped = words.map {
                FieldPieces.Word(blank: $0.blank, raw: $0.raw, text: Self.unescaped($0.raw))
            }
            pieces.append(unescaped)
            (text, blank) = ([], words.isEmpty ? blank + trailing : trailing)
        }
        for octet in comment {
            if !isEscaped, octet == UInt8(ascii: "(") || octet == UInt8(ascii: ")") {
                flush(&pieces)
                pieces.append([octet], blank: blank)
                blank = []
            } else {
                text.append(octet)
                isEscaped = !isEscaped && octet == UInt8(ascii: "\\")
            }
        }
    }

    /// Without the quotes of a quoted-string and the backslashes of quoted pairs; folding undone.
    private static func unquoted(_ quoted: [UInt8]) -> [UInt8] { unescaped(quoted.dropFirst().dropLast()) }

    private static func unescaped(_ octets: some Sequence<UInt8>) -> [UInt8] {
        var text: [UInt8] = []
        var isEscaped = false
        for octet in octets where octet != 0x0D && octet != 0x0A {
            if octet == UInt8(ascii: "\\"), !isEscaped {
                isEscaped = true
            } else {
                text.append(octet)
                isEscaped = false
            }
        }
        return text
    }

    // MARK: Tokens

    private func tokens() throws(FieldFault) -> [Token] {
        var tokens: [Token] = []
        var offset = 0
        while offset < value.count {
            let start = offset
            switch value[offset] {
            case 0x20, 0x09, 0x0D, 0x0A:
                while offset < value.count, Self.isBlank(value[offset]) { offset += 1 }
                tokens.append(.blank(value[start..<offset].filter { $0 != 0x0D && $0 != 0x0A }))
            case UInt8(ascii: "("):
                offset = try endOfComment(from: offset)
                tokens.append(.comment(Array(value[start..<offset])))
            case UInt8(ascii: "\""):
                offset = try end(of: UInt8(ascii: "\""), from: offset)
                tokens.append(.quoted(value[start..<offset].filter { $0 != 0x0D && $0 != 0x0A }))
            case UInt8(ascii: "["):
                offset = try end(of: UInt8(ascii: "]"), from: offset)
                tokens.append(.word(value[start..<offset].filter { $0 != 0x0D && $0 != 0x0A }))
            case UInt8(ascii: "<"):
                offset = try end(of: UInt8(ascii: ">"), from: offset)
                tokens.append(.angle(Array(value[start..<offset])))
            case UInt8(ascii: ","), UInt8(ascii: ";"), UInt8(ascii: ":"):
                tokens.append(.sign(value[offset]))
                offset += 1
                // A place to fold, which costs nothing.
                if value[start] == UInt8(ascii: ","), offset < value.count, !Self.isBlank(value[offset]) {
                    tokens.append(.blank([0x20]))
                }
            case UInt8(ascii: ")"), UInt8(ascii: ">"): throw fault(.unreadable)
            default:
                while offset < value.count, !Self.isBlank(value[offset]), !"()<>\"[,;:".utf8.contains(value[offset]) {
                    offset += 1
                }
                tokens.append(.word(Array(value[start..<offset])))
            }
        }
        return tokens
    }

    private static func isBlank(_ octet: UInt8) -> Bool {
        octet == 0x20 || octet == 0x09 || octet == 0x0D || octet == 0x0A
    }

    /// Behind the sign that closes what begins at `start`; in quotes of its own it does not.
    private func end(of sign: UInt8, from start: Int) throws(FieldFault) -> Int {
        var index = start + 1
        while index < value.count, value[index] != sign {
            if value[index] == UInt8(ascii: "\\") {
                index += 1
            } else if value[index] == UInt8(ascii: "\"") {
                index = try end(of: UInt8(ascii: "\""), from: index) - 1
            }
            index += 1
        }
        guard index < value.count else { throw fault(.unreadable) }
        return index + 1
    }

    private func endOfComment(from start: Int) throws(FieldFault) -> Int {
        var depth = 0
        var index = start
        while index < value.count {
            switch value[index] {
            case UInt8(ascii: "\\"): index += 1
            case UInt8(ascii: "("): depth += 1
            case UInt8(ascii: ")"): depth -= 1
            default: break
            }
            index += 1
            if depth == 0 { return min(index, value.count) }
        }
        throw fault(.unreadable)
    }
}
