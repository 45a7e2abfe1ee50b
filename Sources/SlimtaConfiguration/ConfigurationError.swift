// What is wrong with a configuration, said so that it can be put right without looking anything up. Thrown by
// `Configuration.parse`, printed by the composition root.

internal import SlimtaMail

/// One mistake in slimta.conf.
package struct ConfigurationError: Hashable, Sendable, CustomStringConvertible {
    /// As it was given to `parse`.
    package let file: String
    /// From 1. For something that is missing, the line of the table that it is missing in.
    package let line: Int
    /// Such as `edge[1].listen[0]`; empty if the text is not TOML there.
    package let keyPath: String
    /// What was found.
    package let found: String
    /// What is allowed; empty if `found` says it all.
    package let allowed: String
    /// What was probably meant.
    package let suggestion: String?
    /// Whether a secret may stand in the line.
    private let hidesLine: Bool

    /// What is not visible in the words becomes numbers: some are the TOML parser's, which has the file's text in them as it is.
    init(
        file: String, line: Int, keyPath: String, found: String, allowed: String, suggestion: String? = nil,
        hidesLine: Bool = false
    ) {
        self.file = file
        self.line = line
        self.keyPath = keyPath
        self.found = found.visible
        self.allowed = allowed.visible
        self.suggestion = suggestion?.visible
        self.hidesLine = hidesLine
    }

    /// `file:line: key.path: what was found; what is allowed; did you mean "x"?`
    package var description: String {
        var text = "\(file):\(line): "
        if !keyPath.isEmpty { text += "\(keyPath): " }
        text += found
        if !allowed.isEmpty { text += "; \(allowed)" }
        if let suggestion { text += "; did you mean \"\(suggestion)\"?" }
        return text
    }
}

extension ConfigurationError {
    /// The line of the file that is meant, with a mark below what is wrong in it; nil if there is no such line.
    ///
    ///      14 | tsl = "starttls"
    ///         | ^^^
    func excerpt(from lines: [String]) -> String? {
        guard !hidesLine, lines.indices.contains(line - 1) else { return nil }
        // Visible already, for the mark to stand below what is meant.
        let source = String(lines[line - 1].map { $0 == "\t" ? " " : $0 }.prefix(100)).visible
        guard let place = mark(in: source) else { return nil }
        let number = "\(line)"
        let margin = String(repeating: " ", count: max(0, 6 - number.count))
        let blank = String(repeating: " ", count: margin.count + number.count)
        return "\(margin)\(number) | \(source)\n\(blank) | "
            + String(repeating: " ", count: place.lowerBound) + String(repeating: "^", count: place.count)
    }

    /// The columns, from 0, of the wrong value, else of the key, else of all that is on the line.
    private func mark(in source: String) -> Range<Int>? {
        let key = keyPath.split(separator: ".").last.map { $0.prefix { $0 != "[" } }.map(String.init)
        let value = found.split(separator: "\"", omittingEmptySubsequences: false)
        let words = [value.count >= 3 ? "\"\(value[1])\"" : nil, key].compactMap { $0 }
        for word in words where !word.isEmpty {
            guard let range = Self.first(word, in: source) else { continue }
            return range
        }
        guard let start = source.firstIndex(where: { $0 != " " }) else { return nil }
        let end = source.lastIndex { $0 != " " } ?? start
        return source.distance(from: source.startIndex, to: start)..<source.distance(from: source.startIndex, to: end)
            + 1
    }

    private static func first(_ word: String, in source: String) -> Range<Int>? {
        let (word, source) = (Array(word), Array(source))
        guard word.count <= source.count else { return nil }
        return (0...(source.count - word.count)).first { source[$0..<($0 + word.count)].elementsEqual(word) }
            .map { $0..<($0 + word.count) }
    }
}

/// All mistakes in slimta.conf, by line.
package struct ConfigurationErrors: Error, Hashable, Sendable, CustomStringConvertible {
    /// At least one.
    package let errors: [ConfigurationError]

    /// One line for each.
    package var description: String { errors.map(\.description).joined(separator: "\n") }

    /// One line for each, and below it the line of `text`, the file, that it is about.
    package func description(with text: String) -> String {
        // By octets: "\r\n" is one character.
        let lines = text.utf8.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).map {
            String($0.last == UInt8(ascii: "\r") ? $0.dropLast() : $0) ?? ""
        }
        return errors.map { error in
            error.description + (error.excerpt(from: lines).map { "\n\($0)" } ?? "")
        }.joined(separator: "\n")
    }
}
