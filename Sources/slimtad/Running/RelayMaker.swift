// Makes the relay that [relay] or a [[route]] asks for: what the configuration says is put into the words of SlimtaRelay.
// Used by RelaySet; a new type of relay has its case here.

import NIOCore
import SlimtaConfiguration
import SlimtaDNS
import SlimtaMail
import SlimtaQueue
import SlimtaRelay
import SlimtaRules
import SlimtaSASL
import SlimtaSMTP
import SlimtaTLS

/// What the relays of one configuration share while they are made.
struct RelayMaker {
    let hostname: String
    /// Where the helper of pipes listens, and where messages are while commands read them.
    let pipes: (helper: String, folder: String)
    /// The relays' own, by the reference that names them.
    let passwords: [String: String]
    /// Their keys and certificates, likewise.
    let keys: [String: [UInt8]]
    /// How many connections each may have.
    let connections: Int
    /// Whether messages are made 7-bit for hosts that need that.
    let convertsToSevenBit: Bool
    let resolver: SlimtaDNS.Resolver
    /// Who asks token endpoints.
    let client: HTTPSClient
    /// Where we listen ourselves.
    let own: OwnAddresses
    /// What they know of hosts together, and what is demanded of some.
    let security: RelaySecurity
    let demands: [TLSDemand]
    let ground: Ground
    /// Those that have to be ended.
    private(set) var connecting: [any ConnectingRelay] = []
    /// Who has tokens: relays with one identity have one.
    private(set) var tokens: [TokenSettings: TokenSource] = [:]

    init(
        hostname: String, pipes: (helper: String, folder: String), passwords: [String: String],
        keys: [String: [UInt8]], connections: Int, convertsToSevenBit: Bool, resolver: SlimtaDNS.Resolver,
        client: HTTPSClient, own: OwnAddresses, security: RelaySecurity, demands: [TLSDemand], ground: Ground
    ) {
        self.hostname = hostname
        self.pipes = pipes
        self.passwords = passwords
        self.keys = keys
        self.connections = connections
        self.convertsToSevenBit = convertsToSevenBit
        self.resolver = resolver
        self.client = client
        self.own = own
        (self.security, self.demands) = (security, demands)
        self.ground = ground
    }

    mutating func make(_ relay: Configuration.Relay) throws -> any Relay {
        let made = try makePlain(relay)
        return relay.rewrites.isEmpty ? made : RewritingRelay(made, relay.rewrites)
    }

    private mutating func makePlain(_ relay: Configuration.Relay) throws -> any Relay {
        switch relay.type {
        case .mx:
            return kept(
                try MXRelay(
                    try options(relay), resolver: resolver, own: own, security: security, demands: demands,
                    sites: ground.sites.sites, group: ground.group, logger: ground.logger))
        case .smtp(let host, let login):
            return try fixed(relay, try options(relay), [host] + relay.otherHosts, login)
        case .lmtp(let host, let login):
            return try fixed(relay, try options(relay, .lmtp), [host] + relay.otherHosts, login)
        case .lmtpSocket(let path):
            var options = try options(relay, .lmtp)
            // Nobody can listen in, and no server offers it there.
            options.security = .none
            return try fixed(relay, options, to: [.socket(path)], nil)
        case .http(let server):
            return kept(
                try HTTPRelay(
                    try options(relay), to: service(server), resolver: resolver, group: ground.group,
                    logger: ground.logger))
        case .maildir(let path):
            return MaildirRelay(
                path: path, hostname: hostname, threads: ground.fileThreads, logger: ground.logger)
        case .pipe(let pipe):
            return kept(
                PipeRelay(
                    pipe.settings, helper: pipes.helper, folder: pipes.folder, threads: ground.fileThreads,
                    group: ground.group, logger: ground.logger))
        case .blackhole: return BlackholeRelay()
        }
    }

    private mutating func fixed(
        _ relay: Configuration.Relay, _ options: RelayOptions, _ hosts: [HostPort], _ login: Configuration.Relay.Login?
    ) throws -> any Relay {
        try fixed(relay, options, to: hosts.map { .host($0.host, port: $0.port) }, login)
    }

    private mutating func fixed(
        _ relay: Configuration.Relay, _ options: RelayOptions, to places: [FixedHostRelay.Place],
        _ login: Configuration.Relay.Login?
    ) throws -> any Relay {
        kept(
            try FixedHostRelay(
                options, to: places, isInOrder: relay.isByPriority, login: login.map { self.login($0) },
                resolver: resolver, security: security, demands: places.contains(where: \.isSocket) ? [] : demands,
                sites: ground.sites.sites, group: ground.group, logger: ground.logger))
    }

    private mutating func kept(_ relay: some ConnectingRelay) -> any Relay {
        connecting.append(relay)
        return relay
    }

