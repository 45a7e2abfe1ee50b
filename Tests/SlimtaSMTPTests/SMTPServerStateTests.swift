// Every command in every state of a session, with the exact reply; and every mode of an edge.

import NIOCore
import SlimtaMail
import SlimtaSASL
import TestKit
import Testing

@testable import SlimtaSMTP

@Suite struct SMTPServerStateTests {
    /// The columns of the table.
    static let commands = [
        "EHLO c2", "HELO c2", "STARTTLS", "AUTH PLAIN AHUAcA==", "MAIL FROM:<a@x.org>", "RCPT TO:<b@y.org>", "DATA",
        "RSET",
        "NOOP", "VRFY b", "EXPN b", "HELP", "QUIT", "FOO", "",
    ]

    /// What the words of the table stand for.
    static let replies: [String: [String]] = [
        "hello": greeting("STARTTLS"),
        "helloA": greeting("AUTH PLAIN LOGIN"),
        "helo": ["S: 250 mx.example.org Hello c2"],
        "seq": ["S: 503 5.5.1 Bad sequence of commands"],
        "ehlo": ["S: 503 5.5.1 AUTH needs EHLO in place of HELO"],
        "tls": ["S: 220 2.7.0 Go ahead", "TLS"],
        "has": ["S: 503 5.5.1 TLS is already established"],
        "538": ["S: 538 5.7.11 Encryption required for requested authentication mechanism"],
        "530": ["S: 530 5.7.0 Authentication required"],
        "530t": ["S: 530 5.7.0 Authentication required, after STARTTLS"],
        "235": ["password u:p", "S: 235 2.7.0 Authentication successful"],
        "mail": ["room -", "S: 250 2.1.0 <a@x.org> Ok"],
        "rcpt": ["S: 250 2.1.5 <b@y.org> Ok"],
        "none": ["S: 503 5.5.1 No recipients given"],
        "554": ["S: 554 5.5.1 No valid recipients"],
        "354": ["S: 354 Start mail input; end with <CRLF>.<CRLF>"],
        "ok": ["S: 250 2.0.0 Ok"],
        // What had come of a message is forgotten.
        "okD": ["S: 250 2.0.0 Ok", "discard"],
        "helloD": greeting("AUTH PLAIN LOGIN") + ["discard"],
        "heloD": ["S: 250 mx.example.org Hello c2", "discard"],
        "part": ["S: 250 2.0.0 2 octets received"],
        // The second line is a command.
        "both": ["S: 501 5.5.2 Invalid auth response", "S: 500 5.5.2 Syntax error, command unrecognized"],
        "252": ["S: 252 2.1.5 Cannot VRFY user, but will accept message"],
        "502": ["S: 502 5.5.1 Command not implemented"],
        "help": [
            "S: 214-2.0.0 Commands: EHLO HELO STARTTLS AUTH MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT",
            "S: 214-2.0.0 Extensions: 8BITMIME PIPELINING CHUNKING ENHANCEDSTATUSCODES SMTPUTF8 STARTTLS AUTH LIMITS SIZE",
            "S: 214 2.0.0 Mail submission, RFC 6409",
        ],
        "bye": ["S: 221 2.0.0 Bye", "close quit"],
        "500": ["S: 500 5.5.2 Syntax error, command unrecognized"],
        "501": ["S: 501 5.5.2 Invalid auth response"],
        "421": ["S: 421 4.3.2 mx.example.org Service shutting down", "close shutdown"],
        "-": [],
    ]

    static func greeting(_ keyword: String) -> [String] {
        [
            "mx.example.org Hello c2", "8BITMIME", "PIPELINING", "CHUNKING", "ENHANCEDSTATUSCODES", "SMTPUTF8", keyword,
            "LIMITS RCPTMAX=100",
        ].map {
            "S: 250-" + $0
        }
            + ["S: 250 SIZE 100000"]
    }

    enum State: String, CaseIterable {
        case turnedAway, connected, helo, ehlo, tls, tlsHelo, tlsEhlo, user, mail, rcpt, refused, heloRcpt, dialogue,
            data, chunks, draining, closed
    }

