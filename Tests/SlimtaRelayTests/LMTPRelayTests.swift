// LMTP by the relay to one host: over TCP and UNIX sockets, with a reply for each recipient, against servers that follow a
// script.

import NIOCore
import SlimtaMail
import SlimtaQueue
import SlimtaRelay
import SlimtaSMTP
import Synchronization
import TestKit
import Testing

@Suite(.timeLimit(.minutes(4)))
struct LMTPRelayTests {
    typealias Step = ScriptedServer.Step

    static let hello: [Step] = [
        .send("220 scripted.test LMTP\r\n"), .expect("LHLO client.test"),
        .send("250-scripted.test\r\n250 PIPELINING\r\n"),
    ]

    /// A transaction up to the end of its message, with all of its recipients accepted.
    static func accepted(_ count: Int) -> [Step] {
        [.expect("MAIL")] + Array(repeating: .expect("RCPT"), count: count) + [
            .expect("DATA"), .send(String(repeating: "250 ok\r\n", count: count + 1) + "354 go\r\n"), .expectContent,
        ]
    }

    static func relay(
        to place: FixedHostRelay.Place, _ change: (inout RelayOptions) -> Void = { _ in }
    ) throws -> FixedHostRelay {
        var options = FixedHostRelayTests.options(change)
        options.dialect = .lmtp
        return try FixedHostRelay(
            options, to: [place], resolver: FixedHostRelayTests.resolver, group: Fixture.group, logger: Fixture.logger)
    }

    static func relay(
        _ server: ScriptedServer, _ change: (inout RelayOptions) -> Void = { _ in }
    ) throws -> FixedHostRelay {
        try relay(to: .host("127.0.0.1", port: server.port), change)
    }

    // MARK: Delivered

    @Test func eachItsOwn() async throws {
        let server = try await ScriptedServer(
            Self.hello + Self.accepted(3) + [.send("250 2.0.0 a\r\n452 4.2.2 b\r\n550 5.2.1 c\r\n"), .expect("QUIT")])
        let relay = try Self.relay(server)
        let outcomes = await relay.attempt(Delivery(to: ["a@x.test", "b@y.test", "c@x.test"]))
        #expect(outcomes.map(\.reply.description) == ["250 2.0.0 a", "452 4.2.2 b", "550 5.2.1 c"])
        #expect(outcomes.map(\.result) == [.delivered, .temporary, .permanent])
        #expect(outcomes.allSatisfy { $0.isRemote && $0.relay == "[127.0.0.1]:\(server.port)" })
        await relay.shutDown()
        #expect(server.contents == [FixedHostRelayTests.sent])
        #expect(server.faults == [])
    }

    /// A UNIX socket has no host's name and no source address, and is one destination.
    @Test func unixSocket() async throws {
        let folder = try Fixture.folder()
        defer { Fixture.removeFolder(folder) }
        let path = folder + "/lmtp"
        let relay = try Self.relay(to: .socket(path)) {
            $0.security = .none
            $0.sourceAddresses = ["192.0.2.1"]
        }
        let absent = await relay.attempt(Delivery(to: ["a@x.test"]))
        #expect(absent[0].reply.description == "451 4.4.1 cannot connect to unix:\(path): No such file or directory")
        #expect(absent[0].isHostFailure)

        let server = try await ScriptedServer(
            on: SocketAddress(unixDomainSocketPath: path),
            all: [Self.hello + Self.accepted(2) + [.send("250 a\r\n")] + [.send("250 b\r\n"), .expect("QUIT")]])
        let outcomes = await relay.attempt(Delivery(to: ["a@x.test", "b@x.test"]))
        #expect(outcomes.map(\.result) == [.delivered, .delivered])
        #expect(outcomes.allSatisfy { $0.relay == "unix:\(path)" && $0.remoteHost == nil && $0.tls == nil })
        #expect(relay.destination(for: "x.test") == "unix:\(path)")
        await relay.shutDown()
        await server.stop()
    }

