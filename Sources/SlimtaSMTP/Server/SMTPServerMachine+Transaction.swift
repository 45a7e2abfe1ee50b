// The mail transactions of SMTPServerMachine (RFC 5321 section 3.3): MAIL, RCPT, DATA, and what became of the message.

internal import NIOCore
internal import SlimtaMail

extension SMTPServerMachine {
    mutating func mail(_ mail: MailCommand, into output: inout ByteBuffer) {
        guard clientName != nil, transaction == nil else { return refuse(.badSequence, into: &output) }
        let rules = configuration.transactionRules
        let mayStartTLS = configuration.tls == .startTLS && tls == nil
        if let refusal = rules.refusal(ofClient: user, isTrusted: isTrusted, mayStartTLS: mayStartTLS) {
            return refuse(refusal, into: &output)
        }
        if let foreign = mail.extensions.filter({ !takes($0) }).flatMap(\.mailParameters).min() {
            return refuse(.unknownParameter(foreign), into: &output)
        }
        if let (refusal, allowed) = rules.refusal(of: mail.sender, from: user, smtpUTF8: mail.smtpUTF8) {
            return refuse(refusal, allowed: allowed, into: &output)
        }
        if let refusal = rules.refusal(ofSize: mail.size) { return refuse(refusal, into: &output) }
        transactionNumber += 1
        ask(.mail(mail), into: &output)
    }

    mutating func transactionBegan(_ mail: MailCommand, into output: inout ByteBuffer) {
        transaction = Transaction(mail: mail)
        write(Reply(250, .init(2, 1, 0), "<\(mail.sender?.text ?? "")> Ok"), into: &output)
    }

    mutating func rcpt(_ path: RecipientPath, into output: inout ByteBuffer) {
        // Its recipients must not be held twice when one is added to them.
        guard let (count, hasUTF8) = transaction.map({ ($0.recipients.count, $0.mail.smtpUTF8) }),
            transaction?.chunks == nil
        else {
            return refuse(.badSequence, into: &output)
        }
        let recipient: Mailbox
        let text: String
        switch path {
        case .mailbox(let mailbox):
            recipient = mailbox
            text = mailbox.text
        case .postmaster(let word):
            recipient = Mailbox(localPart: word, domain: configuration.hostname)
            text = word
        }
        // Our own name is one that everybody may write to.
        let isOurs = text != recipient.text
        if let refusal = configuration.transactionRules.refusal(
            of: recipient, smtpUTF8: hasUTF8 || isOurs, behind: count)
        {
            transaction?.hasRefused = true
            return refuse(refusal, into: &output)
        }
        ask(.recipient(recipient, name: text), into: &output)
    }

    mutating func recipientAccepted(_ recipient: Mailbox, _ name: String, into output: inout ByteBuffer) {
        transaction?.recipients.append(recipient)
        commands = 0
        write(Reply(250, .init(2, 1, 5), "<\(name)> Ok"), into: &output)
    }

    mutating func data(into output: inout ByteBuffer) {
        // RFC 3030 section 2: a message comes by DATA or by BDAT.
        guard let transaction, transaction.chunks == nil else { return refuse(.badSequence, into: &output) }
        guard !transaction.recipients.isEmpty else {
            // RFC 5321 section 3.3: 554 where recipients were refused, 503 where there were none.
            return refuse(
                transaction.hasRefused ? .noValidRecipients : .noRecipients, into: &output)
        }
        ask(.data, into: &output)
    }

    mutating func contentMayCome(into output: inout ByteBuffer) {
        if let chunk { return chunksMayCome(chunk) }
        commands = 0
        write(Reply(354, nil, "Start mail input; end with <CRLF>.<CRLF>"), into: &output)
        enter(.data(DataReader(limit: configuration.messageSize)))
    }

    mutating func dataEnded(_ content: Content, into output: inout ByteBuffer) {
        guard let transaction else { preconditionFailure("data without a transaction") }
        self.transaction = nil
        let command = transaction.chunks == nil ? "DATA" : "BDAT"
        let mail = transaction.mail
        if let fault = content.fault {
            enter(.command)
            refuse(
                Refusal(reply: fault.reply, command: command, address: nil, sender: mail.sender, login: user?.login),
                into: &output)
            if content.endsSession { endForLineEnds(into: &output) }
            return
        }
        hasContent = false
        enter(.command)
        ask(
            .message(
                Submission(
                    sender: mail.sender, recipients: transaction.recipients.eachOnce,
                    body: content.hasEightBit ? .eightBitMIME : mail.body, smtpUTF8: mail.smtpUTF8,
                    submitter: mail.submitter, clientName: clientName ?? "",
                    protocolWord: protocolWord(isUTF8: mail.smtpUTF8), tls: tls,
                    login: user?.login, senders: configuration.transactionRules.header(of: user))), into: &output)
    }

    /// RFC 3848; RFC 6531 section 4.3.
    func protocolWord(isUTF8: Bool) -> String {
        guard isExtended else { return "SMTP" }
        return (isUTF8 ? "UTF8SMTP" : "ESMTP") + (tls == nil ? "" : "S") + (user == nil ? "" : "A")
    }
}
