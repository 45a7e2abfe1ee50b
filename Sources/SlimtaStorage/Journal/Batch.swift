// What is written and synced together: encoded frames, what they change, and who waits for it. Journal fills one batch
// while its writer writes the one before.

import NIOCore
import SlimtaMail
import SlimtaQueue
import SlimtaRecords

/// What one record of a frame changes in the index.
struct Change {
    enum Kind {
        case accept(RecipientCount)
        case state(Fates)
        case remove(Fates, by: String?)
        case depart(RecipientCount)
        indirect case receipt(ReceiptRecord)
        case forget(Receipt.Digest)
        /// For the receipt of what is removed.
        indirect case outcome(Ending)
    }

    var kind: Kind
    /// The offset of the frame in the batch.
    var frame: Int
    var id: QueueID
    /// The body that the envelope shares, an index into the batch's bodies; -1: its own.
    var body = -1
}

/// A body that several envelopes of a batch share, or that has a file in the spool.
struct PendingBody {
    var id: QueueID
    var rest: (any SpooledBody)?
}

/// Frames that become durable with one sync.
///
/// `@unchecked Sendable`: it is filled under the journal's lock and then belongs to the writer. That nobody else has it need
/// not be checked anew for each commit.
final class Batch: @unchecked Sendable {
    typealias Completion = @Sendable (Result<Void, StorageError>) -> Void

    /// Who waits for a commit.
    struct Waiter {
        var completion: Completion
        /// Why the commit was refused; nil: what becomes of the batch becomes of it.
        var refusal: StorageError?
    }

    let buffer: OutputBuffer
    /// The salt that its checksums were made with.
    @exclusivity(unchecked) var salt: UInt64 = 0
    /// Offsets of its frames.
    @exclusivity(unchecked) var frames: [Int] = []
    @exclusivity(unchecked) var changes: [Change] = []
    @exclusivity(unchecked) var bodies: [PendingBody] = []
    /// Of its receipts.
    @exclusivity(unchecked) var keys: [Receipt.Digest] = []
    /// Who waits, in order.
    @exclusivity(unchecked) var waiters: [Waiter] = []
    /// When its first frame was made: all of them say so, they are less than a sync apart.
    @exclusivity(unchecked) private var begun = Timestamp(milliseconds: 0)
    /// The number of its last frame.
    @exclusivity(unchecked) var last: UInt64 = 0

    init(capacity: Int) { buffer = OutputBuffer(capacity: capacity) }

    var isEmpty: Bool { buffer.count == 0 && waiters.isEmpty }

    /// Answers with the batch, in order, but that the commit is not in it.
    func refuse(_ completion: @escaping Completion, _ error: StorageError) {
        waiters.append(Waiter(completion: completion, refusal: error))
    }

    func removeAll() {
        buffer.removeAll()
        frames.removeAll(keepingCapacity: true)
        changes.removeAll(keepingCapacity: true)
        bodies.removeAll(keepingCapacity: true)
        keys.removeAll(keepingCapacity: true)
        waiters.removeAll(keepingCapacity: true)
    }

    /// What the index knows of an envelope that leaves the queue.
    struct Leaving {
        /// nil: it is not queued.
        var recipients: RecipientCount?
        var fates = Fates()
        var hasReceipt = false
    }

