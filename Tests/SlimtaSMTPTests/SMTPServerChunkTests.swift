// Messages that come in chunks (RFC 3030): what the server says and gives out, the same however the octets were cut.

import NIOCore
import SlimtaMail
import TestKit
import Testing

@testable import SlimtaSMTP

@Suite struct SMTPServerChunkTests {
    /// What follows behind the transaction's beginning, whose replies are left out.
    private func transcript(
        _ client: String, beginning: String = Self.start,
        _ configuration: SMTPServerConfiguration = .test(authentication: .optional, plaintext: true),
        answers: SMTPSession.Answers = .init()
    ) throws -> [String] {
        let whole = try ChunkVerifier.verify(Array((beginning + client).utf8), cuts: 12) { chunks in
            var session = SMTPSession(configuration)
            session.answers = answers
            for chunk in chunks { session.send(chunk) }
            return session.taken()
        }
        var session = SMTPSession(configuration)
        session.answers = answers
        session.send(beginning)
        return Array(whole.dropFirst(session.taken().count))
    }

    static let start = "EHLO c\r\nMAIL FROM:<a@x.org>\r\nRCPT TO:<b@y.org>\r\n"
    private let queued = "S: 250 2.6.0 Message queued as 0123"
    private let sequence = "S: 503 5.5.1 Bad sequence of commands"
    private func message(_ content: String, _ kind: String = "ESMTP") -> String {
        "message <a@x.org> <b@y.org> c \(kind): \(content)"
    }

    private func chunk(_ octets: String, last: Bool = false) -> String {
        "BDAT \(octets.utf8.count)\(last ? " LAST" : "")\r\n\(octets)"
    }

