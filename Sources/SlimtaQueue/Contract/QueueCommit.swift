// What the queue asks a storage to make durable at once: new envelopes, new states, and ends. Made by the queue's driver
// and by AttemptResolution, performed by every storage.

package import SlimtaMail

/// What becomes durable together or not at all.
///
/// An SMTP transaction is one commit with all envelopes that policies made of it. A bounce and the end of what it
/// tells of are one commit, so that neither exists without the other.
package struct QueueCommit: Sendable {
    /// A new envelope.
    package struct Acceptance: Sendable {
        /// With an id that no other envelope has.
        package var envelope: Envelope
        /// When the first attempt is to be made.
        package var due: Timestamp

        /// An envelope whose first attempt is to be made at `due`.
        package init(_ envelope: Envelope, due: Timestamp) {
            self.envelope = envelope
            self.due = due
        }
    }

    /// New envelopes, all with `message`.
    package var accepted: [Acceptance]
    /// The message of `accepted`; nil only if that is empty.
    package var message: Message?
    /// New states of queued envelopes. Absolute: the last one written is the truth.
    package var states: [EnvelopeState]
    /// Envelopes that leave the queue: every recipient's fate is final.
    package var ended: [Ending]
    /// Envelopes that another storage has from now on: they leave as if they had never been accepted here, and receipts are
    /// told nothing. One that is not queued is none.
    package var departed: [QueueID]
    /// What submissions leave behind. With the key of one that is there already, or is being stored, the whole commit is
    /// refused as `repeated`.
    package var receipts: [Receipt]
    /// Keys of receipts that are not needed any more. One that is not there is none.
    package var forgotten: [Receipt.Digest]
    /// Whether what it accepts is delivered by who has its part of the queue, and that is not this node as far as it knows:
    /// the storage tells the one that has, once, as of anything else that is acquired. Then it says nothing of what was
    /// queued before.
    package var isForOthers = false

    /// Nothing but what is given; a commit of nothing is allowed.
    package init(
        accepted: [Acceptance] = [], message: Message? = nil, states: [EnvelopeState] = [], ended: [Ending] = [],
        departed: [QueueID] = [], receipts: [Receipt] = [], forgotten: [Receipt.Digest] = []
    ) {
        self.accepted = accepted
        self.message = message
        self.states = states
        self.ended = ended
        self.departed = departed
        self.receipts = receipts
        self.forgotten = forgotten
    }

    /// Whether it says something of envelopes that are queued already: such a commit goes before new mail where there is
    /// little room, since the queue drains by it. A first state of what the commit itself accepts is new mail.
    package var concernsQueued: Bool {
        if accepted.isEmpty || !ended.isEmpty || !departed.isEmpty { return true }
        return states.contains { state in !accepted.contains { $0.envelope.id == state.id } }
    }

    /// Whether it speaks of nothing but what it accepts.
    package var isOfItselfAlone: Bool {
        let ids = Set(accepted.map(\.envelope.id))
        return departed.isEmpty && states.allSatisfy { ids.contains($0.id) } && ended.allSatisfy { ids.contains($0.id) }
    }

    /// Whether what of it came through stays though its client was told ``StorageError/doubtful``: others deliver it, who may have
    /// begun, and the client finds it by its key. To take out only what is still there would be to deliver a part of it, and to
    /// take out its receipt to deliver it twice.
    package var outlivesDoubt: Bool { isForOthers && receipts.contains { $0.reach != .itself } }

    /// An envelope that it is about; nil: it is about none.
    package var anyID: QueueID? {
        accepted.first?.envelope.id ?? states.first?.id ?? ended.first?.id ?? departed.first
    }

    /// Whether there is nothing in it.
    package var isEmpty: Bool {
        accepted.isEmpty && states.isEmpty && ended.isEmpty && departed.isEmpty && receipts.isEmpty
            && forgotten.isEmpty
    }
}
