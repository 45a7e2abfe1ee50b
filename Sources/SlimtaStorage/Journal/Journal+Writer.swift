// The journal's writer: one thread, one write and one sync for all that came in during the sync before. No timer: what
// comes in alone is synced at once.

import SlimtaMail
import SlimtaQueue
import SlimtaRecords
import SlimtaThreads
import Synchronization

extension Journal {
    private enum Turn {
        case write(Batch)
        case refuse([Waiting])
        case rotate
        case mark(OutputBuffer, UInt64, Segment, Int)
        case restart(Segment, reason: String, from: UInt64)
        case fail(DiskError)
        case sleep(Duration?)
        case end
    }

    /// The longest that is waited for commits that are likely to come, in nanoseconds: no more than half a sync, and
    /// no more than this.
    private static let gatherLimit: Int64 = 200_000

    /// The thread.
    func run() {
        var hasRested = false
        while true {
            switch turn(hasRested) {
            case .write(let batch): write(batch)
            case .refuse(let refused): refuse(refused)
            case .rotate: rotate()
            case .mark(let page, let durable, let segment, let offset): mark(page, durable, segment, offset)
            case .restart(let segment, let reason, let from): restart(segment, reason, from)
            case .fail(let error): fail([], error)
            case .sleep(let duration):
                hasRested = !wake.wait(duration)
                continue
            case .end: return
            }
            hasRested = false
        }
    }

    /// What to do next. `hasRested`: nothing came in for the time that was slept.
    private func turn(_ hasRested: Bool) -> Turn {
        state.withLock { state in
            state.progress &+= 1
            state.isWriting = false
            state.wakeAt = nil
            let now = monotonicMilliseconds()
            if let error = state.vanished {
                state.vanished = nil
                switch state.phase {
                case .running: return .fail(error)
                case .broken: break
                }
            }
            admitWaiting(&state)
            if let turn = turnToWrite(&state) { return turn }
            var deadline: Int64?
            if let first = state.waiting.map(\.deadline).min() {
                if first <= now {
                    let refused = state.waiting.filter { $0.deadline <= now }
                    state.waiting.removeAll { $0.deadline <= now }
                    return .refuse(refused)
                }
                deadline = first
            }
            if state.isStopped && state.waiting.isEmpty {
                state.hasEnded = true
                return .end
            }
            if let turn = idleTurn(&state, hasRested, now, &deadline) { return turn }
            state.wakeAt = 1
            return .sleep(deadline.map { .milliseconds(max(1, $0 - now)) })
        }
    }

    /// The batch that goes next, or a wait for more of it; nil: there is nothing to write.
    private func turnToWrite(_ state: inout State) -> Turn? {
        if !state.sealed.isEmpty {
            state.isWriting = true
            return .write(state.sealed.removeFirst())
        }
        if state.open.isEmpty { return nil }
        let left = state.gatherUntil - monotonicNanoseconds()
        if state.open.waiters.count < state.expected, left > 0 {
            state.wakeAt = state.expected
            return .sleep(.nanoseconds(left))
        }
        let batch = state.open
        state.unplaced += roundedUp(batch.buffer.count, to: OutputBuffer.page)
        state.open = state.spare.popLast() ?? Batch(capacity: 256 << 10)
        state.open.salt = batch.salt
        state.isWriting = true
        return .write(batch)
    }

    /// What is done while nothing is to be written; nil: sleep, until `deadline` at most.
    private func idleTurn(_ state: inout State, _ hasRested: Bool, _ now: Int64, _ deadline: inout Int64?) -> Turn? {
        switch state.phase {
        case .broken(let reason, let from, let since):
            let retry = since + core.options.retryInterval.milliseconds
            if retry <= now, let ready = state.ready {
                state.ready = nil
                return .restart(ready, reason: reason, from: from)
            }
            housekeeper.signal()
            deadline = min(deadline ?? .max, max(retry, now + 100))
        case .running:
            if state.wantsRotation, state.position == SegmentHeader.space {
                state.wantsRotation = false
                checkpointer.signal()
            } else if state.wantsRotation, state.ready != nil {
                return .rotate
            }
            // When nothing comes in, the last commit is made known as durable: damage to it is then not taken for a torn
            // tail. Nobody waits for this, so it is not synced.
            if state.told < state.durable,
                state.position + OutputBuffer.page <= state.current.size - state.current.reserved
            {
                if hasRested { return marker(&state) }
                deadline = min(deadline ?? .max, now + core.options.markerDelay.milliseconds)
            }
        }
        return nil
    }

