// [relay] and [[route]]: a route is a relay for some domains, and what it does not say it has from [relay]. Called by
// `Configuration.parse`.

import SlimtaMail

/// A relay as one table describes it, and `[relay]` where the table says nothing.
struct RelayReader {
    /// What `type` may say.
    enum Kind: String, CaseIterable {
        case mx, smtp, lmtp, http, maildir, pipe, blackhole
    }

    private typealias Relay = Configuration.Relay

    /// The types that a key is for, where it is not for all of them.
    private static let kinds: [String: Set<Kind>] = [
        "port": [.mx], "allow_networks": [.mx], "refuse_networks": [.mx],
        "tls_memory": [.mx, .smtp, .lmtp], "host": [.smtp, .lmtp], "hosts": [.smtp, .lmtp], "priority": [.smtp, .lmtp],
        "hostname": [.mx, .smtp, .lmtp, .http], "ip": [.mx, .smtp, .lmtp], "username": [.smtp, .lmtp, .http],
        "password_file": [.smtp, .lmtp, .http], "socket": [.lmtp, .http],
        "url": [.http], "token_file": [.http], "trust_file": [.http],
        "path": [.maildir], "auth": [.smtp, .lmtp],
        "client_certificate": [.mx, .smtp, .lmtp], "client_key": [.mx, .smtp, .lmtp],
    ].merging(PipeKeys.names.map { ($0, [.pipe]) }) { $1 }.merging(TokenKeys.names.map { ($0, [.smtp, .lmtp]) }) { $1 }
    /// The keys of [relay] that decide what a route lacks: if one of them is wrong, nothing is said of that.
    private static let deciding = ["host", "hosts", "socket", "path", "tls", "url", "command"]

    private var kind: Kind
    private var relay: Configuration.Relay
    private var host: HostPort?
    private var otherHosts: [HostPort]
    private var isByPriority: Bool
    private var socket: String?
    private var login: LoginKeys
    private var certificate: ClientCertificateKeys
    private var http: HTTPKeys
    private var path: String?
    private var pipe: PipeKeys

    /// Reads [relay] and all of [[route]].
    ///
    /// - Parameter isSigned: what leaves is, some of it at least.
    static func read(
        _ table: Section, routes: [Section], isSigned: Bool
    ) -> (relay: Configuration.Relay, routes: [Configuration.Route]) {
        let base = RelayReader(table, base: nil, isSigned: isSigned)
        table.refuseUnknownKeys()
        let relay = base.complete(table, isWhole: table.isSound("type"))

        var taken: [DomainPattern: String] = [:]
        let complete = routes.map { route in
            let own = RelayReader(route, base: base, isSigned: isSigned)
            let origin = RouteOrigin(route)
            // For some senders a domain may go another way than for others.
            var others: [DomainPattern: String] = [:]
            let domains =
                origin.isEverybody ? readDomains(route, &taken) : readDomains(route, &others, isRequired: false)
            route.refuseUnknownKeys()
            let isWhole =
                route.isSound("type") && (route.has("type") || table.isSound("type"))
                && Self.deciding.allSatisfy { table.isSound($0) }
            return Configuration.Route(
                domains: domains, origin: origin, relay: own.complete(route, isWhole: isWhole))
        }
        checkProcesses([(table, relay)] + zip(routes, complete).map { ($0, $1.relay) })
        return (relay, complete)
    }

    /// - Parameter base: what holds where the table says nothing; nil: the defaults do.
    private init(_ table: Section, base: RelayReader?, isSigned: Bool) {
        relay = base?.relay ?? Relay()
        kind = table["type"]?.choice() ?? base?.kind ?? .mx
        relay.rewrites.read(table, isSigned: isSigned)
        relay.readSettings(table)
        // What another type goes to is not inherited: it speaks something else there.
        let base = base?.kind == kind ? base : nil
        let isElsewhere = ["host", "hosts", "socket", "url"].contains { table.has($0) }
        let place = isElsewhere ? nil : base
        let kind = kind
        let hosts = table["hosts"]?.distinctList(of: "hosts", mayBeEmpty: false) { $0.host(of: kind) } ?? []
        host = table["host"]?.host(of: kind) ?? hosts.first ?? place?.host
        otherHosts = isElsewhere ? Array(hosts.dropFirst()) : place?.otherHosts ?? []
        isByPriority = table["priority"]?.bool() ?? place?.isByPriority ?? false
        socket = table["socket"]?.unixSocket() ?? place?.socket
        // A password is for the host that it was given for, and for no other.
        certificate = ClientCertificateKeys(table, inherited: base?.certificate)
        login = LoginKeys(
            table, inherited: table.has("token_file") ? nil : place?.login, hasCertificate: certificate.pair != nil)
        http = HTTPKeys(table, inherited: base?.http)
        path = table["path"]?.absolutePath() ?? base?.path
        pipe = PipeKeys(table, base: base?.pipe)
    }

