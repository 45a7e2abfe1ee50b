// What is wrong with a rule, for the operator who wrote it. SlimtaConfiguration shows it with line and key.

/// A mistake in a rule or in a list.
package struct RuleError: Error, Hashable, Sendable {
    /// What was found, to be read behind "found ".
    package let found: String
    /// What would be right, to be read behind "allowed is ".
    package let allowed: String

    /// "found `found`, allowed is `allowed`".
    package init(_ found: String, _ allowed: String) {
        self.found = found
        self.allowed = allowed
    }
}
