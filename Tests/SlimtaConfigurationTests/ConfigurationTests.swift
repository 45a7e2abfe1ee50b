// slimta.conf as it should be: defaults, every key, inheritance.

import SlimtaMail
import SlimtaRules
import SlimtaSASL
import TestKit
import Testing

@testable import SlimtaConfiguration

@Suite struct DefaultTests {
    /// The contract, without the keys whose features do not exist yet, and the sample that we ship.
    @Test(arguments: (SharedFiles.areThere ? ["../shared/slimta.conf"] : []) + ["etc/slimta.conf"])
    func fileSaysTheDefaults(path: String) throws {
        check(try Configuration.parse(try readFile(path), file: path))
    }

    /// What the files show behind "#" is what their absence means: with all of it said, nothing changes.
    @Test(arguments: (SharedFiles.areThere ? ["../shared/slimta.conf"] : []) + ["etc/slimta.conf"])
    func commentedKeysAreTheDefaults(path: String) throws {
        let isDefault = #"^# [a-z_]+ = "#
        let notYet = [
            // What least_rate and stall_timeout replaced.
            "the whole message, not the gap",
            "# client_ca", "# fail = ", "# softfail = ", "# hostname", "# host ", "# username", "# password_file",
            "# path", "# domains",
            "# qualify",
            // Of EXTERNAL, which is not in the default list.
            "# certificate_login",
        ]
        var isExample = false
        let lines = try readFile(path).split(separator: "\n", omittingEmptySubsequences: false).map { line -> String in
            // A commented table is an example, as is what follows a sentence about a type.
            if line.hasPrefix("# [") || line.hasPrefix("# With type") { isExample = true }
            if line.hasPrefix("[") { isExample = false }
            guard !isExample, line.firstMatch(of: try! Regex(isDefault)) != nil,
                !notYet.contains(where: { line.contains($0) })
            else { return String(line) }
            return String(line.dropFirst(2))
        }
        #expect(lines.contains { $0.hasPrefix("connections_per_destination") })
        var said = try Configuration.parse(lines.joined(separator: "\n"), file: path)
        #expect(said.daemon.stateDirectory == Configuration.Daemon.defaultStateDirectory)
        #expect(said.daemon.runtimeDirectory == Configuration.Daemon.defaultRuntimeDirectory)
        (said.daemon.stateDirectory, said.daemon.runtimeDirectory) = (nil, nil)
        #expect(said == (try Configuration.parse(try readFile(path), file: path)))
    }

    private func check(_ configuration: Configuration) {
        #expect(configuration.hostname == nil)
        let daemon = configuration.daemon
        #expect(daemon.user == "slimtad")
        #expect(daemon.group == "slimtad")
        #expect(daemon.stateDirectory == nil)
        #expect(daemon.runtimeDirectory == nil)
        #expect(daemon.drainTimeout == .seconds(30))
        #expect(configuration.log.level == .info)
        #expect(configuration.log.target == .auto)
        #expect(configuration.tls?.main.certificate == "/etc/slimta/tls/fullchain.pem")
        #expect(configuration.tls?.main.key == "/etc/slimta/tls/key.pem")
        #expect(configuration.tls?.minimum == .tls12)
        #expect(configuration.tls?.others == [])
        #expect(configuration.tls?.clientCA == nil)
        #expect(configuration.tls?.check == .seconds(86400))

        #expect(configuration.edges.map(\.name) == ["submission", "submissions"])
        #expect(
            configuration.edges.map(\.listen) == [
                [.tcp(HostPort(host: "::", port: 587))], [.tcp(HostPort(host: "::", port: 465))],
            ])
        #expect(configuration.edges.map(\.access.tls) == [.starttls, .immediate])
        for edge in configuration.edges {
            #expect(edge.type.name == "smtp")
            #expect(edge.access.auth == .required)
            switch edge.type {
            case .smtp(let smtp):
                #expect(smtp.banner == .init(code: 220, text: "{hostname} ESMTP Mail Gateway"))
                #expect(smtp.greeting(hostname: "a.example") == "220 a.example ESMTP Mail Gateway")
                #expect(smtp.greetDelay == .zero)
            case .http, .sendmail, .directory: Issue.record("an edge of another kind")
            }
            #expect(edge.access.proxyProtocol.isEmpty)
            #expect(edge.access.trustedNetworks.isEmpty)
            #expect(!edge.access.plaintextAuth)
            #expect(!edge.isLoopbackOnly)
        }

