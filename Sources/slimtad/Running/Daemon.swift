// The running daemon: phases startThreads, recover and announceReady, then signals until it is told to stop: reload, and
// the drain at the end. The concrete parts of all layers meet here.

import Logging
import NIOCore
import NIOPosix
import SlimtaConfiguration
import SlimtaControl
import SlimtaDNS
import SlimtaEdge
import SlimtaMail
import SlimtaNet
import SlimtaQueue
import SlimtaRelay
import SlimtaSystem
import Synchronization

/// Owns all parts. Its methods are called by one task, one after another.
final class Daemon {
    private var file: ConfigurationFile
    private var secrets: Secrets
    private var listeners: Listeners
    private let storage: any QueueBackend
    /// nil: it could not be made.
    private let control: ControlSocket?
    private let level: SharedLogLevel
    private let logger: Logger

    // Made in startThreads and recover.
    private let group: MultiThreadedEventLoopGroup
    private let passwordChecks: PasswordChecks
    private let limiter: ConnectionLimiter
    private var edges: [String: any Edge] = [:]
    private var relays: RelaySet?
    /// Relays of earlier configurations that nobody has any more.
    private let ended: AsyncStream<RelaySet.Parts>
    private let endedRelays: AsyncStream<RelaySet.Parts>.Continuation
    /// What maildirs are written by.
    private let fileThreads = NIOThreadPool(numberOfThreads: 2)
    private let budget: FileBudget
    /// How many files are open for good, without listening sockets.
    private var filesInUse = 0
    private var share: FileBudget.Share
    private var queue: Queue?
    private var intake: Intake?
    private let state: DaemonState
    private let orders: AsyncStream<Order>
    private var supervision: Supervision?
    private var credentials: FileCredentials?
    /// The users file as it was when it was last looked at.
    private var seenUsers: FileStamp?
    /// How often certificates are looked at.
    private let checkInterval: CheckInterval

    init(
        file: ConfigurationFile, secrets: Secrets, listeners: Listeners, storage: any QueueBackend,
        control: ControlSocket?, budget: FileBudget, level: SharedLogLevel, logger: Logger
    ) {
        self.file = file
        self.secrets = secrets
        self.listeners = listeners
        self.storage = storage
        self.control = control
        self.level = level
        self.logger = logger
        self.budget = budget
        share = file.values.wantedShare
        (ended, endedRelays) = AsyncStream.makeStream(of: RelaySet.Parts.self)
        let (orders, continuation) = AsyncStream.makeStream(of: Order.self)
        self.orders = orders
        state = DaemonState(orders: continuation)
        checkInterval = CheckInterval(file.values.tls?.check)
        // startThreads
        group = MultiThreadedEventLoopGroup(numberOfThreads: System.coreCount)
        passwordChecks = PasswordChecks(threads: System.coreCount, loop: group.next())
        limiter = ConnectionLimiter(file.values.connectionLimits(share))
        fileThreads.start()
    }

    /// Runs until a signal ends it. `ready` is called when mail is accepted.
    func run(_ signals: AsyncStream<Signal>, ready: () -> Void) async throws(Failure) {
        for complaint in secrets.complaints { logger.log(complaint) }
        warnOfExpiry()
        let queue = try await recover()
        try await openEdges()
        announceReady(ready)
        await withTaskGroup(of: Void.self) { tasks in
            let executors = group.makeIterator().map { EventLoopExecutor($0) }
            tasks.addTask { await queue.run(on: executors) }
            if let control {
                tasks.addTask { [server = controlServer(control, queue)] in
                    await server.run(on: control.socket.descriptor)
                }
            }
            sayValidation(in: &tasks)
            if let supervision { tasks.addTask { await supervision.run() } }
            tasks.addTask { [ended] in
                await withDiscardingTaskGroup { closings in
                    for await parts in ended { closings.addTask { await parts.close() } }
                }
            }
            tasks.addTask { [state] in for await signal in signals { state.orders.yield(.signal(signal)) } }
            tasks.addTask { [state, checkInterval] in
                while !Task.isCancelled {
                    try? await Task.sleep(for: checkInterval.value)
                    state.orders.yield(.certificateCheck)
                }
            }
            tasks.addTask { [state] in
                while !Task.isCancelled {
                    try? await Task.sleep(for: .seconds(1))
                    state.orders.yield(.usersCheck)
                }
            }
            loop: for await order in orders {
                switch order {
                case .signal(.reload):
                    if await reload().isApplied { sayValidation(in: &tasks) }
                case .reload(let told):
                    let result = await reload()
                    told(result)
                    if result.isApplied { sayValidation(in: &tasks) }
                case .signal(.terminate), .signal(.interrupt), .signal(.quit), .drain: break loop
                case .certificateCheck: checkCertificates()
                case .usersCheck: checkUsers()
                }
            }
            await drain(queue, hurry: orders)
            tasks.cancelAll()
        }
        control?.unlink()
        await close()
    }

