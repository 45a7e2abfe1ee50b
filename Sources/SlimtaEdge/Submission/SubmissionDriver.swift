// What SubmissionSession has on its event loop: carries the machine's questions to whoever knows, has the content, and hands
// the whole message to the queue.

internal import NIOCore
internal import SlimtaMail
internal import SlimtaQueue
internal import SlimtaSASL
internal import SlimtaSMTP

/// The driver of a `SubmissionMachine`. Completions are called within the call, or later on the event loop.
final class SubmissionDriver {
    typealias Step = SubmissionMachine.Step
    typealias Outcome = SubmissionMachine.Outcome

    /// What a session is made of.
    struct Setup: Sendable {
        let settings: SubmissionSettings
        let connection: ConnectionFacts
        let clientName: String
        let protocolWord: String
        let certificate: @Sendable () -> CertificateIdentity?
        let submissions: any Submissions
        let lines: SessionLines
        let eventLoop: any EventLoop
    }

    private let setup: Setup
    private var machine: SubmissionMachine
    /// nil: nobody is asked about the client.
    private let gate: SessionGate?
    private var completion: ((Outcome) -> Void)?
    /// What is to be done, where something is done already that led to it.
    private var next: Step?
    private var isAdvancing = false
    private var refusedBy: [(name: String, value: String)] = []

    private var id: QueueID?
    private var sendAt: Timestamp?
    /// What the message leaves behind.
    private var receipt: Receipt?
    private var collector: MessageCollector?
    private var reader: ContentReader
    /// Who waits until there is room for more content.
    private var waiting: ((Reply?) -> Void)?
    /// The client says who it is.
    private var exchange: (any AuthenticationExchange)?
    private var isAbandoned = false
    /// The queue has it, or will have said no.
    private var isSubmitted = false

    init(_ setup: Setup) {
        self.setup = setup
        let (settings, connection) = (setup.settings, setup.connection)
        // A line may be as long as over SMTP.
        reader = ContentReader(limit: settings.rules.messageSize)
        machine = SubmissionMachine(
            settings.rules, stages: settings.gate?.stages ?? [],
            isTrusted: connection.isClientKnown && settings.trust.allows(connection.peer),
            clientName: setup.clientName, protocolWord: setup.protocolWord, tls: connection.tls?.session)
        gate = settings.gate.map { [isTrusted = machine.isTrusted] in
            SessionGate(
                $0, edge: settings.name, client: connection.peer, isTrusted: isTrusted, session: setup.lines.session,
                on: setup.eventLoop)
        }
        if connection.tls != nil { gate?.tlsEstablished(certificate: setup.certificate) }
    }

    // MARK: Events

    /// Has the machine know of an event, and calls `completion` when what followed from it is done.
    func perform(_ event: (inout SubmissionMachine) -> Step, then completion: @escaping (Outcome) -> Void) {
        guard !isAbandoned else { return completion(.refused(.unanswered)) }
        self.completion = completion
        take(event(&machine))
    }

    /// What ``perform(_:then:)`` of a login has come to.
    func login(_ outcome: Outcome) -> SubmissionLogin {
        switch outcome {
        case .refused(let reply), .stored(let reply): .refused(reply)
        case .forbidden(let reply): .forbidden(reply)
        case .goOn, .noRecipients: machine.user.map { .user($0) } ?? .nobody
        }
    }

    func begin(_ request: SubmissionRequest, completion: @escaping (SubmissionOpening) -> Void) {
        (id, sendAt) = (request.id, request.sendAt)
        perform({ $0.begin(request) }) { [self] outcome in
            switch outcome {
            case .goOn: completion(.open(machine.verdicts))
            case .noRecipients: completion(.noRecipients(machine.verdicts.compactMap(\.self)))
            case .forbidden(let reply): completion(.forbidden(reply))
            case .refused(let reply), .stored(let reply): completion(.refused(reply))
            }
        }
    }

    func append(_ content: ByteBuffer, completion: @escaping (Reply?) -> Void) {
        guard !isAbandoned, reader.fault == nil else { return completion(reader.refusal ?? .unanswered) }
        let collector = collect()
        var lines = ByteBuffer()
        reader.read(content, into: &lines)
        if let refusal = reader.refusal {
            abandonContent()
            return completion(refusal)
        }
        collector.append(lines)
        if collector.isBackedUp { waiting = completion } else { completion(nil) }
    }

    func end(receipt: Receipt?, completion: @escaping ((reply: Reply, id: QueueID)) -> Void) {
        self.receipt = receipt
        let collector = collect()
        var last = ByteBuffer()
        reader.finish(into: &last)
        if last.readableBytes > 0 { collector.append(last) }
        let id = collector.id
        if let refusal = reader.refusal {
            abandonContent()
            return completion((refusal, id))
        }
        perform({ [hasEightBit = reader.hasEightBit] in $0.end(hasEightBit: hasEightBit) }) { outcome in
            switch outcome {
            case .stored(let reply), .refused(let reply), .forbidden(let reply): completion((reply, id))
            case .goOn, .noRecipients: completion((.unanswered, id))
            }
        }
    }

    func abandon() {
        guard !isSubmitted, !isAbandoned else { return }
        isAbandoned = true
        exchange?.abandon()
        gate?.end()
        abandonContent()
        finish(.refused(.unanswered))
    }

    func endDelays() { gate?.endDelays() }

    private func abandonContent() {
        collector?.abandon()
        let waiting = waiting
        self.waiting = nil
        waiting?(reader.refusal ?? .unanswered)
    }

    // MARK: Steps