    /// Who is there twice is asked for once: servers that keep recipients in a map would have a reply too few.
    @Test func nobodyTwice() async throws {
        let server = try await ScriptedServer(Self.hello + Self.accepted(2) + [.send("250 a\r\n452 b\r\n")])
        let outcomes = await (try Self.relay(server)).attempt(
            Delivery(to: ["a@x.test", "A@x.test", "a@X.Test", "a@x.test"]))
        #expect(outcomes.map(\.reply.code) == [250, 452, 250, 250])
        #expect(server.lines.filter { $0.hasPrefix("RCPT") } == ["RCPT TO:<a@x.test>", "RCPT TO:<A@x.test>"])
    }

    /// A hundred at a time (RFC 5321 section 4.5.3.1.8), each with the reply that is its own.
    @Test func many() async throws {
        func replies(_ range: Range<Int>) -> Step { .send(range.map { "250 r\($0)\r\n" }.joined()) }
        let server = try await ScriptedServer(
            Self.hello + Self.accepted(100) + [replies(0..<100)] + Self.accepted(100) + [replies(100..<200)]
                + Self.accepted(100) + [replies(200..<300)])
        let relay = try Self.relay(server) { $0.connectionsPerDestination = 1 }
        let names = (0..<300).map { "u\($0)@x.test" }
        let outcomes = await relay.attempt(Delivery(to: names))
        #expect(outcomes.allSatisfy { $0.result == .delivered })
        // Which part went first is open; within it the order holds.
        let rcpt = server.lines.filter { $0.hasPrefix("RCPT") }
        for (position, line) in rcpt.enumerated() {
            let index = try #require(names.firstIndex { line == "RCPT TO:<\($0)>" })
            #expect(outcomes[index].reply.text == "r\(position)")
        }
        #expect(rcpt.count == 300 && server.connections == 1 && server.faults == [])
    }

    /// Those who are delivered are told of while others still wait.
    @Test func toldBeforeTheEnd() async throws {
        let server = try await ScriptedServer(
            Self.hello + Self.accepted(3) + [.send("250 a\r\n"), .send("452 b\r\n"), .expect("never")])
        let relay = try Self.relay(server) { $0.connectionsPerDestination = 1 }
        let told = Mutex<[Int: UInt16]>([:])
        var delivery = Delivery(to: ["a@x.test", "b@x.test", "a@x.test", "c@x.test"])
        delivery.report = { index, outcome in told.withLock { $0[index] = outcome.reply.code } }
        let attempt = Task { [delivery] in await relay.attempt(delivery) }
        while told.withLock({ $0.count }) < 3 { try await Task.sleep(for: .milliseconds(5)) }
        #expect(told.withLock { $0 } == [0: 250, 2: 250, 1: 452])
        await server.stop()
        attempt.cancel()
        let outcomes = await attempt.value
        #expect(outcomes.map(\.result) == [.delivered, .temporary, .delivered, .temporary])
    }

    // MARK: Time

    /// Each reply has its time; together they may take longer.
    @Test func progressCounts() async throws {
        let slow = (0..<4).flatMap { [Step.pause(.seconds(2)), .send("250 \($0)\r\n")] }
        // Where the machine made the server pause for longer than that, a failure says nothing.
        for attempt in 1...5 {
            let server = try await ScriptedServer(Self.hello + Self.accepted(4) + slow)
            let relay = try Self.relay(server) { $0.dataTimeout = .seconds(6) }
            let outcomes = await relay.attempt(Delivery(to: ["a@x.test", "b@x.test", "c@x.test", "d@x.test"]))
            if outcomes[3].result == .temporary, server.longestGap > .seconds(3), attempt < 5 { continue }
            #expect(outcomes.map(\.reply.text) == ["0", "1", "2", "3"])
            return
        }
    }