    /// Appends the frame of `commit`, before which `accepted` recipients were accepted; its size, and which recipients it
    /// accepts.
    func encode(
        _ commit: QueueCommit, number: UInt64, durable: UInt64, accepted: AcceptedCount,
        known: (QueueID) -> Leaving
    ) -> (size: Int, accepted: AcceptedCount) {
        let type: FrameType = !commit.accepted.isEmpty ? .accept : !commit.states.isEmpty ? .state : .remove
        if frames.isEmpty { begun = .now() }
        let start = FrameHeader.begin(type, number: number, durable: durable, at: begun, into: buffer)
        buffer.field(RecordTag.accepted, accepted)
        var ours = AcceptedCount()
        if !commit.accepted.isEmpty, let head = commit.message?.head {
            let rest = commit.message?.rest
            let body: Int
            if commit.accepted.count > 1 || rest != nil {
                let id = commit.accepted[0].envelope.id
                bodies.append(PendingBody(id: id, rest: rest))
                body = bodies.count - 1
            } else {
                body = -1
            }
            buffer.reserve(head.readableBytes + 1024)
            for new in commit.accepted { ours.add(encode(new, frame: start, body)) }
            let field = buffer.begin(RecordTag.body)
            buffer.append(head)
            buffer.end(field)
            if let rest { SpoolCodec.encode(rest.reference, tag: RecordTag.spool, into: buffer) }
        }
        for state in commit.states {
            StateCodec.encode(state, tag: RecordTag.state, into: buffer)
            changes.append(Change(kind: .state(Fates(state)), frame: start, id: state.id))
        }
        for ending in commit.ended {
            let leaving = known(ending.id)
            EndingCodec.encode(ending, leaving.recipients, tag: RecordTag.ending, into: buffer)
            changes.append(Change(kind: .remove(Fates(ending), by: ending.by), frame: start, id: ending.id))
            if leaving.hasReceipt {
                OutcomeCodec.encode(ending, tag: RecordTag.outcome, into: buffer)
                changes.append(Change(kind: .outcome(ending), frame: start, id: ending.id))
            }
        }
        for id in commit.departed {
            let leaving = known(id)
            guard let recipients = leaving.recipients else { continue }
            encodeDeparture(id, recipients, leaving.fates, frame: start)
            ours.subtract(recipients)
        }
        encodeReceipts(commit, frame: start)
        FrameHeader.end(start, salt: salt, in: buffer)
        frames.append(start)
        last = number
        return (buffer.count - start, ours)
    }

    private func encode(_ new: QueueCommit.Acceptance, frame: Int, _ body: Int) -> RecipientCount {
        EnvelopeCodec.encode(new.envelope, due: new.due, tag: RecordTag.envelope, into: buffer)
        let recipients = RecipientCount(new.envelope)
        changes.append(Change(kind: .accept(recipients), frame: frame, id: new.envelope.id, body: body))
        return recipients
    }

    private func encodeDeparture(_ id: QueueID, _ recipients: RecipientCount, _ ended: Fates, frame: Int) {
        let pending = UInt32(truncatingIfNeeded: UInt64(recipients.count) &- ended.sum)
        let ending = Ending(
            id: id, delivered: ended.delivered, bounced: ended.bounced, expired: ended.expired,
            removed: ended.removed &+ pending)
        EndingCodec.encode(ending, recipients, tag: RecordTag.ending, into: buffer)
        buffer.field(RecordTag.departed, id)
        changes.append(Change(kind: .depart(recipients), frame: frame, id: id))
    }

    private func encodeReceipts(_ commit: QueueCommit, frame: Int) {
        for receipt in commit.receipts {
            let record = ReceiptRecord(receipt)
            record.octets.withUnsafeBytes { buffer.field(RecordTag.receipt, $0) }
            keys.append(receipt.key)
            changes.append(Change(kind: .receipt(record), frame: frame, id: receipt.id))
        }
        for key in commit.forgotten {
            buffer.field(RecordTag.forgotten, key)
            changes.append(Change(kind: .forget(key), frame: frame, id: QueueID(high: 0, low: 0)))
        }
    }

    /// How much was in it: to take the last frame out again.
    struct Mark {
        var octets: Int, frames: Int, changes: Int, bodies: Int, keys: Int, last: UInt64
    }

    var mark: Mark {
        Mark(
            octets: buffer.count, frames: frames.count, changes: changes.count, bodies: bodies.count, keys: keys.count,
            last: last)
    }

    func rollBack(to mark: Mark) {
        buffer.truncate(to: mark.octets)
        frames.removeLast(frames.count - mark.frames)
        changes.removeLast(changes.count - mark.changes)
        bodies.removeLast(bodies.count - mark.bodies)
        keys.removeLast(keys.count - mark.keys)
        last = mark.last
    }

    /// Makes the checksums those of a segment with another salt.
    func reseal(salt: UInt64) {
        if salt == self.salt { return }
        self.salt = salt
        for frame in frames { FrameHeader.seal(frame, salt: salt, in: buffer) }
    }
}
