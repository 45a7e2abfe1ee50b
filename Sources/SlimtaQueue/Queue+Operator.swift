// What operators do to the queue, by the control socket: each command is durable before it is said to be done.

internal import Logging
package import SlimtaMail
import Synchronization

extension Queue {
    /// Holds an envelope: it is not attempted until it is released. What is held already stays so.
    package func hold(_ id: QueueID) async throws(QueueOperationError) {
        try await command(id) { stored, isHeld throws(StorageError) in
            if !isHeld {
                var state = stored.state
                state.isHeld = true
                try await storage.commit(QueueCommit(states: [state]))
            }
            self.state.withLock { $0.machine.held(id) }
        }
        logger.notice("held", metadata: ["queue_id": "\(id)"])
    }

    /// Ends a hold: the envelope is due now. Of what is not held it makes nothing but that.
    package func release(_ id: QueueID) async throws(QueueOperationError) {
        try await command(id) { stored, _ throws(StorageError) in
            var state = stored.state
            state.isHeld = false
            state.due = .now()
            try await storage.commit(QueueCommit(states: [state]))
            self.state.withLock { $0.machine.released(id, now: state.due) }
        }
        wake()
        logger.notice("released", metadata: ["queue_id": "\(id)"])
    }

    /// An envelope is due now, before retries to its destination, whose back-off is forgotten. What is in flight stays
    /// so. A restart forgets it: the envelope is then due when it was before.
    package func flush(_ id: QueueID) async throws(QueueOperationError) {
        try state.withLock { state throws(QueueOperationError) in try state.machine.flush(id, now: .now()) }
        wake()
    }

    /// All that waits for a destination is due now, and its back-off is forgotten. Returns how many envelopes that are.
    /// - Parameter domain: of the recipients, or the name of a destination as ``snapshot(top:)`` has it. If all mail of
    ///   the domain goes to one host, that is flushed.
    @discardableResult
    package func flush(destination domain: String) async -> Int {
        let count = state.withLock { state in
            let folded = domain.asciiLowercased()
            let now = Timestamp.now()
            let named = state.machine.flush(destination: folded, now: now)
            let shared = state.relay.destination(for: folded)
            return named + (shared == folded ? 0 : state.machine.flush(destination: shared, now: now))
        }
        wake()
        return count
    }

    /// All that waits is due now, and all back-offs are forgotten. Returns how many envelopes that are.
    @discardableResult
    package func flushAll() async -> Int {
        // One destination at a time: others need the lock meanwhile.
        var count = 0
        for name in state.withLock({ $0.machine.destinationNames }) {
            count += state.withLock { $0.machine.flush(destination: name, now: .now()) }
        }
        wake()
        return count
    }

    /// Takes an envelope out of the queue. Nobody is told but the log and the ledger.
    /// - Parameter operatorName: who asked for it.
    package func remove(_ id: QueueID, by operatorName: String) async throws(QueueOperationError) {
        try await command(id) { stored, _ throws(StorageError) in
            var state = stored.state
            for index in state.pending { state.recipients[index].fate = .withdrawn }
            var removal = Removal(of: state)
            removal.by = operatorName
            try await storage.commit(QueueCommit(removed: [removal]))
            self.state.withLock {
                $0.forgetFresh(id)
                _ = $0.machine.removed(id, now: .now())
            }
        }
        wake()
        logger.notice("removed by an operator", metadata: ["queue_id": "\(id)", "by": "\(operatorName)"])
    }

    /// Gives an envelope up: all recipients that are pending fail, and the sender is told.
    /// - Parameter operatorName: who asked for it.
    package func bounce(_ id: QueueID, by operatorName: String) async throws(QueueOperationError) {
        try await command(id) { stored, _ throws(StorageError) in
            let configuration = self.state.withLock { $0.configuration }
            let outcome = Outcome(
                .permanent,
                Reply(554, EnhancedStatus(5, 0, 0), "the operator of this mail system gave the message up"))
            let now = Timestamp.now()
            let resolution = AttemptResolution(
                stored, outcomes: stored.state.pending.map { _ in outcome }, now: now, schedule: configuration.schedule,
                notices: NoticeBuilder(hostname: configuration.hostname, zoneOffset: now.localOffset))
            try await storage.commit(resolution.commit)
            log(resolution, stored, now)
            self.state.withLock { $0.forgetFresh(id) }
            settle(resolution, stored, .unknown)
        }
        logger.notice("bounced by an operator", metadata: ["queue_id": "\(id)", "by": "\(operatorName)"])
    }

    /// What can be told of the queue, with the `top` largest destinations. Cheap: a look at each destination, and at each
    /// envelope only if the oldest has left since the last time.
    package func snapshot(top: Int = 20) -> QueueSnapshot { state.withLock { $0.machine.snapshot(top: top) } }

    /// Carries out a command about an envelope that nobody else works on meanwhile. `body` says in the end what became
    /// of it, or throws; then nothing did.
    private func command(
        _ id: QueueID, _ body: (StoredEnvelope, Bool) async throws(StorageError) -> Void
    ) async throws(QueueOperationError) {
        let (isHeld, fresh) = try state.withLock { state throws(QueueOperationError) in
            (try state.machine.claim(id), state.fresh(id))
        }
        do throws(StorageError) {
            let stored: StoredEnvelope
            if let fresh { stored = fresh } else { stored = try await storage.load(id) }
            try await body(stored, isHeld)
        } catch {
            state.withLock { $0.machine.unclaimed(id, isHeld: isHeld) }
            wake()
            throw .storage(error)
        }
    }
}
