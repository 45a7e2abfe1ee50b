// The policy `forward`: recipients become others, as [[forward]] says. Who is refused by it is refused at RCPT, where edges ask
// (SessionGate); here only what came in another way.

internal import SlimtaMail
package import SlimtaRules

/// Puts others in the place of recipients, each once; whom the sender has named is kept for notices and the log.
package struct ForwardPolicy: QueuePolicy {
    private let rules: ForwardRules
    private let limit: Int

    /// - Parameter limit: the most recipients that a message may have when all have been forwarded.
    package init(_ rules: ForwardRules, limit: Int) {
        self.rules = rules
        self.limit = limit
    }

    /// See ``QueuePolicy/place``.
    package var place: PolicyPlace { .forward }

    /// See ``QueuePolicy/apply(to:_:)``; refuses a message of which a recipient is refused, or that would go to too many.
    package func apply(to mail: inout PolicyMail, _ context: PolicyContext) throws(PolicyRefusal) {
        guard !rules.isEmpty else { return }
        var count = 0
        for index in mail.envelopes.indices {
            try forward(&mail.envelopes[index])
            count += mail.envelopes[index].recipients.count
            guard count <= limit else {
                throw PolicyRefusal(
                    Reply(554, .init(5, 5, 3), "Forwarded to more than \(limit) recipients, which is too many"))
            }
        }
    }

    private func forward(_ envelope: inout Envelope) throws(PolicyRefusal) {
        var isForwarded = false
        // Those who were named themselves come first: they have no other name.
        var kept: [(mailbox: Mailbox, original: Mailbox?)] = []
        for recipient in envelope.recipients {
            switch rules.result(for: recipient) {
            case .unchanged: kept.append((recipient, nil))
            case .to(let others):
                isForwarded = true
                kept += others.map { ($0, $0 == recipient ? nil : recipient) }
            case .refused(let reply, _): throw PolicyRefusal(reply)
            }
        }
        guard isForwarded else { return }
        var named: Set<String> = []
        for entry in kept where entry.original == nil { named.insert(entry.mailbox.text.foldedAsAddress()) }
        var seen: Set<String> = []
        var recipients: [Mailbox] = []
        for (mailbox, original) in kept {
            let key = mailbox.text.foldedAsAddress()
            guard original == nil || !named.contains(key), seen.insert(key).inserted else { continue }
            recipients.append(mailbox)
            if let original { envelope.setOriginal(envelope.original(of: original) ?? original, of: mailbox) }
        }
        envelope.recipients = recipients
    }
}
