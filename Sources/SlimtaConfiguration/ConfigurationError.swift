// What is wrong with a configuration, said so that it can be put right without looking anything up. Thrown by
// `Configuration.parse`, printed by the composition root.

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

    init(file: String, line: Int, keyPath: String, found: String, allowed: String, suggestion: String? = nil) {
        self.file = file
        self.line = line
        self.keyPath = keyPath
        self.found = found
        self.allowed = allowed
        self.suggestion = suggestion
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

/// All mistakes in slimta.conf, by line.
package struct ConfigurationErrors: Error, Hashable, Sendable, CustomStringConvertible {
    /// At least one.
    package let errors: [ConfigurationError]

    /// One line for each.
    package var description: String { errors.map(\.description).joined(separator: "\n") }
}
