// The policies that add header fields: date, message_id, received. Fields that are there are left alone.

internal import SlimtaMail

/// `date`: a message without a Date field gets one (RFC 6409 section 8.2).
package struct DatePolicy: QueuePolicy {
    package init() {}

    package func apply(to mail: inout PolicyMail, _ context: PolicyContext) {
        guard !mail.has("date") else { return }
        let field = "Date: \(context.now.mailDate(offset: context.zoneOffset))\r\n"
        for index in mail.envelopes.indices { mail.envelopes[index].prepend(field) }
    }
}

/// `message_id`: a message without a Message-ID field gets one (RFC 6409 section 8.3). It is the queue id at our name,
/// the same for all envelopes that the message is split into.
package struct MessageIDPolicy: QueuePolicy {
    package init() {}

    package func apply(to mail: inout PolicyMail, _ context: PolicyContext) {
        guard !mail.has("message-id") else { return }
        let field = "Message-ID: <\(mail.envelopes[0].id)@\(context.hostname)>\r\n"
        for index in mail.envelopes.indices { mail.envelopes[index].prepend(field) }
    }
}

/// `received`: the trace field of RFC 5321 section 4.4.
package struct ReceivedPolicy: QueuePolicy {
    package init() {}

    package func apply(to mail: inout PolicyMail, _ context: PolicyContext) {
        for index in mail.envelopes.indices {
            mail.envelopes[index].prepend(Self.field(for: mail.envelopes[index], context))
        }
    }

    private static func field(for envelope: Envelope, _ context: PolicyContext) -> String {
        let client = envelope.client
        var field = "Received: from \(client.name.isEmpty ? "unknown" : client.name)"
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
        if envelope.recipients.count == 1 { field += "\r\n\tfor <\(envelope.recipients[0])>" }
        return field + ";\r\n\t\(context.now.mailDate(offset: context.zoneOffset))\r\n"
    }
}
