// The greeting of the server machine: every code, what may be said behind one that refuses, and what happens while the
// client waits for it.

import NIOCore
import SlimtaMail
import Testing

@testable import SlimtaSMTP

@Suite struct SMTPServerGreetingTests {
    private static let seq = ["S: 503 5.5.1 Bad sequence of commands"]

    private static func configuration(_ greeting: Reply, errors: Int = 1000, stages: SMTPStages = [])
        -> SMTPServerConfiguration
    {
        var configuration = SMTPServerConfiguration.test(authentication: .none, errors: errors, stages: stages)
        configuration.greeting = greeting
        return configuration
    }

    /// RFC 5321 section 3.1: every command behind a greeting of 4xx or 5xx, alone and in a group.
    @Test(arguments: [
        Reply(554, .init(5, 7, 1), "No mail here"), Reply(450, .init(4, 7, 1), "Not now"),
        Reply(521, .init(5, 3, 2), "mx.example.org does not accept mail"),
    ])
    func behindAGreetingThatRefuses(_ greeting: Reply) {
        for isAsked in [false, true] {
            for command in SMTPServerStateTests.commands {
                var session = SMTPSession(Self.configuration(greeting, stages: isAsked ? .connect : []))
                #expect(session.taken() == (isAsked ? ["connect?"] : []) + ["S: \(greeting)"])
                session.send(command + "\r\n")
                let expected: [String] =
                    switch command {
                    case "QUIT": ["S: 221 2.0.0 Bye", "close quit"]
                    case "FOO", "": ["S: 500 5.5.2 Syntax error, command unrecognized"]
                    default: Self.seq
                    }
                #expect(session.taken() == expected, "\(command)")
            }
        }
        var session = SMTPSession(Self.configuration(greeting))
        session.send("EHLO c\r\nMAIL FROM:<a@x.org>\r\nRCPT TO:<b@y.org>\r\nDATA\r\nQUIT\r\n")
        let replies = Self.seq + Self.seq + Self.seq + Self.seq
        #expect(session.taken() == ["S: \(greeting)"] + replies + ["S: 221 2.0.0 Bye", "close quit"])
    }

    /// RFC 5321 section 4.2.1: 421 is the last reply of a session.
    @Test func aGreetingOf421Ends() {
        var session = SMTPSession(Self.configuration(Reply(421, .init(4, 3, 2), "mx.example.org is away")))
        #expect(session.taken() == ["S: 421 4.3.2 mx.example.org is away", "close refused"])
        session.send("EHLO c\r\n")
        #expect(session.taken() == [])
    }

    /// It counts as refused, and is told as such.
    @Test func aGreetingThatRefusesIsTold() throws {
        let greeting = Reply(554, .init(5, 7, 1), "No")
        var session = SMTPSession(Self.configuration(greeting))
        let refusal = try #require(session.machine.takeRefusals().first)
        #expect(refusal.command == "CONNECT" && refusal.reply == greeting)
        session = SMTPSession(Self.configuration(greeting, errors: 1))
        #expect(
            session.taken() == [
                "S: 554 5.7.1 No", "S: 421 4.7.0 mx.example.org Too many errors", "close tooManyErrors",
            ])
    }

    /// Another text or code of 2xx changes nothing else.
    @Test func aGreetingThatWelcomes() {
        var session = SMTPSession(Self.configuration(Reply(220, nil, "mx.example.org Welcome")))
        session.send("HELO c2\r\n")
        #expect(session.taken() == ["S: 220 mx.example.org Welcome", "S: 250 mx.example.org Hello c2"])
    }

    /// Behind TLS the greeting is the same, and a client that was turned away does not come back by STARTTLS.
    @Test func behindImmediateTLS() {
        var configuration = SMTPServerConfiguration.test(tls: .immediate)
        configuration.greeting = Reply(554, .init(5, 7, 1), "No")
        var session = SMTPSession(configuration)
        #expect(session.taken() == [])
        session.establishTLS()
        session.send("EHLO c\r\nQUIT\r\n")
        #expect(session.taken() == ["S: 554 5.7.1 No"] + Self.seq + ["S: 221 2.0.0 Bye", "close quit"])
    }

    /// While it is not answered whether the client may come in, no time runs against it, and what it sends waits.
    @Test func whileTheClientWaits() {
        var session = SMTPSession(.test(authentication: .none, stages: .connect), keepsQuestionsOpen: true)
        #expect(session.machine.waitsFor.kind == .nothing)
        let number = session.machine.waitsFor.number
        session.send("EHLO c\r\nQUIT\r\n")
        #expect(session.taken() == ["connect?"] && session.machine.unreadCount == 14)
        // It has closed its side, and gets its replies all the same.
        session.closeInput()
        #expect(session.taken() == [])
        session.answer()
        #expect(session.machine.waitsFor.number > number, "the time for the first command begins now")
        #expect(session.taken().map { $0.prefix(6) }.filter { $0 != "S: 250" } == ["S: 220", "S: 221", "close "])
    }

    /// Nobody waits for a greeting that will not come: neither before nor after the question was given out.
    @Test(arguments: [false, true]) func theServerStopsMeanwhile(hasSpoken: Bool) {
        var session = SMTPSession(.test(authentication: .none, stages: .connect), keepsQuestionsOpen: true)
        if hasSpoken { session.send("EHLO c\r\n") }
        session.drain()
        session.answer()
        #expect(
            session.taken() == [
                "connect?", "S: 421 4.3.2 mx.example.org Service shutting down", "close shutdown",
            ])
    }

    /// Whoever does not quit is told by the deadline of a command, and not kept longer than others.
    @Test func theDeadlineOfWhoIsTurnedAway() {
        var session = SMTPSession(Self.configuration(Reply(554, .init(5, 7, 1), "No")))
        #expect(session.machine.waitsFor.kind == .command)
        session.deadlinePassed()
        #expect(
            session.taken() == [
                "S: 554 5.7.1 No", "S: 421 4.4.2 mx.example.org Connection timed out", "close timeout",
            ])
        session = SMTPSession(Self.configuration(Reply(554, .init(5, 7, 1), "No")))
        session.closeInput()
        #expect(session.taken() == ["S: 554 5.7.1 No", "close clientClosed"])
    }

    @Test func theServerHasStoppedBefore() {
        for stages: SMTPStages in [[], .connect] {
            var machine = SMTPServerMachine(.test(authentication: .none, stages: stages), isTrusted: true)
            var output = ByteBuffer()
            machine.drain()
            machine.connected(into: &output)
            if stages.isEmpty { #expect(String(buffer: output).hasPrefix("220 ")) }
            #expect(machine.next(into: &output) == .close(.shutdown))
            machine.connected(into: &output)
            #expect(machine.next(into: &output) == .wait && machine.waitsFor.kind == .nothing)
        }
    }
}
