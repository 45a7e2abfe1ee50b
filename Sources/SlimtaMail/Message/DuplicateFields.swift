// What is done with a message whose header has a field twice that may be there once (RFC 5322 section 3.6). The configuration
// says it, the policies do it.

/// `[repair] duplicates`.
package enum DuplicateFields: String, Hashable, Sendable, CaseIterable {
    /// The message is refused: who reads it and who signs it would take different ones.
    case refuse
    /// The first is kept, the others are removed.
    case first
}
