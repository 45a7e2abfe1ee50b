// The policies of a message in their order, from what must always run to what was configured. The composition root makes
// one of `[queue] policies`; the submission path runs it on each message.

internal import NIOCore
package import SlimtaMail

/// Policies in their order.
package struct PolicyChain: Sendable {
    private let policies: [any QueuePolicy]

    /// - Parameter policies: as configured. ``ReceivedPolicy`` runs last wherever it stands, since its field names the
    ///   queue id, and a lone recipient, of each envelope that the others make.
    /// - Parameter receivedHops: the most Received fields that a message may have (RFC 5321 section 6.3).
    package init(_ policies: [any QueuePolicy], receivedHops: Int) {
        self.policies =
            [HeaderCheck(receivedHops: receivedHops), BccRemoval()] + policies.filter { !($0 is ReceivedPolicy) }
            + policies.filter { $0 is ReceivedPolicy }
    }

    /// Runs all policies on a message that has just been submitted.
    package func apply(
        to envelope: Envelope, _ message: Message, _ context: PolicyContext
    ) throws(PolicyRefusal) -> PolicyMail {
        var mail = PolicyMail(envelope: envelope, message: message)
        for policy in policies { try policy.apply(to: &mail, context) }
        return mail
    }
}

/// Removes Bcc fields: the other recipients are not to see them (RFC 5322 section 3.6.3). Always second.
struct BccRemoval: QueuePolicy {
    func apply(to mail: inout PolicyMail, _ context: PolicyContext) {
        mail.remove(HeaderEnvelope.blindFields(of: mail.header, in: mail.message.head))
    }
}
