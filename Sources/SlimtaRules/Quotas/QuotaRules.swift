// What [quota] says: what is counted of whoever sends, over which times, how much is too much, and what follows then.
// SlimtaConfiguration reads it, Quotas obeys it.

package import SlimtaMail

/// What is counted of a sender.
package enum QuotaCounter: String, CaseIterable, Hashable, Sendable {
    /// Messages that were accepted.
    case messages
    /// Their recipients, before any is forwarded.
    case recipients
    /// Those of them that the sender has not written to within 90 days.
    case newRecipients = "new_recipients"
    /// Recipients that were refused for good where they were to be delivered: they do not exist, or are not for this sender.
    case refused
    /// Networks that a login has sent from: /24 of IPv4, /48 of IPv6.
    case networks

    /// Those of which each message adds some to what there were.
    package static let summed: [QuotaCounter] = [.messages, .recipients, .newRecipients, .refused]

    /// The most that can be counted.
    package var most: Int { self == .networks ? KnownNetworks.most : Int(UInt32.max) }

    /// "messages", "new recipients".
    package var words: String {
        switch self {
        case .messages: "messages"
        case .recipients: "recipients"
        case .newRecipients: "new recipients"
        case .refused: "refused recipients"
        case .networks: "networks"
        }
    }
}

/// How long is looked back: from now, never from midnight.
package enum QuotaWindow: String, CaseIterable, Hashable, Sendable {
    case hour = "per_hour"
    case day = "per_day"

    /// "hour".
    package var name: String { "\(self)" }

    /// "an hour".
    package var words: String { self == .hour ? "an hour" : "a day" }
}

/// How much is too much.
package struct QuotaLimits: Hashable, Sendable {
    /// What follows where it is more.
    package enum Level: String, CaseIterable, Hashable, Sendable {
        /// The operator is told.
        case soft
        /// It is refused: 450 4.7.1.
        case hard
        /// All that the login sends from then on is held. Where it is new, or there is no login: as `hard`.
        case breaker
    }

    /// At most `most` of `counter` in a window.
    package struct Limit: Hashable, Sendable {
        /// What is counted.
        package var counter: QuotaCounter
        /// Over which time.
        package var window: QuotaWindow
        /// So much is allowed.
        package var most: Int

        /// One limit.
        package init(_ counter: QuotaCounter, _ window: QuotaWindow, _ most: Int) {
            self.counter = counter
            self.window = window
            self.most = most
        }
    }

    /// Over one of these the operator is told.
    package var soft: [Limit]
    /// Over one of these it is refused.
    package var hard: [Limit]
    /// Over one of these the login is held.
    package var breaker: [Limit]
    /// So many in a hundred of the last hundred recipients, if at least so many, were refused for good: the login is held.
    /// nil: that is not looked at.
    package var refusedShare: Int?

    /// Without arguments: no limits.
    package init(soft: [Limit] = [], hard: [Limit] = [], breaker: [Limit] = [], refusedShare: Int? = nil) {
        self.soft = soft
        self.hard = hard
        self.breaker = breaker
        self.refusedShare = refusedShare
    }

    /// Those of [quota] where it says nothing else.
    package static let standard = QuotaLimits(
        soft: [
            Limit(.messages, .hour, 200), Limit(.messages, .day, 1500), Limit(.recipients, .hour, 700),
            Limit(.recipients, .day, 3500), Limit(.newRecipients, .hour, 60), Limit(.newRecipients, .day, 200),
            Limit(.networks, .hour, 10),
        ],
        hard: [
            Limit(.messages, .hour, 300), Limit(.messages, .day, 2000), Limit(.recipients, .hour, 1000),
            Limit(.recipients, .day, 5000),
        ],
        breaker: [Limit(.newRecipients, .hour, 100), Limit(.newRecipients, .day, 300)], refusedShare: 20)

    /// Whether there is none.
    package var isEmpty: Bool { self == QuotaLimits() }

    /// The limits of a level.
    package subscript(level: Level) -> [Limit] {
        get {
            switch level {
            case .soft: soft
            case .hard: hard
            case .breaker: breaker
            }
        }
        set {
            switch level {
            case .soft: soft = newValue
            case .hard: hard = newValue
            case .breaker: breaker = newValue
            }
        }
    }
}

/// Whose messages are counted together.
package enum QuotaSubject: Hashable, Sendable, CustomStringConvertible {
    /// Who has logged in.
    case login(String)
    /// Who has not, by address; of IPv6 the /64, the smallest network that a customer gets.
    case address(IPAddress)
    /// Who has neither: another process of this machine, a file of a directory.
    case local

    /// Whoever has this login, or none and this address.
    package init(login: String?, address: IPAddress?) {
        self = login.map { .login($0) } ?? address.map { .address($0.customerNetwork) } ?? .local
    }

    /// Who has sent an envelope that an edge has made.
    package init(_ client: ClientInfo) {
        self.init(login: client.login, address: client.login == nil ? IPAddress(client.address) : nil)
    }

    /// The login, the address, or "local".
    package var description: String {
        switch self {
        case .login(let name): name
        case .address(let address): address.description
        case .local: "local"
        }
    }

    /// Whether it is a login: only these are held by themselves. Who has none is refused what would hold a login.
    package var isLogin: Bool { if case .login = self { true } else { false } }
}

/// [quota].
package struct QuotaRules: Hashable, Sendable {
    /// What becomes of the mail of a login that is held.
    package enum Action: String, CaseIterable, Hashable, Sendable {
        /// It is accepted and held.
        case hold
        /// It gets 450 4.7.1.
        case refuse
    }

    /// [[quota.except]]: who has limits of their own.
    package struct Exception: Hashable, Sendable {
        /// Any of these.
        package var logins: [Glob]
        /// Or without a login from any of these.
        package var networks: [NetworkRange]
        /// None but these.
        package var limits: QuotaLimits

        /// One of them is for somebody.
        package init(logins: [Glob], networks: [NetworkRange], limits: QuotaLimits) {
            self.logins = logins
            self.networks = networks
            self.limits = limits
        }

        func contains(_ subject: QuotaSubject) -> Bool {
            switch subject {
            case .login(let name): logins.contains { $0.matches(name) }
            case .address(let address): networks.contains { $0.contains(address) }
            case .local: false
            }
        }
    }

    /// Of all for whom no exception is.
    package var limits = QuotaLimits.standard
    /// In the file's order: the first that is for somebody counts.
    package var exceptions: [Exception] = []
    /// What the breaker does.
    package var action = Action.hold
    /// Who is told by mail when the breaker holds a login; nil: nobody.
    package var notify: Mailbox?
    /// Messages that are held of one login; one more gets 452 4.3.1.
    package var heldMessages = 1000
    /// Octets that are held of one login.
    package var heldSize = 100_000_000
    /// How long everybody is new to a login that has not been seen before: what would break the breaker is refused meanwhile.
    package var learning: Duration = .seconds(7 * 86400)
    /// The same, as long as it has not written to so many.
    package var learningRecipients = 50

    /// As [quota] is where it says nothing.
    package init() {}

    /// Whose limits are which.
    package func limits(of subject: QuotaSubject) -> QuotaLimits {
        exceptions.first { $0.contains(subject) }?.limits ?? limits
    }
}
