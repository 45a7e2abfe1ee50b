// What one session asks of its Gate: facts are put together, rules evaluated, what they need looked up, replies delayed, and
// what was said of a message remembered until it is stored. The driver of the session has one, and carries questions and
// answers; a session of an edge where nobody is asked has none.

internal import NIOCore
internal import SlimtaMail
internal import SlimtaQueue
internal import SlimtaRules
internal import SlimtaSMTP

/// The gate of a session. On its event loop only; it has one question at a time.
final class SessionGate {
    /// What is known beside the question.
    struct Situation {
        let connection: ConnectionFacts
        let session: SMTPServerMachine.Session
        let isEarlyTalker: Bool
        /// The message that has come: as much as is in memory, which has the whole header.
        let collector: MessageCollector?
        /// From MAIL on: the id that the message will have, where ``SessionGate/wantsID`` says so.
        var id: QueueID?
    }

    /// What came of a question.
    struct Judgement {
        let answer: SMTPServerMachine.Answer
        /// The rules that acted, but for one that refuses.
        let notes: [Verdict.Note]
        /// The rules that did not act as it could not be found out whether they are to: each once in a session.
        let undecided: [Verdict.Undecided]
        /// Who refuses, as fields of the log: `rule=`, `spf=`, `forward=`, `quota=` or `milter=` or
        /// `policy_service=`, and the lists that have the client.
        let refusedBy: [(name: String, value: String)]
        /// Whose field had no room, the first of the message that has none.
        var fieldsLeftOut: String?
    }

    /// The question that is being answered.
    private struct Open {
        let stage: Stage
        let number: UInt64
        let transaction: UInt64
        let subject: LookupSubject
        var facts: Facts
        /// What the rules have said.
        var verdict = Verdict()
        /// What milters are still to be told; nil: nothing.
        var milters: ToldToMilters?
        let completion: (Judgement) -> Void
    }

    private typealias ToldToMilters = (question: SMTPServerMachine.Question, situation: Situation)

    /// A question to a service.
    private struct Waiting {
        let client: PolicyServiceClient
        let question: PolicyServiceClient.Question

        func withdraw() { client.withdraw(question) }
    }

    private let gate: Gate
    private let edge: String
    private let eventLoop: any EventLoop
    private let lookups: SessionLookups?
    /// nil: there are none.
    private let milters: SessionMilters?
    private var effects = EffectsMemory()
    /// Whom the client's certificate is for, where a rule may ask.
    private var certificate: CertificateIdentity?
    /// Of the question that is open, or was last: an answer to another one is for nobody.
    private var number: UInt64 = 0
    /// What services are told of the session; nil: there are none, or nobody was asked yet.
    private var policy: PolicySession?
    /// The service that is asked now.
    private var waiting: Waiting?
    private var delay: (timer: Scheduled<Void>, end: () -> Void)?
    /// No reply is delayed any more.
    private var isHurried = false
    /// Those that somebody was told of.
    private var undecided: Set<Verdict.Undecided> = []
    /// Of the transaction: recipients that the sender has not written to before.
    private var newRecipients: (transaction: UInt64, count: Int) = (0, 0)

    /// - Parameters:
    ///   - isTrusted: whether the client may send without having logged in.
    ///   - session: its name in logs.
    init(
        _ gate: Gate, edge: String, client: ConnectionFacts.Endpoint, isTrusted: Bool,
        session: @autoclosure () -> String = "", on eventLoop: any EventLoop
    ) {
        self.gate = gate
        self.edge = edge
        self.eventLoop = eventLoop
        lookups = gate.lookups?.session(client: client, isTrusted: isTrusted, on: eventLoop)
        milters = gate.milters.map { SessionMilters($0, session: session(), on: eventLoop) }
    }

    /// Whether a rule may ask what messages are made of.
    var readsContent: Bool { gate.rules.readsContent }

    /// Whether somebody is told at MAIL which id the message will have.
    var wantsID: Bool { milters != nil }

    // MARK: Events

    /// The client is kept waiting, and asked about behind that: what can be known of it alone is looked up meanwhile.
    func begin() { lookups?.begin(gate.facts(isAuthenticated: false), about: LookupSubject()) }

    /// TLS is there: what was said before counts no more. `certificate` is called only if somebody may want it.
    func tlsEstablished(certificate: () -> CertificateIdentity?) {
        effects.tlsEstablished()
        if gate.rules.needsCertificate || !gate.services.isEmpty || milters != nil { self.certificate = certificate() }
    }

    /// The queue has taken a message of this session.
    func accepted(from client: IPAddress?, login: String?) { gate.accepted(from: client, login: login) }