    /// Does what is next. An answer that is there at once leads to the next step in the loop that runs: a message may have
    /// thousands of recipients.
    private func take(_ step: Step) {
        next = step
        guard !isAdvancing else { return }
        isAdvancing = true
        while let step = next {
            next = nil
            for refusal in machine.takeRefusals() {
                setup.lines.log(refusal, by: refusedBy, login: machine.user?.login, on: setup.eventLoop)
                refusedBy = []
            }
            switch step {
            case .ask(let question): ask(question)
            case .done(let outcome):
                isAdvancing = false
                return finish(outcome)
            }
        }
        isAdvancing = false
    }

    private func finish(_ outcome: Outcome) {
        if outcome != .goOn { gate?.end() }
        let completion = completion
        self.completion = nil
        completion?(outcome)
    }

    private func answered(_ answer: SMTPServerMachine.Answer) {
        guard !isAbandoned else { return }
        take(machine.answered(answer))
    }

    private func ask(_ question: SMTPServerMachine.Question) {
        switch question {
        case .authentication(let step): authenticate(step)
        case .room(let mail):
            setup.submissions.refusal(
                size: mail.size,
                completion: here { driver, refusal in driver.answered(refusal.map { .reply($0) } ?? .goOn) })
        case .end(let submission): submit(submission)
        case .connect, .hello, .startTLS, .login, .mail, .recipient, .data, .message: judge(question)
        }
    }

    private func judge(_ question: SMTPServerMachine.Question) {
        guard let gate else { return answered(.goOn) }
        if gate.wantsID, id == nil, case .mail = question { id = setup.submissions.newID(at: .now()) }
        // An answer that is there at once is taken when the gate has let go of the recipients: else they would all be copied
        // to add another one.
        var (isAsking, found) = (true, SessionGate.Judgement?.none)
        gate.ask(
            question,
            SessionGate.Situation(
                connection: setup.connection, session: machine.session, isEarlyTalker: false,
                collector: collector, id: id)
        ) { [self] judgement in
            if isAsking { found = judgement } else { judged(judgement) }
        }
        isAsking = false
        if let found { judged(found) }
    }

    private func judged(_ judgement: SessionGate.Judgement) {
        setup.lines.log(judgement, login: machine.user?.login, on: setup.eventLoop)
        refusedBy = judgement.refusedBy
        answered(judgement.answer)
    }

    private func authenticate(_ step: SMTPServerMachine.AuthenticationStep) {
        guard let credentials = setup.settings.credentials else { return answered(.authentication(.wrong)) }
        var facts = AuthenticationFacts(
            connection: setup.connection, edge: setup.settings.name, session: setup.lines.session)
        facts.certificate = setup.certificate()
        facts.isTrusted = setup.settings.trust.allows(setup.connection.peer)
        // Where SMTP does not list PLAIN nobody is to be asked for a password here.
        if case .begin(.plain, _, _) = step, !credentials.mechanisms(on: facts).contains(.plain) {
            return answered(.authentication(.refused("Passwords are not taken here")))
        }
        let exchange = credentials.exchange(on: facts)
        self.exchange = exchange
        take(step, exchange)
    }

    /// A challenge tells what a token lacks, and wants an answer before the exchange is over (RFC 7628 section 3.2.3).
    private func take(_ step: SMTPServerMachine.AuthenticationStep, _ exchange: any AuthenticationExchange) {
        exchange.take(
            step,
            completion: here { driver, outcome in
                if case .begin = step, case .challenge = outcome.result {
                    return driver.take(.response(SecretOctets([1])), exchange)
                }
                driver.exchange = nil
                driver.setup.lines.log(outcome, on: driver.setup.eventLoop)
                driver.answered(.authentication(outcome.result))
            })
    }

    private func collect() -> MessageCollector {
        if let collector { return collector }
        let collector = MessageCollector(
            id: id ?? setup.submissions.newID(at: .now()), eventLoop: setup.eventLoop,
            readsContent: gate?.readsContent ?? false, makeSpool: setup.submissions.beginSpool(_:behind:),
            drained: { [weak self] in
                let waiting = self?.waiting
                self?.waiting = nil
                waiting?(nil)
            })
        self.collector = collector
        return collector
    }

    private func submit(_ submission: SMTPServerMachine.Submission) {
        isSubmitted = true
        let (settings, connection) = (setup.settings, setup.connection)
        let collector = collect()
        let envelope = Envelope(
            id: collector.id, sender: submission.sender, recipients: submission.recipients, received: .now(),
            body: submission.body, smtpUTF8: submission.smtpUTF8,
            client: ClientInfo(
                address: connection.clientAddress, name: submission.clientName,
                protocolWord: submission.protocolWord, tls: submission.tls, login: submission.login,
                edge: settings.name))
        var terms = gate?.terms(ofTransaction: machine.session.transactionNumber) ?? SubmissionTerms()
        terms.due = sendAt
        terms.senders = submission.senders
        collector.finish { [terms] result in
            switch result {
            case .success(let message):
                self.setup.submissions.submit(
                    envelope, message, terms: terms, receipt: self.receipt, session: self.setup.lines.session,
                    completion: self.here { driver, reply in
                        if reply.isPositive {
                            driver.gate?.accepted(from: connection.peer.address, login: submission.login)
                        }
                        driver.answered(.reply(reply))
                    })
            case .failure(let error): self.answered(.reply(Reply(storing: error)))
            }
        }
    }

    /// For whoever answers on any thread: calls `body` on the event loop, and at once if the answer is there at once.
    private func here<Value: Sendable>(
        _ body: @escaping @Sendable (SubmissionDriver, Value) -> Void
    ) -> @Sendable (Value) -> Void {
        let this = NIOLoopBound(self, eventLoop: setup.eventLoop)
        return { [eventLoop = setup.eventLoop] value in
            if eventLoop.inEventLoop { return body(this.value, value) }
            eventLoop.execute { body(this.value, value) }
        }
    }
}
