// The grammar of AddressList: RFC 5322 section 3.4, with the obsolete forms of section 4.4. One pass, without recursion:
// comments nest as deep as somebody likes.

/// Reads a list of addresses from beginning to end.
struct AddressListParser {
    typealias Fault = AddressList.Fault

    /// What stands between the signs that part addresses.
    private struct Token {
        enum Kind { case atom, quoted, literal, dot, at }
        let kind: Kind
        /// With its quotes or brackets.
        let range: Range<Int>
        /// Whether there is a blank or a comment before it.
        let isApart: Bool
    }

    private let octets: [UInt8]
    private let domain: String?
    private var offset = 0
    /// The text of the last comment, without its parentheses.
    private var comment: Range<Int>?

    init(_ octets: some Sequence<UInt8>, _ domain: String?) {
        self.octets = Array(octets)
        self.domain = domain
    }

    /// address-list, and the obsolete empty elements of it.
    mutating func list() throws(Fault) -> [AddressList.Entry] {
        var entries: [AddressList.Entry] = []
        var isGroup = false
        while true {
            comment = nil
            let tokens = try tokens()
            switch sign {
            case UInt8(ascii: "<"): entries.append(try bracketed(named: tokens))
            case UInt8(ascii: ":"):
                guard !isGroup, !tokens.isEmpty, !tokens.contains(where: { $0.kind == .at }) else {
                    throw Fault(offset: offset, reason: .group)
                }
                isGroup = true
                offset += 1
                continue
            default:
                guard !tokens.isEmpty else { break }
                entries.append(try entry(tokens, named: comment.map { decoded($0) }))
            }
            guard let sign else { return entries }
            // ";" ends a group; without one it is what Outlook's users write for a comma.
            guard sign == UInt8(ascii: ",") || sign == UInt8(ascii: ";") else {
                throw Fault(offset: offset, reason: .strayCharacter)
            }
            if sign == UInt8(ascii: ";") { isGroup = false }
            offset += 1
        }
    }

    /// The octet that stopped ``tokens()``; nil at the end.
    private var sign: UInt8? { offset < octets.count ? octets[offset] : nil }

    /// name-addr (RFC 5322 section 3.4), from its "<" on, up to what is behind the comments that follow it.
    private mutating func bracketed(named name: [Token]) throws(Fault) -> AddressList.Entry {
        let start = offset
        offset += 1
        var spec = try tokens()
        // obs-route: "@one,@two:" before the address
        let isRouted = spec.first?.kind == .at || spec.isEmpty && sign == UInt8(ascii: ",")
        if isRouted {
            while sign == UInt8(ascii: ",") {
                offset += 1
                _ = try tokens()
            }
            guard sign == UInt8(ascii: ":") else { throw Fault(offset: start, reason: .noAddress) }
            offset += 1
            spec = try tokens()
        }
        guard sign == UInt8(ascii: ">") else { throw Fault(offset: start, reason: .openBracket) }
        guard !spec.isEmpty else { throw Fault(offset: start, reason: .noAddress) }
        offset += 1
        guard try tokens().isEmpty else { throw Fault(offset: start, reason: .behindBracket) }
        return try entry(
            spec, named: name.isEmpty ? comment.map { decoded($0) } : text(of: name),
            besides: isRouted ? .route : rival(in: name))
    }

    /// What a name is that has an "@" outside of quotes.
    private func rival(in name: [Token]) -> AddressList.Rival? {
        let hasAt = name.contains { $0.kind != .quoted && octets[$0.range].contains(UInt8(ascii: "@")) }
        return hasAt ? .name(try? entry(name, named: nil).mailbox) : nil
    }

    // MARK: What an address is made of

    /// addr-spec (RFC 5322 sections 3.4.1 and 4.4): words with dots between them, "@", then the same or a literal.
    private func entry(
        _ tokens: [Token], named name: String?, besides rival: AddressList.Rival? = nil
    ) throws(Fault) -> AddressList.Entry {
        let fault = Fault(offset: tokens[0].range.lowerBound, reason: .noAddress)
        let at = tokens.firstIndex { $0.kind == .at } ?? tokens.count
        let local = tokens[..<at]
        guard Self.isDotted(local, { $0 == .atom || $0 == .quoted }) else { throw fault }
        let name = name.flatMap { $0.isEmpty ? nil : $0 }
        guard at < tokens.count else {
            guard let domain else { throw Fault(offset: fault.offset, reason: .noDomain) }
            guard let mailbox = mailbox(local, domain) else { throw fault }
            let end = tokens[at - 1].range.upperBound
            return .init(
                displayName: name, mailbox: mailbox, endOfBareName: end, isEncodedName: hasEncodedWord(tokens),
                rival: rival)
        }
        let domain = tokens[(at + 1)...]
        let isLiteral = domain.count == 1 && domain.last?.kind == .literal
        guard isLiteral || Self.isDotted(domain, { $0 == .atom }) else { throw fault }
        let text = domain.reduce(into: [UInt8]()) { $0 += octets[$1.range].filter { !Self.isBlank($0) } }
        guard let mailbox = mailbox(local, String(decoding: text, as: UTF8.self)) else { throw fault }
        return .init(displayName: name, mailbox: mailbox, endOfBareName: nil, isEncodedName: false, rival: rival)
    }

