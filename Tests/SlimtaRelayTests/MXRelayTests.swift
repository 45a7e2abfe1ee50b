// The MX relay against a real name server and mail exchangers on loopback.

import Logging
import NIOCore
import SlimtaDNS
import SlimtaMail
import SlimtaQueue
import SlimtaRelay
import TestKit
import Testing

/// A name server, a port for all mail exchangers, and a relay that uses both. Exchangers are at 127.0.1.N.
final class MailWorld {
    let names: NameServer
    let port: Int
    let resolver: SlimtaDNS.Resolver
    var sinks: [Int: Sink] = [:]

    init(_ records: [String], refusing: [String] = []) throws {
        let hosts = (1...9).map { "mx\($0).test. 300 IN A 127.0.1.\($0)" }
        names = try NameServer(records: hosts + records, refusing: refusing)
        port = try NameServer.freePort()
        resolver = try Fixture.resolver(names.port)
    }

    func relay(
        own: [SocketAddress] = [], _ change: (inout RelayOptions) -> Void = { _ in }
    ) throws -> MXRelay {
        var options = RelayOptions(hostname: "client.test")
        options.port = port
        options.networks.allowed = ["127.0.0.0/8", "::1"].compactMap { NetworkRange($0) }
        change(&options)
        return try MXRelay(
            options, resolver: resolver, own: OwnAddresses(listeners: own), group: Fixture.group,
            logger: Fixture.logger)
    }

    /// Starts smtp-sink at 127.0.1.`number`.
    func sink(_ number: Int, _ options: [String] = []) throws -> Sink {
        let sink = try Sink("127.0.1.\(number)", port, options)
        sinks[number] = sink
        return sink
    }

    func server(_ number: Int, _ scripts: [ScriptedServer.Step]...) async throws -> ScriptedServer {
        try await ScriptedServer(at: "127.0.1.\(number)", port: port, scripts[0])
    }

    func end() async {
        for sink in sinks.values { sink.stop() }
        await resolver.close()
        names.stop()
    }
}

@Suite(.serialized, .timeLimit(.minutes(4)))
struct MXRelayTests {
    static let serve: [ScriptedServer.Step] = [.send("220 x\r\n"), .serve(["PIPELINING", "SIZE", "8BITMIME"])]

    @Test func octetForOctet() async throws {
        let world = try MailWorld(["a.test. 300 IN MX 10 mx1.test."])
        let sink = try world.sink(1)
        let relay = try world.relay()
        for _ in 0..<3 {
            let outcomes = await relay.attempt(Delivery(to: ["one@a.test", "two@A.TEST"]))
            #expect(outcomes.map(\.result) == [.delivered, .delivered])
            #expect(!outcomes[0].isHostFailure)
            #expect(outcomes[0].relay == "mx1.test[127.0.1.1]:\(world.port)")
            #expect(outcomes[0].remoteHost == "mx1.test")
        }
        #expect(sink.messages.count == 3)
        let message = try #require(sink.messages.first)
        #expect(message.mail == "<sender@client.test>")
        #expect(message.recipients == ["<one@a.test>", "<two@A.TEST>"])
        #expect(message.content == ("Received: here\n" + Fixture.text.replacing("\r\n", with: "\n")))
        #expect(relay.connectionCount == 1)
        await relay.shutDown()
        await world.end()
    }

