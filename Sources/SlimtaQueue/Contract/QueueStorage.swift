// The contract between the queue and what keeps it durable. The queue's driver and the edges call it; SlimtaStorage is
// the implementation (journal and GDBM generations).

package import NIOCore
package import SlimtaMail

/// What becomes durable together or not at all.
///
/// An SMTP transaction is one commit with all envelopes that policies made of it. A bounce and the end of what it
/// tells of are one commit, so that neither exists without the other.
package struct QueueCommit: Sendable {
    /// A new envelope.
    package struct Acceptance: Sendable {
        package var envelope: Envelope
        /// When the first attempt is to be made.
        package var due: Timestamp

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
    package var removed: [Removal]

    package init(
        accepted: [Acceptance] = [], message: Message? = nil, states: [EnvelopeState] = [], removed: [Removal] = []
    ) {
        self.accepted = accepted
        self.message = message
        self.states = states
        self.removed = removed
    }
}

/// An envelope that leaves the queue, with the final fates: the ledger is made of these.
package struct Removal: Hashable, Sendable {
    package var id: QueueID
    /// How many recipients ended how, counted over the envelope's whole life.
    package var delivered: UInt32
    package var bounced: UInt32
    package var expired: UInt32
    /// Taken out by an operator.
    package var withdrawn: UInt32
    /// The operator who took out what is `withdrawn`.
    package var by: String?

    package init(
        id: QueueID, delivered: UInt32 = 0, bounced: UInt32 = 0, expired: UInt32 = 0, withdrawn: UInt32 = 0,
        by: String? = nil
    ) {
        self.id = id
        self.delivered = delivered
        self.bounced = bounced
        self.expired = expired
        self.withdrawn = withdrawn
        self.by = by
    }
}

/// What changes in a queued envelope's life: when it is due, and how far each recipient is.
package struct EnvelopeState: Hashable, Sendable {
    package var id: QueueID
    /// Attempts made so far.
    package var attempts: UInt32
    /// When the next attempt is due.
    package var due: Timestamp
    /// Held by an operator: never due.
    package var isHeld: Bool
    /// Whether the sender was told of the delay.
    package var isWarned: Bool
    /// One for each recipient of the envelope, by its index.
    package var recipients: [RecipientState]
    /// What the last attempts came to, oldest first: see ``AttemptRecord``.
    package var history: [AttemptRecord]

    package init(
        id: QueueID, attempts: UInt32 = 0, due: Timestamp, isHeld: Bool = false, isWarned: Bool = false,
        recipients: [RecipientState], history: [AttemptRecord] = []
    ) {
        self.id = id
        self.attempts = attempts
        self.due = due
        self.isHeld = isHeld
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

    /// The indices of the recipients that are still to be delivered.
    package var pending: [Int] { recipients.indices.filter { recipients[$0].fate == .pending } }
}

/// How far one recipient is.
package struct RecipientState: Hashable, Sendable {
    package enum Fate: UInt8, Sendable {
        case pending = 0
        case delivered = 1
        case failed = 2
        case expired = 3
        case withdrawn = 4
    }

    package var fate: Fate
    /// What was said of it last: an SMTP reply as one line; empty before the first attempt.
    package var reply: String
    /// The relay that said so, as in the log; empty if none.
    package var relay: String

    package init(fate: Fate = .pending, reply: String = "", relay: String = "") {
        self.fate = fate
        self.reply = reply
        self.relay = relay
    }
}

/// All that the scheduler needs to know of a queued envelope; made without reading its content.
package struct QueuedSummary: Hashable, Sendable {
    package var id: QueueID
    /// When it was accepted.
    package var received: Timestamp
    package var due: Timestamp
    package var attempts: UInt32
    package var isHeld: Bool
    /// Whether the sender was told of the delay.
    package var isWarned: Bool
    /// The folded domain of the first pending recipient: what destinations are served by.
    package var destination: String

    package init(
        id: QueueID, received: Timestamp, due: Timestamp, attempts: UInt32, isHeld: Bool, isWarned: Bool = false,
        destination: String
    ) {
        self.id = id
        self.received = received
        self.due = due
        self.attempts = attempts
        self.isHeld = isHeld
        self.isWarned = isWarned
        self.destination = destination
    }
}

/// A queued envelope, read back.
package struct StoredEnvelope: Sendable {
    package var envelope: Envelope
    package var state: EnvelopeState
    package var message: Message
    /// The message cannot be read any more; the one that is here is empty.
    package var isRemains: Bool

    package init(envelope: Envelope, state: EnvelopeState, message: Message, isRemains: Bool = false) {
        self.envelope = envelope
        self.state = state
        self.message = message
        self.isRemains = isRemains
    }
}

/// Why the storage did not do what it was asked. Nothing of the commit is then in the queue.
package enum StorageError: Error, Hashable, Sendable {
    /// No room: 452 4.3.1. May pass.
    case full
    /// The disk failed, with the system's word for it: 451 4.3.0.
    case failed(String)
    /// No envelope with this id is queued.
    case notFound
    /// The record is there and unreadable: it was moved aside, with what is left of it.
    case damaged(String)
    /// The storage is closed.
    case closed
}

/// Keeps envelopes from acceptance to their end. Safe to call from any thread; never blocks the caller.
package protocol QueueStorage: Sendable {
    /// Makes `commit` durable, then calls `completion`, on a thread of the storage: it must not block.
    ///
    /// Commits complete in the order in which they were made.
    func commit(
        _ commit: QueueCommit, completion: @escaping @Sendable (Result<Void, StorageError>) -> Void)

    /// Reads an envelope back.
    func load(_ id: QueueID) async throws(StorageError) -> StoredEnvelope

    /// What can still be read of an envelope that `load` could not read: whose it is and how far, without its message.
    /// nil: not even that.
    func remains(of id: QueueID) async -> StoredEnvelope?

    /// Reads the states of envelopes, each as it is now, in the order of `ids`; their messages are not read.
    func states(_ ids: [QueueID]) async -> [Result<EnvelopeState, StorageError>]

    /// Begins the file of a large message: what is behind the part of it that is kept in memory.
    func beginSpool(_ id: QueueID) -> any SpoolWriter
}

extension QueueStorage {
    /// Makes `commit` durable.
    package func commit(_ commit: QueueCommit) async throws(StorageError) {
        let result: Result<Void, StorageError> = await withCheckedContinuation { continuation in
            self.commit(commit) { continuation.resume(returning: $0) }
        }
        try result.get()
    }
}

/// Takes the rest of a large message while it arrives. Calls are made in order, from one caller at a time; they never
/// block. Dropping the writer, or `abandon`, deletes the file.
package protocol SpoolWriter: AnyObject, Sendable {
    /// Appends `bytes`; `completion` is called when they have left memory, in order: that is the back pressure.
    func append(_ bytes: ByteBuffer, completion: @escaping @Sendable (StorageError?) -> Void)

    /// Makes file and name durable, then calls `completion` with what a ``QueueCommit`` is to refer to.
    func finish(completion: @escaping @Sendable (Result<any SpooledBody, StorageError>) -> Void)

    /// Deletes the file.
    func abandon()
}