    /// Whether readers may take what stands apart for an encoded word (RFC 2047 section 5), whatever is in it: many write dots.
    private func hasEncodedWord(_ tokens: [Token]) -> Bool {
        let starts = tokens.indices.filter { $0 == 0 || tokens[$0].isApart }
        return zip(starts, starts.dropFirst() + [tokens.count]).contains { start, end in
            let (first, last) = (tokens[start], tokens[end - 1])
            return first.kind == .atom && last.kind == .atom && octets[first.range].starts(with: "=?".utf8)
                && octets[last.range].suffix(2).elementsEqual("?=".utf8)
        }
    }

    /// Words of such kinds, with one dot between two.
    private static func isDotted(_ tokens: ArraySlice<Token>, _ isWord: (Token.Kind) -> Bool) -> Bool {
        tokens.count % 2 == 1
            && zip(tokens, 0...).allSatisfy { token, index in index % 2 == 0 ? isWord(token.kind) : token.kind == .dot }
    }

    /// The address as SMTP has it: one quoted string at most, and none where it can be without.
    private func mailbox(_ local: ArraySlice<Token>, _ domain: String) -> Mailbox? {
        guard local.contains(where: { $0.kind == .quoted }) else {
            let atoms = local.reduce(into: [UInt8]()) { $0 += octets[$1.range] }
            return Mailbox(octets: atoms + [UInt8(ascii: "@")] + domain.utf8)
        }
        let content = local.reduce(into: [UInt8]()) { $0 += unquoted($1) }
        // One quoted string that SMTP takes stays as it was written: it is somebody's name.
        if local.count == 1, let token = local.first {
            let written = octets[token.range].filter { $0 != UInt8(ascii: "\r") && $0 != UInt8(ascii: "\n") }
            if let mailbox = Mailbox(octets: written + [UInt8(ascii: "@")] + domain.utf8) { return mailbox }
        } else if let mailbox = Mailbox(octets: content + [UInt8(ascii: "@")] + domain.utf8) {
            return mailbox
        }
        var quoted: [UInt8] = [UInt8(ascii: "\"")]
        for octet in content {
            if octet == UInt8(ascii: "\"") || octet == UInt8(ascii: "\\") { quoted.append(UInt8(ascii: "\\")) }
            quoted.append(octet)
        }
        return Mailbox(octets: quoted + [UInt8(ascii: "\""), UInt8(ascii: "@")] + domain.utf8)
    }

    /// phrase (RFC 5322 sections 3.2.5 and 4.1), one blank where there were some between two words.
    private func text(of tokens: [Token]) -> String {
        let text = tokens.reduce(into: [UInt8]()) { text, token in
            if token.isApart, !text.isEmpty { text.append(UInt8(ascii: " ")) }
            text += unquoted(token)
        }
        return String(decoding: text, as: UTF8.self)
    }

    private func unquoted(_ token: Token) -> [UInt8] {
        switch token.kind {
        case .quoted: unescaped(token.range.lowerBound + 1..<token.range.upperBound - 1)
        // Of a name, where it is no literal: "[list] One". It may be folded.
        case .literal: octets[token.range].filter { $0 != UInt8(ascii: "\r") && $0 != UInt8(ascii: "\n") }
        case .atom, .dot, .at: Array(octets[token.range])
        }
    }

    private func decoded(_ range: Range<Int>) -> String { String(decoding: unescaped(range), as: UTF8.self) }

    /// Without the backslashes of quoted pairs and the line ends of folding.
    private func unescaped(_ range: Range<Int>) -> [UInt8] {
        var content: [UInt8] = []
        var isEscaped = false
        for octet in octets[range] {
            switch octet {
            case UInt8(ascii: "\r"), UInt8(ascii: "\n"): continue
            case UInt8(ascii: "\\") where !isEscaped: isEscaped = true
            default:
                content.append(octet)
                isEscaped = false
            }
        }
        return content
    }

