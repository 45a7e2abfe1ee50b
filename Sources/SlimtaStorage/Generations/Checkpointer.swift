// The checkpoint: what is still queued in closed segments goes into sealed GDBM files, then the segments are used again.
// One thread. Writing `super` is the commit point: before it nothing that counts is touched, after it nothing old is
// needed. How the files are built: Checkpointer+Build.swift.

import SlimtaMail
import SlimtaQueue
import SlimtaThreads
import Synchronization

/// Makes checkpoints.
final class Checkpointer: Sendable {
    typealias Completion = @Sendable (Result<Void, StorageError>) -> Void
    /// Told whether it came too late.
    typealias Inspection = @Sendable (_ isClosed: Bool) -> Void

    struct State {
        var superblock: Superblock
        var requests: [Completion] = []
        /// What is to be done while nothing of what counts on disk changes.
        var inspections: [Inspection] = []
        var isStopped = false
        /// The states of all envelopes are to be written anew.
        var needsBase: Bool
        /// A write of `super` failed: it is not known what is on disk, so the file is not written in place again.
        var isSuspect = false
        /// What an attempt made that may be listed by that unknown `super`.
        var suspectFiles: [String] = []
        /// When the next try is due after a failure; monotonic milliseconds.
        var retry: Int64?
    }

    let core: StorageCore
    let journal: Journal
    let housekeeper: Housekeeper
    let state: Mutex<State>
    var wake: Event { journal.checkpointer }

    init(_ core: StorageCore, _ journal: Journal, _ housekeeper: Housekeeper, _ superblock: Superblock, needsBase: Bool)
    {
        self.core = core
        self.journal = journal
        self.housekeeper = housekeeper
        state = Mutex(State(superblock: superblock, needsBase: needsBase))
    }

    /// Has a checkpoint made of all that was committed up to now.
    func request(_ completion: @escaping Completion) {
        let isStopped = state.withLock { state in
            if !state.isStopped { state.requests.append(completion) }
            return state.isStopped
        }
        if isStopped { completion(.failure(.closed)) } else { wake.signal() }
    }

    /// Has something done on the checkpoint's thread.
    func inspect(_ inspection: @escaping Inspection) {
        let isStopped = state.withLock { state in
            if !state.isStopped { state.inspections.append(inspection) }
            return state.isStopped
        }
        if isStopped { inspection(true) } else { wake.signal() }
    }

    /// Lets the thread end; requests that were made are answered first.
    func stop() {
        state.withLock { $0.isStopped = true }
        wake.signal()
    }

    /// The thread.
    func run() {
        while true {
            let (requests, inspections, isStopped) = state.withLock { state in
                defer { (state.requests, state.inspections) = ([], []) }
                return (state.requests, state.inspections, state.isStopped)
            }
            for inspection in inspections { inspection(isStopped) }
            if isStopped {
                for request in requests { request(.failure(.closed)) }
                return
            }
            let (isDue, wantsRotation, pause) = requests.isEmpty ? due() : (true, true, nil)
            guard isDue else {
                wake.wait(pause)
                continue
            }
            let result = attempt(rotating: wantsRotation)
            for request in requests { request(result) }
        }
    }

    /// Whether a checkpoint is to be made now, whether the current segment is to be part of it, and otherwise when to
    /// look again.
    private func due() -> (Bool, rotating: Bool, Duration?) {
        let now = monotonicMilliseconds()
        let work = core.index.withLock { $0.inJournal + $0.statesInJournal + $0.tombstones.count }
        // While mail is delivered as fast as it comes, a checkpoint costs next to nothing, and a segment that is used
        // again saves the zeros of a new one.
        let threshold = work <= 256 ? min(2, core.options.checkpointThreshold) : core.options.checkpointThreshold
        let retry = state.withLock { $0.retry }
        return journal.state.withLock { state in
            if let retry, retry > now { return (false, false, .milliseconds(retry - now)) }
            let isPressed = state.isFull || !state.waiting.isEmpty || state.closed.contains { $0.isPoisoned }
            if state.closed.count >= threshold || isPressed && !state.closed.isEmpty {
                return (true, false, nil)
            }
            guard let since = state.dirtySince else { return (false, false, nil) }
            // Everything has been delivered: there is nothing to keep.
            guard work > 0 || !state.waiting.isEmpty else {
                if since + core.options.checkpointAge.milliseconds <= now { state.dirtySince = nil }
                return (false, false, core.options.checkpointAge)
            }
            let left = since + core.options.checkpointAge.milliseconds - now
            return left <= 0 ? (true, true, nil) : (false, false, .milliseconds(left))
        }
    }

    /// Tries once; on a full disk a second time, with the room of the reserve.
    private func attempt(rotating: Bool) -> Result<Void, StorageError> {
        let hasRotated = !rotating || rotate()
        for isLast in [false, true] {
            do {
                try checkpoint()
                state.withLock { $0.retry = nil }
                return hasRotated ? .success(()) : .failure(.full)
            } catch {
                let failure = FileFailure(error)
                if !isLast, failure.isFull, housekeeper.giveReserveUp() { continue }
                core.report(.checkpointFailed(failure.description))
                state.withLock { $0.retry = monotonicMilliseconds() + core.options.retryInterval.milliseconds }
                return .failure(failure.isFull ? .full : .failed(failure.description))
            }
        }
        return .failure(.full)
    }

