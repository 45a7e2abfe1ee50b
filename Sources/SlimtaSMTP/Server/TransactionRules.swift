// What is decided of a transaction by its settings alone, whatever the message comes in by: SMTPServerMachine decides so
// about MAIL and RCPT, and SlimtaEdge's SubmissionMachine about messages that come as a whole.

package import SlimtaMail

/// Who may send, and how large and for how many a message may be. A value that answers with the refusal, nil: there is
/// nothing against it.
package struct TransactionRules: Hashable, Sendable {
    /// What AUTH is to those who may not send without.
    package var authentication: SMTPServerConfiguration.Authentication
    /// The most octets of a message (RFC 1870 section 3).
    package var messageSize: Int
    /// The most recipients of a message.
    package var recipients: Int
    /// Who may send as whom.
    package var senders: SenderRules

    /// The defaults are those of slimta.conf.
    package init(
        authentication: SMTPServerConfiguration.Authentication, messageSize: Int = 50 << 20, recipients: Int = 1000,
        senders: SenderRules = SenderRules()
    ) {
        self.authentication = authentication
        self.messageSize = messageSize
        self.recipients = recipients
        self.senders = senders
    }

    /// May the client send at all?
    ///
    /// - Parameters:
    ///   - user: who it has logged in as; nil: nobody.
    ///   - isTrusted: whether it may send without.
    ///   - mayStartTLS: STARTTLS is still to come.
    package func refusal(
        ofClient user: AuthenticatedUser?, isTrusted: Bool, mayStartTLS: Bool = false
    ) -> Reply? {
        user != nil || isTrusted ? nil : .unknownClient(authentication, mayStartTLS: mayStartTLS)
    }

    /// May this login use this sender? The null one is everybody's: bounces and receipts have it.
    ///
    /// - Parameter smtpUTF8: RFC 6531 section 3.4: whether the reply may have text that is not ASCII.
    /// - Returns: the reply, and for the log what the login may use; nil: it may.
    package func refusal(
        of sender: Mailbox?, from user: AuthenticatedUser?, smtpUTF8: Bool
    ) -> (reply: Reply, allowed: String)? {
        guard let user, let sender, let rights = senders.mailFrom(of: user.login, user.rights, isLocal: user.isLocal),
            !rights.allow(sender, senders.matching)
        else { return nil }
        return (Reply(553, sender: sender, notOf: user.login, allowsUTF8: smtpUTF8), rights.description)
    }

    /// What has to be looked at in the header of this login's message; nil: nothing.
    package func header(of user: AuthenticatedUser?) -> HeaderSenders? {
        user.flatMap { senders.header(of: $0.login, $0.rights, isLocal: $0.isLocal) }
    }

    /// May a message of this size come? nil: nobody says how large it is.
    package func refusal(ofSize size: Int?) -> Reply? {
        guard let size, size > messageSize else { return nil }
        return Reply(552, .init(5, 3, 4), "Message size exceeds \(messageSize) limit")
    }

    /// May a message have so many recipients? Asked of one that goes to all of them or to none: later it has no fewer, so the
    /// refusal is for good (RFC 3463 section 3.6), other than that of the recipient that is one too many.
    package func refusal(ofAll count: Int) -> Reply? {
        count <= recipients ? nil : Reply(554, .init(5, 5, 3), "Too many recipients, \(recipients) at most")
    }

    /// May this recipient be added to those that there are?
    ///
    /// - Parameters:
    ///   - smtpUTF8: RFC 6531 section 3.4: whether the message may have addresses that are not ASCII.
    ///   - count: of recipients that were accepted before.
    package func refusal(of recipient: Mailbox, smtpUTF8: Bool, behind count: Int) -> Reply? {
        guard smtpUTF8 || !recipient.needsSMTPUTF8 else { return SMTPSyntaxError.needsSMTPUTF8.reply }
        return count < recipients ? nil : Reply(452, .init(4, 5, 3), "Too many recipients")
    }
}

extension SMTPServerConfiguration {
    /// What of it other ways to submit a message have as well.
    var transactionRules: TransactionRules {
        TransactionRules(
            authentication: authentication, messageSize: messageSize, recipients: recipients, senders: senders)
    }
}
