// The SMTP connections of one relay: makes them, keeps them for the next message, and holds the limits. Relays hand it
// jobs; each of its connections has an SMTPClientDriver, which tells it how things went.

import Glibc
import Logging
import NIOCore
import NIOPosix
import SlimtaMail
import SlimtaNet
import SlimtaSMTP
import Synchronization

/// A connection, for those who are not on its event loop.
struct SMTPConnection: ContentReceiver {
    let eventLoop: any EventLoop
    let driver: NIOLoopBound<SMTPClientDriver>

    func start(_ job: SMTPJob) {
        if eventLoop.inEventLoop {
            driver.value.start(job)
        } else {
            eventLoop.execute { driver.value.start(job) }
        }
    }

    func retire() { eventLoop.execute { driver.value.retire() } }

    func cancel(_ job: SMTPJob) { eventLoop.execute { driver.value.cancel(job) } }

    func send(_ part: ByteBuffer, of job: SMTPJob) async -> Bool {
        await withCheckedContinuation { reply in
            eventLoop.execute { driver.value.send(part, for: job, reply: reply) }
        }
    }

    func endContent(of job: SMTPJob) { eventLoop.execute { driver.value.endContent(for: job) } }

    func failContent(_ outcome: Outcome, of job: SMTPJob) {
        eventLoop.execute { driver.value.failContent(outcome, for: job) }
    }
}

/// Shared by all attempts of a relay. Which connection does what is decided in ``PooledConnections``; what follows from
/// that is done here.
final class ConnectionPool: Sendable {
    typealias Connections = PooledConnections<SMTPJob, SMTPConnection>
    typealias ConnectionID = Connections.ID

    private struct Session {
        let site: Site
        let key: ConnectionKey
        var isOpen = false
        var connection: SMTPConnection?
    }

    let options: RelayOptions
    /// Whose connections they are, for sites.
    let visitor: SiteVisitor
    private let logger: Logger
    private let group: any EventLoopGroup
    private let sources: [SocketAddress]
    /// Those that could not be used a moment ago.
    private let badSources = Mutex(ExpiringCache<SocketAddress, Bool>(capacity: 64))
    /// The connections that sites are told of: whose they are, and whether their session is open.
    private let sessions = Mutex<[ConnectionID: Session]>([:])
    /// Which connection does what; drivers tell it how things went.
    let connections: Connections

    /// Throws if a source address is none.
    init(_ options: RelayOptions, group: any EventLoopGroup, logger: Logger) throws {
        self.options = options
        visitor = SiteVisitor(limit: options.connectionsPerDestination)
        self.group = group
        self.logger = logger
        sources = try options.sourceAddresses.map { try SocketAddress(ipAddress: $0, port: 0) }
        connections = Connections(
            .init(
                total: options.connections, perDestination: options.connectionsPerDestination,
                uses: options.messagesPerSession, isPaced: true))
    }

    // MARK: For attempts

    /// Has the job done: one outcome for each recipient and where it came from, or the reason why the host cannot be
    /// used.
    func deliver(_ job: SMTPJob) async -> Result<([Outcome], [OutcomeCause]), HostFailure> {
        await withTaskCancellationHandler {
            submit(job)
            while true {
                switch await job.next() {
                case .wantsRest(let receiver): await job.sendRest(to: receiver)
                case .done(let outcomes, let causes): return .success((outcomes, causes))
                case .unusable(let failure): return .failure(failure)
                }
            }
        } onCancel: {
            cancel(job)
        }
    }

    /// Has the job done as soon as a connection is free for it; ``SMTPJob/next()`` says what comes of it.
    func submit(_ job: SMTPJob) { submit(job, isRepeated: false) }

    /// The attempt no longer wants the job: it ends soon, however it ends.
    func cancel(_ job: SMTPJob) {
        switch connections.withdraw(job, mark: job.cancel) {
        case .at(let connection): connection.cancel(job)
        case .waiting: job.tellCancelled()
        case .nowhere: break
        }
    }

    /// Ends: no more jobs, idle connections are closed with QUIT. Returns when all connections are closed, which takes
    /// as long as the jobs that are being done.
    func shutDown() async {
        let (waiting, idle) = connections.shutDown()
        for job in waiting { job.tellCancelled() }
        for connection in idle { connection.retire() }
        await connections.drain()
    }

    /// How many connections there are, in any phase.
    var openCount: Int { connections.openCount }

    // MARK: For drivers, on their event loops

    /// The connection, or its session, could not be opened; ``closed(_:)`` follows.
    func failed(_ id: ConnectionID, _ job: SMTPJob, _ failure: HostFailure) {
        let (failed, step) = connections.failed(id, job)
        var failure = failure
        // None has failed with it: others of its kind are open, and one of those is to do it.
        failure.isOfPace = job.site?.failed(job.key, failure, isBesideOthers: failed.isEmpty) ?? false
        for other in failed {
            failure.isOfOther = other !== job
            other.tell(.unusable(failure))
        }
        perform(step)
    }

    /// The connection gave up before it said anything of the job, which is to be done by another.
    func repeated(_ job: SMTPJob) { submit(job, isRepeated: true) }

    /// The connection is there; its session is not open yet.
    func connected(_ id: ConnectionID, _ connection: SMTPConnection) {
        connections.connected(id, connection)
        sessions.withLock { $0[id]?.connection = connection }
    }

    /// Its session is open.
    func opened(_ id: ConnectionID) {
        connections.opened(id)
        let session = sessions.withLock { sessions in
            sessions[id]?.isOpen = true
            return sessions[id]
        }
        if let session { session.site.opened(session.key) }
    }

