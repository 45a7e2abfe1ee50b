// The contract of policies: what one is given, what it may change, how it refuses. PolicyChain runs them in their order.

internal import NIOCore
package import SlimtaMail
package import SlimtaQueue

/// A message on its way into the queue: what policies look at and change.
package struct PolicyMail: Sendable {
    /// One at first; policies that split make more. They share the message.
    package var envelopes: [Envelope]
    /// Why all of it waits in the queue until an operator releases it; nil: it does not.
    package var heldReason: String?
    /// What was mended in the header.
    package private(set) var repairs: Set<HeaderRepair> = []
    /// What would have been mended, if nobody had signed or stamped it.
    package private(set) var unrepaired: Set<HeaderRepair> = []
    /// Who wants nothing of it kept, though the client hears that all is well; nil: nobody. Policies behind need not work on it.
    package var discardedBy: String?
    /// Whole fields that are to stand above our Received, which comes later.
    private(set) var fieldsAboveReceived = ByteBuffer()
    /// The content as the client sent it, until a policy changes it.
    package private(set) var message: Message
    /// The header of `message`.
    package private(set) var header: HeaderBlock
    /// The rest of a large message with those who saw it coming.
    private let observed: ObservedBody?

    /// A message as it was submitted, with its header scanned.
    package init(envelope: Envelope, message: Message) {
        envelopes = [envelope]
        self.message = message
        observed = message.rest as? ObservedBody
        if let observed { self.message.rest = observed.body }
        header = HeaderBlock(scanning: message.head)
    }

    /// Who has seen the content of a large message while it came; nil: nobody of that kind, or what is behind `message.head` is
    /// no longer what the client sent. What is in `message.head` may have been changed all the same.
    package func observer<Observer: ContentObserver>(_: Observer.Type) -> Observer? {
        guard let observed, observed.body === message.rest else { return nil }
        return observed.observers.lazy.compactMap { $0 as? Observer }.first
    }

    /// Whether the client sent a field named `name` (lower case).
    package func has(_ name: StaticString) -> Bool { header.has(name, in: message.head) }

    /// Puts whole fields on top of the header of each envelope, the first of them uppermost.
    mutating func prepend(_ fields: [String]) {
        guard !fields.isEmpty else { return }
        let fields = fields.joined()
        for index in envelopes.indices { envelopes[index].prepend(fields) }
    }

    /// Notes what was mended, for the log.
    mutating func repaired(_ repair: HeaderRepair) { repairs.insert(repair) }

    /// Notes what was not to be mended.
    mutating func left(_ repair: HeaderRepair) { unrepaired.insert(repair) }

    /// Removes whole fields. The rest of the content stays as it is, octet for octet.
    mutating func remove(_ fields: [HeaderBlock.Field]) { replace(fields.map { ($0.range, "") }) }

    /// The header as it will be below our Received, with what is to stand above that, and what it was found in.
    var wholeHeader: (header: HeaderBlock, octets: ByteBuffer) {
        guard fieldsAboveReceived.readableBytes > 0 else { return (header, message.head) }
        var whole = fieldsAboveReceived
        whole.writeImmutableBuffer(message.head)
        return (HeaderBlock(scanning: whole), whole)
    }

    /// Puts texts in the place of octets of the header, which are given in their order and apart from each other.
    mutating func replace(_ edits: [(octets: Range<Int>, text: String)]) {
        guard !edits.isEmpty else { return }
        message.head = Self.edited(message.head, edits)
        header = HeaderBlock(scanning: message.head)
    }

    /// As ``replace(_:)``, of ``wholeHeader``. No edit is of two fields.
    mutating func replaceInWholeHeader(_ edits: [(octets: Range<Int>, text: String)]) {
        let length = fieldsAboveReceived.readableBytes
        let above = edits.prefix { $0.octets.lowerBound < length }
        if !above.isEmpty { fieldsAboveReceived = Self.edited(fieldsAboveReceived, above) }
        replace(
            edits.dropFirst(above.count).map { edit in
                (edit.octets.lowerBound - length..<edit.octets.upperBound - length, edit.text)
            })
    }

    private static func edited(
        _ buffer: ByteBuffer, _ edits: some Sequence<(octets: Range<Int>, text: String)>
    ) -> ByteBuffer {
        buffer.withUnsafeReadableBytes { octets in
            var edited = ByteBufferAllocator().buffer(capacity: octets.count)
            var offset = 0
            for edit in edits {
                edited.writeBytes(octets[offset..<edit.octets.lowerBound])
                edited.writeString(edit.text)
                offset = edit.octets.upperBound
            }
            edited.writeBytes(octets[offset...])
            return edited
        }
    }

    /// Puts another content in the place of the message, with its header in memory: other fields, or another body, or both. Where
    /// what was behind the head is not behind it any more, ``observer(_:)`` has nothing to say.
    mutating func replace(_ message: Message) {
        self.message = message
        header = HeaderBlock(scanning: message.head)
    }

    /// Puts fields on top that policies have prepended to the envelope, for who is to see one header. Not behind a split.
    mutating func unite() {
        guard let fields = envelopes.first?.prependedFields, fields.readableBytes > 0, envelopes.count == 1 else {
            return
        }
        var head = fields
        head.writeImmutableBuffer(message.head)
        envelopes[0].prependedFields = ByteBuffer()
        replace(Message(head: head, rest: message.rest))
    }

    /// Takes what filters have left of it.
    ///
    /// - Parameter hasEightBit: whether octets above 127 are in what was in memory.
    mutating func take(_ filtered: FilteredMessage, hasEightBit: Bool) {
        guard envelopes.count == 1 else { return }
        replace(filtered.message)
        fieldsAboveReceived = filtered.fieldsAboveReceived
        envelopes[0].sender = filtered.sender
        envelopes[0].recipients = filtered.recipients
        if !envelopes[0].smtpUTF8 {
            envelopes[0].smtpUTF8 =
                filtered.sender?.needsSMTPUTF8 == true || filtered.recipients.contains(where: \.needsSMTPUTF8)
        }
        for (recipient, original) in filtered.originals { envelopes[0].setOriginal(original, of: recipient) }
        for (recipient, conditions) in filtered.notifications {
            envelopes[0].setNotifications(conditions, of: recipient)
        }
        if hasEightBit { envelopes[0].body = .eightBitMIME }
        heldReason = heldReason ?? filtered.heldReason
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
    /// What From and Sender are looked at for; nil: nothing.
    package var senders: HeaderSenders?
    /// Whole fields that rules have for the message: they go above our Received. See ``SubmissionTerms/fields``.
    package var fields: [String] = []
    /// When the message is to leave; nil: at once.
    package var due: Timestamp?
    /// Why the message waits until an operator releases it; nil: it does not. See also ``PolicyMail/heldReason``.
    package var heldReason: String?
    /// Who sees it whole, as the session wants it; nil: nobody.
    package var filter: (any MessageFilter)?
    /// Makes the id of a further envelope at a time, beside one with the same message: the storage's business.
    package var newID: @Sendable (Timestamp, QueueID) -> QueueID
    /// Begins the file of a large message that is written anew, under an id that is not in use: the storage's business; nil:
    /// there is none.
    package var beginSpool: (@Sendable (QueueID) -> any SpoolWriter)?

    /// What holds for one message: all its policies see the same time.
    package init(
        hostname: String, now: Timestamp, zoneOffset: Int, senders: HeaderSenders? = nil,
        newID: @escaping @Sendable (Timestamp, QueueID) -> QueueID,
        beginSpool: (@Sendable (QueueID) -> any SpoolWriter)? = nil
    ) {
        self.hostname = hostname
        self.now = now
        self.zoneOffset = zoneOffset
        self.senders = senders
        self.newID = newID
        self.beginSpool = beginSpool
    }
}

/// Thrown by a policy that does not let a message in: what the client is told.
package struct PolicyRefusal: Error, Hashable, Sendable {
    /// A 4xx or 5xx reply.
    package let reply: Reply
    /// For the log: what the login may send as, if that is the reason.
    package let allowed: String?
    /// For the log: the key that was to sign, if that is the reason.
    package let selector: String?
    /// Why what policies made of the message is kept all the same, held, for whoever looks into it: then it is our fault. nil:
    /// nothing is kept.
    package let keptBecause: String?
    /// For the log: the name of the filter that refuses it; nil: none.
    package let filter: String?

    /// Refuses with `reply`: 4xx if the client may try again, 5xx if it must not.
    package init(
        _ reply: Reply, allowed: String? = nil, selector: String? = nil, keptBecause: String? = nil,
        filter: String? = nil
    ) {
        self.reply = reply
        (self.allowed, self.selector, self.keptBecause, self.filter) = (allowed, selector, keptBecause, filter)
    }
}

/// Runs between an edge and the storage. May change or split envelopes, prepend fields, or refuse the message.
package protocol QueuePolicy: Sendable {
    /// Where it stands among the others.
    var place: PolicyPlace { get }

    /// Looks at a message and changes what it is there to change. It runs on an event loop: it must neither block nor wait.
    func apply(to mail: inout PolicyMail, _ context: PolicyContext) throws(PolicyRefusal)
}

/// As ``QueuePolicy``, for one that asks somebody else: it may wait, and has a limit for that. A chain without one costs
/// nothing more than before: see ``PolicyChain``.
package protocol WaitingPolicy: Sendable {
    /// Where it stands among the others.
    var place: PolicyPlace { get }

    /// Looks at a message and changes what it is there to change.
    func apply(to mail: inout PolicyMail, _ context: PolicyContext) async throws(PolicyRefusal)
}

extension Envelope {
    /// Puts `field`, or several, which end with CRLF, on top of the header.
    mutating func prepend(_ field: String) {
        var fields = ByteBufferAllocator().buffer(capacity: field.utf8.count + prependedFields.readableBytes)
        fields.writeString(field)
        fields.writeImmutableBuffer(prependedFields)
        prependedFields = fields
    }

    /// The same of octets.
    mutating func prepend(_ octets: ByteBuffer) {
        var fields = ByteBufferAllocator().buffer(capacity: octets.readableBytes + prependedFields.readableBytes)
        fields.writeImmutableBuffer(octets)
        fields.writeImmutableBuffer(prependedFields)
        prependedFields = fields
    }
}
