// What SMTPClientMachine speaks: SMTP, or LMTP, which is the same but for its hello and the replies to a message.

/// What is spoken.
package enum SMTPDialect: Hashable, Sendable {
    /// RFC 5321.
    case smtp
    /// RFC 2033: LHLO instead of EHLO, and behind the message a reply for each recipient that was accepted. A server that
    /// does not know LHLO is the operator's mistake, and bounces nothing.
    case lmtp

    /// The command that opens a session.
    var hello: String {
        switch self {
        case .smtp: "EHLO"
        case .lmtp: "LHLO"
        }
    }
}