    //                 EHLO   HELO STLS AUTH MAIL RCPT DATA BDAT RSET NOOP VRFY EXPN HELP QUIT FOO  empty
    static let table: [(State, String)] = [
        (.turnedAway, "seq    seq  seq  seq  seq  seq  seq  seq  seq  seq  seq  seq  seq  bye  500  500"),
        (.connected, " hello  helo seq  seq  seq  seq  seq  seq  ok   ok   252  502  help bye  500  500"),
        (.helo, "      hello  helo seq  ehlo 530t seq  seq  seq  ok   ok   252  502  help bye  500  500"),
        (.ehlo, "      hello  helo tls  538  530t seq  seq  seq  ok   ok   252  502  help bye  500  500"),
        (.tls, "       helloA helo has  seq  seq  seq  seq  seq  ok   ok   252  502  help bye  500  500"),
        (.tlsHelo, "   helloA helo has  ehlo 530  seq  seq  seq  ok   ok   252  502  help bye  500  500"),
        (.tlsEhlo, "   helloA helo has  235  530  seq  seq  seq  ok   ok   252  502  help bye  500  500"),
        (.user, "      helloA helo has  seq  mail seq  seq  seq  ok   ok   252  502  help bye  500  500"),
        (.mail, "      helloA helo has  seq  seq  rcpt none none ok   ok   252  502  help bye  500  500"),
        (.rcpt, "      helloA helo has  seq  seq  rcpt 354  part ok   ok   252  502  help bye  500  500"),
        (.refused, "   helloA helo has  seq  seq  rcpt 554  554  ok   ok   252  502  help bye  500  500"),
        (.heloRcpt, "  helloA helo has  ehlo seq  rcpt 354  seq  ok   ok   252  502  help bye  500  500"),
        (.dialogue, "  501    501  501  501  501  501  501  both 501  501  501  501  501  501  501  501"),
        (.data, "      -      -    -    -    -    -    -    -    -    -    -    -    -    -    -    -"),
        (.chunks, "    helloD heloDhas  seq  seq  seq  seq  part okD  ok   252  502  help bye  500  500"),
        (.draining, "  421    421  421  421  421  421  421  421  421  421  421  421  421  421  421  421"),
        (.closed, "    -      -    -    -    -    -    -    -    -    -    -    -    -    -    -    -"),
    ]

    static func session(in state: State) -> SMTPSession {
        var configuration = SMTPServerConfiguration.test()
        if state == .turnedAway { configuration.greeting = Reply(554, .init(5, 3, 2), "No mail") }
        var session = SMTPSession(configuration)
        let authenticated = ["EHLO c", "STARTTLS", "/tls", "EHLO c", "AUTH PLAIN AHUAcA=="]
        let steps: [String] =
            switch state {
            case .turnedAway, .connected: []
            case .helo: ["HELO c"]
            case .ehlo, .draining: ["EHLO c"]
            case .tls: ["EHLO c", "STARTTLS", "/tls"]
            case .tlsHelo: ["EHLO c", "STARTTLS", "/tls", "HELO c"]
            case .tlsEhlo: ["EHLO c", "STARTTLS", "/tls", "EHLO c"]
            case .user: authenticated
            case .mail: authenticated + ["MAIL FROM:<s@x.org>"]
            case .rcpt: authenticated + ["MAIL FROM:<s@x.org>", "RCPT TO:<r@y.org>"]
            case .refused: authenticated + ["MAIL FROM:<s@x.org>", "RCPT TO:<r>"]
            case .heloRcpt: authenticated + ["HELO c", "MAIL FROM:<s@x.org>", "RCPT TO:<r@y.org>"]
            case .dialogue: ["EHLO c", "STARTTLS", "/tls", "EHLO c", "AUTH PLAIN"]
            case .data: authenticated + ["MAIL FROM:<s@x.org>", "RCPT TO:<r@y.org>", "DATA"]
            case .chunks: authenticated + ["MAIL FROM:<s@x.org>", "RCPT TO:<r@y.org>", "BDAT 2\r\n"]
            case .closed: ["QUIT"]
            }
        for step in steps {
            if step == "/tls" { session.establishTLS() } else { session.send(step + "\r\n") }
        }
        if state == .closed {
            // The driver has closed: what still comes must do nothing.
            #expect(session.closed == .quit)
        }
        _ = session.taken()
        return session
    }

    @Test(arguments: table) func everyCommand(_ state: State, _ row: String) throws {
        let words = row.split(separator: " ").map(String.init)
        try #require(words.count == Self.commands.count)
        for (command, word) in zip(Self.commands, words) {
            var session = Self.session(in: state)
            if state == .draining { session.machine.drain() }
            session.send(command + "\r\n")
            #expect(session.taken() == Self.replies[word], "\(command) in \(state)")
            #expect(session.machine.unreadCount == 0 || session.closed != nil)
        }
    }

