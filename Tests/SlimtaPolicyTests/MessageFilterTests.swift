// Filters of a session in the chain: what they are shown, what becomes of what they change, hold, refuse and discard.

import NIOCore
import SlimtaDKIM
import SlimtaMail
import SlimtaQueue
import SlimtaStorage
import Synchronization
import Testing

@testable import SlimtaPolicy

/// Keeps what it was shown, and makes of it what it is told to.
private final class Filter: MessageFilter {
    private let seen = Mutex<[FilteredMessage]>([])
    private let deed: @Sendable (inout FilteredMessage) -> FilterVerdict?

    /// `deed` returns nil for what it has changed.
    init(_ deed: @escaping @Sendable (inout FilteredMessage) -> FilterVerdict?) { self.deed = deed }

    var shown: [FilteredMessage] { seen.withLock { $0 } }

    func filter(_ message: FilteredMessage) async -> FilterVerdict {
        seen.withLock { $0.append(message) }
        var message = message
        return deed(&message) ?? .changed(message)
    }

    var terms: SubmissionTerms {
        var terms = SubmissionTerms(fields: ["X-Rule: r\r\n"])
        terms.filter = MessageFilterReference(self)
        return terms
    }
}

@Suite struct MessageFilterTests {
    private static let splitting: [any QueuePolicy] = [
        ReceivedPolicy(), DomainSplitPolicy(), MessageIDPolicy(),
    ]

    /// Filters see one header with what other policies have added, before splits and without our Received; what they put above that
    /// ends up there in each envelope.
    @Test func changes() async throws {
        let world = try await World(Self.splitting)
        let filter = Filter { mail in
            mail.fieldsAboveReceived = ByteBuffer(string: "X-Top: t\r\n")
            mail.message = Message(head: ByteBuffer(string: "X-A: \u{FC}\r\n\r\nnew\r\n"))
            mail.sender = nil
            mail.recipients.append(Mailbox(localPart: "c", domain: "y.test"))
            mail.heldReason = "odd"
            return nil
        }
        let envelope = try world.envelope()
        #expect(await world.submit(envelope, "Bcc: z@x.test\r\nSubject: x\r\n\r\ntext\r\n", filter.terms).code == 250)
        let shown = try #require(filter.shown.first)
        #expect(
            String(buffer: shown.message.head)
                == "Message-ID: <\(envelope.id)@mail.example.com>\r\nFrom: a@example.com\r\nSubject: x\r\n\r\ntext\r\n"
        )
        #expect(shown.id == envelope.id && shown.recipients == envelope.recipients && shown.sender == envelope.sender)
        let page = try await world.storage.page(after: nil, count: 10)
        #expect(Set(page.envelopes.map { $0.envelope.recipients.map(\.text) }) == [["b@x.test"], ["c@y.test"]])
        for queued in page.envelopes {
            let stored = try await world.storage.load(queued.envelope.id)
            let fields = String(buffer: stored.envelope.prependedFields)
            #expect(fields.hasPrefix("X-Rule: r\r\nX-Top: t\r\nReceived: from laptop"))
            #expect(!fields.contains("Message-ID"))
            #expect(String(buffer: stored.message.head) == "X-A: =?utf-8?b?w7w=?=\r\n\r\nnew\r\n")
            #expect(stored.envelope.sender == nil && stored.envelope.body == .eightBitMIME)
            #expect(stored.state.isHeld && stored.state.heldReason == "odd")
        }
        await world.storage.close()
    }

    @Test func nothingChanges() async throws {
        let world = try await World(Self.splitting)
        let filter = Filter { _ in .unchanged }
        let envelope = try world.envelope()
        #expect(await world.submit(envelope, "Subject: x\r\n\r\ntext\r\n", filter.terms).code == 250)
        let stored = try await world.storage.load(envelope.id)
        #expect(String(buffer: stored.message.head) == "Subject: x\r\n\r\ntext\r\n")
        #expect(String(buffer: stored.envelope.prependedFields).hasPrefix("X-Rule: r\r\nReceived: "))
        await world.storage.close()
    }

    /// The header stays in memory, however long it is; the rest of a new body goes to a file of its own.
    @Test func aLargeBody() async throws {
        let world = try await World([ReceivedPolicy()])
        let body = String(repeating: "0123456789\r\n", count: 50_000)
        for header in [
            "X: y\r\n", String(repeating: "X-A: " + String(repeating: "y", count: 900) + "\r\n", count: 400),
        ] {
            let filter = Filter { mail in
                mail.message = Message(head: ByteBuffer(string: header + "\r\n" + body))
                return nil
            }
            let envelope = try world.envelope()
            #expect(await world.submit(envelope, "\r\nold\r\n", filter.terms).code == 250)
            let stored = try await world.storage.load(envelope.id)
            #expect(stored.message.head.readableBytes == max(256 << 10, header.utf8.count + 2))
            let rest = try #require(stored.message.rest)
            #expect(rest.reference.id != envelope.id)
            var octets = stored.message.head
            let reader = rest.makeReader()
            while let part = try await reader.next(100_000) { octets.writeImmutableBuffer(part) }
            #expect(String(buffer: octets) == header + "\r\n" + body)
        }
        await world.storage.close()
    }

    /// A large new body that needs 8BITMIME says so, wherever in it the octets are; whom a recipient is there for is stored.
    @Test func eightBitFarBehind() async throws {
        let world = try await World([ReceivedPolicy()])
        let (added, named) = (Mailbox(localPart: "c", domain: "y.test"), Mailbox(localPart: "team", domain: "y.test"))
        for (end, body) in [("\u{FC}\r\n", BodyType.eightBitMIME), ("u\r\n", .sevenBit)] {
            let filter = Filter { mail in
                mail.message = Message(
                    head: ByteBuffer(string: "X: y\r\n\r\n" + String(repeating: "0123456789\r\n", count: 50_000) + end))
                mail.recipients.append(added)
                mail.originals[added] = named
                mail.notifications[added] = []
                return nil
            }
            let envelope = try world.envelope()
            #expect(await world.submit(envelope, "\r\nold\r\n", filter.terms).code == 250)
            let stored = try await world.storage.load(envelope.id)
            #expect(stored.envelope.body == body && stored.message.rest != nil)
            #expect(stored.envelope.original(of: added) == named && stored.envelope.notifies(of: added) == [])
            #expect(stored.envelope.notifies(of: envelope.recipients[0]) == .usual)
        }
        await world.storage.close()
    }

    @Test func refusesAndDiscards() async throws {
        let world = try await World(Self.splitting)
        let refusal = Reply(550, .init(5, 7, 1), "no")
        #expect(
            await world.submit(try world.envelope(), "\r\n", Filter { _ in .refused(refusal, by: "f") }.terms)
                == refusal)
        #expect(world.storage.ledger().submitted.accepted == 0)
        let filter = Filter { _ in .discarded(by: "f") }
        let envelope = try world.envelope(to: ["a@x.test", "b@y.test"])
        let digest = Receipt.Digest([UInt8](repeating: 7, count: 32))
        let owner = Receipt.Owner(digest)
        let receipt = Receipt(key: digest, owner: owner, fingerprint: digest, id: envelope.id, expires: nil)
        let reply = await world.submit(envelope, "\r\n", filter.terms, receipt: receipt)
        #expect(reply == Reply(250, .init(2, 6, 0), "Message queued as \(envelope.id)"))
        let ledger = world.storage.ledger()
        #expect(ledger.submitted.accepted == 2 && ledger.submitted.removed == 2 && ledger.isBalanced)
        #expect(ledger.removedBy == ["milter f": 2] && world.queue.count == 0)
        let page = try await world.storage.page(after: nil, count: 10)
        #expect(page.envelopes.isEmpty)
        let state = try #require(try await world.storage.submission(envelope.id, of: [owner]))
        #expect(state.recipients.map(\.fate) == [.removed, .removed])
        await world.storage.close()
    }
}

