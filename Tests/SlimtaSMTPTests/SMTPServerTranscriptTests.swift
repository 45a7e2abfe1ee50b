// Whole sessions: what the client sends, and all that the server says and does; the same however the octets were cut.

import NIOCore
import SlimtaMail
import TestKit
import Testing

@testable import SlimtaSMTP

@Suite struct SMTPServerTranscriptTests {
    /// A session with AUTH optional and in clear, so that it needs no TLS; through all cuts.
    private func transcript(
        _ client: String, _ configuration: SMTPServerConfiguration = .test(authentication: .optional, plaintext: true),
        answers: SMTPSession.Answers = .init()
    ) throws -> [String] {
        try transcript(Array(client.utf8), configuration, answers: answers)
    }

    private func transcript(
        _ client: [UInt8], _ configuration: SMTPServerConfiguration, answers: SMTPSession.Answers = .init()
    ) throws -> [String] {
        try ChunkVerifier.verify(client, cuts: 12) { chunks in
            var session = SMTPSession(configuration)
            session.answers = answers
            for chunk in chunks { session.send(chunk) }
            return session.taken()
        }
    }

    private let greeting = "S: 220 mx.example.org ESMTP Mail Gateway"
    private let hello = [
        "S: 250-mx.example.org Hello c", "S: 250-8BITMIME", "S: 250-PIPELINING", "S: 250-CHUNKING",
        "S: 250-ENHANCEDSTATUSCODES",
        "S: 250-SMTPUTF8", "S: 250-STARTTLS", "S: 250-AUTH PLAIN LOGIN", "S: 250-LIMITS RCPTMAX=100",
        "S: 250 SIZE 100000",
    ]
    private let go = "S: 354 Start mail input; end with <CRLF>.<CRLF>"
    private let queued = "S: 250 2.6.0 Message queued as 0123"
    private let bye = ["S: 221 2.0.0 Bye", "close quit"]

