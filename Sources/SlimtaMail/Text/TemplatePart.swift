// Texts with placeholders in braces, taken apart: those of commands (CommandTemplate), and those of replies and fields (Template
// of SlimtaRules). What they do with the parts is theirs.

/// A brace that belongs to no placeholder.
package struct StrayBrace: Error, Hashable, Sendable {
    /// The text from the brace on.
    package let found: String
    /// What is allowed, for who wrote it.
    package let allowed: String
}

/// A piece of such a text. The raw value of a placeholder is the word in braces.
package enum TemplatePart<Placeholder>: Hashable, Sendable
where Placeholder: RawRepresentable<String> & CaseIterable & Hashable & Sendable {
    /// To be used as it is; not empty.
    case text(String)
    /// What is put in.
    case placeholder(Placeholder)

    /// The placeholder, if it is one.
    package var placeholder: Placeholder? {
        switch self {
        case .text: nil
        case .placeholder(let placeholder): placeholder
        }
    }

    /// All parts of a text.
    package static func parts(of text: String) throws(StrayBrace) -> [Self] {
        var parts: [Self] = []
        var rest = text[...]
        while let open = rest.firstIndex(where: { $0 == "{" || $0 == "}" }) {
            if open > rest.startIndex { parts.append(.text(String(rest[..<open]))) }
            guard rest[open] == "{", let close = rest[open...].firstIndex(of: "}"),
                let placeholder = Placeholder(rawValue: String(rest[rest.index(after: open)..<close]))
            else {
                let all = Placeholder.allCases.map { "{\($0.rawValue)}" }.joined(separator: " ")
                throw StrayBrace(found: String(rest[open...]), allowed: "no braces but those of \(all)")
            }
            parts.append(.placeholder(placeholder))
            rest = rest[rest.index(after: close)...]
        }
        if !rest.isEmpty { parts.append(.text(String(rest))) }
        return parts
    }
}
