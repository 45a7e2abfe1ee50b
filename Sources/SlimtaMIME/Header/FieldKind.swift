// What a field of a header is made of, and so where encoded words may stand in it (RFC 2047 section 5). Asked by
// FieldEncoder.

internal import SlimtaMail

/// Kinds of fields, by what may be encoded in them.
enum FieldKind {
    /// Text (RFC 5322 section 2.2.1), as in Subject, and in all fields that are not known.
    case unstructured
    /// A list of addresses: names and comments.
    case addresses
    /// Identifiers of messages: comments. What is not ASCII in one needs SMTPUTF8.
    case identifiers
    /// A value that is no text: comments.
    case comments
    /// Words, with what is between "<" and ">" left alone: names of lists, keywords.
    case phrases
    /// A value with parameters: those (RFC 2231).
    case parameters
    /// What others have signed or stamped: nothing.
    case untouchable

    private static let addressNames: Set = [
        "from", "sender", "reply-to", "to", "cc", "bcc", "resent-from", "resent-sender", "resent-reply-to", "resent-to",
        "resent-cc", "resent-bcc", "disposition-notification-to", "return-receipt-to", "errors-to", "mail-followup-to",
        "mail-reply-to", "apparently-to",
    ]
    private static let untouchableNames: Set = [
        "received", "return-path", "dkim-signature", "domainkey-signature", "authentication-results", "received-spf",
        "x-google-dkim-signature",
    ]

    /// Of the field with this name, in lower case.
    init(of name: String) {
        switch name {
        case _ where Self.addressNames.contains(name): self = .addresses
        case "message-id", "in-reply-to", "references", "resent-message-id", "content-id": self = .identifiers
        case "date", "resent-date", "mime-version", "content-transfer-encoding": self = .comments
        case "content-type", "content-disposition": self = .parameters
        case _ where Self.untouchableNames.contains(name): self = .untouchable
        default:
            if name.utf8.starts(with: "arc-".utf8) {
                self = .untouchable
            } else {
                self = name == "keywords" || name.utf8.starts(with: "list-".utf8) ? .phrases : .unstructured
            }
        }
    }
}
