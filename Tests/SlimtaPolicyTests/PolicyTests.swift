// Policies: what they add, what they split, what they leave alone.

import NIOCore
import SlimtaMail
import Testing

@testable import SlimtaPolicy

private let now = Timestamp(milliseconds: 1_795_255_200_000)  // Sat, 21 Nov 2026 10:00:00 +0000
private let context = PolicyContext(
    hostname: "mail.example.com", now: now, zoneOffset: 3600, newID: { time, _ in QueueID(at: time) })

private func mailbox(_ text: String) -> Mailbox { Mailbox(parsing: text)! }

private func envelope(to recipients: [String] = ["b@example.org"], client: ClientInfo? = nil) -> Envelope {
    Envelope(
        id: QueueID(at: now), sender: mailbox("a@example.com"), recipients: recipients.map(mailbox), received: now,
        client: client
            ?? ClientInfo(
                address: "192.0.2.7", name: "laptop", protocolWord: "ESMTPSA",
                tls: TLSDescription(version: "TLSv1.3", cipher: "TLS_AES_256_GCM_SHA384"), login: "a"))
}

private func run(
    _ policies: [any QueuePolicy], _ content: String, _ envelope: Envelope = envelope(), hops: Int = 50
) throws(PolicyRefusal) -> PolicyMail {
    try applying(policies, to: envelope, ByteBuffer(string: content), context, hops: hops)
}

extension PolicyMail {
    /// The message of one envelope as it goes out.
    fileprivate func text(_ index: Int = 0) -> String {
        String(buffer: envelopes[index].prependedFields) + String(buffer: message.head)
    }
}

@Suite struct FieldPolicyTests {
    @Test func dateHasTheLocalZone() throws {
        let mail = try run([DatePolicy()], "Subject: x\r\n\r\nbody\r\n")
        #expect(mail.text() == "Date: Sat, 21 Nov 2026 11:00:00 +0100\r\nSubject: x\r\n\r\nbody\r\n")
    }

    @Test(arguments: [
        "Date: 1 Jan 2020 00:00 UT\r\n\r\n", "dAtE :Tue, 1 Jan 2019 1:00 +0100\r\n\r\n",
        "Subject: a\r\nDATE: 1 Jan 20\r\n 00:00:00 EST\r\n\r\nb",
    ])
    func dateIsLeftAlone(content: String) throws {
        #expect(try run([DatePolicy()], content).text() == content)
    }

    @Test func aDateInTheBodyIsNoField() throws {
        #expect(try run([DatePolicy()], "Subject: x\r\n\r\nDate: no\r\n").text().hasPrefix("Date: Sat"))
    }

    @Test func messageIDIsTheSameForAllParts() throws {
        let mail = try run([DomainSplitPolicy(), MessageIDPolicy()], "\r\n", envelope(to: ["a@x.test", "b@y.test"]))
        #expect(mail.envelopes.count == 2)
        #expect(mail.text(0) == "Message-ID: <\(mail.envelopes[0].id)@mail.example.com>\r\n\r\n")
        #expect(mail.text(1) == mail.text(0))
        #expect(try run([MessageIDPolicy()], "Message-Id: <1@x>\r\n\r\n").text() == "Message-Id: <1@x>\r\n\r\n")
    }