    @Test func everyStateHasItsRow() { #expect(Self.table.map(\.0) == State.allCases) }

    /// A machine that has closed does nothing more, whatever it is told.
    @Test func closedMachineIsDumb() {
        var machine = Self.session(in: .closed).machine
        var output = ByteBuffer()
        for command in Self.commands {
            machine.received(ByteBuffer(string: command + "\r\n"))
            #expect(machine.next(into: &output) == .wait)
        }
        machine.deadlinePassed(into: &output)
        machine.drain()
        machine.answered(.authentication(.wrong), into: &output)
        machine.answered(.goOn, into: &output)
        machine.answered(.reply(Reply(250, nil, "")), into: &output)
        #expect(machine.next(into: &output) == .wait)
        #expect(output.readableBytes == 0)
        #expect(machine.waitsFor.kind == .nothing)
    }

    // MARK: While a question is open

    /// The octets before the question, the question, and what the answer is.
    static let questions: [(State, String, [String])] = [
        (.tlsEhlo, "AUTH PLAIN AHUAcA==", ["S: 235 2.7.0 Authentication successful"]),
        (.tlsEhlo, "AUTH PLAIN AHUAeA==", ["S: 535 5.7.8 Authentication credentials invalid"]),
        (.user, "MAIL FROM:<s@x.org>", ["S: 250 2.1.0 <s@x.org> Ok"]),
        (.data, "text\r\n.", ["S: 250 2.6.0 Message queued as 0123"]),
    ]

    @Test(arguments: questions) func commandsWaitForTheAnswer(_ state: State, _ line: String, _ reply: [String]) {
        for command in Self.commands {
            // What the command says once the answer is there, from a session in which nothing was early.
            var patient = Self.session(in: state)
            patient.send(line + "\r\n")
            _ = patient.taken()
            patient.send(command + "\r\n")
            let later = patient.taken()

            for isPipelined in [false, true] {
                var session = Self.session(in: state)
                session.keepsQuestionsOpen = true
                session.send(line + "\r\n" + (isPipelined ? command + "\r\n" : ""))
                if !isPipelined { session.send(command + "\r\n") }
                #expect(session.taken().count == 1, "the question, and nothing else")
                #expect(session.machine.unreadCount == command.utf8.count + 2)
                #expect(session.machine.waitsFor.kind == .nothing)
                session.keepsQuestionsOpen = false
                session.answer()
                #expect(session.taken() == reply + later, "\(command) behind \(line)")
            }
        }
    }

    /// Answers to questions that were not asked change nothing.
    @Test(arguments: State.allCases) func answersWithoutQuestion(_ state: State) {
        var session = Self.session(in: state)
        var output = ByteBuffer()
        session.machine.answered(.authentication(.right(.init(login: "x"))), into: &output)
        session.machine.answered(.goOn, into: &output)
        session.machine.answered(.reply(Reply(250, .init(2, 6, 0), "Queued")), into: &output)
        #expect(output.readableBytes == 0)
        #expect(session.machine.user?.login != "x")
        var untouched = Self.session(in: state)
        for command in ["RCPT TO:<b@y.org>\r\n", "MAIL FROM:<a@x.org>\r\n"] {
            session.send(command)
            untouched.send(command)
        }
        #expect(session.taken() == untouched.taken())
    }

    // MARK: Draining

    /// A transaction that is open when the server stops may end; nothing new begins.
    @Test func drainingWaitsForTheTransaction() {
        for (state, line, replies) in [
            (State.mail, "RSET", ["ok", "421"]), (.rcpt, "EHLO c2", ["helloA", "421"]), (.rcpt, "QUIT", ["bye"]),
            (.mail, "NOOP", ["ok"]), (.rcpt, "DATA", ["354"]), (.mail, "RCPT TO:<b@y.org>", ["rcpt"]),
            (.dialogue, "*", []),
        ] {
            var session = Self.session(in: state)
            session.drain()
            #expect(session.taken() == [])
            session.send(line + "\r\n")
            if state == .dialogue {
                #expect(session.taken() == ["S: 501 5.7.0 Authentication canceled by client"] + Self.replies["421"]!)
            } else {
                #expect(session.taken() == replies.flatMap { Self.replies[$0]! }, "\(line)")
            }
        }
        var session = Self.session(in: .data)
        session.drain()
        session.send("text\r\n.\r\nNOOP\r\n")
        #expect(
            session.taken() == [
                "message <s@x.org> <r@y.org> c ESMTPSA login=u tls: text\r\n", "S: 250 2.6.0 Message queued as 0123",
            ] + Self.replies["421"]!)
    }

    @Test(arguments: [State.turnedAway, .connected, .helo, .ehlo, .tls, .tlsEhlo, .user]) func drainingAnIdleSession(
        _ state: State
    ) {
        var session = Self.session(in: state)
        session.drain()
        #expect(session.taken() == Self.replies["421"])
    }

    @Test func drainingBeforeTLS() {
        var session = SMTPSession(.test(tls: .immediate))
        session.drain()
        #expect(session.taken() == [])
        session.establishTLS()
        #expect(session.taken() == ["S: 220 mx.example.org ESMTP Mail Gateway"] + Self.replies["421"]!)
    }

    // MARK: Modes

    struct Mode: CustomTestStringConvertible {
        let tls: SMTPServerConfiguration.TLSMode
        let auth: SMTPServerConfiguration.Authentication
        /// What clear or immediate TLS, then TLS after STARTTLS, says: keywords, AUTH, MAIL, and MAIL if trusted.
        let replies: [[String]]
        var plaintext = false
        var testDescription: String { "\(tls) \(auth) \(plaintext)" }

