// The mail transactions of SMTPServerMachine (RFC 5321 section 3.3): MAIL, RCPT, DATA, and what became of the message.

internal import NIOCore
internal import SlimtaMail

extension SMTPServerMachine {
    mutating func mail(_ mail: MailCommand, into output: inout ByteBuffer) {
        guard clientName != nil, transaction == nil else { return refuse(.badSequence, into: &output) }
        guard user != nil || isTrusted else {
            let mayStartTLS = configuration.tls == .startTLS && tls == nil
            return refuse(.unknownClient(configuration.authentication, mayStartTLS: mayStartTLS), into: &output)
        }
        guard isExtended || mail.parameterCount == 0 else {
            return refuse(SMTPSyntaxError.unknownParameter.reply, into: &output)
        }
        if let user, let sender = mail.sender, !user.maySend(as: sender.text) {
            return refuse(
                Reply(550, .init(5, 7, 1), "<\(sender)> is not a sender that this login may use"), into: &output)
        }
        if let size = mail.size, size > configuration.messageSize {
            return refuse(
                Reply(552, .init(5, 3, 4), "Message size exceeds \(configuration.messageSize) limit"), into: &output)
        }
        transactionNumber += 1
        ask(.mail(mail), into: &output)
    }

    mutating func transactionBegan(_ mail: MailCommand, into output: inout ByteBuffer) {
        transaction = Transaction(mail: mail)
        write(Reply(250, .init(2, 1, 0), "<\(mail.sender?.text ?? "")> Ok"), into: &output)
    }

    mutating func rcpt(_ path: RecipientPath, into output: inout ByteBuffer) {
        guard transaction != nil else { return refuse(.badSequence, into: &output) }
        let recipient: Mailbox
        let text: String
        switch path {
        case .mailbox(let mailbox):
            guard transaction?.mail.smtpUTF8 == true || !mailbox.needsSMTPUTF8 else {
                transaction?.hasRefused = true
                return refuse(SMTPSyntaxError.needsSMTPUTF8.reply, into: &output)
            }
            recipient = mailbox
            text = mailbox.text
        case .postmaster(let word):
            recipient = Mailbox(localPart: word, domain: configuration.hostname)
            text = word
        }
        guard (transaction?.recipients.count ?? 0) < configuration.recipients else {
            transaction?.hasRefused = true
            return refuse(Reply(452, .init(4, 5, 3), "Too many recipients"), into: &output)
        }
        ask(.recipient(recipient, name: text), into: &output)
    }

    mutating func recipientAccepted(_ recipient: Mailbox, _ name: String, into output: inout ByteBuffer) {
        transaction?.recipients.append(recipient)
        commands = 0
        write(Reply(250, .init(2, 1, 5), "<\(name)> Ok"), into: &output)
    }

    mutating func data(into output: inout ByteBuffer) {
        guard let transaction else { return refuse(.badSequence, into: &output) }
        guard !transaction.recipients.isEmpty else {
            // RFC 5321 section 3.3: 554 where recipients were refused, 503 where there were none.
            return refuse(
                transaction.hasRefused
                    ? Reply(554, .init(5, 5, 1), "No valid recipients")
                    : Reply(503, .init(5, 5, 1), "No recipients given"), into: &output)
        }
        ask(.data, into: &output)
    }

    mutating func contentMayCome(into output: inout ByteBuffer) {
        commands = 0
        write(Reply(354, nil, "Start mail input; end with <CRLF>.<CRLF>"), into: &output)
        enter(.data(DataReader(limit: configuration.messageSize)))
    }

    mutating func dataEnded(_ reader: DataReader, into output: inout ByteBuffer) {
        guard let transaction else { preconditionFailure("data without a transaction") }
        self.transaction = nil
        let mail = transaction.mail
        if let fault = reader.fault {
            enter(.command)
            refuse(
                Refusal(reply: fault.reply, command: "DATA", address: nil, sender: mail.sender, login: user?.login),
                into: &output)
            if reader.hasBareLineEnd { endForLineEnds(into: &output) }
            return
        }
        enter(.command)
        ask(
            .message(
                Submission(
                    sender: mail.sender, recipients: unique(transaction.recipients),
                    body: reader.hasEightBit ? .eightBitMIME : mail.body, smtpUTF8: mail.smtpUTF8,
                    submitter: mail.submitter, clientName: clientName ?? "",
                    protocolWord: protocolWord(isUTF8: mail.smtpUTF8), tls: tls,
                    login: user?.login)), into: &output)
    }

    /// A recipient that was given twice gets one copy.
    func unique(_ recipients: [Mailbox]) -> [Mailbox] {
        guard recipients.count > 1 else { return recipients }
        var seen = Set<Mailbox>(minimumCapacity: recipients.count)
        return recipients.filter { recipient in
            seen.insert(Mailbox(localPart: String(recipient.localPart), domain: recipient.foldedDomain)).inserted
        }
    }

    /// RFC 3848; RFC 6531 section 4.3.
    func protocolWord(isUTF8: Bool) -> String {
        guard isExtended else { return "SMTP" }
        return (isUTF8 ? "UTF8SMTP" : "ESMTP") + (tls == nil ? "" : "S") + (user == nil ? "" : "A")
    }
}
