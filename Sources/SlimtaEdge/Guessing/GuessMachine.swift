// Who guesses, and what follows from it: failed logins of every mechanism and back end are counted by address, network and
// login. A value without I/O; its driver is GuessWatch.

internal import SlimtaMail

/// The rule against guessing.
///
///     asked ──▶ admitted, now or later ──▶ ended(right | wrong | neither)
///       └──▶ refused | turnedAway
///
/// It is **slow** for who guesses: failures of an address (of IPv6, of its /64), of the network that it is in, and of a
/// login where it never succeeded, make the next try wait before anything is asked about it. So the wait takes no thread, is
/// the same for success and failure, and shows neither who exists nor which password was right. It belongs to address and
/// login, so that a new connection changes nothing. From a threshold on the address is **turned away** for a time, each time
/// twice as long.
///
/// No login is locked out. One that succeeded from an address within ``Limits/memory`` is familiar there: what others do at
/// that address or with that login does not delay it. An address with such a login is never turned away, and may fail ten
/// times as often before others wait there: it may be an office. Where they do, and at trusted addresses, each login waits for
/// its own tries only. From an address without failures, the failures of others delay a login by
/// ``Limits/longestLoginPause`` at most. The same wrong password again, as clients send it that try each mechanism or poll, is
/// one failure; where the mechanism does not show the password, all of one login from one address in an hour are one strike.
/// What a back end that is away leaves undecided makes others wait, and is no strike. What keeps one busy to the end of its
/// time makes the address wait, and is held against nobody else: neither its login nor who is familiar there.
struct GuessMachine: Sendable {
    typealias Instant = ContinuousClock.Instant

    /// A try to log in.
    struct Guess: Equatable, Sendable {
        /// Where from; nil: a UNIX socket.
        var address: IPAddress?
        /// Whether its address is never turned away, and stands for no network: this machine, trusted networks.
        var isExempt = false
        /// The name of its session: what a client tries there for one login within a minute is one failure.
        var session: String
        /// Who; nil: that is not known.
        var login: String?
        /// A keyed digest of what proves it; nil: the mechanism does not show it.
        var digest: UInt64?
    }

    enum Verdict: Equatable, Sendable {
        /// It may begin at that time, which may be now.
        case admitted(Ticket)
        /// Too many of that address are under way, or would wait too long.
        case refused
        /// The address has guessed too much.
        case turnedAway
    }

    /// A try that is under way.
    struct Ticket: Hashable, Sendable {
        /// nil: a UNIX socket.
        let place: NetworkRange?
        /// Whether the login has succeeded from there of late.
        let isFamiliar: Bool
        /// Whether some have failed there of late.
        let hasFailed: Bool
        let start: Instant
        /// Where it is counted as under way.
        fileprivate let lane: Lane
        /// Where it has taken a turn; nil: it has not.
        fileprivate let turns: Turns?
        /// How long its turn is.
        fileprivate let pause: Duration
    }

    enum Result: Sendable {
        case right
        case wrong
        /// One back end says that it is wrong, another could not say.
        case undecided
        /// It could not be found out, and has had of a back end what there is little of.
        ///
        /// - Parameter isRefuted: another one says that it is wrong.
        case exhausting(isRefuted: Bool)
        /// It could not be found out, or it is right and does not let in: nobody has guessed.
        case neither
    }

    /// What a failure came to.
    struct Failure: Equatable, Sendable {
        /// How many there are of the address by now; nil: it is none that counts.
        var count: Int?
        /// What is turned away from now on.
        var banned: (place: NetworkRange, ban: Ban)?

        static func == (a: Failure, b: Failure) -> Bool {
            a.count == b.count && a.banned?.place == b.banned?.place && a.banned?.ban == b.banned?.ban
        }
    }

