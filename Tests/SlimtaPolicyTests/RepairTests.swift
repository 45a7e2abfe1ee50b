// What a submission agent mends in a header (RFC 6409 section 8), and what it leaves alone.

import NIOCore
import SlimtaMail
import SlimtaRules
import Testing

@testable import SlimtaPolicy

private let now = Timestamp(milliseconds: 1_795_255_200_000)  // Sat, 21 Nov 2026 10:00:00 +0000
private let id = QueueID(at: now)
private let context = PolicyContext(
    hostname: "mail.example.com", now: now, zoneOffset: 0, newID: { time, _ in QueueID(at: time) })

private func run(
    _ content: String, policies: [any QueuePolicy] = [], sender: String? = "a@example.com",
    duplicates: DuplicateFields = .refuse, qualify: String? = nil
) throws(PolicyRefusal) -> (text: String, repairs: Set<HeaderRepair>) {
    let envelope = Envelope(
        id: id, sender: sender.map { Mailbox(parsing: $0)! }, recipients: [Mailbox(parsing: "b@example.org")!],
        received: now, client: ClientInfo(address: "192.0.2.7", name: "laptop", protocolWord: "ESMTPSA"))
    let mail = try PolicyChain(policies, receivedHops: 20, duplicates: duplicates, qualify: qualify)
        .apply(to: envelope, Message(head: ByteBuffer(string: content)), context)
    let text = String(buffer: mail.envelopes[0].prependedFields) + String(buffer: mail.message.head)
    return (text, mail.repairs)
}

@Suite struct RepairTests {
    /// A signature is read once, not once for each field: otherwise none of these would end.
    @Test func manyFieldsAndALongSignature() throws {
        let names = String(repeating: "y:", count: 50_000)
        func header(_ name: String, _ field: String, _ count: Int) -> (start: String, fields: String) {
            let start = "DKIM-Signature: h=\(names)\(name)\r\nFrom: a@x.test\r\n"
            return (start, String(repeating: field, count: count))
        }
        let loose = header("y", "y :\r\n", 20_000)
        let left = try run("\(loose.start)\(loose.fields)\r\n")
        #expect(left.text == "\(loose.start)\(loose.fields)\r\n" && left.repairs == [])
        let twice = header("y", "Cc: b@x.test\r\n", 8_000)
        let single = try run("\(twice.start)\(twice.fields)\r\n", duplicates: .first)
        #expect(single.text == "\(twice.start)Cc: b@x.test\r\n\r\n" && single.repairs == [.duplicates])
        let bare = header("resent-to:resent-date:resent-message-id", "Resent-To: joe\r\n", 8_000)
        let unqualified = try run("\(bare.start)\(bare.fields)\r\n", qualify: "example.com")
        #expect(unqualified.text == "\(bare.start)\(bare.fields)\r\n" && unqualified.repairs == [])
    }

    // MARK: Fields that may be there once

    static let single = [
        "Date", "From", "Sender", "Reply-To", "To", "Cc", "Message-ID", "In-Reply-To", "References", "Subject",
        "Content-Type", "Content-Transfer-Encoding", "Content-Disposition", "MIME-Version",
    ]

