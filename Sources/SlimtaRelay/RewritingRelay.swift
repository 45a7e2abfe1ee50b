// A relay for which sender, recipients or fields are others than in the queue. Made by the composition root around the relay of
// [relay] or a [[route]] that says so.

import NIOCore
package import SlimtaMail
package import SlimtaQueue
package import SlimtaRules

/// Changes each delivery on its way to another relay. The queue, the log and notices keep what they have: an outcome is the
/// outcome of the recipient that was queued.
package struct RewritingRelay: Relay {
    private let relay: any Relay
    private let rewrites: RouteRewrites

    /// What goes to `relay` goes there by `rewrites`.
    package init(_ relay: any Relay, _ rewrites: RouteRewrites) { (self.relay, self.rewrites) = (relay, rewrites) }

    /// Of the domain that the recipients' is there.
    package func destination(for domain: String) -> String {
        relay.destination(for: rewrites.recipient(Mailbox(localPart: "", domain: domain)).foldedDomain)
    }

    /// Likewise.
    package func destination(for domain: String, of envelope: Envelope) -> String { destination(for: domain) }

    /// Of all hosts that mail goes to from here.
    package func forgetFailures() { relay.forgetFailures() }

    /// Each recipient's place stays what it is, so that the outcomes are in order. Those that are one there are one: whatever the
    /// relay is, one message goes there, and its outcome is that of all of them.
    package func attempt(_ delivery: Delivery) async -> [Outcome] {
        var changed = delivery
        changed.envelope.sender = rewrites.sender(delivery.envelope.sender)
        for index in delivery.recipients {
            changed.envelope.recipients[index] = rewrites.recipient(delivery.envelope.recipients[index])
        }
        var fields = ByteBuffer(string: rewrites.fields(of: delivery.envelope))
        fields.writeImmutableBuffer(delivery.envelope.prependedFields)
        changed.envelope.prependedFields = fields
        let distinct = DistinctRecipients(changed)
        let all = Dictionary(uniqueKeysWithValues: distinct.recipients.map { ($0[0], $0) })
        changed.recipients = distinct.recipients.map { $0[0] }
        changed.report = { first, outcome in
            for recipient in all[first] ?? [] { delivery.report(recipient, outcome) }
        }
        let outcomes = await relay.attempt(changed)
        return distinct.positions.map { outcomes[$0] }
    }
}