    @Test func oneAndSeveral() throws {
        #expect(
            try transcript(chunk("Subject: t\r\n\r\n.dot\r\n..\r\n", last: true) + "NOOP\r\n")
                == [message("Subject: t\r\n\r\n.dot\r\n..\r\n"), queued, "S: 250 2.0.0 Ok"])
        // What looks like an end, or like commands, is content; a CRLF may be cut.
        #expect(
            try transcript(
                chunk("a: b\r") + chunk("\n\r\n.\r\nQUIT\r\n") + "BDAT 0\r\n" + chunk("\u{E9}\r\n") + "bdat 0 last\r\n"
            ) == [
                "S: 250 2.0.0 5 octets received", "S: 250 2.0.0 12 octets received", "S: 250 2.0.0 0 octets received",
                "S: 250 2.0.0 4 octets received", message("a: b\r\n\r\n.\r\nQUIT\r\n\u{E9}\r\n", "ESMTP 8bit"), queued,
            ])
        // A last line without an end gets one.
        #expect(try transcript(chunk("a: b\r\n\r\nend", last: true)) == [message("a: b\r\n\r\nend\r\n"), queued])
        #expect(
            try transcript(chunk("a: b\r\n\r\nend") + "BDAT 0 LAST\r\n")
                == ["S: 250 2.0.0 13 octets received"] + [message("a: b\r\n\r\nend\r\n"), queued].map { $0 })
        #expect(try transcript("BDAT 0 LAST\r\n") == [message(""), queued])
    }

    @Test func theNextMessage() throws {
        let again = "MAIL FROM:<a@x.org>\r\nRCPT TO:<b@y.org>\r\n"
        let begun = ["room -", "S: 250 2.1.0 <a@x.org> Ok", "S: 250 2.1.5 <b@y.org> Ok"]
        #expect(
            try transcript(chunk("1\r\n", last: true) + again + chunk("2\r\n", last: true)) == [
                message("1\r\n"), queued,
            ]
                + begun + [message("2\r\n"), queued])
        // Nothing of a message that was begun is in the next one.
        for (end, said) in [
            ("RSET\r\n", ["S: 250 2.0.0 Ok"]), (chunk("\0") + "", ["S: 554 5.6.0 " + Self.bare]),
            ("BDAT 100000\r\n" + String(repeating: "x", count: 100_000), ["S: 552 5.3.4 Message exceeded size limit"]),
        ] {
            #expect(
                try transcript(chunk("old\r\n") + end + again + chunk("new\r\n", last: true)) == [
                    "S: 250 2.0.0 5 octets received"
                ] + said.dropLast() + (end.hasPrefix("RSET") ? said + ["discard"] : said + ["discard"]) + begun + [
                    message("new\r\n"), queued,
                ], "\(end.prefix(20))")
        }
    }

    private static let bare = "Message has a bare CR, a bare LF or a NUL; lines must end with CRLF"

    /// The octets of a chunk that is refused are no commands, and what comes behind the hole is no message.
    @Test func refused() throws {
        let trap = "RSET\r\nQUIT\r\n"
        #expect(
            try transcript(chunk(trap, last: true) + "NOOP\r\n", beginning: "EHLO c\r\n") == [
                sequence, "S: 250 2.0.0 Ok",
            ])
        #expect(
            try transcript(chunk(trap) + chunk(trap, last: true), beginning: "EHLO c\r\nMAIL FROM:<a@x.org>\r\n") == [
                "S: 503 5.5.1 No recipients given", sequence,
            ])
        #expect(
            try transcript(
                chunk(trap) + "RCPT TO:<b@y.org>\r\n" + chunk(trap, last: true),
                beginning: "EHLO c\r\nMAIL FROM:<a@x.org>\r\nRCPT TO:<b>\r\n") == [
                    "S: 554 5.5.1 No valid recipients", sequence, sequence,
                ])
        #expect(
            try transcript(chunk(trap, last: true), beginning: "HELO c\r\nMAIL FROM:<>\r\nRCPT TO:<b@y.org>\r\n") == [
                sequence
            ])
        for wrong in ["a\0", "a\rb", "a\nb", "a\r"] {
            #expect(
                try transcript(chunk("x\r\n") + chunk(wrong) + chunk("y", last: true) + "NOOP\r\n") == [
                    "S: 250 2.0.0 3 octets received"
                ] + (wrong == "a\r" ? ["S: 250 2.0.0 2 octets received"] : []) + [
                    "S: 554 5.6.0 " + Self.bare, "discard",
                ] + (wrong == "a\r" ? [] : [sequence]) + ["S: 250 2.0.0 Ok"], "\(wrong.debugDescription)")
        }
        #expect(
            try transcript(chunk("x\r", last: true) + "NOOP\r\n")
                == ["S: 554 5.6.0 " + Self.bare, "discard", "S: 250 2.0.0 Ok"])
    }

    @Test func sizes() throws {
        let configuration = SMTPServerConfiguration.test(authentication: .optional, plaintext: true, size: 10)
        let start = Self.start
        #expect(
            try transcript(chunk("12345678\r\n", last: true), beginning: start, configuration) == [
                message("12345678\r\n"), queued,
            ])
        #expect(
            try transcript(
                chunk("123456\r\n") + chunk("1\r\n", last: true) + "NOOP\r\n", beginning: start, configuration) == [
                    "S: 250 2.0.0 8 octets received", "S: 552 5.3.4 Message exceeded size limit", "discard",
                    "S: 250 2.0.0 Ok",
                ])
        let largest = "BDAT 9223372036854775807 LAST\r\n"
        #expect(try transcript(largest + "NOOP\r\nNOOP\r\n", beginning: start, configuration) == [])
        // Who may not send is not read from for ever.
        #expect(
            try transcript(largest + "NOOP\r\n", beginning: "EHLO c\r\n", configuration) == [
                sequence, "S: 421 4.7.0 mx.example.org Nothing is read behind such a chunk, closing connection",
                "close chunkSize",
            ])
    }

    @Test(arguments: [
        "BDAT", "BDAT x", "BDAT -1", "BDAT 9223372036854775808", "BDAT 5 LAST LAST", "BDAT 5 FIRST", "BDAT LAST",
    ])
    func noSize(_ line: String) throws {
        #expect(
            try transcript(line + "\r\nNOOP\r\n") == [
                "S: 501 5.5.4 Syntax error: BDAT has a number of octets, and LAST or nothing",
                "S: 421 4.7.0 mx.example.org Nothing is read behind such a chunk, closing connection",
                "close chunkSize",
            ])
    }

    /// RFC 3030 section 2.
    @Test func onlyOneWay() throws {
        #expect(
            try transcript(
                chunk("x\r\n") + "DATA\r\nRCPT TO:<c@y.org>\r\nMAIL FROM:<a@x.org>\r\nNOOP\r\n"
                    + chunk("y\r\n", last: true))
                == [
                    "S: 250 2.0.0 3 octets received", sequence, sequence, sequence, "S: 250 2.0.0 Ok",
                    message("x\r\ny\r\n"), queued,
                ])
    }

    /// Somebody is asked whether the content may come: before the first chunk, and what he refuses is read all the same.
    @Test func asked() throws {
        for (reply, expected) in [
            (nil, ["S: 250 2.0.0 6 octets received", "S: 250 2.0.0 6 octets received"]),
            (Reply(451, .init(4, 7, 1), "Later"), ["S: 451 4.7.1 Later", "S: 503 5.5.1 Bad sequence of commands"]),
            (
                Reply(421, .init(4, 7, 0), "Go"),
                ["S: 421 4.7.0 Go", "close refused"]
            ),
        ] as [(Reply?, [String])] {
            var session = SMTPSession(
                .test(authentication: .optional, plaintext: true, stages: [.data]), keepsQuestionsOpen: true)
            session.send("EHLO c\r\nMAIL FROM:<a@x.org>\r\n")
            session.answer(with: .goOn)
            session.send("RCPT TO:<b@y.org>\r\n")
            _ = session.taken()
            session.send(chunk("RSET\r\n") + chunk("QUIT\r\n"))
            #expect(session.question == .data)
            session.answer(with: reply.map { .reply($0) } ?? .goOn)
            #expect(session.taken().filter { $0 != "data?" } == expected)
        }
    }

    /// Many small chunks are no progress; large ones are.
    @Test func smallOnes() {
        for (size, isEnded) in [(1, true), (1024, false)] {
            var session = SMTPSession(.test(authentication: .optional, plaintext: true, size: 1 << 20, commands: 20))
            session.send(Self.start)
            for _ in 0..<40 { session.send("BDAT \(size)\r\n" + String(repeating: "x", count: size)) }
            #expect((session.closed == .tooManyCommands) == isEnded)
        }
    }

    @Test func whoGoesInBetween() {
        var session = SMTPSession(.test(authentication: .optional, plaintext: true))
        session.send(Self.start + "BDAT 5\r\nab")
        #expect(session.machine.waitsFor.kind == .content)
        session.machine.inputClosed()
        session.send("")
        #expect(session.closed == .clientClosed && !session.taken().contains { $0.hasPrefix("message") })
    }
}
