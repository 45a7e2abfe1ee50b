// The policy `spamassassin`: a message is shown to spamd, and marked, held or refused by what that says. The connection is the
// composition root's (SlimtaNet); what follows from the answer is here.

package import Logging
package import NIOCore
package import SlimtaMail

/// Asks spamd about each message.
package struct SpamAssassinPolicy: WaitingPolicy {
    /// What is said of it in slimta.conf.
    package struct Settings: Sendable {
        /// How long the whole exchange may take, once it is a message's turn.
        package var timeout: Duration
        /// Whether a message that spamd says nothing of is refused for now, with 451; else it is let through unmarked.
        package var failsClosed: Bool
        /// Whether messages get X-Spam-Status and X-Spam-Symbols.
        package var addsFields: Bool
        /// From this score on a message is refused; nil: none is.
        package var rejectFrom: Double?
        /// From this score on a message is held for an operator; nil: none is.
        package var holdFrom: Double?
        /// Larger messages are not asked about, in octets.
        package var largest: Int

        /// All of them.
        package init(
            timeout: Duration, failsClosed: Bool, addsFields: Bool, rejectFrom: Double?, holdFrom: Double?, largest: Int
        ) {
            (self.timeout, self.failsClosed, self.addsFields) = (timeout, failsClosed, addsFields)
            (self.rejectFrom, self.holdFrom, self.largest) = (rejectFrom, holdFrom, largest)
        }
    }

    /// What is sent to spamd: these octets, then what the reader has.
    package struct Question: Sendable {
        /// The request's head, and of the message what is in memory.
        package let octets: [ByteBuffer]
        /// The rest of a large message.
        package let rest: (any SpoolReader)?
        /// When the exchange has failed.
        package let timeout: Duration
    }

    /// Why there is no answer.
    package struct Failure: Error, CustomStringConvertible {
        /// In words for the log.
        package let description: String
        /// Only because too many messages come at once: then none passes unmarked, or whoever sends very many had that.
        package let isOverload: Bool

        /// `description` is in words for the log.
        package init(_ description: String, isOverload: Bool = false) {
            (self.description, self.isOverload) = (description, isOverload)
        }
    }

    /// Sends a question, says that there is no more, and returns all that comes until the other side closes, at most
    /// ``SpamVerdict/limit``.
    package typealias Exchange = @Sendable (Question) async -> Result<ByteBuffer, Failure>

    private let settings: Settings
    private let exchange: Exchange
    private let logger: Logger

    /// A policy that asks by `exchange`.
    package init(_ settings: Settings, logger: Logger, exchange: @escaping Exchange) {
        (self.settings, self.logger, self.exchange) = (settings, logger, exchange)
    }

    /// See ``WaitingPolicy/place``.
    package var place: PolicyPlace { .spamassassin }

    /// See ``WaitingPolicy/apply(to:_:)``.
    package func apply(to mail: inout PolicyMail, _ context: PolicyContext) async throws(PolicyRefusal) {
        // Whoever reads them is to believe them.
        mail.remove(mail.header.fields(in: mail.message.head, namesBeginningWith: "x-spam-"))
        guard let envelope = mail.envelopes.first else { return }
        // As it will be delivered: our Received tells spamd who the client is, and whether it has authenticated.
        let received = ByteBuffer(string: ReceivedPolicy.field(for: envelope, context))
        let parts = [received, envelope.prependedFields, mail.message.head]
        let size = parts.reduce(0) { $0 + $1.readableBytes } + Int(mail.message.rest?.reference.length ?? 0)
        guard size <= settings.largest else { return }
        let head = ByteBuffer(string: SpamdQuestion.head(size: size, login: envelope.client.login))
        let question = Question(
            octets: [head] + parts, rest: mail.message.rest?.makeReader(), timeout: settings.timeout)
        let verdict: SpamVerdict
        do {
            verdict = try SpamVerdict(try await exchange(question).get())
        } catch {
            return try failed("\(error)", (error as? Failure)?.isOverload ?? false, envelope)
        }
        try obey(verdict, &mail, envelope)
    }

    private func obey(_ verdict: SpamVerdict, _ mail: inout PolicyMail, _ envelope: Envelope) throws(PolicyRefusal) {
        logger.info(
            "checked for spam",
            metadata: [
                "queue_id": "\(envelope.id)", "spam": "\(verdict.isSpam ? "YES" : "NO")", "score": "\(verdict.score)",
                "symbols": "\(verdict.symbols.joined(separator: ",").cut(toOctets: 500))",
            ])
        if let limit = settings.rejectFrom, verdict.score >= limit {
            throw PolicyRefusal(Reply(554, .init(5, 6, 0), "Message content rejected"))
        }
        if let limit = settings.holdFrom, verdict.score >= limit { mail.heldReason = "spamassassin" }
        if settings.addsFields { mail.prepend(verdict.fields) }
    }

    private func failed(_ reason: String, _ isOverload: Bool, _ envelope: Envelope) throws(PolicyRefusal) {
        let isRefused = settings.failsClosed || isOverload
        logger.warning(
            "spamd gives no verdict",
            metadata: [
                "queue_id": "\(envelope.id)", "error": "\(reason)",
                "on_failure": "\(isRefused ? "tempfail" : "accept")",
            ])
        if isRefused {
            throw PolicyRefusal(Reply(451, .init(4, 7, 1), "Message content cannot be checked now, try again later"))
        }
    }
}
