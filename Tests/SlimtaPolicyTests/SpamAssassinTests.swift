// What spamd is asked, what its answers say, and what follows from them.

import Logging
import NIOCore
import SlimtaMail
import SlimtaQueue
import Synchronization
import Testing

@testable import SlimtaPolicy

@Suite struct SpamVerdictTests {
    private func verdict(_ answer: String) throws -> SpamVerdict { try SpamVerdict(ByteBuffer(string: answer)) }

    @Test(arguments: [
        // Answers of spamd 4.0.1; to SPAMC/1.1 without a length.
        (
            "SPAMD/1.1 0 EX_OK\r\nContent-length: 18\r\nSpam: True ; 1005.2 / 5.0\r\n\r\nGTUBE,MISSING_DATE", true,
            1005.2, 2
        ),
        ("SPAMD/1.1 0 EX_OK\r\nSpam: False ; -0.1 / 5.0\r\n\r\nNO_RELAYS\r\n", false, -0.1, 1),
        ("SPAMD/1.1 0 EX_OK\r\ncontent-LENGTH: 0\r\nSPAM: Yes ; 5 / 5.0\r\n\r\n", true, 5, 0),
        ("SPAMD/1.1 0 EX_OK\r\nX: y\r\nSpam: False;0/5\r\n\r\nA B,C", false, 0, 3),
        ("SPAMD/1.1 0 EX_OK\r\nSpam: True ; 9 / 5\r\n\r\nGOOD,bad-one,x\u{1B}y,<a>", true, 9, 1),
    ])
    func answers(_ answer: String, _ isSpam: Bool, _ score: Double, _ symbols: Int) throws {
        let verdict = try verdict(answer)
        #expect(verdict.isSpam == isSpam && verdict.score == score && verdict.symbols.count == symbols)
    }

    @Test(arguments: [
        "", "SPAMD/1.1", "SPAMD/1.0 76 Bad header line: (Content-Length mismatch)\r\n", "220 smtp.test ESMTP\r\n",
        "SPAMD/1.1 0 EX_OK\r\n\r\n", "SPAMD/1.1 0 EX_OK\r\nSpam: Maybe ; 1 / 2\r\n\r\n",
        "SPAMD/1.1 0 EX_OK\r\nSpam: True ; nan / 2\r\n\r\n", "SPAMD/1.1 0 EX_OK\r\nSpam: True\r\n\r\n",
        "SPAMD/1.1 0 EX_OK\r\nContent-length: 9\r\nSpam: True ; 1 / 2\r\n\r\nGTUBE",
        "SPAMD/1.1 0 EX_OK\r\nno field\r\nSpam: True ; 1 / 2\r\n\r\n",
        "SPAMD/1.1 0 EX_OK\r\nContent-length: x\r\nSpam: True ; 1 / 2\r\n\r\n",
        "SPAMD/1.1 0 EX_OK\r\nSpam: True ; 9 / 5\r\nSpam: False ; 0 / 5\r\n\r\n",
        "SPAMD/1.1 0 EX_OK\r\nContent-length: 1\r\nContent-length: 0\r\nSpam: True ; 9 / 5\r\n\r\n",
    ])
    func whatIsNone(_ answer: String) {
        #expect(throws: SpamVerdict.Fault.self) { try verdict(answer) }
    }

    @Test func fields() {
        #expect(SpamVerdict(isSpam: false, score: 1, symbols: ["A"]).fields == ["X-Spam-Status: NO\r\n"])
        #expect(
            SpamVerdict(isSpam: true, score: 9, symbols: ["A", "B"]).fields
                == ["X-Spam-Status: YES\r\n", "X-Spam-Symbols: A, B\r\n"])
        let many = SpamVerdict(isSpam: true, score: 9, symbols: (0..<150).map { "SYMBOL_\($0)" }).fields[1]
        for line in many.split(separator: "\r\n") { #expect(line.utf8.count <= 78) }
        #expect(HeaderBlock(scanning: ByteBuffer(string: many + "\r\n")).fields.count == 1)
    }

    @Test func questions() {
        #expect(SpamdQuestion.head(size: 5, login: nil) == "SYMBOLS SPAMC/1.5\r\nContent-length: 5\r\n\r\n")
        #expect(SpamdQuestion.head(size: 0, login: "a.b@c").contains("User: a.b@c\r\n"))
        for login in ["a b", "", "a\r\nX: y", "\u{FC}", String(repeating: "x", count: 256)] {
            #expect(!SpamdQuestion.head(size: 0, login: login).contains("User"))
        }
    }
}

