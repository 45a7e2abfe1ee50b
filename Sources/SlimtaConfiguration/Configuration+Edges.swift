// [[edge]], and what makes an edge an open relay or useless. Called by `Configuration.parse`. Each kind of edge reads its
// own keys, and a key that its kind does not have is unknown.

import SlimtaMail

extension Configuration {
    static func readEdges(_ tables: [Section], hasTLS: Bool) -> [Edge] {
        var edges: [Edge] = []
        var names: [String: String] = [:]
        var folders: [String: String] = [:]
        var listeners: [(address: ListenAddress, path: String)] = []
        for table in tables {
            let edge = Edge(table, &listeners)
            if table.isSound("name"), let other = names.updateValue(table.path, forKey: edge.name) {
                table.report(
                    "name", "found \(KeyPath.quoted(edge.name)), which \(other) has", "allowed is a name of its own")
            }
            switch edge.type {
            case .smtp, .http: edge.check(table, hasTLS: hasTLS)
            case .sendmail, .directory: break
            }
            if let folder = edge.folder, table.isSound("path"),
                let other = folders.updateValue(table.path, forKey: folder)
            {
                table.report(
                    "path", "found \(KeyPath.quoted(folder)), which \(other) has", "allowed is each folder once")
            }
            edges.append(edge)
        }
        return edges
    }
}

extension Configuration.Edge {
    fileprivate init(_ table: Section, _ listeners: inout [(address: ListenAddress, path: String)]) {
        name =
            table.required("name", "a name such as \"submission\"")?
            .text("up to 64 letters, digits and any of \"-_.\"") { name in
                (1...64).contains(name.utf8.count) && name.utf8.allSatisfy(Setting.isNameOctet) ? name : nil
            } ?? ""
        // Without a type that is understood it is read as the kind that most are.
        switch table.required("type", Setting.words(of: Word.self))?.choice(of: Word.self) ?? .smtp {
        case .smtp:
            listen = Self.listen(table, &listeners)
            type = .smtp(SMTP(table))
        case .http:
            listen = Self.listen(table, &listeners)
            type = .http(HTTP(table))
        case .sendmail:
            listen = Self.listen(table, &listeners)
            type = .sendmail(Sendmail(table, listen))
        case .directory:
            listen = []
            type = .directory(Directory(table))
        }
        table.refuseUnknownKeys()
    }

    /// What the file calls the kinds.
    private enum Word: String, CaseIterable {
        case smtp, http, sendmail, directory
    }

    /// The folder that it takes files from.
    fileprivate var folder: String? { if case .directory(let directory) = type { directory.path } else { nil } }

    private static func listen(
        _ table: Section, _ listeners: inout [(address: ListenAddress, path: String)]
    ) -> [ListenAddress] {
        table.required("listen", "a list such as [\"[::]:587\"]")?
            .list(of: "addresses", mayBeEmpty: false) { listenAddress($0, &listeners) } ?? []
    }

    private static func listenAddress(
        _ setting: Setting, _ listeners: inout [(address: ListenAddress, path: String)]
    ) -> ListenAddress? {
        let allowed = "\"host:port\", \"[v6]:port\", \"unix:/path\" or \"systemd:NAME\""
        guard let address = setting.address(allowed, ListenAddress.init) else { return nil }
        if let other = listeners.first(where: { $0.address.overlaps(address) }) {
            let what = other.address == address ? "is" : "takes in or is part of"
            setting.mistakes.report(
                setting.path, "found \(setting.shown), which \(what) \(other.path)", "allowed is each address once")
            return nil
        }
        listeners.append((address, setting.path))
        return address
    }

