// What became of a submission, for who sent it: what its receipt says, and while an envelope is queued, what the queue says of
// it. Asked by edges whose clients may ask.

package import SlimtaMail

/// What became of a submission up to now.
package struct SubmissionState: Hashable, Sendable {
    /// How far a recipient is. The names are what clients read.
    package enum Fate: String, Hashable, Sendable {
        case queued, delivered, bounced, expired, removed
        /// Its envelope left the queue, and how it ended was not recorded: the record was damaged.
        case unknown
    }

    /// One recipient.
    package struct Recipient: Hashable, Sendable {
        /// The mailbox, as the sender has named it.
        package var address: String
        /// The envelope that it is in.
        package var envelope: QueueID
        /// How far it is.
        package var fate: Fate
        /// What was said of it last; empty before the first attempt.
        package var reply: String
        /// Attempts made so far; 0 once its envelope has left the queue.
        package var attempts: UInt32 = 0
        /// When the next attempt is due; nil: there will be none by itself.
        package var nextAttempt: Timestamp?
        /// Held by a rule or an operator.
        package var isHeld = false
    }

    /// The receipt as it is now.
    package var receipt: Receipt
    /// All recipients of all its envelopes.
    package var recipients: [Recipient]
}

/// Tells what became of submissions. Safe to call from any thread.
package protocol SubmissionStates: Sendable {
    /// What became of the submission whose client was told `id`; nil: there is none, it is forgotten, or it is none of `owners`'.
    func submission(_ id: QueueID, of owners: [Receipt.Owner]) async throws(StorageError) -> SubmissionState?
}

extension QueueStorage {
    /// What became of the submission whose client was told `id`: see ``SubmissionStates``.
    package func submission(_ id: QueueID, of owners: [Receipt.Owner]) async throws(StorageError) -> SubmissionState? {
        guard var receipt = try await receipt(of: id), owners.contains(receipt.owner) else { return nil }
        let queued = await states(receipt.envelopes.map(\.id))
        let hasEnded = zip(receipt.envelopes, queued).contains { part, state in
            part.fates == nil && state == .failure(.notFound)
        }
        // It may have left the queue in between.
        if hasEnded, let again = try await self.receipt(of: id) { receipt = again }
        var state = SubmissionState(receipt: receipt, recipients: [])
        for (part, queued) in zip(receipt.envelopes, queued) {
            switch queued {
            case .success(let queued): state.add(part, queued)
            case .failure(.notFound), .failure(.damaged): state.add(part, nil)
            case .failure(let error): throw error
            }
        }
        return state
    }
}

extension SubmissionState {
    /// Adds the recipients of an envelope; `queued` is its state, nil: it has left the queue.
    fileprivate mutating func add(_ part: Receipt.Part, _ queued: EnvelopeState?) {
        for (place, recipient) in part.recipients.enumerated() {
            var one = Recipient(
                address: recipient.address, envelope: part.id, fate: .unknown, reply: recipient.reply)
            if let queued, place < queued.recipients.count {
                let state = queued.recipients[place]
                (one.fate, one.reply, one.attempts) = (Fate(state.fate), state.reply, queued.attempts)
                if state.fate == .pending {
                    one.isHeld = queued.isHeld
                    one.nextAttempt = queued.isHeld ? nil : queued.due
                }
            } else if recipient.fate != .pending {
                one.fate = Fate(recipient.fate)
            }
            recipients.append(one)
        }
    }
}

extension SubmissionState.Fate {
    /// Of a recipient that is queued, or was.
    fileprivate init(_ fate: RecipientState.Fate) {
        switch fate {
        case .pending: self = .queued
        case .delivered: self = .delivered
        case .bounced: self = .bounced
        case .expired: self = .expired
        case .removed: self = .removed
        }
    }
}
