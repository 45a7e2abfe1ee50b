// The driver of an SMTP session, on a channel in memory: turns, back pressure, deadlines, ends, and what it logs.

import NIOCore
import NIOEmbedded
import SlimtaMail
import SlimtaNet
import SlimtaQueue
import SlimtaSMTP
import Testing

@testable import SlimtaEdge

@Suite struct SMTPEdgeHandlerTests {
    @Test func aMessage() throws {
        let session = try SessionFixture()
        try session.beginMessage()
        try session.send("Subject: x\r\n\r\ntext\r\n.\r\nQUIT\r\n")
        #expect(try session.replies() == ["250 2.6.0 Message queued", "221 2.0.0 Bye"])
        #expect(!session.channel.isActive && session.storage.count == 1)
    }

    // MARK: Room

    /// Whether there is room may have to be asked elsewhere: what was sent ahead waits for the answer.
    @Test(arguments: [
        (nil, ["250 2.1.0 <a@x.org> Ok", "250 2.1.5 <b@y.org> Ok"]),
        (Reply(storing: .full), ["452 4.3.1 Insufficient system storage", "503 5.5.1 Bad sequence of commands"]),
    ])
    func theAnswerAboutRoomComesLater(_ refusal: Reply?, _ replies: [String]) throws {
        let session = try SessionFixture()
        session.storage.isFar = true
        try session.send("HELO c\r\nMAIL FROM:<a@x.org>\r\nRCPT TO:<b@y.org>\r\n")
        #expect(try session.replies().count == 1 && session.storage.askingCount == 1)
        session.advance(.seconds(600))
        #expect(try session.replies() == [] && session.channel.isActive)
        session.storage.answerRoom(refusal)
        #expect(try session.replies() == replies)
    }

    @Test func theAnswerAboutRoomComesTooLate() throws {
        let session = try SessionFixture()
        session.storage.isFar = true
        try session.send("HELO c\r\nMAIL FROM:<a@x.org>\r\n")
        #expect(try session.replies().count == 1)
        session.channel.close(promise: nil)
        #expect(try session.replies() == [] && !session.channel.isActive)
        session.storage.answerRoom(nil)
        #expect(try session.replies() == [] && session.storage.count == 0)
    }

    // MARK: Turns

    /// In one turn of the event loop few commands are done, however many came; the rest without another read.
    @Test func whatIsSentAheadIsDoneByTurns() throws {
        let session = try SessionFixture(commands: 1000)
        try session.send(String(repeating: "RSET\r\n", count: 300))
        let first = try session.replies().count
        #expect((1..<100).contains(first))
        session.advance(.seconds(10))
        #expect(try session.replies().count == 300 - first)
    }

    /// While a client does not read its replies no command of it is done; when it reads, it goes on.
    @Test func nothingIsDoneForAClientThatDoesNotRead() throws {
        let session = try SessionFixture(commands: 1000)
        session.channel.isWritable = false
        try session.send(String(repeating: "RSET\r\n", count: 300))
        let first = try session.replies().count
        session.advance(.seconds(10))
        #expect(try session.replies() == [] && first < 100)
        session.channel.isWritable = true
        session.channel.pipeline.fireChannelWritabilityChanged()
        session.advance(.seconds(10))
        #expect(try session.replies().count == 300 - first)
    }

    @Test func aClientThatNeverReadsIsEndedByItsDeadline() throws {
        let session = try SessionFixture(commands: 1000)
        session.channel.isWritable = false
        try session.send(String(repeating: "RSET\r\n", count: 300))
        session.advance(.minutes(5) + .seconds(1))
        #expect(!session.channel.isActive)
    }

    @Test func aFloodEndsWith421() throws {
        let session = try SessionFixture()
        try session.send(String(repeating: "NOOP\r\n", count: 200))
        session.advance(.seconds(2))
        let replies = try session.replies()
        #expect(replies.count == 101 && replies.last?.hasPrefix("421 4.7.0 ") == true)
        session.advance(.seconds(2))
        #expect(!session.channel.isActive)
        #expect(session.log.lines("session ended").map { $0.fields["reason"] } == ["tooManyCommands"])
    }

    // MARK: Deadlines of a message

    /// Slow and steady is let be, for longer than any one deadline.
    @Test func aSteadyMessageGoesOn() throws {
        let session = try SessionFixture(transfer: .init(leastRate: 16, stallTimeout: .minutes(3)))
        try session.beginMessage()
        for _ in 0..<60 {
            session.advance(.minutes(1))
            try session.send(String(repeating: "x", count: 16 * 60 - 2) + "\r\n")
        }
        #expect(session.channel.isActive)
    }

    @Test func aSilentMessageEndsAfterTheStallTimeout() throws {
        let session = try SessionFixture()
        try session.beginMessage()
        session.advance(.seconds(179))
        #expect(session.channel.isActive)
        session.advance(.seconds(2))
        #expect(try session.replies() == ["421 4.4.2 mx.example.org Connection timed out"])
        #expect(!session.channel.isActive)
    }

    @Test func aMessageThatDripsEnds() throws {
        let session = try SessionFixture()
        try session.beginMessage()
        var seconds = 0
        while session.channel.isActive, seconds < 1000 {
            session.advance(.seconds(1))
            seconds += 1
            if session.channel.isActive { try session.send("x\r\n") }
        }
        #expect((180...182).contains(seconds))
    }

    @Test func dataTimeoutBoundsAMessageHoweverFastItComes() throws {
        let session = try SessionFixture(dataTimeout: .minutes(2))
        try session.beginMessage()
        for _ in 0..<130 where session.channel.isActive {
            session.advance(.seconds(1))
            if session.channel.isActive { try session.send(String(repeating: "x", count: 60) + "\r\n") }
        }
        #expect(!session.channel.isActive)
    }