        init(
            _ tls: SMTPServerConfiguration.TLSMode, _ auth: SMTPServerConfiguration.Authentication,
            plaintext: Bool = false,
            _ replies: String...
        ) {
            (self.tls, self.auth, self.plaintext) = (tls, auth, plaintext)
            self.replies = replies.map { $0.split(separator: " ").map(String.init) }
        }
    }

    static let modes: [Mode] = [
        //                           EHLO offers    STARTTLS AUTH MAIL trusted
        .init(.startTLS, .required, "STARTTLS       220      538  530  250", "AUTH 503 235 530 250"),
        .init(.startTLS, .optional, "STARTTLS       220      538  530  250", "AUTH 503 235 530 250"),
        .init(.startTLS, .none, "    STARTTLS       220      502  550  250", "-    503 502 550 250"),
        .init(.immediate, .required, "AUTH          502      235  530  250"),
        .init(.immediate, .optional, "AUTH          502      235  530  250"),
        .init(.immediate, .none, "    -             502      502  550  250"),
        .init(.none, .required, "     -             502      538  530  250"),
        .init(.none, .optional, "     -             502      538  530  250"),
        .init(.none, .none, "         -             502      502  550  250"),
        .init(.startTLS, .required, plaintext: true, "STARTTLS,AUTH 220 235 530 250", "AUTH 503 235 530 250"),
        .init(.startTLS, .none, plaintext: true, "    STARTTLS      220 502 550 250", "-    503 502 550 250"),
        .init(.none, .required, plaintext: true, "    AUTH          502 235 530 250"),
        .init(.none, .optional, plaintext: true, "    AUTH          502 235 530 250"),
        .init(.immediate, .required, plaintext: true, "AUTH         502 235 530 250"),
    ]

    @Test(arguments: modes) func mode(_ mode: Mode) {
        for (afterSTARTTLS, row) in mode.replies.enumerated() {
            func session(isTrusted: Bool = false) -> SMTPSession {
                var session = SMTPSession(
                    .test(tls: mode.tls, authentication: mode.auth, plaintext: mode.plaintext), isTrusted: isTrusted)
                if mode.tls == .immediate {
                    #expect(session.taken() == [], "nothing before TLS")
                    session.establishTLS()
                }
                #expect(session.taken() == ["S: 220 mx.example.org ESMTP Mail Gateway"])
                if afterSTARTTLS == 1 {
                    session.send("EHLO c\r\nSTARTTLS\r\n")
                    session.establishTLS()
                }
                _ = session.taken()
                session.send("EHLO c\r\n")
                return session
            }
            func code(_ session: SMTPSession, _ line: String) -> String? {
                var session = session
                _ = session.taken()
                session.send(line + "\r\n")
                return session.taken().last { $0.hasPrefix("S: ") }.map { String($0.dropFirst(3).prefix(3)) }
            }
            var greeted = session()
            let keywords = greeted.taken().map { $0.dropFirst(7) }
            let offered = ["STARTTLS", "AUTH"].filter { word in keywords.contains { $0.hasPrefix(word) } }
            #expect(offered.joined(separator: ",") == (row[0] == "-" ? "" : row[0]))
            #expect(keywords.filter { $0.hasPrefix("AUTH") }.allSatisfy { $0 == "AUTH PLAIN LOGIN" })
            for always in [
                "8BITMIME", "PIPELINING", "CHUNKING", "ENHANCEDSTATUSCODES", "SMTPUTF8", "LIMITS RCPTMAX=100",
                "SIZE 100000",
            ] {
                #expect(keywords.contains { $0 == always })
            }
            #expect(code(greeted, "STARTTLS") == row[1])
            #expect(code(greeted, "AUTH PLAIN AHUAcA==") == row[2])
            #expect(code(greeted, "MAIL FROM:<a@x.org>") == row[3])
            #expect(code(session(isTrusted: true), "MAIL FROM:<a@x.org>") == row[4])
        }
    }

    @Test func mechanismsAsConfigured() {
        var configuration = SMTPServerConfiguration.test(tls: .none, plaintext: true)
        configuration.mechanisms = [.login]
        var session = SMTPSession(configuration)
        session.send("EHLO c\r\n")
        #expect(session.taken().contains("S: 250-AUTH LOGIN"))
        session.send("AUTH PLAIN AHUAcA==\r\n")
        #expect(session.taken() == ["S: 504 5.5.4 Invalid authentication mechanism"])
        configuration.mechanisms = []
        session = SMTPSession(configuration)
        session.send("EHLO c\r\n")
        #expect(!session.taken().contains { $0.contains("AUTH") })
    }
}
