// Macros (RFC 7208 section 7): how domains of a record, modifiers and explanations are written, and what they come to for
// one client and sender. Read by SPFRecord, expanded by SPFCheck.

import SlimtaMail

/// A macro-string (section 7.1): text with macros in it, known to be well-formed.
struct SPFMacroString: Hashable, Sendable {
    /// What it consists of.
    enum Part: Hashable, Sendable {
        case literal([UInt8])
        case macro(Macro)
    }

    /// A macro-expand in braces.
    struct Macro: Hashable, Sendable {
        /// What is put in.
        var letter: Letter
        /// Whether it was written in upper case: the value is then escaped for URLs.
        var isEscaped = false
        /// How many parts are kept, counted from the right; nil: all.
        var count: Int?
        /// Whether the parts are turned round, before they are counted.
        var isReversed = false
        /// What separates parts.
        var delimiters: [UInt8] = []
    }

    /// A macro-letter.
    enum Letter: UInt8, Hashable, Sendable {
        case sender = 0x73  // s
        case localPart = 0x6C  // l
        case senderDomain = 0x6F  // o
        case domain = 0x64  // d
        case address = 0x69  // i
        case validatedName = 0x70  // p
        case network = 0x76  // v
        case helo = 0x68  // h
        case readableAddress = 0x63  // c, only in explanations, as are the next two
        case receiver = 0x72  // r
        case time = 0x74  // t

        /// Whether it is only allowed in the text that `exp` leads to (section 7.2).
        var isOfExplanations: Bool {
            switch self {
            case .readableAddress, .receiver, .time: true
            case .sender, .localPart, .senderDomain, .domain, .address, .validatedName, .network, .helo: false
            }
        }
    }

    /// Where it stands, which decides what may be in it.
    enum Place {
        /// A domain-spec: it ends with a macro or a top-level domain, and c, r, t are not allowed.
        case domain
        /// The value of a modifier that we do not know: anything well-formed.
        case modifier
        /// The text of an explanation: blanks too (explain-string, section 6.2).
        case explanation
    }

    /// Its parts; no two literals beside each other.
    private(set) var parts: [Part] = []

    /// Whether a macro p is in it, for which DNS has to be asked.
    var needsValidatedName: Bool {
        parts.contains {
            if case .macro(let macro) = $0 { macro.letter == .validatedName } else { false }
        }
    }

    /// From the octets of a record; nil if they are not well-formed.
    init?(_ octets: some Collection<UInt8>, in place: Place) {
        var rest = Array(octets)[...]
        var literal: [UInt8] = []
        var endsWithMacro = false
        while let octet = rest.popFirst() {
            endsWithMacro = octet == UInt8(ascii: "%")
            switch octet {
            case UInt8(ascii: "%"):
                switch Self.macro(&rest, in: place) {
                case .literal(let octets): literal += octets
                case .macro(let macro):
                    if !literal.isEmpty { parts.append(.literal(literal)) }
                    literal = []
                    parts.append(.macro(macro))
                case nil: return nil
                }
            case UInt8(ascii: " ") where place == .explanation, 0x21...0x7E: literal.append(octet)
            default: return nil
            }
        }
        if !literal.isEmpty { parts.append(.literal(literal)) }
        if place == .domain, !endsWithMacro, !Self.endsWithTopLabel(literal) { return nil }
    }

    /// What is behind a "%".
    private static func macro(_ rest: inout ArraySlice<UInt8>, in place: Place) -> Part? {
        switch rest.popFirst() {
        case UInt8(ascii: "%"): return .literal([UInt8(ascii: "%")])
        case UInt8(ascii: "_"): return .literal([UInt8(ascii: " ")])
        case UInt8(ascii: "-"): return .literal(Array("%20".utf8))
        case UInt8(ascii: "{"): break
        default: return nil
        }
        guard let written = rest.popFirst(), let letter = Letter(rawValue: written.asciiLowercased()),
            place != .domain || !letter.isOfExplanations
        else { return nil }
        var macro = Macro(letter: letter, isEscaped: written.isASCIIUppercase)
        while let digit = rest.first, digit.isASCIIDigit {
            rest.removeFirst()
            // No name has more parts than this.
            macro.count = min(1_000_000, (macro.count ?? 0) * 10 + Int(digit - UInt8(ascii: "0")))
        }
        if macro.count == 0 { return nil }
        if let octet = rest.first, octet.asciiLowercased() == UInt8(ascii: "r") {
            rest.removeFirst()
            macro.isReversed = true
        }
        while let octet = rest.popFirst() {
            if octet == UInt8(ascii: "}") { return .macro(macro) }
            guard ".-+,/_=".utf8.contains(octet) else { return nil }
            macro.delimiters.append(octet)
        }
        return nil
    }

