// One SMTP connection as a channel handler: feeds an SMTPClientMachine and performs its actions. Made by ConnectionPool,
// which it tells how things went; decides nothing about SMTP.

import Logging
import NIOCore
import SlimtaMail
import SlimtaNet
import SlimtaSASL
import SlimtaSMTP
import SlimtaTLS

/// Lives on its channel's event loop.
///
/// A write can fail at once, and then calls back into here before it returns. So whatever a write needs to be true is
/// made true before it, and it comes last.
final class SMTPClientDriver: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    /// What QUIT, and an attempt that was broken off behind the end of its message, may still take.
    private static let grace = TimeAmount.seconds(5)

    private let id: ConnectionPool.ConnectionID
    let host: MailHost
    private let label: String
    let options: RelayOptions
    let plan: SessionPlan
    let logger: Logger
    private let pool: ConnectionPool
    var machine: SMTPClientMachine
    /// Is told once what came of TLS; nil: it was, or nobody cares.
    var watch: TLSReportWatch?
    /// What there is to be said of the server's certificate.
    var certificate = TLSSessionOutcome.Certificate.unseen
    /// Where we come from, once connected.
    private(set) var source: SocketAddress?
    /// What is being done, or is to be done when the session is open.
    var job: SMTPJob?
    private var transactionsDone = 0
    /// `job` is to be begun as soon as the machine has nothing else to do.
    private var isJobNew = false
    private(set) var tls: TLSDescription?
    private(set) var tlsError: TLSError?
    var tlsHandler: TLSHandler?
    /// Set when TLS has failed: the job goes on in clear, once this connection is closed.
    private var jobInClear: SMTPJob?
    var context: ChannelHandlerContext?
    /// The session is given no more jobs after that.
    private var sessionEnd = NIODeadline.distantFuture
    /// The host must want the content of the job until then.
    private var budgetEnd = NIODeadline.distantFuture

    /// The content under way, if it comes in parts.
    var stuffer: DotStuffer?
    /// Who sends those parts, and waits for room for the next.
    var sender: CheckedContinuation<Bool, Never>?
    /// How fast content goes out; nil if none does, or all of it at once.
    var transfer: TransferWatch?
    /// How many octets of it the system has not taken yet.
    var unsent = 0
    /// The end of the message: it goes out when all else has left. As long as it has not, nobody can have the message.
    var contentEnd: ByteBuffer?

    private var waitsFor: SMTPClientMachine.Wait?
    private var timer = SessionTimer()

    init(
        _ id: ConnectionPool.ConnectionID, _ job: SMTPJob, _ options: RelayOptions, _ plan: SessionPlan,
        pool: ConnectionPool, logger: Logger
    ) {
        self.id = id
        self.job = job
        self.options = options
        self.plan = plan
        self.pool = pool
        self.logger = logger
        host = job.host
        label = job.host.label
        watch = plan.demand.encryption == .never ? nil : job.watch
        machine = SMTPClientMachine(
            .init(
                name: options.hostname, dialect: options.dialect, security: plan.security,
                mayGoInClear: plan.mayGoInClear, credentials: plan.credentialsNow,
                server: .init(host: host.name ?? host.address.ipAddress ?? "", port: host.address.port ?? 0)))
    }

    // MARK: For the pool and for attempts

    /// Does the job, now that the last one is done.
    func start(_ job: SMTPJob) {
        guard context != nil, machine.isReady else {
            // The server has hung up since.
            pool.repeated(job)
            return
        }
        self.job = job
        isJobNew = true
        beginBudget()
        var out = context?.channel.allocator.buffer(capacity: 512) ?? ByteBuffer()
        advance(&out)
    }

    /// Says QUIT and closes: only when idle.
    func retire() {
        guard context != nil else { return }
        var out = ByteBuffer()
        let action = machine.quit(into: &out)
        perform(action, &out)
    }

    /// Ends the job soon, if it is still being done.
    func cancel(_ job: SMTPJob) {
        guard self.job === job else { return }
        if machine.waitsFor.kind == .finalReply {
            // Giving up now would be a second copy if the reply is on its way.
            setDeadline(min(timer.deadline, .now() + Self.grace))
            return
        }
        end(.cancelled)
    }

    // MARK: Channel

    func handlerAdded(context: ChannelHandlerContext) { self.context = context }

    func handlerRemoved(context: ChannelHandlerContext) {
        self.context = nil
        timer.cancel()
    }

    func channelActive(context: ChannelHandlerContext) {
        pool.connected(id, connection(context))
        source = context.localAddress
        sessionEnd = .now() + TimeAmount(options.sessionTime)
        beginBudget()
        logger.debug("connected", metadata: ["relay": "\(label)"])
        if let job, job.isOver {
            end(.cancelled)
        } else {
            armDeadline()
        }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        machine.received(unwrapInboundIn(data))
        var out = ByteBuffer()
        advance(&out)
    }

    func channelInactive(context: ChannelHandlerContext) {
        end(.closed)
        timer.cancel()
        if let jobInClear {
            pool.reconnectInClear(id, jobInClear)
        } else {
            pool.closed(id)
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        switch error {
        case let error as TLSError:
            tlsError = error
            end(.tlsFailed(error.message))
        default: end(.broken(error.connectionReason))
        }
        close()
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        guard case TLSHandler.Event.established(let facts) = event else { return }
        tls = facts.session
        lookAtCertificate()
        var out = ByteBuffer()
        machine.tlsEstablished(bindings, into: &out)
        advance(&out)
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        if context.channel.isWritable { letSenderGoOn() }
    }

    // MARK: The machine

    /// An event from outside.
    private func end(_ end: SMTPClientMachine.End) {
        var out = ByteBuffer()
        perform(machine.ended(end), &out)
    }

    func contentFailed(_ outcome: Outcome, _ kind: OutcomeCause.Kind) {
        var out = ByteBuffer()
        perform(machine.contentFailed(outcome, kind), &out)
    }

    /// Does all that the machine wants done, writes what it wrote, and arms its deadline.
    func advance(_ out: inout ByteBuffer) {
        while true {
            if isJobNew, let job {
                isJobNew = false
                job.messagesBefore = transactionsDone
                perform(machine.begin(job.transaction, into: &out), &out)
            }
            let action = machine.next(into: &out)
            if action == .wait, !isJobNew { break }
            perform(action, &out)
        }
        flush(&out)
        armDeadline()
    }

    func flush(_ out: inout ByteBuffer) {
        guard out.readableBytes > 0, let context else { return }
        let octets = out
        out = ByteBuffer()
        context.writeAndFlush(wrapOutboundOut(octets), promise: nil)
    }

    func perform(_ action: SMTPClientMachine.Action, _ out: inout ByteBuffer) {
        switch action {
        case .wait:
            flush(&out)
            armDeadline()
        case .startTLS:
            flush(&out)
            startTLS()
        case .compute:
            flush(&out)
            compute()
        case .ready:
            tokenTaken()
            tellTLS(machine.missingTLS)
            pool.opened(id)
            isJobNew = true
        case .sendContent(let allowsEightBit): sendContent(allowsEightBit: allowsEightBit, &out)
        case .settled(let recipient, let outcome): job?.report(recipient, decorated(outcome))
        case .finished(let outcomes, let isReusable):
            if !isReusable { flush(&out) }
            finished(outcomes, isReusable: isReusable)
        case .stale(let outcomes): stale(outcomes)
        case .failed(let failure): failed(failure)
        case .close:
            flush(&out)
            close()
        }
    }

    private func startTLS() {
        guard let context, let tls = plan.tls else { preconditionFailure("STARTTLS without a context for TLS") }
        let handler = TLSHandler(client: tls, serverName: plan.demand.serverName, verification: plan.verification)
        tlsHandler = handler
        do {
            try context.pipeline.syncOperations.addHandler(handler, position: .first)
        } catch {
            end(.tlsFailed("\(error)"))
        }
    }

    func connection(_ context: ChannelHandlerContext) -> SMTPConnection {
        SMTPConnection(eventLoop: context.eventLoop, driver: NIOLoopBound(self, eventLoop: context.eventLoop))
    }

    // MARK: Ends

    private func finished(_ outcomes: [Outcome], isReusable: Bool) {
        stopSending()
        guard let job else { return }
        self.job = nil
        transactionsDone += 1
        let isUsedUp =
            machine.isUsedUp || job.site?.isUsedUp(outcomes, after: transactionsDone) ?? false
            || job.site?.hasTooMany ?? false
        if isReusable {
            let next = pool.connections.released(id, from: job, isOld: isUsedUp || .now() >= sessionEnd)
            job.tell(.done(outcomes.map(decorated), machine.causes))
            switch next {
            case .idle: armDeadline()
            case .start(let job):
                self.job = job
                isJobNew = true
                beginBudget()
            case .retire: retire()
            }
        } else {
            pool.connections.abandoned(job)
            job.tell(.done(outcomes.map(decorated), machine.causes))
            close()
        }
    }

    private func stale(_ outcomes: [Outcome]) {
        guard let job else { return }
        self.job = nil
        _ = job.site?.isUsedUp(outcomes, after: transactionsDone + 1)
        logger.debug("idle connection was dead", metadata: ["relay": "\(label)"])
        close()
        if job.mayRepeat() {
            pool.repeated(job)
        } else {
            pool.connections.abandoned(job)
            job.tell(.done(outcomes.map(decorated), machine.causes))
        }
    }

    private func failed(_ failure: SMTPClientMachine.SessionFailure) {
        if failure.isTokenStale { tokenRefused() }
        tellTLS(failure.fault ?? machine.missingTLS, words: failure.outcome.reply.text)
        guard let job else { return }
        self.job = nil
        logger.debug("no session", metadata: ["relay": "\(label)", "reason": "\(failure.outcome.reply)"])
        if job.isOver {
            pool.connections.abandoned(job)
            job.tellCancelled()
        } else {
            switch failure.inClear {
            case .now: jobInClear = job
            case .later, .no:
                pool.failed(
                    id, job,
                    HostFailure(
                        outcome: decorated(failure.outcome), isTimeout: failure.isTimeout,
                        isTLSFailure: failure.inClear == .later, isOfPlan: failure.isOfSecurity, fault: failure.fault,
                        tlsError: tlsError))
            }
        }
        close()
    }

    private func close() { context?.close(promise: nil) }

    private func decorated(_ outcome: Outcome) -> Outcome {
        var outcome = outcome
        outcome.relay = label
        outcome.remoteHost = host.remoteHost
        outcome.tls = tls
        return outcome
    }

    // MARK: Deadlines

    /// The job begins here.
    private func beginBudget() {
        guard let job else { return }
        let budget = options.hostBudget(recipients: job.transaction.recipients.count)
        budgetEnd = .now() + TimeAmount(budget)
    }

    private var jobEnd: NIODeadline { job?.end ?? .distantFuture }

    /// Each wait of the machine has one deadline; what arrives meanwhile does not move it. That of the content moves on
    /// with what has left.
    func armDeadline() {
        let waitsFor = machine.waitsFor
        guard waitsFor != self.waitsFor else { return }
        self.waitsFor = waitsFor
        let deadline: NIODeadline
        switch waitsFor.kind {
        case .greeting: deadline = min(.now() + TimeAmount(options.greetingTimeout), jobEnd)
        case .reply(let recipients):
            // Large groups get more, in proportion: a server may think about each recipient.
            let end = NIODeadline.now() + TimeAmount(options.commandTimeout * (1 + Double(recipients) / 100))
            deadline = min(end, budgetEnd, jobEnd)
        case .handshake: deadline = min(.now() + TimeAmount(options.connectTimeout), jobEnd)
        case .content: deadline = contentDeadline
        // An attempt that was broken off waits no longer for each of several replies.
        case .finalReply where job?.isOver == true: deadline = timer.deadline
        case .finalReply: deadline = .now() + TimeAmount(options.dataTimeout)
        case .idle: deadline = .now() + TimeAmount(options.idleTimeout)
        case .quit: deadline = .now() + Self.grace
        case .nothing: deadline = .distantFuture
        }
        setDeadline(deadline)
    }

    /// While the next part of the content is still to come from us, the server keeps nobody waiting.
    private var contentDeadline: NIODeadline {
        if unsent == 0, stuffer != nil { return jobEnd }
        return min(transfer?.deadline ?? timer.deadline, jobEnd)
    }

    /// The content moves, and its deadline with it.
    func moveDeadline() {
        if transfer != nil { setDeadline(contentDeadline) }
    }

    private func setDeadline(_ deadline: NIODeadline) {
        guard let context else { return }
        timer.set(deadline, on: context.eventLoop) { self.timerFired() }
    }

    private func timerFired() {
        guard let context, timer.hasPassed(on: context.eventLoop, fired: { self.timerFired() }) else { return }
        if machine.isReady, job == nil {
            if pool.connections.expires(id) { retire() }
        } else {
            end(.timedOut)
        }
    }
}
