// The relays that a configuration asks for, behind one router. Made for each World; what they have ends when nothing is
// attempted with them any more.

import NIOCore
import SlimtaConfiguration
import SlimtaControl
import SlimtaDNS
import SlimtaMail
import SlimtaQueue
import SlimtaRelay

/// `[relay]`, every `[[route]]`, and what they stand on. The world has it, the queue, and each attempt that is made with it:
/// when the last of them lets go of it, its connections and its part of the resolver end.
final class RelaySet: Relay {
    private let router: Router
    private let connecting: [any ConnectingRelay]
    /// Which of them, if any, has which domains.
    private let explained: [(matches: @Sendable (String) -> Bool, relay: (any ConnectingRelay)?)]
    private let leases: [Lease]
    /// Those of domains, as the relays ask for them.
    let policies: STSPolicies
    /// Who hands in TLS reports; nil: none are sent.
    let reporting: (verifying: HTTPSClient, lenient: HTTPSClient)?
    private let resolverLease: Lease
    private let identities: IdentityWatch

    /// What the operator has to put right.
    var complaints: [String] { connecting.compactMap(\.complaint) + identities.findings }

    /// - Parameters:
    ///   - passwords: the relays' own, by the reference that names them.
    ///   - keys: their keys and certificates, likewise.
    ///   - connections: how many each relay may have.
    ///   - resolverLease: is held for as long as the relays ask `resolver`.
    init(
        _ file: ConfigurationFile, hostname: String, passwords: [String: String], keys: [String: [UInt8]],
        connections: Int,
        resolver: SlimtaDNS.Resolver, lease resolverLease: Lease, on ground: Ground
    ) throws {
        let values = file.values
        // Whoever has a domain says where its policy is: no nearer to us than its mail may go.
        var networks = PermittedNetworks(allowed: values.relay.allowNetworks, refused: values.relay.refuseNetworks)
        let strangers = try HTTPSClient(resolver: resolver, group: ground.group, networks: networks)
        // Where tokens are had is our operator's choice.
        let chosen = try HTTPSClient(resolver: resolver, group: ground.group)
        // Of reports he says the whole URL.
        networks.refused += PermittedNetworks.privateNetworks
        let receivers = try (values.tlsReport == nil ? [] : [true, false]).map { verifies in
            try HTTPSClient(resolver: resolver, group: ground.group, networks: networks, verifies: verifies)
        }
        reporting = receivers.isEmpty ? nil : (verifying: receivers[0], lenient: receivers[1])
        policies = STSPolicies(ground.sts.cache, resolver: resolver, client: strangers, logger: ground.logger)
        var maker = RelayMaker(
            hostname: hostname, pipes: (file.socket(of: .pipes), file.stateDirectory), passwords: passwords,
            keys: keys, connections: connections, convertsToSevenBit: values.queue.sevenBit != .never,
            resolver: resolver, client: chosen,
            own: OwnAddresses(listeners: values.listenAddresses),
            security: RelaySecurity(
                memory: ground.tlsMemory.book, policies: policies,
                reports: values.tlsReport == nil ? nil : ground.tlsReports.reports, logger: ground.logger),
            demands: values.tlsDemands, ground: ground)
        var explained: [(matches: @Sendable (String) -> Bool, relay: (any ConnectingRelay)?)] = []
        func make(_ relay: Configuration.Relay, for matches: @escaping @Sendable (String) -> Bool) throws -> any Relay {
            let made = try maker.make(relay)
            explained.append((matches, relay.type.connects ? maker.connecting.last : nil))
            return made
        }
        let routes = try values.routes.map { route in
            let matches: @Sendable (String) -> Bool = { domain in route.domains.contains { $0.matches(domain) } }
            let origin = route.origin
            // For some senders alone: what is told of a domain is that of all others.
            let told: @Sendable (String) -> Bool = { origin.isEverybody && matches($0) }
            return Router.Route(matches: matches, isFor: origin.isFor, try make(route.relay, for: told))
        }
        router = Router(routes, otherwise: try make(values.relay) { _ in true })
        self.explained = explained
        connecting = maker.connecting
        leases =
            connecting.map { relay in Lease(ground.endings) { await relay.shutDown() } }
            + ([strangers] + receivers).map { client in Lease(ground.endings) { await client.shutDown() } }
            + [
                Lease(ground.endings) { [sources = Array(maker.tokens.values)] in
                    await chosen.shutDown()
                    for source in sources { await source.settled() }
                }
            ]
        self.resolverLease = resolverLease
        identities = IdentityWatch(values.identities(hostname), resolver: resolver, logger: ground.logger)
        identities.start()
    }

    /// Ends all connections and lookups now; attempts that still wait get temporary outcomes.
    func end() async {
        identities.end()
        await withDiscardingTaskGroup { tasks in for lease in leases { tasks.addTask { await lease.end() } } }
        await resolverLease.end()
    }

    func attempt(_ delivery: Delivery) async -> [Outcome] { await router.attempt(delivery) }

    /// How mail for a domain would go now; nil: to no host over the network.
    func explain(_ domain: String) async -> TLSPlanReport? {
        guard let relay = explained.first(where: { $0.matches(domain) })?.relay,
            let said = await relay.explain(domain)
        else { return nil }
        return TLSPlanReport(
            isTrusted: said.isTrusted, policy: said.policy,
            hosts: said.hosts.map {
                .init(
                    name: $0.name, addresses: $0.addresses, plan: $0.plan, reasons: $0.reasons,
                    error: $0.error?.description)
            },
            error: said.error?.description)
    }

    func forgetFailures() { router.forgetFailures() }

    func destination(for domain: String) -> String { router.destination(for: domain) }

    func destination(for domain: String, of envelope: Envelope) -> String {
        router.destination(for: domain, of: envelope)
    }

    func destinations(for domain: String) -> Set<String> { router.destinations(for: domain) }
}

extension RouteOrigin {
    /// Whether an envelope is from one of them; nil: it does not matter.
    fileprivate var isFor: (@Sendable (Envelope) -> Bool)? {
        guard !isEverybody else { return nil }
        return { envelope in contains(envelope.sender, login: envelope.client.login) }
    }
}

extension Configuration {
    /// As whom strangers see us, whom mail goes to directly.
    func identities(_ hostname: String) -> [OutwardIdentity] {
        let direct = ([relay] + routes.map(\.relay)).filter { $0.type == .mx }
        let system = direct.contains { $0.sourceAddresses.isEmpty } ? SourceAddresses.ofSystem() : []
        return direct.flatMap { relay in
            (relay.sourceAddresses.isEmpty ? system : relay.sourceAddresses).map { address in
                OutwardIdentity(address: address, name: relay.hostname ?? hostname)
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