    /// Whether there is a dot and a toplabel at the end, which may have a dot behind it (domain-end, section 7.1).
    private static func endsWithTopLabel(_ literal: [UInt8]) -> Bool {
        let text = literal.last == UInt8(ascii: ".") ? literal.dropLast() : literal[...]
        guard let dot = text.lastIndex(of: UInt8(ascii: ".")) else { return false }
        return isTopLabel(text[(dot + 1)...])
    }

    /// Letters, digits and inner hyphens, and not digits alone.
    private static func isTopLabel(_ label: ArraySlice<UInt8>) -> Bool {
        guard let first = label.first, let last = label.last else { return false }
        return first.isASCIILetterOrDigit && last.isASCIILetterOrDigit
            && label.allSatisfy { $0.isASCIILetterOrDigit || $0 == UInt8(ascii: "-") }
            && !label.allSatisfy(\.isASCIIDigit)
    }

    /// The name that it comes to, as DNS is asked for it (section 7.3); nil if DNS cannot carry it. What is too far left
    /// for a name is not even made: records can be long.
    func name(_ values: SPFMacroValues) -> [UInt8]? {
        var pieces: [[UInt8]] = []
        var count = 0
        for part in parts.reversed() where count <= SPFName.longest + 1 {
            pieces.append(part.expanded(values))
            count += pieces[pieces.count - 1].count
        }
        return SPFName.queried(Array(pieces.reversed().joined()))
    }

    /// The text that it comes to, up to the part with which it has `limit` octets.
    func text(_ values: SPFMacroValues, limit: Int) -> [UInt8] {
        var text: [UInt8] = []
        for part in parts where text.count < limit { text += part.expanded(values) }
        return text
    }
}

extension SPFMacroString.Part {
    fileprivate func expanded(_ values: SPFMacroValues) -> [UInt8] {
        switch self {
        case .literal(let octets): octets
        case .macro(let macro): macro.transformed(values[macro.letter])
        }
    }
}

extension SPFMacroString.Macro {
    /// Split, turned round, cut and joined by dots (section 7.3), and escaped.
    fileprivate func transformed(_ value: [UInt8]) -> [UInt8] {
        var value = value
        if count != nil || isReversed || !delimiters.isEmpty {
            let separators = delimiters.isEmpty ? [UInt8(ascii: ".")] : delimiters
            var parts = value.split(omittingEmptySubsequences: false) { separators.contains($0) }
            if isReversed { parts.reverse() }
            if let count { parts = parts.suffix(count) }
            value = Array(parts.joined(separator: [UInt8(ascii: ".")]))
        }
        guard isEscaped else { return value }
        return value.flatMap { octet in
            octet.isASCIILetterOrDigit || "-._~".utf8.contains(octet)
                ? [octet] : Array(("%" + String(hexadecimal: octet, digits: 2, uppercase: true)).utf8)
        }
    }
}

/// What macros stand for at one place of a check.
struct SPFMacroValues {
    /// Whom the check is about.
    let subject: SPFSubject
    /// The domain whose record it is.
    let domain: [UInt8]
    /// The name of the client that DNS has confirmed; "unknown" where there is none, and where no macro needs it.
    let validatedName: [UInt8]

    /// The value of a macro-letter (section 7.2), without transformers.
    subscript(letter: SPFMacroString.Letter) -> [UInt8] {
        switch letter {
        case .sender: subject.localPart + [UInt8(ascii: "@")] + subject.domain
        case .localPart: subject.localPart
        case .senderDomain: subject.domain
        case .domain: domain
        case .address: SPFName.dotted(subject.client)
        case .validatedName: validatedName
        case .network: Array(SPFName.network(subject.client).utf8)
        case .helo: Array(subject.helo.utf8)
        case .readableAddress: Array(subject.client.description.utf8)
        case .receiver: Array(subject.receiver.utf8)
        case .time: Array(String(subject.time).utf8)
        }
    }
}