    /// The connection is closed.
    func closed(_ id: ConnectionID) {
        if let session = sessions.withLock({ $0.removeValue(forKey: id) }) {
            session.site.closed(wasOpen: session.isOpen)
        }
        connections.closed(id, perform: perform)
    }

    /// A connection is about to be made for a site. If it has as many as it wants, one that does nothing goes.
    private func announce(_ id: ConnectionID, _ job: SMTPJob) {
        guard let site = job.site else { return }
        sessions.withLock { $0[id] = Session(site: site, key: job.key) }
        guard site.connecting() else { return }
        let others = sessions.withLock { sessions in sessions.filter { $0.value.site === site } }
        for (other, session) in others {
            if let connection = session.connection, connections.expires(other) { return connection.retire() }
        }
    }

    // MARK: Actions

    private func submit(_ job: SMTPJob, isRepeated: Bool) {
        if let step = connections.submit(job, isRepeated: isRepeated) { perform(step) } else { job.tellCancelled() }
    }

    private func perform(_ step: Connections.Step) {
        switch step {
        case .none: break
        case .start(let connection, let job): connection.start(job)
        case .again(let job): repeated(job)
        case .connect(let id, let job):
            announce(id, job)
            connect(id, job, job.key.plan)
        case .retire(let connection): connection.retire()
        }
    }

    /// Connects once more in the same place, without TLS.
    func reconnectInClear(_ id: ConnectionID, _ job: SMTPJob) {
        connections.disconnected(id)
        var plan = SessionPlan.inClear
        plan.source = job.key.plan.source
        connect(id, job, plan)
    }

    private func connect(_ id: ConnectionID, _ job: SMTPJob, _ plan: SessionPlan) {
        let host = job.host
        let eventLoop = group.next()
        if let tokens = plan.tokens, tokens.current == nil {
            eventLoop.execute { self.lacksToken(id, job) }
            return
        }
        var bootstrap = ClientBootstrap(group: eventLoop)
            .connectTimeout(.init(options.connectTimeout))
            .channelInitializer { [options, logger] channel in
                channel.eventLoop.makeCompletedFuture {
                    let driver = SMTPClientDriver(id, job, options, plan, pool: self, logger: logger)
                    try channel.pipeline.syncOperations.addHandler(driver)
                }
            }
        if !sources.isEmpty, host.address.pathname == nil {
            guard let source = plan.source ?? source(for: host.address, nil, sender: "") else {
                eventLoop.execute { self.notConnected(id, job, "no source address of its family", isOurs: true) }
                return
            }
            bootstrap = bootstrap.bind(to: source)
        }
        bootstrap.connect(to: host.address).whenFailure { error in
            let code = (error as? IOError)?.errnoCode
            let isOfSource = code == EADDRNOTAVAIL && plan.source != nil
            if isOfSource, let source = plan.source { self.note(bad: source) }
            let isOurs = isOfSource || code == EMFILE || code == ENFILE
            // Not at once: this leads to the next connection, and that may fail as quickly.
            eventLoop.execute {
                self.notConnected(
                    id, job, error.connectionReason, isTimeout: Self.isTimeout(error), isOurs: isOurs)
            }
        }
    }

    private func notConnected(
        _ id: ConnectionID, _ job: SMTPJob, _ reason: String, isTimeout: Bool = false, isOurs: Bool = false
    ) {
        logger.debug("not connected", metadata: ["relay": "\(job.host.label)", "reason": "\(reason)"])
        let outcome = Outcome(
            .temporary,
            Reply(451, EnhancedStatus(4, 4, 1), "cannot connect to \(job.host.label): \(reason)"),
            relay: job.host.label, remoteHost: job.host.remoteHost)
        failed(id, job, HostFailure(outcome: outcome, isTimeout: isTimeout, isOurs: isOurs))
        closed(id)
    }

    /// The host has refused the token since the attempt began, and nobody logs in with none.
    private func lacksToken(_ id: ConnectionID, _ job: SMTPJob) {
        let outcome = Outcome(
            .temporary, Reply(454, EnhancedStatus(4, 7, 0), "\(job.host.label) has refused the token"),
            relay: job.host.label, remoteHost: job.host.remoteHost)
        failed(id, job, HostFailure(outcome: outcome, isOurs: true))
        closed(id)
    }

    /// The source address for a sender's domain at a site: always the same, as long as it works. nil: there is none of the
    /// family, or the system chooses.
    func source(for address: SocketAddress, _ site: SiteKey?, sender: String) -> SocketAddress? {
        if sources.isEmpty || address.pathname != nil { return nil }
        let candidates = sources.filter { $0.protocol == address.protocol }
        guard candidates.count > 1 else { return candidates.first }
        let first = site?.source(for: sender, of: candidates.count) ?? 0
        let now = NIODeadline.now()
        let inOrder = candidates[first...] + candidates[..<first]
        return badSources.withLock { bad in inOrder.first { bad.value(for: $0, at: now) == nil } } ?? candidates[first]
    }

    private func note(bad source: SocketAddress) {
        let now = NIODeadline.now()
        badSources.withLock { $0.insert(true, for: source, until: now + .seconds(60), at: now) }
    }

    private static func isTimeout(_ error: any Error) -> Bool {
        switch error {
        case let error as IOError: error.errnoCode == ETIMEDOUT
        case ChannelError.connectTimeout: true
        default: false
        }
    }
}
