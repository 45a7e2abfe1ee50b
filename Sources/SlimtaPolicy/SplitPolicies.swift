// The policies that split: domain_split, recipient_split. The envelopes that they make share the message, are stored in
// one commit, and from then on have fates of their own.

internal import SlimtaMail

/// `domain_split`: an envelope for each recipient domain, in the order of their first recipients.
package struct DomainSplitPolicy: QueuePolicy {
    /// It has no settings.
    package init() {}

    /// See ``QueuePolicy/place``.
    package var place: PolicyPlace { .domainSplit }

    /// See ``QueuePolicy/apply(to:_:)``; refuses nothing.
    package func apply(to mail: inout PolicyMail, _ context: PolicyContext) {
        mail.envelopes = mail.envelopes.flatMap { envelope -> [Envelope] in
            guard envelope.recipients.count > 1 else { return [envelope] }
            var groups: [[Mailbox]] = []
            var group: [String: Int] = [:]
            for recipient in envelope.recipients {
                let domain = recipient.foldedDomain
                if let index = group[domain] {
                    groups[index].append(recipient)
                } else {
                    group[domain] = groups.count
                    groups.append([recipient])
                }
            }
            return envelope.split(into: groups, context)
        }
    }
}

/// `recipient_split`: an envelope for each recipient.
package struct RecipientSplitPolicy: QueuePolicy {
    /// It has no settings.
    package init() {}

    /// See ``QueuePolicy/place``.
    package var place: PolicyPlace { .recipientSplit }

    /// See ``QueuePolicy/apply(to:_:)``; refuses nothing.
    package func apply(to mail: inout PolicyMail, _ context: PolicyContext) {
        mail.envelopes = mail.envelopes.flatMap { envelope in
            envelope.split(into: envelope.recipients.map { [$0] }, context)
        }
    }
}

extension Envelope {
    /// An envelope for each group of recipients. The first keeps the id, which the client is told; the others get ids
    /// of their own, of the same time: a message that is to be sent later is as old as that.
    fileprivate func split(into groups: [[Mailbox]], _ context: PolicyContext) -> [Envelope] {
        guard groups.count > 1 else { return [self] }
        return groups.enumerated().map { index, recipients in
            var envelope = self
            envelope.recipients = recipients
            if index > 0 { envelope.id = context.newID(max(context.now, id.time), id) }
            return envelope
        }
    }
}
