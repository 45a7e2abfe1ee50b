// The driver and the pool under a relay to one host, against servers that follow a script.

import NIOCore
import SlimtaDNS
import SlimtaMail
import SlimtaQueue
import SlimtaRelay
import SlimtaSASL
import SlimtaSMTP
import SlimtaTLS
import TestKit
import Testing

@Suite(.timeLimit(.minutes(4)))
struct FixedHostRelayTests {
    /// No lookup is needed for an IP address.
    static let resolver = try! Fixture.resolver(9)

    static func options(_ change: (inout RelayOptions) -> Void = { _ in }) -> RelayOptions {
        var options = RelayOptions(hostname: "client.test")
        options.connectTimeout = .seconds(10)
        change(&options)
        return options
    }

    static func relay(
        _ server: ScriptedServer, _ options: RelayOptions = options(), credentials: SASLClient.Credentials? = nil,
        trustFile: String? = nil
    ) throws -> FixedHostRelay {
        try FixedHostRelay(
            options, to: [.host("127.0.0.1", port: server.port)], login: credentials.map { .credentials($0) },
            trustFile: trustFile,
            resolver: resolver, group: Fixture.group, logger: Fixture.logger)
    }

    static let greeting = ScriptedServer.Step.send("220 scripted.test\r\n")
    static let ehlo: [ScriptedServer.Step] = [greeting, .expect("EHLO client.test")]
    static let sent = "Received: here\r\n" + dotted
    static let dotted = "Subject: hello\r\n\r\nA line.\r\n..a dot\r\n...\r\nThe end.\r\n.\r\n"

    // MARK: Transactions

