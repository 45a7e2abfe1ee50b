// One site as attempts and the pool see it: SiteMachine under a lock, with those who wait for a place. Sites has one for each site
// in use; relays ask for it behind the MX lookup. Site+Replies has what hosts say.

import Logging
import NIOCore
import SlimtaMail
import Synchronization

/// The clock of sites: it begins with the system's, and is never set.
struct SiteClock: Sendable {
    private let began = Timestamp.now()
    private let start = ContinuousClock.now

    /// Now.
    var now: Timestamp { began + (.now - start) }
}

/// A site in use.
final class Site: Sendable {
    typealias Machine = SiteMachine<SocketAddress>

    /// Whether an attempt may go on. With ``go(at:)`` it has a place, and ``leave(_:unused:)`` follows.
    enum Entry: Sendable {
        /// At that time, unless the site pauses by then.
        case go(at: Timestamp)
        /// Not now: what is to be said of it.
        case postponed(Outcome)
        /// Nobody wants it any more.
        case cancelled
    }

    struct State: Sendable {
        var machine: Machine
        /// What an operator has set by command.
        var own = SiteLimits()
        /// Why the last host that failed did.
        var lastFailure: Outcome?
        /// Connections that are being made.
        var connecting = 0
        /// Sessions that could not be made as they were wanted: other plans may fare better.
        var troubles = ExpiringCache<ConnectionKey, Bool>(capacity: State.troubleCapacity)
        /// What this node has of limits that are shared.
        var share = SiteShare()
        /// The largest limit of sessions that a relay has; 0: none has come yet since the configuration changed.
        var mostWanted = 0
        fileprivate var line = SiteLine()
        fileprivate var waiting: [SiteLine.Ticket: Waiter] = [:]
        /// How many places each relay has.
        fileprivate var held: [SiteVisitor: Int] = [:]
        fileprivate var crowd = SiteCrowd()
        /// Whether somebody looks after those who wait for too long.
        fileprivate var isWatched = false
        fileprivate var cancelled: Set<SiteLine.Ticket> = []
        fileprivate var lastTicket: SiteLine.Ticket = 0

        fileprivate static let troubleCapacity = 256

        /// How many wait for a place.
        var lineCount: Int { line.count }

        /// Whether somebody waits whose relay may have another session.
        fileprivate var hasNext: Bool { line.hasNext { held[$0, default: 0] < $0.limit } }

        /// Who is the next of those; nil: nobody any more.
        fileprivate mutating func next() -> Waiter? {
            let held = held
            return line.next { held[$0, default: 0] < $0.limit }.flatMap { waiting.removeValue(forKey: $0) }
        }
    }

    fileprivate struct Waiter: Sendable {
        let continuation: CheckedContinuation<Entry, Never>
        let since: Timestamp
        /// Its relay.
        let visitor: SiteVisitor
    }

    /// What waits for the pace of many waits in the queue, which knows better how to wait.
    private static let lineCapacity = 250
    /// Who has waited in it for so long comes back soon: by what is configured then, and the queue warns its sender and lets
    /// it expire.
    static let lineTime: Duration = .seconds(120)
    /// How soon at most.
    private static let returnTime: Duration = .seconds(2)
    /// A host that hung in the middle of a session is tried last for longer than the first retries are apart, or each of them
    /// would hang as well; one that only closed it, for as long as one that does not answer.
    private static let (hungTime, lostTime): (Duration, Duration) = (.seconds(900), .seconds(60))

    let key: SiteKey
    let clock: SiteClock
    let logger: Logger
    let state: Mutex<State>
    private let lineTime: Duration

    init(
        _ key: SiteKey, _ settings: Machine.Settings, _ record: SiteRecord?, clock: SiteClock,
        lineTime: Duration = Site.lineTime, logger: Logger
    ) {
        self.key = key
        self.clock = clock
        self.lineTime = lineTime
        self.logger = logger
        var state = State(machine: Machine(settings, record?.learning ?? SiteLearning(), at: clock.now))
        state.own = record?.own ?? SiteLimits()
        self.state = Mutex(state)
    }

    // MARK: Places

