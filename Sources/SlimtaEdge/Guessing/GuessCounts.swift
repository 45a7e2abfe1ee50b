// What GuessMachine counts by: small values that forget.

import Glibc

/// A count that goes down by one in each ``forgetting``.
struct FadingCount: Sendable {
    /// The time in which one is forgotten.
    static let forgetting = Duration.seconds(600)

    private var count = 0
    private var since: ContinuousClock.Instant

    init(since now: ContinuousClock.Instant) { since = now }

    func now(_ now: ContinuousClock.Instant) -> Int { max(0, count - forgotten(now)) }

    /// One more.
    ///
    /// - Parameter most: what is beyond what it can lead to would only take longer to be forgotten.
    mutating func add(_ now: ContinuousClock.Instant, most: Int) {
        let forgotten = forgotten(now)
        since = count <= forgotten ? now : since + Self.forgetting * forgotten
        count = min(max(0, count - forgotten) + 1, most)
    }

    private func forgotten(_ now: ContinuousClock.Instant) -> Int { Int((now - since) / Self.forgetting) }
}

/// About how many different logins there were in the last hour or two, in 64 octets however many there are: each sets one of
/// 256 bits, and from those that are not set follows how many it were ("linear counting").
struct LoginSet: Sendable {
    private static let time = Duration.seconds(3600)
    private static let bits = 256

    private var current = SIMD4<UInt64>(repeating: 0)
    private var before = SIMD4<UInt64>(repeating: 0)
    private var since: ContinuousClock.Instant

    init(since now: ContinuousClock.Instant) { since = now }

    mutating func insert(_ login: Int, _ now: ContinuousClock.Instant) {
        let age = now - since
        if age >= Self.time {
            before = age < Self.time * 2 ? current : .init(repeating: 0)
            current = .init(repeating: 0)
            since = now
        }
        let bit = Int(UInt(bitPattern: login) % UInt(Self.bits))
        current[bit / 64] |= 1 << UInt64(bit % 64)
    }

    func count(_ now: ContinuousClock.Instant) -> Int {
        let age = now - since
        guard age < Self.time * 2 else { return 0 }
        let all = age < Self.time ? current | before : current
        let set = (0..<4).reduce(0) { $0 + all[$1].nonzeroBitCount }
        let unset = max(1, Self.bits - set)
        return Int((Double(Self.bits) * log(Double(Self.bits) / Double(unset))).rounded())
    }
}

extension GuessMachine {
    /// An address (of IPv6, its /64), or a network of many.
    struct Place: Weighed, Sendable {
        /// What makes the next try wait: all failures, but for those of a client that tries one mechanism after the other.
        var failures: FadingCount
        /// What has the place turned away in the end: failures that were tries of another password, as far as that can be
        /// seen.
        var strikes: FadingCount
        /// Who failed.
        var logins: LoginSet
        /// Where and for whom it failed last, and when that was first.
        var last: (session: String, login: Int, since: Instant)?

        init(_ now: Instant) {
            failures = FadingCount(since: now)
            strikes = FadingCount(since: now)
            logins = LoginSet(since: now)
        }

        func weight(_ now: Instant) -> Int { failures.now(now) }
    }

    /// A login at which somebody has failed, whether there is one or not.
    struct Login: Weighed, Sendable {
        /// How long a wrong password is known as the one that it was.
        static let memory = Duration.seconds(86400)
        /// Octets of a name that are kept.
        static let longestName = 64

        /// For the operator.
        var name: String
        /// Where it never succeeded.
        var failures: FadingCount
        /// The last wrong passwords, as keyed digests; 0: none.
        private var wrong = SIMD8<UInt64>(repeating: 0)
        private var place = 0
        private var last: Instant

        init(_ name: String, _ now: Instant) {
            self.name = String(decoding: name.utf8.prefix(Self.longestName), as: UTF8.self)
            failures = FadingCount(since: now)
            last = now
        }

        /// Whether this password is not among the last wrong ones; it is from now on.
        mutating func isNew(_ digest: UInt64, _ now: Instant) -> Bool {
            if now - last > Self.memory { wrong = .init(repeating: 0) }
            last = now
            guard !any(wrong .== digest) else { return false }
            wrong[place] = digest
            place = (place + 1) % wrong.scalarCount
            return true
        }

        func weight(_ now: Instant) -> Int { failures.now(now) }
    }

    /// A login that succeeded from an address.
    struct Familiar: Weighed, Sendable {
        var last: Instant
        /// Since then. They are forgotten: others at the address do not make it a stranger for good.
        var failures: FadingCount

        /// - Parameter last: when it succeeded; nil: now.
        init(_ now: Instant, last: Instant? = nil) {
            self.last = last ?? now
            failures = FadingCount(since: now)
        }

        /// The longer ago, the lighter.
        func weight(_ now: Instant) -> Int { Int((last - now) / .seconds(1)) }
    }

    /// When the next try may begin, of an address or, where many share it, of one login there.
    struct Turn: Weighed, Sendable {
        var next: Instant

        func weight(_ now: Instant) -> Int { Int((next - now) / .seconds(1)) }
    }

    /// An address or network that is turned away for a time, or was of late.
    struct Ban: Weighed, Sendable, Equatable {
        /// Beyond that nothing changes.
        static let mostTimes = 1_000_000

        var until: Instant
        /// How often by now: the next one is twice as long.
        var times: Int
        /// What led to it.
        var failures: Int
        var logins: Int

        func weight(_ now: Instant) -> Int { Int((until - now) / .seconds(1)) }
    }
}