    /// What is to be done with the message of a transaction.
    func terms(ofTransaction number: UInt64) -> SubmissionTerms {
        var terms = SubmissionTerms()
        if !effects.isEmpty {
            let effects = effects.effects(ofTransaction: number)
            (terms.heldReason, terms.fields) = (effects.heldBy, effects.fields)
        }
        terms.filter = milters?.filter(ofTransaction: number)
        return terms
    }

    /// Nobody is to be kept waiting any more: the client has gone, or we are about to. A reply that is delayed goes now, and
    /// those behind it are not delayed.
    func endDelays() {
        isHurried = true
        guard let delay else { return }
        self.delay = nil
        delay.timer.cancel()
        delay.end()
    }

    /// The session is over: nothing is looked up or waits any more, and no question is answered.
    func end() {
        number &+= 1
        delay?.timer.cancel()
        delay = nil
        waiting?.withdraw()
        waiting = nil
        lookups?.end()
        milters?.end()
    }

    // MARK: A question

    /// Finds the answer: within this call, or later on the event loop. Not after ``end()``.
    func ask(
        _ question: SMTPServerMachine.Question, _ situation: Situation, completion: @escaping (Judgement) -> Void
    ) {
        number &+= 1
        guard let stage = Stage(question) else {
            return completion(Judgement(answer: .goOn, notes: [], undecided: [], refusedBy: []))
        }
        if let (reply, subject) = quotaRefusal(question, situation) {
            return completion(
                Judgement(
                    answer: .reply(reply), notes: [], undecided: [], refusedBy: [(name: "quota", value: "\(subject)")]))
        }
        // Facts are not put together for quotas and milters alone: they need none.
        guard question.stage.map(gate.judged.isSuperset(of:)) ?? true else {
            return tellMilters((question, situation), ptr: nil) { reply, by in
                completion(
                    Judgement(answer: reply.map { .reply($0) } ?? .goOn, notes: [], undecided: [], refusedBy: by))
            }
        }
        let facts = facts(question, situation)
        let open = Open(
            stage: stage, number: number, transaction: situation.session.transactionNumber,
            subject: LookupSubject(
                ehlo: facts.ehlo, sender: facts.sender, isAuthenticated: facts.login != nil,
                transaction: situation.session.transactionNumber),
            facts: facts, milters: milters == nil ? nil : (question, situation), completion: completion)
        if !gate.services.isEmpty { tellPolicy(question, situation) }
        switch stage {
        case .connect, .ehlo, .mail:
            lookups?.begin(gate.facts(isAuthenticated: open.subject.isAuthenticated), about: open.subject)
        case .starttls, .auth, .rcpt, .data, .message: break
        }
        judgeByRules(open)
    }

    private func judgeByRules(_ open: Open) {
        var open = open
        switch gate.rules.evaluate(open.stage, open.facts) {
        case .needs(let missing): find(missing, for: open) { $0.judgeByRules($1) }
        case .verdict(let verdict):
            open.verdict = verdict
            switch verdict.decision {
            case .goOn: judgeBySPF(open)
            case .accept: finish(open)
            case .refuse(let reply):
                let rule = open.verdict.notes.popLast()?.rule ?? ""
                var by = [(name: "rule", value: rule)]
                let lists = open.facts.listings.keys.filter { name in
                    if case .listed = open.facts.listings[name] { true } else { false }
                }
                if !lists.isEmpty { by.append((name: "dnsbl", value: lists.sorted().joined(separator: ","))) }
                finish(open, refusing: reply, by: by)
            }
        }
    }

    /// `[spf]`, behind the rules.
    private func judgeBySPF(_ open: Open) {
        guard let spf = gate.spf else { return judgeByServices(open) }
        var open = open
        switch spf.evaluate(open.stage, open.facts) {
        case .goOn: judgeByServices(open)
        case .needs(let missing): find(missing, for: open) { $0.judgeBySPF($1) }
        case .addField(let field):
            open.verdict.fields.insert(field, at: 0)
            judgeByServices(open)
        case .refuse(let reply, let result): finish(open, refusing: reply, by: [(name: "spf", value: result.rawValue)])
        }
    }

    /// Quotas, before all others: they are cheap, and no rule that accepts lets anybody past them.
    private func quotaRefusal(
        _ question: SMTPServerMachine.Question, _ situation: Situation
    ) -> (Reply, QuotaSubject)? {
        guard let quotas = gate.quotas else { return nil }
        let session = situation.session
        lazy var subject = QuotaSubject(login: session.login, address: situation.connection.peer.address)
        let reply: Reply?
        switch question {
        case .mail: reply = quotas.refusal(of: subject, at: .now())
        case .recipient(let recipient, _):
            if newRecipients.transaction != session.transactionNumber {
                newRecipients = (session.transactionNumber, 0)
            }
            reply = quotas.refusal(
                of: subject, to: recipient, behind: session.recipients.count, &newRecipients.count, at: .now())
        default: reply = nil
        }
        return reply.map { ($0, subject) }
    }

