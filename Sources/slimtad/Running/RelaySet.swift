// The relays that a configuration asks for, behind one router. Made at start and at each reload; what they have ends when
// nothing is attempted with them any more.

import Logging
import NIOCore
import NIOPosix
import SlimtaConfiguration
import SlimtaDNS
import SlimtaMail
import SlimtaQueue
import SlimtaRelay
import SlimtaSMTP
import SlimtaSystem

/// `[relay]`, every `[[route]]`, and what they stand on. The queue has it, and each attempt that is made with it: when the
/// last of them lets go of it, it tells so, and ``Parts`` are to be closed.
final class RelaySet: Relay {
    /// What has connections, threads and files.
    struct Parts: Sendable {
        let resolver: SlimtaDNS.Resolver
        /// Those with a login of ours.
        fileprivate let hosts: [FixedHostRelay]
        fileprivate let closers: [@Sendable () async -> Void]

        /// Ends all connections; attempts that still wait get temporary outcomes.
        func close() async {
            await withDiscardingTaskGroup { tasks in for closer in closers { tasks.addTask { await closer() } } }
            await resolver.close()
        }
    }

    let parts: Parts
    private let router: Router
    private let ended: AsyncStream<Parts>.Continuation

    /// What the operator has to put right.
    var complaints: [String] { parts.hosts.compactMap(\.complaint) }

    /// Returns when its resolver has started.
    ///
    /// - Parameters:
    ///   - secrets: has the relays' passwords.
    ///   - connections: how many each relay may have.
    ///   - threads: for maildirs.
    ///   - ended: is told ``parts`` when nobody has the set any more.
    static func make(
        _ file: ConfigurationFile, _ secrets: Secrets, budget: FileBudget, connections: Int, threads: NIOThreadPool,
        ended: AsyncStream<Parts>.Continuation, group: any EventLoopGroup, logger: Logger
    ) async throws(Failure) -> RelaySet {
        // libunbound ends the process if it finds no file for its threads.
        guard FileLimits.hasRoom(for: FileBudget.resolverFiles) else {
            throw Failure(.unavailable, "relay: too many files are open for another resolver: at most \(budget.limit)")
        }
        do {
            let set = try RelaySet(
                file, secrets, budget: budget, connections: connections, threads: threads, ended: ended, group: group,
                logger: logger)
            await set.parts.resolver.waitUntilStarted()
            return set
        } catch {
            throw Failure(.unavailable, "relay: \(error)")
        }
    }

    private init(
        _ file: ConfigurationFile, _ secrets: Secrets, budget: FileBudget, connections: Int, threads: NIOThreadPool,
        ended: AsyncStream<Parts>.Continuation, group: any EventLoopGroup, logger: Logger
    ) throws {
        let values = file.values
        let hostname = file.hostname
        let resolver = try values.makeResolver(sockets: budget.resolverSockets)
        var hosts: [FixedHostRelay] = []
        var closers: [@Sendable () async -> Void] = []
        let own = OwnAddresses(listeners: values.listenAddresses)

        func make(_ relay: Configuration.Relay) throws -> any Relay {
            var options = relay.options(hostname: hostname)
            options.connections = min(options.connections, connections)
            switch relay.type {
            case .mx:
                let relay = try MXRelay(options, resolver: resolver, own: own, group: group, logger: logger)
                closers.append { await relay.shutDown() }
                return relay
            case .smtp(let host, let login):
                let credentials = login.map {
                    SASLClient.Credentials(
                        username: $0.username, password: secrets.passwords[$0.passwordFile] ?? "")
                }
                let relay = try FixedHostRelay(
                    options, host: host.host, port: host.port, credentials: credentials, resolver: resolver,
                    group: group, logger: logger)
                hosts.append(relay)
                closers.append { await relay.shutDown() }
                return relay
            case .maildir(let path):
                return MaildirRelay(path: path, hostname: hostname, threads: threads, logger: logger)
            case .blackhole: return BlackholeRelay()
            }
        }

        let routes = try values.routes.map { route in
            Router.Route(
                matches: { domain in route.domains.contains { $0.matches(domain) } }, try make(route.relay))
        }
        router = Router(routes, otherwise: try make(values.relay))
        parts = Parts(resolver: resolver, hosts: hosts, closers: closers)
        self.ended = ended
    }

    deinit { ended.yield(parts) }

    func attempt(_ delivery: Delivery) async -> [Outcome] { await router.attempt(delivery) }

    func destination(for domain: String) -> String { router.destination(for: domain) }
}

extension RelaySet.Parts {
    /// Says once whether DNS answers can be validated on this network, when that is known.
    func sayValidation(_ logger: Logger, _ state: DaemonState) async {
        switch await resolver.validation {
        case .working:
            state.set { ($0.validation, $0.validationReason) = ("working", nil) }
            logger.info("DNS answers are validated (DNSSEC)")
        case .off:
            state.set { ($0.validation, $0.validationReason) = ("off", nil) }
            logger.info("DNS answers are not validated, as configured")
        case .unavailable(let reason):
            guard !resolver.isClosing else { return }
            state.set { ($0.validation, $0.validationReason) = ("unavailable", "\(reason)") }
            logger.notice("DNS answers cannot be validated on this network", metadata: ["reason": "\(reason)"])
        }
    }
}

extension Configuration {
    /// How many relays have connections.
    var connectingRelays: Int {
        ([relay] + routes.map(\.relay)).count { relay in
            switch relay.type {
            case .mx, .smtp: true
            case .maildir, .blackhole: false
            }
        }
    }

    /// Where we listen: mail must not be relayed there.
    fileprivate var listenAddresses: [SocketAddress] {
        edges.flatMap(\.listen).compactMap { address in
            switch address {
            case .tcp(let host): try? SocketAddress.makeAddressResolvingHost(host.host, port: host.port)
            case .unix, .systemd: nil
            }
        }
    }
}

extension Configuration.Relay {
    fileprivate func options(hostname: String) -> RelayOptions {
        var options = RelayOptions(hostname: hostname)
        options.port = port
        options.security =
            switch tls {
            case .opportunistic: .opportunistic
            case .required: .required
            case .cleartext: .none
            }
        options.connectTimeout = connectTimeout
        options.greetingTimeout = greetingTimeout
        options.commandTimeout = commandTimeout
        options.leastRate = leastRate
        options.stallTimeout = stallTimeout
        options.dataTimeout = dataTimeout
        options.attemptTimeout = attemptTimeout
        options.idleTimeout = idleTimeout
        options.connections = connections
        options.connectionsPerDestination = connectionsPerDestination
        options.sourceAddresses = sourceAddresses.map(\.description)
        options.networks = PermittedNetworks(allowed: allowNetworks, refused: refuseNetworks)
        return options
    }
}
