// The policies of a message in their order, from what must always run to what was configured. The composition root makes
// one of `[queue] policies`; the submission path runs it on each message.

internal import NIOCore
package import SlimtaMail

/// One of the policies of `[queue] policies`.
package enum PolicyStep: Sendable {
    /// One that is done when it returns.
    case immediate(any QueuePolicy)
    /// One that waits for somebody else.
    case waiting(any WaitingPolicy)
}

/// Policies in their order.
package struct PolicyChain: Sendable {
    /// Those before the first that waits: all of them, as a rule.
    private let policies: [any QueuePolicy]
    /// The first that waits, and all behind it.
    private let rest: [PolicyStep]
    /// Those that want to see large messages while they come.
    private let observing: [any ObservingPolicy]

    /// Signs what the others have made of a message; nil: nothing is signed.
    private let signer: (any WaitingPolicy)?

    /// Whether ``finish(_:_:)`` has anything to do.
    package var waits: Bool { !rest.isEmpty || signer != nil }

    /// - Parameter policies: as configured. ``ReceivedPolicy`` runs last wherever it stands, since its field names the
    ///   queue id, and a lone recipient, of each envelope that the others make.
    /// - Parameter receivedHops: the most Received fields that a message may have (RFC 5321 section 6.3).
    /// - Parameter signer: runs behind all of them, and behind the fields of rules: it signs what will leave.
    package init(_ policies: [any QueuePolicy], receivedHops: Int, signer: (any WaitingPolicy)? = nil) {
        self.init(policies.map { .immediate($0) }, receivedHops: receivedHops, signer: signer)
    }

    /// The same with policies that wait.
    package init(_ steps: [PolicyStep], receivedHops: Int, signer: (any WaitingPolicy)? = nil) {
        self.signer = signer
        let all = steps.filter { !$0.isReceived } + steps.filter(\.isReceived)
        let immediate = all.prefix { $0.immediate != nil }
        policies =
            [HeaderCheck(receivedHops: receivedHops), SenderCheck(), BccRemoval()] + immediate.compactMap(\.immediate)
        rest = Array(all[immediate.endIndex...])
        observing = (all + (signer.map { [.waiting($0)] } ?? [])).compactMap { $0.policy as? any ObservingPolicy }
    }

    /// Those who look on while a large message comes: as a rule nobody.
    func makeObservers() -> [any ContentObserver] { observing.compactMap { $0.makeObserver() } }

    /// Runs all policies on a message that has just been submitted, up to the first that waits.
    package func apply(
        to envelope: Envelope, _ message: Message, _ context: PolicyContext
    ) throws(PolicyRefusal) -> PolicyMail {
        var mail = PolicyMail(envelope: envelope, message: message)
        for policy in policies { try policy.apply(to: &mail, context) }
        if !waits { mail.prepend(context.fields) }
        return mail
    }

    /// Runs those that ``apply(to:_:_:)`` has left. Where one refuses, `mail` is what was made of it until then.
    package func finish(_ mail: inout PolicyMail, _ context: PolicyContext) async throws(PolicyRefusal) {
        for step in rest {
            switch step {
            case .immediate(let policy): try policy.apply(to: &mail, context)
            case .waiting(let policy): try await policy.apply(to: &mail, context)
            }
        }
        mail.prepend(context.fields)
        try await signer?.apply(to: &mail, context)
    }
}

extension PolicyStep {
    fileprivate var immediate: (any QueuePolicy)? { if case .immediate(let policy) = self { policy } else { nil } }

    fileprivate var policy: Any {
        switch self {
        case .immediate(let policy): policy
        case .waiting(let policy): policy
        }
    }

    fileprivate var isReceived: Bool { immediate is ReceivedPolicy }
}

/// Checks From and Sender of what a login sends, as it was received. Always second: what a header is has to be certain.
struct SenderCheck: QueuePolicy {
    func apply(to mail: inout PolicyMail, _ context: PolicyContext) throws(PolicyRefusal) {
        guard let senders = context.senders, let envelope = mail.envelopes.first else { return }
        let edits: [HeaderSenders.Edit]
        do throws(HeaderSenders.Refusal) {
            edits = try senders.edits(
                of: mail.header, in: mail.message.head, mailFrom: envelope.sender, allowsUTF8: envelope.smtpUTF8)
        } catch {
            throw PolicyRefusal(error.reply, allowed: senders.rights?.description)
        }
        mail.replace(edits)
    }
}

/// Removes Bcc fields: the other recipients are not to see them (RFC 5322 section 3.6.3). Always third.
struct BccRemoval: QueuePolicy {
    func apply(to mail: inout PolicyMail, _ context: PolicyContext) {
        mail.remove(HeaderEnvelope.blindFields(of: mail.header, in: mail.message.head))
    }
}