    // MARK: Policy services

    /// Behind rules and SPF, one after another in the file's order.
    private func judgeByServices(_ open: Open) {
        let services = gate.services.filter { $0.stages.contains(open.stage) }
        guard let policy, !services.isEmpty else { return finish(open) }
        guard open.facts.ptr != nil else { return find([.ptr], for: open) { $0.judgeByServices($1) } }
        guard let request = PolicyRequest(open.facts, at: open.stage, in: policy) else { return finish(open) }
        ask(services[...], request, PolicyRound(open.facts, at: open.stage, in: policy), for: open)
    }

    private func ask(
        _ services: ArraySlice<Gate.Service>, _ request: PolicyRequest, _ round: PolicyRound, for open: Open
    ) {
        guard let service = services.first else { return finish(open, round) }
        let here = NIOLoopBound((self, open), eventLoop: eventLoop)
        let question = service.client.ask(request, session: policy?.id ?? 0) { [eventLoop] answer in
            eventLoop.execute {
                let (this, open) = here.value
                guard this.number == open.number else { return }
                this.waiting = nil
                var round = round
                let isOpen = round.answered(answer, by: service.client.settings.name)
                this.ask(isOpen ? services.dropFirst() : [], request, round, for: open)
            }
        }
        waiting = Waiting(client: service.client, question: question)
    }

    private func finish(_ open: Open, _ round: PolicyRound) {
        let verdict = round.verdict
        var open = open
        open.verdict.fields += verdict.fields
        open.verdict.heldBy = open.verdict.heldBy ?? verdict.heldBy
        let refusing = round.refusedBy
        open.verdict.notes += verdict.notes.filter { $0.rule != refusing }
        guard case .refuse(let reply) = verdict.decision, let refusing else { return finish(open) }
        finish(open, refusing: reply, by: [(name: "policy_service", value: refusing)])
    }

    /// Keeps what services are told of the session besides facts.
    private func tellPolicy(_ question: SMTPServerMachine.Question, _ situation: Situation) {
        let session = situation.session
        var policy = self.policy ?? PolicySession(id: .random(in: .min ... .max), server: situation.connection.local)
        if session.clientName != nil { policy.helloAccepted(isExtended: session.isExtended) }
        if case .hello(_, let isExtended) = question { policy.isExtended = isExtended }
        policy.saslMethod = session.mechanism
        policy.queueID = nil
        switch question {
        case .message(let submission):
            // The session has no transaction any more: what was said of the message is in the question.
            (policy.saslSender, policy.smtpUTF8) = (submission.submitter, submission.smtpUTF8)
            policy.queueID = situation.collector?.id.description
        case .mail(let mail): (policy.saslSender, policy.smtpUTF8) = (mail.submitter, mail.smtpUTF8)
        case .connect, .hello, .startTLS, .authentication, .login, .room, .recipient, .data, .end:
            policy.saslSender = session.mail?.submitter
            policy.smtpUTF8 = session.mail?.smtpUTF8 ?? false
        }
        policy.transaction = session.transactionNumber
        self.policy = policy
    }

    /// Goes on with `next` when the facts are known; each becomes known, if only as one that nobody could find out.
    private func find(_ missing: Set<Fact>, for open: Open, _ next: @escaping (SessionGate, Open) -> Void) {
        guard let lookups else {
            var open = open
            for fact in missing { open.facts.fail(fact) }
            return next(self, open)
        }
        lookups.values(missing, about: open.subject) { [weak self] known in
            guard let self, self.number == open.number else { return }
            var open = open
            known.fill(&open.facts)
            for fact in missing where !open.facts.has(fact) { open.facts.fail(fact) }
            next(self, open)
        }
    }

    // MARK: Milters

    /// Behind all others, which have nothing against it.
    ///
    /// - Parameter ptr: the client's name, if it is known.
    private func tellMilters(
        _ told: ToldToMilters, ptr: String?, _ completion: @escaping (Reply?, [(name: String, value: String)]) -> Void
    ) {
        guard let milters,
            let events = gate.milters?.events(
                told.question,
                .init(
                    situation: told.situation, edge: edge, certificate: certificate, ptr: ptr, forwards: gate.forwards))
        else { return completion(nil, []) }
        let asked = number
        milters.ask(events, ofTransaction: told.situation.session.transactionNumber) { [weak self] refusal in
            guard let self, self.number == asked else { return }
            completion(refusal?.reply, refusal.map { [(name: "milter", value: $0.milter)] } ?? [])
        }
    }

