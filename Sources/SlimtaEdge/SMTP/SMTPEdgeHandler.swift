// The thin driver of one SMTP session: feeds SMTPServerMachine with what the channel reads, performs its actions, keeps
// its deadline. It decides nothing about SMTP. SMTPEdge puts one into each accepted channel's pipeline.

import Logging
internal import NIOCore
internal import SlimtaMail
internal import SlimtaNet
internal import SlimtaQueue
internal import SlimtaRules
internal import SlimtaSASL
internal import SlimtaSMTP
internal import SlimtaTLS

/// One session, on its channel's event loop.
final class SMTPEdgeHandler: ChannelDuplexHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    /// Sent down the pipeline when the daemon stops.
    enum Event: Sendable {
        case drain
    }

    /// How many octets of pipelined commands may wait for an answer of ours before reading stops.
    private static let unreadLimit = 4096
    /// A client that closes its side is read to its end, whether there is room or not: with more than that, it is not
    /// served to its end.
    private static let floodLimit = 64 * 1024
    /// How long a session that has taken as much as it may in one turn waits for the next one.
    private static let pauseTime = TimeAmount.microseconds(500)
    /// How long a client that may not have stopped sending is listened to, so that it sees why it was refused.
    private static let lingerTime = TimeAmount.seconds(2)

    private let settings: SMTPEdgeSettings
    private let submissions: any Submissions
    private var connection: ConnectionFacts
    private let clientAddress: String
    private let lines: SessionLines
    private var machine: SMTPServerMachine
    private var output = ByteBuffer()
    private var collector: MessageCollector?
    private var context: ChannelHandlerContext?
    private var isReadHeld = false
    private var isAdvancing = false
    /// The machine has had its turn, and goes on with the next one, or when the client has read its replies.
    private var isPaused = false
    /// The session is over, and the client may still be sending.
    private var isLingering = false
    /// The client has closed its side: there is nothing to linger for.
    private var isInputClosed = false
    /// Whether as much is read at once as messages need.
    private var readsMuch = false

    /// While a message comes in.
    private var transfer: TransferWatch?
    private var transferEnd: NIODeadline?
    private var waitsFor: SMTPServerMachine.Wait?
    private var timer = SessionTimer()
    /// Nothing has been said yet by who is behind a proxy, or was gone before we asked for its address. Proxies look every
    /// few seconds whether we are there, and leave at most the line that they are gone.
    private var isSilent = false
    /// Until the client may be greeted.
    private var greetWait: Scheduled<Void>?
    /// Whether the client talked before it was greeted, which RFC 5321 section 3.1 does not allow. A session that is
    /// greeted at once never finds out.
    private var isEarlyTalker = false
    /// The client's last try to say who it is.
    private var exchange: (any AuthenticationExchange)?
    /// nil: nobody is asked about the client.
    private var gate: SessionGate?
    /// Of the message that is to come, where somebody is told before.
    private var nextID: QueueID?
    /// Who has refused, for the line that tells of it.
    private var refusedBy: [(name: String, value: String)] = []

    init(
        settings: SMTPEdgeSettings, submissions: any Submissions, connection: ConnectionFacts, log: SessionLog
    ) {
        self.settings = settings
        self.submissions = submissions
        self.connection = connection
        clientAddress = connection.clientAddress
        lines = SessionLines(log, edge: settings.name, connection)
        var server = settings.server
        // The delay is before the answer: whoever judges clients knows then who talked early.
        if settings.greetDelay > .zero { server.stages.insert(.connect) }
        machine = SMTPServerMachine(
            server, isTrusted: connection.isClientKnown && settings.trust.allows(connection.peer))
    }

    private func log(
        _ level: Logger.Level, _ message: Logger.Message, _ fields: @autoclosure () -> Logger.Metadata = [:]
    ) {
        guard let context else { return }
        lines.log(level, message, fields(), login: machine.user?.login, on: context.eventLoop)
    }

    // MARK: Channel

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        if context.channel.isActive { begin() }
    }

    func handlerRemoved(context: ChannelHandlerContext) { self.context = nil }

    func channelActive(context: ChannelHandlerContext) {
        begin()
        context.fireChannelActive()
    }

    private func begin() {
        // Once: a channel can be active when the handler is added, and become active as well.
        guard waitsFor == nil, let context else { return }
        gate = settings.gate.map {
            SessionGate(
                $0, edge: settings.name, client: connection.peer, isTrusted: machine.isTrusted, session: lines.session,
                on: context.eventLoop)
        }
        isSilent = connection.proxy != nil || connection.peer == .unknown
        if !isSilent { log(.debug, "connected") }
        offerMechanisms(context)
        machine.connected(into: &output)
        advance()
    }

    func channelInactive(context: ChannelHandlerContext) {
        log(.debug, "disconnected")
        abandon()
        context.fireChannelInactive()
    }

    /// Nothing is asked for a session that is over, and nothing kept.
    private func abandon() {
        collector?.abandon()
        collector = nil
        timer.cancel()
        greetWait?.cancel()
        exchange?.abandon()
        gate?.end()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard !isLingering else { return }
        heard()
        let octets = unwrapInboundIn(data)
        transfer?.moved(octets.readableBytes, at: context.eventLoop.now)
        machine.received(octets)
        advance()
        if machine.unreadCount > Self.floodLimit { end(.protocolViolation("too much sent ahead"), context) }
    }

    /// Back pressure: while the client does not read replies, or sends faster than we can take it, we do not read either.
    func read(context: ChannelHandlerContext) {
        if mustHoldRead { isReadHeld = true } else { context.read() }
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        if isPaused, context.channel.isWritable { scheduleTurn(context) }
        resumeReading()
        context.fireChannelWritabilityChanged()
    }

    private var mustHoldRead: Bool {
        guard !isLingering else { return false }
        let mustWait = machine.waitsFor.kind == .nothing && machine.unreadCount > Self.unreadLimit
        return isPaused || mustWait || collector?.isBackedUp == true || context?.channel.isWritable == false
    }

    private func resumeReading() {
        guard isReadHeld, !mustHoldRead, let context else { return }
        isReadHeld = false
        // The time until now was ours.
        transfer?.resumed(at: context.eventLoop.now)
        context.read()
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        switch event {
        case TLSHandler.Event.established(let facts):
            heard()
            log(.debug, "TLS established", ["tls": "\(facts.session)"])
            connection.tls = facts
            gate?.tlsEstablished {
                (try? context.pipeline.syncOperations.handler(type: TLSHandler.self))?.peerIdentity
            }
            offerMechanisms(context)
            machine.tlsEstablished(facts.session, into: &output)
            advance()
        case Event.drain:
            machine.drain()
            gate?.endDelays()
            advance()
        case ChannelEvent.inputClosed:
            if isLingering { return context.close(promise: nil) }
            isInputClosed = true
            machine.inputClosed()
            // One that has closed its side may still be reading: it gets nothing sooner by that.
            if machine.isAtItsEnd { gate?.endDelays() }
            advance()
        default: context.fireUserInboundEventTriggered(event)
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        let isGone = error is IOError || (error as? TLSError)?.code == .closed
        if !(isGone && (isSilent || isLingering)) {
            log(.info, "connection failed", ["error": "\(error.connectionReason)"])
        }
        context.close(promise: nil)
    }

    /// The client has said something. What is still found of one that was gone at once, a header perhaps, does not count.
    private func heard() {
        guard isSilent, connection.peer != .unknown else { return }
        isSilent = false
        log(.debug, "connected", connection.proxy?.fields ?? [:])
    }

    // MARK: Actions

    /// Performs the machine's actions until it waits.
    private func advance() {
        // An action can lead to an event at once, such as a write that fails: the loop that runs goes on with it.
        guard !isAdvancing, !isPaused, !isLingering else { return }
        isAdvancing = true
        defer { isAdvancing = false }
        while let context {
            let action = machine.next(into: &output)
            for refusal in machine.takeRefusals() {
                lines.log(refusal, by: refusedBy, login: machine.user?.login, on: context.eventLoop)
                refusedBy = []
            }
            switch action {
            case .pause:
                isPaused = true
                flush(context)
                armTimer(context)
                if context.channel.isWritable { scheduleTurn(context) }
                return
            case .wait:
                flush(context)
                armTimer(context)
                resumeReading()
                return
            case .startTLS:
                flush(context)
                guard let tls = settings.tls else { preconditionFailure("STARTTLS was offered without a certificate") }
                do {
                    try context.pipeline.syncOperations.addHandler(
                        TLSHandler(server: tls, keepsWriting: true), position: .first)
                } catch {
                    return context.close(promise: nil)
                }
            case .ask(let question): ask(question, context)
            case .content(let content): collect(context).append(content)
            case .discardContent:
                collector?.abandon()
                collector = nil
            case .close(let reason): return end(reason, context)
            }
        }
    }

    /// Goes on when other sessions had their turn.
    private func scheduleTurn(_ context: ChannelHandlerContext) {
        let this = NIOLoopBound(self, eventLoop: context.eventLoop)
        let time = machine.isIdling ? idlePauseTime : Self.pauseTime
        _ = context.eventLoop.scheduleTask(in: time) { this.value.takeTurn() }
    }

    private func takeTurn() {
        // A client can have stopped reading meanwhile; it is told when it reads again.
        guard isPaused, let context, context.channel.isActive, context.channel.isWritable else { return }
        isPaused = false
        advance()
    }

    private func end(_ reason: SMTPServerMachine.CloseReason, _ context: ChannelHandlerContext) {
        guard !isLingering else { return }
        let isOrdinary = reason == .quit || reason == .clientClosed
        if !(isOrdinary && isSilent) { log(isOrdinary ? .debug : .info, "session ended", ["reason": "\(reason)"]) }
        flush(context)
        guard reason.mayInterrupt, !isInputClosed else { return context.close(promise: nil) }
        // What is still to come is read and forgotten: closed with it unread, the connection would be reset, and the
        // reply lost.
        isLingering = true
        abandon()
        // So that it need not wait to know that nothing more comes. TLS cannot end in one direction alone.
        context.close(mode: .output, promise: nil)
        let this = NIOLoopBound(self, eventLoop: context.eventLoop)
        _ = context.eventLoop.scheduleTask(in: Self.lingerTime) { this.value.context?.close(promise: nil) }
        resumeReading()
    }

    private func flush(_ context: ChannelHandlerContext) {
        guard output.readableBytes > 0 else { return }
        context.writeAndFlush(wrapOutboundOut(output), promise: nil)
        output = ByteBuffer()
    }

    // MARK: Questions

    /// Carries a question to whoever knows. The answer comes by ``answered(_:)``, within this call or later.
    private func ask(_ question: SMTPServerMachine.Question, _ context: ChannelHandlerContext) {
        switch question {
        case .authentication(let step): authenticate(step, context)
        case .room(let mail):
            if let user = machine.user, let obstacle = settings.credentials?.obstacle(of: user) {
                return answered(.reply(Reply(421, .init(4, 7, 0), obstacle)))
            }
            if let submitter = mail.submitter, !submitter.isEmpty {
                log(.info, "AUTH= of MAIL is not believed", ["submitter": "<\(submitter)>"])
            }
            submissions.refusal(
                size: mail.size,
                completion: here(context) { this, refusal in this.answered(refusal.map { .reply($0) } ?? .goOn) })
        case .end(let submission): end(submission, context)
        case .connect: waitToGreet(context)
        case .message:
            // An empty one, too, has an id that it will have in the queue.
            _ = collect(context)
            judge(question)
        case .hello, .startTLS, .login, .mail, .recipient, .data: judge(question)
        }
    }

    /// Keeps the client waiting for its greeting, which costs a timer, and looks whether it does wait. What it says
    /// meanwhile is read, within the bounds of what is sent ahead.
    private func waitToGreet(_ context: ChannelHandlerContext) {
        guard settings.greetDelay > .zero else { return mayGreet() }
        gate?.begin()
        greetWait = context.eventLoop.assumeIsolated().scheduleTask(in: settings.greetDelay) { self.mayGreet() }
    }

    private func mayGreet() {
        greetWait = nil
        isEarlyTalker = machine.unreadCount > 0
        if isEarlyTalker { log(.debug, "talks before the greeting") }
        judge(.connect)
    }

    /// Asks the gate, if somebody sits there.
    private func judge(_ question: SMTPServerMachine.Question) {
        guard let gate else { return answered(.goOn) }
        if gate.wantsID, case .mail = question { nextID = submissions.newID(at: .now()) }
        // An answer that is there at once is taken when the gate has let go of the session's recipients, or the machine
        // would copy them all to add another one.
        var isAsking = true
        var judgement: SessionGate.Judgement?
        gate.ask(
            question,
            SessionGate.Situation(
                connection: connection, session: machine.session, isEarlyTalker: isEarlyTalker,
                collector: collector, id: nextID)
        ) { found in
            if isAsking { judgement = found } else { self.judged(found) }
        }
        isAsking = false
        if let judgement { judged(judgement) }
    }

    private func judged(_ judgement: SessionGate.Judgement) {
        if let context { lines.log(judgement, login: machine.user?.login, on: context.eventLoop) }
        refusedBy = judgement.refusedBy
        answered(judgement.answer)
    }

    /// On the event loop: what the open question is answered with.
    private func answered(_ answer: SMTPServerMachine.Answer) {
        machine.answered(answer, into: &output)
        advance()
    }

    /// For whoever answers on any thread: calls `body` on the event loop, and at once if the answer is there at once.
    private func here<Value: Sendable>(
        _ context: ChannelHandlerContext, _ body: @escaping @Sendable (SMTPEdgeHandler, Value) -> Void
    ) -> @Sendable (Value) -> Void {
        let this = NIOLoopBound(self, eventLoop: context.eventLoop)
        return { [eventLoop = context.eventLoop] value in
            if eventLoop.inEventLoop { return body(this.value, value) }
            eventLoop.execute { body(this.value, value) }
        }
    }

    private func authenticate(_ step: SMTPServerMachine.AuthenticationStep, _ context: ChannelHandlerContext) {
        if case .begin(let mechanism, _, _) = step {
            guard let credentials = settings.credentials else {
                preconditionFailure("AUTH was offered without back ends")
            }
            var facts = facts(context)
            let handler = try? context.pipeline.syncOperations.handler(type: TLSHandler.self)
            if mechanism.bindsChannel {
                for type in ChannelBinding.allCases { facts.channelBindings[type] = handler?.channelBinding(type) }
            }
            exchange = credentials.exchange(on: facts)
        }
        exchange?.take(
            step,
            completion: here(context) { this, outcome in
                if let context = this.context { this.lines.log(outcome, on: context.eventLoop) }
                // What it has heard goes with it.
                if case .challenge = outcome.result {} else { this.exchange = nil }
                this.answered(.authentication(outcome.result))
            })
    }

    /// What the machine is to list in EHLO.
    private func offerMechanisms(_ context: ChannelHandlerContext) {
        guard let credentials = settings.credentials else { return }
        machine.mechanisms = credentials.mechanisms(on: facts(context))
    }

    private func facts(_ context: ChannelHandlerContext) -> AuthenticationFacts {
        var facts = AuthenticationFacts(connection: connection, edge: settings.name, session: lines.session)
        facts.isTrusted = machine.isTrusted
        if connection.tls != nil {
            facts.certificate = (try? context.pipeline.syncOperations.handler(type: TLSHandler.self))?.peerIdentity
        }
        return facts
    }

    private func collect(_ context: ChannelHandlerContext) -> MessageCollector {
        if let collector { return collector }
        let collector = MessageCollector(
            id: nextID ?? submissions.newID(at: .now()), eventLoop: context.eventLoop,
            readsContent: gate?.readsContent ?? false, makeSpool: submissions.beginSpool(_:behind:),
            drained: { [weak self] in self?.resumeReading() })
        self.collector = collector
        nextID = nil
        return collector
    }

    private func end(_ submission: SMTPServerMachine.Submission, _ context: ChannelHandlerContext) {
        let collector = collect(context)
        self.collector = nil
        let envelope = Envelope(
            id: collector.id, sender: submission.sender, recipients: submission.recipients, received: .now(),
            body: submission.body, smtpUTF8: submission.smtpUTF8,
            client: ClientInfo(
                address: clientAddress, name: submission.clientName, protocolWord: submission.protocolWord,
                tls: submission.tls, login: submission.login, edge: settings.name))
        var terms = gate?.terms(ofTransaction: machine.transactionNumber) ?? SubmissionTerms()
        terms.senders = submission.senders
        let peer = connection.peer.address
        collector.finish { [terms] result in
            switch result {
            case .success(let message):
                self.submissions.submit(
                    envelope, message, terms: terms, session: self.lines.session,
                    completion: self.here(context) { this, reply in
                        if reply.isPositive { this.gate?.accepted(from: peer, login: submission.login) }
                        this.answered(.reply(reply))
                    })
            case .failure(let error): self.answered(.reply(Reply(storing: error)))
            }
        }
    }

    // MARK: Deadline

    /// Each wait of the machine has one deadline; that of the content is looked up when the timer fires.
    private func armTimer(_ context: ChannelHandlerContext) {
        let waitsFor = machine.waitsFor
        guard waitsFor.number != self.waitsFor?.number else { return }
        self.waitsFor = waitsFor
        transfer = nil
        let now = context.eventLoop.now
        let deadline: NIODeadline
        switch waitsFor.kind {
        case .handshake: deadline = now + settings.handshakeTimeout
        case .command: deadline = now + settings.commandTimeout
        case .content:
            let watch = TransferWatch(settings.transfer, at: now)
            transfer = watch
            transferEnd = settings.dataTimeout.map { now + $0 }
            deadline = min(watch.deadline, transferEnd ?? watch.deadline)
            readMuch(context)
        case .nothing: deadline = .distantFuture
        }
        timer.set(deadline, on: context.eventLoop) { self.timerFired() }
    }

    private func timerFired() {
        guard let context else { return }
        if let transfer { timer.deadline = min(transfer.deadline, transferEnd ?? transfer.deadline) }
        guard timer.hasPassed(on: context.eventLoop, fired: { self.timerFired() }), !isLingering else { return }
        isPaused = false
        machine.deadlinePassed(into: &output)
        advance()
    }

    /// From the first message on, much is read at once; before, a connection that may be a stranger's costs little.
    private func readMuch(_ context: ChannelHandlerContext) {
        guard !readsMuch else { return }
        readsMuch = true
        context.channel.readMuch()
    }
}
