// What the rules would say to a session that an operator has made up: `slimtad explain-session`. The stages are gone through
// in the session's order, each by the evaluator that the daemon has; what has to be looked up is asked of a closure.

import SlimtaConfiguration
import SlimtaEdge
import SlimtaMail
import SlimtaRules
import SlimtaSMTP

/// A session that was made up: what is known of it at its end.
struct MadeUpSession {
    var edge: Configuration.Edge
    /// Everything but what stages add, and what is to be looked up.
    var facts: Facts
    var ehlo: String?
    var tls: TLSFacts?
    var login: String?
    /// What becomes of the login; nil: there is none.
    var explanation: LoginExplanation?
    /// nil: no MAIL.
    var sender: Facts.Sender?
    var recipients: [Mailbox] = []
    /// What MAIL says.
    var declaredSize: Int?
    /// What there is of the message; nil: it is not sent.
    var message: (header: HeaderFacts, content: ContentFact, size: Int)?

    /// Whether the client may send without AUTH.
    var isTrusted: Bool { edge.trust.allows(facts.client) }
}

/// The stages of a session, with what becomes of it at each.
struct SessionExplanation {
    /// One stage.
    struct Step {
        /// A rule, and what became of it.
        struct Line {
            var name: String
            var action: String
            /// "matches", "does not match: ptr" and so on.
            var outcome: String
        }

        var stage: Stage
        /// At `rcpt`: whom it is about.
        var recipient: Mailbox?
        var lines: [Line] = []
        /// What else is said here: SPF, policy services, milters, AUTH.
        var notes: [String] = []
        /// What has to be known and is not.
        var missing: Set<Fact> = []
        /// What the client is told; nil: the command is taken, or it is not known.
        var refusal: Reply?
        var delay: Duration = .zero
    }

    /// Finds facts out for a session whose facts are these, and puts them there; what was found, in words.
    typealias Finder = (Set<Fact>, inout Facts, LookupSubject) -> [String]

    private(set) var steps: [Step] = []
    /// What the message gets, if it is taken.
    private(set) var effects = Effects()
    /// Whether the session got to where it was made up to get.
    private(set) var isAccepted = true

    private let session: MadeUpSession
    private let values: Configuration
    private let rules: RuleSet
    private let find: Finder
    private var facts: Facts
    private var memory = EffectsMemory()

    /// What is not known, so that nothing can be said.
    var missing: Set<Fact> { steps.reduce(into: []) { $0.formUnion($1.missing) } }

    /// Goes through the session.
    init(_ session: MadeUpSession, _ values: Configuration, _ rules: RuleSet, find: @escaping Finder) {
        self.session = session
        self.values = values
        self.rules = rules
        self.find = find
        facts = session.facts
        isAccepted = run()
        if isAccepted { effects = memory.effects(ofTransaction: 1) }
    }

    /// Whether all of it is taken.
    private mutating func run() -> Bool {
        let isTLSFirst = session.edge.access.tls == .immediate
        if isTLSFirst { facts.tls = session.tls }
        guard take(.connect) else { return false }
        guard let ehlo = session.ehlo else { return true }
        facts.ehlo = ehlo
        guard take(.ehlo) else { return false }
        if !isTLSFirst, let tls = session.tls {
            guard take(.starttls) else { return false }
            facts.tls = tls
            memory.tlsEstablished()
            guard take(.ehlo) else { return false }
        }
        if let login = session.login {
            // As it is called once it is in.
            facts.login = session.explanation?.user?.login ?? login
            guard take(.auth) else { return false }
        }
        guard let sender = session.sender else { return true }
        facts.sender = sender
        facts.size = session.declaredSize
        guard take(.mail) else { return false }
        return takeRecipients() && takeMessage()
    }

    /// Whether one of the recipients is taken, or there are none.
    private mutating func takeRecipients() -> Bool {
        for recipient in session.recipients {
            facts.recipient = recipient
            if take(.rcpt) { facts.recipients.append(recipient) }
        }
        facts.recipient = nil
        return session.recipients.isEmpty || !facts.recipients.isEmpty
    }

    private mutating func takeMessage() -> Bool {
        guard !facts.recipients.isEmpty else { return true }
        guard take(.data) else { return false }
        guard let message = session.message else { return true }
        facts.header = message.header
        facts.content = message.content
        facts.size = message.size
        return take(.message)
    }

    // MARK: A stage

