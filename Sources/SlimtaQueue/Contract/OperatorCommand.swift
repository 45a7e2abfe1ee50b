// What operators do to messages, as a value: the control service makes it, the queue carries it out, and where several nodes share
// a queue it goes from the node that was asked to those that have the messages.

package import SlimtaMail

/// A command for messages, whoever has them.
package struct OperatorCommand: Hashable, Sendable {
    /// What is to be done. The names are stored, and read by nodes of other releases.
    package enum Verb: String, CaseIterable, Sendable {
        case flush, hold, release, remove, bounce
        /// All that waits is due now; without ids.
        case flushAll = "flush all"
    }

    /// What is to be done.
    package var verb: Verb
    /// To which envelopes; each is there once.
    package var ids: [QueueID]
    /// Why they are held, where that is not just the operator's word.
    package var reason: String?
    /// Who wants it, as the log and the ledger have it.
    package var by: String

    /// What an operator wants.
    package init(_ verb: Verb, _ ids: [QueueID], because reason: String? = nil, by: String) {
        self.verb = verb
        self.ids = ids
        self.reason = reason
        self.by = by
    }
}

/// What came of a command.
package struct OperatorAnswer: Hashable, Sendable {
    /// For how many envelopes it was carried out.
    package var done: Int
    /// For which it was not, and why.
    package var failed: [QueueOperationFailure]
    /// Who was asked for all that is there, and has not said what came of it: such as "node mx2".
    package var silent: [String]

    /// With nothing in it, or what is given.
    package init(done: Int = 0, failed: [QueueOperationFailure] = [], silent: [String] = []) {
        self.done = done
        self.failed = failed
        self.silent = silent
    }

    /// Of a command for these, of which some have failed.
    package init(of ids: [QueueID], failed: [QueueOperationFailure]) {
        self.init(done: ids.count - failed.count, failed: failed)
    }

    /// With what came of another part of the same command.
    package mutating func add(_ other: OperatorAnswer) {
        done += other.done
        failed += other.failed
        silent += other.silent
    }
}

/// Why a command was not carried out for one of the envelopes that it was about.
package struct QueueOperationFailure: Error, Hashable, Sendable {
    /// The envelope that the command was not carried out for.
    package let id: QueueID
    /// Why not.
    package let error: QueueOperationError

    /// One envelope of a command that others may have been carried out for.
    package init(id: QueueID, error: QueueOperationError) {
        self.id = id
        self.error = error
    }
}

/// Why the queue did not do what an operator asked.
package enum QueueOperationError: Error, Hashable, Sendable {
    /// No envelope with this id is queued.
    case notFound
    /// An attempt is being made, or another command about it is being carried out: to be asked again when that has ended.
    case inFlight
    /// It is held: it has to be released first.
    case held
    /// It is here to be looked at (see ``EnvelopeState/isKept``): it can be removed, and nothing else.
    case kept
    /// The storage did not record it; nothing has changed.
    case storage(StorageError)
    /// Another node has it, and this came of asking there, in words.
    case elsewhere(String)
}

extension QueueOperationError {
    /// Whether the envelope may be queued all the same: another node may have it.
    package var mayBeElsewhere: Bool { self == .notFound || self == .storage(.lost) }
}