    // MARK: Start

    private func recover() async throws(Failure) -> Queue {
        filesInUse = FileLimits.openCount - listeners.count + FileBudget.resolverFiles
        share = try share(for: file, listeners.count)
        // Before ports open: what clients take must not be what the resolver's threads need.
        let relays = try await makeRelays(file, secrets, share)
        let queue = Queue(
            storage: storage, relay: relays,
            configuration: file.values.queueConfiguration(hostname: file.hostname, share), logger: logger)
        do throws(StorageOpenError) {
            try await storage.start { [queue] in queue.receive($0) }
        } catch {
            throw Failure(storage: error)
        }
        self.relays = relays
        self.queue = queue
        filesInUse = FileLimits.openCount - listeners.count
        share.connections = try share(for: file, listeners.count).connections
        limiter.setLimits(file.values.connectionLimits(share))
        warnOfFewFiles()
        intake = Intake(
            policies: file.values.policyChain, hostname: file.hostname, queue: queue, storage: storage, logger: logger)
        supervision = Supervision(group: group, queue: queue, storage: storage, state: state, logger: logger)
        logger.info("queue recovered", metadata: ["queued": "\(queue.count)"])
        return queue
    }

    private func makeRelays(
        _ file: ConfigurationFile, _ secrets: Secrets, _ share: FileBudget.Share
    ) async throws(Failure) -> RelaySet {
        try await RelaySet.make(
            file, secrets, budget: budget, connections: share.relayConnections, threads: fileThreads,
            ended: endedRelays, group: group, logger: logger)
    }

    /// The connections that there can be of those that a configuration wants.
    private func share(for file: ConfigurationFile, _ listening: Int) throws(Failure) -> FileBudget.Share {
        guard
            let share = budget.share(
                file.values.wantedShare, inUse: filesInUse + listening, relays: file.values.connectingRelays)
        else {
            throw Failure(
                .system,
                "only \(budget.limit) files may be open, and that is not enough for connections: raise LimitNOFILE= of "
                    + "the unit, or ulimit -n")
        }
        return share
    }

    /// What the operator is told where there are fewer connections than configured.
    private var fewFiles: String? {
        share == file.values.wantedShare
            ? nil
            : "only \(budget.limit) files may be open: at most \(share.connections) connections of clients and "
                + "\(share.relayConnections) of each relay"
    }

    private func warnOfFewFiles() {
        guard share != file.values.wantedShare else { return }
        logger.warning(
            "fewer connections than configured, few files may be open",
            metadata: [
                "limit": "\(budget.limit)", "connections": "\(share.connections)",
                "relay_connections": "\(share.relayConnections)",
            ])
    }

    private func openEdges() async throws(Failure) {
        takeUsers()
        for edge in file.values.edges { await open(edge) }
    }

    private func settings(_ edge: Configuration.Edge) -> EdgeSettings {
        file.values.edgeSettings(edge, hostname: file.hostname, tls: secrets.tls, credentials: credentials)
    }

    private func open(_ edge: Configuration.Edge) async {
        guard let intake else { preconditionFailure("edges open when the queue is there") }
        let running: any Edge =
            switch settings(edge) {
            case .smtp(let settings):
                SMTPEdge(settings: settings, limiter: limiter, submissions: intake, group: group, logger: logger)
            }
        edges[edge.name] = running
        for address in edge.listen { await accept(running, edge, address) }
    }

    private func accept(_ running: any Edge, _ edge: Configuration.Edge, _ address: ListenAddress) async {
        for socket in listeners.sockets[address] ?? [] {
            do {
                try await running.accept(on: socket.duplicate(), address: address.description)
                logger.info("listening", metadata: ["edge": "\(edge.name)", "address": "\(address)"])
            } catch {
                logger.error(
                    "cannot listen", metadata: ["edge": "\(edge.name)", "address": "\(address)", "error": "\(error)"])
            }
        }
    }

    private func controlServer(_ control: ControlSocket, _ queue: Queue) -> ControlServer {
        var limits = ControlServer.Limits()
        limits.connections = budget.controlConnections
        return ControlServer(
            service: Control(storage: storage, queue: queue, state: state, logger: logger), access: control.access,
            limits: limits, group: group, logger: logger)
    }

