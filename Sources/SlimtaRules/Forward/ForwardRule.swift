// One table [[forward]]: whose mail goes elsewhere, and where, or why nowhere. The configuration reads it; ForwardRules has them
// in their order.

internal import SlimtaMail

/// What becomes of some recipients.
package struct ForwardRule: Hashable, Sendable {
    /// What is put in the place of a recipient.
    struct Target: Hashable, Sendable {
        enum Part: Hashable, Sendable {
            case text(String)
            /// What a group of the expression is; the whole address is group 0.
            case group(Int)
        }

        /// nil: the recipient's own local part.
        let local: [Part]?
        let domain: [Part]
    }

    enum Result: Hashable, Sendable {
        case to([Target])
        case reject(ReplyTemplate)
    }

    private enum Kind: Sendable {
        case pattern(TextPattern)
        case expression(RegularExpression)
    }

    private let kind: Kind
    let result: Result
    /// As it is written in slimta.conf: `recipient`.
    package let recipient: String

    /// A rule that gives mail to others.
    ///
    /// - Parameters:
    ///   - recipient: an address, `@example.com`, `@.example.com`, or `/.../`, which has to match the whole address.
    ///   - targets: addresses, with `$1` for a group of an expression and `$$` for a dollar; `@example.org` is the same local part
    ///     there.
    package init(_ recipient: String, to targets: [String]) throws(RuleError) {
        let kind = try Self.kind(recipient)
        let groups: Int? = if case .expression(let expression) = kind { expression.groupCount } else { nil }
        var read: [Target] = []
        for target in targets { read.append(try Target(target, groups: groups)) }
        (self.kind, self.recipient, result) = (kind, recipient, .to(read))
    }

    /// A rule that gives the mail to nobody, and says why: in a reply of 4xx or 5xx, with `{recipient}`.
    package init(_ recipient: String, reject reply: String) throws(RuleError) {
        let template = try ReplyTemplate(reply)
        guard template.text.placeholders.isSubset(of: [.recipient]) else {
            throw RuleError("\"\(reply)\"", "no placeholder but {recipient}")
        }
        (kind, self.recipient, result) = (try Self.kind(recipient), recipient, .reject(template))
    }

    private static func kind(_ text: String) throws(RuleError) -> Kind {
        if text.isExpression {
            let expression = String(decoding: text.utf8.dropFirst().dropLast(), as: UTF8.self)
            return .expression(try RegularExpression(expression, matchesWhole: true))
        }
        guard text.utf8.contains(UInt8(ascii: "@")) else {
            throw RuleError(
                "\"\(text.visible.cut(toOctets: 64))\"",
                "an address, \"@example.com\", \"@.example.com\" for all below it, or \"/expression/\"")
        }
        return .pattern(try TextPattern(text))
    }

    /// The groups of a recipient that it is for; nil: it is not. Throws where that takes too long to find out.
    func groups(of recipient: Mailbox) throws(RegularExpression.Undecided) -> [String]? {
        switch kind {
        case .pattern(let pattern): return pattern.matches(recipient.unquoted) == true ? [recipient.unquoted] : nil
        case .expression(let expression):
            for spelling in TextPattern.spellings(of: recipient.unquoted) {
                if let groups = try expression.groups(in: spelling) { return groups }
            }
            return nil
        }
    }

    /// Two that are written alike are the same.
    package static func == (a: ForwardRule, b: ForwardRule) -> Bool {
        a.recipient == b.recipient && a.result == b.result
    }

    /// By how it is written.
    package func hash(into hasher: inout Hasher) {
        hasher.combine(recipient)
        hasher.combine(result)
    }
}

extension ForwardRule.Target {
    /// - Parameter groups: how many the expression has; nil: there is none, and a dollar is a dollar.
    fileprivate init(_ text: String, groups: Int?) throws(RuleError) {
        let allowed = "an address, or \"@example.org\" for the same local part there"
        guard let at = text.utf8.lastIndex(of: UInt8(ascii: "@")), !text.hasControls, text.utf8.count <= 1024 else {
            throw RuleError("\"\(text.visible.cut(toOctets: 64))\"", allowed)
        }
        let parts = (String(text[..<at]), String(text[text.utf8.index(after: at)...]))
        local = parts.0.isEmpty ? nil : try Self.parts(of: parts.0, groups)
        domain = try Self.parts(of: parts.1, groups)
        // With something in the place of each group it has to be an address.
        func sample(_ parts: [Part]) -> String { Self.filled(parts) { _ in "x" } }
        guard Mailbox(parsing: Self.address(local.map(sample) ?? "x", sample(domain))) != nil else {
            throw RuleError("\"\(text.visible.cut(toOctets: 64))\"", allowed)
        }
    }

    private static func parts(of text: String, _ groups: Int?) throws(RuleError) -> [Part] {
        guard let groups else { return [.text(text)] }
        var parts: [Part] = []
        var (fixed, rest) = ([UInt8](), text.utf8[...])
        while let octet = rest.popFirst() {
            guard octet == UInt8(ascii: "$") else {
                fixed.append(octet)
                continue
            }
            let digits = rest.prefix { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
            if digits.isEmpty, rest.first == UInt8(ascii: "$") {
                fixed.append(octet)
                rest.removeFirst()
                continue
            }
            guard let number = Int(String(decoding: digits, as: UTF8.self)), number <= groups else {
                throw RuleError(
                    "\"\(text.visible.cut(toOctets: 64))\"",
                    "$ with the number of a group, of which the expression has \(groups), or $$ for a dollar")
            }
            rest = rest.dropFirst(digits.count)
            if !fixed.isEmpty { parts.append(.text(String(decoding: fixed, as: UTF8.self))) }
            (fixed, parts) = ([], parts + [.group(number)])
        }
        return fixed.isEmpty ? parts : parts + [.text(String(decoding: fixed, as: UTF8.self))]
    }

    private static func filled(_ parts: [Part], _ group: (Int) -> String) -> String {
        parts.reduce(into: "") { text, part in
            switch part {
            case .text(let fixed): text += fixed
            case .group(let number): text += group(number)
            }
        }
    }

    private static func address(_ local: String, _ domain: String) -> String { "\(local)@\(domain)" }

    /// The address for a recipient; nil: what comes out is none.
    func mailbox(for recipient: Mailbox, _ groups: [String]) -> Mailbox? {
        let group = { (number: Int) in number < groups.count ? groups[number] : "" }
        let domain = Self.filled(domain, group)
        guard let local else { return Mailbox(parsing: Self.address(String(recipient.localPart), domain)) }
        let text = Self.filled(local, group)
        if let mailbox = Mailbox(parsing: Self.address(text, domain)) { return mailbox }
        // What was quoted has been matched without its quotes.
        let quoted = text.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"")
        return Mailbox(parsing: Self.address("\"\(quoted)\"", domain))
    }
}
