// slimta.conf, from its text to values: each table in turn, then what must fit together. Called by the composition
// root, at start, at reload and by `slimtad check`.

import SlimtaMail
import SlimtaSASL
import TOMLKit

extension Configuration {
    /// Reads the text of slimta.conf. `file` is its name for messages.
    ///
    /// Throws all mistakes at once: what is not TOML, unknown keys, wrong types, values out of range, and what is
    /// dangerous together.
    package static func parse(_ text: String, file: String) throws(ConfigurationErrors) -> Configuration {
        let understood = Understood(text, file: file)
        guard understood.mistakes.errors.isEmpty else { throw understood.mistakes }
        return understood.configuration
    }

    /// What is understood of a text that may have mistakes: not to run a daemon with, but enough to find one that runs.
    package struct Understood: Sendable {
        /// Has the default where a mistake is, or may be.
        package let configuration: Configuration
        /// By line; none: all is well.
        package let mistakes: ConfigurationErrors
        /// The settings, as "table.key", that are known for certain in spite of the mistakes.
        private let certain: Set<String>
        private let lineOf: [String: Int]

        /// Those that ``isCertain(_:_:)`` is asked for.
        private static let asked = [
            ("daemon", "user"), ("daemon", "group"), ("daemon", "state_directory"), ("daemon", "runtime_directory"),
            ("auth", "users"), ("auth", "mechanisms"), ("auth", "scram_iterations"),
        ]

        /// Reads the text of slimta.conf, of which `file` is the name for messages. Throws nothing: see ``mistakes``.
        package init(_ text: String, file: String) {
            guard text.utf8.count <= TOMLDocument.maximumSize else {
                let size = Size.text(TOMLDocument.maximumSize)
                configuration = Configuration(edges: [])
                mistakes = ConfigurationErrors(errors: [
                    ConfigurationError(
                        file: file, line: 1, keyPath: "", found: "the file is too long",
                        allowed: "allowed is up to \(size)")
                ])
                (certain, lineOf) = ([], [:])
                return
            }
            let document = TOMLDocument(text)
            let mistakes = Mistakes(file: file, document: document)
            for problem in document.problems { mistakes.report(problem) }
            var configuration = Configuration(edges: [])
            if let root = document.root { configuration.read(Section("", root, mistakes)) }
            self.configuration = configuration
            self.mistakes = ConfigurationErrors(errors: mistakes.sorted)
            lineOf = document.lineOf
            let root = document.root
            certain = Set(
                Self.asked.filter { table, key in
                    guard let root, mistakes.isSound("\(table).\(key)") else { return false }
                    if root[table]?.table?[key] != nil { return true }
                    return document.isTellingAbsence(ofTable: table)
                        && document.isTellingAbsence(of: key, in: table)
                }.map { "\($0).\($1)" })
        }

        /// The line of a key path such as "edge[0].listen", or of what it is in.
        package func line(of path: String) -> Int { TOMLDocument.line(of: path, in: lineOf) }

        /// Whether the setting is what the file says, or the default because the file says nothing.
        package func isCertain(_ table: String, _ key: String) -> Bool { certain.contains("\(table).\(key)") }
    }