/// What filters leave is what is signed.
@Suite struct FilteredSignatureTests {
    private let keys: MemoryKeys
    private let log = KeptEvents()

    init() throws { keys = try MemoryKeys() }

    private func run(
        _ filter: Filter, _ policies: [any WaitingPolicy] = [], spool: (@Sendable (QueueID) -> any SpoolWriter)? = nil
    ) async throws -> PolicyMail {
        let now = Timestamp(milliseconds: 1_795_877_839_000)
        var context = PolicyContext(
            hostname: "mail.example.com", now: now, zoneOffset: 0, newID: { time, _ in QueueID(at: time) })
        (context.filter, context.beginSpool) = (filter, spool)
        let envelope = Envelope(
            id: QueueID(high: 1, low: 1), sender: nil,
            recipients: [Mailbox(localPart: "b", domain: "x.test"), Mailbox(localPart: "c", domain: "y.test")],
            received: now, client: ClientInfo(address: "192.0.2.7", name: "c", protocolWord: "ESMTPSA", login: "alice"))
        let steps: [PolicyStep] =
            [.immediate(DatePolicy()), .immediate(MessageIDPolicy()), .immediate(ReceivedPolicy())]
            + [.immediate(DomainSplitPolicy())] + policies.map { .waiting($0) }
        let chain = PolicyChain(
            steps, receivedHops: 9,
            signer: MailSigner(keys, logger: log.logger))
        let text = "From: A <a@example.com>\r\nTo: b@x.test\r\nSubject: x\r\n\r\nHi.\r\n"
        var mail = try chain.apply(to: envelope, Message(head: ByteBuffer(string: text)), context)
        try await chain.finish(&mail, context)
        return mail
    }