    @Test func silenceAmongReplies() async throws {
        let server = try await ScriptedServer(Self.hello + Self.accepted(3) + [.send("250 a\r\n"), .expect("never")])
        let relay = try Self.relay(server) { $0.dataTimeout = .milliseconds(300) }
        let outcomes = await relay.attempt(Delivery(to: ["a@x.test", "b@x.test", "c@x.test"]))
        #expect(outcomes.map(\.result) == [.delivered, .temporary, .temporary])
        #expect(outcomes[1].reply.text.hasPrefix("timed out in reply to the message"))
    }

    // MARK: Servers that do something else

    @Test(
        arguments: [
            ([.send("250 a\r\n"), .close], "dtt"), ([.send("250 a\r\n550 b\r\n"), .reset], "dpt"),
            ([.send("250 a\r\n421 b\r\n")], "dtt"), ([.send("250 a\r\nnonsense\r\n")], "dtt"),
            ([.send("250 a\r\n250 b\r\n250 c\r\n250 d\r\n250 e\r\n")], "ddd"),
            ([.send(String(repeating: "250 x\r\n", count: 100_000))], "ddd"),
            // More than one reply may have: less than that is waited for.
            ([.send("250 a\r\n" + String(repeating: "450-x\r\n", count: 200_000))], "dtt"),
            ([.send("354 more\r\n")], "ttt"), ([.close], "ttt"),
        ] as [([Step], String)])
    func hostile(_ replies: [Step], _ expected: String) async throws {
        let server = try await ScriptedServer(Self.hello + Self.accepted(3) + replies)
        let relay = try Self.relay(server)
        let outcomes = await relay.attempt(Delivery(to: ["a@x.test", "b@x.test", "c@x.test"]))
        let results = outcomes.map { outcome in
            switch outcome.result {
            case .delivered: "d"
            case .temporary: "t"
            case .permanent: "p"
            }
        }
        #expect(results.joined() == expected)
        await relay.shutDown()
        #expect(relay.connectionCount == 0)
    }

    /// Data for nobody: a dot that ends nothing, and no reply is waited for.
    @Test func goAheadForNobody() async throws {
        let server = try await ScriptedServer(
            Self.hello + [
                .expect("MAIL"), .expect("RCPT"), .expect("DATA"), .send("250 a\r\n550 5.1.1 b\r\n354 go\r\n"),
                .expectContent,
            ])
        let relay = try Self.relay(server)
        let outcomes = await relay.attempt(Delivery(to: ["a@x.test"]))
        #expect(outcomes.map(\.reply.description) == ["550 5.1.1 b"])
        while server.contents.isEmpty { try await Task.sleep(for: .milliseconds(5)) }
        #expect(server.contents == [".\r\n"])
        await relay.shutDown()
    }

    /// What cannot be read to its end is closed without a dot, and nobody has half of it.
    @Test func unreadableMessage() async throws {
        let server = try await ScriptedServer(Self.hello + Self.accepted(2) + [.send("250 a\r\n250 b\r\n")])
        let rest = SpooledOctets([ByteBuffer(string: "x\r\n")], failsAtEnd: true)
        let outcomes = await (try Self.relay(server)).attempt(
            Delivery("head\r\n", to: ["a@x.test", "b@x.test"], rest: rest))
        #expect(outcomes.map(\.reply.status) == [EnhancedStatus(4, 3, 0), EnhancedStatus(4, 3, 0)])
        #expect(server.contents == [])
    }

    /// An SMTP server where LMTP is expected is a mistake of the operator's: nothing bounces.
    @Test func anotherProtocol() async throws {
        let server = try await ScriptedServer([
            .send("220 scripted.test ESMTP\r\n"), .expect("LHLO"), .send("500 5.5.2 what\r\n"),
        ])
        let outcomes = await (try Self.relay(server)).attempt(Delivery(to: ["a@x.test"]))
        #expect(outcomes[0].result == .temporary && outcomes[0].isHostFailure)
        #expect(outcomes[0].reply.description == "500 5.5.2 what")
    }
}
