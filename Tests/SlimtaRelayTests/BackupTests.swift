// Several exchangers of one domain: the backup is used whatever the primary does, over real connections.

import NIOCore
import SlimtaMail
import SlimtaQueue
import TestKit
import Testing

@testable import SlimtaRelay

@Suite(.serialized, .timeLimit(.minutes(4)))
struct BackupTests {
    typealias Step = ScriptedServer.Step

    static let opening: [Step] = [.send("220 x\r\n"), .expect("EHLO"), .send("250 x\r\n")]
    static let mail: [Step] = [.expect("MAIL"), .send("250 a\r\n")]
    static let recipient: [Step] = [.expect("RCPT"), .send("250 b\r\n")]
    static let data: [Step] = [.expect("DATA"), .send("354 c\r\n")]

    /// Stages before the end of the message, each with what the primary has heard by then.
    static let stages: [[Step]] = [
        [], [.send("220 x\r\n"), .expect("EHLO")], opening + [.expect("MAIL")], opening + mail + [.expect("RCPT")],
        opening + mail + recipient + [.expect("DATA")],
    ]
    static let failures: [[Step]] = [
        [.close], [.reset], [.send("421 4.3.2 going down\r\n"), .close], [.send("451 4.3.0 not now\r\n"), .serve([])],
        [.send("452 4.3.1 full\r\n"), .serve([])], [.send("hello?\r\n"), .expect("never")],
    ]

    static func world() throws -> MailWorld {
        try MailWorld(["a.test. 300 IN MX 10 mx1.test.", "a.test. 300 IN MX 20 mx2.test."])
    }

    @Test(arguments: stages, failures) func backup(_ before: [Step], _ failure: [Step]) async throws {
        let world = try Self.world()
        let primary = try await world.server(1, before + failure)
        let backup = try await world.server(2, MXRelayTests.serve)
        let relay = try world.relay()
        let outcomes = await relay.attempt(Delivery(to: ["one@a.test"]))
        #expect(outcomes.map(\.result) == [.delivered])
        #expect(outcomes.map(\.remoteHost) == ["mx2.test"])
        #expect(primary.connections == 1 && backup.contents.count == 1)
        await world.end()
    }

    @Test func primaryRefusesTheMessageForNow() async throws {
        let world = try Self.world()
        let primary = try await world.server(
            1,
            Self.opening + Self.mail + Self.recipient + Self.data
                + [.expectContent, .send("451 4.3.0 scanner down\r\n"), .serve([])])
        let backup = try await world.server(2, MXRelayTests.serve)
        let outcomes = await (try world.relay()).attempt(Delivery(to: ["one@a.test"]))
        #expect(outcomes.map(\.result) == [.delivered])
        #expect(primary.contents.count == 1 && backup.contents.count == 1)
        await world.end()
    }

    /// The end of a large message was not sent: nobody has it.
    @Test func lostWhileTheMessageIsSent() async throws {
        let world = try Self.world()
        let primary = try await world.server(
            1, Self.opening + Self.mail + Self.recipient + Self.data + [.expect("Received"), .reset])
        let backup = try await world.server(2, MXRelayTests.serve)
        let rest = SpooledOctets((0..<200).map { _ in ByteBuffer(string: String(repeating: "a", count: 998) + "\r\n") })
        let outcomes = await (try world.relay()).attempt(Delivery("head\r\n", to: ["one@a.test"], rest: rest))
        #expect(primary.connections == 1)
        if outcomes.map(\.result) == [.delivered] {
            #expect(backup.contents.count == 1 && outcomes.map(\.remoteHost) == ["mx2.test"])
        } else {
            // All of it had left before the reset came.
            #expect(backup.connections == 0)
        }
        await world.end()
    }

    /// The primary may have the message: nobody else gets it in this attempt, and in the next one another host is first.
    @Test(arguments: [[Step.close], [.reset], [.send("what?\r\n"), .close]])
    func noReplyToTheMessage(_ end: [Step]) async throws {
        let world = try Self.world()
        let primary = try await world.server(
            1, Self.opening + Self.mail + Self.recipient + Self.data + [.expectContent] + end)
        let backup = try await world.server(2, MXRelayTests.serve)
        let relay = try world.relay()
        let delivery = Delivery(to: ["one@a.test"])
        #expect(await relay.attempt(delivery).map(\.result) == [.temporary])
        #expect(primary.connections == 1 && backup.connections == 0)
        let next = await relay.attempt(delivery)
        #expect(next.map(\.result) == [.delivered] && next.map(\.remoteHost) == ["mx2.test"])
        #expect(primary.connections == 1)
        // Another message still goes to the primary first.
        #expect(await relay.attempt(Delivery(to: ["one@a.test"])).map(\.result) == [.temporary])
        #expect(primary.connections == 2)
        await world.end()
    }

    /// Silence: the backup is used within the attempt, and the next messages do not wait for the primary again.
    @Test(arguments: stages) func silence(_ before: [Step]) async throws {
        let world = try Self.world()
        let primary = try await world.server(1, before + [.expect("never")])
        let backup = try await world.server(2, MXRelayTests.serve)
        let relay = try world.relay {
            $0.greetingTimeout = .seconds(1)
            $0.commandTimeout = .seconds(2)
        }
        for _ in 0..<3 {
            let outcomes = await relay.attempt(Delivery(to: ["one@a.test"]))
            #expect(outcomes.map(\.result) == [.delivered] && outcomes.map(\.remoteHost) == ["mx2.test"])
        }
        #expect(primary.connections == 1 && backup.contents.count == 3)
        await world.end()
    }

