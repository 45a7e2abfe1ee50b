// The server machine's questions: every one, with every answer, and with whatever happens while it is open.

import NIOCore
import SlimtaMail
import Testing

@testable import SlimtaSMTP

@Suite struct SMTPServerQuestionTests {
    private typealias Answer = SMTPServerMachine.Answer

    /// Where a question is asked, and what its answers lead to. The session before it is in clear, with AUTH.
    struct Row: Sendable, CustomTestStringConvertible {
        let name: String
        var stage: SMTPStages = []
        /// What the client has said before; nil: it has not been greeted.
        var before: String? = ""
        var line = ""
        /// The question as the transcript has it.
        let question: String
        /// What "go on" leads to; nil: it does not fit.
        var goOn: [String]?
        /// Behind the reply that refuses.
        var refused: [String] = []
        var testDescription: String { name }
    }

    private static let hello = "EHLO c\r\n"
    private static let user = hello + "AUTH PLAIN AHUAcA==\r\n"
    private static let mail = user + "MAIL FROM:<a@x.org>\r\n"
    private static let rcpt = mail + "RCPT TO:<b@y.org>\r\n"
    private static let message = "<a@x.org> <b@y.org> c ESMTPA login=u"

    static let rows: [Row] = [
        Row(
            name: "connect", stage: .connect, before: nil, question: "connect?",
            goOn: ["S: 220 mx.example.org ESMTP Mail Gateway"]),
        Row(
            name: "hello", stage: .hello, line: "HELO d", question: "hello? d false",
            goOn: ["S: 250 mx.example.org Hello d"]),
        Row(
            name: "starttls", stage: .startTLS, before: hello, line: "STARTTLS", question: "starttls?",
            goOn: ["S: 220 2.7.0 Go ahead", "TLS"]),
        Row(name: "credentials", before: hello, line: "AUTH PLAIN AHUAcA==", question: "password u:p"),
        Row(
            name: "login", stage: .login, before: hello, line: "AUTH PLAIN AHUAcA==", question: "login? u",
            goOn: ["S: 235 2.7.0 Authentication successful"]),
        Row(
            name: "mail", stage: .mail, before: user, line: "MAIL FROM:<a@x.org>", question: "mail? <a@x.org>",
            goOn: ["room -", "S: 250 2.1.0 <a@x.org> Ok"]),
        Row(
            name: "room", before: user, line: "MAIL FROM:<a@x.org> SIZE=9", question: "room 9",
            goOn: ["S: 250 2.1.0 <a@x.org> Ok"]),
        Row(
            name: "recipient", stage: .recipient, before: mail, line: "RCPT TO:<b@y.org>",
            question: "recipient? b@y.org b@y.org", goOn: ["S: 250 2.1.5 <b@y.org> Ok"]),
        Row(
            name: "data", stage: .data, before: rcpt, line: "DATA", question: "data?",
            goOn: ["S: 354 Start mail input; end with <CRLF>.<CRLF>"]),
        Row(
            name: "message", stage: .message, before: rcpt + "DATA\r\n", line: "text\r\n.",
            question: "message? \(message)",
            goOn: ["message \(message): text\r\n", "S: 250 2.6.0 Message queued as 0123"], refused: ["discard"]),
        Row(name: "end", before: rcpt + "DATA\r\n", line: "text\r\n.", question: "message \(message): text\r\n"),
    ]

    /// A session in which the question of `row` is open.
    private static func session(_ row: Row, errors: Int = 1000) -> SMTPSession {
        let configuration = SMTPServerConfiguration.test(plaintext: true, errors: errors, stages: row.stage)
        var session = SMTPSession(configuration, keepsQuestionsOpen: row.before == nil)
        if let before = row.before {
            session.send(before)
            if row.name == "login" {
                session.keepsQuestionsOpen = true
                session.send(row.line + "\r\n")
                session.answer()
            } else {
                // Of one stage some questions came before, and were answered.
                session.keepsQuestionsOpen = true
                session.send(row.line + "\r\n")
            }
        }
        #expect(session.taken().last == row.question)
        #expect(session.question != nil && session.machine.waitsFor.kind == .nothing)
        return session
    }

