// Messages with octets above 127 and hosts without 8BITMIME: another host first, then another form of the message; what is
// converted is SlimtaMIMETests's.

import NIOCore
import SlimtaMail
import SlimtaQueue
import SlimtaSMTP
import Testing

@testable import SlimtaRelay

@Suite(.timeLimit(.minutes(4)))
struct SevenBitFormTests {
    typealias Relay = FixedHostRelayTests

    static let text =
        "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    static let encoded = text.replacing("8bit", with: "quoted-printable")

    private static func server(_ extensions: String...) async throws -> ScriptedServer {
        try await ScriptedServer([Relay.greeting, .serve(["PIPELINING", "SIZE"] + extensions)])
    }

    @Test(arguments: [SMTPDialect.smtp, .lmtp]) func small(_ dialect: SMTPDialect) async throws {
        let server = try await ScriptedServer([
            Relay.greeting, .expect(dialect == .smtp ? "EHLO" : "LHLO"), .send("250-x\r\n250 SIZE\r\n"),
            .expect("MAIL"), .send("250 a\r\n"), .expect("RCPT"), .send("250 a\r\n"), .expect("DATA"),
            .send("354 a\r\n"), .expectContent, .send("250 2.0.0 taken\r\n"),
        ])
        let relay = try Relay.relay(server, Relay.options { $0.dialect = dialect })
        let outcomes = await relay.attempt(Delivery(Self.text + "gr\u{FC}n", to: ["a@x.test"]))
        #expect(outcomes.map(\.result) == [.delivered] && outcomes[0].conversion == .sevenBit)
        let content = "Received: here\r\n" + Self.encoded + "gr=C3=BCn=\r\n"
        #expect(server.contents == [content + ".\r\n"])
        #expect(server.lines.contains("MAIL FROM:<sender@client.test> SIZE=\(content.utf8.count)"))
        #expect(server.faults == [])
    }

    @Test func theSignatureIsLost() async throws {
        let server = try await Self.server()
        let signed = "DKIM-Signature: v=1\r\n" + Self.text + "gr\u{FC}n\r\n"
        var outcome = await (try Relay.relay(server)).attempt(Delivery(signed, to: ["a@x.test"]))[0]
        #expect(outcome.conversion == .signatureLost)
        // Ours is among the fields that policies have put there.
        outcome = await (try Relay.relay(server)).attempt(
            Delivery(Self.text + "gr\u{FC}n\r\n", to: ["a@x.test"], fields: "DKIM-Signature: v=1\r\n"))[0]
        #expect(outcome.conversion == .signatureLost)
        // What was refused before it was seen was not changed for that host.
        let refusing = try await ScriptedServer(
            Relay.ehlo + [
                .send("250-x\r\n250 SIZE\r\n"), .expect("MAIL"), .send("550 5.7.1 no\r\n"),
            ])
        outcome = await (try Relay.relay(refusing)).attempt(Delivery(signed, to: ["a@x.test"]))[0]
        #expect(outcome.result == .permanent && outcome.conversion == nil)
    }

    @Test func large() async throws {
        let server = try await Self.server()
        let line = "gr\u{FC}n = \(String(repeating: "x", count: 60))\r\n"
        let chunks = (0..<30).map { _ in ByteBuffer(string: String(repeating: line, count: 1000)) }
        let relay = try Relay.relay(server)
        let outcomes = await relay.attempt(
            Delivery(Self.text, to: ["a@x.test", "b@x.test"], rest: SpooledOctets(chunks)))
        #expect(outcomes.map(\.result) == [.delivered, .delivered] && outcomes[0].conversion == .sevenBit)
        let content = try #require(server.contents.first)
        #expect(content.utf8.allSatisfy { $0 < 0x80 })
        #expect(content.hasPrefix("Received: here\r\n" + Self.encoded))
        #expect(content.utf8.count > 30_000 * line.utf8.count)
        // The size is told before it is sent, and is right.
        #expect(server.lines.contains("MAIL FROM:<sender@client.test> SIZE=\(content.utf8.count - 3)"))
    }

