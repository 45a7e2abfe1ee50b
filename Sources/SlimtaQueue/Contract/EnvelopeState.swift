// A queued envelope as a storage keeps it: the state of its recipients, what the scheduler needs of it, and the whole of it
// read back. What an edge handed over is Envelope and Message, in SlimtaMail.

package import SlimtaMail

/// What changes in a queued envelope's life: when it is due, and how far each recipient is.
package struct EnvelopeState: Hashable, Sendable {
    /// Of the envelope.
    package var id: QueueID
    /// Attempts made so far.
    package var attempts: UInt32
    /// When the next attempt is due.
    package var due: Timestamp
    /// Held, by an operator or by a rule: never due until it is released.
    package var isHeld: Bool
    /// The name of the rule that holds it, as operators read it; nil: it is not held, or an operator holds it.
    package var heldReason: String?
    /// Whether the sender was told of the delay.
    package var isWarned: Bool
    /// One for each recipient of the envelope, by its index.
    package var recipients: [RecipientState]
    /// What the last attempts came to, oldest first: see ``AttemptRecord``.
    package var history: [AttemptRecord]

    /// As it is read back, or for a test.
    package init(
        id: QueueID, attempts: UInt32 = 0, due: Timestamp, isHeld: Bool = false, heldReason: String? = nil,
        isWarned: Bool = false, recipients: [RecipientState], history: [AttemptRecord] = []
    ) {
        self.id = id
        self.attempts = attempts
        self.due = due
        self.isHeld = isHeld
        self.heldReason = heldReason
        self.isWarned = isWarned
        self.recipients = recipients
        self.history = history
    }

    /// The state of an envelope that has just been accepted.
    package init(of envelope: Envelope, due: Timestamp) {
        self.init(
            id: envelope.id, due: due,
            recipients: Array(repeating: RecipientState(), count: envelope.recipients.count))
    }

    /// Why it is held if a fault of ours has kept it from being accepted: it is for whoever looks into that, and its client was
    /// told to send the message again. Longer than the name of any rule.
    package static let keptReason = "signature does not hold; its client was told to send the message again"

    /// Whether it was never accepted, and is never to leave.
    package var isKept: Bool { heldReason == Self.keptReason }

    /// The indices of the recipients that are still to be delivered.
    package var pending: [Int] { recipients.indices.filter { recipients[$0].fate == .pending } }
}

/// How far one recipient is.
package struct RecipientState: Hashable, Sendable {
    /// Final but for `pending`. The numbers are stored and keep their meaning; the names are what operators read.
    package enum Fate: UInt8, Sendable {
        case pending = 0
        case delivered = 1
        case bounced = 2
        case expired = 3
        case removed = 4
    }

    /// What became of the recipient.
    package var fate: Fate
    /// What was said of it last: an SMTP reply as one line; empty before the first attempt.
    package var reply: String
    /// The relay that said so, as in the log; empty if none.
    package var relay: String

    /// Without arguments: of a recipient for whom nothing was tried yet.
    package init(fate: Fate = .pending, reply: String = "", relay: String = "") {
        self.fate = fate
        self.reply = reply
        self.relay = relay
    }
}

/// All that the scheduler needs to know of a queued envelope; made without reading its content.
package struct QueuedSummary: Hashable, Sendable {
    /// Of the envelope.
    package var id: QueueID
    /// When it was accepted.
    package var received: Timestamp
    /// When the next attempt is due; without meaning while ``isHeld``.
    package var due: Timestamp
    /// Attempts made so far.
    package var attempts: UInt32
    /// When the last attempt ended, by the system's clock; nil if that is not known.
    package var tried: Timestamp?
    /// Held: never due until it is released.
    package var isHeld: Bool
    /// Whether the sender was told of the delay.
    package var isWarned: Bool
    /// The folded domain of the first pending recipient: what destinations are served by.
    package var destination: String

    /// As a storage makes it at a start.
    package init(
        id: QueueID, received: Timestamp, due: Timestamp, attempts: UInt32, tried: Timestamp? = nil, isHeld: Bool,
        isWarned: Bool = false, destination: String
    ) {
        self.id = id
        self.received = received
        self.due = due
        self.attempts = attempts
        self.tried = tried
        self.isHeld = isHeld
        self.isWarned = isWarned
        self.destination = destination
    }
}

/// A queued envelope, read back.
package struct StoredEnvelope: Sendable {
    /// As it was accepted.
    package var envelope: Envelope
    /// As it is now.
    package var state: EnvelopeState
    /// The message of all envelopes that were accepted with it.
    package var message: Message
    /// The message cannot be read any more; the one that is here is empty.
    package var isRemains: Bool

    /// What a storage has read.
    package init(envelope: Envelope, state: EnvelopeState, message: Message, isRemains: Bool = false) {
        self.envelope = envelope
        self.state = state
        self.message = message
        self.isRemains = isRemains
    }
}

extension EnvelopeState {
    /// Adds an attempt to the history: an outcome for each of these recipients.
    ///
    /// - Parameter isRepeated: it was no attempt, and is not written if all of it was said before.
    mutating func record(_ outcomes: [(Int, Outcome)], at time: Timestamp, isRepeated: Bool = false) {
        var records: [AttemptRecord] = []
        var known: [AttemptRecord: Int] = [:]
        for (recipient, outcome) in outcomes {
            var key = AttemptRecord(outcome, recipient: recipient, at: time)
            let record = key
            key.recipient = 0
            if let index = known[key] {
                records[index].count += 1
            } else if records.count < AttemptRecord.limit {
                known[key] = records.count
                records.append(record)
            }
        }
        if isRepeated, records.allSatisfy({ record in history.contains(where: record.repeats) }) { return }
        history = (history + records).suffix(AttemptRecord.limit)
    }
}

extension Envelope {
    /// Whether anybody wants to be told that these recipients, by their indices, wait: else there is nothing to be told
    /// before the end.
    func hasWarning(for pending: some Sequence<Int>) -> Bool {
        sender != nil && !isTLSReport && pending.contains { notifies(of: recipients[$0]).contains(.delay) }
    }
}

extension QueuedSummary {
    /// What the scheduler needs of an envelope.
    package init(of stored: StoredEnvelope) {
        let first = stored.state.pending.first
        self.init(
            id: stored.envelope.id, received: stored.envelope.received, due: stored.state.due,
            attempts: stored.state.attempts, tried: stored.state.history.last?.time, isHeld: stored.state.isHeld,
            isWarned: stored.state.isWarned,
            destination: first.map { stored.envelope.recipients[$0].foldedDomain } ?? "")
    }
}
