// No configuration that `check` approves is an open relay: every edge that can be written, every client, and what the
// session says to MAIL.

import NIOCore
import SlimtaMail
import SlimtaSMTP
import Testing

@testable import SlimtaConfiguration

@Suite struct OpenRelayTests {
    struct Listen: CustomTestStringConvertible {
        let addresses: String
        /// Whether nobody but this machine can reach all of it.
        let isLoopback: Bool
        var testDescription: String { addresses }
    }

    static let listens = [
        Listen(addresses: #""127.0.0.1:2525""#, isLoopback: true),
        Listen(addresses: #""[::1]:2525", "127.8.9.10:2525""#, isLoopback: true),
        Listen(addresses: #""[::ffff:127.0.0.1]:2525""#, isLoopback: true),
        Listen(addresses: #""localhost:2525""#, isLoopback: true),
        Listen(addresses: #""unix:/run/x""#, isLoopback: true),
        Listen(addresses: #""unix:/run/x", "127.0.0.1:2525""#, isLoopback: true),
        Listen(addresses: #""[::]:2525""#, isLoopback: false),
        Listen(addresses: #""0.0.0.0:2525""#, isLoopback: false),
        Listen(addresses: #""192.0.2.25:2525""#, isLoopback: false),
        Listen(addresses: #""mail.example.com:2525""#, isLoopback: false),
        Listen(addresses: #""systemd:submission""#, isLoopback: false),
        Listen(addresses: #""127.0.0.1:2525", "192.0.2.25:2525""#, isLoopback: false),
        Listen(addresses: #""unix:/run/x", "systemd:submission""#, isLoopback: false),
    ]

    /// Networks as they are written; and for each client whether it is in them, found by hand.
    static let networks: [(text: String, clients: Set<String>)] = [
        ("", []),
        (#""10.0.0.0/8""#, ["10.1.2.3", "::ffff:10.1.2.3"]),
        (#""::ffff:10.0.0.0/104""#, ["10.1.2.3", "::ffff:10.1.2.3"]),
        (#""127.0.0.0/8""#, ["127.0.0.1", "::ffff:127.0.0.1", "127.8.9.10"]),
        (#""::1""#, ["::1"]),
        (#""2001:db8::/32", "203.0.113.5""#, ["2001:db8::1", "203.0.113.5", "::ffff:203.0.113.5"]),
    ]

    /// As text, as an edge has it; empty: a UNIX socket; the last ones are no address that can be compared.
    static let clients = [
        "127.0.0.1", "127.8.9.10", "::ffff:127.0.0.1", "::1", "", "10.1.2.3", "::ffff:10.1.2.3", "203.0.113.5",
        "::ffff:203.0.113.5", "2001:db8::1", "2001:db9::1", "fe80::1", "::", "0.0.0.0", "64:ff9b::a01:203",
        "::10.1.2.3", "fe80::1%eth0", "nonsense",
    ]
    static let ownClients: Set<String> = ["127.0.0.1", "127.8.9.10", "::ffff:127.0.0.1", "::1", ""]

    private func text(
        _ auth: String, _ tls: String, _ listen: Listen, _ networks: String, _ plaintext: Bool, proxies: String = "",
        type: String = "smtp"
    ) -> String {
        """
        [tls]
        certificate = "/c"
        key = "/k"
        [[edge]]
        name = "e"
        type = "\(type)"
        listen = [\(listen.addresses)]
        tls = "\(tls)"
        auth = "\(auth)"
        trusted_networks = [\(networks)]
        plaintext_auth = \(plaintext)
        proxy_protocol = [\(proxies)]
        """
    }

    /// Behind a proxy on this machine clients may be anywhere: the edge is judged as one that others can reach.
    @Test(arguments: listens, ["required", "optional", "none"].flatMap { [($0, ""), ($0, #""127.0.0.1""#)] })
    func whoMaySend(listen: Listen, by: (auth: String, proxies: String)) throws {
        let (auth, proxies) = by
        let hasOnlyOwn = listen.isLoopback && proxies.isEmpty
        for tls in ["starttls", "immediate", "none"] {
            for plaintext in [false, true] {
                for (networks, members) in Self.networks {
                    let configuration: Configuration
                    do throws(ConfigurationErrors) {
                        configuration = try Configuration.parse(
                            text(auth, tls, listen, networks, plaintext, proxies: proxies), file: "f")
                    } catch {
                        // Refused: for what nobody could send over, or would send a password in clear over; never for
                        // more.
                        let isUseless = auth != "required" && !hasOnlyOwn && networks.isEmpty
                        let isClear = plaintext && !hasOnlyOwn || auth != "none" && tls == "none" && !plaintext
                        // A UNIX socket has no proxy with an address.
                        let isProxyless = !proxies.isEmpty && listen.addresses == #""unix:/run/x""#
                        #expect(isUseless || isClear || isProxyless, "\(error)")
                        continue
                    }
                    #expect(auth == "required" || hasOnlyOwn || !networks.isEmpty)
                    let edge = try #require(configuration.edges.first)
                    for client in Self.clients {
                        let isOwn = auth != "required" && hasOnlyOwn && Self.ownClients.contains(client)
                        let mayRelay = members.contains(client) || isOwn
                        for isEncrypted in tls == "starttls" ? [false, true] : [tls == "immediate"] {
                            let reply = self.reply(edge, client, isEncrypted: isEncrypted)
                            let expected = mayRelay ? "ask" : auth == "none" ? "550 5.7.1" : "530 5.7.0"
                            #expect(
                                reply == expected,
                                "\(auth) \(tls) \(listen.addresses) [\(networks)] \(client) \(isEncrypted) \(proxies)")
                        }
                    }
                }
            }
        }
    }

    /// The same of an edge that speaks HTTP: the rules of transactions are asked as its messages ask them, by who has not
    /// said who it is.
    @Test(arguments: listens, ["required", "optional", "none"].flatMap { [($0, ""), ($0, #""127.0.0.1""#)] })
    func whoMaySendOverHTTP(listen: Listen, by: (auth: String, proxies: String)) throws {
        let (auth, proxies) = by
        let hasOnlyOwn = listen.isLoopback && proxies.isEmpty
        for (tls, plaintext) in [("immediate", false), ("immediate", true), ("none", false), ("none", true)] {
            for (networks, members) in Self.networks {
                let configuration: Configuration
                do throws(ConfigurationErrors) {
                    configuration = try Configuration.parse(
                        text(auth, tls, listen, networks, plaintext, proxies: proxies, type: "http"), file: "f")
                } catch {
                    let isUseless = auth != "required" && !hasOnlyOwn && networks.isEmpty
                    let isClear = plaintext && !hasOnlyOwn || auth != "none" && tls == "none" && !plaintext
                    let isProxyless = !proxies.isEmpty && listen.addresses == #""unix:/run/x""#
                    #expect(isUseless || isClear || isProxyless, "\(error)")
                    continue
                }
                let edge = try #require(configuration.edges.first)
                #expect(edge.type.name == "http" && edge.access.tls != .starttls)
                let authentication: SMTPServerConfiguration.Authentication =
                    switch edge.access.auth {
                    case .required: .required
                    case .optional: .optional
                    case .off: .none
                    }
                let rules = TransactionRules(authentication: authentication)
                for client in Self.clients {
                    let isOwn = auth != "required" && hasOnlyOwn && Self.ownClients.contains(client)
                    let refusal = rules.refusal(ofClient: nil, isTrusted: edge.trust.allows(endpoint(client)))
                    let expected = members.contains(client) || isOwn ? nil : auth == "none" ? 550 : 530
                    #expect(
                        refusal.map { Int($0.code) } == expected,
                        "\(auth) \(tls) \(listen.addresses) [\(networks)] \(client) \(proxies)")
                }
            }
        }
    }

    /// An edge for the sendmail command serves users whom the kernel names, and nobody by an address: not even a socket of this
    /// machine is one by which somebody may send who is nobody.
    @Test(arguments: listens + [Listen(addresses: #""unix:/run/x", "unix:/run/y""#, isLoopback: true)])
    func whoMaySendBySendmail(listen: Listen) throws {
        func parse(_ more: String = "") throws(ConfigurationErrors) -> Configuration {
            let edge = "[[edge]]\nname = \"e\"\ntype = \"sendmail\"\nlisten = [\(listen.addresses)]\n"
            return try Configuration.parse(edge + more, file: "f")
        }
        let hasTCP = listen.addresses.contains(":2525")
        for trusted in ["", "trusted_users = []", #"trusted_users = ["root", "www-data"]"#] {
            let result = Result { () throws(ConfigurationErrors) in try parse(trusted) }
            #expect(((try? result.get()) == nil) == hasTCP, "\(result)")
            guard let edge = try? result.get().edges.first else { continue }
            #expect(edge.hasLogins)
            for client in Self.clients { #expect(!edge.trust.allows(endpoint(client)), "\(client)") }
        }
        // What lets others in elsewhere is no key here.
        for key in [#"auth = "none""#, #"trusted_networks = ["10.0.0.0/8"]"#, #"proxy_protocol = ["127.0.0.1"]"#] {
            #expect(throws: ConfigurationErrors.self) { try parse(key) }
        }
    }

    /// A folder serves who may put a file there: the owner of the file, or, where that is switched off, anybody who can; nobody
    /// by an address.
    @Test(arguments: ["", "owner_login = true", "owner_login = false", #"trusted_users = ["root"]"#])
    func whoMaySendByFiles(key: String) throws {
        func parse(_ more: String) throws(ConfigurationErrors) -> Configuration {
            let edge = "[[edge]]\nname = \"e\"\ntype = \"directory\"\npath = \"/p\"\n"
            return try Configuration.parse(edge + more, file: "f")
        }
        let edge = try #require(try parse(key).edges.first)
        let isByOwner = key != "owner_login = false"
        #expect(edge.hasLogins == isByOwner && edge.listen.isEmpty)
        for client in Self.clients {
            let isOwn = !isByOwner && Self.ownClients.contains(client)
            #expect(edge.trust.allows(endpoint(client)) == isOwn, "\(client)")
        }
        for more in [#"listen = ["[::]:2525"]"#, #"auth = "none""#, #"trusted_networks = ["10.0.0.0/8"]"#] {
            #expect(throws: ConfigurationErrors.self) { try parse("\(key)\n\(more)") }
        }
    }

    func endpoint(_ client: String) -> ConnectionFacts.Endpoint {
        client.isEmpty ? .unix : IPAddress(client).map { .ip($0, port: 1) } ?? .unknown
    }

    /// What MAIL before AUTH gets: code and status, or "ask" if it comes to the question whether there is room.
    ///
    /// - Parameter senders: `[sender_check]` and `[[senders]]`.
    func reply(
        _ edge: Configuration.Edge, _ client: String, isEncrypted: Bool, senders: SenderRules = SenderRules()
    ) -> String {
        let tls: SMTPServerConfiguration.TLSMode =
            switch edge.access.tls {
            case .starttls: .startTLS
            case .immediate: .immediate
            case .cleartext: .none
            }
        let authentication: SMTPServerConfiguration.Authentication =
            switch edge.access.auth {
            case .required: .required
            case .optional: .optional
            case .off: .none
            }
        var settings = SMTPServerConfiguration(
            hostname: "mx.example.org", tls: tls, authentication: authentication,
            allowsPlaintextAuthentication: edge.access.plaintextAuth)
        settings.senders = senders
        // Whoever is asked lets everybody through: that is no right to send.
        settings.stages = [.connect, .hello, .startTLS, .login, .mail, .recipient, .data, .message]
        var machine = SMTPServerMachine(settings, isTrusted: edge.trust.allows(endpoint(client)))
        var output = ByteBuffer()
        /// The next action behind the questions of stages.
        func next() -> SMTPServerMachine.Action {
            var action = machine.next(into: &output)
            while case .ask(let question) = action {
                if case .room = question { break }
                machine.answered(.goOn, into: &output)
                action = machine.next(into: &output)
            }
            return action
        }
        machine.connected(into: &output)
        if isEncrypted, tls == .startTLS {
            machine.received(ByteBuffer(string: "EHLO c\r\nSTARTTLS\r\n"))
            #expect(next() == .startTLS)
        }
        if isEncrypted { machine.tlsEstablished(TLSDescription(version: "TLSv1.3", cipher: "x"), into: &output) }
        machine.received(ByteBuffer(string: "EHLO c\r\n"))
        #expect(next() == .wait)
        output.clear()
        machine.received(ByteBuffer(string: "MAIL FROM:<a@x.org>\r\n"))
        let action = next()
        if case .ask(.room) = action { return "ask" }
        return String(String(buffer: output).prefix(9))
    }

    @Test(arguments: [
        ("10.0.0.0/8", true), ("fc00::/7", true), ("fe80::/10", true), ("2001::/16", true), ("2001:db8::/32", true),
        ("0.0.0.0/1", false), ("8.0.0.0/7", false), ("::/0", false), ("::ffff:0:0/96", false), ("2000::/3", false),
        ("2000::/7", false), ("2000::/15", false), ("fc00::/6", false), ("fe80::/9", false),
    ])
    func networksAreNoHalfOfTheWorld(network: String, isAllowed: Bool) {
        let listen = Listen(addresses: #""[::]:25""#, isLoopback: false)
        let result = Result {
            try Configuration.parse(text("none", "starttls", listen, #""\#(network)""#, false), file: "f")
        }
        #expect(((try? result.get()) != nil) == isAllowed)
    }
}
