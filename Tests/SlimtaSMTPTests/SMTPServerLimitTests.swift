// Limits of a session at N-1, N and N+1, and its deadlines.

import NIOCore
import SlimtaMail
import SlimtaSASL
import TestKit
import Testing

@testable import SlimtaSMTP

@Suite struct SMTPServerLimitTests {
    private func greeted(_ configuration: SMTPServerConfiguration) -> SMTPSession {
        var session = SMTPSession(configuration, isTrusted: true)
        session.send("EHLO c\r\n")
        _ = session.taken()
        return session
    }

    // MARK: Recipients

    @Test func recipients() {
        var session = greeted(.test(recipients: 3, errors: 2))
        for _ in 0..<2 {
            session.send("MAIL FROM:<a@x.org>\r\n")
            _ = session.taken()
            for number in 1...6 {
                session.send("RCPT TO:<r\(number)@y.org>\r\n")
                #expect(
                    session.taken() == [
                        number <= 3 ? "S: 250 2.1.5 <r\(number)@y.org> Ok" : "S: 452 4.5.3 Too many recipients"
                    ])
            }
            session.send("DATA\r\n.\r\n")
            #expect(session.taken().contains("message <a@x.org> <r1@y.org> <r2@y.org> <r3@y.org> c ESMTP: "))
        }
        #expect(session.closed == nil, "too many recipients are no errors")
    }

    // MARK: Errors

    @Test(arguments: 1...4) func errors(_ limit: Int) {
        var session = greeted(.test(errors: limit))
        for number in 1...limit {
            // What is no error is not counted.
            session.send("NOOP\r\nRSET\r\nVRFY x\r\nMAIL FROM:<a@x.org>\r\nRSET\r\n")
            _ = session.taken()
            session.send("FOO\r\n")
            #expect(
                session.taken() == ["S: 500 5.5.2 Syntax error, command unrecognized"]
                    + (number == limit ? ["S: 421 4.7.0 mx.example.org Too many errors", "close tooManyErrors"] : []))
        }
    }

    /// Whatever gets a 5xx counts: syntax, sequence, password, message.
    @Test func everyRefusalCounts() {
        let refusals = [
            "FOO\r\n", "EHLO\r\n", "DATA\r\n", "MAIL FROM:<a>\r\n", "MAIL FROM:<a@x.org> X\r\n",
            "AUTH PLAIN AHUAeA==\r\n",
            "AUTH PLAIN *\r\n", "AUTH X\r\n", "AUTH PLAIN\r\n*\r\n", "RCPT TO:<a@b>\r\n", "EXPN x\r\n",
            "STARTTLS x\r\n",
            "MAIL FROM:<a@x.org> SIZE=99999999\r\n", String(repeating: "x", count: 20000) + "\r\n",
            "MAIL FROM:<a@x.org>\r\nRCPT TO:<b@y.org>\r\nDATA\r\n" + String(repeating: "x\r\n", count: 40_000)
                + ".\r\n",
        ]
        for refusal in refusals {
            var session = greeted(.test(plaintext: true, errors: 3))
            for number in 1...3 {
                #expect(session.closed == nil)
                session.send(refusal)
                #expect((session.closed == .tooManyErrors) == (number == 3), "\(refusal.prefix(40))")
            }
        }
    }

    @Test func whatThePeerIsNotToBlameForIsNotCounted() {
        var session = greeted(.test(plaintext: true, errors: 1))
        session.answers.room = Reply(452, .init(4, 3, 1), "No room")
        session.send("AUTH PLAIN AGRvd24AcA==\r\nMAIL FROM:<a@x.org>\r\n")
        session.answers.room = nil
        session.answers.stored = Reply(451, .init(4, 3, 0), "Later")
        session.send("MAIL FROM:<a@x.org>\r\nRCPT TO:<b@y.org>\r\nDATA\r\n.\r\n")
        #expect(session.taken().last == "S: 451 4.3.0 Later" && session.closed == nil)
    }

    @Test func errorsSurviveTLS() {
        // A client must not get a new budget with every STARTTLS.
        var session = greeted(.test(errors: 2))
        session.send("FOO\r\n")
        session.send("STARTTLS\r\n")
        session.establishTLS()
        session.send("FOO\r\n")
        #expect(session.closed == .tooManyErrors)
    }

    /// A session that goes on for long is not ended by a mistake now and then.
    @Test func errorsCountSinceTheLastAcceptedMessage() {
        var session = greeted(.test(errors: 3))
        let message = "MAIL FROM:<a@x.org>\r\nRCPT TO:<b@y.org>\r\nDATA\r\n.\r\n"
        for _ in 0..<5 { session.send("FOO\r\nFOO\r\n" + message) }
        #expect(session.closed == nil)
        session.answers.stored = Reply(451, .init(4, 3, 0), "Later")
        session.send("FOO\r\nFOO\r\n" + message)
        #expect(session.closed == nil)
        session.send("FOO\r\n")
        #expect(session.closed == .tooManyErrors, "a message that was not accepted forgives nothing")
    }

    // MARK: Commands without progress

    static let idle = [
        "NOOP", "RSET", "EHLO c", "HELO c", "HELP", "VRFY x", "MAIL FROM:<a@x.org>\r\nRSET", "AUTH PLAIN AGRvd24AcA==",
        "FOO",
    ]

    @Test(arguments: idle) func commandsWithoutProgress(_ command: String) {
        var session = greeted(.test(plaintext: true, commands: 10))
        let count = command.hasPrefix("MAIL") ? 4 : 9  // after the EHLO
        for _ in 0..<count { session.send(command + "\r\n") }
        #expect(session.closed == nil)
        if count == 4 { session.send("NOOP\r\n") }
        _ = session.taken()
        session.send(command + "\r\n")
        #expect(
            session.taken() == [
                "S: 421 4.7.0 mx.example.org Too many commands without a message", "close tooManyCommands",
            ])
    }

    @Test func refusedRecipientsAreNoProgressAndAcceptedOnesAre() {
        var session = greeted(.test(recipients: 1, commands: 10))
        session.send("MAIL FROM:<a@x.org>\r\n" + String(repeating: "RCPT TO:<b>\r\n", count: 7))
        session.send("RCPT TO:<b@y.org>\r\n")
        for _ in 0..<10 { session.send("RCPT TO:<c@y.org>\r\n") }
        #expect(session.closed == nil)
        session.send("RCPT TO:<c@y.org>\r\n")
        #expect(session.closed == .tooManyCommands)
    }

    @Test func progressBeginsAnew() {
        let steps = ["AUTH PLAIN AHUAcA==", "MAIL FROM:<a@x.org>\r\nRCPT TO:<b@y.org>", "DATA\r\ntext\r\n."]
        var session = SMTPSession(.test(plaintext: true, commands: 10))
        session.send("EHLO c\r\n")
        for step in steps {
            session.send(String(repeating: "NOOP\r\n", count: 7) + step + "\r\n")
            #expect(session.closed == nil, "\(step)")
        }
        session.send(String(repeating: "NOOP\r\n", count: 10))
        #expect(session.closed == nil)
        session.send("NOOP\r\n")
        #expect(session.closed == .tooManyCommands)
    }

    @Test func commandsAreCountedOverTLS() {
        var session = greeted(.test(commands: 4))
        session.send("NOOP\r\nSTARTTLS\r\n")
        session.establishTLS()
        session.send("EHLO c\r\nNOOP\r\n")
        #expect(session.closed == .tooManyCommands)
    }

    // MARK: Turns

    /// However much a client sends ahead, in one turn few commands are done and few replies wait to be written.
    @Test func whatIsSentAheadIsDoneByTurns() {
        for command in ["EHLO a\r\n", "RSET\r\n", "HELP\r\n", "MAIL FROM:<a@x.org>\r\nRSET\r\n"] {
            var session = greeted(.test())
            session.send(String(repeating: command, count: 3000))
            let replies = session.taken().filter { $0.hasPrefix("S: ") && $0.dropFirst(6).first == " " }
            #expect(replies.count == (command.hasPrefix("MAIL") ? 6000 : 3000), "all are answered")
            #expect(session.turns >= replies.count / 64)
            #expect(session.largestOutput < 2048 + 512)
        }
    }

    /// A client that says half a line and no more does not keep what came with it.
    @Test func buffersAreGivenBack() {
        var session = greeted(.test())
        var octets = ByteBufferAllocator().buffer(capacity: 65536)
        octets.writeString(String(repeating: "NOOP\r\n", count: 9000) + "NOO")
        session.send(octets)
        #expect(session.machine.unreadCount == 3 && session.machine.unreadCapacity <= 512)
        session.send("P\r\n")
        #expect(session.machine.unreadCapacity == 0)
    }

    // MARK: The client closes its side

    /// What came before is done and answered: QUIT, the final dot, also when the answer takes its time.
    @Test func inputClosedBehindACommand() {
        var session = greeted(.test())
        session.keepsQuestionsOpen = true
        session.send("MAIL FROM:<a@x.org>\r\n")
        session.answer()
        session.send("RCPT TO:<b@y.org>\r\nDATA\r\n.\r\nQUIT\r\n")
        session.closeInput()
        #expect(session.closed == nil)
        _ = session.taken()
        session.answer()
        #expect(session.taken() == ["S: 250 2.6.0 Message queued as 0123", "S: 221 2.0.0 Bye", "close quit"])
    }

    @Test(arguments: ["", "NOO", "AUTH PLAIN\r\n", "MAIL FROM:<a@x.org>\r\nRCPT TO:<b@y.org>\r\nDATA\r\ntext\r\n."])
    func inputClosedWithinACommand(_ sent: String) {
        var session = greeted(.test(plaintext: true))
        session.send(sent)
        _ = session.taken()
        session.closeInput()
        #expect(session.taken() == ["close clientClosed"], "and nothing of it is done")
    }

    // MARK: Refusals, as the log has them

    @Test func refusalsSayWhatWasRefusedToWhom() {
        var machine = SMTPServerMachine(.test(plaintext: true, recipients: 1), isTrusted: false)
        var output = ByteBuffer()
        func refusals(_ text: String) -> [String] {
            machine.received(ByteBuffer(string: text))
            while true {
                switch machine.next(into: &output) {
                case .wait:
                    return machine.takeRefusals().map {
                        [$0.reply.code.description, $0.command, $0.address, $0.sender?.text, $0.login].map { $0 ?? "-" }
                            .joined(separator: " ")
                    }
                case .ask(.authentication(.begin(_, let response, _))):
                    let user = AuthenticatedUser(login: "u", senders: ["@x.org"])
                    machine.answered(.authentication(response?.count == 4 ? .right(user) : .malformed), into: &output)
                case .ask(.room(let mail)):
                    let full = Reply(452, .init(4, 3, 1), "No room")
                    machine.answered(mail.size == 7 ? .reply(full) : .goOn, into: &output)
                case .ask(.end): machine.answered(.reply(Reply(550, .init(5, 7, 1), "No")), into: &output)
                case .pause, .content, .discardContent: break
                case .startTLS, .close, .ask: Issue.record("not asked for")
                }
            }
        }
        #expect(refusals("EHLO c\r\nMAIL FROM:<a@x.org>\r\n") == ["530 MAIL <a@x.org> - -"])
        #expect(refusals("AUTH PLAIN c2VjcmV0\r\nc2VjcmV0\r\n") == ["501 AUTH - - -", "500 unknown - - -"])
        #expect(refusals("AUTH PLAIN AHUAcA==\r\n") == [])
        #expect(refusals("MAIL FROM:<b@y.org> SIZE=1\r\n") == ["553 MAIL <b@y.org> SIZE=1 - u"])
        #expect(refusals("MAIL FROM:<a@x.org> SIZE=7\r\n") == ["452 MAIL - a@x.org u"])
        #expect(refusals("MAIL FROM:<a@x.org>\r\nRCPT TO:<bad\r\n") == ["501 RCPT <bad a@x.org u"])
        #expect(refusals("RCPT TO:<b@y.org>\r\nRCPT TO:<c@y.org>\r\n") == ["452 RCPT <c@y.org> a@x.org u"])
        #expect(refusals("DATA\r\n.\r\n") == ["550 DATA - a@x.org u"])
    }

    // MARK: Lengths

    @Test func messageSize() throws {
        for (size, isGood) in [(99, true), (100, true), (101, false), (102, false)] {
            let data = String(repeating: "x", count: size - 2) + "\r\n"
            let octets = Array(
                "EHLO c\r\nMAIL FROM:<a@x.org>\r\nRCPT TO:<b@y.org>\r\nDATA\r\n\(data).\r\nNOOP\r\n".utf8)
            let events = try ChunkVerifier.verify(octets, cuts: 6) { chunks in
                var session = SMTPSession(.test(authentication: .none, size: 100))
                for chunk in chunks { session.send(chunk) }
                return session.taken()
            }
            #expect(
                events.suffix(3)
                    == (isGood
                        ? ["message <a@x.org> <b@y.org> c ESMTP: \(data)", "S: 250 2.6.0 Message queued as 0123"]
                        : ["discard", "S: 552 5.3.4 Message exceeded size limit"]) + ["S: 250 2.0.0 Ok"])
        }
    }

    @Test func commandLines() throws {
        for (length, isGood) in [
            (512, true), (2047, true), (2048, true), (2049, false), (12288, false), (12289, false), (40000, false),
        ] {
            let line = "NOOP " + String(repeating: "x", count: length - 7) + "\r\nNOOP\r\n"
            let events = try ChunkVerifier.verify(Array(line.utf8), cuts: 6) { chunks in
                var session = SMTPSession()
                for chunk in chunks { session.send(chunk) }
                return session.taken()
            }
            #expect(
                events.dropFirst() == [isGood ? "S: 250 2.0.0 Ok" : "S: 500 5.5.2 Line too long", "S: 250 2.0.0 Ok"])
        }
    }

    /// RFC 4954 section 4: 12288 octets with CRLF, and 500 5.5.6 for a command or response that is longer.
    @Test func authenticationLines() throws {
        for (length, isGood) in [(12287, true), (12288, true), (12289, false), (30000, false)] {
            let bad = "S: 500 5.5.6 Authentication exchange line is too long"
            for start in ["AUTH PLAIN ", ""] {
                let line = start + String(repeating: "A", count: length - 2 - start.utf8.count) + "\r\nNOOP\r\n"
                let events = try ChunkVerifier.verify(Array(line.utf8), cuts: 3) { chunks in
                    var session = greeted(.test(plaintext: true))
                    if start.isEmpty { session.send("AUTH PLAIN\r\n") }
                    _ = session.taken()
                    for chunk in chunks { session.send(chunk) }
                    return session.taken()
                }
                // Not canonical, or without a login: but read.
                #expect(events == [isGood ? "S: 501 5.5.2 Invalid auth response" : bad, "S: 250 2.0.0 Ok"])
            }
        }
    }

    /// However much comes without a line's end, little is kept.
    @Test func unreadOctets() {
        for start in ["", "EHLO c\r\nAUTH PLAIN\r\n"] {
            var session = SMTPSession(.test(plaintext: true))
            session.send(start)
            for _ in 0..<300 {
                session.send(String(repeating: "x", count: 1000))
                #expect(session.machine.unreadCount < 12288)
            }
            session.send("\r\nQUIT\r\n")
            #expect(session.closed == .quit)
        }
    }

    // MARK: Deadlines

    /// Each of these begins a new deadline for the session, or does not.
    @Test func deadlines() {
        var session = SMTPSession(.test(plaintext: true))
        var last = session.machine.waitsFor.number
        func sends(_ text: String) -> Bool {
            session.send(text)
            defer { last = session.machine.waitsFor.number }
            return session.machine.waitsFor.number > last
        }
        #expect(sends("EHLO c\r\n"))
        #expect(session.machine.waitsFor.kind == .command)
        // A line that dribbles has the time of one command.
        for octet in "NOO" { #expect(!sends(String(octet))) }
        #expect(sends("P\r\n"))
        #expect(sends("FOO\r\n"), "as every line")
        // All of AUTH has the time of one command.
        #expect(sends("AUTH LOGIN\r\n"))
        #expect(session.machine.waitsFor.kind == .command)
        #expect(!sends("dQ"))
        #expect(!sends("==\r\n"))
        #expect(sends("cA==\r\n"), "its end begins the next command's")
        #expect(session.machine.user != nil)
        #expect(sends("MAIL FROM:<a@x.org>\r\n"))
        #expect(sends("RCPT TO:<b@y.org>\r\n"))
        #expect(sends("DATA\r\n"))
        #expect(session.machine.waitsFor.kind == .content)
        // The whole message has one.
        for _ in 0..<10 { #expect(!sends("line\r\n")) }
        session.keepsQuestionsOpen = true
        #expect(sends(".\r\n"))
        #expect(session.machine.waitsFor.kind == .nothing, "the client is not to blame for our time")
        session.answer()
        #expect(session.machine.waitsFor.number > last)
        #expect(session.machine.waitsFor.kind == .command)
        last = session.machine.waitsFor.number
        #expect(sends("STARTTLS\r\n"))
        #expect(session.machine.waitsFor.kind == .handshake)
        session.establishTLS()
        #expect(session.machine.waitsFor.number > last)
    }

    @Test func deadlinePassed() {
        for (lines, isClear) in [
            ("", true), ("EHLO c\r\nNOO", true), ("EHLO c\r\nAUTH PLAIN\r\n", true),
            ("EHLO c\r\nMAIL FROM:<a@x.org>\r\nRCPT TO:<b@y.org>\r\nDATA\r\ntext", true),
            ("EHLO c\r\nSTARTTLS\r\n", false),
        ] {
            var session = SMTPSession(.test(plaintext: true), isTrusted: true)
            session.send(lines)
            _ = session.taken()
            session.deadlinePassed()
            #expect(
                session.taken() == (isClear ? ["S: 421 4.4.2 mx.example.org Connection timed out"] : []) + [
                    "close timeout"
                ])
        }
    }

    /// The timer and the end can meet: the end that came first is the one that is told.
    @Test func deadlineBehindQuit() {
        var machine = SMTPServerMachine(.test(), isTrusted: false)
        var output = ByteBuffer()
        machine.received(ByteBuffer(string: "QUIT\r\n"))
        #expect(machine.next(into: &output) == .close(.quit))
        output.clear()
        machine.deadlinePassed(into: &output)
        #expect(machine.next(into: &output) == .wait && output.readableBytes == 0)
    }
}
