// The questions of a session on their way: each answered at once and later, and what may happen until then; and each way
// in which a session ends.

import NIOCore
import NIOEmbedded
import SlimtaMail
import SlimtaSMTP
import Testing

@testable import SlimtaEdge

@Suite struct SessionQuestionTests {
    private static let message = [
        "EHLO c", "AUTH PLAIN AHUAcA==", "MAIL FROM:<a@x.org>", "RCPT TO:<b@y.org>", "RCPT TO:<c@y.org>", "DATA",
        "text\r\n.", "QUIT",
    ]

    /// Where nobody sits, a session in which every stage asks is as one in which none does.
    @Test(arguments: [false, true]) func everyStageIsAskedAndGoesOn(isPipelined: Bool) throws {
        var replies: [[String]] = []
        for stages in [[], SMTPStages(rawValue: 255)] {
            let session = try SessionFixture(credentials: HeldCredentials(), stages: stages)
            var said: [String] = []
            for group in isPipelined ? [Self.message.joined(separator: "\r\n")] : Self.message {
                try session.send(group + "\r\n")
                said += try session.replies()
            }
            replies.append(said)
            #expect(session.storage.count == 1 && !session.channel.isActive)
        }
        #expect(replies[0].count == 15 && replies[0] == replies[1])
    }

    @Test(arguments: [
        ("u", "235 2.7.0 Authentication successful", nil),
        ("w", "535 5.7.8 Authentication credentials invalid", "authentication failed"),
        ("d", "454 4.7.0 Temporary authentication failure", "authentication could not be checked"),
    ])
    func credentials(login: String, reply: String, logged: String?) throws {
        for isSlow in [false, true] {
            let backend = HeldCredentials()
            backend.isSlow = isSlow
            let session = try SessionFixture(credentials: backend)
            try session.send("EHLO c\r\n")
            _ = try session.replies()
            let initial = Base64.encode(Array("\0\(login)\0p".utf8))
            try session.send("AUTH PLAIN \(initial)\r\nNOOP\r\n")
            if isSlow {
                // It takes as long as it takes, and no command is done meanwhile.
                session.advance(.minutes(30))
                #expect(try session.replies() == [] && session.channel.isActive)
                backend.answer()
            }
            #expect(try session.replies() == [reply, "250 2.0.0 Ok"])
            if let logged { #expect(session.log.lines(logged).map { $0.fields["login"] } == [login]) }
        }
    }

    /// What the storage says of a message that is to come, and of one that has come.
    @Test(arguments: [452, 550, 421]) func refusals(code: Int) throws {
        let reply = Reply(UInt16(code), .init(UInt8(code / 100), 3, 1), "No")
        for isAtMail in [true, false] {
            let session = try SessionFixture()
            if isAtMail {
                session.storage.full = reply
                try session.send("EHLO c\r\nMAIL FROM:<a@x.org>\r\n")
            } else {
                session.storage.reply = reply
                try session.beginMessage()
                try session.send("text\r\n.\r\n")
            }
            #expect(try session.replies().last == "\(reply)")
            session.advance(.seconds(2))
            #expect(session.channel.isActive == (code != 421))
            let refused = session.log.lines("refused").map { $0.fields["command"] }
            #expect(refused == [isAtMail ? "MAIL" : "DATA"])
        }
    }

    /// The client is gone, or out of time, before the answer: it is for nobody.
    @Test func lateAnswers() throws {
        for isClosed in [true, false] {
            let backend = HeldCredentials()
            backend.isSlow = true
            let session = try SessionFixture(credentials: backend)
            try session.send("EHLO c\r\nAUTH PLAIN AHUAcA==\r\n")
            if isClosed {
                try session.channel.close().wait()
            } else {
                session.channel.pipeline.fireUserInboundEventTriggered(SMTPEdgeHandler.Event.drain)
                session.channel.pipeline.fireUserInboundEventTriggered(ChannelEvent.inputClosed)
                #expect(session.channel.isActive)
            }
            _ = try session.replies()
            backend.answer()
            let replies = try session.replies().map { $0.prefix(3) }
            #expect(replies == (isClosed ? [] : ["235", "421"]) && !session.channel.isActive)
        }
    }

    /// An answer that comes when the client does not read is not the beginning of a new turn.
    @Test func answersToWhoDoesNotRead() throws {
        let backend = HeldCredentials()
        backend.isSlow = true
        let session = try SessionFixture(commands: 1000, credentials: backend)
        try session.send("EHLO c\r\nAUTH PLAIN AHUAcA==\r\n" + String(repeating: "RSET\r\n", count: 300))
        _ = try session.replies()
        session.channel.isWritable = false
        backend.answer()
        let first = try session.replies().count
        session.advance(.seconds(10))
        #expect(try session.replies() == [] && first < 100)
        session.channel.isWritable = true
        session.channel.pipeline.fireChannelWritabilityChanged()
        session.advance(.seconds(10))
        #expect(try session.replies().count == 301 - first)
    }

    // MARK: Ends

    static let ends: [(reason: String, last: String?, sent: String)] = [
        ("quit", "221", "QUIT\r\n"), ("tooManyErrors", "421", String(repeating: "FOO\r\n", count: 10)),
        ("tooManyCommands", "421", String(repeating: "NOOP\r\n", count: 101)), ("lineEnds", "421", "NOOP\n"),
        ("protocolViolation(\"an HTTP request\")", nil, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("protocolViolation(\"TLS was begun where commands are expected\")", nil, "\u{16}\u{3}\u{1}"),
        ("shutdown", "421", "/drain"), ("clientClosed", nil, "/close"), ("timeout", "421", "/time"),
    ]

    /// A client that may be sending while it is told why is listened to for a moment, and the others are not.
    static let lingering: Set = ["tooManyErrors", "tooManyCommands", "lineEnds", "shutdown"]

    @Test(arguments: ends) func everyEnd(reason: String, last: String?, sent: String) throws {
        let session = try SessionFixture()
        switch sent {
        case "/drain": session.channel.pipeline.fireUserInboundEventTriggered(SMTPEdgeHandler.Event.drain)
        case "/close": session.channel.pipeline.fireUserInboundEventTriggered(ChannelEvent.inputClosed)
        case "/time": session.advance(.minutes(5))
        default: try session.send(sent)
        }
        for _ in 0..<30 where session.log.lines("session ended").isEmpty { session.advance(.milliseconds(100)) }
        #expect(try session.replies().last.map { String($0.prefix(3)) } == last)
        #expect(session.channel.isActive == Self.lingering.contains(reason))
        session.advance(.seconds(2))
        #expect(!session.channel.isActive)
        let isOrdinary = reason == "quit" || reason == "clientClosed"
        #expect(session.log.lines("session ended").map { $0.fields["reason"] } == (isOrdinary ? [] : [reason]))
    }
}