    @Test(arguments: [["PIPELINING", "SIZE", "8BITMIME"], []])
    func delivered(_ extensions: [String]) async throws {
        let server = try await ScriptedServer([Self.greeting, .serve(extensions)])
        let relay = try Self.relay(server)
        for _ in 0..<5 {
            let outcomes = await relay.attempt(Delivery(to: ["a@x.test", "b@y.test"]))
            #expect(outcomes.map(\.result) == [.delivered, .delivered])
            #expect(outcomes[0].reply == Reply(250, EnhancedStatus(2, 0, 0), "taken"))
            #expect(outcomes[0].isRemote && outcomes[0].tls == nil)
            #expect(outcomes[0].relay == "[127.0.0.1]:\(server.port)")
            #expect(outcomes[0].remoteHost == "[127.0.0.1]")
        }
        #expect(server.connections == 1)
        #expect(server.contents == Array(repeating: Self.sent, count: 5))
        let mail = "MAIL FROM:<sender@client.test>" + (extensions.isEmpty ? "" : " SIZE=65")
        #expect(
            server.lines == ["EHLO client.test"]
                + Array(repeating: [mail, "RCPT TO:<a@x.test>", "RCPT TO:<b@y.test>", "DATA"], count: 5).flatMap(\.self)
        )
        await relay.shutDown()
        #expect(server.lines.last == "QUIT")
        #expect(relay.connectionCount == 0)
        #expect(await relay.attempt(Delivery(to: ["a@x.test"])).map(\.result) == [.temporary])
        await server.stop()
    }

    @Test func eachRecipientItsOwn() async throws {
        let server = try await ScriptedServer(
            Self.ehlo + [
                .send("250-x\r\n250 PIPELINING\r\n"), .expect("MAIL"), .expect("RCPT"), .expect("RCPT"),
                .expect("RCPT"), .expect("DATA"),
                .send("250 a\r\n250 b\r\n450 4.2.1 c\r\n550 5.1.1 d\r\n354 e\r\n"), .expectContent,
                .send("250 2.0.0 f\r\n"),
            ])
        let outcomes = await (try Self.relay(server)).attempt(Delivery(to: ["a@x.test", "b@x.test", "c@x.test"]))
        #expect(outcomes.map(\.result) == [.delivered, .temporary, .permanent])
        #expect(outcomes.map(\.reply.description) == ["250 2.0.0 f", "450 4.2.1 c", "550 5.1.1 d"])
        #expect(server.faults == [])
    }

    /// Not one octet of a message that could be read in two ways gets its end.
    @Test(arguments: ["a\nb\r\n", "a\rb\r\n", "a\r\n.\n", "\n.\r\n", "x\u{0}\r\n"])
    func messagesWithBareLineEnds(_ content: String) async throws {
        let server = try await ScriptedServer([Self.greeting, .serve(["PIPELINING"])])
        let relay = try Self.relay(server)
        let small = await relay.attempt(Delivery(content, to: ["a@x.test"]))
        #expect(small.map(\.result) == [.permanent] && small[0].reply.status == EnhancedStatus(5, 6, 0))
        // In the rest of a large one.
        let rest = SpooledOctets([ByteBuffer(repeating: 0x61, count: 100_000), ByteBuffer(string: content)])
        let large = await relay.attempt(Delivery("head\r\n", to: ["a@x.test"], rest: rest))
        #expect(large.map(\.result) == [.permanent] && large[0].reply.status == EnhancedStatus(5, 6, 0))
        // The connections went with them, and the next message has a new one.
        #expect(await relay.attempt(Delivery(to: ["a@x.test"])).map(\.result) == [.delivered])
        #expect(server.connections == 3)
        #expect(server.contents == [Self.sent])
    }

    @Test func eightBitForOldServers() async throws {
        let server = try await ScriptedServer([Self.greeting, .serve(["PIPELINING"])])
        let relay = try Self.relay(server, Self.options { $0.convertsToSevenBit = false })
        let small = await relay.attempt(Delivery("S: \u{FC}\r\n", to: ["a@x.test"]))
        #expect(small[0].result == .permanent && small[0].reply.status == EnhancedStatus(5, 6, 3))
        // Known only when it comes.
        let rest = SpooledOctets([ByteBuffer(string: "\u{FC}\r\n")])
        let large = await relay.attempt(Delivery("head\r\n", to: ["a@x.test"], rest: rest))
        #expect(large[0].result == .permanent && large[0].reply.status == EnhancedStatus(5, 6, 3))
        #expect(server.contents == [])
    }

    // MARK: Large messages

    @Test func largeMessages() async throws {
        let server = try await ScriptedServer([Self.greeting, .serve(["PIPELINING"])])
        let relay = try Self.relay(server)
        let line = String(repeating: "x", count: 998) + "\r\n"
        let chunks = (0..<30).map { _ in ByteBuffer(string: String(repeating: line, count: 64) + ".\r\n") }
        let outcomes = await relay.attempt(Delivery("head\r\n", to: ["a@x.test"], rest: SpooledOctets(chunks)))
        #expect(outcomes.map(\.result) == [.delivered])
        let expected =
            "Received: here\r\nhead\r\n"
            + String(
                repeating: String(repeating: line, count: 64) + "..\r\n", count: 30) + ".\r\n"
        #expect(server.contents.count == 1 && server.contents[0] == expected)
    }

    @Test func unreadableMessages() async throws {
        let server = try await ScriptedServer([Self.greeting, .serve(["PIPELINING"])])
        let relay = try Self.relay(server)
        let rest = SpooledOctets([ByteBuffer(string: "x\r\n")], failsAtEnd: true)
        let outcomes = await relay.attempt(Delivery("head\r\n", to: ["a@x.test"], rest: rest))
        #expect(outcomes.map(\.result) == [.temporary] && outcomes[0].reply.status == EnhancedStatus(4, 3, 0))
        #expect(server.contents == [])
    }

    @Test func refusedInTheMiddle() async throws {
        let server = try await ScriptedServer(
            Self.ehlo + [
                .send("250-x\r\n250 PIPELINING\r\n"), .expect("MAIL"), .expect("RCPT"), .expect("DATA"),
                .send("250 a\r\n250 b\r\n354 c\r\n"), .expect("Received"), .send("552 5.3.4 enough\r\n"),
            ])
        let relay = try Self.relay(server)
        let chunks = (0..<1000).map { _ in ByteBuffer(repeating: 0x61, count: 65_536) }
        let outcomes = await relay.attempt(Delivery("head\r\n", to: ["a@x.test"], rest: SpooledOctets(chunks)))
        #expect(outcomes.map(\.reply.description) == ["552 5.3.4 enough"])
        #expect(outcomes.map(\.result) == [.permanent])
    }

    /// A write that fails at once calls back while it is made.
    @Test(arguments: [ScriptedServer.Step.reset, .close]) func brokenInTheMiddle(_ end: ScriptedServer.Step)
        async throws
    {
        let server = try await ScriptedServer(
            Self.ehlo + [
                .send("250-x\r\n250 PIPELINING\r\n"), .expect("MAIL"), .expect("RCPT"), .expect("DATA"),
                .send("250 a\r\n250 b\r\n354 c\r\n"), .expect("Received"), end,
            ])
        let relay = try Self.relay(server)
        let chunks = (0..<200).map { _ in ByteBuffer(repeating: 0x61, count: 65_536) }
        for _ in 0..<10 {
            let large = await relay.attempt(Delivery("head\r\n", to: ["a@x.test"], rest: SpooledOctets(chunks)))
            #expect(large.map(\.result) == [.temporary] && large[0].reply.status == EnhancedStatus(4, 4, 2))
            let small = await relay.attempt(Delivery(to: ["a@x.test"]))
            #expect(small.map(\.result) == [.temporary] && small[0].reply.status == EnhancedStatus(4, 4, 2))
        }
        await relay.shutDown()
        #expect(relay.connectionCount == 0)
    }

    // MARK: Servers that go away

    /// Servers that end sessions anywhere, under load: every attempt comes to an end, nothing that was called
    /// delivered is missing, and no connection is left over.
    @Test(arguments: 0..<4) func anyEnd(_ seed: UInt64) async throws {
        var random = SeededGenerator(seed: seed)
        let once: [ScriptedServer.Step] = [
            .expect("MAIL"), .send("250 a\r\n"), .expect("RCPT"), .send("250 b\r\n"), .expect("DATA"),
            .send("354 c\r\n"), .expectContent, .send("250 d\r\n"),
        ]
        let scripts = (0..<120).map { _ in
            let whole = Self.ehlo + [.send("250 x\r\n")] + once + once + once
            let ends: [[ScriptedServer.Step]] = [[.close], [.reset], [.send("421 bye\r\n"), .close], [.send("x\r\n")]]
            return Array(whole.prefix(Int.random(in: 0...whole.count, using: &random)))
                + ends.randomElement(using: &random)!
        }
        let server = try await ScriptedServer(all: scripts + [[Self.greeting, .serve(["PIPELINING"])]])
        let relay = try Self.relay(server, Self.options { $0.connectionsPerDestination = 5 })
        let delivered = await withTaskGroup(of: Int.self) { group in
            for _ in 0..<300 {
                group.addTask {
                    let outcomes = await relay.attempt(Delivery(to: ["a@x.test"]))
                    #expect(outcomes.count == 1 && outcomes[0].result != .permanent)
                    return outcomes.count { $0.result == .delivered }
                }
            }
            return await group.reduce(0, +)
        }
        #expect(server.contents.count >= delivered)
        #expect(server.contents.allSatisfy { $0 == Self.sent })
        #expect(delivered > 0)
        await relay.shutDown()
        #expect(relay.connectionCount == 0)
        // And it still works.
        var isDelivered = false
        while !isDelivered {
            // One that has not learned to leave this server alone.
            let fresh = try Self.relay(server)
            isDelivered = await fresh.attempt(Delivery(to: ["a@x.test"])).map(\.result) == [.delivered]
            await fresh.shutDown()
        }
    }

    @Test(arguments: [[ScriptedServer.Step.close], [.send("421 too many\r\n"), .close]])
    func idleConnectionThatIsDead(_ end: [ScriptedServer.Step]) async throws {
        let once: [ScriptedServer.Step] =
            Self.ehlo + [
                .send("250 x\r\n"), .expect("MAIL"), .send("250 a\r\n"), .expect("RCPT"), .send("250 b\r\n"),
                .expect("DATA"), .send("354 c\r\n"), .expectContent, .send("250 d\r\n"), .expect("MAIL"),
            ] + end
        let server = try await ScriptedServer(once, [Self.greeting, .serve([])])
        let relay = try Self.relay(server)
        for _ in 0..<2 { #expect(await relay.attempt(Delivery(to: ["a@x.test"])).map(\.result) == [.delivered]) }
        #expect(server.connections == 2)
        #expect(server.contents.count == 2)
        #expect(server.faults == [])
    }

    /// One that is always like that is not tried for ever.
    @Test func alwaysDead() async throws {
        let once: [ScriptedServer.Step] =
            Self.ehlo + [
                .send("250 x\r\n"), .expect("MAIL"), .send("250 a\r\n"), .expect("RCPT"), .send("250 b\r\n"),
                .expect("DATA"), .send("354 c\r\n"), .expectContent, .send("250 d\r\n"), .expect("MAIL"), .close,
            ]
        let server = try await ScriptedServer(once, Self.ehlo + [.send("250 x\r\n"), .expect("MAIL"), .close])
        let relay = try Self.relay(server)
        #expect(await relay.attempt(Delivery(to: ["a@x.test"])).map(\.result) == [.delivered])
        let outcomes = await relay.attempt(Delivery(to: ["a@x.test"]))
        #expect(outcomes.map(\.result) == [.temporary] && outcomes[0].reply.status == EnhancedStatus(4, 4, 2))
        #expect(server.connections == 2)
    }

    @Test(
        arguments: [
            ([], "451 4.4.2 the server closed the connection before its greeting"),
            ([.send("554 5.3.2 go away\r\n")], "554 5.3.2 go away"),
            (
                [greeting, .expect("EHLO"), .send("550 5.7.1 no\r\n"), .expect("HELO"), .send("550 5.7.1 no\r\n")],
                "550 5.7.1 no"
            ),
            ([.send("SSH-2.0-x\r\n")], "451 4.5.0 protocol error: not an SMTP reply"),
            ([.send(String(repeating: "x", count: 5000))], "451 4.5.0 protocol error: not an SMTP reply"),
            (
                [.send(String(repeating: "220-x\r\n", count: 500))],
                "451 4.4.2 the server closed the connection before its greeting"
            ),
            ([greeting, .expect("EHLO")], "451 4.4.2 the server closed the connection in reply to EHLO"),
            ([greeting, .expect("EHLO"), .send("421 4.7.0 busy\r\n")], "421 4.7.0 busy"),
            (
                [greeting, .expect("EHLO"), .send("250 x\r\n"), .expect("MAIL")],
                "451 4.4.2 the server closed the connection in reply to MAIL"
            ),
            (
                [greeting, .expect("EHLO"), .send("250 x\r\n"), .expect("MAIL"), .send("354 go\r\n")],
                "451 4.5.0 protocol error: 354 in reply to MAIL"
            ),
            (
                [
                    greeting, .expect("EHLO"), .send("250-PIPELINING\r\n250 PIPELINING\r\n"), .expect("DATA"),
                    .send("250 a\r\n250 b\r\n354 c\r\n"), .expectContent,
                ], ""
            ),
            (
                [
                    greeting, .expect("EHLO"), .send("250-x\r\n250 PIPELINING\r\n"), .expect("MAIL"), .expect("RCPT"),
                    .expect("DATA"), .send("250 a\r\n250 b\r\n354 c\r\n"), .expectContent,
                ],
                "451 4.4.2 the server closed the connection in reply to the message (it may be delivered more than once)"
            ),
        ] as [([ScriptedServer.Step], String)])
    func hostileServers(_ script: [ScriptedServer.Step], _ expected: String) async throws {
        let server = try await ScriptedServer(script + [.close])
        let outcomes = await (try Self.relay(server)).attempt(Delivery(to: ["a@x.test"]))
        #expect(outcomes.count == 1)
        if !expected.isEmpty { #expect(outcomes[0].reply.description == expected) }
        // Whatever such a host says of itself: no message bounces because the operator named the wrong one.
        #expect(outcomes[0].result == .temporary)
    }

    @Test func nobodyThere() async throws {
        let server = try await ScriptedServer([])
        await server.stop()
        let outcomes = await (try Self.relay(server)).attempt(Delivery(to: ["a@x.test"]))
        #expect(
            outcomes.map(\.reply.description) == [
                "451 4.4.1 cannot connect to [127.0.0.1]:\(server.port): Connection refused"
            ])
        #expect(outcomes[0].result == .temporary)
    }

    @Test(
        arguments: [
            ([], "before its greeting"), (ehlo, "in reply to EHLO"),
            (ehlo + [.send("250 x\r\n"), .expect("MAIL"), .send("250-x\r\n")], "in reply to MAIL"),
        ] as [([ScriptedServer.Step], String)])
    func silence(_ script: [ScriptedServer.Step], _ place: String) async throws {
        let server = try await ScriptedServer(script + [.expect("never")])
        let wanted = ["451 4.4.2 timed out \(place)"]
        var said: [String] = []
        // What comes before the silence has to come in time, which takes longer on a busy machine.
        for limit in [Duration.seconds(1), .seconds(6), .seconds(36)] where said != wanted {
            let relay = try Self.relay(
                server,
                Self.options {
                    $0.commandTimeout = limit
                    $0.greetingTimeout = limit
                })
            said = await relay.attempt(Delivery(to: ["a@x.test"])).map(\.reply.description)
        }
        #expect(said == wanted)
    }

    @Test func idleConnectionsEnd() async throws {
        let server = try await ScriptedServer([Self.greeting, .serve([])])
        let relay = try Self.relay(server, Self.options { $0.idleTimeout = .milliseconds(50) })
        #expect(await relay.attempt(Delivery(to: ["a@x.test"])).map(\.result) == [.delivered])
        while relay.connectionCount > 0 { try await Task.sleep(for: .milliseconds(5)) }
        #expect(server.lines.last == "QUIT")
    }

    // MARK: Broken off

    @Test(
        arguments: [
            [], ehlo, ehlo + [.send("250 x\r\n"), .expect("MAIL")],
        ] as [[ScriptedServer.Step]])
    func cancelled(_ script: [ScriptedServer.Step]) async throws {
        let server = try await ScriptedServer(script + [.expect("never")])
        let relay = try Self.relay(server, Self.options { $0.connectionsPerDestination = 1 })
        // The second one waits for a connection.
        let tasks = (0..<2).map { _ in Task { await relay.attempt(Delivery(to: ["a@x.test"])) } }
        while server.connections == 0 || server.lines.count < script.count(where: \.isExpect) {
            try await Task.sleep(for: .milliseconds(5))
        }
        for task in tasks { task.cancel() }
        for task in tasks {
            let outcomes = await task.value
            #expect(outcomes.map(\.result) == [.temporary])
            #expect(outcomes.map(\.reply.status) == [EnhancedStatus(4, 3, 2)])
        }
        await relay.shutDown()
        #expect(relay.connectionCount == 0)
    }

    @Test func cancelledBeforehand() async throws {
        let server = try await ScriptedServer([Self.greeting, .serve([])])
        let relay = try Self.relay(server)
        let task = Task {
            while !Task.isCancelled { await Task.yield() }
            return await relay.attempt(Delivery(to: ["a@x.test"]))
        }
        task.cancel()
        #expect(await task.value.map(\.result) == [.temporary])
        #expect(server.contents == [])
    }

    // MARK: Limits

    @Test(arguments: [(7, 100), (100, 5), (1, 1)])
    func limits(_ perDestination: Int, _ total: Int) async throws {
        let server = try await ScriptedServer([Self.greeting, .serve(["PIPELINING"])])
        let relay = try Self.relay(
            server,
            Self.options {
                $0.connectionsPerDestination = perDestination
                $0.connections = total
                $0.messagesPerSession = 1000
            })
        let delivered = await withTaskGroup(of: Bool.self) { group in
            for _ in 0..<200 {
                group.addTask {
                    // Who has waited for too long, on a busy machine, comes back: the queue sees to that.
                    var outcomes: [Outcome]
                    repeat {
                        outcomes = await relay.attempt(Delivery(to: ["a@x.test"]))
                    } while outcomes[0].postponed != nil
                    return outcomes.map(\.result) == [.delivered]
                }
            }
            return await group.reduce(into: 0) { $0 += $1 ? 1 : 0 }
        }
        #expect(delivered == 200)
        #expect(server.contents.count == 200)
        #expect(server.mostOpen <= min(perDestination, total))
        // Nobody hung up, so there was no reason for more.
        #expect(server.connections <= min(perDestination, total))
        await relay.shutDown()
    }

    @Test func sourceAddresses() async throws {
        let server = try await ScriptedServer([Self.greeting, .serve([])])
        let relay = try Self.relay(server, Self.options { $0.sourceAddresses = ["::1", "127.0.0.77"] })
        #expect(await relay.attempt(Delivery(to: ["a@x.test"])).map(\.result) == [.delivered])
        #expect(server.peers == ["127.0.0.77"])
        let other = try Self.relay(server, Self.options { $0.sourceAddresses = ["::1"] })
        let outcomes = await other.attempt(Delivery(to: ["a@x.test"]))
        #expect(outcomes.map(\.reply.status) == [EnhancedStatus(4, 4, 1)])
        #expect(throws: (any Error).self) {
            try Self.relay(server, Self.options { $0.sourceAddresses = ["localhost"] })
        }
    }

    // MARK: TLS

    static let tlsOffer = ScriptedServer.Step.send("250-x\r\n250 STARTTLS\r\n")

    static func serverContext(_ names: String...) throws -> (TLSServerContext, String, Certificates) {
        let certificates = try Certificates()
        let pair = try certificates.selfSigned(names[0])
        let context = try TLSServerContext(
            certificatePEM: pair.certificatePEM, keyPEM: pair.keyPEM, minimum: .v1_2)
        return (context, pair.certificateFile, certificates)
    }

    @Test(arguments: [TLSFloor.opportunistic, .required])
    func startTLS(_ security: TLSFloor) async throws {
        let (tls, _, certificates) = try Self.serverContext("other.test")
        defer { withExtendedLifetime(certificates) {} }
        let server = try await ScriptedServer(
            Self.ehlo + [
                Self.tlsOffer, .expect("STARTTLS"), .send("220 go\r\n"), .startTLS(tls), .expect("EHLO client.test"),
                .send("250-x\r\n250 PIPELINING\r\n"), .serve([]),
            ])
        let relay = try Self.relay(server, Self.options { $0.security = security })
        // A certificate that nobody knows, for another name, is no obstacle.
        for _ in 0..<2 {
            let outcomes = await relay.attempt(Delivery(to: ["a@x.test"]))
            #expect(outcomes.map(\.result) == [.delivered])
            #expect(outcomes[0].tls?.version == "TLSv1.3")
        }
        #expect(server.connections == 1 && server.faults == [])
        #expect(server.contents == [Self.sent, Self.sent])
        await relay.shutDown()
    }

    /// W17 and its kind: after STARTTLS the server says nonsense, or closes, before its 220 or behind it.
    @Test(arguments: [
        [ScriptedServer.Step.send("220 go\r\n"), .expect(""), .send("this is not TLS\r\n"), .expect("never")],
        [.send("220 go\r\n"), .expect(""), .close], [.close], [.reset], [.send("421 4.7.0 bye\r\n"), .close],
        [.send("what?\r\n"), .expect("never")], [.send("220 go\r\n250 injected\r\n"), .expect("never")],
    ])
    func tlsThatFails(_ then: [ScriptedServer.Step]) async throws {
        let tls: [ScriptedServer.Step] = Self.ehlo + [Self.tlsOffer, .expect("STARTTLS")] + then
        let plain: [ScriptedServer.Step] =
            Self.ehlo + [.send("250-x\r\n250 STARTTLS\r\n"), .serve(["STARTTLS"])]
        let server = try await ScriptedServer(tls, tls, plain)
        let relay = try Self.relay(server)
        // Not at once: a message has to wait before it is sent for all to read. Nothing else is held against the host.
        let early = await relay.attempt(Delivery(to: ["a@x.test"]))
        #expect(early.map(\.result) == [.temporary] && early.map(\.isHostFailure) == [false])
        #expect(server.connections == 1)
        let outcomes = await relay.attempt(Delivery(to: ["a@x.test"], age: .seconds(300)))
        #expect(outcomes.map(\.result) == [.delivered])
        #expect(outcomes[0].tls == nil)
        #expect(server.connections == 3 && server.contents.count == 1)
        // A new one does not go over the connection that the old one made: it tries TLS, and waits.
        #expect(await relay.attempt(Delivery(to: ["a@x.test"])).map(\.result) == [.temporary])
        #expect(server.connections == 4)
        await relay.shutDown()
        // Not where TLS is required.
        let other = try await ScriptedServer(tls)
        let required = await (try Self.relay(other, Self.options { $0.security = .required }))
            .attempt(Delivery(to: ["a@x.test"], age: .seconds(300)))
        #expect(required.map(\.result) == [.temporary])
        #expect(other.connections == 1)
    }

    @Test func injectedBehindSTARTTLS() async throws {
        let server = try await ScriptedServer(
            Self.ehlo + [Self.tlsOffer, .expect("STARTTLS"), .send("220 go\r\n250 AUTH PLAIN\r\n"), .expect("never")])
        let outcomes = await (try Self.relay(server)).attempt(Delivery(to: ["a@x.test"]))
        #expect(outcomes.map(\.reply.description) == ["451 4.5.0 protocol error: more replies than commands"])
        #expect(server.connections == 1)
    }

    // MARK: AUTH

    static let credentials = SASLClient.Credentials(username: "test", password: "test")

    @Test func authentication() async throws {
        let (tls, certificate, certificates) = try Self.serverContext("IP:127.0.0.1")
        defer { withExtendedLifetime(certificates) {} }
        func script(_ reply: String) -> [ScriptedServer.Step] {
            Self.ehlo + [
                Self.tlsOffer, .expect("STARTTLS"), .send("220 go\r\n"), .startTLS(tls), .expect("EHLO"),
                .send("250-x\r\n250 AUTH PLAIN LOGIN\r\n"), .expect("AUTH PLAIN AHRlc3QAdGVzdA=="),
                .send(reply + "\r\n"), .serve([]),
            ]
        }
        let server = try await ScriptedServer(script("235 2.7.0 welcome"))
        let trusting = try Self.relay(server, credentials: Self.credentials, trustFile: certificate)
        let outcomes = await trusting.attempt(Delivery(to: ["a@x.test"]))
        #expect(outcomes.map(\.result) == [.delivered])
        #expect(outcomes[0].tls != nil)
        // Whoever submitted the message is not told (RFC 4954 section 5).
        #expect(server.lines.contains("MAIL FROM:<sender@client.test> AUTH=<>"))
        await trusting.shutDown()

        // The password goes to nobody whom we do not know, and never in clear.
        let doubting = try Self.relay(server, credentials: Self.credentials)
        let refused = await doubting.attempt(Delivery(to: ["a@x.test"]))
        #expect(refused.map(\.result) == [.temporary])
        #expect(refused.map(\.reply.status) == [EnhancedStatus(4, 7, 5)])
        #expect(server.lines.count { $0.hasPrefix("AUTH") } == 1)

        // A wrong password is the operator's business.
        let strict = try await ScriptedServer(script("535 5.7.8 wrong"))
        let relay = try Self.relay(strict, credentials: Self.credentials, trustFile: certificate)
        #expect(relay.complaint == nil)
        let wrong = await relay.attempt(Delivery(to: ["a@x.test"]))
        #expect(relay.complaint?.contains("535 5.7.8 wrong") == true)
        #expect(trusting.complaint == nil)
        #expect(wrong.map(\.result) == [.temporary])
        #expect(
            wrong.map(\.reply.description) == ["454 4.7.0 the server refused authentication: 535 5.7.8 wrong"])
    }

    @Test func authenticationRequired() async throws {
        let server = try await ScriptedServer(
            Self.ehlo + [.send("250 x\r\n"), .expect("MAIL"), .send("530 5.7.0 who are you?\r\n"), .expect("never")])
        let outcomes = await (try Self.relay(server)).attempt(Delivery(to: ["a@x.test"]))
        #expect(outcomes.map(\.result) == [.temporary])
        #expect(outcomes.map(\.reply.description) == ["530 5.7.0 who are you?"])
    }
}

extension ScriptedServer.Step {
    var isExpect: Bool { if case .expect = self { true } else { false } }
}
