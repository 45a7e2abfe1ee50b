// [relay] and [[route]]: a route is a relay for some domains, and what it does not say it has from [relay]. Called by
// `Configuration.parse`.

import SlimtaMail

/// What one table says of a relay; nil where it says nothing.
struct RelayReader {
    private enum Kind: String, CaseIterable {
        case mx, smtp, maildir, blackhole
    }

    private typealias Relay = Configuration.Relay

    private var type: Kind?
    private var port: Int?
    private var tls: Relay.TLSMode?
    private var connectTimeout: Duration?
    private var greetingTimeout: Duration?
    private var commandTimeout: Duration?
    private var leastRate: Int?
    private var stallTimeout: Duration?
    private var dataTimeout: Duration?
    private var attemptTimeout: Duration?
    private var idleTimeout: Duration?
    private var connections: Int?
    private var connectionsPerDestination: Int?
    private var sourceAddresses: [IPAddress]?
    private var allowNetworks: [NetworkRange]?
    private var refuseNetworks: [NetworkRange]?
    private var host: HostPort?
    private var username: String?
    private var passwordFile: String?
    private var path: String?

    /// Reads [relay] and all of [[route]].
    static func read(
        _ table: Section, routes: [Section]
    ) -> (relay: Configuration.Relay, routes: [Configuration.Route]) {
        let base = RelayReader(table)
        table.refuseUnknownKeys()
        let relay = base.complete(table, isWhole: table.isSound("type"))

        var taken: [DomainPattern: String] = [:]
        let complete = routes.map { route in
            let own = RelayReader(route)
            let domains = readDomains(route, &taken)
            route.refuseUnknownKeys()
            let isWhole = route.isSound("type") && (own.type != nil || table.isSound("type"))
            return Configuration.Route(
                domains: domains,
                relay: own.inheriting(base).complete(route, isWhole: isWhole && table.isSound("host", "path", "tls")))
        }
        return (relay, complete)
    }

    private init(_ table: Section) {
        type = table["type"]?.choice()
        port = table["port"]?.integer(1...65535)
        tls = table["tls"]?.choice()
        connectTimeout = table["connect_timeout"]?.duration(.seconds(1) ... .hours(1))
        greetingTimeout = table["greeting_timeout"]?.duration(.seconds(1) ... .hours(1))
        commandTimeout = table["command_timeout"]?.duration(.seconds(1) ... .hours(1))
        leastRate = table["least_rate"]?.size(0...1 << 30)
        stallTimeout = table["stall_timeout"]?.duration(.seconds(1) ... .hours(1))
        dataTimeout = table["data_timeout"]?.duration(.seconds(1) ... .days(1))
        attemptTimeout = table["attempt_timeout"]?.duration(.seconds(1) ... .days(1))
        idleTimeout = table["idle_timeout"]?.duration(.seconds(0) ... .hours(1))
        connections = table["connections"]?.integer(1...100_000)
        connectionsPerDestination = table["connections_per_destination"]?.integer(1...100_000)
        sourceAddresses = table["source_addresses"]?.distinctList(of: "IP addresses", mayBeEmpty: true) { element in
            element.text("an IP address of this machine, without a port") { text in
                IPAddress(text).flatMap { $0.isUnspecified ? nil : $0 }
            }
        }
        allowNetworks = table["allow_networks"]?.list(of: "networks", mayBeEmpty: true) { $0.network() }
        refuseNetworks = table["refuse_networks"]?.list(of: "networks", mayBeEmpty: true) { $0.network() }
        host = table["host"]?.text("a host with its port, such as \"mail.example.com:587\", \"[2001:db8::1]:25\"") {
            HostPort($0)
        }
        username = table["username"]?.text("up to 255 characters without control characters") { name in
            (1...255).contains(name.utf8.count) && name.hasNoASCIIControl ? name : nil
        }
        passwordFile = table["password_file"]?.fileReference()
        path = table["path"]?.absolutePath()
    }

