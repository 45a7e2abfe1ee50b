// What the operator is told by mail of a login that is held: each line of it, its header and its envelope.

import NIOCore
import SlimtaMail
import SlimtaRules
import Testing

@testable import SlimtaControl

@Suite struct HoldNoticeTests {
    private let now = Timestamp.now()

    private func notice(
        _ login: String, to recipients: [String] = [], _ action: QuotaRules.Action = .hold
    ) throws -> HoldNotice {
        var quotas = Quotas(rules: QuotaRules(), key: SIMD2(1, 2))
        let some = try recipients.map { try #require(Mailbox(parsing: $0)) }
        let charge = try #require(quotas.take(.login(login), to: some, size: 10, at: now).charge)
        _ = quotas.settle(charge, as: .stored)
        quotas.hold(.login(login), because: "101 new recipients in an hour, allowed are 100", at: now)
        var held = HoldNotice.Held()
        if !some.isEmpty {
            held.add(
                Envelope(
                    id: QueueID(at: now), sender: nil, recipients: some, received: now,
                    client: ClientInfo(address: "", name: "", protocolWord: "")))
        }
        return HoldNotice(
            try #require(quotas.facts(of: .login(login), at: now)), held, action, hostname: "mail.test")
    }

    private func octets(_ notice: HoldNotice, to address: String = "postmaster@example.com") throws -> String {
        let mailbox = try #require(Mailbox(parsing: address, allowsUTF8: true))
        return String(buffer: notice.message(QueueID(at: now), to: mailbox, at: now).head)
    }

    @Test func whatItSays() throws {
        let text = try octets(notice("alice", to: ["a@One.test", "b@one.test", "c@two.test"]))
        for line in [
            "From: Mail Delivery System <MAILER-DAEMON@mail.test>", "To: postmaster@example.com",
            "Subject: Login alice is held", "Auto-Submitted: auto-generated",
            "    101 new recipients in an hour, allowed are 100",
            "What it sends is accepted and held, and nothing of it is delivered.",
            "    within an hour:  1 messages, 3 recipients, 3 new recipients, 0 refused recipients, 0 networks",
            "    last recipients: 0 of 0 were refused", "    held by now:     1 message in the queue",
            "    most of it is for one.test (2), two.test (1)", "    slimtad login show alice",
            "    slimtad queue list --login alice --state held", "    slimtad login release alice",
            "    slimtad login bounce alice", "    slimtad queue remove --login alice --reason breaker",
        ] {
            #expect(text.contains("\r\n\(line)\r\n"), "\(line)")
        }
        #expect(try octets(notice("alice", .refuse)).contains("\r\nWhat it sends is refused with 450 4.7.1.\r\n"))
    }

    /// A login may be anything that a back end lets in: the shell takes it for one word, and it ends no line.
    @Test func strangeLogins() throws {
        #expect(try octets(notice("a b's")).contains("\r\n    slimtad login release 'a b'\\''s'\r\n"))
        let text = try octets(notice("a\r\nBcc: x@x.test\u{202E}"))
        #expect(!text.contains("\r\nBcc") && text.utf8.allSatisfy { $0 < 0x80 })
        #expect(text.contains("\r\nSubject: Login a\\x0d\\x0aBcc: x@x.test\\u202e is held\r\n"))
        #expect(try octets(notice("é")).utf8.allSatisfy { $0 < 0x80 })
    }

    /// Nothing is told of it, and any host takes it.
    @Test func itsEnvelope() throws {
        let address = try #require(Mailbox(parsing: "postmaster@example.com"))
        let envelope = try notice("alice").envelope(QueueID(at: now), to: address, at: now)
        #expect(envelope.sender == nil && envelope.recipients == [address] && envelope.body == .sevenBit)
        #expect(!envelope.smtpUTF8 && envelope.client.edge.isEmpty && envelope.client.login == nil)
        let other = try #require(Mailbox(parsing: "é@example.com", allowsUTF8: true))
        #expect(try notice("alice").envelope(QueueID(at: now), to: other, at: now).smtpUTF8)
    }
}