    private mutating func read(_ root: Section) {
        hostname = root["hostname"]?.hostname()
        daemon.read(root.section("daemon"))
        log.read(root.section("log"))
        let tls = root.section("tls")
        if tls.exists { self.tls = TLS(tls) }
        let edges = root.sections("edge")
        self.edges = Self.readEdges(
            edges, hasTLS: tls.exists || !root.mistakes.document.isTellingAbsence(ofTable: "tls"))
        policyServices = Self.readPolicyServices(root.sections("policy_service"))
        spf.read(root.section("spf"))
        dnsbls = Self.readDNSBLs(root.sections("dnsbl"))
        rules = RuleReader.read(
            root.sections("rule"), lists: dnsbls,
            hasAllLists: root.isSound("dnsbl") && root.mistakes.document.isTellingAbsence(ofTable: "dnsbl"))
        limits.read(root.section("limits"))
        auth.read(root.section("auth"))
        self.tls?.asksClients = auth.knowsCertificates
        senders = SenderReader.read(root.section("sender_check"), tables: root.sections("senders"))
        quota = QuotaReader.read(root.section("quota"))
        forwards = Self.readForwards(root.sections("forward"))
        let spamAssassin = root.section("spamassassin")
        self.spamAssassin = SpamAssassinSettings(spamAssassin)
        signing = SigningReader.read(root.section("signing"), tables: root.sections("dkim"))
        milters = Self.readMilters(root.sections("milter"))
        queue.read(root.section("queue"))
        // A mistake in the database's table is told there.
        let isShared = queue.placement != .local || !root.mistakes.isSound("queue.postgresql")
        node.read(root.section("node"), isShared: isShared)
        checkRoles(root)
        let repair = root.section("repair")
        duplicates = repair["duplicates"]?.choice() ?? duplicates
        repair.refuseUnknownKeys()
        if queue.policies.contains(.spamassassin), !spamAssassin.exists,
            root.mistakes.document.isTellingAbsence(ofTable: "spamassassin")
        {
            root.report("spamassassin", "missing", "required is the table [spamassassin] with the policy of that name")
        }
        (relay, routes) = RelayReader.read(
            root.section("relay"), routes: root.sections("route"), isSigned: !signing.keys.isEmpty)
        tlsPolicies = Self.readTLSPolicies(root.sections("tls_policy"))
        tlsReport = TLSReportSettings(root.section("tls_report"))
        sites = Self.readSites(root.sections("site"))
        dns.read(root.section("dns"))
        checkDANE(root)
        root.refuseUnknownKeys()
    }

    /// Whether there are edges where mail is to come in. One file may be that of all machines: where no mail comes in, its edges
    /// are not opened.
    private mutating func checkRoles(_ root: Section) {
        if node.roles.contains(.edge) {
            if !root.has("edge"), root.mistakes.document.isTellingAbsence(ofTable: "edge") {
                root.report("edge", "missing", "required is at least one table [[edge]]")
            }
        } else {
            (edges, closedEdges) = ([], edges)
        }
        if !node.roles.contains(.relay), case .postgresql(let settings) = queue.placement, settings.whenAway == .local {
            root.mistakes.report(
                "queue.postgresql[0].when_away", "found \"local\" without \"relay\" in roles of [node]",
                "allowed is \"refuse\" there: what the local queue took would not be delivered")
        }
    }
}

extension Setting {
    /// A domain that may stand behind an "@", in A-labels.
    fileprivate func domainName() -> String? {
        text("a domain name such as \"example.com\"") { name in
            HostName.fold(name).flatMap { HostName.looksLikeAddress($0) ? nil : $0 }
        }
    }

    /// An absolute path.
    func absolutePath() -> String? {
        text("an absolute path") { Self.isAbsolutePath($0) ? $0 : nil }
    }

    /// An absolute path of a folder for sockets, the longest name of which is "control".
    fileprivate func runtimeDirectory() -> String? {
        let most = ListenAddress.longestPath - "/control".utf8.count
        guard let path = absolutePath() else { return nil }
        return path.utf8.count <= most
            ? path : refuse("allowed are up to \(most) octets: sockets are made there, whose paths are bounded")
    }

    /// A file whose content is not for everybody's eyes: an absolute path or a systemd credential.
    func fileReference() -> String? {
        text("an absolute path, or \"credential:NAME\" for a systemd credential") { text in
            if Self.isAbsolutePath(text) { return text }
            let name = text.dropFirst("credential:".count)
            guard text.hasPrefix("credential:"), (1...255).contains(name.utf8.count), name != ".", name != "..",
                name.utf8.allSatisfy({ (0x21...0x7E).contains($0) && $0 != UInt8(ascii: "/") })
            else { return nil }
            return text
        }
    }

    /// The name of a user or group, not root's: to drop to root would be not to drop.
    func account(_ kind: String) -> String? {
        text("the name of a \(kind), not root") { name in
            let isName = (1...32).contains(name.utf8.count) && name.utf8.first != UInt8(ascii: "-")
            return isName && name != "root" && name.utf8.allSatisfy(Self.isNameOctet) ? name : nil
        }
    }

    /// Bare keys' octets and the dot.
    static func isNameOctet(_ octet: UInt8) -> Bool { KeyPath.isBareOctet(octet) || octet == UInt8(ascii: ".") }

