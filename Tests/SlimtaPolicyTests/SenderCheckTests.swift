// The check of From and Sender among the other policies: behind the check of the header, before all that changes it.

import NIOCore
import SlimtaMail
import Testing

@testable import SlimtaPolicy

@Suite struct SenderCheckTests {
    private static let now = Timestamp(milliseconds: 1_795_255_200_000)

    private func run(
        _ content: String, login: String? = "alice", checksFrom: Bool = true
    ) throws(PolicyRefusal) -> String {
        var rules = SenderRules()
        (rules.checksFrom, rules.addsSender) = (checksFrom, true)
        let rights = SenderRights(["alice@x.test", "@own.test"])
        let context = PolicyContext(
            hostname: "mail.example.com", now: Self.now, zoneOffset: 0,
            senders: login.flatMap { rules.header(of: $0, rights) },
            newID: { time, _ in QueueID(at: time) })
        let envelope = Envelope(
            id: QueueID(at: Self.now), sender: Mailbox(parsing: "a@own.test"),
            recipients: [Mailbox(parsing: "b@example.org")!], received: Self.now,
            client: ClientInfo(address: "", name: "", protocolWord: "ESMTP"))
        let mail = try PolicyChain([DatePolicy()], receivedHops: 5).apply(
            to: envelope, Message(head: ByteBuffer(string: content.replacing("|", with: "\r\n"))), context)
        return (String(buffer: mail.envelopes[0].prependedFields) + String(buffer: mail.message.head))
            .replacing("\r\n", with: "|")
    }

    private static let date = "Date: Sat, 21 Nov 2026 10:00:00 +0000|"

    /// What is added is part of the header that the policies behind see; a Bcc goes all the same.
    @Test(arguments: [
        ("From: alice@x.test||b", "From: alice@x.test||b"), ("Bcc: c@d||b", "From: alice@x.test||b"),
        ("text", "From: alice@x.test||text"), ("", "From: alice@x.test|"),
        (
            "From a@b Sat Jan|Bcc: c@d|From: e@own.test, f@own.test||",
            "Sender: alice@x.test|From: e@own.test, f@own.test||"
        ),
    ])
    func added(content: String, expected: String) throws { #expect(try run(content) == Self.date + expected) }

    @Test(arguments: [
        (
            "From: bob@x.test||b",
            Reply(550, sender: Mailbox(parsing: "bob@x.test")!, in: " in From", notOf: "alice", allowsUTF8: false)
        ),
        (
            "From a@b|From: bob@x.test||b",
            Reply(550, sender: Mailbox(parsing: "bob@x.test")!, in: " in From", notOf: "alice", allowsUTF8: false)
        ),
        // Whatever is in doubt about the header itself is said first.
        (
            "From: alice@x.test|no field|From: bob@x.test||b",
            Reply(
                554, .init(5, 6, 0), "Line 2 of the message is no header field, and an empty line must end the header")
        ),
    ])
    func refused(content: String, reply: Reply) {
        let refusal = #expect(throws: PolicyRefusal.self) { try run(content) }
        #expect(refusal?.reply == reply)
        #expect(refusal?.allowed == (reply.code == 550 ? "alice@x.test,@own.test" : nil))
    }

    /// A signature of the client's that says that there is no Sender stays good; somebody else's Sender goes all the same.
    @Test(arguments: [
        (
            "DKIM-Signature: h=from:Sender; b=x|From: bob@x.test||",
            "DKIM-Signature: h=from:Sender; b=x|From: bob@x.test||"
        ),
        (
            "DKIM-Signature: h=from; b=x|From: bob@x.test||",
            "Sender: alice@x.test|DKIM-Signature: h=from; b=x|From: bob@x.test||"
        ),
        (
            "DKIM-Signature: h=from:sender; b=x|From: bob@x.test|Sender: bob@x.test||",
            "Sender: alice@x.test|DKIM-Signature: h=from:sender; b=x|From: bob@x.test||"
        ),
    ])
    func signed(content: String, expected: String) throws {
        #expect(try run(content, checksFrom: false) == Self.date + expected)
    }

    /// Who has not logged in is asked nothing.
    @Test func nobody() throws {
        #expect(try run("From: a@b|Sender: c@d||", login: nil) == Self.date + "From: a@b|Sender: c@d||")
    }
}
