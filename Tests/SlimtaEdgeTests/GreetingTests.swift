// How the driver of a session greets: at once or after a delay, and what may happen meanwhile.

import Logging
import NIOCore
import NIOEmbedded
import SlimtaMail
import SlimtaSMTP
import Testing

@testable import SlimtaEdge

@Suite struct GreetingTests {
    private static let greeting = "220 mx.example.org ESMTP Mail Gateway"

    @Test func theGreetingCanBeARefusal() throws {
        let session = try SessionFixture(greeting: Reply(554, .init(5, 7, 1), "No mail here"))
        #expect(try session.replies() == ["554 5.7.1 No mail here"])
        #expect(session.log.lines("refused").map { $0.fields["command"] } == ["CONNECT"])
        try session.send("EHLO c\r\nQUIT\r\n")
        #expect(try session.replies() == ["503 5.5.1 Bad sequence of commands", "221 2.0.0 Bye"])
        #expect(!session.channel.isActive)
    }

    @Test func theDelay() throws {
        let session = try SessionFixture(greetDelay: .seconds(5))
        session.advance(.seconds(4))
        #expect(try session.replies() == [])
        session.advance(.seconds(1))
        #expect(try session.replies() == [Self.greeting])
        #expect(session.log.lines("talks before the greeting").isEmpty)
        // The whole time for a command is still there.
        session.advance(.seconds(299))
        #expect(session.channel.isActive)
        session.advance(.seconds(2))
        #expect(try session.replies() == ["421 4.4.2 mx.example.org Connection timed out"])
    }

    /// Longer than any deadline of a session: the time is ours.
    @Test func aLongDelay() throws {
        let session = try SessionFixture(greetDelay: .minutes(10))
        session.advance(.minutes(9))
        #expect(try session.replies() == [] && session.channel.isActive)
        session.advance(.minutes(1))
        #expect(try session.replies() == [Self.greeting])
    }

    /// What is said too early is kept, and answered in its turn.
    @Test func whoTalksFirst() throws {
        let session = try SessionFixture(greetDelay: .seconds(5))
        session.log.logLevel = .debug
        try session.send("EHLO c\r\n")
        try session.send("NOOP\r\n")
        session.advance(.seconds(4))
        #expect(try session.replies() == [])
        session.advance(.seconds(1))
        let replies = try session.replies()
        #expect(replies.first == Self.greeting && replies.last == "250 2.0.0 Ok")
        #expect(session.log.lines("talks before the greeting").map { $0.fields["client"] } == ["192.0.2.1"])
    }

    /// However much a client sends, little of it is kept while it waits.
    @Test func whoTalksMuch() throws {
        let session = try SessionFixture(greetDelay: .seconds(5))
        for _ in 0..<100 { try session.send(String(repeating: "NOOP\r\n", count: 200)) }
        #expect(!session.channel.isActive)
    }

    /// What ends a session ends it while it waits, too; and nothing happens afterwards.
    @Test(arguments: ["drain", "input", "close", "early input"]) func itEndsMeanwhile(_ way: String) throws {
        let session = try SessionFixture(greetDelay: .seconds(5))
        session.advance(.seconds(2))
        var expected: [String] = []
        switch way {
        case "drain":
            session.channel.pipeline.fireUserInboundEventTriggered(SMTPEdgeHandler.Event.drain)
            expected = ["421 4.3.2 mx.example.org Service shutting down"]
        case "input": session.channel.pipeline.fireUserInboundEventTriggered(ChannelEvent.inputClosed)
        case "early input":
            try session.send("QUIT\r\n")
            session.channel.pipeline.fireUserInboundEventTriggered(ChannelEvent.inputClosed)
            #expect(session.channel.isActive)
            session.advance(.seconds(3))
            expected = [Self.greeting, "221 2.0.0 Bye"]
        default: session.channel.close(promise: nil)
        }
        #expect(try session.replies() == expected)
        session.advance(.seconds(2))
        #expect(!session.channel.isActive)
        session.advance(.minutes(10))
        #expect(try session.replies() == [])
    }

    /// A client that a proxy does not name has the proxy's address and not its rights; the log has both.
    @Test func behindAProxy() throws {
        for isNamed in [true, false] {
            let address = try #require(IPAddress(isNamed ? "198.51.100.1" : "192.0.2.1"))
            let session = try SessionFixture(
                credentials: HeldCredentials(), proxy: ProxyFacts(endpoint: .ip(address, port: 25)))
            try session.send("EHLO c\r\nMAIL FROM:<a@x.org>\r\nFOO\r\n")
            #expect(try session.replies().contains { $0.hasPrefix("250 2.1.0") } == isNamed)
            let line = try #require(session.log.lines("refused").last)
            #expect(line.fields["client"] == "192.0.2.1" && line.fields["proxy"] == address.description)
        }
    }
}
