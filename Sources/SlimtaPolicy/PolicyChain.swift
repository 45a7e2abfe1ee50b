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

/// Policies in their order, which is that of ``PolicyPlace``.
///
/// A message whose session has filters is shown to them at ``PolicyPlace/milters``. One that has none never waits for that, and where
/// no policy waits either all is done in one call.
package struct PolicyChain: Sendable {
    /// Those that say what the header is: before anything is counted.
    private let header: [any QueuePolicy]
    /// Those behind them and before the place of filters.
    private let before: [PolicyStep]
    /// Those behind it.
    private let behind: [PolicyStep]
    /// How many of ``before`` and ``behind``, in their order, are done before the first that waits.
    private let immediate: Int
    /// Those of ``before`` that are needed once more where a filter has changed the message.
    private let again: [PolicyStep]
    /// Those that want to see large messages while they come.
    private let observing: [any ObservingPolicy]
    /// Where all of them stand, from the first to the last.
    package let places: [PolicyPlace]

    /// - Parameter policies: in any order: each has its ``PolicyPlace``. Those of one place stay in the order that they have here.
    /// - Parameter receivedHops: the most Received fields that a message may have (RFC 5321 section 6.3).
    /// - Parameter duplicates: what is done with a second field of which there may be one.
    /// - Parameter qualify: the domain of addresses in the header that have none; nil: they stay as they are.
    /// - Parameter signer: runs behind all of them, and behind the fields of rules: it signs what will leave.
    package init(
        _ policies: [any QueuePolicy], receivedHops: Int, duplicates: DuplicateFields = .refuse, qualify: String? = nil,
        signer: (any WaitingPolicy)? = nil
    ) {
        self.init(
            policies.map { .immediate($0) }, receivedHops: receivedHops, duplicates: duplicates, qualify: qualify,
            signer: signer)
    }

    /// The same with policies that wait.
    package init(
        _ steps: [PolicyStep], receivedHops: Int, duplicates: DuplicateFields = .refuse, qualify: String? = nil,
        signer: (any WaitingPolicy)? = nil
    ) {
        var always: [any QueuePolicy] = [
            HeaderCheck(receivedHops: receivedHops), DuplicateCheck(duplicates: duplicates), BccRemoval(),
            SenderCheck(),
            FieldRepairs(), Containment(), RuleFields(),
        ]
        if let qualify { always.append(Qualification(domain: qualify)) }
        let all = Self.ordered(always.map { .immediate($0) } + steps + (signer.map { [.waiting($0)] } ?? []))
        header = all.prefix { $0.place == .header && $0.immediate != nil }.compactMap(\.immediate)
        let rest = all.dropFirst(header.count)
        before = Array(rest.prefix { $0.place <= .milters })
        behind = Array(rest.dropFirst(before.count))
        immediate = rest.prefix { $0.immediate != nil }.count
        again = before.filter { $0.place == .containment || $0.place == .conversion }
        observing = all.compactMap { $0.policy as? any ObservingPolicy }
        places = all.map(\.place)
    }

    /// By their places; those of one place as they are.
    static func ordered(_ steps: [PolicyStep]) -> [PolicyStep] {
        steps.enumerated().sorted { ($0.element.place, $0.offset) < ($1.element.place, $1.offset) }.map(\.element)
    }

    /// Those who look on while a large message comes: as a rule nobody.
    func makeObservers() -> [any ContentObserver] { observing.compactMap { $0.makeObserver() } }

    /// How many are done at once.
    private func immediate(_ context: PolicyContext) -> Int {
        context.filter == nil ? immediate : min(immediate, before.count)
    }

    /// Whether ``finish(_:_:)`` has anything to do.
    package func waits(_ context: PolicyContext) -> Bool {
        context.filter != nil || immediate < before.count + behind.count
    }

    /// Runs those of ``PolicyPlace/header`` on a message that has just been submitted: what they refuse is no message, and is
    /// not counted as one.
    package func begin(
        _ envelope: Envelope, _ message: Message, _ context: PolicyContext
    ) throws(PolicyRefusal) -> PolicyMail {
        var mail = PolicyMail(envelope: envelope, message: message)
        for policy in header { try policy.apply(to: &mail, context) }
        return mail
    }

    /// Runs those behind them, up to the first that waits.
    package func proceed(_ mail: inout PolicyMail, _ context: PolicyContext) throws(PolicyRefusal) {
        let count = immediate(context)
        for step in before.prefix(count) { try step.immediate?.apply(to: &mail, context) }
        for step in behind.prefix(max(0, count - before.count)) { try step.immediate?.apply(to: &mail, context) }
    }

    /// Both.
    package func apply(
        to envelope: Envelope, _ message: Message, _ context: PolicyContext
    ) throws(PolicyRefusal) -> PolicyMail {
        var mail = try begin(envelope, message, context)
        try proceed(&mail, context)
        return mail
    }

    /// Runs those that ``proceed(_:_:)`` has left. Where one refuses, `mail` is what was made of it until then.
    package func finish(_ mail: inout PolicyMail, _ context: PolicyContext) async throws(PolicyRefusal) {
        let count = immediate(context)
        for step in before.dropFirst(count) { try await step.apply(to: &mail, context) }
        if let filter = context.filter, try await mail.pass(filter, context) {
            // Hosts that take less get what a filter adds as they get what a client sends, and it is signed as it will leave.
            for step in again { try await step.apply(to: &mail, context) }
        }
        // Nothing of it is to leave.
        if mail.discardedBy != nil { return }
        for step in behind.dropFirst(max(0, count - before.count)) { try await step.apply(to: &mail, context) }
    }
}

