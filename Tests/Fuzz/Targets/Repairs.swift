// Headers as clients of any kind write them, through all that a submission agent mends in one (RFC 6409 section 8).

import NIOCore
import SlimtaMail

@testable import SlimtaPolicy

extension FuzzTarget {
    /// A message that comes in; the first octet says with which settings. It is refused, or its header is one that everybody
    /// reads alike, its body is the client's, and nothing is left to be mended.
    static let repair = FuzzTarget(name: "repair", maximumLength: 2000) { input in
        let settings = input.first ?? 0
        let octets = Array(input.dropFirst())
        let (now, id) = (Timestamp(milliseconds: 1_795_255_200_000), QueueID(at: Timestamp(milliseconds: 0)))
        let chain = PolicyChain(
            [DatePolicy(), MessageIDPolicy()], receivedHops: 20, duplicates: settings & 1 == 0 ? .refuse : .first,
            qualify: settings & 2 == 0 ? nil : "example.com")
        let context = PolicyContext(
            hostname: "mail.example.com", now: now, zoneOffset: 0, newID: { time, _ in QueueID(at: time) })
        let envelope = Envelope(
            id: id, sender: settings & 4 == 0 ? Mailbox(localPart: "a", domain: "example.com") : nil,
            recipients: [Mailbox(localPart: "b", domain: "example.org")], received: now, smtpUTF8: settings & 8 != 0,
            client: ClientInfo(address: "192.0.2.7", name: "laptop", protocolWord: "ESMTPSA"))
        func mended(_ octets: [UInt8]) throws -> PolicyMail? {
            do throws(PolicyRefusal) {
                return try chain.apply(to: envelope, Message(head: ByteBuffer(bytes: octets)), context)
            } catch {
                try hold(error.reply.isTemporary || error.reply.isPermanent, "\(error)")
                return nil
            }
        }
        guard let mail = try mended(octets) else { return }
        let whole = stored(mail)
        let header = HeaderBlock(scanning: whole)
        try hold(header.isWellFormed, "what is behind the header is no body")
        for name in single where !header.has("dkim-signature", in: whole) {
            try hold(header.fields(named: name, in: whole).count <= 1, "several \(name) fields")
        }
        try hold(header.has("from", in: whole), "no From")
        for name in ["bcc", "resent-bcc"] as [StaticString] { try hold(!header.has(name, in: whole), "\(name)") }
        let given = HeaderBlock(scanning: ByteBuffer(bytes: octets))
        if given.isComplete, given.isWellFormed {
            try same(
                Array(whole.readableBytesView.dropFirst(header.end)), Array(octets.dropFirst(given.end)), "the body")
        }
        let again = try mended(Array(whole.readableBytesView))
        try hold(again != nil, "what was mended is refused")
        // What is not ASCII is encoded behind other repairs than that of addresses, and may be readable for them only then.
        guard octets.allSatisfy({ $0 < 0x80 }) else {
            return try hold(again?.repairs.contains(.qualified) != true, "completed when it comes again")
        }
        try hold(again?.repairs.isEmpty == true, "mended again: \(again.map { "\($0.repairs)" } ?? "")")
        try same(again.map(stored), whole, "the message when it comes again")
    }

    /// Fields of which a header may have one (RFC 5322 section 3.6).
    private static let single: [StaticString] = [
        "date", "from", "sender", "reply-to", "to", "cc", "message-id", "in-reply-to", "references", "subject",
        "content-type", "content-transfer-encoding", "content-disposition", "mime-version",
    ]
}

/// The message as it would be stored.
private func stored(_ mail: PolicyMail) -> ByteBuffer {
    var whole = mail.envelopes[0].prependedFields
    whole.writeImmutableBuffer(mail.message.head)
    return whole
}
