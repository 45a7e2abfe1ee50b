// How receipts are written down: on disk, in a database and in memory, octet for octet the same.

package import SlimtaMail
package import SlimtaQueue

/// A receipt:
///
///     1 key (32)  2 owner (16)  3 fingerprint (32)  4 id that the client was told  5 when it expires; none: when it is told to
///     6 the answer  7 envelope, once for each, in order: { 1 id  2 recipient, once for each  3 delivered, bounced, expired,
///     removed (4 each), once it has left the queue }
///
/// A recipient is its fate (1 octet), the length of the address (4), address, last reply.
package enum ReceiptCodec {
    /// Appends the fields of `receipt`.
    package static func encode(_ receipt: Receipt, into output: OutputBuffer) {
        output.field(1, receipt.key)
        let owner = output.field(2, size: 16)
        owner.store(receipt.owner.high)
        owner.store(receipt.owner.low, at: 8)
        output.field(3, receipt.fingerprint)
        output.field(4, receipt.id)
        if let expires = receipt.expires { output.field(5, expires.milliseconds) }
        if !receipt.answer.isEmpty { receipt.answer.withUnsafeBytes { output.field(6, $0) } }
        for part in receipt.envelopes {
            let envelope = output.begin(7)
            output.field(1, part.id)
            for recipient in part.recipients { encode(recipient, into: output) }
            if let fates = part.fates {
                let field = output.begin(3)
                for count in [fates.delivered, fates.bounced, fates.expired, fates.removed] { output.append(count) }
                output.end(field)
            }
            output.end(envelope)
        }
    }

    private static func encode(_ recipient: Receipt.Recipient, into output: OutputBuffer) {
        let field = output.begin(2)
        output.append(recipient.fate.rawValue)
        output.append(UInt32(recipient.address.utf8.count))
        output.append(recipient.address)
        output.append(recipient.reply)
        output.end(field)
    }

    /// Reads what `encode` wrote.
    package static func decode(_ octets: UnsafeRawBufferPointer) throws(FormatError) -> Receipt {
        var key: Receipt.Digest?
        var owner: Receipt.Owner?
        var fingerprint: Receipt.Digest?
        var id: QueueID?
        var expires: Timestamp?
        var answer: [UInt8] = []
        var envelopes: [Receipt.Part] = []
        var cursor = InputCursor(octets)
        while let field = try cursor.field() {
            switch field.tag {
            case 1: key = try field.digest()
            case 2:
                guard field.value.count == 16 else { throw FormatError("owner") }
                owner = Receipt.Owner(high: field.value.number(at: 0), low: field.value.number(at: 8))
            case 3: fingerprint = try field.digest()
            case 4: id = try field.id()
            case 5: expires = Timestamp(milliseconds: try field.number())
            case 6: answer = Array(field.value)
            case 7: envelopes.append(try part(field.cursor))
            default: break  // from a newer version
            }
        }
        guard let key, let owner, let fingerprint, let id else { throw FormatError("receipt") }
        var receipt = Receipt(
            key: key, owner: owner, fingerprint: fingerprint, id: id, answer: answer, expires: expires)
        receipt.envelopes = envelopes
        return receipt
    }

    private static func part(_ cursor: InputCursor) throws(FormatError) -> Receipt.Part {
        var cursor = cursor
        var id: QueueID?
        var recipients: [Receipt.Recipient] = []
        var fates: Fates?
        while let field = try cursor.field() {
            switch field.tag {
            case 1: id = try field.id()
            case 2:
                var recipient = field.cursor
                guard let fate = RecipientState.Fate(rawValue: try recipient.number()) else {
                    throw FormatError("fate")
                }
                let length: UInt32 = try recipient.number()
                let address = try recipient.octets(Int(length))
                recipients.append(
                    Receipt.Recipient(
                        address: String(decoding: address, as: UTF8.self), fate: fate,
                        reply: String(decoding: recipient.rest, as: UTF8.self)))
            case 3:
                var numbers = field.cursor
                var found = Fates()
                (found.delivered, found.bounced) = (try numbers.number(), try numbers.number())
                (found.expired, found.removed) = (try numbers.number(), try numbers.number())
                fates = found
            default: break
            }
        }
        guard let id else { throw FormatError("envelope of a receipt") }
        return Receipt.Part(id: id, recipients: recipients, fates: fates)
    }
}

