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

    /// Whether this node delivers what is accepted under the id now. If not, the commit that makes it durable is one
    /// ``QueueCommit/isForOthers``, and who has that part of the queue is told of it by the storage.
    func keeps(_ id: QueueID) -> Bool

    /// Whether a message of `size` octets would be taken now. Each MAIL asks: it takes no lock.
    func admission(of size: Int) -> Admission

    /// The storages that it is made of.
    var members: StorageMembers { get }

    /// The one that an envelope is in. An outcome that it does not take keeps what is in others from nothing.
    func member(of id: QueueID) -> StorageMembers

    /// Those that cannot be reached now: nothing is begun for what is in them.
    var awayMembers: StorageMembers { get }

    /// Makes `commit` durable, then calls `completion`, on a thread of the storage: it must not block.
    ///
    /// Commits about one envelope complete in the order in which they were made. States are absolute, and the end of what
    /// has ended is none: such a commit may be made again. When it succeeds, its new envelopes are ours to deliver, unless
    /// it ``QueueCommit/isForOthers``.
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

    /// Has the nodes carry a command out that have these envelopes, of which the queue here knows nothing; with
    /// ``OperatorCommand/Verb/flushAll`` all other nodes, with all that they have. Returns when all have answered, or will not.
    func ask(_ command: OperatorCommand) async -> OperatorAnswer
}

extension QueueStorage {
    /// Where there are no other nodes, what the queue does not know is not there.
    package func ask(_ command: OperatorCommand) async -> OperatorAnswer {
        OperatorAnswer(of: command.ids, failed: command.ids.map { .init(id: $0, error: .notFound) })
    }
    /// All of it: the queue is one machine's.
    package func keeps(_ id: QueueID) -> Bool { true }

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
    /// Other nodes are to have it: 451 4.3.0. What is queued here is delivered.
    case draining
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

    /// How many envelopes who reads many pages is to ask for at once: it takes milliseconds.
    var pageSize: Int { get }

    /// Reads an envelope for who only looks at it: also one that another node has. What is found damaged is not told of.
    func look(at id: QueueID) async throws(StorageError) -> StoredEnvelope

    /// How many envelopes are queued, whoever has them.
    func count() async throws(StorageError) -> Int

    /// What the storage is doing. From memory.
    func status() -> StorageStatus

    /// The balance of all recipients that this queue ever accepted, up to what was committed last.
    func ledger() async throws(StorageError) -> Ledger

    /// Proves the balance from what is stored, beside the running work.
    func audit() async throws(StorageError) -> StorageAudit

    /// What is to be told to other nodes of destinations and sites that are limited or back off: all of it, as it is now. It
    /// goes with the next beat. The answer to ``QueueEvent/sites(_:)``, behind which all is within the new limits that begins.
    func report(_ sites: [SiteDemand])

    /// An operator knows what was lost: it is not told of any more, by `status` and `audit`. Returns what that was.
    func acknowledgeLosses() async throws(StorageError) -> [String]

    /// Takes no more commits, finishes those that were made, and gives back what it took when it was opened.
    func close() async
}

extension QueueBackend {
    /// As many as are read together from one file.
    package var pageSize: Int { 256 }
    /// Where there are no other nodes, all can be read that is queued.
    package func look(at id: QueueID) async throws(StorageError) -> StoredEnvelope { try await load(id) }
    /// Where there is one machine nobody is told.
    package func report(_ sites: [SiteDemand]) {}
}

/// A storage that writes to a journal first and puts it in order later.
package protocol CheckpointedBackend: QueueBackend {
    /// Puts all in order that was committed up to now.
    func checkpoint() async throws(StorageError)
}

/// A storage of one machine, whose mail can be carried to another storage and back: see `slimtad queue move`.
package protocol MovableBackend: QueueBackend {
    /// Receipts in the order of their keys: those behind `place` (nil: from the beginning), at most `count`. One that has
    /// expired is none.
    func receipts(after place: Receipt.Digest?, count: Int) async throws(StorageError) -> [Receipt]
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
