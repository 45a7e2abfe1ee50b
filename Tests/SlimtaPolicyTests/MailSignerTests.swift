// What leaves is signed: which fields there are, on which envelopes, what they cover, and what does not leave.

import Logging
import NIOCore
import SlimtaDKIM
import SlimtaMail
import SlimtaQueue
import Synchronization
import Testing

@testable import SlimtaPolicy

private let now = Timestamp(milliseconds: 1_795_877_839_000)
private let author = "From: A <a@news.example.com>\r\nTo: b@x.test\r\nSubject: x\r\n"
private let text = author + "\r\nHi.\r\n"

@Suite struct MailSignerTests {
    private let keys: MemoryKeys
    private let log = KeptEvents()

    init() throws { keys = try MemoryKeys() }

    private var signer: MailSigner { MailSigner(keys, logger: log.logger) }

    private func context(fields: [String] = [], due: Timestamp? = nil) -> PolicyContext {
        var context = PolicyContext(
            hostname: "mail.example.com", now: now, zoneOffset: 0, newID: { time, _ in QueueID(at: time) })
        (context.fields, context.due) = (fields, due)
        return context
    }

    private func envelope(to recipients: [String] = ["b@x.test"]) -> Envelope {
        Envelope(
            id: QueueID(high: 1, low: 1), sender: nil, recipients: recipients.map { Mailbox(parsing: $0)! },
            received: now, client: ClientInfo(address: "192.0.2.7", name: "c", protocolWord: "ESMTPSA", login: "alice"))
    }

    /// What a chain that signs makes of a message.
    private func run(
        _ content: String = text, to recipients: [String] = ["b@x.test"],
        _ policies: [any QueuePolicy] = [DatePolicy(), MessageIDPolicy(), ReceivedPolicy(), DomainSplitPolicy()],
        fields: [String] = [], due: Timestamp? = nil, by signer: MailSigner? = nil
    ) async throws -> PolicyMail {
        let chain = PolicyChain(policies, receivedHops: 9, signer: signer ?? self.signer)
        let message = Message(head: ByteBuffer(string: content))
        var mail = try chain.apply(to: envelope(to: recipients), message, context(fields: fields, due: due))
        try await chain.finish(&mail, context(fields: fields, due: due))
        return mail
    }

    // MARK: What leaves