    private static func isAbsolutePath(_ text: String) -> Bool {
        text.utf8.first == UInt8(ascii: "/") && (2...4095).contains(text.utf8.count)
            && text.hasNoASCIIControl
    }
}

extension Configuration.Daemon {
    fileprivate mutating func read(_ table: Section) {
        user = table["user"]?.account("user") ?? user
        group = table["group"]?.account("group") ?? group
        stateDirectory = table["state_directory"]?.absolutePath()
        runtimeDirectory = table["runtime_directory"]?.runtimeDirectory()
        drainTimeout = table["drain_timeout"]?.duration(.seconds(0) ... .hours(1)) ?? drainTimeout
        table.refuseUnknownKeys()
    }
}

extension LogSettings {
    fileprivate mutating func read(_ table: Section) {
        level = table["level"]?.choice() ?? level
        target = table["target"]?.choice() ?? target
        table.refuseUnknownKeys()
    }
}

extension Configuration.TLS {
    fileprivate init(_ table: Section) {
        main = Pair(table)
        others = table.sections("certificates").map { table in
            defer { table.refuseUnknownKeys() }
            return Pair(table)
        }
        minimum = table["minimum"]?.choice() ?? minimum
        clientCA = table["client_ca"]?.absolutePath()
        check = table["check"]?.duration(.seconds(1) ... .days(30)) ?? check
        table.refuseUnknownKeys()
    }
}

extension Configuration.TLS.Pair {
    fileprivate init(_ table: Section) {
        certificate = table.required("certificate", "the path of a PEM file")?.fileReference() ?? ""
        key = table.required("key", "the path of a PEM file")?.fileReference() ?? ""
    }
}

extension Configuration.Limits {
    fileprivate mutating func read(_ table: Section) {
        messageSize = table["message_size"]?.size(1...16 << 30) ?? messageSize
        recipients = table["recipients"]?.integer(1...1_000_000) ?? recipients
        connections = table["connections"]?.integer(1...1_000_000) ?? connections
        connectionsPerAddress = table["connections_per_address"]?.integer(1...1_000_000) ?? connectionsPerAddress
        errors = table["errors"]?.integer(1...1_000_000) ?? errors
        commandTimeout = table["command_timeout"]?.duration(.seconds(1) ... .hours(1)) ?? commandTimeout
        commands = table["commands"]?.integer(1...1_000_000) ?? commands
        leastRate = table["least_rate"]?.size(0...1 << 30) ?? leastRate
        stallTimeout = table["stall_timeout"]?.duration(.seconds(1) ... .hours(1)) ?? stallTimeout
        if let setting = table["data_timeout"], setting.string != "never" {
            dataTimeout = setting.duration(.seconds(1) ... .days(1), or: ", or \"never\"")
        }
        handshakeTimeout = table["handshake_timeout"]?.duration(.seconds(1) ... .hours(1)) ?? handshakeTimeout
        receivedHops = table["received_hops"]?.integer(1...1000) ?? receivedHops
        lenientPaths = table["lenient_paths"]?.bool() ?? lenientPaths
        table.refuseUnknownKeys()
    }
}

extension Configuration.Auth {
    /// Whether users are known by the digests of their certificates.
    package var knowsCertificates: Bool {
        mechanisms.contains(.external) && backends.contains(.file) && certificateLogin == .fingerprint
    }