/// What the index needs of a receipt.
package struct ReceiptOutline {
    /// What it is found by.
    package var key: Receipt.Digest
    /// Whose it is.
    package var owner: Receipt.Owner
    /// The id that the client was told.
    package var id: QueueID
    /// When it may be forgotten; nil: when that is said.
    package var expires: Timestamp?
    /// The ids of its envelopes, in their order.
    package var envelopes: [QueueID]
}

/// A receipt as it is written down, and what the index needs of it.
package struct ReceiptRecord {
    /// What is needed of it without reading it anew.
    package let outline: ReceiptOutline
    /// As it is written down.
    package let octets: [UInt8]

    /// As it was read; throws if it is none.
    package init(_ octets: UnsafeRawBufferPointer) throws(FormatError) {
        outline = try ReceiptCodec.decode(octets).outline
        self.octets = Array(octets)
    }

    /// As it is to be written.
    package init(_ receipt: Receipt) {
        let output = OutputBuffer(capacity: OutputBuffer.page)
        ReceiptCodec.encode(receipt, into: output)
        octets = output.array
        outline = receipt.outline
    }

    /// Whether it may be forgotten.
    package func isExpired(at now: Timestamp) -> Bool { outline.expires.map { $0 <= now } ?? false }

    /// All of it.
    package func receipt() throws(FormatError) -> Receipt {
        let result: Result<Receipt, FormatError> = octets.withUnsafeBytes { octets in
            do throws(FormatError) { return .success(try ReceiptCodec.decode(octets)) } catch { return .failure(error) }
        }
        return try result.get()
    }
}

extension Receipt {
    fileprivate var outline: ReceiptOutline {
        ReceiptOutline(key: key, owner: owner, id: id, expires: expires, envelopes: envelopes.map(\.id))
    }
}

/// How each recipient of an envelope ended that has a receipt, beside the record of its end: id (16), then for each its fate
/// (1 octet), the length of its last reply (4), that.
package enum OutcomeCodec {
    /// Appends how the recipients of `ending` ended as a field.
    package static func encode(_ ending: Ending, tag: UInt8, into output: OutputBuffer) {
        let start = output.begin(tag)
        output.append(ending.id.high)
        output.append(ending.id.low)
        for recipient in ending.recipients {
            let reply = recipient.reply.cut(toOctets: Receipt.replyLimit)
            output.append(recipient.fate.rawValue)
            output.append(UInt32(reply.utf8.count))
            output.append(reply)
        }
        output.end(start)
    }

    /// Reads what `encode` wrote.
    package static func decode(_ field: Field) throws(FormatError) -> (QueueID, [RecipientState]) {
        var cursor = field.cursor
        let id = QueueID(high: try cursor.number(), low: try cursor.number())
        var recipients: [RecipientState] = []
        while !cursor.isAtEnd {
            guard let fate = RecipientState.Fate(rawValue: try cursor.number()) else { throw FormatError("fate") }
            let length: UInt32 = try cursor.number()
            let reply = try cursor.octets(Int(length))
            recipients.append(RecipientState(fate: fate, reply: String(decoding: reply, as: UTF8.self)))
        }
        return (id, recipients)
    }
}

extension OutputBuffer {
    /// A field with a digest: its four numbers.
    package func field(_ tag: UInt8, _ digest: Receipt.Digest) {
        let value = field(tag, size: 32)
        value.store(digest.a)
        value.store(digest.b, at: 8)
        value.store(digest.c, at: 16)
        value.store(digest.d, at: 24)
    }
}

extension Field {
    /// The digest that is all of it.
    package func digest() throws(FormatError) -> Receipt.Digest {
        guard value.count == 32 else { throw FormatError("digest") }
        return Receipt.Digest(
            value.number(at: 0), value.number(at: 8), value.number(at: 16), value.number(at: 24))
    }
}