    /// Those who want to know of recipients that are refused.
    private func tellMilters(refused told: ToldToMilters, _ reply: Reply, _ completion: @escaping () -> Void) {
        guard let milters, let event = gate.milters, case .recipient(let recipient, _) = told.question else {
            return completion()
        }
        let asked = number
        milters.refused(event.refused(recipient, with: reply)) { [weak self] in
            if self?.number == asked { completion() }
        }
    }

    // MARK: The answer

    private func finish(_ open: Open, refusing reply: Reply? = nil, by: [(name: String, value: String)] = []) {
        var (reply, by) = (reply, by)
        // Whom nobody forwards to anybody is no recipient, whoever accepts it.
        if reply == nil, open.stage == .rcpt, let recipient = open.facts.recipient,
            case .refused(let refusal, let rule) = gate.forwards.result(for: recipient)
        {
            (reply, by) = (refusal, [(name: "forward", value: rule)])
        }
        let verdict = open.verdict
        guard verdict.delay > .zero, !isHurried else { return answer(open, reply, by) }
        let end = { [weak self] in
            guard let self, self.number == open.number else { return }
            self.delay = nil
            self.answer(open, reply, by)
        }
        delay = (eventLoop.assumeIsolated().scheduleTask(in: TimeAmount(verdict.delay), end), end)
    }

    private func answer(_ open: Open, _ reply: Reply?, _ by: [(name: String, value: String)]) {
        if let told = open.milters {
            var open = open
            open.milters = nil
            if let reply {
                return tellMilters(refused: told, reply) { [weak self, open] in self?.answer(open, reply, by) }
            }
            return tellMilters(told, ptr: open.facts.ptr?.confirmed.first) { [weak self, open] reply, by in
                self?.answer(open, reply, by)
            }
        }
        let verdict = open.verdict
        var judgement = Judgement(
            answer: reply.map { .reply($0) } ?? .goOn, notes: verdict.notes,
            undecided: verdict.undecided.filter { self.undecided.insert($0).inserted }, refusedBy: by)
        if reply == nil, open.stage == .ehlo, let isExtended = policy?.isExtended {
            policy?.helloAccepted(isExtended: isExtended)
        }
        // A command that is refused leaves nothing behind.
        if reply == nil, !verdict.fields.isEmpty || verdict.heldBy != nil || open.stage == .ehlo {
            let isCut = effects.note(verdict, at: open.stage, transaction: open.transaction)
            if isCut { judgement.fieldsLeftOut = verdict.lastOfFields }
        }
        open.completion(judgement)
    }

    // MARK: Facts

    private func facts(_ question: SMTPServerMachine.Question, _ situation: Situation) -> Facts {
        let session = situation.session
        let now = Timestamp.now()
        var facts = Facts(
            client: situation.connection.peer, edge: edge, now: LocalTime(now, offset: now.localOffset))
        facts.isEarlyTalker = situation.isEarlyTalker
        facts.tls = situation.connection.tls
        facts.proxyTLS = situation.connection.proxy?.tls?.session
        facts.uniqueID = situation.connection.proxy?.uniqueID
        facts.certificate = certificate
        facts.ehlo = session.clientName
        facts.login = session.login
        facts.recipients = session.recipients
        if let mail = session.mail {
            facts.sender = Facts.Sender(mail.sender)
            facts.size = mail.size
        }
        switch question {
        case .hello(let name, _): facts.ehlo = name
        case .login(let user): facts.login = user.login
        case .mail(let mail):
            facts.sender = Facts.Sender(mail.sender)
            facts.size = mail.size
        case .recipient(let recipient, _): facts.recipient = recipient
        case .message(let submission):
            facts.sender = Facts.Sender(submission.sender)
            facts.recipients = submission.recipients
            facts.size = situation.collector?.size ?? 0
            facts.header = HeaderFacts(of: situation.collector?.head ?? ByteBuffer())
            facts.content = situation.collector?.content
        case .connect, .startTLS, .data, .authentication, .room, .end: break
        }
        facts.rates = gate.rates(client: situation.connection.peer.address, login: facts.login, at: now)
        return facts
    }
}

extension Stage {
    /// Where a question is asked; nil: not of a gate.
    fileprivate init?(_ question: SMTPServerMachine.Question) {
        switch question {
        case .connect: self = .connect
        case .hello: self = .ehlo
        case .startTLS: self = .starttls
        case .login: self = .auth
        case .mail: self = .mail
        case .recipient: self = .rcpt
        case .data: self = .data
        case .message: self = .message
        case .authentication, .room, .end: return nil
        }
    }
}

extension Facts {
    /// Nobody can find it out.
    fileprivate mutating func fail(_ fact: Fact) {
        let reason = "it cannot be looked up"
        switch fact {
        case .ptr: ptr = PTRFact(failure: reason)
        case .spf: spf = SPFFact(.temperror, reason: reason)
        case .dnsbl(let name): listings[name] = .failed(reason)
        }
    }
}
