// The contract between the queue and what keeps it durable. QueueStorage is what the queue's driver and the edges use,
// QueueBackend what the daemon and the control service need besides: they know no storage by its name. SlimtaStorage is one
// (journal and GDBM generations), MemoryStorage another, for tests; the suite in Tests/StorageKit says what all owe.

package import NIOCore
package import SlimtaMail

/// Keeps envelopes from acceptance to their end. Safe to call from any thread; never blocks the caller.
package protocol QueueStorage: Sendable {
    /// A new id for an envelope that is accepted at `time`. The storage makes them, since an id may say where in it the
    /// envelope is.
    /// - Parameter sibling: an envelope that is to be in one commit with the new one, if there is any: those of one message,
    ///   and a notice and what it tells of.
    func newID(at time: Timestamp, beside sibling: QueueID?) -> QueueID

    /// Whether a message of `size` octets would be taken now. Each MAIL asks: it takes no lock.
    func admission(of size: Int) -> Admission

    /// Makes `commit` durable, then calls `completion`, on a thread of the storage: it must not block.
    ///
    /// Commits about one envelope complete in the order in which they were made. States are absolute, and the end of what
    /// has ended is none: such a commit may be made again. When it succeeds, its new envelopes are ours to deliver.
    func commit(
        _ commit: QueueCommit, completion: @escaping @Sendable (Result<Void, StorageError>) -> Void)

    /// Reads an envelope back.
    func load(_ id: QueueID) async throws(StorageError) -> StoredEnvelope

    /// What can still be read of an envelope that `load` could not read: whose it is and how far, without its message.
    /// nil: not even that.
    func remains(of id: QueueID) async -> StoredEnvelope?

    /// Reads the states of envelopes, each as it is now, in the order of `ids`; their messages are not read.
    func states(_ ids: [QueueID]) async -> [Result<EnvelopeState, StorageError>]

    /// The receipt with this key, durable and as it is now; nil: there is none, or it has expired.
    func receipt(for key: Receipt.Digest) async throws(StorageError) -> Receipt?

    /// The receipt of the submission whose client was told `id`; nil: there is none, or it has expired.
    func receipt(of id: QueueID) async throws(StorageError) -> Receipt?

    /// Begins the file of a large message: what is behind the part of it that is kept in memory.
    func beginSpool(_ id: QueueID) -> any SpoolWriter

    /// The answer to ``QueueEvent/releasing(_:)``: nothing is in flight any more, and no commit with new envelopes. From now
    /// on another node delivers what is in `buckets`, and a commit about it is `lost` here, also if it is made before this
    /// has come through. Buckets come as they become free, not as they were asked for; one that was asked for again before
    /// it came comes once. Called under the queue's lock: it must not call the queue, nor wait for who does.
    func released(_ buckets: QueueBuckets)
}

extension QueueStorage {
    /// A new id for an envelope that is accepted at `time`, by itself.
    package func newID(at time: Timestamp) -> QueueID { newID(at: time, beside: nil) }

    /// Makes `commit` durable.
    package func commit(_ commit: QueueCommit) async throws(StorageError) {
        let result: Result<Void, StorageError> = await withCheckedContinuation { continuation in
            self.commit(commit) { continuation.resume(returning: $0) }
        }
        try result.get()
    }
}

/// Whether new mail is taken.
package enum Admission: Hashable, Sendable {
    case open
    /// No room: 452 4.3.1.
    case full
    /// The storage cannot be reached, with the reason: 451 4.3.0.
    case away(String)
}

/// Why the storage did not do what it was asked. But for `doubtful`, nothing of the commit is then in the queue.
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
    /// The storage cannot be reached, with the reason: 451 4.3.0. Nothing of the commit is there or will be.
    case away(String)
    /// Nobody knows yet whether the commit came through: 451 4.3.0. The storage finds out and takes new envelopes out again,
    /// since the client comes back with them; new states and ends are to be committed again.
    case doubtful
    /// The envelope is another node's now, which will deliver it: nothing more is to be recorded of it here.
    case lost
    /// A receipt with a key of the commit's is there, or is being stored: ``QueueStorage/receipt(for:)`` tells which. The
    /// message was submitted before.
    case repeated
}

extension StorageError {
    /// In words, for logs and for an operator who asked.
    package var text: String {
        switch self {
        case .notFound: "is not queued"
        case .damaged(let reason): "the record is damaged: \(reason)"
        case .failed(let reason): "the disk failed: \(reason)"
        case .full: "the disk is full"
        case .closed: "the queue is closed"
        case .away(let reason): "the queue's storage cannot be reached: \(reason)"
        case .doubtful: "nobody knows yet whether that was stored: ask again in a moment"
        case .lost: "is another node's now"
        case .repeated: "was submitted before"
        }
    }
}

/// A storage as the daemon has it.
package protocol QueueBackend: QueueStorage {
    /// Reads what is queued, and begins to work; what can be done before is to open it. To be called once.
    ///
    /// `events` is called in order, one call at a time, on any thread, and must not block: before this returns with all
    /// that is queued, later with what comes and goes. It is let go of by ``close()``.
    func start(_ events: @escaping @Sendable ([QueueEvent]) -> Void) async throws(StorageOpenError)

    /// Envelopes in the order of their ids, which is that of arrival: those behind `place` (nil: from the beginning), at
    /// most `count`. What comes or goes meanwhile may be in it or not; all else is, once.
    func page(after place: QueueID?, count: Int) async throws(StorageError) -> QueuedPage

    /// How many envelopes are in the queue, whoever delivers them.
    func count() async throws(StorageError) -> Int

    /// What the storage is doing. From memory.
    func status() -> StorageStatus

    /// The balance of all recipients that this queue ever accepted, up to what was committed last.
    func ledger() async throws(StorageError) -> Ledger

    /// Proves the balance from what is stored, beside the running work.
    func audit() async throws(StorageError) -> StorageAudit

    /// An operator knows what was lost: it is not told of any more, by `status` and `audit`. Returns what that was.
    func acknowledgeLosses() async throws(StorageError) -> [String]

    /// Takes no more commits, finishes those that were made, and gives back what it took when it was opened.
    func close() async
}

/// A storage that writes to a journal first and puts it in order later.
package protocol CheckpointedBackend: QueueBackend {
    /// Puts all in order that was committed up to now.
    func checkpoint() async throws(StorageError)
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
