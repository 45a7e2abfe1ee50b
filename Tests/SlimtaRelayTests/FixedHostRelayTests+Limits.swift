// What servers limit: messages in a session, recipients in a transaction, how fast a message goes out.

import NIOCore
import SlimtaMail
import SlimtaQueue
import SlimtaRelay
import SlimtaSMTP
import Testing

extension FixedHostRelayTests {
    // MARK: Sessions that come to their end

    /// A server that takes three messages in a session, and says so at MAIL in one way or another.
    @Test(
        arguments: ["452 4.3.2 too many messages", "550 5.7.1 too many messages", "421 4.7.0 too many messages"],
        [["PIPELINING"], []])
    func limitOfMessages(_ words: String, _ extensions: [String]) async throws {
        let once: [ScriptedServer.Step] =
            extensions.isEmpty
            ? [
                .expect("MAIL"), .send("250 a\r\n"), .expect("RCPT"), .send("250 b\r\n"), .expect("DATA"),
                .send("354 c\r\n"), .expectContent, .send("250 d\r\n"),
            ]
            : [
                .expect("MAIL"), .expect("RCPT"), .expect("DATA"), .send("250 a\r\n250 b\r\n354 c\r\n"),
                .expectContent, .send("250 d\r\n"),
            ]
        let offer = (["x"] + extensions).enumerated().map { "250\($0 == extensions.count ? " " : "-")\($1)\r\n" }
        let session =
            Self.ehlo + [.send(offer.joined())] + once + once + once
            + [.expect("MAIL"), .send(words + "\r\n"), .expect("never")]
        let server = try await ScriptedServer(session)
        let relay = try Self.relay(server, Self.options { $0.connectionsPerDestination = 1 })
        for _ in 0..<10 {
            #expect(await relay.attempt(Delivery(to: ["a@x.test"])).map(\.result) == [.delivered])
        }
        #expect(server.contents.count == 10)
        #expect(server.connections == 4)
    }

    /// What a new session is refused is refused.
    @Test func refusedByEverySession() async throws {
        let server = try await ScriptedServer(
            Self.ehlo + [.send("250 x\r\n"), .expect("MAIL"), .send("550 5.7.1 not you\r\n"), .serve([])])
        let relay = try Self.relay(server)
        #expect(await relay.attempt(Delivery(to: ["a@x.test"])).map(\.reply.description) == ["550 5.7.1 not you"])
        #expect(server.connections == 1)
    }