    @Test func receivedNamesOneRecipientOnly() throws {
        let one = try run([ReceivedPolicy()], "\r\n")
        #expect(
            one.text() == """
                Received: from laptop ([192.0.2.7])\r
                \tby mail.example.com (slimtad) with ESMTPSA\r
                \t(TLSv1.3 TLS_AES_256_GCM_SHA384)\r
                \tid \(one.envelopes[0].id)\r
                \tfor <b@example.org>;\r
                \tSat, 21 Nov 2026 11:00:00 +0100\r
                \r

                """)
        let two = try run([ReceivedPolicy()], "\r\n", envelope(to: ["b@x.test", "c@x.test"]))
        #expect(!two.text().contains("for <"))
        #expect(!two.text().contains("x.test"))
    }

    @Test func receivedRunsBehindTheSplitWhereverItStands() throws {
        let mail = try run([ReceivedPolicy(), DomainSplitPolicy()], "\r\n", envelope(to: ["b@x.test", "c@y.test"]))
        #expect(mail.envelopes.count == 2)
        for (index, recipient) in ["b@x.test", "c@y.test"].enumerated() {
            #expect(mail.text(index).contains("id \(mail.envelopes[index].id)\r\n\tfor <\(recipient)>;"))
        }
    }

    @Test(arguments: [
        ("2001:db8::1", "from laptop ([IPv6:2001:db8::1])"), ("127.0.0.1", "from laptop ([127.0.0.1])"),
        ("", "from laptop (local)"),
    ])
    func receivedShowsTheClientsAddress(address: String, expected: String) throws {
        let client = ClientInfo(address: address, name: "laptop", protocolWord: "ESMTP")
        let text = try run([ReceivedPolicy()], "\r\n", envelope(client: client)).text()
        #expect(text.contains(expected))
        #expect(!text.contains("TLS"))
    }

    @Test func whatIsBelowTheFieldsIsUntouched() throws {
        // What a re-encoding would change: long lines, runs of blanks, raw octets, odd line ends in the body's text.
        let content =
            "Subject:   two  blanks\r\nX-Long: \(String(repeating: "x", count: 1500))\r\nX: \u{e9}\r\n\r\n\t \r\n"
        let mail = try run([DatePolicy(), MessageIDPolicy(), ReceivedPolicy(), DomainSplitPolicy()], content)
        #expect(mail.text().hasPrefix("Received: "))
        #expect(mail.text().hasSuffix(content))
        #expect(String(buffer: mail.message.head) == content)
    }

    @Test(arguments: ["no header at all\r\n", " folded first\r\n", "x"])
    func aBodyWithoutHeaderGetsTheEmptyLine(content: String) throws {
        let text = try run([DatePolicy()], content).text()
        #expect(text == "Date: Sat, 21 Nov 2026 11:00:00 +0100\r\n\r\n" + content)
    }
}

@Suite struct SplitPolicyTests {
    @Test func domainsInTheirOrder() throws {
        let recipients = ["a@x.test", "b@Y.test", "c@X.TEST", "d@z.test", "e@y.test"]
        let original = envelope(to: recipients)
        let mail = try run([DomainSplitPolicy()], "\r\n", original)
        #expect(
            mail.envelopes.map { $0.recipients.map(\.text) } == [
                ["a@x.test", "c@X.TEST"], ["b@Y.test", "e@y.test"], ["d@z.test"],
            ])
        #expect(mail.envelopes[0].id == original.id)
        #expect(Set(mail.envelopes.map(\.id)).count == 3)
    }

    @Test func oneDomainStaysWhole() throws {
        let original = envelope(to: ["a@x.test", "b@x.test"])
        #expect(try run([DomainSplitPolicy()], "\r\n", original).envelopes == [original])
    }

    @Test func recipients() throws {
        let mail = try run([RecipientSplitPolicy()], "\r\n", envelope(to: ["a@x.test", "b@x.test"]))
        #expect(mail.envelopes.map { $0.recipients.map(\.text) } == [["a@x.test"], ["b@x.test"]])
    }
}

@Suite struct BuiltInPolicyTests {
    @Test(arguments: [
        ("To: a\r\nBcc: secret@x.test\r\nSubject: s\r\n\r\nBcc: body\r\n", "To: a\r\nSubject: s\r\n\r\nBcc: body\r\n"),
        ("bcc: a,\r\n\tb,\r\n c\r\nTo: d\r\n\r\n", "To: d\r\n\r\n"),
        ("A: 1\r\nResent-Bcc: x\r\nBCC:\r\nB: 2\r\n", "A: 1\r\nB: 2\r\n"),
        ("Bccx: 1\r\nX-Bcc: 2\r\n\r\n", "Bccx: 1\r\nX-Bcc: 2\r\n\r\n"),
    ])
    func bccIsRemoved(content: String, expected: String) throws {
        #expect(try run([], content).text() == expected)
    }

    @Test func aLoopIsRefused() throws {
        let hop = "Received: from a by b; date\r\n"
        #expect(try run([], String(repeating: hop, count: 3) + "\r\n", hops: 3).envelopes.count == 1)
        let refusal = #expect(throws: PolicyRefusal.self) {
            try run([], String(repeating: hop, count: 4) + "\r\n", hops: 3)
        }
        #expect(refusal?.reply.description.hasPrefix("554 5.4.6") == true)
    }
}