    /// Takes in what waited for room, in order; what records fates does not wait for what is new.
    private func admitWaiting(_ state: inout State) {
        if state.waiting.isEmpty { return }
        var left: [Waiting] = []
        var isBlocked = false
        for waiting in state.waiting {
            switch state.phase {
            case .broken(let reason, _, _): state.open.refuse(waiting.completion, .failed(reason))
            case .running:
                if isBlocked && (!waiting.isPrivileged || left.contains { $0.isPrivileged })
                    || !encode(waiting.commit, waiting.completion, waiting.isPrivileged, &state)
                {
                    isBlocked = true
                    left.append(waiting)
                }
            }
        }
        state.waiting = left
    }

    private func refuse(_ refused: [Waiting]) {
        let failure = state.withLock { $0.makingFailed }
        for waiting in refused {
            if let failure, !failure.isFull {
                waiting.completion(.failure(.failed(failure.description)))
            } else {
                waiting.completion(.failure(.full))
            }
        }
    }

    private func marker(_ state: inout State) -> Turn {
        let page = OutputBuffer(capacity: OutputBuffer.page)
        let start = FrameHeader.begin(.marker, number: state.next, durable: state.durable, into: page)
        page.field(RecordTag.accepted, state.accepted)
        FrameHeader.end(start, salt: state.current.header.salt, in: page)
        page.pad(to: OutputBuffer.page)
        let offset = state.position
        state.position += OutputBuffer.page
        return .mark(page, state.durable, state.current, offset)
    }

    private func mark(_ page: OutputBuffer, _ durable: UInt64, _ segment: Segment, _ offset: Int) {
        do throws(DiskError) {
            try core.fileSystem.write(segment.file, page, at: offset)
            state.withLock { $0.told = max($0.told, durable) }
        } catch {
            fail([], error)
        }
    }

    /// Writes a batch, syncs it, applies it, and tells who waits.
    private func write(_ batch: Batch) {
        let size = roundedUp(batch.buffer.count, to: OutputBuffer.page)
        var duration: Int64 = 0
        if size > 0 {
            let isBroken = state.withLock { state in
                switch state.phase {
                case .broken: true
                case .running: false
                }
            }
            // What was encoded before a failure was failed with it.
            precondition(!isBroken, "frames in a broken journal")
            var (segment, position) = state.withLock { ($0.current, $0.position) }
            if position + size > segment.size {
                rotate()
                (segment, position) = state.withLock { ($0.current, $0.position) }
                precondition(position + size <= segment.size, "admitted without a place")
            }
            batch.reseal(salt: segment.header.salt)
            batch.buffer.pad(to: OutputBuffer.page)
            let begin = monotonicNanoseconds()
            do throws(DiskError) {
                try core.fileSystem.write(segment.file, batch.buffer, at: position)
                try core.fileSystem.syncData(segment.file)
            } catch {
                fail([batch], error)
                return
            }
            duration = monotonicNanoseconds() - begin
            apply(batch, segment, position)
            let wasClean = state.withLock { state in
                state.position = position + size
                state.unplaced -= size
                state.durable = batch.last
                for key in batch.keys { state.keys.remove(key) }
                defer { if state.dirtySince == nil { state.dirtySince = monotonicMilliseconds() } }
                return state.dirtySince == nil
            }
            if wasClean {
                checkpointer.signal()
                housekeeper.signal()
            }
        }
        // Who is answered now is likely to come again at once. Without a moment for them, the first one would be synced
        // alone while all others wait for two syncs. A commit that came alone never waits.
        state.withLock { $0.expected = batch.waiters.count + $0.open.waiters.count }
        for waiter in batch.waiters {
            waiter.completion(waiter.refusal.map { .failure($0) } ?? .success(()))
        }
        batch.removeAll()
        state.withLock { state in
            state.gatherUntil = state.expected > 1 ? monotonicNanoseconds() + min(duration / 2, Self.gatherLimit) : 0
            if batch.buffer.capacity <= 2 * core.options.batchSize, state.spare.count < 3 { state.spare.append(batch) }
        }
    }

    /// Makes the index say what the batch, durable at `position`, has changed.
    private func apply(_ batch: Batch, _ segment: Segment, _ position: Int) {
        let (unneeded, overrun) = core.index.withLock { index in
            var unneeded: [QueueID] = []
            var slots: [UInt32] = []
            for body in batch.bodies {
                slots.append(index.addBody(body.id, spool: body.rest?.reference))
                if let rest = body.rest { _ = index.releaseSpool(rest.reference.id) }
            }
            for change in batch.changes {
                let location = Location.journal(segment.number, position + change.frame)
                switch change.kind {
                case .accept(let recipients):
                    let body = change.body < 0 ? IndexEntry.noBody : slots[change.body]
                    index.count(recipients)
                    if let spool = index.accept(change.id, recipients, at: location, body: body) {
                        unneeded.append(spool)
                    }
                case .state(let fates): index.setState(change.id, fates, at: location)
                case .remove(let fates, let name):
                    if let spool = index.end(change.id, fates, by: name) { unneeded.append(spool) }
                case .depart(let recipients):
                    if let spool = index.depart(change.id, recipients) { unneeded.append(spool) }
                case .receipt(let record): index.receipts.insert(record, at: .now())
                case .forget(let key): index.receipts.forget(key)
                case .outcome(let ending): index.receipts.note(ending)
                }
            }
            index.applied = batch.last
            return (unneeded, index.receipts.takeOverrun())
        }
        for limit in overrun { core.report(.receiptsForgotten(limit)) }
        for body in batch.bodies { (body.rest as? SpoolFile)?.keep() }
        if !unneeded.isEmpty { discard(unneeded) }
    }

