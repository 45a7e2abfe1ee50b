// The journal: where a commit becomes durable. Callers encode into the open batch under a lock; one thread writes a
// batch, syncs it, and tells them (Journal+Writer.swift); segments are made by the housekeeper (Housekeeper.swift).

import SlimtaMail
import SlimtaQueue
import SlimtaRecords
import SlimtaThreads
import Synchronization

/// The journal of a queue.
final class Journal: Sendable {
    /// A commit that did not fit.
    struct Waiting: Sendable {
        var commit: QueueCommit
        var completion: Batch.Completion
        /// Monotonic milliseconds.
        var deadline: Int64
        var isPrivileged: Bool
    }

    enum Phase {
        case running
        /// The disk failed; frames from `from` on do not count. `since`: when the last try was made.
        case broken(reason: String, from: UInt64, since: Int64)
    }

    struct State {
        var phase = Phase.running
        /// No new commits are taken.
        var isClosing = false
        /// The writer ends when nothing is left to do.
        var isStopped = false
        /// The writer has ended.
        var hasEnded = false
        /// Being filled.
        var open: Batch
        /// Full; oldest first.
        var sealed: [Batch] = []
        /// Empty, to be used again.
        var spare: [Batch] = []
        /// Octets of batches that have no place yet, without the open one.
        var unplaced = 0
        var waiting: [Waiting] = []
        /// Of receipts that are encoded and not durable yet.
        var keys: Set<Receipt.Digest> = []
        /// The number of the next frame.
        var next: UInt64
        /// Recipients accepted by the frames before it, since the queue was made.
        var accepted: AcceptedCount
        /// All frames up to this one are durable.
        var durable: UInt64
        /// The last number that a durable marker, or a later frame, tells of.
        var told: UInt64

        var current: Segment
        /// Where the next batch goes.
        var position: Int
        /// A segment to go on with, durable with its name.
        var ready: Segment?
        /// Older segments, oldest first.
        var closed: [Segment]
        /// The number of the next segment to be made.
        var nextSegment: UInt64
        /// The checkpoint wants the current segment closed.
        var wantsRotation = false
        /// The file of the current segment is gone: what is written to it is lost.
        var vanished: DiskError?
        /// Why no segment could be made.
        var makingFailed: DiskError?

        var freeOctets: UInt64 = .max
        var freeInodes: UInt64 = .max
        var isFull = false
        /// When the oldest change was made that no checkpoint has; monotonic milliseconds.
        var dirtySince: Int64?
        var progress: UInt64 = 0
        var isWriting = false
        /// How many commits the next batch is likely to have, and until when it is waited for them (monotonic
        /// nanoseconds): see `write`.
        var expected = 0
        var gatherUntil: Int64 = 0
        /// The writer sleeps, and wants to be woken when the open batch has this many commits; nil: it is awake, and
        /// looks for itself before it sleeps.
        var wakeAt: Int? = 1
    }

    let core: StorageCore
    let state: Mutex<State>
    /// Wakes the writer.
    let wake = Event()
    /// Told when segments or space are wanted.
    let housekeeper: Event
    /// Told when a segment was closed.
    let checkpointer: Event
    /// Told which spooled bodies nobody needs.
    let discard: @Sendable ([QueueID]) -> Void

    private let capacity: Int
    private let roomMilliseconds: Int64

    init(
        _ core: StorageCore, next: UInt64, durable: UInt64, current: Segment, position: Int, closed: [Segment],
        housekeeper: Event, checkpointer: Event, discard: @escaping @Sendable ([QueueID]) -> Void
    ) {
        self.core = core
        self.housekeeper = housekeeper
        self.checkpointer = checkpointer
        self.discard = discard
        capacity = core.options.segmentSize - SegmentHeader.space
        roomMilliseconds = core.options.roomTimeout.milliseconds
        let open = Batch(capacity: 256 << 10)
        open.salt = current.header.salt
        state = Mutex(
            State(
                open: open, next: next, accepted: core.index.withLock { $0.ledger.accepted }, durable: durable,
                told: durable, current: current, position: position, closed: closed,
                nextSegment: current.number + 1))
    }

    /// See ``QueueStorage/commit(_:completion:)``.
    func commit(_ commit: QueueCommit, completion: @escaping Batch.Completion) {
        precondition(commit.accepted.isEmpty || commit.message != nil, "envelopes without a message")
        let isPrivileged = commit.concernsQueued
        let (isClosed, wakes) = state.withLock { state -> (Bool, Bool) in
            if state.hasEnded { return (true, false) }
            if state.isClosing {
                state.open.refuse(completion, .closed)
                return (false, true)
            }
            switch state.phase {
            case .broken(let reason, _, _): state.open.refuse(completion, .failed(reason))
            case .running:
                if commit.isEmpty {
                    state.open.waiters.append(Batch.Waiter(completion: completion))
                } else if state.isFull && !isPrivileged {
                    state.open.refuse(completion, .full)
                } else if state.waiting.contains(where: { !isPrivileged || $0.isPrivileged })
                    || !encode(commit, completion, isPrivileged, &state)
                {
                    state.waiting.append(
                        Waiting(
                            commit: commit, completion: completion,
                            deadline: monotonicMilliseconds() + roomMilliseconds, isPrivileged: isPrivileged))
                    housekeeper.signal()
                    checkpointer.signal()
                    // The writer watches its deadline.
                    return (false, true)
                }
            }
            guard let wakeAt = state.wakeAt else { return (false, false) }
            return (false, state.open.waiters.count >= wakeAt || !state.sealed.isEmpty)
        }
        if isClosed { completion(.failure(.closed)) }
        if wakes { wake.signal() }
    }

