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

    /// Whether an attempt may go on. With ``go(_:)`` it has a place, and ``leave()`` follows.
    enum Entry: Sendable {
        /// After that time.
        case go(after: Duration)
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
        var troubles = ExpiringCache<ConnectionKey, Bool>(capacity: 256)
        fileprivate var line = SiteLine()
        fileprivate var waiting: [SiteLine.Ticket: CheckedContinuation<Entry, Never>] = [:]
        fileprivate var cancelled: Set<SiteLine.Ticket> = []
        fileprivate var lastTicket: SiteLine.Ticket = 0

        /// How many wait for a place.
        var lineCount: Int { line.count }
    }

    /// What waits for the pace of many waits in the queue, which knows better how to wait.
    private static let lineCapacity = 250
    /// When who finds the line full comes back.
    private static let crowdTime: Duration = .seconds(5)
    /// A host that hung in the middle of a session is tried last for longer than the first retries are apart, or each of them
    /// would hang as well; one that only closed it, for as long as one that does not answer.
    private static let (hungTime, lostTime): (Duration, Duration) = (.seconds(900), .seconds(60))

    let key: SiteKey
    let clock: SiteClock
    let logger: Logger
    let state: Mutex<State>

    init(
        _ key: SiteKey, _ settings: Machine.Settings, _ record: SiteRecord?, clock: SiteClock, logger: Logger
    ) {
        self.key = key
        self.clock = clock
        self.logger = logger
        var state = State(machine: Machine(settings, record?.learning ?? SiteLearning(), at: clock.now))
        state.own = record?.own ?? SiteLimits()
        self.state = Mutex(state)
    }

    // MARK: Places

    /// Waits for a place, in the line of a recipient's domain.
    func enter(for domain: String) async -> Entry {
        let ticket = state.withLock { state in
            state.lastTicket += 1
            return state.lastTicket
        }
        let entry = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let answers = self.state.withLock { state in self.join(ticket, domain, continuation, &state) }
                for (continuation, entry) in answers { continuation.resume(returning: entry) }
            }
        } onCancel: {
            let waiter = self.state.withLock { state -> CheckedContinuation<Entry, Never>? in
                guard let waiter = state.waiting.removeValue(forKey: ticket) else {
                    state.cancelled.insert(ticket)
                    return nil
                }
                state.line.remove(ticket)
                return waiter
            }
            waiter?.resume(returning: .cancelled)
        }
        state.withLock { _ = $0.cancelled.remove(ticket) }
        return entry
    }

    private typealias Answer = (CheckedContinuation<Entry, Never>, Entry)

    private func join(
        _ ticket: SiteLine.Ticket, _ domain: String, _ continuation: CheckedContinuation<Entry, Never>,
        _ state: inout State
    ) -> [Answer] {
        if state.cancelled.contains(ticket) { return [(continuation, .cancelled)] }
        state.waiting[ticket] = continuation
        let loser = state.line.join(ticket, for: domain, capacity: Self.lineCapacity)
        var answers = serve(&state)
        if let loser, let waiter = state.waiting.removeValue(forKey: loser) {
            answers.append((waiter, .postponed(crowded())))
        }
        return answers
    }

    /// Gives places to those who wait, as many as there are; or nobody is to wait here.
    private func serve(_ state: inout State) -> [Answer] {
        var answers: [Answer] = []
        let now = clock.now
        while !state.line.isEmpty {
            switch state.machine.turn(at: now) {
            case .full: return answers
            case .go(let time):
                guard let ticket = state.line.next(), let waiter = state.waiting.removeValue(forKey: ticket) else {
                    state.machine.leave()
                    continue
                }
                answers.append((waiter, .go(after: max(time - now, .zero))))
            case .wait(let time):
                while let ticket = state.line.next() {
                    guard let waiter = state.waiting.removeValue(forKey: ticket) else { continue }
                    answers.append((waiter, .postponed(paused(until: time, now))))
                }
            }
        }
        return answers
    }

    /// Changes what is known of the site; who can go on then goes on.
    func change<Result: Sendable>(_ body: (inout State, Timestamp) -> Result) -> Result {
        let (result, answers) = state.withLock { state in
            let result = body(&state, clock.now)
            return (result, serve(&state))
        }
        for (continuation, entry) in answers { continuation.resume(returning: entry) }
        return result
    }

    /// An attempt has ended, or does without its place.
    func leave() { change { state, _ in state.machine.leave() } }

    private func crowded() -> Outcome {
        var outcome = Outcome.failed(451, 4, 4, 5, "too much mail waits for \(key)")
        outcome.postponed = Self.crowdTime * Double.random(in: 1...2)
        return outcome
    }

    private func paused(until time: Timestamp, _ now: Timestamp) -> Outcome {
        var outcome = Outcome.failed(451, 4, 4, 5, "\(key) limits the rate of mail and is left alone for a while")
        outcome.postponed = max(time - now, .zero) + .seconds(Double.random(in: 0...5))
        return outcome
    }

    /// Does `body` with a place, when there is one: the outcomes, one for each of `count` recipients.
    func visit(for domain: String, _ count: Int, _ body: () async -> [Outcome]) async -> [Outcome] {
        switch await enter(for: domain) {
        case .postponed(let outcome): return Array(repeating: outcome, count: count)
        case .cancelled: return Array(repeating: SMTPJob.cancelled, count: count)
        case .go(let wait):
            defer { leave() }
            if wait > .zero {
                do { try await Task.sleep(for: wait) } catch {
                    return Array(repeating: SMTPJob.cancelled, count: count)
                }
            }
            return await body()
        }
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

    /// What an attempt has learned of a host whose session was open.
    func learn(_ lesson: HostLesson, of key: ConnectionKey) {
        change { state, now in
            switch lesson {
            case .dead: state.machine.hung(key.host.address, until: now + Self.lostTime)
            case .hung: state.machine.hung(key.host.address, until: now + Self.hungTime)
            case .takes(let count): state.machine.stopped(afterRecipients: count)
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
