// What an SMTP session asks while it goes on, and what the answers can be: all that somebody else than the machine
// decides. The driver carries each question to whoever knows, and the answer back.

package import SlimtaMail
package import SlimtaSASL

extension SMTPServerMachine {
    /// What the machine cannot know. What the command itself said is in the question, what was said before in
    /// ``SMTPServerMachine/session``.
    ///
    /// All but `authentication`, `room` and `end` are asked only at the stages that the configuration names; they come when
    /// the machine itself has nothing against the command.
    package enum Question: Equatable, Sendable {
        /// May this client talk to us? ``SMTPStages/connect``.
        case connect
        /// May it have this name? ``SMTPStages/hello``.
        case hello(name: String, isExtended: Bool)
        /// May it begin TLS? ``SMTPStages/startTLS``.
        case startTLS
        /// The client says who it is (RFC 4954): what follows from this step? The answer is
        /// ``Answer/authentication(_:)``.
        case authentication(AuthenticationStep)
        /// May this user, whose credentials are right, log in here? ``SMTPStages/login``.
        case login(AuthenticatedUser)
        /// May this sender begin a transaction? ``SMTPStages/mail``.
        case mail(MailCommand)
        /// May a message of this size be taken at all now?
        case room(MailCommand)
        /// May this recipient have the message? `name` is how the client wrote it. ``SMTPStages/recipient``.
        case recipient(Mailbox, name: String)
        /// May the content come? ``SMTPStages/data``.
        case data
        /// May this message be stored? Its content has been given out. ``SMTPStages/message``.
        case message(Submission)
        /// The message is whole: store it. The answer is the reply to it.
        case end(Submission)

        /// The stage at which it is asked; nil: always.
        package var stage: SMTPStages? {
            switch self {
            case .connect: .connect
            case .hello: .hello
            case .startTLS: .startTLS
            case .login: .login
            case .mail: .mail
            case .recipient: .recipient
            case .data: .data
            case .message: .message
            case .authentication, .room, .end: nil
            }
        }
    }

    /// What a question can be answered with. An answer that does not fit its question refuses with 451 4.3.0: nothing is
    /// let through by a mistake.
    package enum Answer: Equatable, Sendable {
        /// Yes: the machine goes on as if it had not asked. Fits all but `authentication` and `end`.
        case goOn
        /// This is what the client is told: 4xx or 5xx refuses, 421 and 521 also end the session. To `end` also 2xx: the
        /// message is stored.
        case reply(Reply)
        /// Fits `authentication`.
        case authentication(AuthenticationResult)
    }

    /// What a client has said in an AUTH exchange. What is base64 on the wire is decoded.
    package enum AuthenticationStep: Equatable, Sendable {
        /// A new exchange; any other is over. The mechanism is one of `listed`, which the client was shown by the last EHLO:
        /// whether somebody in between has changed that list is judged by it (RFC 5802 section 6).
        ///
        /// `initialResponse` nil: there was none, which is not the same as an empty one.
        case begin(SASLMechanism, initialResponse: SecretOctets?, listed: [SASLMechanism])
        /// What the client says to a challenge.
        case response(SecretOctets)
        /// The client has ended the exchange, or sent what cannot be read, and will be told so whatever the answer is; but
        /// ``AuthenticationResult/wrong`` makes it a failed try.
        case cancelled(Reply)
    }

    /// What follows from a step.
    package enum AuthenticationResult: Equatable, Sendable {
        /// 334 with these octets in base64. After ``AuthenticationStep/cancelled(_:)`` it means nothing.
        case challenge([UInt8])
        /// The client is this user.
        case right(AuthenticatedUser)
        /// 535 5.7.8.
        case wrong
        /// The client is who it says, and may not log in all the same: 535 5.7.8 with this text.
        case refused(String)
        /// 501 5.5.2: what was said cannot be read.
        case malformed
        /// It cannot be found out now: 454 4.7.0.
        case unavailable
        /// Nobody who could be asked takes it for right, and somebody could not: 454 4.7.0, and a failed try.
        case undecided
        /// Too much was guessed where the client is: 421 4.7.0.
        case turnedAway
    }

    /// What a client has submitted, but for the content and the network address.
    package struct Submission: Equatable, Sendable {
        /// The reverse-path; nil: the null one.
        package let sender: Mailbox?
        /// At least one, each once.
        package let recipients: [Mailbox]
        /// What MAIL said, or what the content needs.
        package let body: BodyType
        /// RFC 6531 section 3.4: MAIL had SMTPUTF8.
        package let smtpUTF8: Bool
        /// AUTH= of MAIL (RFC 4954 section 5), decoded, empty for `<>`; nil: none.
        package let submitter: String?
        /// EHLO's argument.
        package let clientName: String
        /// RFC 3848 section 1 and RFC 6531 section 4.3.
        package let protocolWord: String
        /// nil: it came in clear.
        package let tls: TLSDescription?
        /// nil: without AUTH.
        package let login: String?
        /// What its header is to be looked at for; nil: nothing.
        package let senders: HeaderSenders?

        /// What came otherwise than over SMTP: each is what its property says.
        package init(
            sender: Mailbox?, recipients: [Mailbox], body: BodyType, smtpUTF8: Bool, submitter: String? = nil,
            clientName: String, protocolWord: String, tls: TLSDescription?, login: String?,
            senders: HeaderSenders? = nil
        ) {
            self.sender = sender
            self.recipients = recipients
            self.body = body
            self.smtpUTF8 = smtpUTF8
            self.submitter = submitter
            self.clientName = clientName
            self.protocolWord = protocolWord
            self.tls = tls
            self.login = login
            self.senders = senders
        }
    }

    /// What has been said in a session, for whoever answers a question. With the connection's facts it is all that there
    /// is to judge by before the message.
    package struct Session: Equatable, Sendable {
        /// The argument of EHLO or HELO; nil: none yet.
        package let clientName: String?
        /// Whether that was EHLO.
        package let isExtended: Bool
        /// nil: the session is in clear.
        package let tls: TLSDescription?
        /// nil: nobody has logged in.
        package let login: String?
        /// The SASL mechanism by which; nil: nobody has logged in.
        package let mechanism: String?
        /// MAIL; nil: no transaction. At ``Question/mail(_:)`` it is in the question.
        package let mail: MailCommand?
        /// Those that were accepted, as often as they were named.
        package let recipients: [Mailbox]
        /// Which transaction it is, or the last one was: what a rule says of a message at one stage holds for that message
        /// at the next ones, and not behind RSET.
        package let transactionNumber: UInt64

        /// One that is not of SMTP: each is what its property says.
        package init(
            clientName: String?, isExtended: Bool = true, tls: TLSDescription?, login: String?, mechanism: String?,
            mail: MailCommand?, recipients: [Mailbox], transactionNumber: UInt64
        ) {
            self.clientName = clientName
            self.isExtended = isExtended
            self.tls = tls
            self.login = login
            self.mechanism = mechanism
            self.mail = mail
            self.recipients = recipients
            self.transactionNumber = transactionNumber
        }
    }
}