    private static func readDomains(_ table: Section, _ taken: inout [DomainPattern: String]) -> [DomainPattern] {
        table.required("domains", "a list such as [\"example.net\", \"*.example.org\"]")?
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

    /// What this says, and for the rest what `base` says.
    private func inheriting(_ base: RelayReader) -> RelayReader {
        var whole = self
        whole.type = type ?? base.type
        whole.port = port ?? base.port
        whole.tls = tls ?? base.tls
        whole.connectTimeout = connectTimeout ?? base.connectTimeout
        whole.greetingTimeout = greetingTimeout ?? base.greetingTimeout
        whole.commandTimeout = commandTimeout ?? base.commandTimeout
        whole.leastRate = leastRate ?? base.leastRate
        whole.stallTimeout = stallTimeout ?? base.stallTimeout
        whole.dataTimeout = dataTimeout ?? base.dataTimeout
        whole.attemptTimeout = attemptTimeout ?? base.attemptTimeout
        whole.idleTimeout = idleTimeout ?? base.idleTimeout
        whole.connections = connections ?? base.connections
        whole.connectionsPerDestination = connectionsPerDestination ?? base.connectionsPerDestination
        whole.sourceAddresses = sourceAddresses ?? base.sourceAddresses
        whole.allowNetworks = allowNetworks ?? base.allowNetworks
        whole.refuseNetworks = refuseNetworks ?? base.refuseNetworks
        whole.host = host ?? base.host
        whole.path = path ?? base.path
        // A password is for the host that it was given for, and for no other.
        if host == nil, username == nil, passwordFile == nil {
            (whole.username, whole.passwordFile) = (base.username, base.passwordFile)
        }
        return whole
    }

    /// The relay that all this makes. `table` is where it was said, with what was inherited left out; not `isWhole`:
    /// something that decides what is missing is itself wrong and was reported.
    private func complete(_ table: Section, isWhole: Bool) -> Configuration.Relay {
        var relay = Relay()
        relay.port = port ?? relay.port
        relay.tls = tls ?? relay.tls
        relay.connectTimeout = connectTimeout ?? relay.connectTimeout
        relay.greetingTimeout = greetingTimeout ?? relay.greetingTimeout
        relay.commandTimeout = commandTimeout ?? relay.commandTimeout
        relay.leastRate = leastRate ?? relay.leastRate
        relay.stallTimeout = stallTimeout ?? relay.stallTimeout
        relay.dataTimeout = dataTimeout ?? relay.dataTimeout
        relay.attemptTimeout = attemptTimeout ?? relay.attemptTimeout
        relay.idleTimeout = idleTimeout ?? relay.idleTimeout
        relay.connections = connections ?? relay.connections
        relay.connectionsPerDestination = connectionsPerDestination ?? relay.connectionsPerDestination
        relay.sourceAddresses = sourceAddresses ?? relay.sourceAddresses
        relay.allowNetworks = allowNetworks ?? relay.allowNetworks
        relay.refuseNetworks = refuseNetworks ?? relay.refuseNetworks

        let type = type ?? .mx
        if isWhole {
            checkKeys(table, of: type)
            checkLogin(table, relay.tls)
        }
        switch type {
        case .mx: relay.type = .mx
        case .blackhole: relay.type = .blackhole
        case .smtp:
            if host == nil, isWhole, table.isSound("host") {
                table.report(
                    "host", "missing", "required with type \"smtp\" is a host such as \"mail.example.com:587\"")
            }
            var login: Relay.Login?
            if let username, let passwordFile { login = Relay.Login(username: username, passwordFile: passwordFile) }
            relay.type = .smtp(host: host ?? HostPort(host: "", port: 0), login: login)
        case .maildir:
            if path == nil, isWhole, table.isSound("path") {
                table.report("path", "missing", "required with type \"maildir\" is an absolute path")
            }
            relay.type = .maildir(path: path ?? "")
        }
        return relay
    }

    /// Keys that this type has no use for: a setting that does nothing is a mistake.
    private func checkKeys(_ table: Section, of type: Kind) {
        let useful: [String: Kind] = [
            "host": .smtp, "username": .smtp, "password_file": .smtp, "path": .maildir, "port": .mx,
            "allow_networks": .mx, "refuse_networks": .mx,
        ]
        for (key, kind) in useful.sorted(by: { $0.key < $1.key }) where table.has(key) && kind != type {
            guard table.isSound(key) else { continue }
            table.report(
                key, "found with type \"\(type.rawValue)\"", "allowed is it with type \"\(kind.rawValue)\" only")
        }
    }

    private func checkLogin(_ table: Section, _ mode: Configuration.Relay.TLSMode) {
        guard table.isSound("username", "password_file") else { return }
        switch (username, passwordFile) {
        case (_?, nil):
            guard table.has("username") else { return }
            table.report("username", "found without password_file", "allowed are both or none")
        case (nil, _?):
            guard table.has("password_file") else { return }
            table.report("password_file", "found without username", "allowed are both or none")
        case (_?, _?):
            guard mode == .cleartext, table.has("username") || table.has("tls"), table.isSound("tls") else { return }
            table.report(
                table.has("tls") ? "tls" : "username",
                "found a login with tls = \"none\": the password would be readable",
                "allowed is \"required\" or \"opportunistic\" with a login")
        case (nil, nil): break
        }
    }
}
