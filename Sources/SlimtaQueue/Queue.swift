// The queue's driver: between edges, storage and relay. It owns an envelope from acceptance until every recipient's fate
// is final. Decisions are the machine's (when) and AttemptResolution's (what follows); this file performs them.

package import Logging
internal import NIOCore
package import SlimtaMail
import Synchronization

/// The queue.
package final class Queue: Sendable {
    /// What slimta.conf says of the queue; a reload brings another one.
    package struct Configuration: Sendable {
        /// When retries are made, and when it is over.
        package var schedule: RetrySchedule
        /// How many attempts may be made at once.
        package var limits: QueueMachine.Limits
        /// False: accept and store, and begin no attempt.
        package var delivers: Bool
        /// Our name, in notices.
        package var hostname: String
        /// Who signs notices; nil: they go unsigned.
        package var signer: (any NoticeSigner)?

        /// All of it: there are no defaults here.
        package init(schedule: RetrySchedule, limits: QueueMachine.Limits, delivers: Bool, hostname: String) {
            self.schedule = schedule
            self.limits = limits
            self.delivers = delivers
            self.hostname = hostname
        }
    }

    /// What has just been accepted.
    fileprivate struct Fresh {
        let envelope: Envelope
        let message: Message
    }

    struct State: ~Copyable {
        var machine: QueueMachine
        var configuration: Configuration
        var relay: any Relay
        /// Envelopes that have just been accepted, until their first attempt: they need not be read back.
        fileprivate var fresh: [QueueID: Fresh] = [:]
        fileprivate var freshOctets = 0
        /// How many outcomes a member of the storage has not taken: no attempt begins for what is in it until it has, or
        /// it would be made again and again.
        var unrecordedIn: [StorageMembers: Int] = [:]
        fileprivate var isDraining = false
        /// Whether `run` was told to look, and has not done so yet.
        fileprivate var isWoken = false
        fileprivate var passes: UInt64 = 0

        /// The envelope, if it has just been accepted.
        func fresh(_ id: QueueID) -> StoredEnvelope? {
            guard let fresh = fresh[id] else { return nil }
            return StoredEnvelope(
                envelope: fresh.envelope, state: EnvelopeState(of: fresh.envelope, due: fresh.envelope.received),
                message: fresh.message)
        }

        /// Its content is no longer kept: it will have to be read back.
        mutating func forgetFresh(_ id: QueueID) {
            if let fresh = fresh.removeValue(forKey: id) { freshOctets -= fresh.message.head.readableBytes }
        }

        /// Envelopes are durable: they are ours to deliver, unless their bucket is being handed over.
        mutating func accepted(
            _ envelopes: [Envelope], _ message: Message, isHeld: Bool = false, due: Timestamp, now: Timestamp
        ) {
            let isFresh = configuration.delivers && !isHeld && due == now
            for envelope in envelopes {
                let domain = envelope.recipients[0].foldedDomain
                let isAdded = machine.added(
                    QueuedSummary(
                        id: envelope.id, received: envelope.received, due: due, attempts: 0,
                        isHeld: isHeld, isWarned: !envelope.hasWarning(for: envelope.recipients.indices),
                        destination: relay.destination(for: domain, of: envelope)), acceptedAt: now)
                // What is not delivered now is not kept; nor is what waits for a destination that does not answer.
                guard isAdded, isFresh, freshOctets + message.head.readableBytes <= Queue.freshBudget else { continue }
                fresh[envelope.id] = Fresh(envelope: envelope, message: message)
                freshOctets += message.head.readableBytes
            }
        }

        /// None of these contents is kept any more.
        mutating func forgetFresh(in buckets: QueueBuckets) {
            for id in fresh.keys.filter(buckets.contains) { forgetFresh(id) }
        }

        /// What attempts for the envelope share with others.
        func destination(_ stored: StoredEnvelope) -> String {
            relay.destination(for: QueuedSummary(of: stored).destination, of: stored.envelope)
        }
    }

    /// How much content is kept in memory for first attempts; beyond it is read back.
    private static let freshBudget = 32 << 20
    /// How long to wait before recording is tried again after the storage failed.
    static let recordRetry = Duration.seconds(5)
    /// How long to wait between looks while there is nothing to attempt, and much to be put aside.
    private static let pause = Duration.milliseconds(5)

    let storage: any QueueStorage
    let logger: Logger
    let clock: QueueClock
    let state: Mutex<State>
    /// See ``init(storage:relay:configuration:logger:clock:ended:)``.
    private let ended: Ended?
    /// The storage's, for notices.
    private let newID: @Sendable (Timestamp, QueueID) -> QueueID
    private let wakes: AsyncStream<Void>
    private let waker: AsyncStream<Void>.Continuation

    /// Is told what became of recipients of an envelope in an attempt.
    package typealias Ended = @Sendable (Envelope, [AttemptResolution.Event]) -> Void

    /// A queue that knows of nothing yet: ``receive(_:)`` tells it what is stored, then ``run(on:)`` makes attempts.
    ///
    /// - Parameter ended: is called behind each attempt when that is recorded. Must not block.
    package init(
        storage: any QueueStorage, relay: any Relay, configuration: Configuration, logger: Logger,
        clock: QueueClock = QueueClock(), ended: Ended? = nil
    ) {
        self.ended = ended
        self.storage = storage
        newID = { storage.newID(at: $0, beside: $1) }
        self.clock = clock
        self.logger = logger
        state = Mutex(
            State(
                machine: QueueMachine(limits: configuration.limits, schedule: configuration.schedule),
                configuration: configuration, relay: relay))
        (wakes, waker) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    }

    /// How many envelopes are queued.
    package var count: Int { state.withLock { $0.machine.count } }

    /// How many attempts are being made.
    package var attemptsInFlight: Int { state.withLock { $0.machine.inFlight } }

    /// How often `run` has looked for what is due: it grows after each ``look()``, unless the scheduler hangs or drains.
    package var passes: UInt64 { state.withLock { $0.passes } }

    /// Has `run` look for what is due.
    package func look() { wake() }

    /// Takes effect for what begins from now on. All destinations are taken to answer until they turn out not to.
    ///
    /// - Parameter movesMail: whether what is queued may have another destination by this relay.
    package func reconfigure(_ configuration: Configuration, relay: any Relay, movesMail: Bool) {
        state.withLock {
            if movesMail { $0.machine.doubtDestinations() }
            $0.configuration = configuration
            $0.machine.limits = configuration.limits
            $0.machine.schedule = configuration.schedule
            $0.machine.forgetBackOffs()
            $0.relay = relay
        }
        relay.forgetFailures()
        wake()
    }

    /// Makes envelopes of one message durable, all or none, and sees to their delivery.
    ///
    /// Attempts begin at `due`, without it at once. With a `heldReason` they are held from the start, in the same commit, until an operator releases them. With a
    /// `receipt`, that is in the same commit too, with these envelopes.
    ///
    /// `completion` is called on a thread of the storage and must not block: the 250 waits for it.
    package func accept(
        _ envelopes: [Envelope], _ message: Message, heldReason: String? = nil, due: Timestamp? = nil,
        receipt: Receipt? = nil,
        completion: @escaping @Sendable (Result<Void, StorageError>) -> Void
    ) {
        let accepted = envelopes.map { QueueCommit.Acceptance($0, due: due ?? $0.received) }
        var commit = QueueCommit(accepted: accepted, message: message)
        if let heldReason {
            commit.states = envelopes.map { envelope in
                var state = EnvelopeState(of: envelope, due: due ?? envelope.received)
                state.hold(because: heldReason)
                return state
            }
        }
        if let receipt { commit.receipts = [receipt.of(envelopes)] }
        begin(envelopes.map(\.id))
        // Behind that no bucket of theirs leaves us before it is known what came of the commit.
        commit.isForOthers = !envelopes.allSatisfy { storage.keeps($0.id) }
        let isForOthers = commit.isForOthers
        storage.commit(commit) { result in
            let isStored = if case .success = result { true } else { false }
            self.accepted(
                envelopes, message, isOurs: isStored && !isForOthers, isHeld: heldReason != nil, due: due)
            completion(result)
        }
    }

    /// A commit is over that was to make new envelopes durable. What it has stored for others is theirs: of what comes back to
    /// us the storage tells.
    private func accepted(_ envelopes: [Envelope], _ message: Message, isOurs: Bool, isHeld: Bool, due: Timestamp?) {
        let clock = clock.read()
        let due = due.map { max(clock.now, clock.own($0)) } ?? clock.now
        let isAsleep = state.withLock { state in
            let looks = isOurs && state.configuration.delivers && !isHeld
            if isOurs { state.accepted(envelopes, message, isHeld: isHeld, due: due, now: clock.now) }
            state.machine.arrived(envelopes.lazy.map(\.id))
            guard looks || state.machine.hasReleased else { return false }
            defer { state.isWoken = true }
            return !state.isWoken
        }
        if isAsleep { waker.yield() }
    }

    /// `run` is to look what there is to do.
    func wake() {
        state.withLock { $0.isWoken = true }
        waker.yield()
    }

    // MARK: Attempts

    /// Makes attempts as they become due, until `drain` or cancellation; returns when all that began have ended.
    ///
    /// - Parameter executors: attempts run on these in turn. They never block one.
    package func run(on executors: [any TaskExecutor] = []) async {
        var attempt = 0
        let timer = QueueTimer { [weak self] in self?.wake() }
        defer { timer.cancel() }
        await withDiscardingTaskGroup { attempts in
            var iterator = wakes.makeAsyncIterator()
            repeat {
                while let (taken, next) = takeDue() {
                    for one in taken {
                        attempt = (attempt + 1) % max(1, executors.count)
                        attempts.addTask(executorPreference: executors.isEmpty ? nil : executors[attempt]) {
                            await self.attempt(one)
                        }
                    }
                    guard let next else { break }
                    let now = clock.read().now
                    if taken.isEmpty || next > now {
                        timer.set(max(next, now + Self.pause), now: now)
                        break
                    }
                    await Task.yield()
                }
                if state.withLock({ $0.isDraining }) { break }
            } while await iterator.next() != nil
        }
    }

    /// Begins no more attempts; `run` returns when those in flight have ended. Cancel its task to cut them short.
    package func drain() {
        state.withLock { $0.isDraining = true }
        wake()
    }

    /// What is to be attempted now, and when to look again though nothing happened; nil: nothing until something does.
    private func takeDue() -> (taken: [QueueMachine.Taken], next: Timestamp?)? {
        let now = clock.read().now
        let (all, away) = (storage.members, storage.awayMembers)
        return state.withLock { state -> ([QueueMachine.Taken], Timestamp?)? in
            state.isWoken = false
            state.passes &+= 1
            handOver(&state)
            let stuck = state.stuckMembers
            guard state.configuration.delivers, !state.isDraining, stuck != all else { return nil }
            let shut = away.union(stuck)
            if shut == all { return ([], now + Self.recordRetry) }
            let taken = state.machine.takeDue(now: now, except: shut.isEmpty ? nil : isIn(shut))
            return (taken, state.machine.nextDue)
        }
    }

    private func attempt(_ taken: QueueMachine.Taken) async {
        guard let (stored, unreadable) = await stored(taken.id) else { return }
        let began = taken.tried ?? clock.read().now
        let now = clock.read().now
        guard !state.withLock({ $0.machine.moved(taken.id, to: $0.destination(stored), now: now) }) else {
            return wake()
        }
        let (relay, configuration, accepted) = state.withLock {
            ($0.relay, $0.configuration, $0.machine.accepted(taken.id) ?? began)
        }
        let pending = stored.state.pending
        let outcomes: [Outcome]
        if let failure = unreadable ?? taken.failure {
            outcomes = Array(repeating: failure, count: pending.count)
        } else {
            outcomes = await attempt(stored, pending, relay, configuration.signer)
        }
        let end = clock.read()
        let age = AttemptAge(begun: began - accepted, ended: end.now - accepted)
        var resolution = AttemptResolution(
            stored, outcomes: outcomes, isFinal: !Task.isCancelled, age, now: end.wall,
            schedule: configuration.schedule,
            notices: notices(configuration, end.wall))
        let domains = pending.map { index in
            relay.destination(for: stored.envelope.recipients[index].foldedDomain, of: stored.envelope)
        }
        let report = Task.isCancelled ? .unknown : HostReport(outcomes, of: domains)
        resolution = await signed(resolution)
        log(resolution, stored, end.wall, after: age.ended)
        guard await record(resolution, of: taken.id) else { return lost(taken.id) }
        ended?(stored.envelope, resolution.events)
        settle(resolution, stored, report, end)
    }

    /// The content of what is to be attempted: fresh in memory, or read back. `unreadable`: what is said of it instead of
    /// an attempt.
    private func stored(_ id: QueueID) async -> (StoredEnvelope, unreadable: Outcome?)? {
        let fresh = state.withLock { state in
            defer { state.forgetFresh(id) }
            return state.fresh(id)
        }
        if let fresh { return (fresh, nil) }
        do {
            return (try await storage.load(id), nil)
        } catch {
            if let remains = await remains(of: id, error) { return (remains, Outcome(unreadable: error)) }
            switch error {
            case .notFound:
                logger.error("queued envelope is not in the storage", metadata: ["queue_id": "\(id)"])
                let now = clock.read().now
                _ = state.withLock { $0.machine.ended(id, now: now) }
            case .damaged(let what):
                logger.error(
                    "queued envelope is damaged and held", metadata: ["queue_id": "\(id)", "error": "\(what)"])
                state.withLock { $0.machine.held(id) }
            case .closed:
                state.withLock { $0.machine.held(id) }
            case .lost: forget([id])
            case .away:
                // All of them wait for it.
                let now = clock.read().now
                state.withLock { $0.machine.postponed(id, until: now + Self.recordRetry) }
            case .full, .failed, .doubtful, .repeated:
                logger.error(
                    "queued envelope could not be read", metadata: ["queue_id": "\(id)", "error": "\(error)"])
                let now = clock.read().now
                state.withLock { state in
                    let retry = state.configuration.schedule.intervals.first ?? Self.recordRetry
                    state.machine.postponed(id, until: now + retry)
                }
            }
            wake()
            return nil
        }
    }

    /// What writes to senders, at the time `now` of the system's clock.
    func notices(_ configuration: Configuration, _ now: Timestamp) -> NoticeBuilder {
        NoticeBuilder(hostname: configuration.hostname, zoneOffset: now.localOffset, newID: newID)
    }

    /// What was recorded takes effect.
    /// - Parameter end: when the attempt ended: its times are by this clock, which may have been set while they were
    ///   recorded.
    func settle(
        _ resolution: AttemptResolution, _ stored: StoredEnvelope, _ report: HostReport, _ end: ClockReading
    ) {
        let now = clock.read().now
        let change = state.withLock { state -> DestinationChange? in
            // Before the original ends: with that its bucket may be handed over.
            for notice in resolution.notices {
                state.accepted([notice.envelope], notice.message, due: now, now: now)
                state.machine.arrived([notice.envelope.id])
            }
            guard let next = resolution.state else {
                return state.machine.ended(stored.envelope.id, report: report, now: now)
            }
            var after = stored
            after.state = next
            return state.machine.attempted(
                next.id, next: end.own(next.due), destination: state.destination(after),
                isWarned: next.isWarned || !stored.envelope.hasWarning(for: next.pending), report: report,
                now: now)
        }
        wake()
        if let change { log(change) }
    }
}

extension HostReport {
    /// What outcomes tell of the destination of the first of them; `destinations` has the one of each.
    init(_ outcomes: [Outcome], of destinations: [String]) {
        self = .unknown
        for (outcome, destination) in zip(outcomes, destinations) where destination == destinations[0] {
            if outcome.isHostFailure {
                self = .unreachable(outcome)
            } else if let wait = outcome.postponed, outcome.result == .temporary {
                if case .paced(let known) = self, known > wait { continue }
                self = .paced(wait)
            } else if outcome.isRemote || outcome.result == .delivered {
                self = .answered
                return
            }
        }
    }
}
