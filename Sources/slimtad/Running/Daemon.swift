// The running daemon: phases startThreads, recover and announceReady, then orders until it is told to stop, and the drain at
// the end. A reload builds a World and switches. The concrete parts of all layers meet here.

import Logging
import NIOPosix
import SlimtaConfiguration
import SlimtaControl
import SlimtaDNS
import SlimtaEdge
import SlimtaMail
import SlimtaNet
import SlimtaPolicy
import SlimtaQueue
import SlimtaRules
import SlimtaSystem

/// Owns all parts. Its methods are called by one task, one after another.
final class Daemon {
    let ground: Ground
    private let storage: any QueueBackend
    private let control: ControlSocket?
    private let service: Control
    private let queue: Queue
    private let intake: Intake
    private let supervision: Supervision
    let state: DaemonState
    private let orders: AsyncStream<Order>
    /// How many files are open for good, without listening sockets.
    private let filesInUse: Int
    private(set) var world: World
    private var listeners: Listeners
    private var edges: RunningEdges
    /// When the certificates' files are looked at.
    private var certificateCheck: ContinuousClock.Instant
    /// When what is known of failed logins was last written.
    private var guessesKept = ContinuousClock.now
    /// Those that were started with the daemon, and still run.
    private var helpers: [Helper: HelperProcess]
    /// Those that do not any more, in words for the operator.
    private var lostHelpers: [String] = []

    private var logger: Logger { ground.logger }

    // MARK: Start

    /// Mail is accepted when this returns. It is attempted, and orders are obeyed, from ``run(_:ready:)`` on.
    static func start(
        _ preparation: Preparation, budget: FileBudget, level: SharedLogLevel, logger: Logger
    ) async throws(Failure) -> Daemon {
        let folder = preparation.file.stateDirectory
        let ground = Ground(
            budget: budget, level: level, quotas: QuotaKeeper(in: folder, logger),
            signing: DKIMKeeper(in: folder, logger), tlsMemory: TLSMemoryKeeper(in: folder, logger),
            sts: STSKeeper(in: folder, logger), sites: SiteKeeper(in: folder, logger),
            tlsReports: TLSReportKeeper(in: folder, logger), logger: logger)
        do throws(Failure) {
            let daemon = try await Daemon(preparation, ground)
            await daemon.edges.apply(
                EdgePlan(from: [], to: daemon.world.values.edges), daemon.world, daemon.listeners)
            return daemon
        } catch {
            await ground.end()
            throw error
        }
    }

    private init(_ preparation: Preparation, _ ground: Ground) async throws(Failure) {
        let (file, secrets, logger) = (preparation.file, preparation.secrets, ground.logger)
        for complaint in secrets.complaints { logger.log(complaint) }
        // Before ports open: what clients take must not be what the resolver's threads need.
        let inUse = FileLimits.openCount + FileBudget.resolverFiles
        var world = try await World.build(file, secrets, inUse: inUse, on: ground)
        world.warnOfExpiry(logger)
        let storage = preparation.storage
        let quotas = ground.quotas
        quotas.book.reconfigure(file.values.quota)
        ground.signing.configure(file.values, secrets.signingKeys)
        ground.sites.configure(file.values)
        let queue = Queue(
            storage: storage, relay: world.relays, configuration: world.queue, logger: logger,
            ended: QuotaKeeper.ended(quotas.book))
        do throws(StorageOpenError) {
            try await storage.start(SharedPace(queue: queue, sites: ground.sites.sites, storage: storage).receive)
        } catch {
            throw Failure(storage: error)
        }
        let open = FileLimits.openCount
        world.share.connections = try file.values.share(of: ground.budget, inUse: open).connections
        ground.limiter.setLimits(world.values.connectionLimits(world.share))
        world.warnOfFewFiles(ground)

        let (orders, continuation) = AsyncStream.makeStream(of: Order.self)
        self.orders = orders
        state = DaemonState(
            orders: continuation, ground.guesses, ground.signing, ground.tlsMemory, ground.sites, ground.tlsReports)
        self.ground = ground
        ground.sts.use(world.relays.policies)
        self.storage = storage
        self.queue = queue
        self.world = world
        control = preparation.control
        helpers = preparation.helpers
        listeners = preparation.listeners
        filesInUse = open - preparation.listeners.count
        intake = Intake(
            policies: world.policies, hostname: world.hostname, queue: queue, storage: storage, quotas: quotas.book,
            logger: logger)
        ground.tlsReports.use(world.reportMeans, intake, signing: ground.signing)
        service = Control(storage: storage, queue: queue, quotas: quotas.book, daemon: state, logger: logger)
        quotas.start(service)
        edges = RunningEdges(intake, LocalQueueView(control: service, state: state), on: ground)
        supervision = Supervision(group: ground.group, queue: queue, storage: storage, state: state, logger: logger)
        certificateCheck = .now + world.certificateInterval
        logger.info("queue recovered", metadata: ["queued": "\(queue.count)"])
    }

    // MARK: Run

