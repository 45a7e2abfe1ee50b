// Submissions that may come again: what is done with one by its key. The HTTP edge asks before it takes a submission, and
// again when it has been stored or not.

package import SlimtaQueue
import Synchronization

/// The keys of submissions that are being made at an edge.
///
/// That a key is taken is in memory only: what ends before its commit, with the daemon or without, has never been. What has
/// been is in the storage, which refuses a second message with the key of a first one whatever is known here, also if
/// that came to another edge.
package final class SubmissionKeys: Sendable {
    private let keys = Mutex<Set<Receipt.Digest>>([])
    private let submissions: any Submissions

    /// How long what a submission leaves behind is kept.
    package static let lifetime = Duration.seconds(86_400)

    /// Of edges that submit to `submissions`.
    package init(_ submissions: any Submissions) { self.submissions = submissions }

    /// What a submission with a key is, before its content is there.
    package enum Opening: Sendable {
        /// The first with its key. It is in progress as long as the reservation is held.
        case first(Reservation)
        /// It was made before: its content is to be read, and then ``answer(to:_:)`` has what is said to it.
        case repeated(Receipt)
        /// It is being made at this moment: 409.
        case inProgress
    }

    /// What is said to a submission that was made before.
    package enum Repetition: Sendable {
        /// What was said to the first one.
        case replay(Receipt)
        /// Something else is submitted with the same key: 422.
        case other
        /// The first one is being stored, or its commit has just failed: 409.
        case inProgress
    }

    /// Holds a key. It is free again when this is let go of.
    package final class Reservation: Sendable {
        private let key: Receipt.Digest
        private let table: SubmissionKeys

        fileprivate init(_ key: Receipt.Digest, _ table: SubmissionKeys) {
            self.key = key
            self.table = table
        }

        deinit { _ = table.keys.withLock { $0.remove(key) } }
    }

    /// Asked when the head of a request is there.
    package func open(_ key: Receipt.Digest) async throws(StorageError) -> Opening {
        if let receipt = try await submissions.receipt(for: key) { return .repeated(receipt) }
        guard keys.withLock({ $0.insert(key).inserted }) else { return .inProgress }
        let reservation = Reservation(key, self)
        // The one before it may have ended in between.
        if let receipt = try await submissions.receipt(for: key) { return .repeated(receipt) }
        return .first(reservation)
    }

    /// What is said to a submission that was made before, once its fingerprint is known.
    package func answer(to receipt: Receipt, _ fingerprint: Receipt.Digest) -> Repetition {
        receipt.fingerprint == fingerprint ? .replay(receipt) : .other
    }

    /// What is said to a submission that the storage refused as ``Reply/repeated``.
    package func answer(to key: Receipt.Digest, _ fingerprint: Receipt.Digest) async -> Repetition {
        guard let receipt = try? await submissions.receipt(for: key) else { return .inProgress }
        return answer(to: receipt, fingerprint)
    }
}