    /// Two signatures on top of all envelopes, RSA's first, the same in all; they hold for what leaves.
    @Test func bothOnTopOfAllEnvelopes() async throws {
        let mail = try await run(to: ["b@x.test", "c@y.test", "d@x.test"], fields: ["X-Rule: a\r\n"])
        #expect(mail.envelopes.count == 2)
        let tops = try mail.envelopes.map { envelope in
            let sent = Sent(envelope, mail.message)
            let names = sent.header.fields.map(\.name)
            #expect(
                names == [
                    "dkim-signature", "dkim-signature", "x-rule", "received", "message-id", "date", "from", "to",
                    "subject",
                ])
            let signatures = try sent.signatures()
            #expect(signatures.map(\.algorithm) == [.rsaSHA256, .ed25519SHA256])
            #expect(signatures.allSatisfy { $0.domain == "example.com" && $0.time == now.seconds })
            #expect(signatures.allSatisfy { !$0.names.contains("received") && !$0.names.contains("x-rule") })
            #expect(sent.verdicts(keys) == [.pass(isTesting: false), .pass(isTesting: false)])
            return sent.header.fields.prefix(2).map(\.octets)
        }
        #expect(tops[0] == tops[1])
        #expect(mail.message.head == ByteBuffer(string: text))
        let (names, time, start) = try #require(keys.heard.withLock { $0.first })
        #expect(names.map(\.selector) == ["r1", "e1"] && time == now && start == now)
        #expect(keys.heard.withLock { $0.count } == 1)
    }

    /// Fields that our policies and rules add are covered: who changes or adds one breaks the signature.
    @Test(arguments: [
        "Date: Mon, 1 Jan 2024 00:00:00 +0000", "Message-ID: <a@b>", "Reply-To: c@d.test", "From: e@f.test",
    ])
    func whatIsAddedIsCovered(_ field: String) async throws {
        let mail = try await run(fields: ["Reply-To: r@example.com\r\n"])
        var sent = Sent(mail.envelopes[0], mail.message)
        #expect(sent.verdicts(keys) == [.pass(isTesting: false), .pass(isTesting: false)])
        let name = field.prefix { $0 != ":" }.lowercased()
        let old = try #require(sent.header.fields.first { $0.name == name }).octets
        let octets = sent.text
        sent = Sent(octets.replacing(String(buffer: old), with: field + "\r\n"))
        #expect(sent.verdicts(keys) == [.fail(.signature), .fail(.signature)])
        sent = Sent(octets.replacing("\r\nSubject: x", with: "\r\n\(field)\r\nSubject: x"))
        #expect(sent.verdicts(keys) == [.fail(.signature), .fail(.signature)])
    }

    /// Whatever the order of the policies is: what is signed is what the last of them has left.
    @Test func everyOrder() async throws {
        let policies: [any QueuePolicy] = [DatePolicy(), MessageIDPolicy(), ReceivedPolicy(), DomainSplitPolicy()]
        for order in permutations(policies) {
            let mail = try await run(to: ["b@x.test", "c@y.test"], order)
            for envelope in mail.envelopes {
                #expect(Sent(envelope, mail.message).verdicts(keys).count { $0 == .pass(isTesting: false) } == 2)
            }
        }
    }

    @Test(arguments: [
        author + "\r\n", author, author + "\r\nno end of line", author + "\r\n\r\n \r\n\t\r\n",
        "From : a@example.com\r\nSubject\t: y\r\n\r\nHi.\r\n", "From a@b Sat Jan 1\r\n" + text,
        author + "no field\r\nbody\r\n", "DKIM-Signature: v=1; d=other.example\r\n" + text,
        "From:\r\n A\r\n <a@example.com>\r\nX-\u{E4}: \u{FC}\r\n\r\n\u{FC}\r\n",
    ])
    func allKindsHold(_ content: String) async throws {
        let mail = try await run(content)
        let sent = Sent(mail.envelopes[0], mail.message)
        #expect(sent.verdicts(keys).prefix(2) == [.pass(isTesting: false), .pass(isTesting: false)])
        // There are verifiers that take a field with a blank before its colon for none.
        #expect(!sent.text.contains("From :") && !sent.text.contains("Subject\t:"))
    }

    /// What is to leave later has a signature that still counts then.
    @Test func later() async throws {
        for (due, start) in [(now + .seconds(86400), now + .seconds(86400)), (now + .seconds(-9), now)] {
            let mail = try await run(due: due)
            for signature in try Sent(mail.envelopes[0], mail.message).signatures() {
                #expect(signature.time == now.seconds && signature.expiration == (start + .seconds(1000)).seconds)
            }
            #expect(keys.heard.withLock { $0.last?.time } == now)
            #expect(keys.heard.withLock { $0.last?.start } == start)
        }
    }

    /// What waits for an operator has a signature that still counts whenever that is.
    @Test(arguments: [(nil, nil), ("rule", nil), (nil, "spamassassin")] as [(String?, String?)])
    func held(_ byRule: String?, _ byPolicy: String?) async throws {
        var mail = PolicyMail(envelope: envelope(), message: Message(head: ByteBuffer(string: text)))
        var context = context()
        (context.heldReason, mail.heldReason) = (byRule, byPolicy)
        try await signer.apply(to: &mail, context)
        let sent = Sent(mail.envelopes[0], mail.message)
        let end = byRule == nil && byPolicy == nil ? (now + .seconds(1000)).seconds : nil
        #expect(try sent.signatures().map(\.expiration) == [end, end])
        #expect(sent.verdicts(keys) == [.pass(isTesting: false), .pass(isTesting: false)])
    }

    // MARK: What does not

    private func refusal(_ content: String, by signer: MailSigner? = nil) async throws -> PolicyRefusal {
        let caught = await #expect(throws: PolicyRefusal.self) { try await run(content, by: signer) }
        return try #require(caught)
    }

    @Test(arguments: ["Subject: x\r\n\r\n", author + "From: b@example.com\r\n\r\n", author + "from :\r\n\r\n"])
    func notOneFrom(_ content: String) async throws {
        let refusal = try await refusal(content)
        #expect(refusal.reply.code == 550 && refusal.reply.status == EnhancedStatus(5, 6, 0))
        #expect(keys.heard.withLock { $0.isEmpty })
    }

    /// Which key it was, is for the log.
    @Test func closedGate() async throws {
        let name = SelectorName(domain: "example.com", selector: "r2", algorithm: .rsaSHA256)
        for (choice, selector) in [
            (SigningChoice.closed(name), "r2._domainkey.example.com rsa-sha256"), (.closed(nil), "example.com"),
            (.sign([]), "example.com"),
        ] {
            keys.choice.withLock { $0 = choice }
            let refusal = try await refusal(text)
            #expect(refusal.reply.code == 451 && refusal.reply.status == EnhancedStatus(4, 7, 5))
            #expect(refusal.selector == selector && refusal.keptBecause == nil)
            #expect(!refusal.reply.description.contains("r2"))
        }
        // What is not to be signed leaves.
        #expect(try await run("From: a@other.example\r\n\r\n").envelopes.count == 1)
    }

    /// Told once a domain and day.
    @Test func unsigned() async throws {
        let signer = signer
        for from in ["a@other.example", "b@OTHER.example", "c@third.example", "a@other.example", "x:;"] {
            let mail = try await run("From: \(from)\r\n\r\n", by: signer)
            #expect(Sent(mail.envelopes[0], mail.message).header.fields.allSatisfy { $0.name != "dkim-signature" })
        }
        let told = log.lines("mail of a domain goes unsigned").compactMap {
            $0.split(separator: " ").first { $0.hasPrefix("domain=") }
        }
        #expect(told == ["domain=other.example", "domain=third.example", "domain=none"])
    }

    @Test func onceADay() {
        var words = DailyWords()
        let told = [("a", 0), ("a", 60), ("a", 86400), ("b", 86400)].map { word, seconds in
            words.isNew(word, at: now + .seconds(seconds))
        }
        #expect(told == [true, false, true, true])
        // Who may send may not fill the log.
        let more = (0..<2000).map { words.isNew("\($0)", at: now) }
        #expect(more.count { $0 } == 1000)
        let next = words.isNew("1999", at: now + .seconds(86400))
        #expect(next)
    }

    @Test func otherwise() async throws {
        keys.otherwise.withLock { $0 = .refuse }
        let refusal = try await refusal("From: a@other.example\r\n\r\n")
        #expect(refusal.reply.code == 550 && refusal.reply.status == EnhancedStatus(5, 7, 1))
        keys.otherwise.withLock { $0 = .domain("example.com") }
        let mail = try await run("From: a@other.example\r\n\r\n")
        let sent = Sent(mail.envelopes[0], mail.message)
        #expect(try sent.signatures().map(\.domain) == ["example.com", "example.com"])
        #expect(sent.verdicts(keys) == [.pass(isTesting: false), .pass(isTesting: false)])
    }

    /// A signature that verifiers would not take leaves with nobody; ten messages show what is wrong.
    @Test func doesNotHold() async throws {
        // d= of one label is no domain to a verifier.
        keys.useDomain("localhost")
        let signer = signer
        for number in 1...12 {
            let refusal = try await refusal(text, by: signer)
            #expect(refusal.reply.code == 451 && refusal.reply.status == EnhancedStatus(4, 7, 5))
            #expect((refusal.keptBecause != nil) == (number <= 10))
        }
        #expect(log.lines("signature of a message does not hold").count == 12)
        #expect(log.lines("signature of a message does not hold")[0].contains("d= says what it may not"))
        #expect(keys.heard.withLock { $0.isEmpty })
    }

    // MARK: Large messages

    /// A message whose body is in a file.
    private func large(
        _ parts: [String], behind head: String = text, seenBy signer: MailSigner? = nil, isReadable: Bool = false
    ) throws -> PolicyMail {
        let body = FileOfParts(parts, isReadable: isReadable)
        var message = Message(head: ByteBuffer(string: head), rest: body)
        if let observer = signer?.makeObserver() {
            observer.begin(message.head)
            for part in parts { observer.take(ByteBuffer(string: part)) }
            message.rest = ObservedBody(body, [observer])
        }
        return PolicyMail(envelope: envelope(), message: message)
    }

    private static let parts = ["more \t", "\r", "\n", "\r\n\r", "\n \r\n", "end\r\n", "\r\n"]

    /// Hashed while it comes: not read again. Both forms of bodies.
    @Test(arguments: [Canonicalizations.relaxed, .init(header: .relaxed, body: .simple)])
    func hashedWhileItComes(_ forms: Canonicalizations) async throws {
        keys.use(forms)
        let signer = signer
        for head in [text, author + "\r\n", "From a@b Sat Jan 1\r\n" + text, author + "no field\r\n"] {
            var mail = try large(Self.parts, behind: head, seenBy: signer)
            try HeaderCheck(receivedHops: 9).apply(to: &mail, context())
            try await signer.apply(to: &mail, context())
            let whole = Message(head: ByteBuffer(string: String(buffer: mail.message.head) + Self.parts.joined()))
            #expect(Sent(mail.envelopes[0], whole).verdicts(keys).allSatisfy { $0 == .pass(isTesting: false) })
        }
    }

    /// Where a policy has changed the body, it is read.
    @Test func readAgainWhereItWasChanged() async throws {
        let signer = signer
        for (isReadable, isChanged) in [(true, true), (true, false), (false, true)] {
            var mail = try large(Self.parts, seenBy: isChanged ? signer : nil, isReadable: isReadable)
            if isChanged {
                let end = mail.message.head.readableBytes
                mail.replace([(end - 2..<end, "?\r\n")])
            }
            guard isReadable else {
                let refusal = await #expect(throws: PolicyRefusal.self) { try await signer.apply(to: &mail, context()) }
                #expect(refusal?.reply.code == 451 && refusal?.keptBecause == nil)
                #expect(log.lines("message could not be signed").count == 1)
                continue
            }
            try await signer.apply(to: &mail, context())
            let whole = Message(head: ByteBuffer(string: String(buffer: mail.message.head) + Self.parts.joined()))
            #expect(
                Sent(mail.envelopes[0], whole).verdicts(keys) == [.pass(isTesting: false), .pass(isTesting: false)])
        }
    }

    /// Nobody looks on where nothing is signed.
    @Test func nothingIsHashedInVain() {
        #expect(PolicyChain([ReceivedPolicy()], receivedHops: 9).makeObservers().isEmpty)
        #expect(PolicyChain([ReceivedPolicy()], receivedHops: 9, signer: signer).makeObservers().count == 1)
    }

    // MARK: Notices

    private func notice(from host: String = "mail.example.com") -> (Envelope, Message) {
        let content =
            "Date: x\r\nFrom: Mail Delivery System <MAILER-DAEMON@\(host)>\r\nTo: <a@b.example>\r\n\r\nNo.\r\n"
        return (envelope(), Message(head: ByteBuffer(string: content)))
    }

    @Test func notices() async throws {
        var (envelope, message) = notice()
        envelope.prependedFields = await signer.fields(for: envelope, message)
        let sent = Sent(envelope, message)
        #expect(try sent.signatures().map(\.domain) == ["example.com", "example.com"])
        #expect(sent.verdicts(keys) == [.pass(isTesting: false), .pass(isTesting: false)])
        #expect(keys.heard.withLock { $0.count } == 1)
    }

    /// A lost notice is worse than an unsigned one.
    @Test func noticesThatCannotBeSigned() async throws {
        func unsigned(from host: String = "mail.example.com") async -> Bool {
            let (envelope, message) = notice(from: host)
            return await signer.fields(for: envelope, message).readableBytes == 0
        }
        #expect(await unsigned(from: "other.example"))
        #expect(log.lines("notice goes unsigned").isEmpty && log.lines("mail of a domain goes unsigned").count == 1)
        keys.otherwise.withLock { $0 = .refuse }
        #expect(await unsigned(from: "other.example"))
        keys.useDomain("localhost")
        #expect(await unsigned())
        keys.choice.withLock {
            $0 = .closed(SelectorName(domain: "example.com", selector: "r2", algorithm: .rsaSHA256))
        }
        #expect(await unsigned())
        let told = log.lines("notice goes unsigned")
        #expect(told.count == 3 && told[2].contains("selector=r2._domainkey.example.com"))
        #expect(log.lines("signature of a message does not hold").isEmpty)
    }
}

/// All orders.
private func permutations<Element>(_ elements: [Element]) -> [[Element]] {
    guard elements.count > 1 else { return [elements] }
    return elements.indices.flatMap { index in
        var others = elements
        let first = others.remove(at: index)
        return permutations(others).map { [first] + $0 }
    }
}