    enum Event: CaseIterable { case nothing, octets, drain, inputClosed, deadline, secondAnswer }
    enum Kind: CaseIterable { case goOn, permanent, temporary, end, positive, wrong, right }

    private static func answer(_ kind: Kind) -> Answer {
        switch kind {
        case .goOn: .goOn
        case .permanent: .reply(Reply(550, .init(5, 7, 1), "No"))
        case .temporary: .reply(Reply(450, .init(4, 7, 1), "Not now"))
        case .end: .reply(Reply(421, .init(4, 7, 0), "Go"))
        case .positive: .reply(Reply(250, .init(2, 6, 0), "Fine"))
        case .wrong: .authentication(.wrong)
        case .right: .authentication(.right(.init(login: "w")))
        }
    }

    /// What the answer leads to, if nothing else happened; and whether it was a yes.
    private static func outcome(_ row: Row, _ kind: Kind) -> (lines: [String], isYes: Bool) {
        let misfit = ["S: 451 4.3.0 Requested action aborted: error in processing"] + row.refused
        switch kind {
        case .goOn: return row.goOn.map { ($0, true) } ?? (misfit, false)
        case .permanent: return (["S: 550 5.7.1 No"] + row.refused, false)
        case .temporary: return (["S: 450 4.7.1 Not now"] + row.refused, false)
        case .end: return (["S: 421 4.7.0 Go", "close refused"], false)
        case .positive: return row.name == "end" ? (["S: 250 2.6.0 Fine"], true) : (misfit, false)
        case .wrong:
            return row.name == "credentials"
                ? (["S: 535 5.7.8 Authentication credentials invalid"], false) : (misfit, false)
        case .right:
            return row.name == "credentials"
                ? (["S: 235 2.7.0 Authentication successful"], true) : (misfit, false)
        }
    }

    /// The same, if `event` happened while the question was open.
    private static func expected(_ row: Row, _ kind: Kind, _ event: Event) -> [String] {
        let (lines, isYes) = outcome(row, kind)
        if event == .deadline { return ["S: 421 4.4.2 mx.example.org Connection timed out", "close timeout"] }
        if row.name == "connect", event == .inputClosed { return ["close clientClosed"] }
        if row.name == "connect", event == .drain {
            return ["S: 421 4.3.2 mx.example.org Service shutting down", "close shutdown"]
        }
        if kind == .end { return lines }
        switch event {
        case .nothing, .secondAnswer, .deadline: return lines
        case .octets:
            if row.name == "starttls", isYes {
                return [
                    "S: 554 5.5.1 Nothing may be sent behind STARTTLS before its reply",
                    "close protocolViolation(\"octets in clear behind STARTTLS\")",
                ]
            }
            if row.name == "data", isYes { return lines }
            return lines + [
                row.name == "connect" && !isYes ? "S: 503 5.5.1 Bad sequence of commands" : "S: 250 2.0.0 Ok"
            ]
        case .drain:
            let isOpen =
                ["recipient", "data"].contains(row.name) || ["mail", "room", "starttls"].contains(row.name) && isYes
            return lines + (isOpen ? [] : ["S: 421 4.3.2 mx.example.org Service shutting down", "close shutdown"])
        case .inputClosed:
            return (row.name == "starttls" && isYes ? [] : lines) + ["close clientClosed"]
        }
    }

