// What an edge that takes messages as a whole (HTTP, a directory, sendmail) needs of the configuration for each of them, and
// what it knows of a message before its content comes. The composition root makes the settings, the edge the request.

package import SlimtaMail
package import SlimtaSMTP

/// What the messages of an edge are held to: the same as those of the SMTP edges. A message keeps the settings that it
/// began with.
package struct SubmissionSettings: Sendable {
    /// The edge's name: for logs, rules, and the queue's records.
    package var name: String
    /// Our name.
    package var hostname: String
    /// Who may send, how large and for how many.
    package var rules: TransactionRules
    /// Who may send without having said who it is.
    package var trust: ClientTrust
    /// Who finds out who clients are; nil: nobody does.
    package var credentials: (any Authenticator)?
    /// Who is asked about clients; nil: nobody.
    package var gate: Gate?

    /// Without `gate` nobody is asked about clients.
    package init(
        name: String, hostname: String, rules: TransactionRules, trust: ClientTrust,
        credentials: (any Authenticator)? = nil, gate: Gate? = nil
    ) {
        self.name = name
        self.hostname = hostname
        self.rules = rules
        self.trust = trust
        self.credentials = credentials
        self.gate = gate
    }
}

/// A message that is about to come: what MAIL and RCPT say of one over SMTP.
package struct SubmissionRequest: Equatable, Sendable {
    /// The reverse-path; nil: the null one.
    package var sender: Mailbox?
    /// The forward-paths, as often as they were given.
    package var recipients: [Mailbox]
    /// Octets of the content, as far as that is known beforehand.
    package var size: Int?
    /// What is said of the content; octets above 127 make it 8bit in any case.
    package var body = BodyType.sevenBit
    /// RFC 6531: an address or the header may have UTF-8.
    package var smtpUTF8 = false
    /// Whether one refused recipient refuses the message.
    package var needsAll: Bool
    /// The id that the envelope is to have; nil: a new one.
    package var id: QueueID?
    /// When the first attempt is to be made; nil: at once. ``id`` is then of that time.
    package var sendAt: Timestamp?

    /// `smtpUTF8` is true where an address needs it.
    package init(
        sender: Mailbox?, recipients: [Mailbox], size: Int? = nil, needsAll: Bool, id: QueueID? = nil
    ) {
        self.sender = sender
        self.recipients = recipients
        self.size = size
        self.needsAll = needsAll
        self.id = id
        smtpUTF8 = sender?.needsSMTPUTF8 == true || recipients.contains(where: \.needsSMTPUTF8)
    }
}

/// What came of a request.
package enum SubmissionOpening: Equatable, Sendable {
    /// The content may come. For each recipient nil, or the reply that refuses it; at least one is accepted.
    case open([Reply?])
    /// Each recipient was refused.
    case noRecipients([Reply])
    /// The message is refused: 4xx, 5xx.
    case refused(Reply)
    /// The message is refused because this client or login may not send, or not as this sender.
    case forbidden(Reply)
}

/// What came of a login.
package enum SubmissionLogin: Equatable, Sendable {
    case user(AuthenticatedUser)
    /// The client does not say who it is, and may send all the same.
    case nobody
    case refused(Reply)
    /// Refused, because nobody may who comes from there.
    case forbidden(Reply)
}