    /// Tells those who ask over the control socket what there is now.
    private func showState() {
        state.set { [file, secrets, edges, relays, listeners, control, files = fewFiles] state in
            state.hostname = file.hostname
            state.file = file.path
            state.content = file.content
            state.read = file.time
            state.delivers = file.values.queue.deliver
            state.relays = relays
            state.warnings =
                secrets.complaints.map(\.description) + [control?.complaint, files].compactMap(\.self)
                + listeners.unused.map { "systemd listens for us on \($0), and no edge has listen = \"systemd:\($0)\"" }
            state.certificates = secrets.certificates?.expiries ?? []
            state.edges = file.values.edges.compactMap { edge in
                edges[edge.name].map {
                    DaemonState.Edge(name: edge.name, listen: edge.listen.map(\.description), running: $0)
                }
            }
        }
    }

    private func announceReady(_ ready: () -> Void) {
        showState()
        logger.notice(
            "ready",
            metadata: ["hostname": "\(file.hostname)", "version": "\(Version.text)", "queued": "\(queue?.count ?? 0)"])
        ServiceManager.notifyReady(status: supervision?.statusText ?? "")
        ready()
    }

    /// Says whether DNS answers can be validated, as soon as that is known.
    private func sayValidation(in tasks: inout TaskGroup<Void>) {
        guard let parts = relays?.parts else { return }
        tasks.addTask { [logger, state] in await parts.sayValidation(logger, state) }
    }

    // MARK: Reload

    /// Builds the new world beside the old one; an error keeps the old one. Sessions go on under what they began with.
    private func reload() async -> ReloadResult {
        ServiceManager.notifyReloading()
        defer { ServiceManager.notifyReady(status: supervision?.statusText ?? "") }
        var result = ReloadResult()
        do throws(Failure) {
            let new = try ConfigurationFile.parse(file.path)
            let secrets = try Secrets.load(new, keeping: self.secrets)
            let share = try share(for: new, new.values.edges.map(\.listen.count).reduce(0, +))
            let relays = try await makeRelays(new, secrets, share)
            try Privileges.bindingLowPorts { () throws(Failure) in try listeners.bind(new.values.edges) }
            await apply(new, secrets, relays, share)
            result.errors = secrets.complaints.filter(\.isOfCertificate).map(\.description)
            result.warnings = secrets.complaints.filter { !$0.isOfCertificate }.map(\.description)
        } catch {
            result.isApplied = false
            result.errors = error.message.split(separator: "\n").map(String.init)
            for line in result.events {
                logger.error("reload failed, the configuration in use stays", metadata: ["error": "\(line)"])
            }
        }
        state.set { [result] in $0.reload = result }
        return result
    }

    private func apply(
        _ new: ConfigurationFile, _ newSecrets: Secrets, _ newRelays: RelaySet, _ newShare: FileBudget.Share
    ) async {
        let old = file
        file = new
        secrets = newSecrets
        relays = newRelays
        share = newShare
        warnOfFewFiles()
        for complaint in newSecrets.complaints { logger.log(complaint) }
        warnOfExpiry()
        checkInterval.set(new.values.tls?.check)
        if old.values.daemon != new.values.daemon {
            logger.warning("changes of [daemon] take effect at the next start")
        }
        level.level = new.values.log.level.loggerLevel
        limiter.setLimits(new.values.connectionLimits(share))
        intake?.reconfigure(policies: new.values.policyChain, hostname: new.hostname)
        queue?.reconfigure(new.values.queueConfiguration(hostname: new.hostname, share), relay: newRelays)

        takeUsers()
        listeners.release(except: new.values.edges)
        for edge in old.values.edges where !new.values.edges.contains(where: { $0.isSame(as: edge) }) {
            await edges.removeValue(forKey: edge.name)?.drain()
        }
        for edge in new.values.edges {
            guard let running = edges[edge.name] else {
                await open(edge)
                continue
            }
            settings(edge).set(on: running)
            let before = old.values.edges.first { $0.name == edge.name }?.listen ?? []
            for address in before where !edge.listen.contains(address) {
                await running.stopAccepting(on: address.description)
            }
            for address in edge.listen where !before.contains(address) { await accept(running, edge, address) }
        }
        showState()
        logger.notice("reloaded", metadata: ["file": "\(file.path)"])
    }

    // MARK: Users

    /// Has sessions ask the users file as it was just read, those that have begun as well.
    private func takeUsers() {
        guard let users = secrets.users else { return }
        let foldsCase = file.values.auth.foldCase
        if let credentials {
            credentials.replace(users, foldsCase: foldsCase)
        } else {
            credentials = FileCredentials(users, foldsCase: foldsCase, checks: passwordChecks)
        }
    }