    struct Limits: Sendable {
        /// Tries of an address that are under way, of its familiar logins and of all others.
        var inHand = 32
        /// As above, where failures of the address make tries wait.
        var inHandOfGuessers = 8
        /// How long a try may wait; what would begin later is refused.
        var longestDelay = Duration.seconds(60)
        /// Failures of an address that cost nothing.
        var addressFailures = 5
        /// Beyond so many failures of an address, time-outs are none: its pause is the longest by then, and is to end soon
        /// behind a back end that was away.
        var addressTimeOuts = 10
        var longestAddressPause = Duration.seconds(30)
        /// Failures of a login, from where it never succeeded, that cost nothing.
        var loginFailures = 10
        var longestLoginPause = Duration.seconds(8)
        /// Failures of a familiar login, since it last succeeded and not forgotten yet, after which it is a stranger.
        var familiarFailures = 5
        /// Strikes after which an address is turned away,
        var strikes = 30
        /// and different logins that have failed.
        var distinctLogins = 10
        /// How many times as much a network may (IPv4 /24, IPv6 /48), or an address where somebody succeeded.
        var wideFactor = 10
        var firstBan = Duration.seconds(900)
        var longestBan = Duration.seconds(86400)
        /// How long a login is familiar.
        var memory = Duration.seconds(30 * 86400)
        /// Entries of each table of strangers: some 6 MiB in all when they are full.
        var remembered = 8192
        /// Familiar logins.
        var familiars = 32768
        /// Addresses at which one login is familiar.
        var placesOfLogin = 64
    }

    struct Pair: Hashable, Sendable {
        let place: NetworkRange?
        let login: String
    }

    fileprivate struct Lane: Hashable {
        let place: NetworkRange?
        let isFamiliar: Bool
        /// Whose tries those are; nil: of all others.
        var login: Int?
    }

    /// Whose turns those are.
    struct Turns: Hashable, Sendable {
        let place: NetworkRange?
        /// nil: of all logins at that place.
        var login: Int?
    }

    let limits: Limits
    /// Whether there is something new to be kept.
    var hasNews = false
    private var inHand: [Lane: Int] = [:]
    // Apart, so that who fills one evicts nothing from another.
    var addresses: BoundedTable<NetworkRange?, Place>
    var networks: BoundedTable<NetworkRange, Place>
    var turns: BoundedTable<Turns, Turn>
    var logins: BoundedTable<Int, Login>
    var familiars: BoundedTable<Pair, Familiar>
    /// Where somebody succeeded.
    var honest: BoundedTable<NetworkRange?, Familiar>
    var bans: BoundedTable<NetworkRange, Ban>

    init(_ limits: Limits = Limits()) {
        self.limits = limits
        addresses = BoundedTable(capacity: limits.remembered)
        networks = BoundedTable(capacity: limits.remembered)
        turns = BoundedTable(capacity: limits.remembered)
        logins = BoundedTable(capacity: limits.remembered)
        familiars = BoundedTable(capacity: limits.familiars)
        honest = BoundedTable(capacity: limits.familiars)
        bans = BoundedTable(capacity: limits.remembered)
    }

    /// How many tries are under way.
    var count: Int { inHand.values.reduce(0, +) }

    // MARK: Events

    /// Whether nobody is to be talked with who comes from there.
    func isTurnedAway(_ address: IPAddress, _ now: Instant) -> Bool {
        let narrow = Self.narrow(address)
        guard !isHonest(narrow, now) else { return false }
        return [narrow, Self.wide(address)].contains { bans[$0].map { $0.until > now } ?? false }
    }

    /// Somebody wants to log in.
    mutating func asked(_ guess: Guess, _ now: Instant) -> Verdict {
        if let address = guess.address, !guess.isExempt, isTurnedAway(address, now) { return .turnedAway }
        let place = guess.address.map { Self.narrow($0) }
        let isFamiliar = isFamiliar(place, guess.login, now)
        let pause = addressPause(place, now)
        // An address of many, who are not to stand behind the one that guesses there.
        let isShared = guess.isExempt || place == nil || isHonest(place, now)
        let login = isShared ? guess.login.map { Self.key($0) } : nil
        var mine: Turns?
        var start = now
        if !isFamiliar {
            if pause > .zero {
                let turn = Turns(place: place, login: login)
                start = max(start, turns[turn]?.next ?? now)
                mine = turn
            }
            let network = isShared ? .zero : networkPause(guess.address, now)
            start = max(start, now + max(network, loginPause(guess.login, now)))
            guard start - now <= limits.longestDelay else { return .refused }
        }
        // Nor does what waits take their room.
        let lane = Lane(place: place, isFamiliar: isFamiliar, login: start > now ? login : nil)
        let most = lane.login != nil || pause > .zero && !isShared ? limits.inHandOfGuessers : limits.inHand
        guard inHand[lane, default: 0] < most else { return .refused }
        inHand[lane, default: 0] += 1
        if let mine { turns.update(mine, default: Turn(next: now), now: now) { $0.next = max(now, $0.next) + pause } }
        let hasFailed = (addresses[place]?.failures.now(now) ?? 0) > 0
        return .admitted(
            Ticket(
                place: place, isFamiliar: isFamiliar, hasFailed: hasFailed, start: start, lane: lane, turns: mine,
                pause: pause))
    }

