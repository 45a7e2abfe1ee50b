// What a text of a rule matches: a glob, an expression, or a domain. Conditions have them; the configuration reads them.

internal import SlimtaMail

/// One text that `sender`, `ehlo` and their like can have.
package struct TextPattern: Sendable, Hashable, CustomStringConvertible {
    private enum Kind: Sendable {
        /// The whole text.
        case exact(Forms<String>)
        /// Octets of a glob: `*` any number of characters, `?` one.
        case glob(Forms<[UInt8]>)
        case expression(RegularExpression)
        /// `@example.com`: that domain, folded.
        case domain(String)
        /// `@.example.com`: all below that domain, folded.
        case below(String)
    }

    /// A text as it is compared.
    private struct Forms<Text: Equatable & Sendable>: Sendable {
        /// As an address or a host's name: its domain in A-labels.
        let folded: Text
        /// As it is written, in lower case; nil: as ``folded``.
        let plain: Text?

        init(_ text: String, _ folded: String, _ form: (String) -> Text) {
            self.folded = form(folded)
            plain = text.lowercased() == folded ? nil : form(text.lowercased())
        }
    }

    private let kind: Kind
    /// As it is written in slimta.conf.
    package let description: String

    /// The forms of slimta.conf. Throws ``RuleError`` for what is none.
    package init(_ text: String) throws(RuleError) {
        description = text
        guard !text.isEmpty, text.utf8.count <= 1024, !text.hasControls else {
            throw RuleError("\"\(text.visible.cut(toOctets: 64))\"", "up to 1024 octets without control characters")
        }
        if text.isExpression {
            kind = .expression(try RegularExpression(String(decoding: text.utf8.dropFirst().dropLast(), as: UTF8.self)))
        } else if text.begins(with: "@") {
            let key = try Self.domainKey(text)
            kind = key.begins(with: "@.") ? .below(key.behind(2)) : .domain(key.behind(1))
        } else if text.isGlob {
            kind = .glob(Forms(text, Self.foldedGlob(text)) { Array($0.utf8) })
        } else {
            kind = .exact(Forms(text, Self.folded(text)) { $0 })
        }
    }

    /// Whether `text` matches; nil: nobody knows, because it takes too long to find out.
    ///
    /// - Parameter text: an address, a host's name, or any other text. Case does not matter, and domains are compared in
    ///   A-labels; to an expression it is enough if it is found in one spelling of the domain.
    package func matches(_ text: String) -> Bool? {
        switch kind {
        case .exact(let wanted): return Self.folded(text) == wanted.folded
        case .glob(let glob):
            if Glob.matches(Array(Self.folded(text).utf8)[...], glob.folded[...]) { return true }
            // Part of a label has no A-label, and `?` is a character of what the client wrote.
            return !text.isASCII && matches(asWritten: text) == true
        case .domain(let domain): return Self.domain(of: text) == domain
        case .below(let domain): return Self.domain(of: text).ends(with: "." + domain)
        case .expression(let expression):
            return Self.matches(expression, Self.spellings(of: text))
        }
    }

    /// The same of a text that is neither an address nor a host's name, such as a subject: nothing in it is a domain.
    func matches(asWritten text: String) -> Bool? {
        switch kind {
        case .exact(let wanted): return text.lowercased() == wanted.plain ?? wanted.folded
        case .glob(let glob):
            return Glob.matches(Array(text.lowercased().utf8)[...], (glob.plain ?? glob.folded)[...])
        case .expression(let expression): return Self.matches(expression, [text])
        case .domain, .below: return matches(text)
        }
    }

    /// Whether it is `@example.com` or `@.example.com`.
    var isDomain: Bool {
        switch kind {
        case .domain, .below: true
        case .exact, .glob, .expression: false
        }
    }

    /// Whether all that `other` matches is matched, as far as that can be said.
    func covers(_ other: TextPattern) -> Bool {
        if self == other { return true }
        switch (kind, other.kind) {
        case (.glob(let glob), _) where glob.folded == [UInt8(ascii: "*")]: return true
        case (.exact, .exact(let text)), (.glob, .exact(let text)), (.domain, .exact(let text)),
            (.below, .exact(let text)):
            return matches(text.folded) == true
        case (.below(let domain), .domain(let inner)), (.below(let domain), .below(let inner)):
            return inner.ends(with: "." + domain)
        default: return false
        }
    }

    /// An address, or the name of a host: its last "@" begins the domain. All letters of what is no domain are in lower case.
    static func folded(_ text: String) -> String {
        text.utf8.contains(UInt8(ascii: "@"))
            ? text.foldedAsAddress() : withoutLastDot(DomainName.ascii(text) ?? text.lowercased())
    }

    /// All that an expression may mean by an address or a host's name: as it is written, with its domain in A-labels, and in
    /// U-labels. Which one a client writes is its choice, and full-width letters or U+3002 for a dot are more of them: mail
    /// goes to the same domain.
    static func spellings(of text: String) -> [String] {
        let folded = folded(text)
        var spellings = [text]
        if folded != text.asciiLowercased() { spellings.append(folded) }
        let start = folded.utf8.lastIndex(of: UInt8(ascii: "@")).map { folded.utf8.index(after: $0) }
        let domain = String(folded[(start ?? folded.startIndex)...])
        let unicode = DomainName.unicode(domain)
        if unicode != domain { spellings.append(folded[..<(start ?? folded.startIndex)] + unicode) }
        return spellings
    }

    /// One that is found is enough; nil: none is, and of one nobody knows.
    private static func matches(_ expression: RegularExpression, _ spellings: [String]) -> Bool? {
        var isOpen = false
        for spelling in spellings {
            switch expression.match(spelling) {
            case .yes: return true
            case .no: continue
            case .unknown: isOpen = true
            }
        }
        return isOpen ? nil : false
    }

    /// A glob with the labels of its domain in A-labels that have no `*` or `?` in them.
    private static func foldedGlob(_ glob: String) -> String {
        guard !glob.isASCII else { return glob.asciiLowercased() }
        let start = glob.utf8.lastIndex(of: UInt8(ascii: "@")).map { glob.utf8.index(after: $0) } ?? glob.startIndex
        let labels = glob[start...].split(separator: ".", omittingEmptySubsequences: false).map { label in
            label.contains { $0 == "*" || $0 == "?" } ? String(label) : String(label).foldedAsDomain()
        }
        return glob[..<start].lowercased() + labels.joined(separator: ".").asciiLowercased()
    }

    /// `@example.com` or `@.example.com`, with the domain as it is compared.
    static func domainKey(_ text: String) throws(RuleError) -> String {
        let start = text.begins(with: "@.") ? "@." : "@"
        let domain = text.behind(start.utf8.count)
        guard !domain.isEmpty, !domain.isGlob, !domain.utf8.contains(UInt8(ascii: "@")) else {
            throw RuleError("\"\(text)\"", "\"@example.com\" for a domain, \"@.example.com\" for all below it")
        }
        return start + withoutLastDot(domain.foldedAsDomain())
    }

    static func domain(of text: String) -> String {
        guard let at = text.utf8.lastIndex(of: UInt8(ascii: "@")) else { return withoutLastDot(text.foldedAsDomain()) }
        return withoutLastDot(String(text[text.utf8.index(after: at)...]).foldedAsDomain())
    }

    private static func withoutLastDot(_ domain: String) -> String {
        domain.ends(with: ".") && domain.utf8.count > 1
            ? String(decoding: domain.utf8.dropLast(), as: UTF8.self) : domain
    }

    /// Two that are written alike are the same.
    package static func == (a: TextPattern, b: TextPattern) -> Bool { a.description == b.description }

    /// By how it is written.
    package func hash(into hasher: inout Hasher) { hasher.combine(description) }
}

// Octet for octet: to String a mark that combines with an "@" makes another character of it, and to nobody else.
extension String {
    func begins(with start: String) -> Bool { utf8.starts(with: start.utf8) }

    fileprivate func ends(with end: String) -> Bool { utf8.suffix(end.utf8.count).elementsEqual(end.utf8) }

    fileprivate func behind(_ count: Int) -> String { String(decoding: utf8.dropFirst(count), as: UTF8.self) }

    /// Whether it is written "/.../".
    var isExpression: Bool { utf8.count >= 2 && begins(with: "/") && ends(with: "/") }

    /// Whether there is a `*` or a `?` in it.
    var isGlob: Bool { utf8.contains { $0 == UInt8(ascii: "*") || $0 == UInt8(ascii: "?") } }
}
