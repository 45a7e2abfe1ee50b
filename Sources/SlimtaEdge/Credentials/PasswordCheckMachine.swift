// Which password check may begin, and when: guessing is slow, and shuts nobody else out. A value without I/O; its driver
// is PasswordChecks.

/// The line before the threads that hash passwords.
///
///     asked ──▶ delayed ──due──▶ begun ──known──────────────▶ ended
///       │                          └──lined──next──▶ hashing ──▶ ended
///       └──▶ joined | repeated | refused
///
/// It is **fair**: checks stand in lanes, one for each address (IPv6: /64) and one more for the logins that are familiar
/// there, and each lane has one check in turn; familiar ones come first. It is **bounded**: a lane has at most
/// ``Limits/inHand`` checks, whatever connections there are. And it is **slow** for who guesses: failures of an address,
/// and those of a login where it never succeeded, make the next check wait. That is a time by which it begins, so the wait
/// takes no thread, and shows neither who exists nor which password was right. It belongs to address and login, so that a
/// new connection changes nothing.
///
/// Nobody is locked out. A login that succeeded from an address is familiar there: what others do at that address or with
/// that login does not delay it. From an address without failures, the failures of others delay a login by
/// ``Limits/longestLoginPause`` at most, and they do not queue up before it. The same wrong password again, as clients
/// send it that try each mechanism or poll, is one failure.
struct PasswordCheckMachine: Sendable {
    typealias Instant = ContinuousClock.Instant
    typealias Source = ConnectionLimiter.Source

    /// One login with one password from one address: who asks for the same meanwhile gets the same answer.
    struct Check: Hashable, Sendable {
        /// nil: a UNIX socket.
        let source: Source?
        /// A keyed hash of the login.
        let login: Int
        /// A keyed digest of login and password.
        let password: UInt64
    }

    /// What becomes of a check that was asked for.
    enum Verdict: Equatable, Sendable {
        /// It may begin: look whether the answer is known, then call `ended` or `lined`.
        case begun
        /// It begins later: ``due(_:)`` gives it out.
        case delayed
        /// It is in hand already.
        case joined
        /// It failed from there a moment ago.
        case repeated
        /// Too much is in hand from there.
        case refused
    }

    enum Result: Sendable {
        case right
        case wrong
        /// It could not be found out, or it is right and does not let in: nobody has guessed.
        case unavailable
    }

    struct Limits: Sendable {
        /// Checks at once.
        var threads: Int
        /// Checks of one lane that are delayed, in line or hashed.
        var inHand = 32
        /// As above, where failures of the address make checks wait.
        var inHandOfGuessers = 8
        /// How long a check may be delayed; what would begin later is refused.
        var longestDelay: Duration = .seconds(60)
        /// Failures of an address that cost nothing.
        var addressFailures = 5
        var longestAddressPause: Duration = .seconds(30)
        /// Failures of a login, from where it never succeeded, that cost nothing.
        var loginFailures = 10
        var longestLoginPause: Duration = .seconds(8)
        /// The time in which one failure is forgotten.
        var forgetting: Duration = .seconds(600)
        /// Failures of a familiar login, since it last succeeded, after which it is a stranger.
        var familiarFailures = 5
        /// Entries of each table: some 5 MiB in all when they are full.
        var remembered = 16384
    }

    private struct Lane: Hashable {
        let source: Source?
        let isFamiliar: Bool
    }

    private struct Pair: Hashable {
        let source: Source?
        let login: Int
    }

    /// A count that goes down by one in each ``Limits/forgetting``.
    private struct Failures: Sendable {
        var count = 0
        var since: Instant

        func now(_ now: Instant, _ forgetting: Duration) -> Int {
            max(0, count - Int((now - since) / forgetting))
        }

        mutating func add(_ now: Instant, _ limits: Limits) {
            let forgotten = Int((now - since) / limits.forgetting)
            since = count <= forgotten ? now : since + limits.forgetting * forgotten
            // What is beyond the longest pause only takes longer to be forgotten.
            count = min(max(0, count - forgotten) + 1, 32)
        }
    }

    private struct Address: Weighed, Sendable {
        var failures: Failures
        /// When its next check may begin.
        var next: Instant
        /// What failed last; 0: nothing.
        var recent = SIMD4<UInt64>(repeating: 0)

        func weight(_ now: Instant) -> Int { failures.count }
    }

    private struct Login: Weighed, Sendable {
        var failures: Failures
        func weight(_ now: Instant) -> Int { failures.count }
    }

    /// A login that succeeded from an address.
    private struct Familiar: Weighed, Sendable {
        var last: Instant
        /// Since then.
        var failures = 0

        /// The longer ago, the lighter.
        func weight(_ now: Instant) -> Int { Int((last - now) / .seconds(1)) }
    }

    private enum Phase: Equatable {
        case delayed
        case begun
        case lined
        case hashing
    }

    private let limits: Limits
    private var checks: [Check: (phase: Phase, lane: Lane)] = [:]
    private var inHand: [Lane: Int] = [:]
    /// Latest first.
    private var delayed: [(at: Instant, check: Check)] = []
    private var lines: [Lane: [Check]] = [:]
    /// Lanes with a line, in their turn.
    private var familiarTurns: [Lane] = []
    private var otherTurns: [Lane] = []
    private var turn = 0
    private var hashing = 0

    private var addresses: BoundedTable<Source?, Address>
    private var logins: BoundedTable<Int, Login>
    private var familiars: BoundedTable<Pair, Familiar>

    init(_ limits: Limits) {
        self.limits = limits
        addresses = BoundedTable(capacity: limits.remembered)
        logins = BoundedTable(capacity: limits.remembered)
        familiars = BoundedTable(capacity: limits.remembered)
    }