    /// What came of a try that was admitted; nil: it did not fail. To be called once.
    mutating func ended(_ ticket: Ticket, _ guess: Guess, _ result: Result, _ now: Instant) -> Failure? {
        let left = inHand[ticket.lane, default: 1] - 1
        inHand[ticket.lane] = left > 0 ? left : nil
        switch result {
        case .neither:
            // Who is gone before his turn leaves it to others.
            if let mine = ticket.turns, now < ticket.start, let turn = turns[mine] {
                turns.update(mine, default: turn, now: now) { $0.next -= ticket.pause }
            }
            return nil
        case .right:
            if let login = guess.login { succeeded(login, at: ticket.place, now) }
            return nil
        case .exhausting(let isRefuted):
            let failure = isRefuted ? failed(ticket, guess, isUndecided: true, now) : nil
            if failure?.count == nil { exhausted(ticket, now) }
            return failure
        case .wrong: return failed(ticket, guess, isUndecided: false, now)
        case .undecided: return failed(ticket, guess, isUndecided: true, now)
        }
    }

    /// A login is familiar at a place.
    mutating func succeeded(_ login: String, at place: NetworkRange?, _ now: Instant) {
        let familiar = Familiar(now)
        let pair = Pair(place: place, login: login)
        // A day more or less is not worth a write.
        if familiars[pair].map({ now - $0.last > .seconds(86400) }) ?? true { hasNews = true }
        if familiars[pair] == nil { makeRoom(for: login) }
        familiars.update(pair, default: familiar, now: now) { $0 = familiar }
        honest.update(place, default: familiar, now: now) { $0 = familiar }
    }

    /// One who has many addresses pushes out himself, and nobody else.
    private mutating func makeRoom(for login: String) {
        let own = familiars.all.filter { $0.key.login == login }
        guard own.count >= limits.placesOfLogin, let oldest = own.min(by: { $0.value.last < $1.value.last }) else {
            return
        }
        familiars.remove(oldest.key)
        // Others may have succeeded there since.
        let place = oldest.key.place
        if let last = honest[place]?.last, last <= oldest.value.last { honest.remove(place) }
    }

    /// Nothing is held against this address, network or login any more. Returns whether anything was.
    mutating func release(_ what: String) -> Bool {
        guard let network = NetworkRange(what) ?? NetworkRange.enclosing(what) else {
            let key = Self.key(what.lowercased())
            for (turn, _) in turns.all where turn.login == key { turns.remove(turn) }
            return logins.remove(key) != nil
        }
        var isDone = false
        for (place, _) in bans.all where network.overlaps(place) {
            bans.remove(place)
            (isDone, hasNews) = (true, true)
        }
        for (place, _) in addresses.all where place.map(network.overlaps) == true {
            addresses.remove(place)
            isDone = true
        }
        for (turn, _) in turns.all where turn.place.map(network.overlaps) == true { turns.remove(turn) }
        for (place, _) in networks.all where network.overlaps(place) {
            networks.remove(place)
            isDone = true
        }
        return isDone
    }

    // MARK: Who is known

    private func isFamiliar(_ place: NetworkRange?, _ login: String?, _ now: Instant) -> Bool {
        guard let login, let familiar = familiars[Pair(place: place, login: login)] else { return false }
        return familiar.failures.now(now) < limits.familiarFailures && now - familiar.last < limits.memory
    }

    /// Whether somebody has succeeded from there.
    func isHonest(_ place: NetworkRange?, _ now: Instant) -> Bool {
        honest[place].map { now - $0.last < limits.memory } ?? false
    }

    // MARK: Keys

    static let epoch = Instant.now

    static func narrow(_ address: IPAddress) -> NetworkRange {
        NetworkRange(of: address, prefixLength: address.isIPv4 ? 32 : 64)
    }

    static func wide(_ address: IPAddress) -> NetworkRange {
        NetworkRange(of: address, prefixLength: address.isIPv4 ? 24 : 48)
    }

    static func key(_ login: String) -> Int { login.hashValue }

    /// What stands for a password that nobody sees: all of one hour are one.
    static func stand(for place: NetworkRange?, _ hour: Int) -> UInt64 {
        var hasher = Hasher()
        hasher.combine(place)
        hasher.combine(hour)
        return UInt64(bitPattern: Int64(hasher.finalize())) | 1
    }
}
