// The contract between the edges and what takes their messages: in this process policies and queue (Intake, in SlimtaPolicy),
// with an edge apart from its queue a client of that. Edges call it, and know nothing else of what is behind.

package import NIOCore
package import SlimtaMail

/// What the rules and services of an edge want done with a message that they let through.
package struct SubmissionTerms: Hashable, Sendable {
    /// The name of the rule that holds it: it is queued, and attempted only when an operator has released it. nil: no hold.
    package var heldReason: String?
    /// Whole header fields, each with its CRLF, folded where that is needed: they go on top of every envelope, above our own
    /// Received, the first of them uppermost.
    package var fields: [String]
    /// When the first attempt is to be made; nil: at once. Its id is of that time: from then on it grows old.
    package var due: Timestamp?
    /// What is checked of From and Sender before anything is changed; nil: nothing.
    package var senders: HeaderSenders?
    /// Who sees it whole before it is stored; nil: nobody.
    package var filter: MessageFilterReference?

    /// Without arguments: a message like any other.
    package init(heldReason: String? = nil, fields: [String] = [], due: Timestamp? = nil) {
        self.due = due
        self.heldReason = heldReason
        self.fields = fields
    }
}

/// What an edge hands messages to. Safe to call from any thread; never blocks the caller.
package protocol Submissions: SubmissionStates {
    /// Asked before a message comes: the reply that says that nothing, or nothing of `size` octets, can be taken now; nil
    /// if it can, or if that will only be known when the message is there.
    ///
    /// - Parameters:
    ///   - size: what the client says that the message has; nil if it says nothing.
    ///   - completion: is called once, on any thread: before this returns where the answer is known. Another process may
    ///     have to be asked for it.
    func refusal(size: Int?, completion: @escaping @Sendable (Reply?) -> Void)

    /// The id of a message that begins to arrive at `time`.
    func newID(at time: Timestamp) -> QueueID

    /// Begins the file of a large message: what is behind `head`, the part of it that is kept in memory.
    func beginSpool(_ id: QueueID, behind head: ByteBuffer) -> any SpoolWriter

    /// Applies policies, makes the message durable, and says what the client is told.
    ///
    /// - Parameters:
    ///   - envelope: with an id that ``newID(at:)`` made.
    ///   - terms: of all envelopes that policies make of it.
    ///   - receipt: what the message leaves behind, without its envelopes: they are put into it here. nil: nothing.
    ///   - session: the name of the client's session in logs.
    ///   - completion: is called once, on any thread; before this returns where a policy refuses. 250 means that the queue has
    ///     taken responsibility, 4xx and 5xx that nothing of the message is in it. ``Reply/repeated``: a message with the
    ///     key of `receipt` is there, or is being stored; ``receipt(for:)`` says which.
    func submit(
        _ envelope: Envelope, _ message: Message, terms: SubmissionTerms, receipt: Receipt?, session: String,
        completion: @escaping @Sendable (Reply) -> Void)

    /// What a submission with this key has left behind, durable and as it is now; nil: nothing, or it has expired.
    func receipt(for key: Receipt.Digest) async throws(StorageError) -> Receipt?

    /// Receipts that are not needed any more. `completion` is called once, on any thread, when that is durable.
    func forget(_ keys: [Receipt.Digest], completion: @escaping @Sendable (StorageError?) -> Void)
}

extension Submissions {
    /// Submits a message that leaves nothing behind.
    package func submit(
        _ envelope: Envelope, _ message: Message, terms: SubmissionTerms, session: String,
        completion: @escaping @Sendable (Reply) -> Void
    ) {
        submit(envelope, message, terms: terms, receipt: nil, session: session, completion: completion)
    }
}

extension Reply {
    /// What a client is told when the storage could not take its message.
    package init(storing error: StorageError) {
        switch error {
        case .full: self.init(452, .init(4, 3, 1), "Insufficient system storage")
        case .failed, .notFound, .damaged, .away, .doubtful, .lost:
            self.init(451, .init(4, 3, 0), "Error queuing message")
        case .closed: self.init(421, .init(4, 3, 2), "Service shutting down")
        case .repeated: self = .repeated
        }
    }

    /// What is said of a submission whose key is known: the edge looks up what the first one was told.
    package static let repeated = Reply(451, .init(4, 3, 0), "Submitted before with the same key")
}
