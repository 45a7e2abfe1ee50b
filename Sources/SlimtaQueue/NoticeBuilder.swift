// Messages to senders: what could not be delivered (RFC 3464 bounces) and what is delayed. Made by AttemptResolution.

internal import NIOCore
package import SlimtaMail

/// A message of ours: an envelope with the null reverse-path and its content.
package struct Notice: Sendable {
    package let envelope: Envelope
    package let message: Message
}

/// Writes delivery status notifications (RFC 3461, 3464, 6522, 6533).
package struct NoticeBuilder: Sendable {
    /// A recipient that a notice tells of.
    package struct Recipient: Sendable {
        package let mailbox: Mailbox
        package let outcome: Outcome
        /// Whether time ran out, rather than somebody refused.
        package let isExpired: Bool
    }

    /// The most octets of an original that is returned whole; of a larger one only the header.
    package static let wholeLimit = 64 * 1024

    /// Our name: Reporting-MTA, From.
    private let hostname: String
    /// What the local zone adds to UTC, in seconds.
    private let zoneOffset: Int

    package init(hostname: String, zoneOffset: Int) {
        self.hostname = hostname
        self.zoneOffset = zoneOffset
    }

    /// A bounce.
    func failure(of stored: StoredEnvelope, to sender: Mailbox, recipients: [Recipient], now: Timestamp) -> Notice {
        var text = "This is the mail system at \(hostname).\r\n\r\n"
        text += "Your message could not be delivered to "
        text += recipients.count == 1 ? "this recipient:\r\n" : "these \(recipients.count) recipients:\r\n"
        for recipient in recipients {
            text += "\r\n  <\(recipient.mailbox)>\r\n" + explanation(recipient)
        }
        text += "\r\nIt will not be tried again. "
        if stored.isRemains {
            text += "The message cannot be returned: please send it again.\r\n"
        } else {
            text += "The message is returned below"
            text += returnsWhole(stored) ? ".\r\n" : ", only its header since it is large.\r\n"
        }
        return notice(
            about: stored, to: sender, recipients, subject: "Undelivered Mail Returned to Sender", text: text,
            action: "failed", extraFields: "", isWhole: returnsWhole(stored), now: now)
    }

    /// A notice that delivery takes longer than usual.
    func delay(
        of stored: StoredEnvelope, to sender: Mailbox, recipients: [Recipient], until end: Timestamp, now: Timestamp
    ) -> Notice {
        var text = "This is the mail system at \(hostname).\r\n\r\n"
        text += "Your message could not be delivered yet to "
        text += recipients.count == 1 ? "this recipient:\r\n" : "these \(recipients.count) recipients:\r\n"
        for recipient in recipients {
            text += "\r\n  <\(recipient.mailbox)>\r\n" + explanation(recipient)
        }
        let date = end.mailDate(offset: zoneOffset)
        text += "\r\nIt will be tried again until \(date).\r\nYou need not do anything.\r\n"
        return notice(
            about: stored, to: sender, recipients, subject: "Delayed Mail (still being retried)", text: text,
            action: "delayed", extraFields: "Will-Retry-Until: \(date)\r\n", isWhole: false, now: now)
    }

    /// Who said what, in plain words.
    private func explanation(_ recipient: Recipient) -> String {
        let reply = oneLine(recipient.outcome.reply.description)
        var text = recipient.isExpired ? "    It was tried for as long as we try. The last answer was:\r\n" : ""
        if recipient.outcome.isRemote {
            text += "    \(oneLine(recipient.outcome.relay ?? "The remote host")) said:\r\n    \(reply)\r\n"
        } else if let relay = recipient.outcome.relay {
            text += "    \(oneLine(relay)): \(reply)\r\n"
        } else {
            text += "    \(reply)\r\n"
        }
        return text
    }

    private func returnsWhole(_ stored: StoredEnvelope) -> Bool {
        stored.message.rest == nil && !stored.isRemains
            && stored.message.size + stored.envelope.prependedFields.readableBytes <= Self.wholeLimit
            && !hasLongLine(stored.message.head)
    }

    private func notice(
        about stored: StoredEnvelope, to sender: Mailbox, _ recipients: [Recipient], subject: String, text: String,
        action: String, extraFields: String, isWhole: Bool, now: Timestamp
    ) -> Notice {
        let id = QueueID(at: now)
        let date = now.mailDate(offset: zoneOffset)
        let isUTF8 = sender.needsSMTPUTF8 || recipients.contains { $0.mailbox.needsSMTPUTF8 }
        let original = returnedContent(stored, isWhole: isWhole)
        let isEightBit = hasEightBit(original) || hasEightBit(ByteBuffer(string: text))
        let encoding = isEightBit || isUTF8 ? "8bit" : "7bit"
        let boundary = "=_\(id)"

        var body = "Date: \(date)\r\nFrom: Mail Delivery System <MAILER-DAEMON@\(hostname)>\r\nTo: <\(sender)>\r\n"
        body += "Subject: \(subject)\r\nMessage-ID: <\(id)@\(hostname)>\r\nAuto-Submitted: auto-replied\r\n"
        body += "MIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=delivery-status;\r\n"
        body += "\tboundary=\"\(boundary)\"\r\nContent-Transfer-Encoding: \(encoding)\r\n\r\n"
        body += "This is a MIME message: a delivery status notification.\r\n\r\n"
        body += "--\(boundary)\r\nContent-Type: text/plain; charset=utf-8\r\n"
        body += "Content-Transfer-Encoding: \(encoding)\r\n\r\n\(text)\r\n"

        // RFC 3464; RFC 6533 where an address is not ASCII.
        body += "--\(boundary)\r\nContent-Type: message/\(isUTF8 ? "global-" : "")delivery-status\r\n\r\n"
        body += "Reporting-MTA: dns; \(hostname)\r\n"
        body += "Arrival-Date: \(stored.envelope.received.mailDate(offset: zoneOffset))\r\n"
        body += "X-Slimta-Queue-ID: \(stored.envelope.id)\r\n"
        for recipient in recipients {
            let type = recipient.mailbox.needsSMTPUTF8 ? "utf-8" : "rfc822"
            body += "\r\nFinal-Recipient: \(type); \(recipient.mailbox)\r\nAction: \(action)\r\n"
            body += "Status: \(status(of: recipient))\r\n"
            if let host = recipient.outcome.remoteHost { body += "Remote-MTA: dns; \(oneLine(host))\r\n" }
            let diagnostic = oneLine(recipient.outcome.reply.description)
            body += "Diagnostic-Code: \(recipient.outcome.isRemote ? "smtp" : "x-slimtad"); "
            body += (isUTF8 ? diagnostic : asciiOnly(diagnostic)) + "\r\n"
            body += "Last-Attempt-Date: \(date)\r\n\(extraFields)"
        }

        let type = isWhole ? (isUTF8 ? "message/global" : "message/rfc822") : "text/rfc822-headers"
        body += "\r\n--\(boundary)\r\nContent-Type: \(type)\r\nContent-Transfer-Encoding: \(encoding)\r\n\r\n"

        var head = ByteBuffer(string: body)
        head.writeImmutableBuffer(original)
        head.writeString("\r\n--\(boundary)--\r\n")
        let envelope = Envelope(
            id: id, sender: nil, recipients: [sender], received: now,
            body: encoding == "8bit" ? .eightBitMIME : .sevenBit,
            smtpUTF8: isUTF8, client: ClientInfo(address: "", name: hostname, protocolWord: "LOCAL"))
        return Notice(envelope: envelope, message: Message(head: head))
    }

    /// A failure is permanent for its reader: a temporary status that ran out of time is 5.4.7 (RFC 3463: delivery time
    /// expired), one that goes on is the peer's.
    private func status(of recipient: Recipient) -> EnhancedStatus {
        recipient.isExpired ? EnhancedStatus(5, 4, 7) : recipient.outcome.reply.effectiveStatus
    }

    private func returnedContent(_ stored: StoredEnvelope, isWhole: Bool) -> ByteBuffer {
        var content = stored.envelope.prependedFields
        if isWhole {
            content.writeImmutableBuffer(stored.message.head)
            return content
        }
        let header = HeaderBlock(scanning: stored.message.head)
        for field in header.fields {
            let slice = stored.message.head.getSlice(
                at: stored.message.head.readerIndex + field.range.lowerBound, length: field.range.count)
            guard let slice, !hasLongLine(slice), content.readableBytes + slice.readableBytes <= Self.wholeLimit else {
                continue
            }
            content.writeImmutableBuffer(slice)
        }
        return content
    }
}

/// What came from elsewhere, as part of a line of ours: no control characters, not longer than a line may be.
private func oneLine(_ text: String) -> String {
    let clean = String(
        String.UnicodeScalarView(text.unicodeScalars.map { $0.value < 32 || $0.value == 127 ? " " : $0 }))
    return clean.utf8.count <= 800 ? clean : String(clean.prefix(400)) + "..."
}

private func asciiOnly(_ text: String) -> String {
    String(String.UnicodeScalarView(text.unicodeScalars.map { $0.isASCII ? $0 : "?" }))
}

private func hasEightBit(_ buffer: ByteBuffer) -> Bool {
    buffer.readableBytesView.contains { $0 >= 0x80 }
}

/// Whether a line is longer than RFC 5322 section 2.1.1 allows: another host may refuse it.
private func hasLongLine(_ buffer: ByteBuffer) -> Bool {
    var length = 0
    for octet in buffer.readableBytesView {
        length = octet == UInt8(ascii: "\n") ? 0 : length + 1
        if length > 999 { return true }
    }
    return false
}
