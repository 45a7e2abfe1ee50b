// The queue's driver: between edges, storage and relay. It owns an envelope from acceptance until every recipient's fate
// is final. Decisions are the machine's (when) and AttemptResolution's (what follows); this file performs them.

package import Logging
internal import NIOCore
package import SlimtaMail
import Synchronization

/// The queue.
package final class Queue: Sendable {
    package struct Configuration: Sendable {
        package var schedule: RetrySchedule
        package var limits: QueueMachine.Limits
        /// False: accept and store, and begin no attempt.
        package var delivers: Bool
        package var hostname: String

        package init(schedule: RetrySchedule, limits: QueueMachine.Limits, delivers: Bool, hostname: String) {
            self.schedule = schedule
            self.limits = limits
            self.delivers = delivers
            self.hostname = hostname
        }
    }

    private struct State {
        var machine: QueueMachine
        var configuration: Configuration
        var relay: any Relay
        /// Contents of envelopes that have just been accepted, until their first attempt: they need not be read back.
        var fresh: [QueueID: StoredEnvelope] = [:]
        var freshOctets = 0
        /// An outcome could not be recorded: no attempt begins until one can be, or it would be made again and again.
        var unrecorded = 0
        var isDraining = false
        /// The earliest time for which a timer runs.
        var timer: Timestamp?
    }

    /// How much content is kept in memory for first attempts; beyond it is read back.
    private static let freshBudget = 32 << 20
    /// How long to wait before recording is tried again after the storage failed.
    private static let recordRetry = Duration.seconds(5)

    private let storage: any QueueStorage
    private let logger: Logger
    private let state: Mutex<State>
    private let wakes: AsyncStream<Void>
    private let waker: AsyncStream<Void>.Continuation

    package init(
        storage: any QueueStorage, relay: any Relay, configuration: Configuration, recovered: [QueuedSummary],
        logger: Logger
    ) {
        self.storage = storage
        self.logger = logger
        var machine = QueueMachine(limits: configuration.limits)
        for summary in recovered { machine.added(summary) }
        state = Mutex(State(machine: machine, configuration: configuration, relay: relay))
        (wakes, waker) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    }

    /// How many envelopes are queued.
    package var count: Int { state.withLock { $0.machine.count } }

    /// How many attempts are being made.
    package var attemptsInFlight: Int { state.withLock { $0.machine.inFlight } }

    /// Takes effect for what begins from now on.
    package func reconfigure(_ configuration: Configuration, relay: any Relay) {
        state.withLock {
            $0.configuration = configuration
            $0.machine.limits = configuration.limits
            $0.relay = relay
        }
        waker.yield()
    }

    /// Makes envelopes of one message durable, all or none, and sees to their delivery.
    ///
    /// `completion` is called on a thread of the storage and must not block: the 250 waits for it.
    package func accept(
        _ envelopes: [Envelope], _ message: Message,
        completion: @escaping @Sendable (Result<Void, StorageError>) -> Void
    ) {
        let due = envelopes.map { ($0, $0.received) }
        storage.commit(QueueCommit(accepted: due, message: message)) { result in
            if case .success = result { self.accepted(envelopes, message) }
            completion(result)
        }
    }

    private func accepted(_ envelopes: [Envelope], _ message: Message) {
        state.withLock { state in
            for envelope in envelopes {
                let stored = StoredEnvelope(
                    envelope: envelope, state: EnvelopeState(of: envelope, due: envelope.received), message: message)
                if state.configuration.delivers, state.freshOctets + message.head.readableBytes <= Self.freshBudget {
                    state.fresh[envelope.id] = stored
                    state.freshOctets += message.head.readableBytes
                }
                state.machine.added(QueuedSummary(of: stored))
            }
        }
        waker.yield()
    }

    // MARK: Attempts

    /// Makes attempts as they become due, until `drain` or cancellation; returns when all that began have ended.
    package func run() async {
        await withDiscardingTaskGroup { timers in
            await withDiscardingTaskGroup { attempts in
                var iterator = wakes.makeAsyncIterator()
                repeat {
                    let (due, timer) = takeDue()
                    for id in due { attempts.addTask { await self.attempt(id) } }
                    if let timer { timers.addTask { await self.wake(at: timer) } }
                    if state.withLock({ $0.isDraining }) { break }
                } while await iterator.next() != nil
            }
            timers.cancelAll()
        }
    }

    private func wake(at time: Timestamp) async {
        // Cut short by the end of `run`: there is nothing to wake then.
        try? await Task.sleep(for: max(time - Timestamp.now(), .zero))
        state.withLock { if $0.timer == time { $0.timer = nil } }
        waker.yield()
    }

    /// Begins no more attempts; `run` returns when those in flight have ended. Cancel its task to cut them short.
    package func drain() {
        state.withLock { $0.isDraining = true }
        waker.yield()
    }

    /// What is to be attempted now, and when to look again if a timer for that does not run yet.
    private func takeDue() -> ([QueueID], Timestamp?) {
        state.withLock { state in
            guard state.configuration.delivers, !state.isDraining, state.unrecorded == 0 else { return ([], nil) }
            let due = state.machine.takeDue(now: .now())
            guard let next = state.machine.nextDue, state.timer.map({ next < $0 }) ?? true else { return (due, nil) }
            state.timer = next
            return (due, next)
        }
    }

    private func attempt(_ id: QueueID) async {
        guard let stored = await stored(id) else { return }
        let (relay, configuration) = state.withLock { ($0.relay, $0.configuration) }
        let delivery = Delivery(envelope: stored.envelope, message: stored.message, recipients: stored.state.pending)
        let outcomes = await relay.attempt(delivery)
        let now = Timestamp.now()
        let resolution = AttemptResolution(
            stored, outcomes: outcomes, isFinal: !Task.isCancelled, now: now, schedule: configuration.schedule,
            notices: NoticeBuilder(hostname: configuration.hostname, zoneOffset: now.localOffset))
        log(resolution, stored, now)
        await record(resolution)
        settle(resolution, stored)
    }

    /// The content of what is to be attempted: fresh in memory, or read back.
    private func stored(_ id: QueueID) async -> StoredEnvelope? {
        let fresh = state.withLock { state in
            let fresh = state.fresh.removeValue(forKey: id)
            state.freshOctets -= fresh?.message.head.readableBytes ?? 0
            return fresh
        }
        if let fresh { return fresh }
        do {
            return try await storage.load(id)
        } catch {
            switch error {
            case .notFound:
                logger.error("queued envelope is not in the storage", metadata: ["queue_id": "\(id)"])
                state.withLock { $0.machine.removed(id) }
            case .damaged(let what):
                logger.error(
                    "queued envelope is damaged and held", metadata: ["queue_id": "\(id)", "error": "\(what)"])
                state.withLock { $0.machine.held(id) }
            case .closed:
                state.withLock { $0.machine.held(id) }
            case .full, .failed:
                logger.error(
                    "queued envelope could not be read", metadata: ["queue_id": "\(id)", "error": "\(error)"])
                state.withLock { state in
                    let retry = Timestamp.now() + (state.configuration.schedule.intervals.first ?? Self.recordRetry)
                    state.machine.postponed(id, until: retry)
                }
                waker.yield()
            }
            return nil
        }
    }

    /// Makes an attempt's results durable; does not give up, since what was delivered must not be delivered again.
    private func record(_ resolution: AttemptResolution) async {
        // Further notices first: if we stop between the commits, the sender is told twice rather than never.
        for notice in resolution.notices.dropFirst() {
            await record(QueueCommit(accepted: [(notice.envelope, notice.envelope.received)], message: notice.message))
        }
        await record(resolution.commit)
    }

    private func record(_ commit: QueueCommit) async {
        var isCounted = false
        while true {
            do throws(StorageError) {
                try await storage.commit(commit)
                if isCounted { state.withLock { $0.unrecorded -= 1 } }
                return
            } catch {
                if !isCounted {
                    isCounted = true
                    state.withLock { $0.unrecorded += 1 }
                    logger.error(
                        "outcome cannot be recorded, no delivery begins until it can", metadata: ["error": "\(error)"])
                }
                if error == .closed || Task.isCancelled { return }
                try? await Task.sleep(for: Self.recordRetry)
            }
        }
    }

    private func settle(_ resolution: AttemptResolution, _ stored: StoredEnvelope) {
        state.withLock { state in
            if let next = resolution.state {
                var after = stored
                after.state = next
                state.machine.attempted(next.id, next: next.due, destination: QueuedSummary(of: after).destination)
            } else {
                state.machine.removed(stored.envelope.id)
            }
        }
        for notice in resolution.notices { accepted([notice.envelope], notice.message) }
        waker.yield()
    }

    // MARK: Log

    private func log(_ resolution: AttemptResolution, _ stored: StoredEnvelope, _ now: Timestamp) {
        let delay = (now - stored.envelope.received).milliseconds
        for event in resolution.events {
            var metadata: Logger.Metadata = [
                "queue_id": "\(stored.envelope.id)", "sender": "\(stored.envelope.senderText)",
                "recipient": "\(event.recipient)", "relay": "\(event.outcome.relay ?? "none")",
                "tls": "\(event.outcome.tls?.description ?? "none")",
                "status": "\(event.outcome.reply.effectiveStatus)", "reply": "\(event.outcome.reply)",
                "delay": "\(delay / 1000).\(String(String(1000 + delay % 1000).dropFirst()))",
            ]
            if event.kind == .deferred, let next = resolution.state?.due {
                metadata["next"] = "\(max(next - now, .zero).milliseconds / 1000)s"
            }
            let level: Logger.Level = event.kind == .delivered ? .info : .notice
            logger.log(level: level, "\(event.kind.rawValue)", metadata: metadata)
        }
        for notice in resolution.notices {
            logger.info(
                "notice queued",
                metadata: [
                    "queue_id": "\(notice.envelope.id)", "about": "\(stored.envelope.id)",
                    "recipient": "\(notice.envelope.recipients[0])",
                ])
        }
        if resolution.state == nil, stored.envelope.sender == nil,
            resolution.events.contains(where: { $0.kind == .bounced || $0.kind == .expired })
        {
            // Nobody is left to tell but the operator.
            logger.warning("notice could not be delivered", metadata: ["queue_id": "\(stored.envelope.id)"])
        }
    }
}

extension QueuedSummary {
    /// What the scheduler needs of an envelope.
    package init(of stored: StoredEnvelope) {
        let first = stored.state.pending.first
        self.init(
            id: stored.envelope.id, received: stored.envelope.received, due: stored.state.due,
            attempts: stored.state.attempts, isHeld: stored.state.isHeld,
            destination: first.map { stored.envelope.recipients[$0].foldedDomain } ?? "")
    }
}