    // MARK: Tokens

    /// Everything up to the next of `, ; : < >` or the end. Comments count as blanks; the last one is kept.
    private mutating func tokens() throws(Fault) -> [Token] {
        var tokens: [Token] = []
        var isApart = false
        while offset < octets.count {
            let start = offset
            let kind: Token.Kind
            switch octets[offset] {
            case UInt8(ascii: ","), UInt8(ascii: ";"), UInt8(ascii: ":"), UInt8(ascii: "<"), UInt8(ascii: ">"):
                return tokens
            case UInt8(ascii: " "), UInt8(ascii: "\t"), UInt8(ascii: "\r"), UInt8(ascii: "\n"):
                try blank()
                isApart = true
                continue
            case UInt8(ascii: "("):
                try skipComment()
                isApart = true
                continue
            case UInt8(ascii: "\""):
                try skip(to: UInt8(ascii: "\""), .openQuote)
                kind = .quoted
            case UInt8(ascii: "["):
                try skip(to: UInt8(ascii: "]"), .openLiteral)
                kind = .literal
            case UInt8(ascii: "."): kind = .dot
            case UInt8(ascii: "@"): kind = .at
            default:
                while offset < octets.count, Self.isAtomText(octets[offset]) { offset += 1 }
                guard offset > start else {
                    throw Fault(offset: start, reason: octets[start].isASCIIControl ? .control : .strayCharacter)
                }
                kind = .atom
            }
            if kind == .dot || kind == .at { offset += 1 }
            tokens.append(Token(kind: kind, range: start..<offset, isApart: isApart))
            isApart = false
        }
        return tokens
    }

    /// A blank, a tab, or a line end with one of both behind it (RFC 5322 section 3.2.2).
    private mutating func blank() throws(Fault) {
        let start = offset
        if octets[offset] == UInt8(ascii: "\r") { offset += 1 }
        let isLineEnd = offset < octets.count && octets[offset] == UInt8(ascii: "\n")
        if isLineEnd { offset += 1 }
        guard isLineEnd || offset == start, offset < octets.count,
            octets[offset] == UInt8(ascii: " ") || octets[offset] == UInt8(ascii: "\t")
        else {
            throw Fault(offset: start, reason: .control)
        }
        offset += 1
    }

    /// A comment (RFC 5322 section 3.2.2), which may have others in it.
    private mutating func skipComment() throws(Fault) {
        let start = offset
        var depth = 0
        repeat {
            guard offset < octets.count else { throw Fault(offset: start, reason: .openComment) }
            switch octets[offset] {
            case UInt8(ascii: "("): depth += 1
            case UInt8(ascii: ")"): depth -= 1
            default:
                try character()
                continue
            }
            offset += 1
        } while depth > 0
        comment = start + 1..<offset - 1
    }

    /// From an opening sign to behind the closing one; a backslash keeps what is behind it from closing.
    private mutating func skip(to end: UInt8, _ reason: Fault.Reason) throws(Fault) {
        let start = offset
        offset += 1
        while offset < octets.count, octets[offset] != end { try character() }
        guard offset < octets.count else { throw Fault(offset: start, reason: reason) }
        offset += 1
    }

    /// One character of a comment, a quoted string or a literal: any but controls, with the backslash before it, or folding.
    private mutating func character() throws(Fault) {
        if octets[offset] == UInt8(ascii: "\\"), offset + 1 < octets.count { offset += 1 }
        if Self.isBlank(octets[offset]) { return try blank() }
        guard !octets[offset].isASCIIControl else { throw Fault(offset: offset, reason: .control) }
        offset += 1
    }

    private static func isBlank(_ octet: UInt8) -> Bool {
        [UInt8(ascii: " "), UInt8(ascii: "\t"), UInt8(ascii: "\r"), UInt8(ascii: "\n")].contains(octet)
    }

    /// atext (RFC 5322 section 3.2.3, RFC 6532 section 3.2): printable, and none of the specials.
    private static func isAtomText(_ octet: UInt8) -> Bool {
        octet > 0x20 && octet != 0x7F && !"()<>[]:;@\\,.\"".utf8.contains(octet)
    }
}

extension Mailbox {
    fileprivate init?(octets: [UInt8]) { self.init(parsing: octets.span, allowsUTF8: true) }
}
