// As whom a login may send: what a back end says of it, and what [[senders]] adds. Made for each login by who has checked
// it; asked for MAIL FROM by TransactionRules, for the header by HeaderSenders.

/// The addresses that somebody may use. Several entries are a union; without any, nobody's may be used.
package struct SenderRights: Hashable, Sendable, CustomStringConvertible {
    /// In the order in which they were given: the first address is what a message gets that lacks one.
    package var patterns: [SenderPattern]
    /// Separators of extensions that hold for these rights, besides those that hold for all.
    package var separators = ""

    /// What `texts` stand for; those that are no entry stand for nothing.
    package init(_ texts: [String], separators: String = "") {
        patterns = texts.compactMap { SenderPattern($0) }
        self.separators = separators
    }

    /// Whether `sender` may be used.
    package func allow(_ sender: Mailbox, _ matching: SenderMatching) -> Bool {
        var matching = matching
        matching.separators += separators
        let sender = ComparedSender(sender, matching)
        return patterns.contains { $0.allows(sender) }
    }

    /// For the log: the entries, as many as fit on a line.
    package var description: String {
        patterns.isEmpty ? "nothing" : patterns.map(\.description).joined(separator: ",").cut(toOctets: 300)
    }
}