    static func readDomains(
        _ table: Section, _ taken: inout [DomainPattern: String], isRequired: Bool = true
    ) -> [DomainPattern] {
        let description = "a list such as [\"example.net\", \"*.example.org\"]"
        let setting = isRequired ? table.required("domains", description) : table["domains"]
        if setting == nil, !isRequired { return [DomainPattern("*")].compactMap(\.self) }
        return setting?
            .list(of: "domains", mayBeEmpty: false) { element in
                let allowed = "\"example.net\", \"*.example.org\" for all below it, or \"*\""
                guard let pattern = element.text(allowed, DomainPattern.init) else { return nil }
                if let other = taken.updateValue(element.path, forKey: pattern) {
                    element.mistakes.report(
                        element.path, "found \(element.shown), which \(other) takes", "allowed is each once")
                    return nil
                }
                return pattern
            } ?? []
    }

    /// The relay that all this makes. `table` is where it was said, with what was inherited left out; not `isWhole`:
    /// something that decides what is missing is itself wrong and was reported.
    private func complete(_ table: Section, isWhole: Bool) -> Configuration.Relay {
        let login = login.login(isWhole ? table : nil)
        if isWhole {
            checkKeys(table)
            checkPlace(table)
            self.login.check(table, kind == .http ? .required : relay.tls)
            certificate.check(table, relay.tls)
            if kind == .http { http.check(table, login, socket: socket) }
        }
        /// What the type cannot be without.
        func required<Value>(_ value: Value?, _ key: String, _ description: String) -> Value? {
            if value == nil, isWhole, table.isSound(key) {
                table.report(key, "missing", "required with type \"\(kind.rawValue)\" is \(description)")
            }
            return value
        }
        var relay = relay
        relay.clientCertificate = certificate.pair
        (relay.otherHosts, relay.isByPriority) = (otherHosts, isByPriority)
        relay.type =
            switch kind {
            case .mx: .mx
            case .smtp:
                .smtp(
                    host: required(host, "host", "a host such as \"mail.example.com:587\"")
                        ?? HostPort(host: "", port: 0),
                    login: login)
            case .lmtp:
                if let socket {
                    .lmtpSocket(path: socket)
                } else {
                    .lmtp(
                        host: (table.isSound("socket")
                            ? required(
                                host, "host", "a host such as \"mail.example.com:24\", or socket = \"unix:/path\"")
                            : host) ?? HostPort(host: "", port: 0),
                        login: login)
                }
            case .http:
                .http(
                    required(
                        http.server(login, socket: socket), "url",
                        "a URL such as \"https://mail.example.com/submit\"")
                        ?? Relay.HTTP(url: .nowhere))
            case .maildir: .maildir(path: required(path, "path", "an absolute path") ?? "")
            case .pipe: .pipe(required(pipe.whole, "command", "a list such as [\"/usr/lib/x\", \"{user}\"]") ?? .init())
            case .blackhole: .blackhole
            }
        return relay
    }

    /// Where LMTP cannot go, and what a UNIX socket has no use for.
    private func checkPlace(_ table: Section) {
        if table.has("hosts"), table.has("host") {
            table.report("hosts", "found with host", "allowed is one of them")
        }
        if table.has("priority"), otherHosts.isEmpty, table.isSound("hosts") {
            table.report("priority", "found without several hosts", "allowed is it with hosts = [...]")
        }
        guard kind == .lmtp else { return }
        if table.has("host"), host?.port == 25 {
            table.report(
                "host", "found port 25, which is SMTP's", "allowed is any other, such as 24 (RFC 2033 section 5)")
        }
        guard socket != nil else { return }
        for key in ["host", "hosts", "username", "password_file"] where table.has(key) && table.isSound(key) {
            table.report(key, "found with socket", "allowed is it without one")
        }
        if table.has("tls"), relay.tls.isDemand {
            table.report(
                "tls", "found \"\(relay.tls.rawValue)\" with socket",
                "allowed is it with host: a UNIX socket has no TLS")
        }
    }

