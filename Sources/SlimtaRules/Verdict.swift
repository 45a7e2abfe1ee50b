// What came of the rules of a stage, and what is kept of it for the message.

package import SlimtaMail

/// What the rules of one stage say.
package struct Verdict: Hashable, Sendable {
    /// What becomes of the command.
    package enum Decision: Hashable, Sendable {
        /// Nothing is against it; what is behind rules is asked.
        case goOn
        /// Nothing behind rules is asked at this stage.
        case accept
        /// This is what the client is told: 4xx or 5xx, 421 ends the session.
        case refuse(Reply)
    }

    /// A rule that acted, for the log.
    package struct Note: Hashable, Sendable {
        /// The rule's name.
        package var rule: String
        /// ``Action/word``.
        package var action: String

        /// `rule` did `action`.
        package init(rule: String, action: String) {
            self.rule = rule
            self.action = action
        }
    }

    /// A rule of which nobody could say whether it is to act, so that it did not.
    package struct Undecided: Hashable, Sendable {
        /// The rule's name.
        package var rule: String
        /// ``Condition/name`` of the condition that could not be found out.
        package var condition: String

        /// `condition` of `rule`.
        package init(rule: String, condition: String) {
            self.rule = rule
            self.condition = condition
        }
    }

    /// What becomes of the command.
    package var decision: Decision = .goOn
    /// How long the reply waits.
    package var delay: Duration = .zero
    /// Whole fields with CRLF that the message gets, in the rules' order.
    package var fields: [String] = []
    /// The first rule that holds the message; nil: none.
    package var heldBy: String?
    /// All rules that acted, in their order; the last one is who decided, if it was a rule.
    package var notes: [Note] = []
    /// Rules that would do more than log, had it been known whether they are to act. A size that the client did not say is
    /// none of them: it need not (RFC 1870 section 6.1), and it is known at ``Stage/message``.
    package var undecided: [Undecided] = []

    /// Nothing is against it.
    package init() {}

    /// For the log: the rule or the policy service that has added the last field; "spf" if none has.
    package var lastOfFields: String {
        notes.last { $0.action == "add_field" || $0.action == "PREPEND" }?.rule ?? "spf"
    }
}

/// What a message gets when it is stored.
package struct Effects: Hashable, Sendable {
    /// Whole fields with CRLF.
    package var fields: [String] = []
    /// Who holds it; nil: nobody.
    package var heldBy: String?

    /// Whether there was no room for more fields.
    private var isFull = false

    // Every copy of a message has its fields: a service that puts one in for each recipient makes as many of each.
    /// How many fields a message gets.
    static let fieldsLimit = 100
    /// How many octets of fields a message gets.
    static let octetsLimit = 64 * 1024

    /// Nothing.
    package init() {}

    /// Adds what a verdict says. A field that is there already is not added again; one that has no room within the limits
    /// beside these and those of `others` is left out. true: one was, and none before it.
    fileprivate mutating func add(_ fields: [String], heldBy: String?, beside others: Effects = Effects()) -> Bool {
        self.heldBy = self.heldBy ?? heldBy
        let wasFull = isFull
        var octets = others.octets + self.octets
        for field in fields where !self.fields.contains(field) {
            guard others.fields.count + self.fields.count < Self.fieldsLimit,
                octets + field.utf8.count <= Self.octetsLimit
            else {
                isFull = true
                continue
            }
            self.fields.append(field)
            octets += field.utf8.count
        }
        return isFull && !wasFull
    }

    private var octets: Int { fields.reduce(0) { $0 + $1.utf8.count } }

    fileprivate func with(_ other: Effects) -> Effects {
        var both = self
        _ = both.add(other.fields, heldBy: other.heldBy)
        return both
    }
}

/// What the stages of a session have said that holds for its messages, for as long as it holds.
package struct EffectsMemory: Hashable, Sendable {
    private var connect = Effects()
    private var hello = Effects()
    private var login = Effects()
    private var transaction = Effects()
    private var number: UInt64?

    /// Nothing yet.
    package init() {}

    /// Whether no message gets anything.
    package var isEmpty: Bool { self == EffectsMemory() }

    /// Keeps what a stage says; nothing of it if it refuses the command. `transaction` is the session's number of the
    /// transaction.
    ///
    /// Returns whether fields had no room, for the first time: a line of the log is due.
    @discardableResult
    package mutating func note(_ verdict: Verdict, at stage: Stage, transaction number: UInt64) -> Bool {
        if case .refuse = verdict.decision { return false }
        let (fields, heldBy) = (verdict.fields, verdict.heldBy)
        switch stage {
        case .connect:
            connect = Effects()
            return connect.add(fields, heldBy: heldBy)
        case .ehlo:
            hello = Effects()
            return hello.add(fields, heldBy: heldBy, beside: connect.with(login))
        case .starttls: return false
        case .auth:
            login = Effects()
            return login.add(fields, heldBy: heldBy, beside: connect.with(hello))
        case .mail, .rcpt, .data, .message:
            if self.number != number {
                transaction = Effects()
                self.number = number
            }
            return transaction.add(fields, heldBy: heldBy, beside: connect.with(hello).with(login))
        }
    }

    /// TLS was begun: what the client said before does not count any more (RFC 3207 section 4.2).
    package mutating func tlsEstablished() {
        let kept = connect
        self = EffectsMemory()
        connect = kept
    }

    /// What the message of a transaction gets.
    package func effects(ofTransaction number: UInt64) -> Effects {
        let effects = connect.with(hello).with(login)
        return self.number == number ? effects.with(transaction) : effects
    }
}
