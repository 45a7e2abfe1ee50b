// Between the queue and its storage: what the storage tells of by itself, and outcomes that must be recorded whatever it
// says. Called by the storage's events and by the queue's driver.

import Logging
import SlimtaMail
import Synchronization

// MARK: What the storage tells

extension Queue {
    /// The storage tells something: to be called with all that it tells, in order.
    package func receive(_ events: [QueueEvent]) {
        for event in events {
            switch event {
            case .acquired(let summaries): acquired(summaries)
            case .releasing(let buckets): releasing(buckets)
            case .withdrawn(let ids): forget(ids)
            case .command(let command, let answer): Task { answer(await perform(command)) }
            case .sites(let limits): advised(limits)
            }
        }
        wake()
    }

    private func acquired(_ summaries: [QueuedSummary]) {
        let clock = clock.read()
        state.withLock { state in for summary in summaries { state.acquired(summary, clock) } }
    }

    /// What waits is not ours from now on, what is in flight when it ends; `run` says when that is.
    private func releasing(_ buckets: QueueBuckets) {
        state.withLock { state in
            state.machine.releasing(buckets)
            state.forgetFresh(in: buckets)
        }
        // Some at a time: others need the lock meanwhile.
        while state.withLock({ $0.machine.withdrawLeaving() }) {}
    }

    /// Gives back what leaves and nothing is under way for. Under the lock: a commit that has not begun by now goes to the
    /// storage behind that, which knows whose its bucket is.
    func handOver(_ state: inout State) {
        if let released = state.machine.takeReleased() { storage.released(released) }
    }

    /// A commit with new envelopes begins: none of their buckets is handed over before it is known what came of it.
    func begin(_ ids: [QueueID]) { state.withLock { $0.machine.arriving(ids) } }

    /// The commit of notices has failed.
    private func failed(_ notices: [Notice]) {
        state.withLock { $0.machine.arrived(notices.lazy.map(\.envelope.id)) }
    }

    /// These are not ours any more. Attempts that are under way are made to their end, and what they come to is not
    /// recorded.
    func forget(_ ids: some Sequence<QueueID>) {
        let now = clock.read().now
        state.withLock { state in
            for id in ids {
                state.forgetFresh(id)
                _ = state.machine.ended(id, now: now)
            }
        }
    }

    /// An attempt was made for an envelope that another node has now: it does not know what came of it, and makes its own.
    func lost(_ id: QueueID) {
        logger.warning("outcome of a message that another node has now", metadata: ["queue_id": "\(id)"])
        forget([id])
        wake()
    }

    /// Whether an envelope is in one of these: nothing is begun for it, since nothing could be recorded.
    func isIn(_ members: StorageMembers) -> (QueueID) -> Bool {
        { [storage] in members.contains(storage.member(of: $0)) }
    }
}

extension Queue.State {
    /// How many outcomes are not recorded.
    var unrecorded: Int { unrecordedIn.values.reduce(0, +) }

    /// The members of the storage that have not taken them.
    var stuckMembers: StorageMembers { unrecordedIn.keys.reduce(into: []) { $0.formUnion($1) } }

    /// One more, or, -1, one less.
    fileprivate mutating func countUnrecorded(_ change: Int, in member: StorageMembers) {
        let count = unrecordedIn[member, default: 0] + change
        unrecordedIn[member] = count > 0 ? count : nil
    }

    /// An envelope that is stored is ours to deliver.
    ///
    /// What is stored is by a wall clock that may have been set since. A due time further away than any wait of the
    /// schedule means nothing, unless the attempt that it follows was in the past: then the server asked for it. What came in
    /// the future came now. Before the first attempt it may be as far away as it was
    /// when the envelope came: who sent it said so.
    fileprivate mutating func acquired(_ summary: QueuedSummary, _ clock: ClockReading) {
        var summary = summary
        let wait = summary.due - clock.wall
        if summary.attempts == 0, summary.due > summary.received {
            summary.due = clock.now + min(wait, summary.due - summary.received)
        } else {
            let isAsked = summary.tried.map { $0 <= clock.wall } ?? false
            summary.due = wait > configuration.schedule.longest && !isAsked ? clock.now : clock.now + wait
        }
        // Who sends it may decide where it goes, and stands in the envelope.
        let isDoubted = relay.destinations(for: summary.destination).count > 1
        summary.destination = relay.destination(for: summary.destination)
        machine.added(
            summary, acceptedAt: summary.received > clock.wall ? clock.now : nil, isDoubted: isDoubted)
    }
}

