// What operators do to the queue, by the control socket: each command is durable before it is said to be done.

internal import Logging
package import SlimtaMail
import Synchronization

/// What the log says of an envelope that a command was carried out for.
private enum QueueOperation {
    case held
    case released
    case removed
    case flushed

    var message: Logger.Message {
        switch self {
        case .held: "held"
        case .released: "released"
        case .removed: "removed by an operator"
        case .flushed: "flushed"
        }
    }
}

extension Queue {
    /// Recipients whose states go into one commit, which has to fit into the journal: a few megabytes of it.
    private static let recipientsAtOnce = 16384

    /// Holds envelopes: they are not attempted until they are released. What is held already stays so. Returns what
    /// could not be done, and so do all commands for several envelopes, whose ids are to be different.
    ///
    /// - Parameter reason: why, where it is not just the operator's word.
    package func hold(
        _ ids: [QueueID], because reason: String? = nil, by operatorName: String
    ) async -> [QueueOperationFailure] {
        await command(ids, operatorName, .held) { claim, state, commit in
            if claim.isHeld { return }
            state.hold()
            state.heldReason = reason
            commit.states.append(state)
        } settle: { state, id in
            state.machine.held(id)
        }
    }

    /// Ends a hold: the envelopes are due now. Of what is not held it makes nothing but that.
    package func release(_ ids: [QueueID], by operatorName: String) async -> [QueueOperationFailure] {
        let clock = clock.read()
        return await command(ids, operatorName, .released, takesKept: false) { _, state, commit in
            state.release(at: clock.wall)
            commit.states.append(state)
        } settle: { state, id in
            state.machine.released(id, now: clock.now)
        }
    }

    /// Takes envelopes out of the queue. Nobody is told but the log and the ledger.
    package func remove(_ ids: [QueueID], by operatorName: String) async -> [QueueOperationFailure] {
        let now = clock.read().now
        return await command(ids, operatorName, .removed) { _, state, commit in
            commit.ended.append(state.removed(by: operatorName))
        } settle: { state, id in
            state.forgetFresh(id)
            _ = state.machine.ended(id, now: now)
        }
    }

    /// Envelopes are due now, before retries to their destinations, whose back-off is forgotten. What is in flight stays
    /// so. A restart forgets it: they are then due when they were before.
    package func flush(_ ids: [QueueID], by operatorName: String) async -> [QueueOperationFailure] {
        var failed: [QueueOperationFailure] = []
        let now = clock.read().now
        state.withLock { state -> any Relay in
            for id in ids {
                do throws(QueueOperationError) { try state.machine.flush(id, now: now) } catch {
                    failed.append(.init(id: id, error: error))
                }
            }
            return state.relay
        }.forgetFailures()
        wake()
        log(.flushed, ids, except: failed, operatorName)
        return failed
    }

    /// All that waits for a destination is due now, and its back-off is forgotten. Returns how many envelopes that are.
    /// - Parameter domain: of the recipients, or the name of a destination as ``snapshot(top:)`` has it. If all mail of
    ///   the domain goes to one host, that is flushed.
    @discardableResult
    package func flush(destination domain: String) async -> Int {
        let now = clock.read().now
        let (count, relay) = state.withLock { state in
            let folded = domain.foldedAsDomain()
            let named = state.machine.flush(destination: folded, now: now)
            let others = state.relay.destinations(for: folded).subtracting([folded])
            let count = named + others.reduce(0) { $0 + state.machine.flush(destination: $1, now: now) }
            return (count, state.relay)
        }
        relay.forgetFailures()
        wake()
        return count
    }

    /// All that waits is due now, and all back-offs are forgotten. Returns how many envelopes that are.
    @discardableResult
    package func flushAll() async -> Int {
        // One destination at a time: others need the lock meanwhile.
        var count = 0
        let now = clock.read().now
        for name in state.withLock({ $0.machine.destinationNames }) {
            count += state.withLock { $0.machine.flush(destination: name, now: now) }
        }
        state.withLock { $0.relay }.forgetFailures()
        wake()
        return count
    }

    /// Gives an envelope up: all recipients that are pending fail, and the sender is told.
    /// - Parameter operatorName: who asked for it.
    package func bounce(_ id: QueueID, by operatorName: String) async throws(QueueOperationError) {
        let (isHeld, fresh) = try state.withLock { state throws(QueueOperationError) in
            (try state.machine.claim(id), state.fresh(id))
        }
        let stored: StoredEnvelope
        do throws(StorageError) {
            if let fresh { stored = fresh } else { stored = try await loadOrRemains(of: id) }
        } catch {
            throw notGivenUp(id, isHeld: isHeld, error)
        }
        // What was never accepted has nobody who waits for news of it.
        var claims = [Claim(id: id, isHeld: isHeld, state: stored.state)]
        if let kept = leaveKept(&claims).first {
            wake()
            throw kept.error
        }
        do throws(StorageError) {
            let configuration = state.withLock { $0.configuration }
            let outcome = Outcome(
                .permanent,
                Reply(554, EnhancedStatus(5, 0, 0), "the operator of this mail system gave the message up"))
            let clock = clock.read()
            let age = clock.now - (state.withLock { $0.machine.accepted(id) } ?? clock.now)
            var resolution = AttemptResolution(
                stored, outcomes: stored.state.pending.map { _ in outcome }, AttemptAge(begun: age, ended: age),
                now: clock.wall, schedule: configuration.schedule,
                notices: notices(configuration, clock.wall))
            resolution = await signed(resolution)
            try await commitForOperator(resolution)
            log(resolution, stored, clock.wall, after: age)
            state.withLock { $0.forgetFresh(id) }
            settle(resolution, stored, .unknown, clock)
        } catch {
            throw notGivenUp(id, isHeld: isHeld, error)
        }
        logger.notice("bounced by an operator", metadata: ["queue_id": "\(id)", "by": "\(operatorName)"])
    }