    /// A host that answers each command just in time has one budget for all of them.
    @Test func budget() async throws {
        let options = RelayOptions(hostname: "x")
        #expect(options.hostBudget(recipients: 1) == .seconds(630))
        #expect(options.hostBudget(recipients: 100) == .seconds(3600))
        let world = try Self.world()
        func slowly(_ command: String, _ reply: String) -> [Step] {
            [.expect(command), .pause(.milliseconds(1400)), .send(reply + "\r\n")]
        }
        let primary = try await world.server(
            1,
            [.send("220 x\r\n")] + slowly("EHLO", "250 x") + slowly("MAIL", "250 a") + slowly("RCPT", "250 b")
                + slowly("DATA", "354 c") + [.expectContent, .send("250 d\r\n"), .serve([])])
        let backup = try await world.server(2, MXRelayTests.serve)
        let relay = try world.relay { $0.commandTimeout = .seconds(2) }
        #expect(await relay.attempt(Delivery(to: ["one@a.test"])).map(\.remoteHost) == ["mx2.test"])
        #expect(primary.connections == 1 && backup.contents.count == 1)
        await world.end()
    }

    /// Recipients that the primary puts off go on alone.
    @Test func greylistedByThePrimary() async throws {
        let world = try Self.world()
        let primary = try await world.server(
            1,
            Self.opening + Self.mail + [
                .expect("RCPT"), .send("250 b\r\n"), .expect("RCPT"), .send("450 4.2.0 greylisted\r\n"),
                .expect("RCPT"),
                .send("550 5.1.1 nobody\r\n"),
            ] + Self.data + [.expectContent, .send("250 d\r\n"), .serve([])])
        let backup = try await world.server(2, MXRelayTests.serve)
        let outcomes = await (try world.relay()).attempt(Delivery(to: ["one@a.test", "two@a.test", "three@a.test"]))
        #expect(outcomes.map(\.result) == [.delivered, .delivered, .permanent])
        #expect(outcomes.map(\.remoteHost) == ["mx1.test", "mx2.test", "mx1.test"])
        #expect(primary.faults == [])
        #expect(backup.lines.filter { $0.hasPrefix("RCPT") } == ["RCPT TO:<two@a.test>"])
        await world.end()
    }

    /// What all put off is put off, with the words of a host.
    @Test func nobodyTakesIt() async throws {
        let world = try MailWorld((1...3).map { "a.test. 300 IN MX \($0)0 mx\($0).test." })
        let one = try await world.server(
            1, Self.opening + Self.mail + [.expect("RCPT"), .send("450 4.2.0 greylisted\r\n"), .serve([])])
        let two = try await world.server(2, Self.opening + [.expect("MAIL"), .close])
        let outcomes = await (try world.relay()).attempt(Delivery(to: ["one@a.test"]))
        #expect(outcomes.map(\.reply.description) == ["450 4.2.0 greylisted"])
        #expect(outcomes.map(\.remoteHost) == ["mx1.test"] && outcomes.map(\.isHostFailure) == [false])
        #expect(one.connections == 1 && two.connections == 1)
        await world.end()
    }

    /// A backup without an extension that the message needs is no reason to bounce what the primary would take.
    @Test func backupThatLacksSomething() async throws {
        let world = try Self.world()
        let primary = try await world.server(1, [.send("421 4.3.2 later\r\n"), .close])
        let backup = try await world.server(2, [.send("220 x\r\n"), .serve([])])
        let relay = try world.relay { $0.convertsToSevenBit = false }
        let outcomes = await relay.attempt(Delivery("S: \u{FC}\r\n", to: ["one@a.test"]))
        #expect(outcomes.map(\.reply.description) == ["421 4.3.2 later"])
        #expect(primary.connections == 1 && backup.contents == [])
        await world.end()
    }

    // MARK: Names

    /// Two domains whose exchangers have one address: each is told under its own name, and neither uses the other's
    /// connection.
    @Test func oneAddressTwoNames() async throws {
        let world = try MailWorld([
            "a.test. 300 IN MX 10 in.a.test.", "b.test. 300 IN MX 10 in.b.test.", "in.a.test. 300 IN A 127.0.1.1",
            "in.b.test. 300 IN A 127.0.1.1",
        ])
        let server = try await world.server(1, MXRelayTests.serve)
        let relay = try world.relay()
        for _ in 0..<3 {
            for domain in ["a.test", "b.test"] {
                let outcomes = await relay.attempt(Delivery(to: ["one@\(domain)"]))
                #expect(outcomes.map(\.remoteHost) == ["in.\(domain)"])
                #expect(outcomes.map(\.relay) == ["in.\(domain)[127.0.1.1]:\(world.port)"])
            }
        }
        #expect(server.connections == 2 && server.contents.count == 6)
        // Together they have no more connections than one.
        let few = try world.relay { $0.connectionsPerDestination = 1 }
        for domain in ["a.test", "b.test", "a.test"] {
            #expect(await few.attempt(Delivery(to: ["one@\(domain)"])).map(\.result) == [.delivered])
        }
        #expect(few.connectionCount <= 1)
        await world.end()
    }
}