    /// What each value allows and all together do not.
    fileprivate func check(_ table: Section, hasTLS: Bool) {
        let (tls, auth, plaintextAuth) = (access.tls, access.auth, access.plaintextAuth)
        if tls != .cleartext, table.isSound("tls"), !hasTLS {
            table.report(
                "tls", "found \"\(tls.rawValue)\" without a certificate",
                "allowed is \"none\", or a table [tls] with certificate and key")
        }
        if auth != .off, tls == .cleartext, !plaintextAuth, table.isSound("auth", "tls", "plaintext_auth") {
            table.report(
                "auth", "found \"\(auth.rawValue)\" with tls = \"none\", so that no client could authenticate",
                "allowed is auth with TLS, or with plaintext_auth = true on a loopback address")
        }
        if !access.proxyProtocol.isEmpty, table.isSound("listen", "proxy_protocol"), listen.allSatisfy(\.isUNIX) {
            table.report(
                "proxy_protocol", "found on an edge with UNIX sockets alone, where no proxy has an address",
                "allowed is it with a TCP address in listen")
        }
        guard !hasOnlyOwnClients, table.isSound("listen") else { return }
        let way = isLoopbackOnly ? " behind a proxy" : ""
        if plaintextAuth, table.isSound("plaintext_auth", "proxy_protocol") {
            table.report(
                "plaintext_auth", "found true on an edge that others can reach\(way)",
                "allowed is true only if all of listen is loopback or unix:, and without proxy_protocol")
        }
        if auth != .required, trust.isEmpty, table.isSound("auth", "trusted_networks", "proxy_protocol") {
            table.report(
                "auth",
                "found \"\(auth.rawValue)\" on an edge that others can reach\(way): without AUTH nobody may send there, it would "
                    + "be an open relay",
                "allowed is \"required\", or trusted_networks that say who may send without it")
        }
    }
}

extension Configuration.Edge.SMTP {
    fileprivate init(_ table: Section) {
        access = .init(table, tls: table["tls"]?.choice() ?? .starttls)
        banner = table["banner"]?.text(Self.bannerRule, Self.banner) ?? banner
        greetDelay = table["greet_delay"]?.duration(.zero ... .seconds(60)) ?? greetDelay
    }

    private static let bannerRule =
        "\"220 \", or a code of 4xx or 5xx to serve nobody, and up to 400 printable ASCII characters, with {hostname} where "
        + "the host's name is to be"

    /// RFC 5321 section 4.2: the second digit is 0 to 5.
    private static func banner(_ text: String) -> Configuration.Edge.Banner? {
        let digits = text.utf8.prefix(3)
        guard digits.count == 3, digits.allSatisfy(\.isASCIIDigit), let code = UInt16(text.prefix(3)),
            code == 220 || (400...599).contains(code) && code / 10 % 10 <= 5, text.utf8.dropFirst(3).first == 0x20,
            (5...404).contains(text.utf8.count), text.utf8.allSatisfy({ (0x20...0x7E).contains($0) })
        else { return nil }
        // Another word in braces would go out as it is.
        let rest = text.replacing("{hostname}", with: "")
        guard !rest.utf8.contains(UInt8(ascii: "{")), !rest.utf8.contains(UInt8(ascii: "}")) else { return nil }
        return Configuration.Edge.Banner(code: code, text: String(text.dropFirst(4)))
    }
}

extension Configuration.Edge.Directory {
    fileprivate init(_ table: Section) {
        path =
            table.required("path", "an absolute path such as \"/var/spool/slimtad/pickup\"")?
            .text("an absolute path, without \"/\" at its end and \"//\", \"/./\", \"/../\" in it", Self.folder) ?? ""
        ownerLogin = table["owner_login"]?.bool() ?? ownerLogin
        settle = table["settle"]?.duration(.zero ... .seconds(3600)) ?? settle
        let users = table["trusted_users"]?.userNames()
        trustedUsers = users ?? trustedUsers
        if users != nil, !ownerLogin, table.isSound("owner_login", "trusted_users") {
            table.report(
                "trusted_users", "found with owner_login = false, where everybody may send as anybody",
                "allowed is it with owner_login = true")
        }
    }

    /// One spelling for each folder, so that two edges cannot have the same.
    private static func folder(_ text: String) -> String? {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard text.first == "/", parts.count > 1, text.utf8.count < 200,
            parts.dropFirst().allSatisfy({ !["", ".", ".."].contains($0) })
        else { return nil }
        return text
    }
}