        let limits = configuration.limits
        #expect(limits.messageSize == 52_428_800)
        #expect(limits.recipients == 1000)
        #expect(limits.connections == 10000)
        #expect(limits.connectionsPerAddress == 100)
        #expect(limits.errors == 10)
        #expect(limits.commandTimeout == .seconds(300))
        #expect(limits.commands == 100)
        #expect(limits.leastRate == 1024)
        #expect(limits.stallTimeout == .seconds(180))
        #expect(limits.dataTimeout == nil)
        #expect(limits.handshakeTimeout == .seconds(30))
        #expect(limits.receivedHops == 50)
        #expect(!limits.lenientPaths)

        #expect(configuration.auth.backends == [.file])
        #expect(configuration.auth.users == "/etc/slimta/users")
        #expect(configuration.auth.mechanisms == [.scramSHA256Plus, .scramSHA256, .plain, .login])

        let queue = configuration.queue
        #expect(queue.policies == [.date, .messageID, .received, .domainSplit])
        #expect(queue.retry == [60, 300, 900, 1800, 3600, 7200, 14400].map { .seconds($0) })
        #expect(queue.expire == .seconds(432_000))
        #expect(queue.warn == .seconds(14400))
        #expect(queue.deliver)
        #expect(queue.minimumFree == 104_857_600)
        #expect(queue.sevenBit == .whenNeeded)

        let relay = configuration.relay
        #expect(relay.type == .mx)
        #expect(relay.port == 25)
        #expect(relay.tls == .opportunistic && relay.tlsMemory == .enforce)
        #expect(relay.connectTimeout == .seconds(30))
        #expect(relay.greetingTimeout == .seconds(60))
        #expect(relay.commandTimeout == .seconds(300))
        #expect(relay.leastRate == 1024)
        #expect(relay.stallTimeout == .seconds(180))
        #expect(relay.dataTimeout == .seconds(600))
        #expect(relay.attemptTimeout == .seconds(1200))
        #expect(relay.idleTimeout == .seconds(30))
        #expect(relay.connections == 500)
        #expect(relay.connectionsPerDestination == 20)
        #expect(relay.sourceAddresses.isEmpty)
        #expect(relay.allowNetworks.isEmpty && relay.refuseNetworks.isEmpty)

        #expect(configuration.dns.servers.isEmpty)
        #expect(configuration.dns.dnssec == .auto)
        #expect(configuration.routes.isEmpty)

        #expect(configuration.rules.isEmpty && configuration.policyServices.isEmpty && configuration.dnsbls.isEmpty)
        #expect(configuration.spf == Configuration.SPF())
        #expect(configuration.warnings.isEmpty)
    }
}