    @Test(arguments: single) func aSecondFieldIsRefused(_ name: String) throws {
        let text = "From: x@example.com\r\n\(name): a@x.test\r\n\(name.lowercased()) :\r\n b@y.test\r\n\r\nbody\r\n"
        #expect(throws: PolicyRefusal(Reply(550, .init(5, 6, 0), "The header has two \(name) fields"))) {
            try run(text)
        }
    }

    @Test(arguments: single) func orTheFirstIsKept(_ name: String) throws {
        let from = name == "From" ? "" : "From: x@example.com\r\n"
        let (text, repairs) = try run(
            "\(from)\(name): a@x.test\r\nX: y\r\n\(name.uppercased()):\r\n b@y.test\r\n\(name): c\r\n\r\nbody\r\n",
            duplicates: .first)
        #expect(text == "\(from)\(name): a@x.test\r\nX: y\r\n\r\nbody\r\n")
        #expect(repairs == [.duplicates])
    }

    /// A signature of the client's that counts two fields would be broken.
    @Test func aSignedSecondFieldIsRefused() {
        #expect(throws: PolicyRefusal.self) {
            try run(
                "DKIM-Signature: v=1; h=from :\r\n\tSubject; b=x\r\nFrom: a@x.test\r\nSubject: 1\r\nSubject: 2\r\n\r\n",
                duplicates: .first)
        }
    }

    @Test func whatMayBeThereOftenStays() throws {
        let content =
            "From: a@x.test\r\nComments: 1\r\nComments: 2\r\nX-A: 1\r\nX-A: 2\r\nReceived: x\r\nReceived: y\r\n\r\n"
        #expect(try run(content).text == content)
        #expect(try run(content, duplicates: .first).repairs == [])
    }

    // MARK: Authors

    @Test func aMissingFromIsTheEnvelopesSender() throws {
        let (text, repairs) = try run("Subject: x\r\n\r\nbody\r\n")
        #expect(text == "From: a@example.com\r\nSubject: x\r\n\r\nbody\r\n")
        #expect(repairs == [.from])
        #expect(throws: PolicyRefusal(Reply(550, .init(5, 6, 0), "The header has no From field"))) {
            try run("Subject: x\r\n\r\n", sender: nil)
        }
    }

    @Test(arguments: ["From:", "from : ", "FROM:\r\n\t"]) func anEmptyFromIsFilled(_ field: String) throws {
        let name = field.prefix { $0.isLetter }
        let (text, repairs) = try run("Subject: x\r\n\(field)\r\nTo: b@x.test\r\n\r\n")
        #expect(text == "Subject: x\r\n\(name): a@example.com\r\nTo: b@x.test\r\n\r\n")
        #expect(repairs.contains(.from))
        #expect(throws: PolicyRefusal(Reply(550, .init(5, 6, 0), "The From field is empty"))) {
            try run("\(field)\r\n\r\n", sender: nil)
        }
    }

    @Test func severalAuthorsNeedASender() throws {
        let content = "From: a@x.test, b@x.test\r\n\r\n"
        #expect(try run(content).text == "Sender: a@example.com\r\n" + content)
        #expect(try run(content).repairs == [.sender])
        #expect(try run(content, sender: nil).text == content)
        let said = "Sender: c@x.test\r\n" + content
        #expect(try run(said).text == said)
    }

    // MARK: Single fields

    static let fields: [(String, String, Set<HeaderRepair>)] = [
        ("Return-Path: <x@y.test>\r\nA: 1", "A: 1", [.returnPath]),
        ("Return-Path:\r\n <x@y.test>\r\nreturn-path : <>\r\nA: 1", "A: 1", [.returnPath]),
        ("To:\r\nA: 1", "To: undisclosed-recipients:;\r\nA: 1", [.to]),
        ("To: \r\n \r\nA: 1", "To: undisclosed-recipients:;\r\nA: 1", [.to]),
        ("To\t :\r\nA: 1", "To: undisclosed-recipients:;\r\nA: 1", [.to, .colon]),
        ("To: undisclosed-recipients:;", "To: undisclosed-recipients:;", []), ("To: x:;", "To: x:;", []),
        ("Cc:\r\nSubject:", "Cc:\r\nSubject:", []), ("Subject : x\r\nA\t:y", "Subject: x\r\nA:y", [.colon]),
        // What a signature is about stays.
        (
            "DKIM-Signature: h=a:Subject; b=\r\nSubject : x\r\nB : y",
            "DKIM-Signature: h=a:Subject; b=\r\nSubject : x\r\nB: y", [.colon]
        ),
        ("DKIM-Signature: bh=x; h=to\r\nTo:", "DKIM-Signature: bh=x; h=to\r\nTo:", []),
        // What no verifier can read is no signature.
        (
            "DKIM-Signature: h=to; h=to\r\nTo:", "DKIM-Signature: h=to; h=to\r\nTo: undisclosed-recipients:;", [.to]
        ),
    ]

    @Test(arguments: fields) func field(_ content: String, _ expected: String, _ repairs: Set<HeaderRepair>) throws {
        let result = try run("From: a@x.test\r\n\(content)\r\n\r\nTo:\r\n")
        #expect(result.text == "From: a@x.test\r\n\(expected)\r\n\r\nTo:\r\n")
        #expect(result.repairs == repairs)
    }

    // MARK: Date and Message-ID

    @Test(arguments: ["Date: yesterday", "Date:", "dAtE :x", "Date: 31 Feb 2026 10:00 +0000"])
    func aDateThatIsNoneIsReplaced(_ field: String) throws {
        let result = try run("From: a@x.test\r\n\(field)\r\n\r\n", policies: [DatePolicy()])
        let kept = field.replacing(" :", with: ":")
        #expect(result.text == "Date: Sat, 21 Nov 2026 10:00:00 +0000\r\nFrom: a@x.test\r\nX-Original-\(kept)\r\n\r\n")
        #expect(result.repairs == (field.contains(" :") ? [.date, .colon] : [.date]))
    }

    @Test func aDateThatIsOneOrIsSignedStays() throws {
        for field in [
            "Date: Sat, 21 Nov 2026 10:00:00 +0000", "Date: 1 Jan 99 1:00 PST", "DKIM-Signature: h=date\r\nDate: x",
            "DKIM-Signature: h=date",
        ] {
            let content = "From: a@x.test\r\n\(field)\r\n\r\n"
            #expect(try run(content, policies: [DatePolicy()]).text == content)
        }
    }

    @Test func whatIsMissingIsAddedInOneOrder() throws {
        let content = "To: x@y.test\r\n\r\n"
        let added = "Message-ID: <\(id)@mail.example.com>\r\nDate: Sat, 21 Nov 2026 10:00:00 +0000\r\n"
        for policies in [[DatePolicy(), MessageIDPolicy()], [MessageIDPolicy(), DatePolicy()]] as [[any QueuePolicy]] {
            let result = try run(content, policies: policies)
            #expect(result.text == added + "From: a@example.com\r\n" + content)
            #expect(result.repairs == [.from, .noDate, .noMessageID])
        }
    }

    /// What is left alone because somebody has signed it is told as well.
    @Test func whatIsSignedIsTold() throws {
        let signature = "DKIM-Signature: h=from:to:date:message-id:subject:sender\r\n"
        let mail = try PolicyChain([DatePolicy(), MessageIDPolicy()], receivedHops: 20, qualify: "example.com").apply(
            to: envelope(), Message(head: ByteBuffer(string: signature + "From: a, b\r\nTo:\r\nSubject : x\r\n\r\n")),
            context)
        #expect(mail.unrepaired == [.qualified, .to, .colon, .noDate, .noMessageID])
        #expect(mail.repairs == [])
    }

    @Test func whatTheHeaderCheckMends() throws {
        #expect(try run("From a@b Sat\r\nFrom: a@x.test\r\n\r\n").repairs == [.mailboxLine])
        #expect(try run("From: a@x.test\r\ntext\r\n").repairs == [.emptyLine])
        #expect(try run("From: a@x.test\r\nBcc: b@x.test\r\n\r\n").repairs == [.blind])
    }

    // MARK: SMTPUTF8

    static let raw: [(String, String)] = [
        ("Subject: \u{FC}", "Subject: =?utf-8?b?w7w=?="),
        ("To: \u{FC} <b@x.test>", "To: =?utf-8?b?w7w=?= <b@x.test>"),
        (
            "To: M\u{FC}ller, J\u{FC}rgen <j@x.test>",
            "To: =?utf-8?q?M=C3=BCller?= , =?utf-8?q?J=C3=BCrgen?= <j@x.test>"
        ),
        ("To: b@m\u{FC}ller.test", "To: b@xn--mller-kva.test"),
        (
            "Content-Disposition: attachment; filename=\u{FC}",
            "Content-Disposition: attachment; filename*=utf-8''%C3%BC"
        ),
    ]

    /// What no address needs is not asked of hosts; lines of ASCII stay, however long they are.
    @Test(arguments: raw) func whatIsRawIsEncoded(_ field: String, _ expected: String) throws {
        let long = "X-Long: " + String(repeating: "x", count: 1200)
        let content = "From: a@x.test\r\n\(field)\r\n\(long)\r\n\r\n\u{FC}\r\n"
        for flag in [true, false] {
            let mail = try chain(content, smtpUTF8: flag)
            #expect(
                String(buffer: mail.message.head) == "From: a@x.test\r\n\(expected)\r\n\(long)\r\n\r\n\u{FC}\r\n")
            #expect(mail.envelopes.map(\.smtpUTF8) == [false] && mail.repairs == [.encoded])
        }
    }

    /// An address that has no other form, a signature of the client's.
    @Test func whatIsRawStays() throws {
        for (fields, sender, flags, left) in [
            ("To: \u{FC}@x.test\r\nSubject: \u{FC}", "a@x.test", [true, true], false),
            ("References: <\u{FC}@x.test>", "a@x.test", [true, true], false),
            ("Subject: \u{FC}", "\u{FC}@x.test", [true, true], false),
            ("DKIM-Signature: h=from:subject\r\nSubject: \u{FC}", "a@x.test", [true, false], true),
            ("Received: \u{FC}", "a@x.test", [false, false], true),
            // Words that are no address need nothing.
            ("To: J\u{F6}rg j@x.test", "a@x.test", [false, false], true),
            ("In-Reply-To: \u{FC}", "a@x.test", [false, false], true),
        ] as [(String, String, [Bool], Bool)] {
            let content = "From: a@x.test\r\n\(fields)\r\n\r\n"
            for (flag, expected) in zip([true, false], flags) {
                let mail = try chain(content, smtpUTF8: flag, sender: sender)
                #expect(String(buffer: mail.message.head) == content)
                #expect(mail.envelopes.map(\.smtpUTF8) == [expected], "\(fields)")
                #expect(mail.repairs == [] && mail.unrepaired == (left ? [.encoded] : []))
            }
        }
    }

    /// Where the client did not ask for SMTPUTF8 an identifier is no reason for it.
    @Test func anIdentifierThatNeedsSMTPUTF8() throws {
        let content = "From: a@x.test\r\nMessage-ID: <\u{FC}@x.test>\r\n\r\n"
        for flag in [true, false] {
            let mail = try PolicyChain([MessageIDPolicy()], receivedHops: 20).apply(
                to: envelope(smtpUTF8: flag), Message(head: ByteBuffer(string: content)), context)
            #expect(mail.envelopes[0].smtpUTF8 == flag)
            #expect(mail.repairs == (flag ? [] : [.messageID, .encoded]))
        }
    }

    /// What is no UTF-8 is not guessed, and no reason for SMTPUTF8.
    @Test func whatIsNoUTF8() throws {
        let content = Array("From: a@x.test\r\nSubject: ".utf8) + [0xFC] + Array("\r\n\r\n".utf8)
        let mail = try PolicyChain([any QueuePolicy](), receivedHops: 20)
            .apply(to: envelope(), Message(head: ByteBuffer(bytes: content)), context)
        #expect(
            String(buffer: mail.message.head) == "From: a@x.test\r\nSubject: =?unknown-8bit?q?=FC?=\r\n\r\n")
        let address = Array("From: a@x.test\r\nTo: ".utf8) + [0xFC] + Array("@x.test\r\n\r\n".utf8)
        let other = try PolicyChain([any QueuePolicy](), receivedHops: 20)
            .apply(to: envelope(), Message(head: ByteBuffer(bytes: address)), context)
        #expect(other.message.head == ByteBuffer(bytes: address) && !other.envelopes[0].smtpUTF8)
    }

    private func chain(_ content: String, smtpUTF8: Bool, sender: String = "a@x.test") throws -> PolicyMail {
        try PolicyChain([any QueuePolicy](), receivedHops: 20).apply(
            to: envelope(sender, smtpUTF8: smtpUTF8), Message(head: ByteBuffer(string: content)), context)
    }

    private func envelope(_ sender: String = "a@x.test", smtpUTF8: Bool = false) -> Envelope {
        Envelope(
            id: id, sender: Mailbox(parsing: sender),
            recipients: [Mailbox(parsing: "b@example.org")!], received: now, smtpUTF8: smtpUTF8,
            client: ClientInfo(address: "192.0.2.7", name: "laptop", protocolWord: "ESMTPSA"))
    }

    // MARK: Order

    private struct Somebody: WaitingPolicy {
        let place: PolicyPlace

        func apply(to mail: inout PolicyMail, _ context: PolicyContext) {}
    }

    /// Whatever the order of the configuration is, that of the chain is one.
    @Test func everyOrderIsTheSame() throws {
        let steps: [PolicyStep] = [
            .immediate(DatePolicy()), .immediate(MessageIDPolicy()),
            .immediate(ForwardPolicy(ForwardRules([]), limit: 10)), .waiting(Somebody(place: .spamassassin)),
            .immediate(DomainSplitPolicy()), .immediate(RecipientSplitPolicy()), .immediate(ReceivedPolicy()),
        ]
        var count = 0
        func permute(_ chosen: [PolicyStep], _ rest: [PolicyStep]) {
            guard !rest.isEmpty else {
                count += 1
                let places = PolicyChain(chosen, receivedHops: 9, qualify: "x.test").places
                #expect(places == places.sorted() && places.count == steps.count + 8)
                return
            }
            for index in rest.indices {
                var left = rest
                let next = left.remove(at: index)
                permute(chosen + [next], left)
            }
        }
        permute([], steps)
        #expect(count == 5040)
        #expect(
            PolicyChain(steps.reversed(), receivedHops: 9, qualify: "x.test").places == [
                .header, .header, .header, .qualification, .senders, .repairs, .date, .messageID, .containment,
                .forward,
                .spamassassin, .domainSplit, .recipientSplit, .received, .ruleFields,
            ])
        // Milters stay as they were configured.
        let milters: [PolicyStep] = [.waiting(Somebody(place: .milters)), .waiting(Somebody(place: .milters))]
        #expect(PolicyChain.ordered(milters + steps).count == steps.count + 2)
    }

    // MARK: What is sent on

    @Test func whatIsSentOnGetsADateAndAnIdentifierOfItsOwn() throws {
        let (old, new) = ("From: a@x.test\r\n\r\n", "Resent-From: b@x.test\r\nResent-To: c@x.test\r\n")
        let result = try run("X: y\r\n" + new + old, policies: [DatePolicy(), MessageIDPolicy()])
        let added = "Resent-Date: Sat, 21 Nov 2026 10:00:00 +0000\r\nResent-Message-ID: <\(id)@mail.example.com>\r\n"
        #expect(result.text == "X: y\r\n" + added + new + old)
        #expect(result.repairs == [.resent])
        // Of an older block nothing is changed, and of one that has them.
        let whole = "Resent-Date: x\r\nResent-Message-ID: <1@x>\r\nResent-From: d@x.test\r\n" + new + old
        #expect(try run(whole).text == whole)
    }

    // MARK: Addresses without a domain

    static let addresses: [(String, String)] = [
        ("To: joe", "To: joe@example.com"), ("To: Joe <joe>, a@b.test", "To: Joe <joe@example.com>, a@b.test"),
        (
            "Cc: \"joe x\" (him),\r\n\tGroup: a, b@c.test;",
            "Cc: \"joe x\"@example.com (him),\r\n\tGroup: a@example.com, b@c.test;"
        ),
        ("From: root (Cron)", "From: root@example.com (Cron)"), ("Reply-To: x", "Reply-To: x@example.com"),
        ("Sender: x", "Sender: x@example.com"), ("To: undisclosed-recipients:;", "To: undisclosed-recipients:;"),
        ("To: a b c <", "To: a b c <"), ("X-To: joe", "X-To: joe"),
        ("DKIM-Signature: h=to\r\nTo: joe", "DKIM-Signature: h=to\r\nTo: joe"),
    ]

    @Test(arguments: addresses) func qualified(_ content: String, _ expected: String) throws {
        let from = content.hasPrefix("From") ? "" : "From: a@x.test\r\n"
        let result = try run("\(from)\(content)\r\n\r\nTo: joe\r\n", qualify: "example.com")
        #expect(result.text == "\(from)\(expected)\r\n\r\nTo: joe\r\n")
        #expect(result.repairs == (content == expected ? [] : [.qualified]))
        #expect(try run("\(from)\(content)\r\n\r\n").text == "\(from)\(content)\r\n\r\n")
    }

    /// A name beyond ASCII that stands alone becomes no address, which would need SMTPUTF8: it is encoded as a name.
    @Test(arguments: [
        ("To: J\u{F6}rg", "To: =?utf-8?b?SsO2cmc=?=", false), ("To: J\u{F6}rg", "To: =?utf-8?b?SsO2cmc=?=", true),
        ("To: <j\u{F6}rg>", "To: <j\u{F6}rg>", false), ("To: <j\u{F6}rg>", "To: <j\u{F6}rg@example.com>", true),
        // What is encoded stands apart from what is behind it (RFC 2047 section 5).
        ("To: J\u{F6}rg, joe", "To: =?utf-8?b?SsO2cmc=?= , joe@example.com", false),
        ("To: =?utf-8?b?SsO2cmc=?=", "To: =?utf-8?b?SsO2cmc=?=", false),
        ("To: =?utf-8?b?SsO2cmc=?= , joe", "To: =?utf-8?b?SsO2cmc=?= , joe@example.com", false),
        (
            "To: =?x?y?=.joe, =?, \"=?x?q?y?=\"",
            "To: =?x?y?=.joe@example.com, =?@example.com, \"=?x?q?y?=\"@example.com", false
        ),
        ("Cc: J\u{F6}rg <joe>", "Cc: =?utf-8?b?SsO2cmc=?= <joe@example.com>", false),
    ])
    func namesBeyondASCII(_ field: String, _ expected: String, _ asks: Bool) throws {
        var envelope = Envelope(
            id: id, sender: Mailbox(parsing: "a@example.com"), recipients: [Mailbox(parsing: "b@example.org")!],
            received: now, client: ClientInfo(address: "192.0.2.7", name: "laptop", protocolWord: "ESMTPSA"))
        envelope.smtpUTF8 = asks
        let content = ByteBuffer(string: "From: a@x.test\r\n\(field)\r\n\r\n")
        let mail = try PolicyChain([any QueuePolicy](), receivedHops: 20, qualify: "example.com")
            .apply(to: envelope, Message(head: content), context)
        let text = String(buffer: mail.message.head)
        func folded(_ text: String) -> String { text.lowercased().replacing("\r\n ", with: " ") }
        #expect(folded(text) == folded("From: a@x.test\r\n\(expected)\r\n\r\n"))
        #expect(mail.envelopes[0].smtpUTF8 == expected.contains("\u{F6}rg@"))
    }

    /// A field that cannot be read for what is raw in it is encoded before its addresses are completed, and not only behind that:
    /// nothing of it is left to be mended when it comes again.
    @Test(arguments: [
        ("To: \u{1}, joe", "To: =?unknown-8bit?q?=FC?= , joe@example.com"),
        (
            "Cc: \u{1} <\"j\" >, \u{1}, a@b.test",
            "Cc: =?unknown-8bit?q?=FC?= <\"j\"@example.com >, =?unknown-8bit?q?=FC?= , a@b.test"
        ),
        ("To: j . \u{F6}, joe", "To: j . =?utf-8?b?w7Y=?= , joe@example.com"),
        ("To: =?utf-8?q?J.M=C3=BC?=, joe", "To: =?utf-8?q?J.M=C3=BC?=, joe@example.com"),
        ("To: J\u{F6}rg M\u{FC}ller, joe", "To: =?utf-8?b?SsO2cmcgTcO8bGxlcg==?= , joe@example.com"),
        // Nobody has to be completed, or nothing makes it readable: as it was without "qualify".
        ("To: \u{1}, a@b.test", "To: =?unknown-8bit?q?=FC?= , a@b.test"),
        ("To: a \u{1} b, joe", "To: a =?unknown-8bit?q?=FC?= b, joe"),
        ("To: \u{1}@x.test, joe", "To: \u{1}@x.test, joe"), ("To: <\u{1}>, joe", "To: <\u{1}>, joe"),
        ("DKIM-Signature: h=to\r\nTo: \u{1}, joe", "DKIM-Signature: h=to\r\nTo: \u{1}, joe"),
    ])
    func encodedBeforeItIsCompleted(_ field: String, _ expected: String) throws {
        // One that no text can have.
        func octets(_ text: String) -> [UInt8] { text.utf8.map { $0 == 1 ? 0xFC : $0 } }
        func mended(_ octets: [UInt8]) throws -> PolicyMail {
            try PolicyChain([any QueuePolicy](), receivedHops: 20, qualify: "example.com")
                .apply(to: envelope(), Message(head: ByteBuffer(bytes: octets)), context)
        }
        let mail = try mended(octets("From: a@x.test\r\n\(field)\r\n\r\n"))
        let head = Array(mail.message.head.readableBytesView)
        #expect(head == octets("From: a@x.test\r\n\(expected)\r\n\r\n"))
        #expect(mail.repairs.contains(.qualified) == expected.contains("@example.com"))
        let isRaw = field.utf8.contains { $0 == 1 || $0 > 0x7F }
        #expect(mail.repairs.contains(.encoded) == (isRaw && !expected.contains("\u{1}")))
        let again = try mended(head)
        #expect(again.repairs == [] && Array(again.message.head.readableBytesView) == head)
    }

    /// Who may send sees the addresses that leave.
    @Test func anAuthorBesideANameThatIsNoUTF8() throws {
        let head = Array("From: ".utf8) + [0xFC] + Array(", joe\r\n\r\n".utf8)
        let mail = try PolicyChain([any QueuePolicy](), receivedHops: 20, qualify: "example.com")
            .apply(to: envelope(), Message(head: ByteBuffer(bytes: head)), context)
        #expect(String(buffer: mail.message.head) == "From: =?unknown-8bit?q?=FC?= , joe@example.com\r\n\r\n")
    }

    // MARK: Received

    @Test func theClientIsHidden() throws {
        let text = try run("From: a@x.test\r\n\r\n", policies: [ReceivedPolicy(hidesClient: true)]).text
        #expect(text.hasPrefix("Received: by mail.example.com (slimtad) with ESMTPSA\r\n\tid \(id)\r\n"))
        #expect(!text.contains("192.0.2.7") && !text.contains("laptop"))
    }
}