// MARK: What has to be recorded

extension Queue {
    /// Makes the results of an attempt for `id` durable; does not give up, since what was delivered must not be delivered
    /// again. False: the envelope is another node's now. Else they are to be settled.
    func record(_ resolution: AttemptResolution, of id: QueueID) async -> Bool {
        if resolution.notices.isEmpty { return await record(resolution.commit, of: id) }
        begin(resolution.notices.map(\.envelope.id))
        let isRecorded = await recordAll(resolution, of: id)
        if !isRecorded { failed(resolution.notices) }
        return isRecorded
    }

    private func recordAll(_ resolution: AttemptResolution, of id: QueueID) async -> Bool {
        // Further notices first: if we stop between the commits, the sender is told twice rather than never.
        for notice in resolution.notices.dropFirst() {
            let accepted = QueueCommit.Acceptance(notice.envelope, due: notice.envelope.received)
            guard await record(QueueCommit(accepted: [accepted], message: notice.message), of: id) else { return false }
        }
        return await record(resolution.commit, of: id)
    }

    /// A commit that is in doubt is made again as well: it is the same the second time.
    private func record(_ commit: QueueCommit, of id: QueueID) async -> Bool {
        var isCounted = false
        let member = commit.anyID.map { storage.member(of: $0) } ?? .home
        while true {
            do throws(StorageError) {
                try await storage.commit(commit)
                if isCounted { state.withLock { $0.countUnrecorded(-1, in: member) } }
                // Who looks for the cause of a second copy sees by it which attempt counted.
                if commit.concernsQueued { logger.debug("outcome recorded", metadata: ["queue_id": "\(id)"]) }
                return true
            } catch {
                if error == .lost {
                    if isCounted { state.withLock { $0.countUnrecorded(-1, in: member) } }
                    return false
                }
                if !isCounted {
                    isCounted = true
                    waits(id, in: member)
                    logger.error(
                        "outcome cannot be recorded, no delivery begins until it can",
                        metadata: ["queue_id": "\(id)", "error": "\(error)"])
                }
                // The daemon ends, and no storage will take it: attempts are waited for before one is closed, unless that
                // takes too long. It counts as unrecorded to the end, so that nothing more begins, and is settled in
                // memory alone; what was delivered is delivered again after the start. That is what at least once means:
                // the other way would be to lose what was not.
                if error == .closed || Task.isCancelled {
                    logger.warning("outcome was not recorded before the end", metadata: ["queue_id": "\(id)"])
                    return true
                }
                // Not all nodes, nor all attempts, in one moment.
                try? await Task.sleep(for: Self.recordRetry * Double.random(in: 0.8...1.2))
            }
        }
    }

    /// An outcome cannot be recorded. Where mail goes on in other members of the storage, it takes nobody's place meanwhile.
    private func waits(_ id: QueueID, in member: StorageMembers) {
        let now = clock.read().now
        state.withLock { state in
            state.countUnrecorded(1, in: member)
            if member != storage.members { state.machine.landed(id, now: now) }
        }
        wake()
    }

    /// Makes a commit for an operator who gives an envelope up. Then it is to be settled.
    func commitForOperator(_ resolution: AttemptResolution) async throws(StorageError) {
        begin(resolution.notices.map(\.envelope.id))
        do throws(StorageError) { try await commitForOperator(resolution.commit) } catch {
            failed(resolution.notices)
            throw error
        }
    }

    /// Makes a commit for an operator. While it is in doubt it is made again: it is the same the second time, and who asked
    /// wants to know.
    func commitForOperator(_ commit: QueueCommit) async throws(StorageError) {
        while true {
            do throws(StorageError) { return try await storage.commit(commit) } catch {
                guard error == .doubtful, !Task.isCancelled else { throw error }
                try? await Task.sleep(for: Self.recordRetry)
            }
        }
    }
}
