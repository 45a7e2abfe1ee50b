// The policies that add header fields: date, message_id, received. Fields that are there are left alone.

internal import NIOCore
internal import SlimtaMail

/// `date`: a message without a Date field gets one (RFC 6409 section 8.2).
package struct DatePolicy: QueuePolicy {
    /// It has no settings.
    package init() {}

    /// See ``QueuePolicy/apply(to:_:)``; refuses nothing.
    package func apply(to mail: inout PolicyMail, _ context: PolicyContext) {
        guard !mail.has("date") else { return }
        let field = "Date: \(context.now.mailDate(offset: context.zoneOffset))\r\n"
        for index in mail.envelopes.indices { mail.envelopes[index].prepend(field) }
    }
}

/// `message_id`: a message without a Message-ID field, or with one that is none, gets one (RFC 6409 section 8.3). It is the
/// queue id at our name, the same for all envelopes that the message is split into. What was there is kept as
/// X-Original-Message-ID.
package struct MessageIDPolicy: QueuePolicy {
    /// It has no settings.
    package init() {}

    /// See ``QueuePolicy/apply(to:_:)``; refuses nothing.
    package func apply(to mail: inout PolicyMail, _ context: PolicyContext) {
        let fields = mail.header.fields(named: "message-id", in: mail.message.head)
        guard !fields.contains(where: { isMessageID($0, mail.message.head) }) else { return }
        if !fields.isEmpty {
            // A signature of the client's may be about it.
            if mail.has("dkim-signature") { return }
            mail.replace(fields.map { ($0.range.lowerBound..<$0.range.lowerBound, "X-Original-") })
        }
        let field = "Message-ID: <\(mail.envelopes[0].id)@\(context.hostname)>\r\n"
        for index in mail.envelopes.indices { mail.envelopes[index].prepend(field) }
    }
}

/// Whether the value of a field is a message identifier: "<" left "@" right ">" with blanks and comments around (RFC 5322
/// section 3.6.4). What programs write on the left and the right is theirs, as long as it is not nothing.
private func isMessageID(_ field: HeaderBlock.Field, _ head: ByteBuffer) -> Bool {
    head.withUnsafeReadableBytes { octets in
        let (start, end) = (field.name.upperBound, field.range.upperBound)
        guard let colon = octets.firstOffset(of: UInt8(ascii: ":"), from: start, to: end) else { return false }
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
        guard id.count >= 5, id.first == UInt8(ascii: "<"), id.last == UInt8(ascii: ">") else { return false }
        let inner = id.dropFirst().dropLast()
        guard !inner.contains(UInt8(ascii: "<")), !inner.contains(UInt8(ascii: ">")),
            let at = inner.lastIndex(of: UInt8(ascii: "@"))
        else { return false }
        return at > inner.startIndex && at < inner.endIndex - 1
    }
}

/// `received`: the trace field of RFC 5321 section 4.4.
package struct ReceivedPolicy: QueuePolicy {
    /// It has no settings.
    package init() {}

    /// See ``QueuePolicy/apply(to:_:)``; refuses nothing.
    package func apply(to mail: inout PolicyMail, _ context: PolicyContext) {
        for index in mail.envelopes.indices {
            mail.envelopes[index].prepend(Self.field(for: mail.envelopes[index], context))
        }
    }

    /// The field of one envelope.
    static func field(for envelope: Envelope, _ context: PolicyContext) -> String {
        let client = envelope.client
        var field = "Received: from \(client.name.isEmpty ? "unknown" : client.name.asClientName)"
        if client.address.isEmpty {
            field += " (local)"
        } else {
            // An address literal (section 4.1.3): IPv6 has a tag.
            field +=
                client.address.utf8.contains(UInt8(ascii: ":"))
                ? " ([IPv6:\(client.address)])" : " ([\(client.address)])"
        }
        field += "\r\n\tby \(context.hostname) (slimtad) with \(client.protocolWord)"
        if let tls = client.tls { field += "\r\n\t(\(tls.version) \(tls.cipher))" }
        field += "\r\n\tid \(envelope.id)"
        // Only a lone recipient: several would be told of each other.
        // In A-labels, or the field alone would make the message one for SMTPUTF8 only.
        if envelope.recipients.count == 1 { field += "\r\n\tfor <\(envelope.recipients[0].forNextHop)>" }
        return field + ";\r\n\t\(context.now.mailDate(offset: context.zoneOffset))\r\n"
    }
}