@Suite struct ValueTests {
    @Test func everyKeyIsRead() throws {
        let configuration = try Configuration.parse(
            """
            hostname = "Mail.Example.com"
            [daemon]
            user = "nobody"
            group = "nogroup"
            state_directory = "/s"
            runtime_directory = "/r"
            drain_timeout = "0s"
            [log]
            level = "debug"
            target = "stderr"
            [tls]
            certificate = "credential:cert"
            key = "/k"
            minimum = "1.3"
            client_ca = "/ca"
            check = "2h"
            [[tls.certificates]]
            certificate = "/c2"
            key = "credential:key2"
            [[tls.certificates]]
            certificate = "/c3"
            key = "/k3"
            [[edge]]
            name = "a"
            type = "smtp"
            listen = ["127.0.0.1:25", "[::1]:25", "localhost:26", "unix:/run/s"]
            tls = "none"
            auth = "optional"
            banner = "554 {hostname}: nobody here"
            greet_delay = "6s"
            trusted_networks = ["10.0.0.0/8", "2001:db8::1"]
            plaintext_auth = true
            [[edge]]
            name = "b"
            type = "smtp"
            listen = ["systemd:smtp.socket"]
            proxy_protocol = ["127.0.0.1"]
            [limits]
            message_size = 1000
            recipients = 1
            connections = 2
            connections_per_address = 3
            errors = 4
            command_timeout = "5s"
            commands = 9
            least_rate = "2KiB"
            stall_timeout = "10s"
            data_timeout = "6m"
            handshake_timeout = "7s"
            received_hops = 8
            lenient_paths = true
            [auth]
            backend = "file"
            users = "/u"
            mechanisms = ["LOGIN"]
            [queue]
            policies = ["recipient_split"]
            retry = ["1s"]
            expire = "2d"
            warn = "never"
            deliver = false
            minimum_free = "10MB"
            seven_bit = "never"
            [relay]
            type = "smtp"
            tls = "required"
            connect_timeout = "1s"
            greeting_timeout = "8s"
            command_timeout = "2s"
            least_rate = "4KiB"
            stall_timeout = "9s"
            data_timeout = "3s"
            attempt_timeout = "7m"
            idle_timeout = "0s"
            connections = 4
            connections_per_destination = 5
            source_addresses = ["192.0.2.1", "2001:DB8::1"]
            host = "Smart.example:587"
            username = "u"
            password_file = "credential:p"
            [dns]
            servers = ["127.0.0.1", "[::1]:5353", "::1"]
            dnssec = "required"
            """, file: "f")

        #expect(configuration.hostname == "Mail.Example.com")
        #expect(
            configuration.daemon
                == .init(
                    user: "nobody", group: "nogroup", stateDirectory: "/s", runtimeDirectory: "/r",
                    drainTimeout: .zero))
        #expect(configuration.log == .init(level: .debug, target: .standardError))
        let tls = Configuration.TLS(
            main: .init(certificate: "credential:cert", key: "/k"),
            others: [.init(certificate: "/c2", key: "credential:key2"), .init(certificate: "/c3", key: "/k3")],
            minimum: .tls13, clientCA: "/ca", check: .seconds(7200))
        #expect(configuration.tls == tls)
        #expect(
            configuration.edges[0]
                == .init(
                    name: "a",
                    listen: [
                        .tcp(HostPort(host: "127.0.0.1", port: 25)), .tcp(HostPort(host: "::1", port: 25)),
                        .tcp(HostPort(host: "localhost", port: 26)), .unix(path: "/run/s"),
                    ],
                    type: .smtp(
                        .init(
                            access: .init(
                                tls: .cleartext, auth: .optional,
                                trustedNetworks: [
                                    try #require(NetworkRange("10.0.0.0/8")),
                                    try #require(NetworkRange("2001:db8::1/128")),
                                ], plaintextAuth: true),
                            banner: .init(code: 554, text: "{hostname}: nobody here"), greetDelay: .seconds(6)))))
        // tls and auth: what is not said is the safe thing
        let proxies = [try #require(NetworkRange("127.0.0.1/32"))]
        #expect(
            configuration.edges[1]
                == .init(
                    name: "b", listen: [.systemd(name: "smtp.socket")],
                    type: .smtp(.init(access: .init(proxyProtocol: proxies)))))
        #expect(
            configuration.limits
                == .init(
                    messageSize: 1000, recipients: 1, connections: 2, connectionsPerAddress: 3, errors: 4,
                    commands: 9, commandTimeout: .seconds(5), leastRate: 2048, stallTimeout: .seconds(10),
                    dataTimeout: .seconds(360), handshakeTimeout: .seconds(7),
                    receivedHops: 8, lenientPaths: true))
        #expect(configuration.auth == .init(backends: [.file], users: "/u", mechanisms: [.login]))
        #expect(
            configuration.queue
                == .init(
                    policies: [.recipientSplit], retry: [.seconds(1)], expire: .seconds(172_800), warn: nil,
                    deliver: false, minimumFree: 10_000_000, sevenBit: .never))
        #expect(
            configuration.relay
                == .init(
                    type: .smtp(
                        host: HostPort(host: "smart.example", port: 587),
                        login: .init(username: "u", proof: .password(file: "credential:p"))),
                    tls: .required, connectTimeout: .seconds(1), greetingTimeout: .seconds(8),
                    commandTimeout: .seconds(2), leastRate: 4096, stallTimeout: .seconds(9), dataTimeout: .seconds(3),
                    attemptTimeout: .seconds(420), idleTimeout: .zero, connections: 4, connectionsPerDestination: 5,
                    sourceAddresses: [
                        try #require(IPAddress("192.0.2.1")), try #require(IPAddress("2001:db8::1")),
                    ]))
        #expect(
            configuration.dns
                == .init(
                    servers: [
                        HostPort(host: "127.0.0.1", port: 53), HostPort(host: "::1", port: 5353),
                        HostPort(host: "::1", port: 53),
                    ], dnssec: .required))
    }

    /// A status is one only where it fits the code.
    @Test(arguments: [
        ("220 {hostname}", Reply(220, nil, "a.example")),
        ("421 4.3.2 {hostname} is closed", Reply(421, EnhancedStatus(4, 3, 2), "a.example is closed")),
        ("554 5.7.1", Reply(554, EnhancedStatus(5, 7, 1), "")),
        ("554 4.7.1 no", Reply(554, nil, "4.7.1 no")),
    ])
    func banners(text: String, reply: Reply) throws {
        let configuration = try Configuration.parse(edge + "banner = \"\(text)\"", file: "f")
        switch configuration.edges[0].type {
        case .smtp(let smtp): #expect(smtp.banner.reply(hostname: "a.example") == reply)
        case .http, .sendmail, .directory: Issue.record("an edge of another kind")
        }
    }

    @Test func demandsOfTLS() throws {
        let configuration = try Configuration.parse(
            edge + """
                [relay]
                tls = "verify"
                tls_memory = "report"
                [[route]]
                domains = ["a.example"]
                tls = "dane"
                [[tls_policy]]
                domains = ["bank.example", "*.bank.example"]
                tls = "verify"
                names = ["MX.bank.example", "backup.example"]
                [[tls_policy]]
                domains = ["old.example"]
                tls = "none"
                """, file: "f")
        #expect(configuration.relay.tls == .verify && configuration.relay.tlsMemory == .report)
        #expect(configuration.routes[0].relay.tls == .dane && configuration.routes[0].relay.tlsMemory == .report)
        #expect(
            configuration.tlsPolicies == [
                .init(
                    domains: [.exact("bank.example"), .below("bank.example")], tls: .verify,
                    names: ["mx.bank.example", "backup.example"]),
                .init(domains: [.exact("old.example")], tls: .cleartext, names: []),
            ])
    }

    @Test func networksOfExchangers() throws {
        let configuration = try Configuration.parse(
            edge + """
                [relay]
                allow_networks = ["127.0.0.0/8", "::1"]
                refuse_networks = ["10.0.0.0/8"]
                [[route]]
                domains = ["a.example"]
                allow_networks = []
                """, file: "f")
        let networks = try ["127.0.0.0/8", "::1"].map { try #require(NetworkRange($0)) }
        let refused = [try #require(NetworkRange("10.0.0.0/8"))]
        #expect(configuration.relay.allowNetworks == networks)
        #expect(configuration.relay.refuseNetworks == refused)
        #expect(configuration.routes[0].relay.allowNetworks.isEmpty)
        #expect(configuration.routes[0].relay.refuseNetworks == refused)
    }

    @Test func routesInheritFromRelay() throws {
        let configuration = try Configuration.parse(
            edge + """
                [relay]
                type = "smtp"
                host = "smart.example:587"
                username = "u"
                password_file = "/p"
                connect_timeout = "3s"
                [[route]]
                domains = ["A.example", "*.b.example"]
                host = "[2001:db8::1]:25"
                [[route]]
                domains = ["c.example"]
                connections = 7
                [[route]]
                domains = ["d.example"]
                type = "maildir"
                path = "/m"
                [[route]]
                domains = ["e.example"]
                type = "mx"
                [[route]]
                domains = ["*"]
                type = "blackhole"
                """, file: "f")
        func relay(_ domain: String) -> Configuration.Relay { configuration.relay(for: domain) }

        let smart = HostPort(host: "smart.example", port: 587)
        let login = Configuration.Relay.Login(username: "u", proof: .password(file: "/p"))
        #expect(configuration.relay.type == .smtp(host: smart, login: login))
        // The password is smart.example's: another host must not see it.
        #expect(relay("a.example").type == .smtp(host: HostPort(host: "2001:db8::1", port: 25), login: nil))
        #expect(relay("x.b.example") == relay("a.example"))
        #expect(relay("b.example").type == .blackhole)
        #expect(relay("c.example").type == .smtp(host: smart, login: login))
        #expect(relay("c.example").connections == 7)
        #expect(relay("d.example").type == .maildir(path: "/m"))
        #expect(relay("e.example").type == .mx)
        for route in configuration.routes { #expect(route.relay.connectTimeout == .seconds(3)) }
    }

    @Test func lmtp() throws {
        let configuration = try Configuration.parse(
            edge + """
                [relay]
                type = "lmtp"
                host = "Mail.example"
                username = "u"
                password_file = "/p"
                [[route]]
                domains = ["a.example"]
                host = "[2001:db8::1]:2400"
                [[route]]
                domains = ["b.example"]
                socket = "unix:/run/dovecot/lmtp"
                [[route]]
                domains = ["c.example"]
                connections = 7
                """, file: "f")
        let login = Configuration.Relay.Login(username: "u", proof: .password(file: "/p"))
        let mail = Configuration.Relay.Kind.lmtp(host: HostPort(host: "mail.example", port: 24), login: login)
        #expect(configuration.relay.type == mail)
        func kind(_ domain: String) -> Configuration.Relay.Kind { configuration.relay(for: domain).type }
        #expect(kind("a.example") == .lmtp(host: HostPort(host: "2001:db8::1", port: 2400), login: nil))
        #expect(kind("b.example") == .lmtpSocket(path: "/run/dovecot/lmtp"))
        #expect(kind("c.example") == mail)
        #expect(mail.login == login && kind("b.example").login == nil)
    }

    @Test func rewritesOfRoutes() throws {
        let configuration = try Configuration.parse(
            edge + """
                [relay]
                rewrite_sender = [{ sender = "@corp.example", to = "@example.com" }, { sender = "<>", to = "b@example.com" }]
                add_fields = ["X-Login: {login}"]
                [[route]]
                domains = ["a.example"]
                add_fields = []
                [[route.rewrite_recipient]]
                recipient = "@a.example"
                to = "@b.example"
                [[route]]
                domains = ["c.example"]
                rewrite_sender = []
                """, file: "f")
        func rewrites(_ domain: String) -> RouteRewrites { configuration.relay(for: domain).rewrites }
        let sender = Mailbox(localPart: "x", domain: "corp.example")
        #expect(rewrites("z.example").sender(sender)?.text == "x@example.com")
        #expect(rewrites("z.example").sender(nil)?.text == "b@example.com")
        #expect(rewrites("z.example").fields.map(\.name) == ["X-Login"])
        #expect(rewrites("a.example").sender(sender)?.text == "x@example.com")
        #expect(rewrites("a.example").recipient(Mailbox(localPart: "y", domain: "A.example")).text == "y@b.example")
        #expect(rewrites("a.example").fields.isEmpty)
        #expect(rewrites("c.example").sender(sender) == sender && !rewrites("c.example").isEmpty)
    }

    @Test func withoutRouteItIsTheRelay() throws {
        let configuration = try Configuration.parse(edge, file: "f")
        #expect(configuration.relay(for: "any.example") == configuration.relay)
        #expect(configuration.tls == nil)
    }

    /// TOML has more than one way to say it.
    @Test(arguments: [
        "limits.errors = 7\n\(edge)",
        "limits = { errors = 7, \"recipients\" = 0x10 }\n\(edge)",
        "\u{FEFF}[limits]\r\n'errors' = 7\r\n\r\n\(edge)",
        "[\"limits\"] # comment\n\"err\\u006frs\" = 0b111 # [x]\n\(edge)",
    ])
    func otherSpellings(text: String) throws {
        #expect(try Configuration.parse(text, file: "f").limits.errors == 7)
    }
}