@Suite struct SpamAssassinPolicyTests {
    private static let spam = "SPAMD/1.1 0 EX_OK\r\nSpam: True ; 12.5 / 5.0\r\n\r\nGTUBE,X_Y\r\n"
    private static let content =
        "X-Spam-Status: NO, really\r\nSubject: x\r\nx-SPAM-symbols: none\r\n\tat all\r\nX-Spammer: no\r\n\r\ntext\r\n"

    private func settings(reject: Double? = nil, hold: Double? = nil) -> SpamAssassinPolicy.Settings {
        .init(
            timeout: .seconds(1), failsClosed: false, addsFields: true, rejectFrom: reject, holdFrom: hold,
            largest: 2000)
    }

    /// What comes of a message, and what spamd was sent.
    private func run(
        _ settings: SpamAssassinPolicy.Settings, _ answer: Result<String, SpamAssassinPolicy.Failure> = .success(spam),
        content: String = content
    ) async throws -> (mail: PolicyMail, sent: String?) {
        let sent = Mutex<String?>(nil)
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        let policy = SpamAssassinPolicy(settings, logger: logger) { question in
            sent.withLock { $0 = question.octets.map { String(buffer: $0) }.joined() }
            return answer.map { ByteBuffer(string: $0) }
        }
        let envelope = Envelope(
            id: QueueID(high: 1, low: 1), sender: nil, recipients: [Mailbox(parsing: "a@x.test")!], received: .now(),
            client: ClientInfo(address: "192.0.2.7", name: "c", protocolWord: "ESMTPSA", login: "alice"),
            prependedFields: ByteBuffer(string: "Date: now\r\n"))
        var mail = PolicyMail(envelope: envelope, message: Message(head: ByteBuffer(string: content)))
        let context = PolicyContext(
            hostname: "h.test", now: .now(), zoneOffset: 0, newID: { time, _ in QueueID(at: time) })
        let chain = PolicyChain([.waiting(policy)], receivedHops: 5)
        #expect(chain.waits(context))
        try await chain.finish(&mail, context)
        return (mail, sent.withLock { $0 })
    }

    @Test func whatIsAskedIsWhatWillBeDelivered() async throws {
        let (mail, sent) = try await run(settings())
        let text = try #require(sent)
        let body = text.split(separator: "\r\n\r\n", maxSplits: 1)[1]
        #expect(text.hasPrefix("SYMBOLS SPAMC/1.5\r\nContent-length: \(body.utf8.count)\r\nUser: alice\r\n\r\n"))
        #expect(body.hasPrefix("Received: from c ([192.0.2.7])"))
        #expect(body.hasSuffix("Date: now\r\nSubject: x\r\nX-Spammer: no\r\n\r\ntext\r\n"))
        // Forged fields are gone, ours are there once.
        #expect(String(buffer: mail.message.head) == "Subject: x\r\nX-Spammer: no\r\n\r\ntext\r\n")
        #expect(
            String(buffer: mail.envelopes[0].prependedFields)
                == "X-Spam-Status: YES\r\nX-Spam-Symbols: GTUBE, X_Y\r\nDate: now\r\n")
        #expect(mail.heldReason == nil)
    }

    @Test func scores() async throws {
        #expect(try await run(settings(hold: 12.5)).mail.heldReason == "spamassassin")
        #expect(try await run(settings(hold: 12.6)).mail.heldReason == nil)
        await #expect(throws: PolicyRefusal(Reply(554, .init(5, 6, 0), "Message content rejected"))) {
            try await run(settings(reject: 12.5, hold: 1))
        }
        var silent = settings()
        silent.addsFields = false
        #expect(String(buffer: try await run(silent).mail.envelopes[0].prependedFields) == "Date: now\r\n")
    }

    @Test func noVerdict() async throws {
        for answer in [.failure(.init("timed out")), .success("rubbish"), .success("")]
            as [Result<String, SpamAssassinPolicy.Failure>]
        {
            let (mail, _) = try await run(settings(), answer)
            #expect(String(buffer: mail.envelopes[0].prependedFields) == "Date: now\r\n")
            #expect(!mail.has("x-spam-status"))
            var closed = settings()
            closed.failsClosed = true
            await #expect(throws: PolicyRefusal.self) { try await run(closed, answer) }
        }
    }

    /// Whoever sends so much that nobody can look at it is not let through for that.
    @Test func tooManyAtOnce() async throws {
        await #expect(throws: PolicyRefusal.self) {
            try await run(settings(), .failure(.init("too many ask at once", isOverload: true)))
        }
    }

    @Test func whatIsLargeIsNotAskedAbout() async throws {
        let large = Self.content + String(repeating: "x", count: 2000)
        let (mail, sent) = try await run(settings(reject: 0), content: large)
        #expect(sent == nil && !mail.has("x-spam-status"))
        #expect(String(buffer: mail.envelopes[0].prependedFields) == "Date: now\r\n")
    }
}
