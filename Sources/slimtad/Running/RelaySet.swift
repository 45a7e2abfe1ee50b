// The relays that a configuration asks for, behind one router. Made for each World; what they have ends when nothing is
// attempted with them any more.

import NIOCore
import SlimtaConfiguration
import SlimtaDNS
import SlimtaMail
import SlimtaQueue
import SlimtaRelay
import SlimtaSMTP
import SlimtaSystem

/// `[relay]`, every `[[route]]`, and what they stand on. The world has it, the queue, and each attempt that is made with it:
/// when the last of them lets go of it, its connections and its part of the resolver end.
final class RelaySet: Relay {
    private let router: Router
    /// Those with a login of ours.
    private let hosts: [FixedHostRelay]
    private let leases: [Lease]
    private let resolverLease: Lease

    /// What the operator has to put right.
    var complaints: [String] { hosts.compactMap(\.complaint) }

    /// - Parameters:
    ///   - passwords: the relays' own, by the reference that names them.
    ///   - connections: how many each relay may have.
    ///   - resolverLease: is held for as long as the relays ask `resolver`.
    init(
        _ values: Configuration, hostname: String, passwords: [String: String], connections: Int,
        resolver: SlimtaDNS.Resolver, lease resolverLease: Lease, on ground: Ground
    ) throws {
        let (group, logger) = (ground.group, ground.logger)
        var hosts: [FixedHostRelay] = []
        var leases: [Lease] = []
        let own = OwnAddresses(listeners: values.listenAddresses)

        func make(_ relay: Configuration.Relay) throws -> any Relay {
            var options = relay.options(hostname: hostname)
            options.connections = min(options.connections, connections)
            switch relay.type {
            case .mx:
                let relay = try MXRelay(options, resolver: resolver, own: own, group: group, logger: logger)
                leases.append(Lease(ground.endings) { await relay.shutDown() })
                return relay
            case .smtp(let host, let login):
                let credentials = login.map {
                    SASLClient.Credentials(username: $0.username, password: passwords[$0.passwordFile] ?? "")
                }
                let relay = try FixedHostRelay(
                    options, host: host.host, port: host.port, credentials: credentials, resolver: resolver,
                    group: group, logger: logger)
                hosts.append(relay)
                leases.append(Lease(ground.endings) { await relay.shutDown() })
                return relay
            case .maildir(let path):
                return MaildirRelay(path: path, hostname: hostname, threads: ground.fileThreads, logger: logger)
            case .blackhole: return BlackholeRelay()
            }
        }

        let routes = try values.routes.map { route in
            Router.Route(
                matches: { domain in route.domains.contains { $0.matches(domain) } }, try make(route.relay))
        }
        router = Router(routes, otherwise: try make(values.relay))
        self.hosts = hosts
        self.leases = leases
        self.resolverLease = resolverLease
    }

    /// Ends all connections and lookups now; attempts that still wait get temporary outcomes.
    func end() async {
        await withDiscardingTaskGroup { tasks in for lease in leases { tasks.addTask { await lease.end() } } }
        await resolverLease.end()
    }

    func attempt(_ delivery: Delivery) async -> [Outcome] { await router.attempt(delivery) }

    func destination(for domain: String) -> String { router.destination(for: domain) }
}

extension Configuration {
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