    /// Waits for a place, in the line of a recipient's domain.
    ///
    /// - Parameter visitor: its relay.
    func enter(for domain: String, _ visitor: SiteVisitor) async -> Entry {
        let ticket = state.withLock { state in
            state.lastTicket += 1
            return state.lastTicket
        }
        let entry = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let waiter = Waiter(continuation: continuation, since: clock.now, visitor: visitor)
                Self.answer(self.state.withLock { state in self.join(ticket, domain, waiter, &state) })
            }
        } onCancel: {
            let waiter = self.state.withLock { state -> Waiter? in
                guard let waiter = state.waiting.removeValue(forKey: ticket) else {
                    state.cancelled.insert(ticket)
                    return nil
                }
                state.line.remove(ticket)
                return waiter
            }
            waiter?.continuation.resume(returning: .cancelled)
        }
        state.withLock { _ = $0.cancelled.remove(ticket) }
        return entry
    }

    private typealias Answer = (waiter: Waiter, entry: Entry)

    private static func answer(_ answers: [Answer]) {
        for (waiter, entry) in answers { waiter.continuation.resume(returning: entry) }
    }

    private func join(
        _ ticket: SiteLine.Ticket, _ domain: String, _ waiter: Waiter, _ state: inout State
    ) -> [Answer] {
        if state.cancelled.contains(ticket) { return [(waiter, .cancelled)] }
        state.waiting[ticket] = waiter
        let loser = state.line.join(ticket, for: domain, waiter.visitor, capacity: Self.lineCapacity)
        var answers = serve(&state)
        if let loser, let waiter = state.waiting.removeValue(forKey: loser) {
            answers.append((waiter, .postponed(crowded(&state, clock.now))))
        }
        if !state.waiting.isEmpty {
            state.crowd.waits(at: waiter.since)
            watch(&state)
        }
        return answers
    }

    /// Gives places to those who wait, as many as there are; or nobody is to wait here.
    private func serve(_ state: inout State) -> [Answer] {
        var answers: [Answer] = []
        let now = clock.now
        loop: while state.hasNext {
            switch state.machine.turn(at: now) {
            case .full: break loop
            case .go(let slot):
                guard let waiter = state.next() else {
                    state.machine.leave(unused: slot)
                    continue
                }
                state.held[waiter.visitor, default: 0] += 1
                state.crowd.serves(at: now)
                answers.append((waiter, .go(at: slot)))
            case .wait(let time):
                while let ticket = state.line.next() {
                    guard let waiter = state.waiting.removeValue(forKey: ticket) else { continue }
                    answers.append((waiter, .postponed(paused(until: time, now, &state))))
                }
            }
        }
        if state.line.isEmpty { state.crowd.isServed() }
        return answers
    }

    /// Changes what is known of the site; who can go on then goes on.
    func change<Result: Sendable>(_ body: (inout State, Timestamp) -> Result) -> Result {
        let (result, answers) = state.withLock { state in
            let result = body(&state, clock.now)
            return (result, serve(&state))
        }
        Self.answer(answers)
        return result
    }

    /// An attempt has ended, or does without its place.
    ///
    /// - Parameter slot: when it was to send, if it has sent nothing.
    func leave(_ visitor: SiteVisitor, unused slot: Timestamp? = nil) {
        change { state, _ in
            let others = state.held[visitor, default: 0] - 1
            state.held[visitor] = others > 0 ? others : nil
            state.machine.leave(unused: slot)
        }
    }

    private func crowded(_ state: inout State, _ now: Timestamp) -> Outcome {
        let time = state.crowd.appointment(
            from: now + SiteCrowd.least, room: 0, rate: state.machine.rate.perSecond, at: now,
            spread: Double.random(in: 0...1))
        return waits(time - now)
    }

    private func waits(_ wait: Duration) -> Outcome {
        var outcome = Outcome.failed(451, 4, 4, 5, "too much mail waits for \(key)")
        outcome.postponed = wait
        return outcome
    }

    private func paused(until time: Timestamp, _ now: Timestamp, _ state: inout State) -> Outcome {
        var outcome = Outcome.failed(451, 4, 4, 5, "\(key) limits the rate of mail and is left alone for a while")
        let appointment = state.crowd.appointment(
            from: max(time, now), room: Self.lineCapacity, rate: state.machine.rate.perSecond, at: now,
            spread: Double.random(in: 0...1))
        outcome.postponed = appointment - now
        return outcome
    }

    /// What is said to who was given a place, if the site pauses since.
    private func pausedSince() -> Outcome? {
        state.withLock { state in
            let (now, until) = (clock.now, state.machine.rate.pausedUntil)
            return until > now ? paused(until: until, now, &state) : nil
        }
    }

    /// Does `body` with a place, when there is one: the outcomes, one for each of `count` recipients.
    ///
    /// - Parameters:
    ///   - visitor: whose message it is.
    ///   - body: says as well whether a host was told of a message. If not, its slot is for another one: however it ended, the
    ///     site has counted nothing.
    func visit(
        for domain: String, _ count: Int, _ visitor: SiteVisitor,
        _ body: () async -> (outcomes: [Outcome], hasSent: Bool)
    ) async -> [Outcome] {
        switch await enter(for: domain, visitor) {
        case .postponed(let outcome): return Array(repeating: outcome, count: count)
        case .cancelled: return Array(repeating: SMTPJob.cancelled, count: count)
        case .go(let slot):
            var hasSent = false
            defer { leave(visitor, unused: hasSent ? nil : slot) }
            let wait = slot - clock.now
            if wait > .zero {
                do { try await Task.sleep(for: wait) } catch {
                    return Array(repeating: SMTPJob.cancelled, count: count)
                }
            }
            if let outcome = pausedSince() { return Array(repeating: outcome, count: count) }
            let result = await body()
            hasSent = result.hasSent
            return result.outcomes
        }
    }

    // MARK: The line

    /// Looks after those who wait, as long as there are some.
    private func watch(_ state: inout State) {
        guard !state.isWatched else { return }
        state.isWatched = true
        Task { [self, lineTime] in
            var wait: Duration? = lineTime
            while let time = wait {
                try? await Task.sleep(for: time)
                wait = sendBack(waitingFor: lineTime)
            }
        }
    }

    /// Who has waited for so long comes back soon. How long until that is to be done again; nil: nobody waits.
    private func sendBack(waitingFor time: Duration) -> Duration? {
        let (wait, answers) = state.withLock { state -> (Duration?, [Answer]) in
            let now = clock.now
            let tired = state.waiting.filter { now - $0.value.since >= time }
            for ticket in tired.keys {
                state.waiting[ticket] = nil
                state.line.remove(ticket)
            }
            let oldest = state.waiting.values.map(\.since).min()
            if oldest == nil {
                state.isWatched = false
                state.crowd.isServed()
            }
            return (oldest.map { time - (now - $0) }, tired.values.map { ($0, .postponed(soon())) })
        }
        Self.answer(answers)
        return wait
    }

    private func soon() -> Outcome { waits(Self.returnTime * Double.random(in: 0...1)) }

    /// The configuration has changed: who waits comes back with the new one, and of the old one nothing is kept.
    func renew() {
        let waiters = state.withLock { state in
            let waiters = Array(state.waiting.values)
            (state.waiting, state.line) = ([:], SiteLine())
            state.crowd.isServed()
            state.mostWanted = 0
            state.troubles = ExpiringCache(capacity: State.troubleCapacity)
            return waiters
        }
        Self.answer(waiters.map { ($0, .postponed(soon())) })
    }

    // MARK: Hosts

    /// The host to be tried next, of those of one preference; nil: none of them now.
    func choose(from keys: [ConnectionKey]) -> ConnectionKey? {
        change { state, now in
            let deadline = NIODeadline.now()
            let usable = keys.filter { key in
                state.troubles.value(for: key, at: deadline) == nil
                    && !state.machine.health.isLast(key.host.address, at: now)
            }
            if self.key.isFixed {
                return usable.first { !state.machine.health.waits($0.host.address, at: now) }
            }
            let address = state.machine.choose(from: [usable.map(\.host.address)], at: now)
            return usable.first { $0.host.address == address }
        }
    }

    /// Whether the host does not answer, and somebody else finds out whether it does again.
    func isLeftAlone(_ key: ConnectionKey) -> Bool {
        guard !self.key.isFixed else { return false }
        return state.withLock { state in state.machine.health.waits(key.host.address, at: clock.now) }
    }

    /// What is said of a message for which all hosts are left alone.
    func unreachable(_ keys: [ConnectionKey]) -> Outcome {
        state.withLock { state in
            let now = clock.now
            var outcome =
                state.lastFailure ?? .failed(451, 4, 4, 1, "no host of \(key) answers")
            outcome.result = .temporary
            outcome.isHostFailure = true
            let until = state.machine.reachable(keys.map(\.host.address), at: now)
            // A fixed second would be longer than what is left where waits are short.
            let wait = min(until - now, state.machine.settings.waits.upperBound)
            outcome.postponed = wait + min(.seconds(Double.random(in: 0...2)), wait)
            return outcome
        }
    }

    /// The host has answered.
    func answered(_ key: ConnectionKey) { change { state, _ in state.machine.answered(key.host.address) } }

    /// The host was not tried after all.
    func untried(_ key: ConnectionKey) { change { state, now in state.machine.untried(key.host.address, at: now) } }

    /// The host was tried by another job, which has told what came of it.
    func released(_ key: ConnectionKey) { change { state, _ in state.machine.released(key.host.address) } }

    /// What an attempt has learned of a host whose session was open.
    func learn(_ lesson: HostLesson, of key: ConnectionKey) {
        change { state, now in
            switch lesson {
            case .dead: state.machine.hung(key.host.address, until: now + Self.lostTime)
            case .hung: state.machine.hung(key.host.address, until: now + Self.hungTime)
            case .takes(let count): state.machine.stopped(afterRecipients: count, at: now)
            case .mayHaveIt: break
            }
        }
    }

    /// The most recipients in a transaction.
    var mostRecipients: Int? { state.withLock { $0.machine.mostRecipients } }

    // MARK: For the pool

    /// A connection is being made. Whether there are more than the site wants, so that one that does nothing is to go.
    func connecting() -> Bool {
        change { state, now in
            state.connecting += 1
            return state.connecting + state.machine.established > max(state.machine.room(at: now), 1)
        }
    }

    /// Its session is open.
    func opened(_ key: ConnectionKey) {
        change { state, _ in
            state.connecting -= 1
            state.lastFailure = nil
            state.machine.opened(key.host.address)
        }
    }

    /// The connection is closed.
    func closed(wasOpen: Bool) {
        change { state, _ in
            if wasOpen { state.machine.closed() } else { state.connecting -= 1 }
        }
    }

    /// There was no session. Whether the site only wants no more of them.
    ///
    /// - Parameter isBesideOthers: whether sessions with the same host are open.
    func failed(_ key: ConnectionKey, _ failure: HostFailure, isBesideOthers: Bool) -> Bool {
        if failure.isTLSFailure {
            // It has answered, up to STARTTLS.
            answered(key)
            return false
        }
        let (isLimit, sessions) = change { state, now in
            // Nothing was asked of the host: what we lack, others may have.
            if failure.isOurs {
                let deadline = NIODeadline.now()
                state.troubles.insert(true, for: key, until: deadline + TimeAmount(Self.lostTime), at: deadline)
                state.machine.untried(key.host.address, at: now)
                return (false, 0)
            }
            if failure.isOfPlan {
                let time = failure.isTimeout ? Self.hungTime : Self.lostTime
                let deadline = NIODeadline.now()
                state.troubles.insert(true, for: key, until: deadline + TimeAmount(time), at: deadline)
                state.machine.answered(key.host.address)
                return (false, 0)
            }
            // A host that greets with 5xx has said what it has to say, to everybody.
            if failure.outcome.result == .permanent {
                state.machine.answered(key.host.address)
                state.machine.hung(key.host.address, until: now + Self.lostTime)
                return (false, 0)
            }
            let outcome = failure.outcome
            let next = state.machine.failed(
                key.host.address, outcome.isRemote ? outcome.reply : nil, isReset: isBesideOthers, at: now,
                jitter: Double.random(in: -1...1))
            if next == .nextHost { state.lastFailure = outcome }
            return (next == .waitForPlace, state.machine.established)
        }
        if isLimit {
            logger.notice(
                "site takes no more sessions",
                metadata: [
                    "site": "\(self.key)", "sessions": "\(sessions)", "reply": "\(failure.outcome.reply)",
                ])
        }
        return isLimit
    }
}
