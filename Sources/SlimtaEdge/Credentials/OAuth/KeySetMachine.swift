// The keys of an issuer that is asked for them over HTTP: when they are fetched, and what holds until then. A value without
// I/O; TokenVerifier drives it.

/// Which keys hold, and when to fetch them.
///
/// ```
///            begun()                    fetched: keys, till max-age
///  nothing ──────────▶ being fetched ─────────────────────────────▶ current ◀──┐
///     ▲  ▲                    │                                        │ due, or │
///     │  └─ 5 s ── failed ◀───┘ (no keys)                              │ a name  │ fetched
///     │                                                                │ unknown ▼
///     └─────── 24 h after they were fetched ─── old ones hold ◀── failed ◀── being fetched, old ones hold
/// ```
///
/// There is one fetch at a time, whoever wants it. Who sends tokens with names of keys that he made up can have the keys
/// fetched once in 30 s, and no more often.
struct KeySetMachine: Sendable {
    typealias Instant = ContinuousClock.Instant

    /// What to check a token with.
    enum Answer: Sendable {
        case key(JSONWebKeys.Choice)
        /// To be fetched first: by whoever gets this; then ask again.
        case fetch
        /// Somebody fetches: when that has ended, ask again.
        case wait
        /// There are no keys, or none that we know to be the issuer's of today.
        case unavailable
    }

    /// What a fetch means to the operator.
    enum News: Hashable, Sendable {
        /// The first failure since it went well: why.
        case failed(String)
        /// Well again.
        case restored
    }

    /// Bounds of max-age, and how long keys hold if the issuer does not say.
    static let (leastAge, usualAge, mostAge) = (
        Duration.seconds(60), Duration.seconds(15 * 60), Duration.seconds(86400)
    )
    /// How long keys hold while they cannot be fetched.
    static let longestHold = Duration.seconds(86400)
    /// Between two fetches that strangers can bring about, and before the next one behind a failure.
    static let pause = Duration.seconds(30)
    /// Before the next one behind a failure, if there are no keys at all.
    static let shortPause = Duration.seconds(5)

    private var keys: (set: JSONWebKeys, since: Instant)?
    private var isFetching = false
    /// The last fetch for the sake of a name.
    private var forced: Instant?
    private var failure: String?
    /// When to fetch in any case.
    private(set) var due: Instant

    /// No keys: due at once.
    init(now: Instant) { due = now }

    /// The keys of another one, with all that holds of them; due at once. A fetch of the other's is none of this one's.
    init(after other: KeySetMachine, now: Instant) {
        self = other
        (isFetching, due) = (false, now)
    }

    /// Why they could not be fetched, the last time; nil: they could.
    var complaint: String? { failure }

    /// Whether it is time to fetch: the caller does it.
    mutating func begunIfDue(_ now: Instant) -> Bool {
        guard !isFetching, now >= due else { return false }
        isFetching = true
        return true
    }

    /// The key of that name.
    mutating func key(_ id: String?, for algorithm: TokenAlgorithm, _ now: Instant) -> Answer {
        if let keys, now - keys.since >= Self.longestHold { self.keys = nil }
        guard let set = keys?.set else {
            if isFetching { return .wait }
            // `due` is in the future behind a failure alone.
            return begunIfDue(now) ? .fetch : .unavailable
        }
        let choice = set.key(id, for: algorithm)
        guard case .unknown = choice else { return .key(choice) }
        if isFetching { return .wait }
        guard let last = forced, now - last < Self.pause else {
            (forced, isFetching) = (now, true)
            return .fetch
        }
        // Keys as young as that are the issuer's; that they cannot be had is not the token's fault.
        return failure == nil ? .key(.unknown) : .unavailable
    }

    /// The fetch has ended well.
    ///
    /// - Parameter age: what the issuer says of how long they hold (RFC 9111 section 5.2.2.1).
    mutating func fetched(_ set: JSONWebKeys, age: Duration?, _ now: Instant) -> News? {
        isFetching = false
        keys = (set, now)
        due = now + min(max(age ?? Self.usualAge, Self.leastAge), Self.mostAge)
        defer { failure = nil }
        return failure == nil ? nil : .restored
    }

    /// The fetch has failed: why.
    mutating func failed(_ why: String, _ now: Instant) -> News? {
        isFetching = false
        due = now + (keys == nil ? Self.shortPause : Self.pause)
        defer { failure = why }
        return failure == nil ? .failed(why) : nil
    }
}
