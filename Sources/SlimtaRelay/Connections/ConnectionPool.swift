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

/// Shared by all attempts of a relay. What it decides, it decides in ``ConnectionPoolMachine``, under a lock; what
/// follows from that is done outside.
final class ConnectionPool: Sendable {
    typealias ConnectionID = UInt64
    typealias Machine = ConnectionPoolMachine<ConnectionKey, SMTPJob>

    fileprivate struct State {
        var machine: Machine
        /// Those that are connected.
        var connections: [ConnectionID: SMTPConnection] = [:]
        /// Which connection does a job, or is to be made for it.
        var assigned: [ObjectIdentifier: ConnectionID] = [:]
        /// Who waits for the last connection to be closed.
        var drained: [CheckedContinuation<Void, Never>] = []
        /// Which of the source addresses is next.
        var sourceTurn = 0
    }

    let options: RelayOptions
    private let logger: Logger
    private let group: any EventLoopGroup
    private let sources: [SocketAddress]
    private let state: Mutex<State>

    /// Throws if a source address is none.
    init(_ options: RelayOptions, group: any EventLoopGroup, logger: Logger) throws {
        self.options = options
        self.group = group
        self.logger = logger
        sources = try options.sourceAddresses.map { try SocketAddress(ipAddress: $0, port: 0) }
        state = Mutex(
            State(
                machine: Machine(
                    .init(
                        total: options.connections,
                        perDestination: options.connectionsPerDestination,
                        uses: options.messagesPerSession))))
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
        let (isWaiting, connection): (Bool, SMTPConnection?) = state.withLock { state in
            job.cancel()
            guard let id = state.assigned[ObjectIdentifier(job)] else {
                return (state.machine.withdraw(for: job.key) { $0 === job } != nil, nil)
            }
            // A connection that is still being made finds out when it is there.
            guard let connection = state.connections[id] else { return (true, nil) }
            return (false, connection)
        }
        if isWaiting { job.tellCancelled() }
        connection?.cancel(job)
    }

    /// Ends: no more jobs, idle connections are closed with QUIT. Returns when all connections are closed, which takes
    /// as long as the jobs that are being done.
    func shutDown() async {
        let (waiting, idle) = state.withLock { state in
            let (waiting, idle) = state.machine.shutDown()
            return (waiting, idle.compactMap { state.connections[$0] })
        }
        for job in waiting { job.tellCancelled() }
        for connection in idle { connection.retire() }
        await withCheckedContinuation { continuation in
            let isDrained = state.withLock { state in
                if state.machine.openCount > 0 { state.drained.append(continuation) }
                return state.machine.openCount == 0
            }
            if isDrained { continuation.resume() }
        }
    }

    /// How many connections there are, in any phase.
    var openCount: Int { state.withLock { $0.machine.openCount } }

    // MARK: For drivers, on their event loops

    /// A new connection is there.
    func connected(_ id: ConnectionID, _ connection: SMTPConnection) {
        state.withLock { $0.connections[id] = connection }
    }

    /// Its session is open.
    func opened(_ id: ConnectionID) { state.withLock { $0.machine.opened(id) } }

    /// The connection, or its session, could not be opened; ``closed(_:)`` follows.
    func failed(_ id: ConnectionID, _ job: SMTPJob, _ failure: HostFailure) {
        let (failed, action) = state.withLock { state in
            state.assigned[ObjectIdentifier(job)] = nil
            let result = state.machine.failed(id, work: job)
            return (result.failed, state.note(result.action))
        }
        for job in failed { job.tell(.unusable(failure)) }
        perform(action)
    }

    /// The connection gave up before it said anything of the job, which is to be done by another.
    func repeated(_ job: SMTPJob) { submit(job, isRepeated: true) }

    /// The job is done: what the connection does next.
    enum Next {
        case idle
        case start(SMTPJob)
        case retire
    }

    func released(_ id: ConnectionID, from job: SMTPJob, isOld: Bool) -> Next {
        state.withLock { state in
            state.assigned[ObjectIdentifier(job)] = nil
            switch state.note(state.machine.released(id, isOld: isOld)) {
            case .start(_, let next): return .start(next)
            case .retire: return .retire
            case .none, .connect: return .idle
            }
        }
    }

    /// Whether a connection that has been idle for long enough is to be closed, and not just about to be used.
    func expires(_ id: ConnectionID) -> Bool {
        state.withLock { state in
            if case .retire = state.machine.expired(id) { true } else { false }
        }
    }

