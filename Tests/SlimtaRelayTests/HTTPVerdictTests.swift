// What answers over HTTP mean: every status with and without X-Smtp-Reply, and how that field is read.

import NIOHTTP1
import SlimtaMail
import Testing

@testable import SlimtaNet
@testable import SlimtaRelay

private func verdict(
    _ status: Int, _ reply: String?..., fields: [(String, String)] = [], isEarly: Bool = false
) -> HTTPVerdict {
    let replies = reply.compactMap { $0.map { ("X-Smtp-Reply", $0) } }
    var answer = HTTPAnswer(
        .init(version: .http1_1, status: .init(statusCode: status), headers: HTTPHeaders(replies + fields)))
    answer.isEarly = isEarly
    return HTTPVerdict(answer, now: Timestamp(milliseconds: 0))
}

@Suite struct HTTPVerdictTests {
    @Test func statusAlone() {
        for status in [200, 201, 202, 204, 299] { #expect(verdict(status).outcome.result == .delivered, "\(status)") }
        for status in [400, 404, 405, 410, 413, 415, 422, 501] {
            #expect(verdict(status).outcome.result == .permanent, "\(status)")
        }
        // Whatever else: nothing is lost, and no redirect is followed.
        let temporary = [
            300, 301, 302, 303, 304, 307, 308, 401, 402, 403, 406, 407, 408, 409, 411, 412, 414, 418, 421, 423, 425,
        ]
        for status in temporary + [426, 428, 429, 431, 451, 500, 502, 503, 504, 505, 507, 599, 600, 999] {
            let got = verdict(status)
            #expect(got.outcome.result == .temporary, "\(status)")
            #expect(got.isOfLogin == [401, 403, 407].contains(status), "\(status)")
            #expect(!got.mayBeOfOneRecipient && got.outcome.isRemote && !got.outcome.isHostFailure)
        }
        #expect(verdict(404).outcome.reply.description == "550 5.0.0 HTTP 404 Not Found")
        #expect(verdict(413).outcome.reply.description == "552 5.3.4 HTTP 413 Payload Too Large")
        #expect(verdict(302).outcome.reply.description == "451 4.3.5 HTTP 302 Found, which is not followed")
        #expect(verdict(401).outcome.reply.description == "454 4.7.0 HTTP 401 Unauthorized")
    }

    /// The reply says it, unless it contradicts the status.
    @Test func whatTheReplySays() {
        let accepted = "250; message=\"2.6.0 Message accepted for delivery\""
        #expect(verdict(200, accepted).outcome.reply.description == "250 2.6.0 Message accepted for delivery")
        #expect(verdict(204, accepted).outcome.result == .delivered)
        #expect(verdict(200, "550; message=\"5.1.1 No such user\"").outcome.result == .permanent)
        #expect(verdict(200, "451; message=\"4.3.0 Later\"").outcome.result == .temporary)
        // As the ancestor's edge says it.
        #expect(verdict(500, "550; message=\"5.1.1 No such user\"").outcome.result == .permanent)
        #expect(verdict(503, "550; message=\"5.7.1 No\"").outcome.result == .permanent)
        #expect(verdict(422, "450; message=\"4.2.0 Later\"").outcome.result == .temporary)
        for status in [301, 404, 500, 503] {
            #expect(verdict(status, accepted).outcome == verdict(status).outcome, "\(status)")
        }
        #expect(verdict(302, "550; message=\"5.1.1 No\"").outcome.result == .temporary)
        // Rubbish, or two of them, is as none.
        for rubbish in [
            "", "250x", "354; message=\"go\"", "25; message=\"a\"", "999", String(repeating: "250;", count: 2000),
        ] {
            #expect(verdict(422, rubbish).outcome == verdict(422).outcome, "\(rubbish.prefix(20))")
        }
        #expect(verdict(200, accepted, "550; message=\"no\"").outcome == verdict(200).outcome)
    }

    /// Our login is the operator's affair, and bounces nothing; that it may not send as somebody is the message's.
    @Test func logins() {
        for (status, reply) in [
            (401, "535; message=\"5.7.8 Bad\""), (401, "550; message=\"5.7.1 No\""), (407, nil), (403, nil),
            (403, "530; message=\"5.7.0 Authentication required\""), (422, "535; message=\"5.7.8 Bad\""),
            (200, "535; message=\"5.7.8 Bad\""), (401, "250; message=\"2.0.0 fine\""),
        ] {
            let got = verdict(status, reply)
            #expect(got.outcome.result == .temporary && got.isOfLogin, "\(status) \(reply ?? "-")")
            #expect(!got.outcome.reply.isPositive)
        }
        let sender = verdict(403, "550; message=\"5.7.1 Sender not allowed\"")
        #expect(sender.outcome.result == .permanent && !sender.isOfLogin)
    }

    @Test func earlyAnswers() {
        #expect(verdict(200, isEarly: true).outcome.result == .temporary)
        #expect(verdict(200, "250; message=\"2.0.0 ok\"", isEarly: true).outcome.result == .temporary)
        #expect(verdict(413, isEarly: true).outcome.result == .permanent)
    }

    @Test func whatMayBeOfOneRecipient() {
        for (status, reply, isSo) in [
            (422, "550; message=\"5.1.1 No such user\"", true), (503, "450; message=\"4.2.0 Greylisted\"", true),
            (422, "553; message=\"bad\"", true), (422, "554; message=\"5.1.2 No such host\"", true),
            (503, "452; message=\"4.5.3 Too many recipients\"", true), (422, nil, true), (400, nil, true),
            (413, "552; message=\"5.3.4 Too large\"", false), (503, "451; message=\"4.3.0 Disk\"", false),
            (422, "554; message=\"5.6.0 Content\"", false), (200, "250; message=\"2.1.5 ok\"", false),
            (401, "535; message=\"5.7.8 Bad\"", false), (404, nil, false), (503, nil, false),
        ] as [(Int, String?, Bool)] {
            #expect(verdict(status, reply).mayBeOfOneRecipient == isSo, "\(status) \(reply ?? "-")")
        }
    }

    @Test func retryAfterIsOfWhatIsTriedAgain() {
        let fields = [("Retry-After", "120")]
        #expect(verdict(503, fields: fields).outcome.retryAfter == .seconds(120))
        #expect(verdict(429, fields: fields).outcome.retryAfter == .seconds(120))
        #expect(verdict(422, fields: fields).outcome.retryAfter == nil)
        #expect(verdict(200, fields: fields).outcome.retryAfter == nil)
        #expect(verdict(503, "550; message=\"no\"", fields: fields).outcome.retryAfter == nil)
    }

    @Test func withoutAnAnswer() {
        let errors: [(HTTPClientError, Bool)] = [
            (.cannotConnect(["refused"]), true), (.timedOut(.connecting), true), (.timedOut(.sending), false),
            (.timedOut(.answering), false), (.tooLarge, false), (.malformed("x\r\ny"), false), (.endedEarly, false),
            (.noBody("damaged"), false), (.cancelled, false), (.invalidRequest("target"), false),
        ]
        for (error, isHost) in errors {
            let outcome = HTTPVerdict(error).outcome
            #expect(outcome.result == .temporary && !outcome.isRemote, "\(error)")
            #expect(outcome.isHostFailure == isHost, "\(error)")
            #expect(!outcome.reply.text.hasControls)
        }
    }

    // MARK: the field

    @Test(arguments: [
        ("250; message=\"2.6.0 Message accepted for delivery\"", "250 2.6.0 Message accepted for delivery"),
        ("250;message=\"2.6.0 ok\"", "250 2.6.0 ok"), (" 250 ;\tmessage = \"2.6.0 ok\" ", "250 2.6.0 ok"),
        ("550; message=\"5.1.1 \\\"a\\\\b\\\" unknown\"; command=\"RCPT\"", "550 5.1.1 \"a\\b\" unknown"),
        ("550; command=\"RCPT;x\"; message=\"5.1.1 no\"", "550 5.1.1 no"),
        ("550; command=RCPT; Message=no", "550 no"), ("550", "550 "), ("550;", "550 "), ("550; ;", "550 "),
        ("550; message=\"never ends", "550 "), ("550; message", "550 "), ("550; message=\"\"", "550 "),
        // A status of another class is none.
        ("550; message=\"2.0.0 fine\"", "550 2.0.0 fine"), ("250; message=\"5.0.0 fine\"", "250 5.0.0 fine"),
        ("550; message=\"5.1.1\"", "550 5.1.1 "), ("550; message=\"a\u{1B}[2Jb\u{202E}c\"", "550 a\\x1b[2Jb\\u202ec"),
    ])
    func replies(value: String, expected: String) {
        #expect(SMTPReplyField.reply(value)?.description == expected)
    }

    @Test(arguments: [
        "", "abc", "2500", "25", "-250", "350; message=\"go\"", "150", "650", "250 message=\"ok\"",
        "250, message=\"ok\"",
        "\u{0662}50",
    ])
    func noReplies(value: String) { #expect(SMTPReplyField.reply(value) == nil) }

    @Test func aReplyHasABound() {
        let long = String(repeating: "\u{FC}", count: 1500)
        #expect(SMTPReplyField.reply("550; message=\"\(long)\"")?.text.utf8.count == 512)
        #expect(SMTPReplyField.reply("550; message=\"\(long)\(long)\"") == nil)
    }
}
