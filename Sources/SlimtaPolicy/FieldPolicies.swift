// The policies that add header fields: date, message_id, received. Fields that are there are left alone.

internal import NIOCore
internal import SlimtaMail

/// `date`: a message without a Date field, or with one that says no time, gets one (RFC 6409 section 8.2). What was there is
/// kept as X-Original-Date. What is sent on keeps the Date that it has.
package struct DatePolicy: QueuePolicy {
    /// It has no settings.
    package init() {}

    /// See ``QueuePolicy/place``.
    package var place: PolicyPlace { .date }

    /// See ``QueuePolicy/apply(to:_:)``; refuses nothing.
    package func apply(to mail: inout PolicyMail, _ context: PolicyContext) {
        let fields = mail.header.fields(named: "date", in: mail.message.head)
        guard !fields.contains(where: { Timestamp(mailDate: $0.value(in: mail.message.head)) != nil }),
            makesRoom(for: fields, "date", fields.isEmpty ? .noDate : .date, in: &mail)
        else { return }
        mail.prepend(["Date: \(context.now.mailDate(offset: context.zoneOffset))\r\n"])
    }
}

/// `message_id`: a message without a Message-ID field, or with one that is none, that we have given to another message, or that
/// is not ASCII though the client did not ask for SMTPUTF8, gets one (RFC 6409 section 8.3). It is the queue id at our name, the same for all envelopes that the message is split into. What
/// was there is kept as X-Original-Message-ID.
package struct MessageIDPolicy: QueuePolicy {
    /// It has no settings.
    package init() {}

    /// See ``QueuePolicy/place``.
    package var place: PolicyPlace { .messageID }

    /// See ``QueuePolicy/apply(to:_:)``; refuses nothing.
    package func apply(to mail: inout PolicyMail, _ context: PolicyContext) {
        let (head, id) = (mail.message.head, mail.envelopes[0].id)
        // One that needs SMTPUTF8 would need it wherever the message goes, and whoever answers it.
        let allowsUTF8 = mail.envelopes[0].smtpUTF8
        let fields = mail.header.fields(named: "message-id", in: head)
        let isRight = fields.contains { field in
            guard let identifier = messageID(field, head) else { return false }
            guard allowsUTF8 || identifier.allSatisfy({ $0 < 0x80 }) else { return false }
            guard let other = queueID(in: identifier, context.hostname), other != id else { return true }
            // What we sent and somebody gave back to us, such as a content filter, is no other message.
            return hasPassed(mail.header, head, as: other, context.hostname)
        }
        guard !isRight, makesRoom(for: fields, "message-id", fields.isEmpty ? .noMessageID : .messageID, in: &mail)
        else { return }
        mail.prepend(["Message-ID: <\(id)@\(context.hostname)>\r\n"])
    }
}

/// Renames fields that are none of their kind, so that a right one can be added: whether it can. Not if a signature of the
/// client's is about them, nor in what is sent on (RFC 5322 section 3.6.6: the fields of the first message stay).
private func makesRoom(
    for fields: [HeaderBlock.Field], _ name: StaticString, _ repair: HeaderRepair, in mail: inout PolicyMail
) -> Bool {
    let head = mail.message.head
    guard HeaderEnvelope.newestResentBlock(mail.header, head).isEmpty else { return false }
    guard !SignedFields(mail.header, head).has(name) else {
        mail.left(repair)
        return false
    }
    mail.replace(fields.map { ($0.range.lowerBound..<$0.range.lowerBound, "X-Original-") })
    mail.repaired(repair)
    return true
}

/// The queue id of a message identifier that we give: two messages are not to have the same.
private func queueID(in identifier: ArraySlice<UInt8>, _ hostname: String) -> QueueID? {
    // A queue id has 32 digits.
    guard identifier.count == 33 + hostname.utf8.count,
        identifier.dropFirst(33).elementsEqual(hostname.utf8, by: { $0.asciiLowercased() == $1.asciiLowercased() })
    else { return nil }
    return QueueID(String(decoding: identifier.prefix(32), as: UTF8.self))
}