    /// The connection is closed.
    func closed(_ id: ConnectionID) {
        let (action, drained) = state.withLock { state in
            state.connections[id] = nil
            let action = state.note(state.machine.closed(id))
            guard state.machine.openCount == 0 else { return (action, [CheckedContinuation<Void, Never>]()) }
            defer { state.drained = [] }
            return (action, state.drained)
        }
        perform(action)
        for continuation in drained { continuation.resume() }
    }

    /// The job is no longer the connection's, which is about to close.
    func abandoned(_ job: SMTPJob) {
        state.withLock { $0.assigned[ObjectIdentifier(job)] = nil }
    }

    // MARK: Actions

    private func submit(_ job: SMTPJob, isRepeated: Bool) {
        let action: Machine.Action? = state.withLock { state -> Machine.Action? in
            state.assigned[ObjectIdentifier(job)] = nil
            guard !state.machine.isShutDown, !job.isCancelled else { return nil }
            return state.note(state.machine.submit(job, for: job.key, isRepeated: isRepeated))
        }
        if let action { perform(action) } else { job.tellCancelled() }
    }

    private func perform(_ action: Machine.Action) {
        switch action {
        case .none: break
        case .start(let id, let job):
            guard let connection = state.withLock({ $0.connections[id] }) else {
                // It was closed since: that was told to the machine, or will be.
                repeated(job)
                return
            }
            connection.start(job)
        case .connect(let id, let job): connect(id, job, job.key.plan)
        case .retire(let id):
            state.withLock { $0.connections[id] }?.retire()
        }
    }

    /// Connects once more in the same place, without TLS.
    func reconnectInClear(_ id: ConnectionID, _ job: SMTPJob) {
        state.withLock { $0.connections[id] = nil }
        connect(id, job, SessionPlan(security: .none))
    }

    private func connect(_ id: ConnectionID, _ job: SMTPJob, _ plan: SessionPlan) {
        let host = job.host
        let eventLoop = group.next()
        var bootstrap = ClientBootstrap(group: eventLoop)
            .connectTimeout(.init(options.connectTimeout))
            .channelInitializer { [options, logger] channel in
                channel.eventLoop.makeCompletedFuture {
                    let driver = SMTPClientDriver(id, job, options, plan, pool: self, logger: logger)
                    try channel.pipeline.syncOperations.addHandler(driver)
                }
            }
        if !sources.isEmpty, host.address.pathname == nil {
            guard let source = nextSource(for: host.address) else {
                eventLoop.execute { self.notConnected(id, job, "no source address of its family") }
                return
            }
            bootstrap = bootstrap.bind(to: source)
        }
        bootstrap.connect(to: host.address).whenFailure { error in
            // Not at once: this leads to the next connection, and that may fail as quickly.
            eventLoop.execute {
                self.notConnected(id, job, Self.reason(error), isTimeout: Self.isTimeout(error))
            }
        }
    }

    private func notConnected(_ id: ConnectionID, _ job: SMTPJob, _ reason: String, isTimeout: Bool = false) {
        logger.debug("not connected", metadata: ["relay": "\(job.host.label)", "reason": "\(reason)"])
        let outcome = Outcome(
            .temporary,
            Reply(451, EnhancedStatus(4, 4, 1), "cannot connect to \(job.host.label): \(reason)"),
            relay: job.host.label, remoteHost: job.host.remoteHost)
        failed(id, job, HostFailure(outcome: outcome, isTimeout: isTimeout))
        closed(id)
    }

    private func nextSource(for address: SocketAddress) -> SocketAddress? {
        let candidates = sources.filter { $0.protocol == address.protocol }
        guard !candidates.isEmpty else { return nil }
        let turn = state.withLock { state in
            state.sourceTurn &+= 1
            return state.sourceTurn
        }
        return candidates[turn % candidates.count]
    }

    private static func isTimeout(_ error: any Error) -> Bool {
        switch error {
        case let error as IOError: error.errnoCode == ETIMEDOUT
        case ChannelError.connectTimeout: true
        default: false
        }
    }

    /// What went wrong, without what a bounce's reader does not understand.
    private static func reason(_ error: any Error) -> String {
        switch error {
        case let error as IOError: String(cString: strerror(error.errnoCode))
        case ChannelError.connectTimeout: "timed out"
        default: "\(error)"
        }
    }
}

extension ConnectionPool.State {
    /// Writes down who does what, in the same breath in which it was decided.
    fileprivate mutating func note(_ action: ConnectionPool.Machine.Action) -> ConnectionPool.Machine.Action {
        switch action {
        case .start(let id, let job), .connect(let id, let job): assigned[ObjectIdentifier(job)] = id
        case .none, .retire: break
        }
        return action
    }
}