    @Test(arguments: rows, Kind.allCases) func everyAnswer(_ row: Row, _ kind: Kind) {
        for event in Event.allCases {
            var session = Self.session(row)
            switch event {
            case .nothing, .secondAnswer: break
            case .octets: session.send("NOOP\r\n")
            case .drain: session.drain()
            case .inputClosed: session.closeInput()
            case .deadline: session.deadlinePassed()
            }
            // Nobody is kept waiting for a greeting that will not be, or that nobody waits for.
            let endsAtOnce = event == .deadline || row.name == "connect" && [.drain, .inputClosed].contains(event)
            if !endsAtOnce { #expect(session.taken() == [], "nothing happens before the answer") }
            session.keepsQuestionsOpen = false
            session.answer(with: Self.answer(kind))
            if event == .secondAnswer { session.answer(with: Self.answer(.permanent)) }
            #expect(session.taken() == Self.expected(row, kind, event), "\(row.name) \(kind) \(event)")
        }
    }

    /// 521 ends the session for good. In place of the greeting it is followed by 503 to everything but QUIT.
    @Test(arguments: rows) func endsForGood(_ row: Row) {
        var session = Self.session(row)
        session.answer(with: .reply(Reply(521, .init(5, 7, 0), "Go")))
        let end = row.name == "connect" ? row.refused : ["close refused"]
        #expect(session.taken() == ["S: 521 5.7.0 Go"] + end)
    }

    /// A refusal counts as an error of the client.
    @Test(arguments: rows) func tooManyErrors(_ row: Row) {
        var session = Self.session(row, errors: 1)
        session.answer(with: Self.answer(.permanent))
        #expect(
            session.taken() == [
                "S: 550 5.7.1 No", "S: 421 4.7.0 mx.example.org Too many errors", "close tooManyErrors",
            ])
    }

    @Test(arguments: rows) func refusalsAreTold(_ row: Row) throws {
        var session = Self.session(row)
        session.answer(with: Self.answer(.permanent))
        let refusal = try #require(session.machine.takeRefusals().last)
        let commands = [
            "connect": "CONNECT", "hello": "HELO", "credentials": "AUTH", "login": "AUTH", "room": "MAIL",
            "recipient": "RCPT", "message": "DATA", "end": "DATA",
        ]
        #expect(refusal.command == commands[row.name] ?? row.name.uppercased())
        #expect(refusal.address == (row.name == "recipient" ? "<b@y.org>" : nil))
        let hasSender = ["mail", "room", "recipient", "data", "message", "end"].contains(row.name)
        #expect(refusal.sender?.text == (hasSender ? "a@x.org" : nil))
    }

    /// RFC 5321 section 4.1.4: who was refused a new name is who it was before.
    @Test func aRefusedHelloChangesNothing() {
        var session = SMTPSession(.test(authentication: .none, stages: .hello))
        session.send("EHLO c\r\nMAIL FROM:<a@x.org>\r\n")
        session.keepsQuestionsOpen = true
        session.send("HELO d\r\n")
        session.answer(with: Self.answer(.permanent))
        #expect(session.machine.session.clientName == "c" && session.machine.session.mail != nil)
    }