    @Test func sessionsEndByThemselves() async throws {
        let server = try await ScriptedServer([Self.greeting, .serve([])])
        let relay = try Self.relay(server, Self.options { $0.messagesPerSession = 3 })
        for _ in 0..<7 { #expect(await relay.attempt(Delivery(to: ["a@x.test"])).map(\.result) == [.delivered]) }
        #expect(server.connections == 3)
        #expect(server.lines.count { $0 == "QUIT" } >= 1)
        await relay.shutDown()
        #expect(server.lines.count { $0 == "QUIT" } == 3)
        let old = try Self.relay(server, Self.options { $0.sessionTime = .zero })
        for _ in 0..<3 { #expect(await old.attempt(Delivery(to: ["a@x.test"])).map(\.result) == [.delivered]) }
        #expect(server.connections == 6)
        await old.shutDown()
    }

    // MARK: Limits of the server

    /// Ten recipients a transaction: the first is told so, all others know.
    @Test func recipientsPerTransaction() async throws {
        func transaction(_ count: Int, more: Int) -> [ScriptedServer.Step] {
            [.expect("MAIL")] + Array(repeating: .expect("RCPT"), count: count + more)
                + [
                    .expect("DATA"),
                    .send(
                        "250 mail\r\n" + String(repeating: "250 rcpt\r\n", count: count)
                            + String(repeating: "452 4.5.3 enough\r\n", count: more) + "354 go\r\n"), .expectContent,
                    .send("250 taken\r\n"),
                ]
        }
        let server = try await ScriptedServer(
            Self.ehlo + [.send("250-x\r\n250 PIPELINING\r\n")] + transaction(10, more: 25)
                + transaction(10, more: 0) + transaction(10, more: 0) + transaction(5, more: 0)
                + transaction(10, more: 0) + transaction(2, more: 0))
        let relay = try Self.relay(server)
        for count in [35, 12] {
            let outcomes = await relay.attempt(Delivery(to: (0..<count).map { "r\($0)@x.test" }))
            #expect(outcomes.count == count && outcomes.allSatisfy { $0.result == .delivered })
        }
        #expect(server.faults == [] && server.contents.count == 6)
    }

    // MARK: Slow servers

    static func slow(_ pace: ScriptedServer.Step) -> [ScriptedServer.Step] {
        ehlo + [
            .send("250 x\r\n"), .expect("MAIL"), .send("250 a\r\n"), .expect("RCPT"), .send("250 b\r\n"),
            .expect("DATA"),
            .send("354 c\r\n"), pace, .expectContent, .send("250 d\r\n"), .serve([]),
        ]
    }

    /// 64 MiB, read at a steady pace, take longer than the time in which nothing may move. In pieces, and at once.
    ///
    /// The sender sees that octets move whenever a third of its socket's buffer has become free: 1.3 MB at most, which
    /// the server here reads in a fifth of a second. Where the machine was so busy that the server, which reads ten times
    /// a second, did not for a whole one, a failure says nothing, and another attempt is made.
    @Test(arguments: [true, false]) func slowButSteady(_ isSpooled: Bool) async throws {
        let stall = TimeAmount.seconds(8)
        let line = String(repeating: "x", count: 1022) + "\r\n"
        let chunk = ByteBuffer(string: String(repeating: line, count: 64))
        let rest = SpooledOctets(Array(repeating: chunk, count: isSpooled ? 1024 : 0))
        let head = isSpooled ? "head\r\n" : String(repeating: line, count: 64 * 1024)
        for attempt in 1...5 {
            let server = try await ScriptedServer(
                Self.slow(.readSlowly(octets: 655_360, each: .milliseconds(100))))
            let relay = try Self.relay(
                server,
                Self.options {
                    $0.convertsToSevenBit = false
                    $0.stallTimeout = .nanoseconds(stall.nanoseconds)
                    $0.dataTimeout = .seconds(30)
                })
            let begin = NIODeadline.now()
            let outcomes = await relay.attempt(Delivery(head, to: ["a@x.test"], rest: isSpooled ? rest : nil))
            await relay.shutDown()
            if outcomes.map(\.result) != [.delivered], server.longestGap > .seconds(1), attempt < 5 { continue }
            #expect(outcomes.map(\.result) == [.delivered], "\(outcomes[0].reply), \(server.longestGap)")
            #expect(server.contents.map { $0.utf8.count > 64 << 20 } == [true])
            // Else it would not have been slow.
            #expect(NIODeadline.now() - begin > stall)
            return
        }
    }

    /// A server is not given up for what we ourselves are slow to read.
    @Test func slowToComeFromUs() async throws {
        let server = try await ScriptedServer([Self.greeting, .serve([])])
        let relay = try Self.relay(server, Self.options { $0.stallTimeout = .milliseconds(300) })
        let rest = SpooledOctets([ByteBuffer(string: "x\r\n"), ByteBuffer(string: "y\r\n")], pause: .seconds(1))
        let outcomes = await relay.attempt(Delivery("head\r\n\r\n", to: ["a@x.test"], rest: rest))
        #expect(outcomes.map(\.reply.description) == ["250 2.0.0 taken"])
        #expect(server.contents == ["Received: here\r\nhead\r\n\r\nx\r\ny\r\n.\r\n"])
        await relay.shutDown()
    }

    /// One that reads nothing is given up, and has not seen the end.
    @Test(arguments: [true, false]) func stalled(_ isSpooled: Bool) async throws {
        let server = try await ScriptedServer(Self.slow(.readSlowly(octets: 524_288, each: .hours(1))))
        let relay = try Self.relay(
            server,
            Self.options {
                $0.convertsToSevenBit = false
                $0.stallTimeout = .seconds(1)
            })
        let line = String(repeating: "x", count: 1022) + "\r\n"
        let chunk = ByteBuffer(string: String(repeating: line, count: 64))
        let rest = SpooledOctets(Array(repeating: chunk, count: isSpooled ? 384 : 0))
        let head = isSpooled ? "head\r\n" : String(repeating: line, count: 24 * 1024)
        let outcomes = await relay.attempt(Delivery(head, to: ["a@x.test"], rest: isSpooled ? rest : nil))
        #expect(outcomes.map(\.reply.description) == ["451 4.4.2 timed out while the message was sent"])
        #expect(server.contents == [])
    }
}
