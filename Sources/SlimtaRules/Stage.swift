// Where a session can be judged: the words of slimta.conf, and which of them comes before which. The configuration reads
// them, the edge asks at them.

/// A stage of an SMTP session, at which rules are evaluated. The raw value is the word of slimta.conf.
package enum Stage: String, CaseIterable, Hashable, Sendable {
    /// The client is there, behind the handshake where TLS comes first. A refusal takes the place of the greeting.
    case connect
    /// EHLO or HELO.
    case ehlo
    /// STARTTLS, before its 220 (RFC 3207).
    case starttls
    /// AUTH, once the credentials are known to be right.
    case auth
    /// MAIL.
    case mail
    /// Each RCPT.
    case rcpt
    /// DATA, before 354.
    case data
    /// The whole message is there, and is not stored yet.
    case message

    /// Its place in the order of ``allCases``.
    var place: Int { Self.allCases.firstIndex(of: self) ?? 0 }

    /// Whether all that is known at `other` is known here. A client that needs no AUTH never comes by `auth`: what is
    /// known there is known later all the same, even if it is that nobody has logged in.
    package func isAtOrBehind(_ other: Stage) -> Bool { place >= other.place }
}
