// What an SMTP session is like: made by the edge from its configuration, one for all sessions of a kind.

package import SlimtaMail
package import SlimtaSASL

/// The settings of a session of `SMTPServerMachine`.
package struct SMTPServerConfiguration: Sendable {
    /// When a session becomes encrypted.
    package enum TLSMode: Sendable {
        /// Not offered.
        case none
        /// Offered in EHLO (RFC 3207 section 3).
        case startTLS
        /// Before the greeting (RFC 8314 section 3.3).
        case immediate
    }

    /// What AUTH is to a session (RFC 4954).
    package enum Authentication: Sendable {
        /// MAIL before AUTH gets 530 5.7.0.
        case required
        /// Offered.
        case optional
        /// Not offered.
        case none
    }

    /// Our name: greeting, EHLO.
    package var hostname: String
    /// The first reply of a session. One of 4xx or 5xx is followed by 503 to everything but QUIT (RFC 5321 section 3.1),
    /// 421 by the end.
    package var greeting: Reply
    /// Whether there is TLS, and when it begins.
    package var tls: TLSMode
    /// Whether AUTH is offered. Who may send without it is told to the machine apart.
    package var authentication: Authentication
    /// The mechanisms in the order in which they are offered.
    package var mechanisms: [SASLMechanism]
    /// Whether AUTH may be used in clear.
    package var allowsPlaintextAuthentication: Bool
    /// The most octets of a message (RFC 1870 section 3); at least 64 KiB makes sense.
    package var messageSize: Int
    /// The most recipients of a message; one more gets 452 4.5.3.
    package var recipients: Int
    /// The most 5xx replies since the last accepted message; then 421 4.7.0.
    package var errors: Int
    /// The most commands without progress (an accepted recipient, DATA, a login); the next one gets 421 4.7.0.
    package var commands: Int
    /// Whether MAIL and RCPT take an address without "<" and ">".
    package var lenientPaths: Bool
    /// What is checked of the addresses that logins send as.
    package var senders = SenderRules()
    /// Where somebody is asked whether the session may go on; none by default, and what is not asked costs nothing.
    package var stages: SMTPStages = []

    /// The defaults are those of slimta.conf. `greeting` is nil for "220 HOSTNAME ESMTP Mail Gateway".
    package init(
        hostname: String, greeting: Reply? = nil, tls: TLSMode, authentication: Authentication,
        mechanisms: [SASLMechanism] = [.plain, .login], allowsPlaintextAuthentication: Bool = false,
        messageSize: Int = 50 << 20, recipients: Int = 1000, errors: Int = 10,
        commands: Int = 100, lenientPaths: Bool = false
    ) {
        self.hostname = hostname
        self.greeting = greeting ?? Reply(220, nil, "\(hostname) ESMTP Mail Gateway")
        self.tls = tls
        self.authentication = authentication
        self.mechanisms = mechanisms
        self.allowsPlaintextAuthentication = allowsPlaintextAuthentication
        self.messageSize = messageSize
        self.recipients = recipients
        self.errors = errors
        self.commands = commands
        self.lenientPaths = lenientPaths
    }
}

/// Where a session can be refused before its message is: a set of them says at which ones somebody is asked.
package struct SMTPStages: OptionSet, Sendable {
    /// One bit a stage.
    package let rawValue: UInt8

    /// The stages with these bits.
    package init(rawValue: UInt8) { self.rawValue = rawValue }

    /// The client is there, behind the handshake where TLS comes first. A refusal takes the place of the greeting.
    package static let connect = SMTPStages(rawValue: 1)
    /// EHLO or HELO.
    package static let hello = SMTPStages(rawValue: 2)
    /// STARTTLS, before its 220 (RFC 3207).
    package static let startTLS = SMTPStages(rawValue: 4)
    /// AUTH, once the credentials are known to be right.
    package static let login = SMTPStages(rawValue: 8)
    /// MAIL, when the machine has nothing against it.
    package static let mail = SMTPStages(rawValue: 16)
    /// Each RCPT, when the machine has nothing against it.
    package static let recipient = SMTPStages(rawValue: 32)
    /// DATA, before 354.
    package static let data = SMTPStages(rawValue: 64)
    /// The whole message is there, and is not stored yet.
    package static let message = SMTPStages(rawValue: 128)
}

/// Who a session has authenticated as, and what that allows.
package struct AuthenticatedUser: Equatable, Sendable {
    /// The name as the back end has it, which may differ from what the client wrote.
    package let login: String
    /// The sender addresses that its back end lets the login use; nil: it says nothing of them. Empty: there are none.
    package let senders: [String]?
    /// The same as it is asked; nil: nothing is said of it.
    package let rights: SenderRights?
    /// Who knows the user: a name of `[auth] backends`; nil: nobody was asked.
    package private(set) var backEnd: String?
    /// Which application's password it was; nil: the user's own, or no password.
    package let app: String?
    /// Whether it is a user of this machine, whom no back end knows: a name there may be somebody else's here.
    package let isLocal: Bool

    /// - Parameters:
    ///   - senders: each as ``SenderPattern`` has it; what is none stands for nobody. Empty: no sender;
    ///     nil: any.
    ///   - isLocal: whether it is a user of this machine. It may use its senders with an extension too, whatever others may:
    ///     alice+anything@example.com for alice@example.com.
    package init(login: String, senders: [String]? = nil, isLocal: Bool = false, app: String? = nil) {
        self.login = login
        self.senders = senders
        self.app = app
        self.isLocal = isLocal
        rights = senders.map { SenderRights($0, separators: isLocal ? "+" : "") }
    }

    /// The same user, who is known to that back end.
    package func known(to backEnd: String) -> AuthenticatedUser {
        var user = self
        user.backEnd = backEnd
        return user
    }
}