    fileprivate mutating func read(_ table: Section) {
        // What it was called when there was one.
        if let one = table["backend"]?.choice(of: AuthenticationBackEnd.self) { backends = [one] }
        if table.has("backend"), table.has("backends") {
            table.report("backend", "found beside backends", "allowed is backends alone: this line is to be removed")
        }
        backends =
            table["backends"]?.distinctList(of: "back ends", mayBeEmpty: false) {
                $0.choice(of: AuthenticationBackEnd.self)
            }
            ?? backends
        users = table["users"]?.absolutePath() ?? users
        mechanisms =
            table["mechanisms"]?.distinctList(of: "mechanisms", mayBeEmpty: false) { $0.choice(of: SASLMechanism.self) }
            ?? mechanisms
        channelBinding = table["channel_binding"]?.choice() ?? channelBinding
        scramIterations = table["scram_iterations"]?.integer(4096...1_000_000) ?? scramIterations
        learnSCRAM = table["learn_scram"]?.bool() ?? learnSCRAM
        foldCase = table["fold_case"]?.bool() ?? foldCase
        certificateLogin = table["certificate_login"]?.choice() ?? certificateLogin
        if table.has("certificate_login"), !mechanisms.contains(.external), table.isSound("mechanisms") {
            table.report("certificate_login", "found without EXTERNAL in mechanisms", "allowed is it with that")
        }
        read(dovecot: table.section("dovecot"), table)
        let pam = table.section("pam")
        if pam.exists || backends.contains(.pam) { self.pam = PAMSettings(pam) }
        if pam.exists, !backends.contains(.pam), table.isSound("backends") {
            table.report("pam", "found without \"pam\" in backends", "allowed is it with that")
        }
        let issuer = table.section("oauth")
        oauth = OAuthSettings(issuer)
        table.refuseUnknownKeys()
        if backends.contains(.oauth), !issuer.exists, table.mistakes.document.isTellingAbsence(ofTable: "auth.oauth") {
            table.report("oauth", "missing", "required is the table [auth.oauth] with the back end of that name")
        }
    }

    private mutating func read(dovecot section: Section, _ table: Section) {
        let what = "where Dovecot's service auth listens, such as \"unix:/run/dovecot/auth-client\""
        dovecot = section.required("socket", what)?
            .text(
                "\"unix:/path\", or a port of this machine such as \"127.0.0.1:12345\": passwords go there in clear"
            ) { ServiceAddress($0).flatMap { $0.isOfThisMachine ? $0 : nil } }
        section.refuseUnknownKeys()
        guard table.isSound("backends", "dovecot") else { return }
        let isAsked = backends.contains(.dovecot)
        if section.exists, !isAsked {
            table.report("dovecot", "found without \"dovecot\" in backends", "allowed is it with that")
        } else if !section.exists, isAsked {
            table.report("dovecot", "missing", "required is [auth.dovecot] with socket, \(what)")
        }
    }
}

extension Configuration.Queue {
    fileprivate mutating func read(_ table: Section) {
        placement = QueuePlacement(table)
        policies =
            table["policies"]?.distinctList(of: "policies", mayBeEmpty: true) { $0.choice(of: Policy.self) } ?? policies
        qualify = table["qualify"]?.domainName() ?? qualify
        let received = table.section("received")
        hidesClient = received["hide_client"]?.bool() ?? hidesClient
        received.refuseUnknownKeys()
        retry =
            table["retry"]?.list(of: "durations", mayBeEmpty: false) { $0.duration(.seconds(1) ... .days(30)) } ?? retry
        let lifetime: ClosedRange<Duration> = .seconds(1) ... .days(365)
        expire = table["expire"]?.duration(lifetime) ?? expire
        if let setting = table["warn"] {
            warn = setting.string == "never" ? nil : setting.duration(lifetime, or: ", or \"never\"")
        }
        deliver = table["deliver"]?.bool() ?? deliver
        minimumFree = table["minimum_free"]?.size(0...16 << 40) ?? minimumFree
        sevenBit = table["seven_bit"]?.choice() ?? sevenBit
        table.refuseUnknownKeys()
    }
}

extension Configuration.DNS {
    fileprivate mutating func read(_ table: Section) {
        servers =
            table["servers"]?.distinctList(of: "name servers", mayBeEmpty: true) { element in
                element.text("an IP address with or without a port, such as \"127.0.0.1:53\", \"[::1]:53\"") { text in
                    if let address = IPAddress(text) { return HostPort(host: address.description, port: 53) }
                    return HostPort(text, defaultPort: 53).flatMap { $0.address == nil ? nil : $0 }
                }
            } ?? servers
        dnssec = table["dnssec"]?.choice() ?? dnssec
        table.refuseUnknownKeys()
    }
}

extension Duration {
    static func hours(_ number: Int) -> Duration { .seconds(number * 3600) }
    static func days(_ number: Int) -> Duration { .seconds(number * 86400) }
}

extension Setting {
    /// A name of ours, as it goes out: as it was written, unless that cannot go out.
    func hostname() -> String? {
        text("a domain name such as \"mail.example.com\"") { name in
            HostName.fold(name).flatMap { folded in
                HostName.looksLikeAddress(folded) ? nil : name.isASCII ? name : folded
            }
        }
    }
}
