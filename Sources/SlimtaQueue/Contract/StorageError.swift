// Why a storage did not do what it was asked: said by storages, told by everybody.

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
    /// since the client comes back with them, unless they outlive the doubt (``QueueCommit/outlivesDoubt``): then its key is
    /// `repeated`. New states and ends are to be committed again.
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