    /// Runs until a signal or an order ends it, and ends all parts. `ready` is called once, at its begin.
    func run(_ signals: AsyncStream<Signal>, ready: () -> Void) async {
        announceReady(ready)
        await withTaskGroup(of: Void.self) { tasks in
            addTasks(signals, to: &tasks)
            sayValidation(in: &tasks)
            loop: for await order in orders {
                switch order {
                case .signal(.reload):
                    if await reload().isApplied { sayValidation(in: &tasks) }
                case .reload(let told):
                    let result = await reload()
                    told(result)
                    if result.isApplied { sayValidation(in: &tasks) }
                case .signal(.terminate), .signal(.interrupt), .signal(.quit), .drain: break loop
                case .look: look()
                }
            }
            await drain()
            tasks.cancelAll()
        }
        control?.unlink()
        listeners.close()
        await storage.close()
        world.keepRecords()
        await world.relays.end()
        ground.sites.write()
        await world.endBackEnds()
        await ground.end()
        logger.notice("stopped")
    }

    /// What goes on beside the orders.
    private func addTasks(_ signals: AsyncStream<Signal>, to tasks: inout TaskGroup<Void>) {
        let executors = ground.group.makeIterator().map { EventLoopExecutor($0) }
        tasks.addTask { [queue, service] in
            // What the last run had no time to hold is not to be attempted.
            await service.lookAfterHolds()
            await queue.run(on: executors)
        }
        if let control {
            tasks.addTask { [server = controlServer(control)] in await server.run(on: control.socket) }
        }
        tasks.addTask { [supervision] in await supervision.run() }
        tasks.addTask { [quotas = ground.quotas] in await quotas.run() }
        tasks.addTask { [signing = ground.signing] in await signing.run() }
        tasks.addTask { [tlsMemory = ground.tlsMemory] in await tlsMemory.run() }
        tasks.addTask { [sts = ground.sts] in await sts.run() }
        tasks.addTask { [sites = ground.sites] in await sites.run() }
        tasks.addTask { [tlsReports = ground.tlsReports] in await tlsReports.run() }
        tasks.addTask { [quotas = ground.quotas, service] in await quotas.lookAfterHolds(by: service) }
        tasks.addTask { [endings = ground.endings] in await endings.run() }
        tasks.addTask { [state] in for await signal in signals { state.orders.yield(.signal(signal)) } }
        tasks.addTask { [state] in
            while !Task.isCancelled {
                try? await Task.sleep(for: .seconds(1))
                state.orders.yield(.look)
            }
        }
    }

    private func controlServer(_ control: ControlSocket) -> ControlServer {
        var limits = HTTPLimits()
        limits.connections = ground.budget.controlConnections
        return ControlServer(
            service: service, access: control.access, limits: limits, group: ground.group, logger: logger)
    }

    private func announceReady(_ ready: () -> Void) {
        showState()
        logger.notice(
            "ready",
            metadata: ["hostname": "\(world.hostname)", "version": "\(Version.text)", "queued": "\(queue.count)"])
        ServiceManager.notifyReady(status: supervision.statusText)
        ready()
    }

    /// Tells those who ask over the control socket what there is now.
    private func showState() {
        let (world, file, secrets) = (world, world.file, world.secrets)
        let unused = listeners.unused.map {
            "systemd listens for us on \($0), and no edge has listen = \"systemd:\($0)\""
        }
        state.set { [world, edges, ground, control, lostHelpers] state in
            state.hostname = world.hostname
            state.file = file.path
            state.content = file.content
            state.read = file.time
            state.delivers = file.values.queue.deliver
            state.complaints = { world.relays.complaints + edges.complaints + world.complaints }
            state.warnings =
                secrets.complaints.map(\.description)
                + [control?.complaint, world.fewFiles(ground.budget)].compactMap(\.self) + unused + lostHelpers
            state.login = world.knownLogins
            state.explain = { [relays = world.relays] in await relays.explain($0) }
            state.certificates = secrets.certificates?.expiries ?? []
            state.localEdges = file.values.edges.filter(\.hasLocalUsers).map(\.name)
            state.edges = file.values.edges.compactMap { edge in
                edges[edge.name].map { running in
                    DaemonFacts.Edge(
                        name: edge.name, listen: edge.places, sessions: { running.sessionCount })
                }
            }
        }
    }

    /// Says whether DNS answers can be validated, as soon as that is known.
    private func sayValidation(in tasks: inout TaskGroup<Void>) {
        tasks.addTask { [resolver = world.resolver, logger, state] in
            let (word, reason): (String, String?)
            switch await resolver.validation {
            case .working:
                (word, reason) = ("working", nil)
                logger.info("DNS answers are validated (DNSSEC)")
            case .off:
                (word, reason) = ("off", nil)
                logger.info("DNS answers are not validated, as configured")
            case .unavailable(let why):
                guard !resolver.isClosing else { return }
                (word, reason) = ("unavailable", "\(why)")
                logger.notice("DNS answers cannot be validated on this network", metadata: ["reason": "\(why)"])
            }
            state.set { ($0.validation, $0.validationReason) = (word, reason) }
        }
    }

    // MARK: Reload

