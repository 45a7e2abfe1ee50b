// Why a queue could not be carried from its storage to another, and what of it was. `slimtad queue move` says it.

package import SlimtaMail
package import SlimtaQueue

/// Why a move stopped. What was carried is carried, nothing is lost, and it can go on from there.
package enum MoveError: Error, Sendable, CustomStringConvertible {
    /// The storage of this machine.
    case local(StorageError)
    /// The database, or the way to it.
    case database(ClusterDatabaseError)
    /// Others work with the database, or with the name of this node; in words.
    case others(String)
    /// Another node has taken this one for dead.
    case fenced

    /// In words.
    package var description: String {
        switch self {
        case .local(.full): "there is no room for the queue in the state directory"
        case .local(let error): "the local queue: \(error.text)"
        case .database(let error): "database: \(error)"
        case .others(let text): text
        case .fenced: "another node has taken this one for dead, since the database did not hear of it for too long"
        }
    }

    init(_ error: PostgresError) {
        self = .database(.server(error))
    }
}

/// What a move came to.
package struct MoveResult: Sendable {
    /// Envelopes that are on the other side now.
    package var envelopes = 0
    /// Receipts of submissions that are.
    package var receipts = 0
    /// Envelopes that stay where they are, and why: they cannot be read, or are to stay.
    package var failed: [(id: QueueID, reason: String)] = []
    /// Receipts that stay since they cannot be read, by their keys in hexadecimal, and why.
    package var failedReceipts: [(key: String, reason: String)] = []
    /// It was told to stop before all was carried, or more has come meanwhile.
    package var isInterrupted = false
    /// Envelopes that are still on this side.
    package var left = 0
}
