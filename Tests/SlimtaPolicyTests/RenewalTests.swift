// Mail that has waited: what signatures it leaves with.

import Logging
import NIOCore
import SlimtaDKIM
import SlimtaMail
import SlimtaQueue
import Synchronization
import Testing

@testable import SlimtaPolicy

private let now = Timestamp(milliseconds: 1_795_877_839_000)
private let text = "From: A <a@news.example.com>\r\nTo: b@x.test\r\nSubject: x\r\n\r\nHi.\r\n"

/// Signatures of MemoryKeys count for 1000 seconds.
@Suite struct RenewalTests {
    private let keys: MemoryKeys
    private let log = KeptEvents()
    private let signer: MailSigner

    init() throws {
        keys = try MemoryKeys()
        signer = MailSigner(keys, logger: log.logger)
    }

    /// A message as it was accepted.
    private func stored(_ text: String = text, isHeld: Bool = false) async throws -> (Envelope, Message) {
        let envelope = Envelope(
            id: QueueID(high: 1, low: 1), sender: nil, recipients: [Mailbox(parsing: "b@x.test")!], received: now,
            client: ClientInfo(address: "192.0.2.7", name: "c", protocolWord: "ESMTPSA", login: "alice"))
        var context = PolicyContext(
            hostname: "mail.example.com", now: now, zoneOffset: 0, newID: { time, _ in QueueID(at: time) })
        context.heldReason = isHeld ? "a rule" : nil
        let chain = PolicyChain([DatePolicy(), MessageIDPolicy(), ReceivedPolicy()], receivedHops: 9, signer: signer)
        var mail = try chain.apply(to: envelope, Message(head: ByteBuffer(string: text)), context)
        try await chain.finish(&mail, context)
        keys.heard.withLock { $0 = [] }
        return (mail.envelopes[0], mail.message)
    }

    private func renewed(_ stored: (Envelope, Message), after wait: Duration) async -> (Sent, Timestamp)? {
        guard case .renewed(let envelope) = await signer.renewal(of: stored.0, stored.1, at: now + wait) else {
            return nil
        }
        return (Sent(envelope, stored.1), now + wait)
    }

    /// When half of their time is over, there are two new ones in the place of the two, and all else is as it was.
    @Test func whatHasRunOut() async throws {
        let stored = try await stored()
        let old = Sent(stored.0, stored.1)
        #expect(await renewed(stored, after: .zero) == nil)
        #expect(await renewed(stored, after: .seconds(500)) == nil)
        for wait in [501, 1000, 86400 * 100] {
            let (sent, time) = try #require(await renewed(stored, after: .seconds(wait)))
            #expect(sent.verdicts(keys) == [.pass(isTesting: false), .pass(isTesting: false)])
            let signatures = try sent.signatures()
            #expect(signatures.map(\.algorithm) == [.rsaSHA256, .ed25519SHA256])
            #expect(signatures.allSatisfy { $0.time == time.seconds && $0.expiration == time.seconds + 1000 })
            #expect(sent.header.fields.dropFirst(2).map(\.octets) == old.header.fields.dropFirst(2).map(\.octets))
            // The record of the key has to stay for them.
            #expect(keys.heard.withLock { $0.last?.time } == time)
        }
        #expect(log.lines("message is signed anew").count == 3)
    }

    /// What is signed for ever, by keys that are gone; one is enough.
    @Test(arguments: ["r1", "e1"]) func keysThatAreGone(_ selector: String) async throws {
        let stored = try await stored(isHeld: true)
        #expect(await renewed(stored, after: .seconds(86400 * 100)) == nil)
        keys.gone.withLock { $0 = [selector] }
        let (sent, _) = try #require(await renewed(stored, after: .seconds(86400 * 100)))
        #expect(sent.verdicts(keys) == [.pass(isTesting: false), .pass(isTesting: false)])
        #expect(sent.header.fields.count { $0.name == "dkim-signature" } == 2)
    }

    /// Other people's signatures are theirs, and what is not signed stays so.
    @Test func whatIsNotOurs() async throws {
        let theirs =
            "DKIM-Signature: v=1; a=rsa-sha256; d=other.test; s=r1; t=1; x=2; h=from;\r\n"
            + " bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=; b=AAAA\r\n"
        let (envelope, message) = try await stored(theirs + text)
        let (sent, _) = try #require(await renewed((envelope, message), after: .seconds(5000)))
        #expect(try sent.signatures().map(\.domain) == ["example.com", "example.com", "other.test"])
        var unsigned = envelope
        unsigned.prependedFields = ByteBuffer(
            string: "Received: x\r\n" + theirs.replacing("other.test", with: "example.com"))
        #expect(await renewed((unsigned, message), after: .seconds(5000)) == nil)
        unsigned.prependedFields = ByteBuffer()
        #expect(await renewed((unsigned, message), after: .seconds(5000)) == nil)
    }

    /// No key may sign, or what was made does not hold: it waits. Whose author is none of ours any more leaves as it is.
    @Test func whatCannotBe() async throws {
        let stored = try await stored()
        func renewal() async -> SignatureRenewal {
            await signer.renewal(of: stored.0, stored.1, at: now + .seconds(5000))
        }
        keys.choice.withLock { $0 = .closed(nil) }
        guard case .impossible = await renewal() else { return #expect(Bool(false), "a closed gate") }
        keys.useDomain("localhost")
        guard case .impossible = await renewal() else { return #expect(Bool(false), "a signature that does not hold") }
        #expect(log.lines("message cannot be signed anew").count == 2 && keys.heard.withLock { $0.isEmpty })
        keys.useDomain("example.com")
        keys.otherwise.withLock { $0 = .domain("example.com") }
        let other = try await self.stored("From: a@other.test\r\n\r\nHi.\r\n")
        keys.otherwise.withLock { $0 = .unsigned }
        #expect(await renewed(other, after: .seconds(5000)) == nil)
        #expect(log.lines("message cannot be signed anew").count == 3)
    }
}