    /// Goes on in the segment that is ready. Nothing is unsynced then: only the newest segment can have a torn tail.
    func rotate() {
        let segment = state.withLock { state -> Segment? in
            guard let ready = state.ready else { return nil }
            close(&state)
            state.current = ready
            state.position = SegmentHeader.space
            // What is encoded already has the old salt: it is sealed anew when it is written.
            if state.open.frames.isEmpty { state.open.salt = ready.header.salt }
            state.ready = nil
            state.wantsRotation = false
            core.catalog.withLock { $0.segments[ready.number] = ready }
            return ready
        }
        precondition(segment != nil, "admitted without a segment")
        housekeeper.signal()
        checkpointer.signal()
    }

    /// The current segment is complete: all that is durable, and nothing else, is in the index now.
    private func close(_ state: inout State) {
        state.current.end = state.position
        state.current.lastNumber = state.durable
        state.current.ledger = core.index.withLock { $0.ledger }
        state.closed.append(state.current)
    }

    /// The disk failed: what is encoded fails, and nothing is believed of this segment behind what is durable. It is
    /// never synced again: the system would say that all is well, and it would not be.
    private func fail(_ batches: [Batch], _ error: DiskError) {
        let reason = error.description
        let failed = state.withLock { state -> [Batch] in
            let failed = batches + state.sealed + [state.open]
            state.sealed = []
            state.open = Batch(capacity: 256 << 10)
            state.keys = []
            state.unplaced = 0
            state.current.isPoisoned = true
            close(&state)
            // What failed was not accepted.
            state.accepted = core.index.withLock { $0.ledger.accepted }
            state.phase = .broken(reason: reason, from: state.durable + 1, since: 0)
            return failed
        }
        core.report(.journalFailed(reason))
        housekeeper.signal()
        checkpointer.signal()
        for batch in failed {
            releaseClaims(batch)
            for waiter in batch.waiters {
                waiter.completion(.failure(waiter.refusal ?? .failed(reason)))
            }
        }
    }

    /// Tries to go on in a new segment: its first frame says which frames of the failed one do not count.
    private func restart(_ segment: Segment, _ reason: String, _ from: UInt64) {
        let (number, accepted) = state.withLock { state in
            defer { state.next += 1 }
            return (state.next, state.accepted)
        }
        do throws(DiskError) {
            let failed = from <= number - 1 ? [from...(number - 1)] : []
            try core.fileSystem.writeAbort(
                segment, failed, number: number, durable: from - 1, accepted: accepted)
        } catch {
            // This file is not believed either, and its number is used again.
            try? core.fileSystem.removeIfPresent(segment.file.path)
            state.withLock { state in
                state.phase = .broken(reason: error.description, from: from, since: monotonicMilliseconds())
            }
            return
        }
        core.catalog.withLock { $0.segments[segment.number] = segment }
        state.withLock { state in
            state.current = segment
            state.position = SegmentHeader.space + OutputBuffer.page
            state.open.salt = segment.header.salt
            state.durable = number
            state.told = number
            state.phase = .running
        }
        core.report(.journalRecovered)
        housekeeper.signal()
    }
}

extension FileSystem {
    /// Writes and syncs the first frame of a segment that follows a failure or a torn tail. `durable`: see ``FrameHeader``;
    /// if the files before are gone later, this is what tells that they were no torn tail.
    func writeAbort(
        _ segment: Segment, _ ranges: [ClosedRange<UInt64>], number: UInt64, durable: UInt64, accepted: AcceptedCount
    ) throws(DiskError) {
        let page = OutputBuffer(capacity: OutputBuffer.page)
        let start = FrameHeader.begin(.abort, number: number, durable: durable, into: page)
        page.field(RecordTag.accepted, accepted)
        for range in ranges.prefix(100) {
            let field = page.begin(RecordTag.range)
            page.append(range.lowerBound)
            page.append(range.upperBound)
            page.end(field)
        }
        FrameHeader.end(start, salt: segment.header.salt, in: page)
        page.pad(to: OutputBuffer.page)
        try write(segment.file, page, at: SegmentHeader.space)
        try syncData(segment.file)
    }
}