    /// Has the writer close the current segment, so that the checkpoint is of all that was committed; false if there is
    /// no other segment to go on with.
    private func rotate() -> Bool {
        let end = monotonicMilliseconds() + core.options.roomTimeout.milliseconds
        let isBroken = journal.state.withLock { state in
            switch state.phase {
            case .broken: return true
            case .running:
                state.wantsRotation = true
                return false
            }
        }
        if isBroken { return true }
        journal.housekeeper.signal()
        journal.wake.signal()
        while journal.state.withLock({ $0.wantsRotation }), monotonicMilliseconds() < end,
            !state.withLock({ $0.isStopped })
        {
            wake.wait(.milliseconds(100))
        }
        return !journal.state.withLock { $0.wantsRotation }
    }

    /// What is in closed segments goes into sealed files.
    private func checkpoint() throws {
        let (closed, hasFailed) = journal.state.withLock { state -> ([Segment], Bool) in
            state.dirtySince = nil
            switch state.phase {
            case .broken: return (state.closed, true)
            case .running: return (state.closed, false)
            }
        }
        guard let last = closed.last else { return }
        let (superblock, needsBase) = state.withLock { state in
            // The numbers of files are never used twice.
            defer { state.superblock.nextGeneration += 2 }
            return (state.superblock, state.needsBase)
        }
        let plan = CheckpointPlan(core, superblock, needsBase: needsBase, upTo: last.number)
        var next: Superblock
        do {
            next = try plan.build(checkpointed: last.lastNumber)
            next.ledger = core.index.withLock { last.ledger + $0.lost }
            next.journalHadFailed = hasFailed
        } catch {
            core.index.withLock { $0.checkpointing = nil }
            journal.state.withLock { if $0.dirtySince == nil { $0.dirtySince = monotonicMilliseconds() } }
            throw error
        }
        do throws(DiskError) {
            try write(next)
        } catch {
            core.index.withLock { $0.checkpointing = nil }
            state.withLock { state in
                state.isSuspect = true
                state.suspectFiles += plan.built.map { "\(core.paths.queue)/\($0.name)" }
            }
            journal.state.withLock { if $0.dirtySince == nil { $0.dirtySince = monotonicMilliseconds() } }
            throw error
        }
        finish(plan, next, closed)
    }

    /// The commit point. Both slots are written before anything old is deleted.
    private func write(_ superblock: Superblock) throws(DiskError) {
        // Whatever happens, this sequence number is used up.
        let isSuspect = state.withLock { state in
            state.superblock.sequence = superblock.sequence
            return state.isSuspect
        }
        if isSuspect {
            try core.fileSystem.writeNew(superblock, in: core.paths)
            return
        }
        try core.fileSystem.overwrite(superblock, in: core.paths)
    }

    /// An operator has acknowledged what was lost: `super` does not tell of it any more. To be called on this thread.
    func forgetLosses() throws(DiskError) -> [String] {
        var next = state.withLock { $0.superblock }
        let losses = next.losses
        if losses.isEmpty { return [] }
        next.sequence += 1
        next.forgetLosses()
        do throws(DiskError) {
            try write(next)
        } catch {
            state.withLock { $0.isSuspect = true }
            throw error
        }
        state.withLock { state in
            state.superblock = next
            state.isSuspect = false
        }
        return losses
    }

    /// The checkpoint counts: the index says so, and what is not needed any more goes.
    private func finish(_ plan: CheckpointPlan, _ superblock: Superblock, _ closed: [Segment]) {
        let old = state.withLock { state -> ([GenerationInfo], [String]) in
            defer {
                state.superblock = superblock
                state.isSuspect = false
                state.suspectFiles = []
                state.needsBase = false
            }
            return (state.superblock.generations, state.suspectFiles)
        }
        core.catalog.withLock { catalog in
            for info in plan.built {
                catalog.generations[info.number] = Generation(info, in: core.paths.queue, core.fileSystem)
            }
        }
        plan.apply()
        let listed = Set(superblock.generations.map(\.number))
        var unneeded = old.1
        for info in old.0 where !listed.contains(info.number) {
            let generation = core.catalog.withLock { $0.generations.removeValue(forKey: info.number) }
            generation?.retire()
            core.index.withLock { $0.retired(info.number) }
            if generation?.isDamaged ?? false, housekeeper.setAside(info.name) { continue }
            unneeded.append("\(core.paths.queue)/\(info.name)")
        }
        housekeeper.delete(unneeded)
        journal.state.withLock { state in
            state.closed.removeAll { segment in closed.contains { $0 === segment } }
        }
        for segment in closed {
            _ = core.catalog.withLock { $0.segments.removeValue(forKey: segment.number) }
            housekeeper.recycle(segment)
        }
        journal.housekeeper.signal()
        journal.wake.signal()
    }
}