    /// RFC 5321 section 3.1: behind a greeting of 5xx there is QUIT.
    @Test func whoIsTurnedAwayCanQuit() {
        var session = SMTPSession(.test(authentication: .none, stages: .connect), keepsQuestionsOpen: true)
        session.answer(with: .reply(Reply(554, .init(5, 7, 1), "No mail from you")))
        session.send("EHLO c\r\nMAIL FROM:<a@x.org>\r\nFOO\r\nSTARTTLS\r\nQUIT\r\n")
        let seq = "S: 503 5.5.1 Bad sequence of commands"
        #expect(
            session.taken() == [
                "connect?", "S: 554 5.7.1 No mail from you", seq, seq,
                "S: 500 5.5.2 Syntax error, command unrecognized", seq, "S: 221 2.0.0 Bye", "close quit",
            ])
    }

    @Test func behindImmediateTLSTheHandshakeComesFirst() {
        var session = SMTPSession(.test(tls: .immediate, stages: .connect))
        #expect(session.taken() == [])
        session.establishTLS()
        #expect(session.taken() == ["connect?", "S: 220 mx.example.org ESMTP Mail Gateway"])
    }

    /// RFC 2920: the replies to a group come in its order, whichever command somebody was asked about.
    @Test func groupsAreAnsweredInOrder() {
        var session = SMTPSession(.test(authentication: .none, stages: [.mail, .recipient, .data]))
        session.send("EHLO c\r\n")
        _ = session.taken()
        session.keepsQuestionsOpen = true
        session.send(
            "MAIL FROM:<a@x.org>\r\nRCPT TO:<b@y.org>\r\nRCPT TO:<c@y.org>\r\nFOO\r\nRCPT TO:<Postmaster>\r\nDATA\r\n")
        let no = Answer.reply(Reply(550, .init(5, 7, 1), "No"))
        for answer in [.goOn, .goOn, no, .goOn, .goOn, .goOn] { session.answer(with: answer) }
        #expect(
            session.taken() == [
                "mail? <a@x.org>", "room -", "S: 250 2.1.0 <a@x.org> Ok", "recipient? b@y.org b@y.org",
                "S: 550 5.7.1 No", "recipient? c@y.org c@y.org", "S: 250 2.1.5 <c@y.org> Ok",
                "S: 500 5.5.2 Syntax error, command unrecognized",
                "recipient? Postmaster@mx.example.org Postmaster", "S: 250 2.1.5 <Postmaster> Ok", "data?",
                "S: 354 Start mail input; end with <CRLF>.<CRLF>",
            ])
    }

    /// DATA behind recipients that were all refused.
    @Test func nobodyIsLeft() {
        var session = SMTPSession(.test(authentication: .none, stages: [.recipient]))
        session.send("EHLO c\r\nMAIL FROM:<a@x.org>\r\n")
        session.keepsQuestionsOpen = true
        session.send("RCPT TO:<b@y.org>\r\nDATA\r\n")
        _ = session.taken()
        session.answer(with: Self.answer(.permanent))
        #expect(session.taken() == ["S: 550 5.7.1 No", "S: 554 5.5.1 No valid recipients"])
    }

    /// However answers come, a turn has its limit.
    @Test func questionsDoNotLengthenATurn() {
        let group = "MAIL FROM:<a@x.org>\r\n" + String(repeating: "RCPT TO:<b@y.org>\r\n", count: 90)
        var turns: [Int] = []
        for (stages, isLate) in [(SMTPStages(), false), (.recipient, false), (.recipient, true)] {
            var session = SMTPSession(.test(authentication: .none, stages: stages))
            session.send("EHLO c\r\n")
            session.keepsQuestionsOpen = isLate
            session.send(group)
            while session.question != nil { session.answer() }
            #expect(session.machine.session.recipients.count == 90)
            turns.append(session.turns)
        }
        #expect(turns[0] >= 2 && turns[1] == turns[0] && turns[2] >= turns[0] - 1, "\(turns)")
    }

    /// What whoever answers is told.
    @Test func whatWasSaidSoFar() {
        var session = SMTPSession(.test(plaintext: true, stages: [.hello, .mail, .recipient, .data]))
        session.keepsQuestionsOpen = true
        func told(_ line: String) -> String {
            session.send(line + "\r\n")
            let facts = session.machine.session
            defer { while session.question != nil { session.answer() } }
            let words: [String?] = [
                facts.clientName, facts.isExtended ? "E" : nil, facts.tls.map { _ in "tls" }, facts.login,
                facts.mechanism,
                facts.mail.map { "<\($0.sender?.text ?? "")>\($0.size ?? 0)" }, "\(facts.recipients.count)",
                "\(facts.transactionNumber)",
            ]
            return words.compactMap { $0 }.joined(separator: " ")
        }
        #expect(told("EHLO c") == "0 0")
        #expect(told("AUTH PLAIN AHUAcA==") == "c E 0 0")
        #expect(told("MAIL FROM:<a@x.org> SIZE=7") == "c E u PLAIN 0 1")
        #expect(told("RCPT TO:<b@y.org>") == "c E u PLAIN <a@x.org>7 0 1")
        #expect(told("RCPT TO:<c@y.org>") == "c E u PLAIN <a@x.org>7 1 1")
        #expect(told("DATA") == "c E u PLAIN <a@x.org>7 2 1")
        session.send("x\r\n.\r\n")
        session.answer()
        #expect(told("MAIL FROM:<>") == "c E u PLAIN 0 2")
        #expect(told("RSET") == "c E u PLAIN 0 2")
        #expect(told("MAIL FROM:<>") == "c E u PLAIN 0 3")
    }
}
