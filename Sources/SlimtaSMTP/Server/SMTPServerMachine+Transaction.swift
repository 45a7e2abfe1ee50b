// The mail transactions of SMTPServerMachine (RFC 5321 section 3.3): MAIL, RCPT, DATA, and what became of the message.

package import NIOCore
package import SlimtaMail

extension SMTPServerMachine {
    /// The answer to ``Action/checkRoom(size:)``: nil if there is room, else the reply that says that there is none.
    package mutating func roomChecked(_ refusal: Reply?, _ output: inout ByteBuffer) {
        guard case .checkingRoom(let mail) = phase else { return }
        enter(.command)
        if let refusal { return finish(with: refusal, to: "MAIL", of: mail.sender, &output) }
        transaction = Transaction(mail: mail)
        write(Reply(250, .init(2, 1, 0), "<\(mail.sender?.text ?? "")> Ok"), &output)
    }

    /// The answer to ``Action/endMessage(_:)``.
    package mutating func messageStored(_ reply: Reply, _ output: inout ByteBuffer) {
        guard case .storing(let sender) = phase else { return }
        enter(.command)
        if reply.code < 300 { errors = 0 }
        finish(with: reply, to: "DATA", of: sender, &output)
    }

    mutating func mail(_ mail: MailCommand, _ output: inout ByteBuffer) -> Action? {
        guard clientName != nil, transaction == nil else {
            refuse(.badSequence, &output)
            return nil
        }
        guard user != nil || isTrusted else {
            refuse(unknownClient, &output)
            return nil
        }
        guard isExtended || mail.parameterCount == 0 else {
            refuse(SMTPSyntaxError.unknownParameter.reply, &output)
            return nil
        }
        if let user, let sender = mail.sender, !user.maySend(as: sender.text) {
            refuse(Reply(550, .init(5, 7, 1), "<\(sender)> is not a sender that this login may use"), &output)
            return nil
        }
        if let size = mail.size, size > configuration.messageSize {
            refuse(
                Reply(552, .init(5, 3, 4), "Message size exceeds \(configuration.messageSize) limit"), &output)
            return nil
        }
        enter(.checkingRoom(mail))
        return .checkRoom(size: mail.size)
    }

    /// The refusal of who is neither authenticated nor trusted (RFC 4954 section 6). Where no AUTH is offered there is
    /// nothing that would help.
    private var unknownClient: Reply {
        switch configuration.authentication {
        case .none: return Reply(550, .init(5, 7, 1), "Your network may not send mail here")
        case .required, .optional:
            let isClear = configuration.tls == .startTLS && tls == nil
            return Reply(530, .init(5, 7, 0), "Authentication required" + (isClear ? ", after STARTTLS" : ""))
        }
    }

    mutating func rcpt(_ path: RecipientPath, _ output: inout ByteBuffer) {
        guard transaction != nil else { return refuse(.badSequence, &output) }
        let recipient: Mailbox
        let text: String
        switch path {
        case .mailbox(let mailbox):
            guard transaction?.mail.smtpUTF8 == true || !mailbox.needsSMTPUTF8 else {
                transaction?.hasRefused = true
                return refuse(SMTPSyntaxError.needsSMTPUTF8.reply, &output)
            }
            recipient = mailbox
            text = mailbox.text
        case .postmaster(let word):
            recipient = Mailbox(localPart: word, domain: configuration.hostname)
            text = word
        }
        guard (transaction?.recipients.count ?? 0) < configuration.recipients else {
            transaction?.hasRefused = true
            return refuse(Reply(452, .init(4, 5, 3), "Too many recipients"), &output)
        }
        transaction?.recipients.append(recipient)
        commands = 0
        write(Reply(250, .init(2, 1, 5), "<\(text)> Ok"), &output)
    }

    mutating func data(_ output: inout ByteBuffer) {
        guard let transaction else { return refuse(.badSequence, &output) }
        guard !transaction.recipients.isEmpty else {
            // RFC 5321 section 3.3: 554 where recipients were refused, 503 where there were none.
            return refuse(
                transaction.hasRefused
                    ? Reply(554, .init(5, 5, 1), "No valid recipients")
                    : Reply(503, .init(5, 5, 1), "No recipients given"), &output)
        }
        commands = 0
        write(Reply(354, nil, "Start mail input; end with <CRLF>.<CRLF>"), &output)
        enter(.data(DataReader(limit: configuration.messageSize)))
    }

    mutating func dataEnded(_ reader: DataReader, _ output: inout ByteBuffer) -> Action? {
        guard let transaction else { preconditionFailure("data without a transaction") }
        self.transaction = nil
        switch reader.fault {
        case .some(let fault):
            enter(.command)
            let sender = transaction.mail.sender
            refuse(
                Refusal(reply: fault.reply, command: "DATA", address: nil, sender: sender, login: user?.login), &output)
            if reader.hasBareLineEnd { endForLineEnds(&output) }
            return nil
        case nil:
            enter(.storing(transaction.mail.sender))
            return .endMessage(
                Submission(
                    sender: transaction.mail.sender, recipients: unique(transaction.recipients),
                    body: reader.hasEightBit ? .eightBitMIME : transaction.mail.body,
                    smtpUTF8: transaction.mail.smtpUTF8, clientName: clientName ?? "",
                    protocolWord: protocolWord(
                        isUTF8: transaction.mail.smtpUTF8), tls: tls, login: user?.login))
        }
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