/// Whether a header has the Received field that we gave the message with this queue id. One that was split has other ids of
/// the same time.
private func hasPassed(_ header: HeaderBlock, _ head: ByteBuffer, as id: QueueID, _ hostname: String) -> Bool {
    header.fields(named: "received", in: head).contains { field in
        let words = field.value(in: head).split { $0 == 0x20 || $0 == 0x09 || $0 == 0x0D || $0 == 0x0A || $0 == 0x3B }
            .map { String(decoding: $0, as: UTF8.self) }
        guard let by = words.indices.first(where: { words[$0...].starts(with: ["by", hostname, "(slimtad)"]) }),
            let place = words[by...].firstIndex(of: "id"), place + 1 < words.endIndex,
            let other = QueueID(words[place + 1])
        else { return false }
        return other == id || other.high >> 16 == id.high >> 16
    }
}

/// What is between "<" and ">" in the value of a field that is a message identifier: left "@" right, with blanks and comments
/// around (RFC 5322 section 3.6.4); nil: it is none. What programs write on the left and the right is theirs, as long as it is
/// not nothing.
private func messageID(_ field: HeaderBlock.Field, _ head: ByteBuffer) -> ArraySlice<UInt8>? {
    head.withUnsafeReadableBytes { octets in
        let (start, end) = (field.name.upperBound, field.range.upperBound)
        guard let colon = octets.firstOffset(of: UInt8(ascii: ":"), from: start, to: end) else { return nil }
        var id: [UInt8] = []
        var depth = 0
        for octet in octets[(colon + 1)..<end] {
            let isInside = id.first == UInt8(ascii: "<") && id.last != UInt8(ascii: ">")
            switch octet {
            case UInt8(ascii: " "), UInt8(ascii: "\t"), UInt8(ascii: "\r"), UInt8(ascii: "\n"): continue
            case UInt8(ascii: "(") where !isInside: depth += 1
            case UInt8(ascii: ")") where !isInside && depth > 0: depth -= 1
            default: if depth == 0 { id.append(octet) }
            }
        }
        guard id.count >= 5, id.first == UInt8(ascii: "<"), id.last == UInt8(ascii: ">") else { return nil }
        let inner = id.dropFirst().dropLast()
        guard !inner.contains(UInt8(ascii: "<")), !inner.contains(UInt8(ascii: ">")),
            let at = inner.lastIndex(of: UInt8(ascii: "@"))
        else { return nil }
        return at > inner.startIndex && at < inner.endIndex - 1 ? inner : nil
    }
}

/// `received`: the trace field of RFC 5321 section 4.4.
package struct ReceivedPolicy: QueuePolicy {
    private let hidesClient: Bool

    /// - Parameter hidesClient: whether the client's name and address are left out: who sends from home tells everybody
    ///   where that is.
    package init(hidesClient: Bool = false) { self.hidesClient = hidesClient }

    /// See ``QueuePolicy/place``.
    package var place: PolicyPlace { .received }

    /// See ``QueuePolicy/apply(to:_:)``; refuses nothing.
    package func apply(to mail: inout PolicyMail, _ context: PolicyContext) {
        for index in mail.envelopes.indices {
            let field = Self.field(for: mail.envelopes[index], context, hidesClient: hidesClient)
            mail.envelopes[index].prepend(field)
        }
    }

    /// The field of one envelope.
    static func field(for envelope: Envelope, _ context: PolicyContext, hidesClient: Bool = false) -> String {
        let client = envelope.client
        // Relays owe it (RFC 5321 section 4.4); a submission agent may leave it out.
        var field = hidesClient ? "Received: " : "Received: from \(clientText(client))\r\n\t"
        field += "by \(context.hostname) (slimtad) with \(client.protocolWord)"
        if let tls = client.tls { field += "\r\n\t(\(tls.version) \(tls.cipher))" }
        field += "\r\n\tid \(envelope.id)"
        // Only a lone recipient: several would be told of each other.
        // In A-labels, or the field alone would make the message one for SMTPUTF8 only.
        if envelope.recipients.count == 1 { field += "\r\n\tfor <\(envelope.recipients[0].forNextHop)>" }
        return field + ";\r\n\t\(context.now.mailDate(offset: context.zoneOffset))\r\n"
    }

    /// What it called itself, and where it is: an address literal (RFC 5321 section 4.1.3), of IPv6 with a tag.
    private static func clientText(_ client: ClientInfo) -> String {
        let name = client.name.isEmpty ? "unknown" : client.name.asClientName
        if client.address.isEmpty { return "\(name) (local)" }
        let tag = client.address.utf8.contains(UInt8(ascii: ":")) ? "IPv6:" : ""
        return "\(name) ([\(tag)\(client.address)])"
    }
}
