// The contract of policies, and the chain that runs them between an edge and the storage. The composition root builds
// the chain from `[queue] policies`; the submission path runs it on each message.

internal import NIOCore
package import SlimtaMail

/// A message on its way into the queue: what policies look at and change.
package struct PolicyMail: Sendable {
    /// One at first; policies that split make more. They share the message.
    package var envelopes: [Envelope]
    /// The content as the client sent it.
    package private(set) var message: Message
    /// The header of `message`.
    package private(set) var header: HeaderBlock

    package init(envelope: Envelope, message: Message) {
        envelopes = [envelope]
        self.message = message
        header = HeaderBlock(scanning: message.head)
    }

    /// Whether the client sent a field named `name` (lower case).
    package func has(_ name: StaticString) -> Bool { header.has(name, in: message.head) }

    /// Removes whole fields. The rest of the content stays as it is, octet for octet.
    mutating func remove(_ fields: [HeaderBlock.Field]) { replace(fields.map { ($0.range, "") }) }

    /// Puts texts in the place of octets of the header, which are given in their order and apart from each other.
    mutating func replace(_ edits: [(octets: Range<Int>, text: String)]) {
        guard !edits.isEmpty else { return }
        let kept = message.head.withUnsafeReadableBytes { octets in
            var kept = ByteBufferAllocator().buffer(capacity: octets.count)
            var offset = 0
            for edit in edits {
                kept.writeBytes(octets[offset..<edit.octets.lowerBound])
                kept.writeString(edit.text)
                offset = edit.octets.upperBound
            }
            kept.writeBytes(octets[offset...])
            return kept
        }
        message.head = kept
        header = HeaderBlock(scanning: kept)
    }
}

/// What policies know besides the message.
package struct PolicyContext: Sendable {
    /// Our name.
    package var hostname: String
    /// The time of acceptance.
    package var now: Timestamp
    /// What the local zone adds to UTC, in seconds.
    package var zoneOffset: Int
    /// Makes the id of a further envelope at a time, beside one with the same message: the storage's business.
    package var newID: @Sendable (Timestamp, QueueID) -> QueueID

    package init(
        hostname: String, now: Timestamp, zoneOffset: Int, newID: @escaping @Sendable (Timestamp, QueueID) -> QueueID
    ) {
        self.hostname = hostname
        self.now = now
        self.zoneOffset = zoneOffset
        self.newID = newID
    }
}

/// Thrown by a policy that does not let a message in: what the client is told.
package struct PolicyRefusal: Error, Hashable, Sendable {
    /// A 4xx or 5xx reply.
    package let reply: Reply

    package init(_ reply: Reply) { self.reply = reply }
}

/// Runs between an edge and the storage. May change or split envelopes, prepend fields, or refuse the message.
package protocol QueuePolicy: Sendable {
    func apply(to mail: inout PolicyMail, _ context: PolicyContext) throws(PolicyRefusal)
}

/// Policies in their order.
package struct PolicyChain: Sendable {
    private let policies: [any QueuePolicy]

    /// - Parameter policies: as configured. ``ReceivedPolicy`` runs last wherever it stands, since its field names the
    ///   queue id, and a lone recipient, of each envelope that the others make.
    /// - Parameter receivedHops: the most Received fields that a message may have (RFC 5321 section 6.3).
    package init(_ policies: [any QueuePolicy], receivedHops: Int) {
        self.policies =
            [HeaderCheck(receivedHops: receivedHops), BccRemoval()] + policies.filter { !($0 is ReceivedPolicy) }
            + policies.filter { $0 is ReceivedPolicy }
    }

    /// Runs all policies on a message that has just been submitted.
    package func apply(
        to envelope: Envelope, _ message: Message, _ context: PolicyContext
    ) throws(PolicyRefusal) -> PolicyMail {
        var mail = PolicyMail(envelope: envelope, message: message)
        for policy in policies { try policy.apply(to: &mail, context) }
        return mail
    }
}

/// Removes Bcc fields: the other recipients are not to see them (RFC 5322 section 3.6.3). Always second.
struct BccRemoval: QueuePolicy {
    func apply(to mail: inout PolicyMail, _ context: PolicyContext) {
        let head = mail.message.head
        let fields = mail.header.fields(named: "bcc", in: head) + mail.header.fields(named: "resent-bcc", in: head)
        mail.remove(fields.sorted { $0.range.lowerBound < $1.range.lowerBound })
    }
}

extension Envelope {
    /// Puts `field`, which ends with CRLF, on top of the header.
    mutating func prepend(_ field: String) {
        var fields = ByteBufferAllocator().buffer(capacity: field.utf8.count + prependedFields.readableBytes)
        fields.writeString(field)
        fields.writeImmutableBuffer(prependedFields)
        prependedFields = fields
    }
}