    /// Puts a commit into the open batch; false if there is no room for it now.
    func encode(
        _ commit: QueueCommit, _ completion: @escaping Batch.Completion, _ isPrivileged: Bool, _ state: inout State
    ) -> Bool {
        let batch = state.open
        if !commit.receipts.isEmpty, isRepeated(commit, state) {
            batch.refuse(completion, .repeated)
            return true
        }
        let mark = batch.mark
        let (size, accepted) = batch.encode(
            commit, number: state.next, durable: state.durable, accepted: state.accepted,
            known: { id in core.index.withLock { $0.leaving(id) } })
        if size > capacity {
            batch.rollBack(to: mark)
            batch.refuse(completion, .failed("a commit of \(size) octets is too large for the journal"))
            return true
        }
        guard admits(batch, isPrivileged, state) else {
            batch.rollBack(to: mark)
            return false
        }
        if let rest = commit.message?.rest, !commit.accepted.isEmpty, !claim(rest) {
            batch.rollBack(to: mark)
            batch.refuse(completion, .failed("the spooled message is gone"))
            return true
        }
        state.next += 1
        for receipt in commit.receipts { state.keys.insert(receipt.key) }
        state.accepted = state.accepted + accepted
        state.told = state.durable
        batch.waiters.append(Batch.Waiter(completion: completion))
        if batch.buffer.count >= core.options.batchSize { seal(&state) }
        return true
    }

    /// Whether a receipt with the key of one of the commit's is there, or on its way to the disk.
    private func isRepeated(_ commit: QueueCommit, _ state: borrowing State) -> Bool {
        let now = Timestamp.now()
        for receipt in commit.receipts {
            if state.keys.contains(receipt.key) { return true }
            if core.index.withLock({ $0.receipts.find(receipt.key, at: now) != nil }) { return true }
        }
        return false
    }

    /// Closes the open batch and begins another one.
    private func seal(_ state: inout State) {
        state.unplaced += roundedUp(state.open.buffer.count, to: OutputBuffer.page)
        state.sealed.append(state.open)
        state.open = state.spare.popLast() ?? Batch(capacity: 256 << 10)
        state.open.salt = (state.ready ?? state.current).header.salt
    }

    /// Whether there is a place for all that has none yet, `batch` (the open one) included.
    private func admits(_ batch: Batch, _ isPrivileged: Bool, _ state: borrowing State) -> Bool {
        let needed = state.unplaced + roundedUp(batch.buffer.count, to: OutputBuffer.page)
        let left = state.current.size - state.position
        // A batch never straddles segments, so in the worst case all go into the next one.
        guard let ready = state.ready else { return needed <= left - (isPrivileged ? 0 : state.current.reserved) }
        let capacity = ready.size - SegmentHeader.space
        return needed <= left || needed <= capacity - (isPrivileged ? 0 : ready.reserved)
            || (needed <= capacity && batch.frames.count == 1 && state.unplaced == 0)
    }

    /// One more use of a spooled body, until the commit has come through or not; false if its file is gone.
    private func claim(_ rest: any SpooledBody) -> Bool {
        let id = rest.reference.id
        return core.index.withLock { index in
            let isThere = if let file = rest as? SpoolFile { file.claim() } else { index.usesSpool(id) }
            if isThere { index.retainSpool(id) }
            return isThere
        }
    }

    /// Gives claims of a batch back that did not come through.
    func releaseClaims(_ batch: Batch) {
        for body in batch.bodies {
            guard let rest = body.rest else { continue }
            let isLast = core.index.withLock { $0.releaseSpool(rest.reference.id) }
            if let file = rest as? SpoolFile {
                file.release()
            } else if isLast {
                discard([rest.reference.id])
            }
        }
    }

    /// What it is doing; what is queued, and how it lies in files, others know.
    func status() -> StorageStatus {
        state.withLock { state in
            let failure: String? =
                switch state.phase {
                case .broken(let reason, _, _): reason
                case .running: nil
                }
            var status = StorageStatus()
            status.journalOctets = state.closed.reduce(state.position) { $0 + $1.size }
            (status.freeOctets, status.freeInodes) = (state.freeOctets, state.freeInodes)
            (status.isFull, status.failure) = (state.isFull, failure)
            status.progress = state.progress
            status.isBusy = state.isWriting || !state.sealed.isEmpty || !state.open.isEmpty
            return status
        }
    }
}