    // MARK: Ends

    @Test func aHalfClosedSessionGetsItsReplies() throws {
        let session = try SessionFixture()
        session.storage.isSlow = true
        try session.beginMessage()
        try session.send("text\r\n.\r\nQUIT\r\n")
        session.channel.pipeline.fireUserInboundEventTriggered(ChannelEvent.inputClosed)
        #expect(try session.replies() == [] && session.channel.isActive)
        session.storage.answer()
        #expect(try session.replies() == ["250 2.6.0 Message queued", "221 2.0.0 Bye"])
        #expect(!session.channel.isActive)
    }

    @Test func aHalfClosedSessionWithNothingToDoEnds() throws {
        let session = try SessionFixture()
        session.channel.pipeline.fireUserInboundEventTriggered(ChannelEvent.inputClosed)
        #expect(!session.channel.isActive && session.log.lines("session ended").isEmpty)
    }

    /// A client in the middle of a message that is refused can go on for a moment, else it would not see why.
    @Test func wrongLineEndsAreRefusedAndTheRestIsForgotten() throws {
        for isClosedByClient in [true, false] {
            let session = try SessionFixture()
            try session.beginMessage()
            try session.send("text\n.\nMAIL FROM:<evil@x.org>\r\n")
            #expect(try session.replies().map { $0.prefix(3) } == ["554", "421"])
            #expect(session.channel.isActive)
            try session.send("QUIT\r\n")
            #expect(try session.replies() == [])
            if isClosedByClient {
                session.channel.pipeline.fireUserInboundEventTriggered(ChannelEvent.inputClosed)
            } else {
                session.advance(.seconds(2))
            }
            #expect(!session.channel.isActive)
        }
    }

    // MARK: The log

    @Test func refusalsSayWhatWasRefused() throws {
        let session = try SessionFixture()
        try session.send("EHLO c\r\nMAIL FROM:<a@x.org>\r\nRCPT TO:<b@y\r\n")
        let fields = try #require(session.log.lines("refused").first?.fields)
        #expect(fields["command"] == "RCPT" && fields["address"] == "<b@y" && fields["sender"] == "a@x.org")
        #expect(fields["client"] == "192.0.2.1" && fields["reply"]?.hasPrefix("501 5.1.3") == true)
    }

    /// However many refusals a stranger causes, few lines come of it, and one that counts the others.
    @Test func equalLinesOfOneClientAreSummedUp() throws {
        let session = try SessionFixture(commands: 1000)
        try session.send("EHLO c\r\nMAIL FROM:<a@x.org>\r\n")
        let recipients = (0..<1000).map { "RCPT TO:<r\($0)@y.org>\r\n" }.joined()
        try session.send(recipients)
        for _ in 0..<100 { session.advance(.milliseconds(1)) }
        for _ in 0..<70 { try session.send("RCPT TO:<one-more@y.org>\r\n") }
        session.advance(.seconds(10))
        #expect(session.log.lines("refused").count == 20)
        session.advance(.minutes(2))
        let summary = session.log.lines("lines left out")
        #expect(summary.map { $0.fields["count"] } == ["50"] && summary.map { $0.fields["event"] } == ["refused"])
        #expect(summary.first?.fields["client"] == "192.0.2.1")
    }
}

@Suite struct RepeatedEventsTests {
    private let start = NIODeadline.uptimeNanoseconds(1)

    private func key(_ number: UInt32, login: String? = nil, event: String = "refused") -> RepeatedEvents.Key {
        let octets = [192, UInt8(number >> 16 & 255), UInt8(number >> 8 & 255), UInt8(number & 255)]
        let address = IPAddress(bytes: octets).map { ConnectionFacts.Endpoint.ip($0, port: 25) }
        return .init(source: address.flatMap { .init($0) }, login: login, event: event)
    }

    @Test func aFewAreToldAndTheRestIsCounted() {
        var events = RepeatedEvents()
        for _ in 0..<20 { #expect(events.happened(key(1), at: start) == .tell) }
        #expect(
            events.happened(key(1), at: start + .seconds(1))
                == .leaveOutAndSumUp(key(1), at: start + .minutes(1)))
        for _ in 0..<9 { #expect(events.happened(key(1), at: start + .seconds(2)) == .leaveOut) }
        // Others, other kinds, and whoever has logged in are counted apart.
        for other in [key(2), key(1, event: "session ended"), key(1, login: "u")] {
            #expect(events.happened(other, at: start) == .tell)
        }
        #expect(events.sumUp(key(1)) == 10)
        #expect(events.sumUp(key(1)) == 0)
        #expect(events.happened(key(1), at: start + .minutes(1)) == .tell)
    }

    @Test func aWindowThatLeftNothingOutBeginsAnew() {
        var events = RepeatedEvents()
        for minute in 0..<10 as Range<Int64> {
            for _ in 0..<20 { #expect(events.happened(key(1), at: start + .minutes(minute)) == .tell) }
        }
    }

    /// However many addresses a client has, memory and lines have an end.
    @Test func manyAddressesAreCountedAsOne() {
        var events = RepeatedEvents()
        var told = 0
        for number in 0..<100_000 as Range<UInt32> where events.happened(key(number), at: start) == .tell { told += 1 }
        #expect(told == RepeatedEvents.keys + RepeatedEvents.told)
        #expect(events.sumUp(.init(source: nil, login: nil, event: "refused")) == 100_000 - told)
        // A minute later there is room for others.
        #expect(events.happened(key(200_000), at: start + .minutes(1)) == .tell)
        #expect(events.sumUp(key(200_000)) == 0)
    }
}