    /// Takes a users file that was changed; one that cannot be used keeps the users in use.
    private func checkUsers() {
        guard secrets.users != nil else { return }
        let now = FileStamp(of: file.values.auth.users)
        defer { seenUsers = now }
        // What is being written is read when it has rested.
        guard now != secrets.usersStamp, now == seenUsers else { return }
        do throws(Failure) {
            try secrets.loadUsers(file, mayBeMissing: false)
            takeUsers()
            logger.notice(
                "users file was read again",
                metadata: ["file": "\(file.values.auth.users)", "users": "\(secrets.users?.users.count ?? 0)"])
        } catch {
            secrets.usersStamp = now
            secrets.complaints = secrets.complaints.filter { !$0.isOfUsers } + [.usersStay(reason: error.message)]
        }
        for complaint in secrets.complaints where complaint.isOfUsers { logger.log(complaint) }
        showState()
    }

    // MARK: Certificates

    /// Takes renewed certificates; a bad one keeps the old one. Sessions go on with what they began with.
    private func checkCertificates() {
        guard let tls = file.values.tls, let old = secrets.certificates else { return }
        do throws(Failure) {
            let (new, refusals) = try Certificates.load(tls, keeping: old)
            for refusal in refusals { logger.log(.certificate(refusal)) }
            secrets.complaints = secrets.complaints.filter { !$0.isOfCertificate } + refusals.map { .certificate($0) }
            if new.context !== old.context {
                secrets.certificates = new
                for edge in file.values.edges { if let running = edges[edge.name] { settings(edge).set(on: running) } }
                logger.notice("renewed certificate is in use")
            }
        } catch {
            logger.error("certificates cannot be read, the old ones stay", metadata: ["error": "\(error.message)"])
        }
        showState()
        warnOfExpiry()
    }

    private func warnOfExpiry() {
        let now = Timestamp.now()
        for expiry in secrets.certificates?.expiries ?? [] where expiry.isNear(now) {
            let metadata: Logger.Metadata = [
                "file": "\(expiry.path)", "days": "\((expiry.time - now).milliseconds / 86_400_000)",
            ]
            if expiry.time > now {
                logger.warning("certificate expires soon", metadata: metadata)
            } else {
                logger.error("certificate has expired", metadata: metadata)
            }
        }
    }

    // MARK: Stop

    /// No new connections, no new attempts; sessions and attempts in progress get `drain_timeout`, or until a second
    /// signal.
    private func drain(_ queue: Queue, hurry orders: AsyncStream<Order>) async {
        state.set { $0.isDraining = true }
        logger.notice("stopping", metadata: ["queued": "\(queue.count)"])
        ServiceManager.notifyStopping()
        queue.drain()
        for edge in edges.values { await edge.drain() }
        let end = ContinuousClock.now + file.values.daemon.drainTimeout
        let hurry = Hurry()
        await withTaskGroup(of: Void.self) { tasks in
            tasks.addTask {
                for await order in orders {
                    switch order {
                    case .signal(.terminate), .signal(.interrupt), .signal(.quit), .drain:
                        return hurry.isAsked.store(true, ordering: .relaxed)
                    case .reload(let told): told(ReloadResult(errors: ["the daemon is stopping"], isApplied: false))
                    case .signal(.reload), .certificateCheck, .usersCheck: continue
                    }
                }
            }
            while ContinuousClock.now < end, !hurry.isAsked.load(ordering: .relaxed),
                queue.attemptsInFlight > 0 || edges.values.contains(where: { $0.sessionCount > 0 })
            {
                try? await Task.sleep(for: .milliseconds(20))
            }
            tasks.cancelAll()
        }
        await withDiscardingTaskGroup { tasks in
            for edge in edges.values { tasks.addTask { await edge.closeSessions() } }
        }
    }

    private func close() async {
        await storage.close()
        await relays?.parts.close()
        await passwordChecks.shutdown()
        try? await fileThreads.shutdownGracefully()
        try? await group.shutdownGracefully()
        logger.notice("stopped")
    }
}

/// How often certificates are looked at; without certificates it does not matter.
private final class CheckInterval: Sendable {
    private let interval: Mutex<Duration>

    init(_ interval: Duration?) { self.interval = Mutex(interval ?? .seconds(86400)) }

    var value: Duration { interval.withLock { $0 } }

    func set(_ new: Duration?) { interval.withLock { $0 = new ?? .seconds(86400) } }
}

/// Whether a second signal asked not to wait any longer.
private final class Hurry: Sendable {
    let isAsked = Atomic(false)
}
