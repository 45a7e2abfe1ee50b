// Messages to senders: what could not be delivered (bounces, RFC 3464 section 2) and what is delayed. Made by AttemptResolution.

internal import NIOCore
package import SlimtaMail

/// A message of ours: an envelope with the null reverse-path and its content.
package struct Notice: Sendable {
    /// From the null reverse-path to the sender of what it is about (RFC 5321 section 4.5.5).
    package internal(set) var envelope: Envelope
    /// A report in three parts (RFC 6522 section 3).
    package let message: Message
}

/// Writes delivery status notifications (RFC 3461 section 6, RFC 3464 section 2, RFC 6522 section 3, RFC 6533 section 3).
///
/// A notice that bounces is lost. So it is ASCII in lines of at most 998 octets, whatever a host said and whatever it is
/// about: no host on the way needs 8BITMIME for it, nor SMTPUTF8, unless the sender's own address does.
package struct NoticeBuilder: Sendable {
    /// A recipient that a notice tells of.
    package struct Recipient: Sendable {
        /// As the client gave it.
        package let mailbox: Mailbox
        /// What was said of it last.
        package let outcome: Outcome
        /// Whether time ran out, rather than somebody refused.
        package let isExpired: Bool
        /// Whom the sender has named, where mail for that one was forwarded to this.
        package var original: Mailbox?
    }

    /// Our name: Reporting-MTA, From.
    private let hostname: String
    /// What the local zone adds to UTC, in seconds.
    private let zoneOffset: Int
    /// Makes the id of a notice, beside that of what it is about.
    private let newID: @Sendable (Timestamp, QueueID) -> QueueID

    /// For notices of this host. `newID` makes ids that are unused: of a time, beside that of what a notice is about.
    package init(
        hostname: String, zoneOffset: Int, newID: @escaping @Sendable (Timestamp, QueueID) -> QueueID
    ) {
        self.hostname = hostname
        self.zoneOffset = zoneOffset
        self.newID = newID
    }

    /// A bounce.
    func failure(of stored: StoredEnvelope, to sender: Mailbox, recipients: [Recipient], now: Timestamp) -> Notice {
        var text = "This is the mail system at \(hostname).\r\n\r\n"
        text += "Your message could not be delivered to "
        text += recipients.count == 1 ? "this recipient:\r\n" : "these \(recipients.count) recipients:\r\n"
        for recipient in recipients {
            text += "\r\n  <\(recipient.mailbox)>\(named(recipient))\r\n" + explanation(recipient)
        }
        let returned = ReturnedContent(stored, wantsWhole: !stored.isRemains)
        text += "\r\nIt will not be tried again. "
        text +=
            stored.isRemains
            ? "The message cannot be returned: please send it again.\r\n"
            : "\(returned.isWhole ? "The message" : "Its header") is returned below.\r\n"
        return notice(
            about: stored, to: sender, recipients, subject: "Undelivered Mail Returned to Sender", text: text,
            action: "failed", extraFields: "", returned: returned, now: now)
    }

    /// A notice that delivery takes longer than usual.
    func delay(
        of stored: StoredEnvelope, to sender: Mailbox, recipients: [Recipient], until end: Timestamp, now: Timestamp
    ) -> Notice {
        var text = "This is the mail system at \(hostname).\r\n\r\n"
        text += "Your message could not be delivered yet to "
        text += recipients.count == 1 ? "this recipient:\r\n" : "these \(recipients.count) recipients:\r\n"
        for recipient in recipients {
            text += "\r\n  <\(recipient.mailbox)>\(named(recipient))\r\n" + explanation(recipient)
        }
        let date = end.mailDate(offset: zoneOffset)
        text += "\r\nIt will be tried again until \(date).\r\nYou need not do anything.\r\n"
        return notice(
            about: stored, to: sender, recipients, subject: "Delayed Mail (still being retried)", text: text,
            action: "delayed", extraFields: "Will-Retry-Until: \(date)\r\n",
            returned: ReturnedContent(stored, wantsWhole: false), now: now)
    }

    /// Whom the sender knows it by.
    private func named(_ recipient: Recipient) -> String {
        recipient.original.map { " (forwarded from <\($0)>)" } ?? ""
    }

    /// Who said what, in plain words.
    private func explanation(_ recipient: Recipient) -> String {
        var reply = oneLine(recipient.outcome.reply.description)
        if !recipient.outcome.isRemote, recipient.outcome.reply.lines.count > 1 {
            // What a program has written: its lines are more than its answer.
            let lines = recipient.outcome.reply.lines
            reply = oneLine(Reply(recipient.outcome.reply.code, recipient.outcome.reply.status, lines[0]).description)
            reply += lines.dropFirst().map { "\r\n      \(oneLine($0))" }.joined()
        }
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

    private func notice(
        about stored: StoredEnvelope, to sender: Mailbox, _ recipients: [Recipient], subject: String, text: String,
        action: String, extraFields: String, returned: ReturnedContent, now: Timestamp
    ) -> Notice {
        let id = newID(now, stored.envelope.id)
        let date = now.mailDate(offset: zoneOffset)
        var content = ByteBuffer(string: text)
        let isTextEncoded = !content.isSafeText
        if isTextEncoded { content = QuotedPrintable.encode(content.readableBytesView) }
        let boundary = "=_\(id)"

        var body = "Date: \(date)\r\nFrom: Mail Delivery System <MAILER-DAEMON@\(hostname)>\r\nTo: <\(sender)>\r\n"
        body += "Subject: \(subject)\r\nMessage-ID: <\(id)@\(hostname)>\r\nAuto-Submitted: auto-replied\r\n"
        body += "MIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=delivery-status;\r\n"
        body += "\tboundary=\"\(boundary)\"\r\nContent-Transfer-Encoding: 7bit\r\n\r\n"
        body += "This is a MIME message: a delivery status notification.\r\n\r\n"
        body += "--\(boundary)\r\nContent-Type: text/plain; charset=utf-8\r\n"
        body += "Content-Transfer-Encoding: \(encoding(isTextEncoded))\r\n\r\n"
        var head = ByteBuffer(string: body)
        head.writeImmutableBuffer(content)

        // RFC 3464; RFC 6533 section 3 has a form for addresses that are not ASCII.
        body = "\r\n--\(boundary)\r\nContent-Type: message/delivery-status\r\n\r\n"
        body += "Reporting-MTA: dns; \(hostname)\r\n"
        body += "Arrival-Date: \(stored.envelope.received.mailDate(offset: zoneOffset))\r\n"
        body += "X-Slimta-Queue-ID: \(stored.envelope.id)\r\n"
        for recipient in recipients {
            body += "\r\n"
            if let original = recipient.original { body += "Original-Recipient: \(typedAddress(original))\r\n" }
            body += "Final-Recipient: \(typedAddress(recipient.mailbox))\r\nAction: \(action)\r\n"
            body += "Status: \(status(of: recipient))\r\n"
            if let host = recipient.outcome.remoteHost { body += "Remote-MTA: dns; \(asciiOnly(oneLine(host)))\r\n" }
            let diagnostic = oneLine(recipient.outcome.reply.description)
            body += "Diagnostic-Code: \(recipient.outcome.isRemote ? "smtp" : "x-slimtad"); "
            body += asciiOnly(diagnostic) + "\r\n"
            body += "Last-Attempt-Date: \(date)\r\n\(extraFields)"
        }

        body += "\r\n--\(boundary)\r\nContent-Type: \(returned.type)\r\n"
        body += "Content-Transfer-Encoding: \(encoding(returned.isEncoded))\r\n\r\n"
        head.writeString(body)
        head.writeImmutableBuffer(returned.content)
        head.writeString("\r\n--\(boundary)--\r\n")
        let envelope = Envelope(
            id: id, sender: nil, recipients: [sender], received: now,
            // The sender's address stands in To.
            body: sender.needsSMTPUTF8 ? .eightBitMIME : .sevenBit, smtpUTF8: sender.needsSMTPUTF8,
            client: ClientInfo(address: "", name: hostname, protocolWord: "LOCAL"))
        return Notice(envelope: envelope, message: Message(head: head))
    }

    /// A failure is permanent for its reader: a temporary status that ran out of time is 5.4.7 (RFC 3463 section 3.5: delivery time
    /// expired), one that goes on is the peer's.
    private func status(of recipient: Recipient) -> EnhancedStatus {
        recipient.isExpired ? EnhancedStatus(5, 4, 7) : recipient.outcome.reply.effectiveStatus
    }

    private func encoding(_ isEncoded: Bool) -> String { isEncoded ? "quoted-printable" : "7bit" }
}

/// An address with its type (RFC 3464 section 2.3.2). RFC 6533 section 3 for what is not ASCII, where no SMTPUTF8 is to be
/// needed: each such character, and what would be taken for one, by its number.
private func typedAddress(_ mailbox: Mailbox) -> String {
    guard mailbox.needsSMTPUTF8 else { return "rfc822; \(mailbox)" }
    var text = "utf-8; "
    for scalar in mailbox.text.unicodeScalars {
        switch scalar {
        case "!"..."~" where scalar != "\\" && scalar != "+" && scalar != "=": text.unicodeScalars.append(scalar)
        default: text += "\\x{\(String(scalar.value, radix: 16, uppercase: true))}"
        }
    }
    return text
}

/// What came from elsewhere, as part of a line of ours: at most 800 octets, nothing that ends a line, steers a terminal or
/// turns the direction of writing.
private func oneLine(_ text: String) -> String {
    var clean = ""
    for scalar in text.unicodeScalars {
        switch scalar.value {
        case _ where scalar.endsLineOrSteers, 0x200E...0x200F, 0x202A...0x202E, 0x2066...0x2069: clean += " "
        default: clean.unicodeScalars.append(scalar)
        }
    }
    return clean.utf8.count > 800 ? clean.cut(toOctets: 800) + "..." : clean
}

private func asciiOnly(_ text: String) -> String {
    String(String.UnicodeScalarView(text.unicodeScalars.map { $0.isASCII ? $0 : "?" }))
}