    /// Of a large message nobody knows before it was looked through: without octets above 127 nothing is done to it.
    @Test func largeWithoutEightBit() async throws {
        let server = try await Self.server()
        let relay = try Relay.relay(server)
        let line = String(repeating: "x", count: 1200) + "\r\n"
        let chunks = (0..<30).map { _ in ByteBuffer(string: String(repeating: line, count: 50)) }
        let outcomes = await relay.attempt(Delivery("S: x\r\n\r\n", to: ["a@x.test"], rest: SpooledOctets(chunks)))
        #expect(outcomes.map(\.result) == [.delivered] && outcomes[0].conversion == nil)
        #expect(server.contents == ["Received: here\r\nS: x\r\n\r\n" + String(repeating: line, count: 1500) + ".\r\n"])
        #expect(server.connections == 1)
    }

    @Test func impossible() async throws {
        let server = try await Self.server()
        let signed =
            "Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\ngr\u{FC}n\r\n--b\r\n\r\nx\r\n--b--\r\n"
        let relay = try Relay.relay(server)
        let outcome = await relay.attempt(Delivery(signed, to: ["a@x.test"]))[0]
        #expect(
            outcome.result == .permanent
                && outcome.reply
                    == Reply(
                        554, EnhancedStatus(5, 6, 3),
                        "the server does not support 8BITMIME, and the message cannot be converted to 7 bits: the message "
                            + "(multipart/signed) is signed or encrypted and has 8-bit octets or long lines")
        )
        #expect(outcome.relay != nil && outcome.conversion == nil)
        #expect(server.contents == [])
    }

    @Test func unreadable() async throws {
        let server = try await Self.server()
        let rest = SpooledOctets([ByteBuffer(string: "gr\u{FC}n\r\n")], failsAtEnd: true)
        let outcome = await (try Relay.relay(server)).attempt(Delivery(Self.text, to: ["a@x.test"], rest: rest))[0]
        #expect(outcome.result == .temporary && outcome.reply.status == EnhancedStatus(4, 3, 0))
        #expect(server.contents == [])
    }

    // MARK: Which host

    @Test func whoTakesItAsItIsComesFirst() async throws {
        let world = try MailWorld(["a.test. 300 IN MX 10 mx1.test.", "a.test. 300 IN MX 20 mx2.test."])
        let old = try await world.server(1, [.send("220 x\r\n"), .serve(["SIZE"])])
        let new = try await world.server(2, MXRelayTests.serve)
        let relay = try world.relay()
        var outcomes = await relay.attempt(Delivery(Self.text + "gr\u{FC}n\r\n", to: ["b@a.test"]))
        #expect(outcomes.map(\.result) == [.delivered] && outcomes[0].conversion == nil)
        #expect(old.contents == [] && new.contents.count == 1)
        #expect(new.contents[0].contains("gr\u{FC}n\r\n"))
        // What needs no conversion goes to the first.
        outcomes = await relay.attempt(Delivery(Self.text + "gruen\r\n", to: ["b@a.test"]))
        #expect(outcomes.map(\.result) == [.delivered] && old.contents.count == 1)
        // Where the other one does not take it now, it goes to the first in another form.
        await relay.shutDown()
        await new.stop()
        let withoutSessions = try world.relay()
        outcomes = await withoutSessions.attempt(Delivery(Self.text + "gr\u{FC}n\r\n", to: ["b@a.test", "c@a.test"]))
        #expect(outcomes.map(\.result) == [.delivered, .delivered] && outcomes[1].conversion == .sevenBit)
        #expect(old.contents.count == 2 && old.contents[1].contains("gr=C3=BCn\r\n"))
        await withoutSessions.shutDown()
        await world.end()
    }

    /// What cannot be converted waits for a host that may take it as it is.
    @Test func nothingBouncesForTheHostThatWasUp() async throws {
        let world = try MailWorld(["a.test. 300 IN MX 10 mx1.test.", "a.test. 300 IN MX 20 mx2.test."])
        _ = try await world.server(1, [.send("220 x\r\n"), .serve(["SIZE"])])
        let relay = try world.relay()
        let signed = "Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\ngr\u{FC}n\r\n--b--\r\n"
        let outcome = await relay.attempt(Delivery(signed, to: ["b@a.test"]))[0]
        #expect(outcome.result == .temporary && outcome.reply.status == EnhancedStatus(4, 4, 1))
        await relay.shutDown()
        await world.end()
    }
}