extension Configuration.Edge.HTTP {
    /// HTTP has no STARTTLS.
    private enum TLSWord: String, CaseIterable {
        case immediate
        case cleartext = "none"
    }

    fileprivate init(_ table: Section) {
        let tls = table["tls"]?.choice(of: TLSWord.self) ?? .immediate
        access = .init(table, tls: tls == .immediate ? .immediate : .cleartext)
        json = table["json"]?.bool() ?? json
        let reserved = json ? Self.jsonPaths : []
        path =
            table["path"]?.text(Self.pathRule + (json ? ", and not those of \"json\"" : "")) { text in
                reserved.contains { text == $0 || text.hasPrefix($0 + "/") } ? nil : Self.path(text)
            } ?? path
        serverNames =
            table["server_names"]?.list(of: "names such as \"mail.example.com\"", mayBeEmpty: true) { name in
                name.text("a domain name, without a port") { text in
                    HostName.fold(text).flatMap { HostName.looksLikeAddress($0) ? nil : $0 }
                }
            } ?? serverNames
        let needsNoLogin = access.auth != .required || !access.trustedNetworks.isEmpty
        if !serverNames.isEmpty, !needsNoLogin || access.tls != .cleartext,
            table.isSound("server_names", "auth", "tls", "trusted_networks")
        {
            table.report(
                "server_names", "found where a login or the certificate says whom a client means",
                "allowed is it with tls = \"none\", and without auth = \"required\" or with trusted_networks")
        }
    }

    /// What `json` serves.
    private static let jsonPaths = ["/v1", "/openapi.json"]

    private static let pathRule =
        "a path such as \"/\" or \"/submit\": up to 255 letters, digits and any of \"/-_.~\", from the root"

    private static func path(_ text: String) -> String? {
        let isPath =
            text.utf8.first == UInt8(ascii: "/") && text.utf8.count <= 255
            && text.utf8.allSatisfy { Setting.isNameOctet($0) || $0 == UInt8(ascii: "/") || $0 == UInt8(ascii: "~") }
        return isPath ? text : nil
    }
}

extension Configuration.Edge.Access {
    fileprivate init(_ table: Section, tls: TLSMode) {
        self.tls = tls
        auth = table["auth"]?.choice() ?? .required
        trustedNetworks =
            table["trusted_networks"]?.list(of: "networks", mayBeEmpty: true) {
                Self.network($0, "that trusts the whole world and makes an open relay; allowed are your own networks")
            } ?? []
        proxyProtocol =
            table["proxy_protocol"]?.list(of: "networks", mayBeEmpty: true) {
                Self.network(
                    $0, "then the whole world could say who it is; allowed are the networks of your own proxies")
            } ?? []
        plaintextAuth = table["plaintext_auth"]?.bool() ?? false
    }

    /// A network of our own, for whose clients more holds than for others. `reason` says what would come of it if everybody
    /// were in it.
    private static func network(_ setting: Setting, _ reason: String) -> NetworkRange? {
        guard let network = setting.network() else { return nil }
        return isTooWide(network) ? setting.refuse(reason) : network
    }

    /// No organisation's network is wider than 10.0.0.0/8, those that are nobody's elsewhere (fc00::/7, fe80::/10), or a
    /// /16 of the IPv6 internet, most of which is in 2000::/7: half of the world is as open as all of it.
    private static func isTooWide(_ network: NetworkRange) -> Bool {
        if network.base.isIPv4 { return network.prefixLength < 8 }
        let local = ["fc00::/7", "fe80::/10"].compactMap { NetworkRange($0) }
        let isLocal = local.contains { $0.contains(network.base) && network.prefixLength >= $0.prefixLength }
        return network.prefixLength < 16 && !isLocal
    }
}

extension Configuration.Edge {
    /// Whether clients can be logins.
    package var hasLogins: Bool {
        switch type {
        case .smtp, .http: access.auth != .off
        case .sendmail: true
        case .directory(let directory): directory.ownerLogin
        }
    }
}