    /// What smtp-sink can be told to do, and what comes of it.
    @Test(
        arguments: [
            (["-e"], Outcome.Result.delivered), (["-p"], .delivered), (["-E"], .delivered), (["-P"], .delivered),
            (["-f", "EHLO"], .delivered), (["-r", "MAIL"], .temporary), (["-f", "MAIL"], .permanent),
            (["-r", "RCPT"], .temporary), (["-f", "RCPT"], .permanent), (["-r", "DATA"], .temporary),
            (["-f", "DATA"], .permanent), (["-r", "."], .temporary), (["-f", "."], .permanent),
            (["-r", "CONNECT"], .temporary), (["-f", "CONNECT"], .permanent), (["-f", "EHLO,HELO"], .permanent),
            (["-q", "CONNECT"], .temporary), (["-q", "EHLO"], .temporary), (["-q", "MAIL"], .temporary),
            (["-q", "RCPT"], .temporary), (["-q", "DATA"], .temporary), (["-q", "."], .temporary),
            (["-Q", "CONNECT"], .temporary), (["-Q", "EHLO"], .temporary), (["-Q", "MAIL"], .temporary),
            (["-Q", "RCPT"], .temporary), (["-Q", "DATA"], .temporary), (["-Q", "."], .temporary),
            (["-A", "0"], .permanent), (["-f", "RSET,RCPT"], .permanent), (["-W", "EHLO:1"], .delivered),
        ] as [([String], Outcome.Result)])
    func sinks(_ options: [String], _ result: Outcome.Result) async throws {
        let world = try MailWorld(["a.test. 300 IN MX 10 mx1.test."])
        let sink = try world.sink(1, options)
        let relay = try world.relay()
        let outcomes = await relay.attempt(Delivery(to: ["one@a.test", "two@a.test"]))
        #expect(outcomes.map(\.result) == [result, result])
        // What it refuses at the end it has dumped already.
        if !options.contains(".") { #expect(sink.messages.count == (result == .delivered ? 1 : 0)) }
        await relay.shutDown()
        #expect(relay.connectionCount == 0)
        await world.end()
    }

    @Test func theLastOfFive() async throws {
        let world = try MailWorld((1...5).map { "a.test. 300 IN MX \($0)0 mx\($0).test." })
        let sink = try world.sink(5)
        // One of them is there and does not want us.
        let busy = try await world.server(3, [.send("421 busy\r\n"), .close])
        let relay = try world.relay()
        let outcomes = await relay.attempt(Delivery(to: ["one@a.test"]))
        #expect(outcomes.map(\.result) == [.delivered])
        #expect(outcomes[0].remoteHost == "mx5.test")
        #expect(sink.messages.count == 1 && busy.connections == 1)
        // The next one does not wait for the dead ones again.
        #expect(await relay.attempt(Delivery(to: ["one@a.test"])).map(\.result) == [.delivered])
        #expect(busy.connections == 1)
        await world.end()
    }

    @Test func allDead() async throws {
        let world = try MailWorld((1...3).map { "a.test. 300 IN MX \($0)0 mx\($0).test." })
        let relay = try world.relay()
        let outcomes = await relay.attempt(Delivery(to: ["one@a.test"]))
        #expect(outcomes.map(\.reply.status) == [EnhancedStatus(4, 4, 1)])
        #expect(outcomes.map(\.isHostFailure) == [true])
        // What a host said weighs more, and what may change more than what will not.
        let busy = try await world.server(1, [.send("450 4.3.2 later\r\n"), .close])
        let never = try await world.server(2, [.send("554 5.3.2 never\r\n"), .close])
        // They are left alone, and that is no attempt; until an operator wants it.
        let alone = await relay.attempt(Delivery(to: ["one@a.test"]))
        #expect(alone.map(\.reply.status) == [EnhancedStatus(4, 4, 1)] && alone.map(\.isHostFailure) == [true])
        #expect(alone[0].postponed.map { $0 > .seconds(50) && $0 < .seconds(70) } == true)
        #expect(busy.connections == 0 && never.connections == 0)
        relay.forgetFailures()
        let again = await relay.attempt(Delivery(to: ["one@a.test"]))
        #expect(again.map(\.reply.description) == ["450 4.3.2 later"])
        #expect(busy.connections == 1 && never.connections == 1)
        await world.end()
    }

    @Test func neverMeansNeverIfAllSaySo() async throws {
        let world = try MailWorld((1...2).map { "a.test. 300 IN MX \($0)0 mx\($0).test." })
        let servers = [
            try await world.server(1, [.send("554 5.3.2 no\r\n"), .close]),
            try await world.server(2, [.send("521 5.3.2 no\r\n"), .close]),
        ]
        let outcomes = await (try world.relay()).attempt(Delivery(to: ["one@a.test"]))
        #expect(outcomes.map(\.result) == [.permanent])
        #expect(servers.map(\.connections) == [1, 1])
        await world.end()
    }

    @Test func byPreference() async throws {
        let world = try MailWorld(["a.test. 300 IN MX 20 mx2.test.", "a.test. 300 IN MX 5 mx1.test."])
        let servers = [try await world.server(1, Self.serve), try await world.server(2, Self.serve)]
        let relay = try world.relay { $0.idleTimeout = .milliseconds(1) }
        for _ in 0..<10 { #expect(await relay.attempt(Delivery(to: ["b@a.test"])).map(\.result) == [.delivered]) }
        #expect(servers.map(\.contents.count) == [10, 0])
        await world.end()
    }

    @Test func atRandomWithinOnePreference() async throws {
        let world = try MailWorld((1...3).map { "a.test. 300 IN MX 10 mx\($0).test." })
        var servers: [ScriptedServer] = []
        for number in 1...3 { servers.append(try await world.server(number, Self.serve)) }
        let relay = try world.relay()
        // A server that is not among 60 by chance: once in 10^10 runs.
        for _ in 0..<60 { #expect(await relay.attempt(Delivery(to: ["b@a.test"])).map(\.result) == [.delivered]) }
        #expect(servers.allSatisfy { $0.contents.count > 0 })
        #expect(servers.reduce(0) { $0 + $1.contents.count } == 60)
        #expect(servers.allSatisfy { $0.connections == 1 })
        await world.end()
    }

    @Test func everyAddressOfAnExchanger() async throws {
        let world = try MailWorld([
            "a.test. 300 IN MX 10 many.test.", "many.test. 300 IN A 127.0.1.1", "many.test. 300 IN AAAA ::1",
            "many.test. 300 IN A 127.0.1.2", "many.test. 300 IN A 127.0.1.3",
        ])
        let server = try await world.server(3, Self.serve)
        let outcomes = await (try world.relay()).attempt(Delivery(to: ["b@a.test"]))
        #expect(outcomes.map(\.result) == [.delivered])
        #expect(server.contents.count == 1)
        await world.end()
    }

    @Test func withoutMX() async throws {
        let world = try MailWorld(["four.test. 300 IN A 127.0.1.1", "six.test. 300 IN AAAA ::1"])
        let sink = try world.sink(1)
        let six = try Sink("::1", world.port)
        let relay = try world.relay()
        #expect(await relay.attempt(Delivery(to: ["b@four.test"])).map(\.remoteHost) == ["four.test"])
        #expect(await relay.attempt(Delivery(to: ["b@six.test"])).map(\.relay) == ["six.test[::1]:\(world.port)"])
        #expect(sink.messages.count == 1 && six.messages.count == 1)
        six.stop()
        await world.end()
    }

    @Test(arguments: [
        ("null.test", "556 5.1.10 null.test takes no mail"), ("nobody.test", "550 5.1.2 nobody.test does not exist"),
        ("text.test", "550 5.1.2 text.test has no host that takes mail"),
        ("lost.test", "550 5.1.2 lost.test has no host that takes mail"),
        ("numeric.test", "550 5.1.2 numeric.test has no host that takes mail"),
        ("a..test", "550 5.1.2 a..test is not a domain name"), ("ü.test", "550 5.1.2 xn--tda.test does not exist"),
        ("x\u{200D}.test", "550 5.1.2 x\u{200D}.test is not a domain name"),
        ("[127.0.0]", "550 5.1.3 [127.0.0] is not an address"),
        ("[ipv6:127.0.0.1]", "550 5.1.3 [ipv6:127.0.0.1] is not an address"),
        ("[::1]", "550 5.1.3 [::1] is not an address"), ("[x:y]", "550 5.1.3 [x:y] is not an address"),
        ("self.test", "554 5.4.6 mail for self.test would come back to this host"),
    ])
    func noMailThere(_ domain: String, _ expected: String) async throws {
        let world = try MailWorld([
            "null.test. 300 IN MX 0 .", "text.test. 300 IN TXT hello", "lost.test. 300 IN MX 1 nowhere.test.",
            "self.test. 300 IN MX 10 client.test.",
            "numeric.test. 300 IN MX 10 127.0.1.1.",
        ])
        let server = try await world.server(1, Self.serve)
        let outcomes = await (try world.relay()).attempt(Delivery(to: ["b@\(domain)", "c@\(domain)"]))
        #expect(outcomes.map(\.reply.description) == [expected, expected])
        #expect(outcomes.map(\.result) == [.permanent, .permanent])
        #expect(!outcomes[0].isRemote && server.connections == 0)
        await world.end()
    }

    // MARK: Where mail must not go

    /// Threat 34: by name, by address, by localhost, in every form of the address.
    @Test(arguments: [
        ("zero.test", "zero.test is at 0.0.0.0"), ("[0.0.0.0]", "[0.0.0.0] is at 0.0.0.0"),
        ("self.test", "mx.self.test is at 127.0.0.1"), ("meta.test", "meta.test is at 169.254.169.254"),
        ("six.test", "six.test is at ::1"), ("mapped.test", "mapped.test is at 127.0.0.1"),
        ("localhost", "localhost is at "), ("a.localhost", "a.localhost is at "),
        ("local.test", "localhost is at "), ("[127.9.9.9]", "[127.9.9.9] is at 127.9.9.9"),
        ("[IPv6:::ffff:127.0.0.1]", "[ipv6:::ffff:127.0.0.1] is at 127.0.0.1"),
        ("[IPv6:fe80::1]", "[ipv6:fe80::1] is at fe80::1"),
    ])
    func notPermitted(_ domain: String, _ text: String) async throws {
        let world = try MailWorld([
            "zero.test. 300 IN A 0.0.0.0", "self.test. 300 IN MX 10 mx.self.test.",
            "mx.self.test. 300 IN A 127.0.0.1", "meta.test. 300 IN A 169.254.169.254", "six.test. 300 IN AAAA ::1",
            "mapped.test. 300 IN AAAA ::ffff:127.0.0.1", "local.test. 300 IN MX 10 localhost.",
        ])
        let relay = try world.relay { $0.networks = PermittedNetworks() }
        let outcomes = await relay.attempt(Delivery(to: ["b@\(domain)", "c@\(domain)"]))
        #expect(outcomes.map(\.result) == [.permanent, .permanent])
        for outcome in outcomes {
            #expect(outcome.reply.description.hasPrefix("554 5.4.6 \(text)"))
            #expect(outcome.reply.description.hasSuffix(", where no mail is sent"))
        }
        #expect(relay.connectionCount == 0)
        await world.end()
    }

    /// One such exchanger, or one such address of an exchanger, is no reason not to use another.
    @Test func theNextIsPermitted() async throws {
        let world = try MailWorld([
            "a.test. 300 IN MX 5 low.test.", "a.test. 300 IN MX 10 both.test.", "low.test. 300 IN A 127.0.2.1",
            "both.test. 300 IN A 127.0.2.2", "both.test. 300 IN A 127.0.1.1", "b.test. 300 IN MX 5 low.test.",
            "b.test. 300 IN MX 10 mx2.test.",
        ])
        let server = try await world.server(1, Self.serve)
        let trap = try await ScriptedServer(at: "127.0.2.1", port: world.port, Self.serve)
        let networks = PermittedNetworks(allowed: [try #require(NetworkRange("127.0.1.0/24"))])
        let relay = try world.relay { $0.networks = networks }
        let outcomes = await relay.attempt(Delivery(to: ["b@a.test"]))
        #expect(outcomes.map(\.relay) == ["both.test[127.0.1.1]:\(world.port)"])
        #expect(server.contents.count == 1 && trap.connections == 0)
        // Not even when the other one is dead: it is to be waited for.
        let dead = await relay.attempt(Delivery(to: ["b@b.test"]))
        #expect(dead.map(\.reply.status) == [EnhancedStatus(4, 4, 1)])
        await world.end()
    }

    @Test(arguments: ["bad.test", "half.test"]) func nobodyKnows(_ domain: String) async throws {
        let world = try MailWorld(
            ["half.test. 300 IN MX 10 mx.bad.test.", "half.test. 300 IN MX 20 nowhere.test."], refusing: ["bad.test"])
        let outcomes = await (try world.relay()).attempt(Delivery(to: ["b@\(domain)"]))
        #expect(outcomes.map(\.result) == [.temporary])
        #expect(outcomes.map(\.reply.status) == [EnhancedStatus(4, 4, 3)])
        #expect(outcomes.map(\.isHostFailure) == [true])
        await world.end()
    }

    /// An exchanger that DNS cannot find is no reason not to use another.
    @Test func oneOfTwoIsUnknown() async throws {
        let world = try MailWorld(
            ["a.test. 300 IN MX 10 mx.bad.test.", "a.test. 300 IN MX 20 mx1.test."], refusing: ["bad.test"])
        let server = try await world.server(1, Self.serve)
        let outcomes = await (try world.relay()).attempt(Delivery(to: ["b@a.test"]))
        #expect(outcomes.map(\.result) == [.delivered])
        #expect(server.contents.count == 1)
        await world.end()
    }

    @Test func addressLiterals() async throws {
        let world = try MailWorld([])
        let sink = try world.sink(1)
        let six = try Sink("::1", world.port)
        let relay = try world.relay()
        let outcomes = await relay.attempt(
            Delivery(to: ["b@[127.0.1.1]", "c@[IPv6:::1]", "d@[ipv6:::1]", "e@[127.0.1.1]"]))
        #expect(outcomes.map(\.result) == [.delivered, .delivered, .delivered, .delivered])
        #expect(outcomes.map(\.remoteHost) == ["[127.0.1.1]", "[::1]", "[::1]", "[127.0.1.1]"])
        #expect(sink.messages.map(\.recipients) == [["<b@[127.0.1.1]>", "<e@[127.0.1.1]>"]])
        #expect(six.messages.count == 1)
        six.stop()
        await world.end()
    }

    /// DNS, the name for TLS and the envelope have A-labels; both forms are one domain, in one transaction.
    @Test func internationalDomains() async throws {
        let world = try MailWorld(["xn--mnchen-3ya.test. 300 IN A 127.0.1.1"])
        let server = try await world.server(1, Self.serve)
        let delivery = Delivery(to: ["bob@m\u{FC}nchen.test", "eve@M\u{DC}NCHEN.test", "al@XN--mnchen-3ya.test"])
        let outcomes = await (try world.relay()).attempt(delivery)
        #expect(outcomes.map(\.result) == [.delivered, .delivered, .delivered])
        #expect(outcomes.map(\.remoteHost) == Array(repeating: "xn--mnchen-3ya.test", count: 3))
        #expect(server.contents.count == 1)
        #expect(server.lines.contains("RCPT TO:<bob@xn--mnchen-3ya.test>"))
        #expect(server.lines.contains("RCPT TO:<eve@xn--mnchen-3ya.test>"))
        #expect(server.lines.contains("RCPT TO:<al@XN--mnchen-3ya.test>"))
        await world.end()
    }

    // MARK: Ourselves

    @Test func ourselvesAndWhatIsBehind() async throws {
        let world = try MailWorld([
            "a.test. 300 IN MX 10 mx1.test.", "a.test. 300 IN MX 20 mx2.test.", "a.test. 300 IN MX 20 mx3.test.",
            "a.test. 300 IN MX 30 mx4.test.",
        ])
        let own = try SocketAddress(ipAddress: "127.0.1.2", port: world.port)
        var servers: [ScriptedServer] = []
        for number in 2...4 { servers.append(try await world.server(number, Self.serve)) }
        let relay = try world.relay(own: [own])
        // The better one is dead: it is to be waited for.
        let outcomes = await relay.attempt(Delivery(to: ["b@a.test"]))
        #expect(outcomes.map(\.reply.status) == [EnhancedStatus(4, 4, 1)])
        #expect(servers.map(\.connections) == [0, 0, 0])
        // Another port of the same address is somebody else.
        let other = try world.relay(own: [try SocketAddress(ipAddress: "127.0.1.2", port: world.port - 1)])
        #expect(await other.attempt(Delivery(to: ["b@a.test"])).map(\.result) == [.delivered])
        await world.end()
    }

    /// Threat 34: nothing leads back to our own ports, by whatever name or address of this machine.
    @Test(arguments: ["mine.test", "[127.0.0.1]", "[127.0.1.9]", "[IPv6:::1]", "[IPv6:::ffff:127.0.0.1]"])
    func wildcardListeners(_ domain: String) async throws {
        let world = try MailWorld(["mine.test. 300 IN A 127.0.1.1"])
        let relay = try world.relay(own: [try SocketAddress(ipAddress: "::", port: world.port)])
        let outcomes = await relay.attempt(Delivery(to: ["b@\(domain)"]))
        #expect(outcomes.map(\.reply.status) == [EnhancedStatus(5, 4, 6)])
        await world.end()
    }

    // MARK: Recipients

    @Test func severalDomains() async throws {
        let world = try MailWorld([
            "a.test. 300 IN MX 10 mx1.test.", "b.test. 300 IN MX 10 mx2.test.", "null.test. 300 IN MX 0 .",
        ])
        let (one, two) = (try world.sink(1), try world.sink(2, ["-r", "RCPT"]))
        var delivery = Delivery(to: ["1@a.test", "2@b.test", "3@null.test", "4@a.test", "5@a.test"])
        delivery.recipients = [0, 1, 2, 4]
        let outcomes = await (try world.relay()).attempt(delivery)
        #expect(outcomes.map(\.result) == [.delivered, .temporary, .permanent, .delivered])
        #expect(one.messages.map(\.recipients) == [["<1@a.test>", "<5@a.test>"]])
        #expect(two.messages.isEmpty)
        await world.end()
    }

    @Test func manyRecipients() async throws {
        let world = try MailWorld(["a.test. 300 IN MX 10 mx1.test."])
        let sink = try world.sink(1)
        let recipients = (0..<250).map { "r\($0)@a.test" }
        let outcomes = await (try world.relay()).attempt(Delivery(to: recipients))
        #expect(outcomes.count == 250 && outcomes.allSatisfy { $0.result == .delivered })
        #expect(sink.messages.map(\.recipients.count).sorted() == [50, 100, 100])
        #expect(Set(sink.messages.flatMap(\.recipients)) == Set(recipients.map { "<\($0)>" }))
        await world.end()
    }

    @Test func manyMessagesOverFewConnections() async throws {
        let world = try MailWorld(["a.test. 300 IN MX 10 mx1.test."])
        let server = try await world.server(1, Self.serve)
        let relay = try world.relay { $0.connectionsPerDestination = 3 }
        let count = await withTaskGroup(of: Int.self) { group in
            for _ in 0..<200 {
                group.addTask {
                    // Who has waited for too long, on a busy machine, comes back: the queue sees to that.
                    var outcomes: [Outcome]
                    repeat {
                        outcomes = await relay.attempt(Delivery(to: ["b@a.test"]))
                    } while outcomes[0].postponed != nil
                    return outcomes.count { $0.result == .delivered }
                }
            }
            return await group.reduce(0, +)
        }
        #expect(count == 200 && server.contents.count == 200)
        #expect(server.mostOpen <= 3)
        await relay.shutDown()
        await world.end()
    }

    // MARK: What the next hop can do

    @Test(
        arguments: [
            (["-8"], "S: \u{FC}\r\n", false, "250 2.0.0"), ([], "S: \u{FC}\r\n", false, "250 2.0.0"),
            (["-8"], "S: u\r\n", true, "250 2.0.0"), ([], "S: \u{FC}\r\n\r\n", true, "550 5.6.7"),
            (
                [], "Cc: \u{FC} <\u{FC}@c.test>\r\n\r\n", true,
                "550 5.6.7 the server does not support SMTPUTF8, which the address \u{FC}@c.test in the field Cc needs"
            ),
            ([], "S: u\r\n\r\n\u{FC}\r\n", true, "250 2.0.0"),
        ] as [([String], String, Bool, String)])
    func nextHops(_ options: [String], _ content: String, _ smtpUTF8: Bool, _ expected: String) async throws {
        let world = try MailWorld(["a.test. 300 IN MX 10 mx1.test."])
        let sink = try world.sink(1, options)
        let outcomes = await (try world.relay()).attempt(Delivery(content, to: ["b@a.test"], smtpUTF8: smtpUTF8))
        #expect(outcomes[0].reply.description.hasPrefix(expected))
        if outcomes[0].result == .delivered {
            let isEightBit = options.isEmpty && !content.utf8.allSatisfy { $0 < 0x80 }
            #expect(
                sink.messages.map(\.mail) == ["<sender@client.test>" + (isEightBit ? " BODY=8BITMIME" : "")])
        }
        await world.end()
    }

    @Test func smtpUTF8() async throws {
        let world = try MailWorld(["a.test. 300 IN MX 10 mx1.test.", "b.test. 300 IN MX 10 mx2.test."])
        let new = try await world.server(1, [.send("220 x\r\n"), .serve(["SMTPUTF8", "8BITMIME"])])
        let old = try world.sink(2)
        let outcomes = await (try world.relay()).attempt(
            Delivery(to: ["j\u{F6}rg@a.test", "j\u{F6}rg@b.test", "jo@b.test"], smtpUTF8: true))
        #expect(outcomes.map(\.result) == [.delivered, .permanent, .delivered])
        #expect(outcomes[1].reply.status == EnhancedStatus(5, 6, 7))
        #expect(outcomes[1].reply.description.contains("which the recipient j\u{F6}rg@b.test needs"))
        #expect(new.lines.contains("MAIL FROM:<sender@client.test> SMTPUTF8"))
        #expect(new.lines.contains("RCPT TO:<j\u{F6}rg@a.test>"))
        #expect(old.messages.map(\.recipients) == [["<jo@b.test>"]])
        await world.end()
    }
}

/// By itself, because it takes as long as libunbound tries.
struct DeadNameServerTests {
    @Test func noNameServer() async throws {
        let resolver = try Fixture.resolver(try NameServer.freePort())
        let relay = try MXRelay(
            RelayOptions(hostname: "client.test"), resolver: resolver, own: OwnAddresses(listeners: []),
            group: Fixture.group, logger: Fixture.logger)
        let outcomes = await relay.attempt(Delivery(to: ["b@a.test"]))
        #expect(outcomes.map(\.reply.status) == [EnhancedStatus(4, 4, 3)])
        await resolver.close()
    }
}
