// Which fields are signed: `h=` of the signatures that we make (RFC 6376 section 5.4). A signature is to hold as long as
// nobody changes what a reader sees, and no longer.

/// The names in `h=`.
///
/// A name that is there once more than its field is says that there is no other: who adds one breaks the signature
/// (section 8.15). Nothing says that of fields that lists and forwarders add.
package enum SignedNames {
    /// All there are and no other, even of those that are not there. The three of MIME would change how the body is shown.
    static let always = [
        "from", "to", "cc", "subject", "date", "message-id", "reply-to", "in-reply-to", "references", "mime-version",
        "content-type", "content-transfer-encoding",
    ]
    /// All there are and no other, if there are any. RFC 8058 section 4 wants the first two.
    static let closedWherePresent = [
        "list-unsubscribe", "list-unsubscribe-post", "autocrypt", "feedback-id", "auto-submitted",
        "content-disposition",
        // RFC 8460 section 5.3.
        "tls-report-domain", "tls-report-submitter",
    ]
    /// Those that are there.
    static let wherePresent = [
        "sender", "resent-date", "resent-from", "resent-sender", "resent-to", "resent-cc", "resent-message-id",
        "list-id",
        "list-help", "list-post", "list-owner", "list-archive", "list-subscribe",
    ]
    /// Of ``wherePresent``, so many of a name, the lowest: our field is not to be as long as a header of thousands of them.
    static let most = 50

    /// `h=` for a header that has so many fields of each name: each name as often as it signs, all mentions together.
    static func of(_ counts: [String: Int]) -> [String] {
        let closed = always + closedWherePresent.filter { counts[$0] != nil }
        return closed.flatMap { repeatElement($0, count: (counts[$0] ?? 0) + 1) }
            + wherePresent.flatMap { repeatElement($0, count: min(most, counts[$0] ?? 0)) }
    }

    /// Whether a further field of this name (in lower case) breaks a signature that we have made, or may: those of ``wherePresent``
    /// do not.
    package static func isClosed(_ name: String) -> Bool {
        always.contains(name) || closedWherePresent.contains(name)
    }

    /// Whether a field of this name is signed where it is.
    static func canBeSigned(_ name: String) -> Bool {
        always.contains(name) || closedWherePresent.contains(name) || wherePresent.contains(name)
    }
}