    /// Builds a new world beside the one in use; an error keeps that.
    private func reload() async -> ReloadResult {
        ServiceManager.notifyReloading()
        defer { ServiceManager.notifyReady(status: supervision.statusText) }
        var result = ReloadResult()
        do throws(Failure) {
            let file = try ConfigurationFile.parse(world.file.path)
            let secrets = try Secrets.load(file, keeping: world.secrets)
            let listening = file.values.edges.map(\.listen.count).reduce(0, +)
            let new = try await World.build(
                file, secrets, inUse: filesInUse + listening, after: world, on: ground)
            let plan = EdgePlan(from: world.values.edges, to: file.values.edges)
            try Privileges.bindingLowPorts { () throws(Failure) in try listeners.bind(plan) }
            await enter(new, plan)
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

    /// Switches to another world.
    private func enter(_ new: World, _ plan: EdgePlan) async {
        let isOfDaemon = world.values.daemon != new.values.daemon
        let movesQueue =
            world.values.queue.placement != new.values.queue.placement || world.values.node != new.values.node
        let movesMail = (world.values.relay, world.values.routes) != (new.values.relay, new.values.routes)
        world = new
        certificateCheck = .now + new.certificateInterval
        new.warnOfFewFiles(ground)
        for complaint in new.secrets.complaints { logger.log(complaint) }
        new.warnOfExpiry(logger)
        if isOfDaemon { logger.warning("changes of [daemon] take effect at the next start") }
        if movesQueue { logger.warning("changes of where the queue is take effect at the next start") }
        ground.level.level = new.values.log.level.loggerLevel
        ground.limiter.setLimits(new.values.connectionLimits(new.share))
        ground.quotas.book.reconfigure(new.values.quota)
        ground.signing.configure(new.values, new.secrets.signingKeys)
        ground.sts.use(new.relays.policies)
        intake.reconfigure(policies: new.policies, hostname: new.hostname)
        ground.tlsReports.use(new.reportMeans, intake, signing: ground.signing)
        queue.reconfigure(new.queue, relay: new.relays, movesMail: movesMail)
        // What waits there comes back then.
        ground.sites.configure(new.values)
        new.useUsers()
        listeners.release(plan)
        await edges.apply(plan, new, listeners)
        showState()
        logger.notice("reloaded", metadata: ["file": "\(new.file.path)"])
    }

    /// Every ten seconds, in a thread that may wait.
    private func keepGuesses() {
        guard .now >= guessesKept + .seconds(10) else { return }
        guessesKept = .now
        NIOThreadPool.singleton.submit { [world] _ in world.keepRecords() }
    }

    /// Under systemd helpers are units of their own; here nobody else hears of it.
    private func noteEndsOfHelpers() {
        for (helper, process) in helpers where process.hasEnded() {
            helpers[helper] = nil
            lostHelpers.append("slimtad \(helper.command) has ended; start slimtad again")
            showState()
            logger.error("helper has ended", metadata: ["command": "\(helper.command)"])
        }
    }

    /// Takes what was renewed without a reload.
    private func look() {
        if world.renewUsers(logger) { showState() }
        noteEndsOfHelpers()
        keepGuesses()
        guard .now >= certificateCheck, world.secrets.certificates != nil else { return }
        certificateCheck = .now + world.certificateInterval
        if world.renewCertificates(logger) {
            edges.renew(world)
            logger.notice("renewed certificate is in use")
        }
        showState()
        world.warnOfExpiry(logger)
    }

    // MARK: Stop

    /// No new connections, no new attempts; sessions and attempts in progress get `drain_timeout`, or until a second
    /// signal.
    private func drain() async {
        state.set { $0.isDraining = true }
        logger.notice("stopping", metadata: ["queued": "\(queue.count)"])
        ServiceManager.notifyStopping()
        queue.drain()
        await edges.drain()
        let end = ContinuousClock.now + world.values.daemon.drainTimeout
        await withTaskGroup(of: Void.self) { tasks in
            tasks.addTask { [orders] in
                for await order in orders {
                    switch order {
                    case .signal(.terminate), .signal(.interrupt), .signal(.quit), .drain: return
                    case .reload(let told): told(ReloadResult(errors: ["the daemon is stopping"], isApplied: false))
                    case .signal(.reload), .look: continue
                    }
                }
            }
            tasks.addTask { [queue, edges] in
                while ContinuousClock.now < end, queue.attemptsInFlight > 0 || edges.sessionCount > 0, !Task.isCancelled
                {
                    try? await Task.sleep(for: .milliseconds(20))
                }
            }
            await tasks.next()
            tasks.cancelAll()
        }
        await edges.closeSessions()
    }
}

extension World {
    /// How often certificates are looked at.
    fileprivate var certificateInterval: Duration { values.tls?.check ?? .seconds(86400) }

    /// What TLS reports are sent with; nil: none are.
    fileprivate var reportMeans: TLSReportKeeper.Means? {
        guard let settings = values.tlsReport, let clients = relays.reporting else { return nil }
        return .init(settings: settings, hostname: hostname, resolver: resolver, clients: clients)
    }
}
