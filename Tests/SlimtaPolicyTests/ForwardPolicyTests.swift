// Recipients that become others: each once, with the name that the sender knows.

import NIOCore
import SlimtaMail
import SlimtaQueue
import SlimtaRules
import Testing

@testable import SlimtaPolicy

@Suite struct ForwardPolicyTests {
    private func mail(_ recipients: [String]) -> PolicyMail {
        PolicyMail(
            envelope: Envelope(
                id: QueueID(high: 1, low: 1), sender: nil, recipients: recipients.map { Mailbox(parsing: $0)! },
                received: .now(), client: ClientInfo(address: "", name: "", protocolWord: "ESMTP")),
            message: Message(head: ByteBuffer(string: "Subject: x\r\n\r\n")))
    }

    private let context = PolicyContext(
        hostname: "h.test", now: .now(), zoneOffset: 0, newID: { time, _ in QueueID(at: time) })

    private func forwarded(_ recipients: [String], limit: Int = 10) throws -> [String] {
        var mail = mail(recipients)
        let rules = ForwardRules([
            try ForwardRule("team@x.test", to: ["a@x.test", "b@x.test"]),
            try ForwardRule("both@x.test", to: ["team@x.test", "c@x.test"]),
            try ForwardRule("self@x.test", to: ["self@x.test", "copy@x.test"]),
            try ForwardRule("gone@x.test", reject: "550 5.1.6 gone"),
        ])
        try ForwardPolicy(rules, limit: limit).apply(to: &mail, context)
        let envelope = mail.envelopes[0]
        return envelope.recipients.map { recipient in
            recipient.text + (envelope.original(of: recipient).map { " for \($0)" } ?? "")
        }
    }

    @Test func eachOnceWithWhomTheSenderHasNamed() throws {
        #expect(try forwarded(["z@x.test"]) == ["z@x.test"])
        #expect(
            try forwarded(["both@x.test"]) == [
                "a@x.test for both@x.test", "b@x.test for both@x.test", "c@x.test for both@x.test",
            ])
        // Who was named is there by that name, wherever that stands.
        #expect(
            try forwarded(["team@x.test", "B@X.test", "z@x.test"]) == [
                "a@x.test for team@x.test", "B@X.test", "z@x.test",
            ])
        #expect(try forwarded(["self@x.test"]) == ["self@x.test", "copy@x.test for self@x.test"])
        #expect(
            try forwarded(["team@x.test", "both@x.test"]) == [
                "a@x.test for team@x.test", "b@x.test for team@x.test", "c@x.test for both@x.test",
            ])
    }

    @Test func refusals() {
        #expect(throws: PolicyRefusal(Reply(550, .init(5, 1, 6), "gone"))) {
            try forwarded(["z@x.test", "gone@x.test"])
        }
        #expect(throws: PolicyRefusal.self) { try forwarded(["both@x.test"], limit: 2) }
        #expect(throws: Never.self) { try forwarded(["both@x.test"], limit: 3) }
    }
}