extension PolicyStep {
    fileprivate var immediate: (any QueuePolicy)? { if case .immediate(let policy) = self { policy } else { nil } }

    fileprivate func apply(to mail: inout PolicyMail, _ context: PolicyContext) async throws(PolicyRefusal) {
        switch self {
        case .immediate(let policy): try policy.apply(to: &mail, context)
        case .waiting(let policy): try await policy.apply(to: &mail, context)
        }
    }

    fileprivate var policy: Any {
        switch self {
        case .immediate(let policy): policy
        case .waiting(let policy): policy
        }
    }

    fileprivate var place: PolicyPlace {
        switch self {
        case .immediate(let policy): policy.place
        case .waiting(let policy): policy.place
        }
    }
}

/// Checks From and Sender of what a login sends, as it was received. Always after it is certain what the header is.
struct SenderCheck: QueuePolicy {
    var place: PolicyPlace { .senders }

    func apply(to mail: inout PolicyMail, _ context: PolicyContext) throws(PolicyRefusal) {
        guard let senders = context.senders, let envelope = mail.envelopes.first else { return }
        let edits: [HeaderSenders.Edit]
        do throws(HeaderSenders.Refusal) {
            edits = try senders.edits(
                of: mail.header, in: mail.message.head, mailFrom: envelope.sender, allowsUTF8: envelope.smtpUTF8)
        } catch {
            throw PolicyRefusal(error.reply, allowed: senders.rights?.description)
        }
        guard !edits.isEmpty else { return }
        let head = mail.message.head
        let isAdded = edits.allSatisfy { $0.octets.isEmpty }
        let signed = isAdded ? SignedFields.of(mail.header, head) : .none
        // That there is no Sender is signed too. One of somebody else's goes all the same, and a From there must be.
        let names = edits.map { String($0.text.prefix { $0 != ":" }) }
        guard !names.contains(where: { $0 != "From" && signed.has(name: $0) }) else { return mail.left(.senders) }
        mail.replace(edits)
        mail.repaired(.senders)
    }
}

/// Puts the fields that filters and rules have for the message above our Received. Always.
struct RuleFields: QueuePolicy {
    var place: PolicyPlace { .ruleFields }

    func apply(to mail: inout PolicyMail, _ context: PolicyContext) {
        if mail.fieldsAboveReceived.readableBytes > 0 {
            for index in mail.envelopes.indices { mail.envelopes[index].prepend(mail.fieldsAboveReceived) }
        }
        mail.prepend(context.fields)
    }
}

/// Removes Bcc fields: the other recipients are not to see them (RFC 5322 section 3.6.3). Always.
struct BccRemoval: QueuePolicy {
    var place: PolicyPlace { .header }

    func apply(to mail: inout PolicyMail, _ context: PolicyContext) {
        let blind = HeaderEnvelope.blindFields(of: mail.header, in: mail.message.head)
        guard !blind.isEmpty else { return }
        mail.remove(blind)
        mail.repaired(.blind)
    }
}