    @Test func changed() async throws {
        let mail = try await run(
            Filter { mail in
                let head = String(buffer: mail.message.head)
                mail.message.head = ByteBuffer(
                    string: head.replacing("Subject: x", with: "Subject: y").replacing("Hi.", with: "Another body."))
                mail.fieldsAboveReceived = ByteBuffer(string: "X-Top: t\r\n")
                mail.heldReason = "odd"
                return nil
            })
        #expect(mail.envelopes.count == 2 && mail.heldReason == "odd")
        for envelope in mail.envelopes {
            let sent = Sent(envelope, mail.message)
            #expect(sent.text.contains("X-Top: t\r\nReceived: from c"))
            #expect(sent.text.hasSuffix("\r\n\r\nAnother body.\r\n"))
            #expect(sent.verdicts(keys) == [.pass(isTesting: false), .pass(isTesting: false)])
            // It waits for an operator, as long as that takes.
            #expect(try sent.signatures().map(\.expiration) == [nil, nil])
        }
    }

    /// What a filter adds goes where it can go, as what a client sends does, and is signed as it leaves.
    @Test func encoded() async throws {
        let mail = try await run(
            Filter { mail in
                let head = String(buffer: mail.message.head)
                mail.message.head = ByteBuffer(string: head.replacing("Subject: x", with: "Subject: \u{FC}bel"))
                mail.fieldsAboveReceived = ByteBuffer(string: "X-Top: \u{FC}\r\nX-Other: plain\r\n")
                return nil
            })
        #expect(mail.repairs.contains(.encoded) && mail.unrepaired.isEmpty && mail.envelopes.count == 2)
        for envelope in mail.envelopes {
            let sent = Sent(envelope, mail.message)
            #expect(!envelope.smtpUTF8)
            #expect(sent.text.contains("X-Top: =?utf-8?b?w7w=?=\r\nX-Other: plain\r\nReceived: from c"))
            #expect(sent.text.contains("\r\nSubject: =?utf-8?b?w7xiZWw=?=\r\n"))
            #expect(sent.verdicts(keys) == [.pass(isTesting: false), .pass(isTesting: false)])
        }
    }

    /// What a filter has signed stays as it is; what an address needs is known.
    @Test func raw() async throws {
        let signed = try await run(
            Filter { mail in
                let head = String(buffer: mail.message.head)
                mail.message.head = ByteBuffer(string: head.replacing("Subject: x", with: "Subject: \u{FC}bel"))
                mail.fieldsAboveReceived = ByteBuffer(
                    string: "DKIM-Signature: v=1; a=rsa-sha256; d=x.test; s=s; h=from:subject; bh=; b=\r\n")
                return nil
            })
        #expect(signed.unrepaired == [.encoded] && !signed.repairs.contains(.encoded))
        #expect(Sent(signed.envelopes[0], signed.message).text.contains("\r\nSubject: \u{FC}bel\r\n"))
        let international = try await run(
            Filter { mail in
                let head = String(buffer: mail.message.head)
                mail.message.head = ByteBuffer(string: head.replacing("To: b@x.test", with: "To: \u{FC}@x.test"))
                return nil
            })
        #expect(international.envelopes.allSatisfy(\.smtpUTF8) && !international.repairs.contains(.encoded))
    }

    /// New content is converted where that is always wanted, a large one too.
    @Test(arguments: [1, 60_000]) func converted(_ count: Int) async throws {
        let world = try await World([])
        let storage = world.storage
        let mail = try await run(
            Filter { mail in
                let head = String(buffer: mail.message.head)
                let body = String(repeating: "Gr\u{FC}n.\r\n", count: count)
                mail.message.head = ByteBuffer(string: head.replacing("Hi.\r\n", with: body))
                return nil
            }, [SevenBitPolicy(logger: log.logger)], spool: { storage.beginSpool($0) })
        #expect(mail.envelopes.allSatisfy { $0.body == .sevenBit })
        let head = String(buffer: mail.message.head)
        #expect(head.contains("Content-Transfer-Encoding: quoted-printable\r\n"))
        #expect(head.contains("\r\n\r\nGr=C3=BCn.\r\n"))
        #expect((mail.message.rest != nil) == (count > 1))
        await storage.close()
    }

    /// Nothing is signed that is thrown away.
    @Test func discarded() async throws {
        let mail = try await run(Filter { _ in .discarded(by: "f") })
        #expect(mail.discardedBy == "f" && keys.heard.withLock { $0.isEmpty })
        #expect(mail.envelopes.count == 1 && !String(buffer: mail.envelopes[0].prependedFields).contains("DKIM"))
    }
}