    /// How many checks are in hand.
    var count: Int { checks.count }

    /// How many addresses, logins, and logins that are familiar somewhere are remembered.
    var remembered: (addresses: Int, logins: Int, familiars: Int) {
        (addresses.count, logins.count, familiars.count)
    }

    // MARK: Events

    /// A session asks for a check.
    mutating func asked(_ check: Check, _ now: Instant) -> Verdict {
        if checks[check] != nil { return .joined }
        let address = addresses[check.source]
        if let address, any(address.recent .== check.password) { return .repeated }
        let lane = Lane(source: check.source, isFamiliar: isFamiliar(check))
        let pause = pause(address?.failures, now, free: limits.addressFailures, limits.longestAddressPause)
        guard inHand[lane, default: 0] < (pause > .zero ? limits.inHandOfGuessers : limits.inHand) else {
            return .refused
        }
        if lane.isFamiliar { return begin(check, lane) }
        var start = now
        if let address, pause > .zero { start = max(start, address.next) }
        start = max(start, now + loginPause(check.login, now))
        guard start - now <= limits.longestDelay else { return .refused }
        if let address, pause > .zero {
            let next = max(now, address.next) + pause
            addresses.update(check.source, default: address, now: now) { $0.next = next }
        }
        guard start > now else { return begin(check, lane) }
        checks[check] = (.delayed, lane)
        inHand[lane, default: 0] += 1
        let place = delayed.firstIndex { $0.at <= start } ?? delayed.endIndex
        delayed.insert((start, check), at: place)
        return .delayed
    }

    private mutating func begin(_ check: Check, _ lane: Lane) -> Verdict {
        checks[check] = (.begun, lane)
        inHand[lane, default: 0] += 1
        return .begun
    }

    /// When ``due(_:)`` has something.
    var nextDue: Instant? { delayed.last?.at }

    /// The next check whose delay is over: it is begun.
    mutating func due(_ now: Instant) -> Check? {
        guard let first = delayed.last, first.at <= now else { return nil }
        delayed.removeLast()
        checks[first.check]?.phase = .begun
        return first.check
    }

    /// The answer to a check that was begun is not known: it has to be hashed, and is in line for that.
    mutating func lined(_ check: Check) {
        guard let (phase, lane) = checks[check], phase == .begun else { return }
        checks[check]?.phase = .lined
        lines[lane, default: []].append(check)
        if lines[lane]?.count == 1 { enter(lane) }
    }

    private mutating func enter(_ lane: Lane) {
        if lane.isFamiliar { familiarTurns.append(lane) } else { otherTurns.append(lane) }
    }

    /// The next check to be hashed; nil if there is none, or no thread for it.
    mutating func next() -> Check? {
        guard hashing < limits.threads else { return nil }
        // Who is familiar comes first; but of four turns one is the others'.
        let isOthers = familiarTurns.isEmpty || turn % 4 == 3 && !otherTurns.isEmpty
        guard !(isOthers && otherTurns.isEmpty) else { return nil }
        turn &+= 1
        let lane = isOthers ? otherTurns.removeFirst() : familiarTurns.removeFirst()
        guard var line = lines.removeValue(forKey: lane), !line.isEmpty else { return nil }
        let check = line.removeFirst()
        if !line.isEmpty {
            lines[lane] = line
            enter(lane)
        }
        checks[check]?.phase = .hashing
        hashing += 1
        return check
    }

    /// The answer to a check is there.
    mutating func ended(_ check: Check, _ result: Result, _ now: Instant) {
        guard let (phase, lane) = checks.removeValue(forKey: check) else { return }
        if phase == .hashing { hashing -= 1 }
        let left = inHand[lane, default: 1] - 1
        inHand[lane] = left > 0 ? left : nil
        switch result {
        case .unavailable: return
        case .right:
            familiars.update(pair(check), default: Familiar(last: now), now: now) { $0 = Familiar(last: now) }
        case .wrong: failed(check, lane, now)
        }
    }

    private mutating func failed(_ check: Check, _ lane: Lane, _ now: Instant) {
        let initial = Address(failures: Failures(since: now), next: now)
        var isNew = true
        addresses.update(check.source, default: initial, now: now) { [limits] address in
            isNew = !any(address.recent .== check.password)
            guard isNew else { return }
            address.recent = SIMD4(check.password, address.recent[0], address.recent[1], address.recent[2])
            address.failures.add(now, limits)
        }
        guard isNew else { return }
        if lane.isFamiliar {
            familiars.update(pair(check), default: Familiar(last: now), now: now) { $0.failures += 1 }
        } else {
            logins.update(check.login, default: Login(failures: Failures(since: now)), now: now) { [limits] in
                $0.failures.add(now, limits)
            }
        }
    }

    // MARK: The rule

    private func pair(_ check: Check) -> Pair { Pair(source: check.source, login: check.login) }

    private func isFamiliar(_ check: Check) -> Bool {
        familiars[pair(check)].map { $0.failures < limits.familiarFailures } ?? false
    }

    private func loginPause(_ login: Int, _ now: Instant) -> Duration {
        pause(logins[login]?.failures, now, free: limits.loginFailures, limits.longestLoginPause)
    }

    /// Nothing for the failures that are free, then a second, doubled with each one.
    private func pause(_ failures: Failures?, _ now: Instant, free: Int, _ longest: Duration) -> Duration {
        let count = (failures?.now(now, limits.forgetting) ?? 0) - free
        return count < 0 ? .zero : min(.seconds(1 << min(count, 16)), longest)
    }
}