    @Test func simpleMessage() throws {
        #expect(
            try transcript(
                "EHLO c\r\nMAIL FROM:<a@x.org>\r\nRCPT TO:<b@y.org>\r\nDATA\r\nSubject: t\r\n\r\n..dot\r\n.\r\nQUIT\r\n"
            )
                == [greeting] + hello + [
                    "room -", "S: 250 2.1.0 <a@x.org> Ok", "S: 250 2.1.5 <b@y.org> Ok", go,
                    "message <a@x.org> <b@y.org> c ESMTP: Subject: t\r\n\r\n.dot\r\n", queued,
                ] + bye)
    }

    @Test func heloHasNoExtensions() throws {
        #expect(
            try transcript(
                "HELO c\r\nMAIL FROM:<> SIZE=1\r\nMAIL FROM:<>\r\nRCPT TO:<Postmaster>\r\nDATA\r\n.\r\nSTARTTLS\r\nQUIT\r\n"
            )
                == [
                    greeting, "S: 250 mx.example.org Hello c",
                    "S: 555 5.5.4 Parameter SIZE not recognized or not implemented",
                    "room -", "S: 250 2.1.0 <> Ok", "S: 250 2.1.5 <Postmaster> Ok", go,
                    "message <> <Postmaster@mx.example.org> c SMTP: ", queued, "S: 503 5.5.1 Bad sequence of commands",
                ] + bye)
    }

    @Test func severalMessagesAndEverythingElse() throws {
        #expect(
            try transcript(
                """
                noop\r\nEHLO\r\nehlo c\r\nMAIL FROM:<a@x.org> SIZE=5 BODY=8BITMIME\r\nRCPT TO:<b@y.org>\r\nRCPT TO:<B>\r\n\
                RCPT TO:<B@y.org>\r\nrcpt to:<b@Y.ORG>\r\nDATA\r\n\u{E9}\r\n.\r\nMAIL FROM:<a@x.org>\r\nRSET\r\nDATA\r\n\
                MAIL FROM:<\"q>\"@x.org>\r\nRCPT TO:<c@y.org> NOTIFY=NEVER\r\nDATA\r\nRCPT TO:<@r.org:c@y.org>\r\nDATA\r\n\
                \r\n.\r\nVRFY c\r\nQUIT\r\n
                """)
                == [greeting, "S: 250 2.0.0 Ok", "S: 501 5.5.4 Syntax error in parameters or arguments"] + hello + [
                    "room 5", "S: 250 2.1.0 <a@x.org> Ok", "S: 250 2.1.5 <b@y.org> Ok",
                    "S: 501 5.1.3 Bad recipient address syntax", "S: 250 2.1.5 <B@y.org> Ok",
                    "S: 250 2.1.5 <b@Y.ORG> Ok", go,
                    "message <a@x.org> <b@y.org> <B@y.org> c ESMTP 8bit: \u{E9}\r\n", queued,
                    "room -", "S: 250 2.1.0 <a@x.org> Ok", "S: 250 2.0.0 Ok", "S: 503 5.5.1 Bad sequence of commands",
                    "room -", "S: 250 2.1.0 <\"q>\"@x.org> Ok",
                    "S: 555 5.5.4 Parameter NOTIFY not recognized or not implemented",
                    "S: 554 5.5.1 No valid recipients", "S: 250 2.1.5 <c@y.org> Ok", go,
                    "message <\"q>\"@x.org> <c@y.org> c ESMTP: \r\n", queued,
                    "S: 252 2.1.5 Cannot VRFY user, but will accept message",
                ] + bye)
    }

    // MARK: AUTH

    private let ok = "S: 235 2.7.0 Authentication successful"

    static let auth: [(String, [String])] = [
        ("AUTH PLAIN AHUAcA==", ["password u:p", "235"]),
        ("auth plain AHUAcA==", ["password u:p", "235"]),
        ("AUTH PLAIN dQB1AHA=", ["password u:p", "235"]),
        ("AUTH PLAIN\r\nAHUAcA==", ["334 ", "password u:p", "235"]),
        ("AUTH PLAIN AMO8AHDDpHNzd29ydA==", ["password ü:pässwort", "235"]),
        ("AUTH LOGIN\r\ndQ==\r\ncA==", ["334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6", "password u:p", "235"]),
        ("AUTH LOGIN dQ==\r\ncA==", ["334 UGFzc3dvcmQ6", "password u:p", "235"]),
        ("AUTH PLAIN AHUAeA==", ["password u:x", "535"]),
        ("AUTH PLAIN AGRvd24AcA==", ["password down:p", "454"]),
        ("AUTH PLAIN YQB1AHA=", ["535"]),
        ("AUTH PLAIN AHUA", ["535"]),
        ("AUTH PLAIN =", ["501"]),
        ("AUTH PLAIN *", ["501"]),
        ("AUTH PLAIN AHUAcA", ["501"]),
        ("AUTH PLAIN AHUAcB==", ["501"]),
        ("AUTH PLAIN\r\n*", ["334 ", "501 5.7.0"]),
        ("AUTH PLAIN\r\n", ["334 ", "501"]),
        ("AUTH PLAIN\r\n=", ["334 ", "501"]),
        ("AUTH PLAIN\r\nAHUAcA== ", ["334 ", "501"]),
        ("AUTH LOGIN\r\n*", ["334 VXNlcm5hbWU6", "501 5.7.0"]),
        ("AUTH LOGIN\r\ndQ==\r\n*", ["334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6", "501 5.7.0"]),
        ("AUTH LOGIN\r\n\r\ncA==", ["334 VXNlcm5hbWU6", "535", "500"]),
        ("AUTH LOGIN =\r\ncA==", ["535", "500"]),
        ("AUTH LOGIN\r\ndQ==\r\n", ["334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6", "535"]),
        ("AUTH CRAM-MD5", ["504"]),
        ("AUTH EXTERNAL =", ["504"]),
        ("AUTH", ["501 5.5.4"]),
        ("AUTH PLAIN a b", ["501 5.5.4"]),
    ]

    @Test(arguments: auth) func authentication(_ lines: String, _ expected: [String]) throws {
        let replies = [
            "235": ok, "535": "S: 535 5.7.8 Authentication credentials invalid",
            "454": "S: 454 4.7.0 Temporary authentication failure", "501": "S: 501 5.5.2 Invalid auth response",
            "500": "S: 500 5.5.2 Syntax error, command unrecognized",
            "504": "S: 504 5.5.4 Invalid authentication mechanism",
            "501 5.7.0": "S: 501 5.7.0 Authentication canceled by client",
            "501 5.5.4": "S: 501 5.5.4 Syntax error in parameters or arguments",
        ]
        let events = expected.map { $0.hasPrefix("password") ? $0 : replies[$0] ?? "S: " + $0 }
        // After a failure another try is possible, after a success none.
        let isRight = expected.last == "235"
        #expect(
            try transcript("EHLO c\r\n\(lines)\r\nAUTH PLAIN AHUAcA==\r\n").dropFirst(1 + hello.count)
                == events[...] + (isRight ? ["S: 503 5.5.1 Bad sequence of commands"] : ["password u:p", ok]))
    }

    /// RFC 4954 section 5: AUTH= is for who was offered AUTH.
    @Test func submitter() throws {
        let commands =
            "EHLO c\r\nMAIL FROM:<a@x.org> AUTH=<>\r\nRSET\r\nMAIL FROM:<a@x.org> AUTH=b+2Bc@y.org\r\nQUIT\r\n"
        func told(_ configuration: SMTPServerConfiguration) throws -> [String] {
            try transcript(Array(commands.utf8), configuration).filter {
                $0.contains(" 2.1.0 ") || $0.contains(" 5.5.4 ")
            }
        }
        let taken = "S: 250 2.1.0 <a@x.org> Ok"
        let unknown = "S: 555 5.5.4 Parameter AUTH not recognized or not implemented"
        #expect(try told(.test(authentication: .optional, plaintext: true)) == [taken, taken])
        #expect(try told(.test(authentication: .none, plaintext: true)) == [unknown, unknown])
        #expect(try told(.test(authentication: .optional)) == [unknown, unknown])
    }

    @Test func authenticatedMessage() throws {
        var answers = SMTPSession.Answers()
        answers.senders = ["Me@x.org", "@y.org", "@\u{E9}.org"]
        #expect(
            try transcript(
                """
                EHLO c\r\nAUTH PLAIN AHUAcA==\r\nMAIL FROM:<other@x.org>\r\nMAIL FROM:<a@evily.org>\r\n\
                MAIL FROM:<"a@y.org"@z.org>\r\nMAIL FROM:<a@\u{E8}.org> SMTPUTF8\r\nMAIL FROM:<>\r\nRSET\r\n\
                MAIL FROM:<any@Y.org>\r\nRSET\r\nMAIL FROM:<a@\u{E9}.org> SMTPUTF8\r\nRSET\r\n\
                EHLO c\r\nMAIL FROM:<mE@X.ORG> SMTPUTF8\r\nRCPT TO:<\u{E9}@y.org>\r\nDATA\r\n.\r\n
                """, answers: answers
            ).dropFirst(1 + hello.count)
                == [
                    "password u:p", ok, "S: 553 5.7.1 <other@x.org> is not a sender that login u may use",
                    "S: 553 5.7.1 <a@evily.org> is not a sender that login u may use",
                    "S: 553 5.7.1 <\"a@y.org\"@z.org> is not a sender that login u may use",
                    "S: 553 5.7.1 <a@\u{E8}.org> is not a sender that login u may use",
                    "room -", "S: 250 2.1.0 <> Ok", "S: 250 2.0.0 Ok",
                    "room -", "S: 250 2.1.0 <any@Y.org> Ok", "S: 250 2.0.0 Ok",
                    "room -", "S: 250 2.1.0 <a@\u{E9}.org> Ok", "S: 250 2.0.0 Ok",
                ] + hello + [
                    "room -", "S: 250 2.1.0 <mE@X.ORG> Ok", "S: 250 2.1.5 <\u{E9}@y.org> Ok", go,
                    "message <mE@X.ORG> <\u{E9}@y.org> c UTF8SMTPA utf8 login=u: ", queued,
                ])
    }

    @Test func utf8NeedsTheParameter() throws {
        #expect(
            try transcript(
                """
                EHLO c\r\nMAIL FROM:<\u{E9}@x.org>\r\nMAIL FROM:<a@x.org>\r\nRCPT TO:<\u{E9}@x.org>\r\nDATA\r\nQUIT\r\n
                """
            ).dropFirst(1 + hello.count)
                == [
                    "S: 553 5.6.7 Non-ASCII address needs SMTPUTF8", "room -", "S: 250 2.1.0 <a@x.org> Ok",
                    "S: 553 5.6.7 Non-ASCII address needs SMTPUTF8", "S: 554 5.5.1 No valid recipients",
                ] + bye)
    }

    // MARK: Refused data

    private let start = "EHLO c\r\nMAIL FROM:<a@x.org>\r\nRCPT TO:<b@y.org>\r\n"
    private var started: [String] {
        [greeting] + hello.dropLast() + [
            "S: 250 SIZE 40", "room -", "S: 250 2.1.0 <a@x.org> Ok", "S: 250 2.1.5 <b@y.org> Ok",
        ]
    }

    /// What is too large is read to its end: a message within it is no message (threat W3).
    @Test func oversize() throws {
        let data =
            String(repeating: "0123456789\r\n", count: 9)
            + "..\r\nMAIL FROM:<evil@x.org>\r\nRCPT TO:<b@y.org>\r\nDATA\r\n"
        #expect(
            try transcript(
                start
                    + "DATA\r\n\(data).\r\nMAIL FROM:<c@x.org>\r\nDATA\r\nRCPT TO:<d@y.org>\r\nDATA\r\nshort\r\n.\r\nQUIT\r\n",
                .test(authentication: .optional, plaintext: true, size: 40))
                == started + [
                    go, "discard", "S: 552 5.3.4 Message exceeded size limit", "room -", "S: 250 2.1.0 <c@x.org> Ok",
                    "S: 503 5.5.1 No recipients given", "S: 250 2.1.5 <d@y.org> Ok", go,
                    "message <c@x.org> <d@y.org> c ESMTP: short\r\n", queued,
                ] + bye)
    }

    @Test func declaredTooLarge() throws {
        #expect(
            try transcript(
                "EHLO c\r\nMAIL FROM:<a@x.org> SIZE=41\r\nMAIL FROM:<a@x.org> SIZE=99999999999999999999\r\n"
                    + "MAIL FROM:<a@x.org> SIZE=40\r\nQUIT\r\n",
                .test(authentication: .optional, plaintext: true, size: 40)
            ).dropFirst(1 + hello.count)
                == [
                    "S: 552 5.3.4 Message size exceeds 40 limit", "S: 552 5.3.4 Message size exceeds 40 limit",
                    "room 40",
                    "S: 250 2.1.0 <a@x.org> Ok",
                ] + bye)
    }

    private let trusted = SMTPServerConfiguration.test(authentication: .optional, plaintext: true, size: 4000)
    private let lineEnds = [
        "S: 421 4.7.0 mx.example.org Nothing is read behind a wrong line end, closing connection", "close lineEnds",
    ]

    /// Each sequence that is no end is in the data of one message, which is refused; nothing behind it is a command.
    @Test func smuggling() throws {
        for sequence in try NoEndOfData.all() {
            let client =
                Array((start + "DATA\r\ntext").utf8) + sequence.octets
                + Array("MAIL FROM:<evil@x.org>\r\nRCPT TO:<v@y.org>\r\nDATA\r\nevil\r\n.\r\nNOOP\r\n".utf8)
            #expect(
                try transcript(client, trusted).dropFirst(hello.count + 5)
                    == [
                        "discard", "S: 554 5.6.0 Message has a bare CR, a bare LF or a NUL; lines must end with CRLF",
                    ] + lineEnds, "\(sequence.id)")
        }
    }

    /// A refusal for line ends is the last that a session hears, also where the message is refused for its size first.
    @Test func nothingIsReadBehindWrongLineEnds() throws {
        for (data, reply) in [
            (
                "text\r\r\n.\r\nNOOP\r\n",
                "554 5.6.0 Message has a bare CR, a bare LF or a NUL; lines must end with CRLF"
            ),
            (String(repeating: "x", count: 4001) + "\r\r\n.\r\nNOOP\r\n", "552 5.3.4 Message exceeded size limit"),
            (String(repeating: "x\r\n", count: 2000) + "\n.\nNOOP\r\n", "552 5.3.4 Message exceeded size limit"),
        ] {
            #expect(
                try transcript(start + "DATA\r\n" + data, trusted).dropFirst(hello.count + 5)
                    == ["discard", "S: " + reply] + lineEnds)
        }
        for end in ["\r\r\n", "\n", "\0\r\n", "\rNOOP\r\n"] {
            #expect(
                try transcript("EHLO c\r\nAUTH PLAIN\r\nAHUAcA==" + end + "NOOP\r\n", trusted)
                    .dropFirst(hello.count + 1) == ["S: 334 ", "S: 501 5.5.2 Invalid auth response"] + lineEnds)
        }
    }

    /// A message in a file of a Unix, sent as it is: the client waits for a reply behind its dot.
    @Test(arguments: ["\n.\n", "\r\n.\n", "\n.\r\n", "\r.\n", "\r.\r\n"])
    func aDotBetweenWrongLineEndsIsAnswered(_ end: String) throws {
        #expect(
            try transcript(start + "DATA\r\nSubject: x\r\n\r\ntext" + end, trusted).dropFirst(hello.count + 5)
                == [
                    "discard", "S: 554 5.6.0 Message has a bare CR, a bare LF or a NUL; lines must end with CRLF",
                ] + lineEnds)
    }

    @Test func badLines() throws {
        for line in ["EHLO c\n", "NOOP\r\r\n", "NO\0OP\r\n", "\n", String(repeating: "x", count: 5000) + "\n"] {
            #expect(
                try transcript(line + "MAIL FROM:<evil@x.org>\nEHLO c\r\nNOOP\r\n")
                    == [greeting, "S: 500 5.5.2 Syntax error, lines must end with CRLF"] + lineEnds)
        }
        #expect(
            try transcript(
                "\r\n NOOP\r\nNOOP\r\nBANNER_\r\nMAIL\r\nRCPT\r\nAUTH\r\nQUIT now\r\n"
            )
                == [
                    greeting,
                    "S: 500 5.5.2 Syntax error, command unrecognized",
                    "S: 500 5.5.2 Syntax error, command unrecognized",
                    "S: 250 2.0.0 Ok", "S: 500 5.5.2 Syntax error, command unrecognized",
                    "S: 501 5.5.4 Syntax error in parameters or arguments",
                    "S: 501 5.5.4 Syntax error in parameters or arguments",
                    "S: 501 5.5.4 Syntax error in parameters or arguments",
                    "S: 501 5.5.4 Syntax error in parameters or arguments",
                ])
        let invalid = try transcript(
            Array("EHLO ".utf8) + [0xFF, 13, 10] + Array("NOOP\r\n".utf8), .test(authentication: .optional))
        #expect(invalid == [greeting, "S: 501 5.5.4 Syntax error in parameters or arguments", "S: 250 2.0.0 Ok"])
    }

    // MARK: What the queue says

    static let outcomes: [(Reply, [String])] = [
        (Reply(250, .init(2, 6, 0), "Queued"), ["S: 250 2.6.0 Queued", "S: 250 2.0.0 Ok"]),
        (Reply(451, .init(4, 3, 0), "Try again"), ["S: 451 4.3.0 Try again", "S: 250 2.0.0 Ok"]),
        (Reply(554, .init(5, 4, 6), "Loop"), ["S: 554 5.4.6 Loop", "S: 250 2.0.0 Ok"]),
        (Reply(421, .init(4, 3, 0), "Go away"), ["S: 421 4.3.0 Go away", "close refused"]),
        (
            Reply(550, .init(5, 7, 1), lines: ["Spam", "", "See there"]),
            ["S: 550-5.7.1 Spam", "S: 550-5.7.1 ", "S: 550 5.7.1 See there", "S: 250 2.0.0 Ok"]
        ),
    ]

    @Test(arguments: outcomes) func stored(_ reply: Reply, _ expected: [String]) throws {
        var answers = SMTPSession.Answers()
        answers.stored = reply
        let replies = try transcript(start + "DATA\r\n.\r\nNOOP\r\n", answers: answers)
        #expect(replies.dropFirst(hello.count + 6) == expected[...])
    }

    @Test(arguments: outcomes.dropFirst()) func noRoom(_ reply: Reply, _ expected: [String]) throws {
        var answers = SMTPSession.Answers()
        answers.room = reply
        let replies = try transcript("EHLO c\r\nMAIL FROM:<a@x.org>\r\nNOOP\r\nRCPT TO:<b@y.org>\r\n", answers: answers)
        let after = expected.last == "close refused" ? [] : ["S: 503 5.5.1 Bad sequence of commands"]
        #expect(replies.dropFirst(hello.count + 2) == expected[...] + after)
    }
}