    private mutating func login(_ login: Configuration.Relay.Login) -> RelayLogin {
        switch login.proof {
        case .password(let file):
            return .credentials(.init(username: login.username, password: passwords[file] ?? ""))
        case .certificate: return .credentials(.init(username: login.username, .certificate))
        case .tokens(let tokens):
            let settings = settings(tokens, login.username)
            if let known = self.tokens[settings] { return .tokens(known) }
            let source = TokenSource(
                settings, client: client, store: ground.refreshTokens.store(of: settings, in: pipes.folder),
                threads: ground.fileThreads, logger: ground.logger)
            self.tokens[settings] = source
            return .tokens(source)
        }
    }

    private func settings(_ tokens: RelayTokens, _ username: String) -> TokenSettings {
        let endpoint = HTTPSClient.Place(
            host: tokens.endpoint.host.host, port: tokens.endpoint.host.port, target: tokens.endpoint.target)
        let proof: TokenSettings.Proof =
            switch tokens.proof {
            case .none: .none
            case .secret(let file): .secret(passwords[file] ?? "")
            case .key(let file): .key(keys[file] ?? [])
            }
        let grant: TokenSettings.Grant =
            switch tokens.grant {
            case .refreshToken(let file): .refreshToken(passwords[file] ?? "")
            case .clientCredentials: .clientCredentials
            case .assertion(let issuer, let subject, let audience):
                .assertion(issuer: issuer, subject: subject, audience: audience)
            }
        return TokenSettings(
            endpoint: endpoint, username: username, clientID: tokens.clientID, proof: proof, grant: grant,
            scope: tokens.scope, margin: tokens.margin)
    }

    private func service(_ server: Configuration.Relay.HTTP) -> HTTPRelay.Service {
        let login: HTTPRelay.Login? =
            switch server.access {
            case .basic(let login):
                .basic(username: login.username, password: passwords[login.passwordFile ?? ""] ?? "")
            case .bearer(let file): .bearer(token: passwords[file] ?? "")
            case nil: nil
            }
        return HTTPRelay.Service(
            isSecure: server.url.isSecure, host: server.url.host.host, port: server.url.host.port,
            target: server.url.target, socket: server.socket, login: login, trustFile: server.trustFile)
    }

    private func options(
        _ relay: Configuration.Relay, _ dialect: SMTPDialect = .smtp
    ) throws(TLSError) -> RelayOptions {
        var options = RelayOptions(hostname: relay.hostname ?? hostname)
        options.otherNames = [hostname]
        options.addresses = relay.addresses
        options.dialect = dialect
        options.port = relay.port
        options.security = relay.tls.floor
        options.tlsMemory =
            switch relay.tlsMemory {
            case .enforce: .enforce
            case .report: .report
            case .off: .off
            }
        options.connectTimeout = relay.connectTimeout
        options.greetingTimeout = relay.greetingTimeout
        options.commandTimeout = relay.commandTimeout
        options.leastRate = relay.leastRate
        options.stallTimeout = relay.stallTimeout
        options.dataTimeout = relay.dataTimeout
        options.attemptTimeout = relay.attemptTimeout
        options.idleTimeout = relay.idleTimeout
        options.connections = min(relay.connections, connections)
        options.connectionsPerDestination = relay.connectionsPerDestination
        options.sourceAddresses = relay.sourceAddresses.map(\.description)
        options.identity = try relay.clientCertificate.map { pair throws(TLSError) in
            try TLSIdentity(certificatePEM: keys[pair.certificate] ?? [], keyPEM: keys[pair.key] ?? [])
        }
        options.convertsToSevenBit = convertsToSevenBit
        options.networks = PermittedNetworks(allowed: relay.allowNetworks, refused: relay.refuseNetworks)
        return options
    }
}

extension FixedHostRelay.Place {
    /// Nobody can listen in there.
    fileprivate var isSocket: Bool {
        switch self {
        case .host: false
        case .socket: true
        }
    }
}

extension RelayTLSMode {
    /// What SlimtaRelay calls it.
    fileprivate var floor: TLSFloor {
        switch self {
        case .opportunistic: .opportunistic
        case .required: .required
        case .verify: .verify
        case .dane: .dane
        case .cleartext: .none
        }
    }
}

extension Configuration {
    /// `[[tls_policy]]`, as relays are told.
    var tlsDemands: [TLSDemand] {
        tlsPolicies.map { policy in
            TLSDemand(policy.tls.floor, names: policy.names) { domain in
                policy.domains.contains { $0.matches(domain) }
            }
        }
    }
}

extension PipeSettings {
    fileprivate var settings: PipeRelay.Settings {
        PipeRelay.Settings(
            command: command, environment: environment, user: user, processes: processes, timeout: timeout,
            endsLinesWithLF: lineEnd == .lf)
    }
}
