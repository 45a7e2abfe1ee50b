// The relays that a configuration asks for, behind one router. Made at start and at each reload, retired when nothing is
// attempted with them any more.

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

/// `[relay]`, every `[[route]]`, and what they stand on.
final class RelaySet: Sendable {
    /// What the queue makes attempts with.
    let relay: any Relay
    private let resolver: SlimtaDNS.Resolver
    private let threads: NIOThreadPool
    private let closers: [@Sendable () async -> Void]

    /// - Parameter secrets: has the relays' passwords.
    init(
        _ file: ConfigurationFile, _ secrets: Secrets, group: any EventLoopGroup, logger: Logger
    ) throws(Failure) {
        let values = file.values
        let hostname = file.hostname
        do {
            let resolver = try values.makeResolver()
            let threads = NIOThreadPool(numberOfThreads: 2)
            var closers: [@Sendable () async -> Void] = []
            let own = OwnAddresses(listeners: values.listenAddresses)

            func make(_ relay: Configuration.Relay) throws -> any Relay {
                let options = relay.options(hostname: hostname)
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
            relay = Router(routes, otherwise: try make(values.relay))
            threads.start()
            self.resolver = resolver
            self.threads = threads
            self.closers = closers
        } catch {
            throw Failure(.unavailable, "relay: \(error)")
        }
    }

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
            state.set { ($0.validation, $0.validationReason) = ("unavailable", "\(reason)") }
            logger.notice("DNS answers cannot be validated on this network", metadata: ["reason": "\(reason)"])
        }
    }

    /// Ends all connections; attempts that still wait get temporary outcomes.
    func close() async {
        for closer in closers { await closer() }
        await resolver.close()
        try? await threads.shutdownGracefully()
    }
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
        options.commandTimeout = commandTimeout
        options.dataTimeout = dataTimeout
        options.idleTimeout = idleTimeout
        options.connections = connections
        options.connectionsPerDestination = connectionsPerDestination
        options.sourceAddresses = sourceAddresses.map(\.description)
        return options
    }
}
