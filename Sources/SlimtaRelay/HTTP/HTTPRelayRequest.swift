// One message on its way over HTTP: the request that the protocol of the ancestor's manual has for it. Made by HTTPRelay for
// some recipients of a delivery at a time.

import NIOCore
import SlimtaCrypto
import SlimtaMail
import SlimtaNet
import SlimtaQueue

/// What of a delivery is the same for all requests that are made for it.
struct HTTPRelayRequest: Sendable {
    /// Recipients of one request: RFC 5321 section 4.5.3.1.8 has as many in a transaction, and servers have limits for fields.
    private static let mostRecipients = 100
    /// Octets of their fields' values in one request: many servers take 16 KiB of fields at most.
    private static let mostOctets = 8 << 10

    let id: QueueID
    let size: Int
    private var fields: [(name: String, value: String)]
    private let recipients: [Mailbox]
    private let sender: String
    private let prepended: ByteBuffer
    private let message: Message

    /// - Parameter login: the value of Authorization; nil: none.
    init(_ delivery: Delivery, hostname: String, login: String?) {
        let envelope = delivery.envelope
        id = envelope.id
        prepended = envelope.prependedFields
        message = delivery.message
        size = prepended.readableBytes + message.size
        sender = envelope.sender?.forNextHop.text ?? ""
        recipients = envelope.recipients.map(\.forNextHop)
        fields = [
            ("Content-Type", "message/rfc822"), ("X-Ehlo", hostname),
            ("X-Envelope-Sender", Base64.encode(sender.utf8)),
        ]
        if let login { fields.append(("Authorization", login)) }
    }

    /// Which request each recipient of the envelope is in. It is the same at every attempt, whoever is delivered already:
    /// a request that is made again has its recipients, and so its key.
    var parts: [Int] {
        var (part, count, octets) = (0, 0, 0)
        return recipients.map { recipient in
            let length = recipient.text.utf8.count * 4 / 3 + 32
            if count == Self.mostRecipients || count > 0 && octets + length > Self.mostOctets {
                (part, count, octets) = (part + 1, 0, 0)
            }
            (count, octets) = (count + 1, octets + length)
            return part
        }
    }

    /// The request for these recipients of the envelope, by their index.
    func question(_ target: String, for indices: [Int]) -> HTTPQuestion {
        let addresses = indices.map { recipients[$0].text }
        var fields = fields
        for address in addresses { fields.append(("X-Envelope-Recipient", Base64.encode(address.utf8))) }
        fields.append(("Idempotency-Key", "\"\(key(addresses))\""))
        var body = prepended
        body.writeImmutableBuffer(message.head)
        return HTTPQuestion(
            "POST", target, fields, body: body,
            stream: message.rest.map { rest in
                HTTPRequestStream(length: Int(rest.reference.length)) {
                    let reader = rest.makeReader()
                    return { try await reader.next(65_536) }
                }
            })
    }

    /// What names the request at every attempt (draft-ietf-httpapi-idempotency-key-header): a digest of the queue id and the
    /// recipients, and of what policies for this way may put before the message or do to the sender. A server that has seen
    /// the key with something else refuses the message for good, though it has it: something else has another key.
    private func key(_ addresses: [String]) -> String {
        var digest = IncrementalDigest(.sha256)
        for part in ["\(id)", sender] + addresses { digest.update(Array(part.utf8) + [0]) }
        digest.update(prepended.readableBytesView)
        return digest.finish().map { String(hexadecimal: $0, digits: 2) }.joined()
    }
}