    /// Whether a command is taken.
    private mutating func take(_ stage: Stage) -> Bool {
        var step = Step(stage: stage, recipient: facts.recipient)
        defer { steps.append(step) }
        if stage == .mail, session.login == nil, !session.isTrusted {
            step.refusal = .unknownClient(
                session.edge.access.auth.machineMode,
                mayStartTLS: session.edge.access.tls == .starttls && facts.tls == nil)
            step.notes.append("who is neither logged in nor trusted is refused before any rule: give --login")
            return false
        }
        if stage == .mail, case .mailbox(let sender) = session.sender, let user = session.explanation?.user,
            let (reply, allowed) = TransactionRules(authentication: .required, senders: values.senders)
                .refusal(of: sender, from: user, smtpUTF8: true)
        {
            step.refusal = reply
            step.notes.append("before any rule: login \(user.login) may send as \(allowed)")
            return false
        }
        if stage == .mail, let why = session.explanation?.ignorance {
            step.notes.append("as whom the login may send is not known: \(why)")
        }
        if stage == .auth { step.notes += session.explanation?.notes ?? [] }
        let traces = traces(&step)
        step.lines = traces.map {
            Step.Line(name: $0.rule.name, action: $0.rule.action.shown, outcome: $0.outcome.shown)
        }
        guard case .verdict(var verdict) = rules.evaluate(stage, facts) else {
            step.missing = traces.reduce(into: []) { missing, trace in
                if case .needs(let facts) = trace.outcome { missing.formUnion(facts) }
            }
            return false
        }
        step.delay = verdict.delay
        switch verdict.decision {
        case .refuse(let reply): step.refusal = reply
        case .accept: break
        case .goOn: judgeBySPF(&step, &verdict)
        }
        guard step.refusal == nil, step.missing.isEmpty else { return false }
        if memory.note(verdict, at: stage, transaction: 1) {
            step.notes.append("a message has no room for so many fields: those that were added last are left out")
        }
        if verdict.decision == .goOn { noteServices(&step) }
        noteMilters(&step)
        return true
    }

    /// What becomes of each rule, once all that they need and that can be found out is known.
    private mutating func traces(_ step: inout Step) -> [RuleSet.Trace] {
        var asked: Set<Fact> = []
        while true {
            let traces = rules.explain(step.stage, facts)
            let needed = traces.reduce(into: Set<Fact>()) { needed, trace in
                if case .needs(let facts) = trace.outcome { needed.formUnion(facts) }
            }
            guard !needed.isSubset(of: asked) else { return traces }
            asked.formUnion(needed)
            step.notes += find(needed)
        }
    }

    private mutating func find(_ needed: Set<Fact>) -> [String] {
        let subject = LookupSubject(
            ehlo: facts.ehlo, sender: facts.sender, isAuthenticated: facts.login != nil,
            transaction: facts.sender == nil ? 0 : 1)
        return find(needed, &facts, subject)
    }

    /// `[spf]`, behind the rules.
    private mutating func judgeBySPF(_ step: inout Step, _ verdict: inout Verdict) {
        guard let spf = values.spf.enforcement, spf.isAsked(at: step.stage, facts) else { return }
        var evaluation = spf.evaluate(step.stage, facts)
        var asked: Set<Fact> = []
        while case .needs(let missing) = evaluation, !missing.isSubset(of: asked) {
            asked.formUnion(missing)
            _ = find(missing)
            evaluation = spf.evaluate(step.stage, facts)
        }
        switch evaluation {
        case .goOn: break
        case .needs(let missing): step.missing.formUnion(missing)
        case .addField(let field): verdict.fields.insert(field, at: 0)
        case .refuse(let reply, _): step.refusal = reply
        }
        guard step.stage == .mail, let found = facts.spf else { return }
        let reason = found.reason.isEmpty ? "" : " (\(found.reason))"
        let isNothing = evaluation == .goOn ? ", for which [spf] has nothing" : ""
        step.notes.append("SPF says \(found.result.rawValue)\(reason)\(isNothing)")
    }

    private func noteServices(_ step: inout Step) {
        for service in values.policyServices
        where service.stages.contains(step.stage) {
            step.notes.append("the policy service \(service.name) is asked here; this command does not ask it")
        }
    }

    /// What each of them wants to know, it says when it is asked. No rule that accepts lets anybody past them.
    private func noteMilters(_ step: inout Step) {
        guard ![.starttls, .auth].contains(step.stage) else { return }
        for milter in values.milters {
            step.notes.append("the milter \(milter.name) may have a say here; this command does not ask it")
        }
    }
}

extension RuleSet.Trace.Outcome {
    /// In words.
    var shown: String {
        switch self {
        case .acts: "matches"
        case .fails(let condition): "does not match: \(condition)"
        case .unknown(let condition): "does not match: \(condition) could not be found out"
        case .needs(let facts): "needs to know: \(facts.map(\.shown).sorted().joined(separator: ", "))"
        case .notReached: "is not reached"
        }
    }
}

extension Fact {
    /// What it is, with the option that says it.
    var shown: String {
        switch self {
        case .ptr: "the client's name (--ptr)"
        case .spf: "the result of SPF (--spf)"
        case .dnsbl(let name): "the list \(name) (--listed or --not-listed)"
        }
    }
}

extension Action {
    /// As slimta.conf has it.
    var shown: String {
        switch self {
        case .reply(let reply): "reply \(reply)"
        case .close(let reply): "close with \(reply)"
        case .addField(let field): "add_field \(field)"
        case .delay(let time): "delay \(time.components.seconds)s"
        case .accept, .hold, .log: word
        }
    }
}
