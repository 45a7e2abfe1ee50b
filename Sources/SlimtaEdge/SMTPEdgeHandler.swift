// The thin driver of one SMTP session: feeds SMTPServerMachine with what the channel reads, performs its actions, keeps
// its deadline. It decides nothing about SMTP. SMTPEdge puts one into each accepted channel's pipeline.

import Logging
internal import NIOCore
internal import SlimtaMail
internal import SlimtaQueue
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

    /// How many octets of pipelined commands may wait before reading stops.
    private static let unreadLimit = 64 * 1024

    private let settings: SMTPEdgeSettings
    private let submissions: any Submissions
    private let address: String
    private let session = UInt64.random(in: .min ... .max)
    private var logger: Logger
    private var machine: SMTPServerMachine
    private var output = ByteBuffer()
    private var collector: MessageCollector?
    private var context: ChannelHandlerContext?
    private var isReadHeld = false
    private var isAdvancing = false

    private var deadline: NIODeadline?
    private var deadlineNumber: UInt64?
    private var timer: (scheduled: Scheduled<Void>, at: NIODeadline)?

    /// - Parameter address: the client's IP address as text; empty for a UNIX socket.
    init(settings: SMTPEdgeSettings, submissions: any Submissions, address: String, logger: Logger) {
        self.settings = settings
        self.submissions = submissions
        self.address = address
        self.logger = logger
        machine = SMTPServerMachine(settings.server, isTrusted: settings.trusts(address))
    }

    /// The session's name in logs.
    private var sessionText: String { String(session, radix: 16) }

    private func log(
        _ level: Logger.Level, _ message: Logger.Message, _ fields: @autoclosure () -> Logger.Metadata = [:]
    ) {
        guard logger.logLevel <= level else { return }
        var metadata = fields()
        metadata["session"] = "\(sessionText)"
        metadata["client"] = "\(address.isEmpty ? "local" : address)"
        metadata["edge"] = "\(settings.name)"
        logger.log(level: level, message, metadata: metadata)
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
        guard deadlineNumber == nil else { return }
        log(.debug, "connected")
        machine.connected(&output)
        advance()
    }

    func channelInactive(context: ChannelHandlerContext) {
        log(.debug, "disconnected")
        collector?.abandon()
        collector = nil
        timer?.scheduled.cancel()
        timer = nil
        context.fireChannelInactive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        machine.received(unwrapInboundIn(data))
        advance()
    }

    /// Back pressure: while the client does not read replies, or sends faster than we can take it, we do not read either.
    func read(context: ChannelHandlerContext) {
        if mustHoldRead { isReadHeld = true } else { context.read() }
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        resumeReading()
        context.fireChannelWritabilityChanged()
    }

    private var mustHoldRead: Bool {
        machine.unreadCount > Self.unreadLimit || collector?.isBackedUp == true || context?.channel.isWritable == false
    }

    private func resumeReading() {
        guard isReadHeld, !mustHoldRead else { return }
        isReadHeld = false
        context?.read()
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        switch event {
        case TLSHandler.Event.established(let info):
            log(.debug, "TLS established", ["tls": "\(info.version) \(info.cipher)"])
            machine.tlsEstablished(TLSDescription(version: info.version, cipher: info.cipher), &output)
            advance()
        case Event.drain:
            machine.drain()
            advance()
        default: context.fireUserInboundEventTriggered(event)
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        log(.info, "connection failed", ["error": "\(error)"])
        context.close(promise: nil)
    }

    // MARK: Actions

    /// Performs the machine's actions until it waits.
    private func advance() {
        // An action can lead to an event at once, such as a write that fails: the loop that runs goes on with it.
        guard !isAdvancing else { return }
        isAdvancing = true
        defer { isAdvancing = false }
        while let context {
            let action = machine.next(&output)
            for refusal in machine.takeRefusals() { log(.info, "refused", ["reply": "\(refusal)"]) }
            switch action {
            case .wait:
                flush(context)
                armTimer(context)
                resumeReading()
                return
            case .startTLS:
                flush(context)
                guard let tls = settings.tls else { preconditionFailure("STARTTLS was offered without a certificate") }
                do {
                    try context.pipeline.syncOperations.addHandler(TLSHandler(server: tls), position: .first)
                } catch {
                    return context.close(promise: nil)
                }
            case .checkPassword(let credentials): check(credentials, context)
            case .checkRoom(let size): machine.roomChecked(submissions.refusal(size: size), &output)
            case .content(let content): collect(context).append(content)
            case .discardContent:
                collector?.abandon()
                collector = nil
            case .endMessage(let submission): end(submission, context)
            case .close(let reason):
                log(reason == .quit ? .debug : .info, "session ended", ["reason": "\(reason)"])
                flush(context)
                return context.close(promise: nil)
            }
        }
    }

    private func flush(_ context: ChannelHandlerContext) {
        guard output.readableBytes > 0 else { return }
        context.writeAndFlush(wrapOutboundOut(output), promise: nil)
        output = ByteBuffer()
    }

    private func check(_ credentials: Credentials, _ context: ChannelHandlerContext) {
        guard let backend = settings.credentials else { preconditionFailure("AUTH was offered without a back end") }
        let this = NIOLoopBound(self, eventLoop: context.eventLoop)
        backend.check(credentials) { [eventLoop = context.eventLoop] result in
            eventLoop.execute { this.value.checked(credentials.login, result) }
        }
    }

    private func checked(_ login: String, _ result: SMTPServerMachine.PasswordResult) {
        switch result {
        case .right: log(.debug, "authenticated", ["login": "\(login)"])
        case .wrong: log(.info, "authentication failed", ["login": "\(login)"])
        case .unavailable: log(.notice, "too many authentications at once", ["login": "\(login)"])
        }
        machine.passwordChecked(result, &output)
        advance()
    }

    private func collect(_ context: ChannelHandlerContext) -> MessageCollector {
        if let collector { return collector }
        let collector = MessageCollector(
            id: QueueID(at: .now()), eventLoop: context.eventLoop, makeSpool: submissions.beginSpool,
            drained: { [weak self] in self?.resumeReading() })
        self.collector = collector
        return collector
    }

    private func end(_ submission: SMTPServerMachine.Submission, _ context: ChannelHandlerContext) {
        let collector = collect(context)
        self.collector = nil
        let envelope = Envelope(
            id: collector.id, sender: submission.sender, recipients: submission.recipients, received: .now(),
            body: submission.body, smtpUTF8: submission.smtpUTF8,
            client: ClientInfo(
                address: address, name: submission.clientName, protocolWord: submission.protocolWord,
                tls: submission.tls, login: submission.login, edge: settings.name))
        let eventLoop = context.eventLoop
        collector.finish { result in
            switch result {
            case .success(let message):
                let this = NIOLoopBound(self, eventLoop: eventLoop)
                self.submissions.submit(envelope, message, session: self.sessionText) { reply in
                    eventLoop.execute { this.value.stored(reply) }
                }
            case .failure(let error): self.stored(Reply(storing: error))
            }
        }
    }

    private func stored(_ reply: Reply) {
        machine.messageStored(reply, &output)
        advance()
    }

    // MARK: Deadline

    /// One timer for the session, moved only when it fires or is too late: a deadline that begins anew with each command
    /// costs a comparison.
    private func armTimer(_ context: ChannelHandlerContext) {
        guard machine.deadlineNumber != deadlineNumber else { return }
        deadlineNumber = machine.deadlineNumber
        let timeout: TimeAmount
        switch machine.waiting {
        case .tlsHandshake: timeout = settings.handshakeTimeout
        case .command: timeout = settings.commandTimeout
        case .data: timeout = settings.dataTimeout
        case .nothing:
            deadline = nil
            return
        }
        let deadline = NIODeadline.now() + timeout
        self.deadline = deadline
        if let timer, timer.at <= deadline { return }
        timer?.scheduled.cancel()
        schedule(at: deadline, context)
    }

    private func schedule(at time: NIODeadline, _ context: ChannelHandlerContext) {
        let this = NIOLoopBound(self, eventLoop: context.eventLoop)
        timer = (context.eventLoop.scheduleTask(deadline: time) { this.value.timerFired() }, time)
    }

    private func timerFired() {
        timer = nil
        guard let context, let deadline else { return }
        guard deadline <= .now() else { return schedule(at: deadline, context) }
        self.deadline = nil
        machine.deadlinePassed(&output)
        advance()
    }
}