    /// Keys that this type has no use for: a setting that does nothing is a mistake.
    private func checkKeys(_ table: Section) {
        for (key, kinds) in Self.kinds.sorted(by: { $0.key < $1.key }) where table.has(key) && !kinds.contains(kind) {
            guard table.isSound(key) else { continue }
            let allowed = Kind.allCases.filter(kinds.contains).map { "\"\($0.rawValue)\"" }.joined(separator: ", ")
            table.report(key, "found with type \"\(kind.rawValue)\"", "allowed is it with type \(allowed) only")
        }
    }
}

extension Configuration.Relay {
    /// The keys that every relay has, and those that are plain values. What the table does not say stays as it is.
    fileprivate mutating func readSettings(_ table: Section) {
        hostname = table["hostname"]?.hostname() ?? hostname
        addresses = table["ip"]?.choice() ?? addresses
        port = table["port"]?.integer(1...65535) ?? port
        tls = table["tls"]?.choice() ?? tls
        tlsMemory = table["tls_memory"]?.choice() ?? tlsMemory
        connectTimeout = table["connect_timeout"]?.duration(.seconds(1) ... .hours(1)) ?? connectTimeout
        greetingTimeout = table["greeting_timeout"]?.duration(.seconds(1) ... .hours(1)) ?? greetingTimeout
        commandTimeout = table["command_timeout"]?.duration(.seconds(1) ... .hours(1)) ?? commandTimeout
        leastRate = table["least_rate"]?.size(0...1 << 30) ?? leastRate
        stallTimeout = table["stall_timeout"]?.duration(.seconds(1) ... .hours(1)) ?? stallTimeout
        dataTimeout = table["data_timeout"]?.duration(.seconds(1) ... .days(1)) ?? dataTimeout
        attemptTimeout = table["attempt_timeout"]?.duration(.seconds(1) ... .days(1)) ?? attemptTimeout
        idleTimeout = table["idle_timeout"]?.duration(.seconds(0) ... .hours(1)) ?? idleTimeout
        connections = table["connections"]?.integer(1...100_000) ?? connections
        connectionsPerDestination =
            table["connections_per_destination"]?.integer(1...100_000) ?? connectionsPerDestination
        sourceAddresses =
            table["source_addresses"]?.distinctList(of: "IP addresses", mayBeEmpty: true) { element in
                element.text("an IP address of this machine, without a port") { text in
                    IPAddress(text).flatMap { $0.isUnspecified ? nil : $0 }
                }
            } ?? sourceAddresses
        allowNetworks =
            table["allow_networks"]?.list(of: "networks", mayBeEmpty: true) { $0.network() } ?? allowNetworks
        refuseNetworks =
            table["refuse_networks"]?.list(of: "networks", mayBeEmpty: true) { $0.network() } ?? refuseNetworks
    }
}

extension Setting {
    /// The host that a relay goes to; LMTP has a port of its own where none is said (RFC 2033 section 5 and the registry of
    /// ports).
    fileprivate func host(of kind: RelayReader.Kind) -> HostPort? {
        switch kind {
        case .lmtp:
            text("a host with or without a port, such as \"mail.example.com:24\", \"[2001:db8::1]:24\"") {
                HostPort($0, defaultPort: 24)
            }
        case .mx, .smtp, .http, .maildir, .pipe, .blackhole:
            text("a host with its port, such as \"mail.example.com:587\", \"[2001:db8::1]:25\"") { HostPort($0) }
        }
    }

    /// The path of a UNIX socket.
    fileprivate func unixSocket() -> String? {
        address("a UNIX socket such as \"unix:/run/dovecot/lmtp\"") { text in
            if case .unix(let path) = ListenAddress(text) { path } else { nil }
        }
    }
}