    /// The envelope is as before, or not ours any more.
    private func notGivenUp(_ id: QueueID, isHeld: Bool, _ error: StorageError) -> QueueOperationError {
        giveUp([Claim(id: id, isHeld: isHeld)], error)
        wake()
        return .storage(error)
    }

    /// What can be told of the queue, with the `top` largest destinations. Cheap: a look at each destination, and at each
    /// envelope only if the oldest has left since the last time.
    package func snapshot(top: Int = 20) -> QueueSnapshot {
        let clock = clock.read()
        return state.withLock { $0.machine.snapshot(top: top) { clock.wall($0) } }
    }

    /// An envelope that nobody else works on while a command about it is carried out.
    private struct Claim {
        let id: QueueID
        let isHeld: Bool
        var state: EnvelopeState?
    }

    /// Carries out a command about envelopes that nobody else works on meanwhile. `change` puts what it makes of a state
    /// into the commit, `settle` is called when that is durable. Not `takesKept`: it is for none that ``EnvelopeState/isKept``.
    private func command(
        _ ids: [QueueID], _ operatorName: String, _ operation: QueueOperation, takesKept: Bool = true,
        change: (Claim, inout EnvelopeState, inout QueueCommit) -> Void, settle: (inout State, QueueID) -> Void
    ) async -> [QueueOperationFailure] {
        var (claims, failed) = claim(ids)
        let unread = claims.indices.filter { claims[$0].state == nil }
        for (index, read) in zip(unread, await storage.states(unread.map { claims[$0].id })) {
            switch read {
            case .success(let state): claims[index].state = state
            case .failure(let error):
                failed.append(.init(id: claims[index].id, error: .storage(error)))
                giveUp([claims[index]], error)
            }
        }
        claims.removeAll { $0.state == nil }
        if !takesKept { failed += leaveKept(&claims) }
        var isOneByOne = false
        while !claims.isEmpty {
            var commit = QueueCommit()
            var recipients = 0
            let part = claims.prefix { claim in
                defer { recipients += claim.state?.recipients.count ?? 0 }
                return recipients == 0 || !isOneByOne && recipients <= Self.recipientsAtOnce
            }
            for claim in part { if var state = claim.state { change(claim, &state, &commit) } }
            do throws(StorageError) {
                try await commitForOperator(commit)
                state.withLock { state in for claim in part { settle(&state, claim.id) } }
            } catch {
                // Which of them is lost, or in a member of the storage that is away, each tells by itself.
                if error == .lost || storage.members != .home, part.count > 1 {
                    isOneByOne = true
                    continue
                }
                giveUp(part, error)
                failed += part.map { .init(id: $0.id, error: .storage(error)) }
            }
            claims.removeFirst(part.count)
        }
        wake()
        log(operation, ids, except: failed, operatorName)
        return failed
    }

    /// Gives up those that were never accepted.
    private func leaveKept(_ claims: inout [Claim]) -> [QueueOperationFailure] {
        let kept = claims.filter { $0.state?.isKept == true }
        guard !kept.isEmpty else { return [] }
        claims.removeAll { $0.state?.isKept == true }
        state.withLock { state in for claim in kept { state.machine.unclaimed(claim.id, isHeld: claim.isHeld) } }
        return kept.map { QueueOperationFailure(id: $0.id, error: .kept) }
    }

    private func claim(_ ids: [QueueID]) -> ([Claim], [QueueOperationFailure]) {
        state.withLock { state in
            var claims: [Claim] = []
            var failed: [QueueOperationFailure] = []
            for id in ids {
                do throws(QueueOperationError) {
                    claims.append(
                        Claim(id: id, isHeld: try state.machine.claim(id), state: state.fresh(id)?.state))
                } catch {
                    failed.append(.init(id: id, error: error))
                }
            }
            return (claims, failed)
        }
    }

    /// What was claimed is as before, or not ours any more.
    private func giveUp(_ claims: some Sequence<Claim>, _ error: StorageError) {
        if error == .lost { return forget(claims.lazy.map(\.id)) }
        state.withLock { state in for claim in claims { state.machine.unclaimed(claim.id, isHeld: claim.isHeld) } }
    }

    private func log(
        _ operation: QueueOperation, _ ids: [QueueID], except failed: [QueueOperationFailure], _ operatorName: String
    ) {
        let failed = Set(failed.map(\.id))
        for id in ids where !failed.contains(id) {
            logger.notice(operation.message, metadata: ["queue_id": "\(id)", "by": "\(operatorName)"])
        }
    }
}
