// How many messages a site takes in a time, as it turns out: a token bucket that is not there before it is needed. A part of
// SiteMachine.

import SlimtaMail

/// The rate that a site allows, and when the next message may go.
///
/// Nobody says what a limit is. It is taken from what was accepted in the minute before the refusal, a fifth less, and then
/// grows by a tenth each minute until it is refused again.
struct SiteRate: Sendable {
    /// Messages a second; nil: no limit is known.
    private(set) var perSecond: Double?
    /// Nothing goes before that.
    private(set) var pausedUntil: Timestamp
    /// How often the message behind a pause was refused again.
    private var pauses = 0
    /// When the rate last changed.
    private var changed: Timestamp
    /// When the bucket, which holds one message, is full again.
    private var nextFree: Timestamp
    private var accepted: MinuteCount

    static let least = 1.0 / 60
    static let firstPause: Duration = .seconds(30)
    static let longestPause: Duration = .seconds(900)
    static let growthInterval: Duration = .seconds(60)
    /// What several sessions were refused at once is one refusal.
    static let sameRefusal: Duration = .seconds(5)

    init(at now: Timestamp) {
        (pausedUntil, changed, nextFree) = (now, now, now)
        accepted = MinuteCount(at: now)
    }

    /// A rate that is known: from an earlier run, or an operator.
    mutating func set(_ perSecond: Double?, at now: Timestamp) {
        self.perSecond = perSecond.map { max(Self.least, $0) }
        (changed, nextFree, pauses) = (now, now, 0)
    }

    /// The rate is an operator's, and stays what it is.
    mutating func hold(_ perSecond: Double) { self.perSecond = max(Self.least, perSecond) }

    /// When the next message may go.
    func slot(at now: Timestamp) -> Timestamp {
        perSecond == nil ? max(now, pausedUntil) : max(now, pausedUntil, nextFree)
    }

    /// One goes in that slot.
    mutating func take(_ slot: Timestamp) {
        // Rounded up: a site that counts sees no more than the rate.
        if let perSecond { nextFree = slot + .seconds(1 / perSecond) + .milliseconds(1) }
    }

    mutating func accepted(at now: Timestamp) {
        accepted.add(at: now)
        pauses = 0
        guard let known = perSecond, now - changed > Self.growthInterval else { return }
        (perSecond, changed) = (known * 1.1, now)
    }

    /// It is the rate that was refused. When the site may be asked again is ``pausedUntil`` then. Whether it is news.
    mutating func refused(at now: Timestamp) -> Bool {
        if perSecond != nil, now - changed < Self.sameRefusal { return false }
        let seen = Double(accepted.total(at: now)) / 60
        perSecond = max(Self.least, 0.8 * min(seen, perSecond ?? .infinity))
        pausedUntil = now + min(Self.longestPause, Self.firstPause * (1 << min(pauses, 5)))
        pauses += 1
        changed = now
        return true
    }
}

/// How many there were in the last minute, and in the second that it began in.
struct MinuteCount: Sendable {
    private static let seconds = 61
    private var counts = [UInt32](repeating: 0, count: seconds)
    private var second: Int64

    init(at now: Timestamp) { second = now.seconds }

    mutating func add(at now: Timestamp) {
        advance(to: now.seconds)
        counts[slot(second)] &+= 1
    }

    mutating func total(at now: Timestamp) -> Int {
        advance(to: now.seconds)
        return counts.reduce(0) { $0 + Int($1) }
    }

    private func slot(_ second: Int64) -> Int {
        Int((second % Int64(Self.seconds) + Int64(Self.seconds)) % Int64(Self.seconds))
    }

    /// A clock that was set back stands still for so long.
    private mutating func advance(to now: Int64) {
        guard now > second else { return }
        if now - second >= Self.seconds {
            counts = [UInt32](repeating: 0, count: Self.seconds)
        } else {
            for passed in second + 1...now { counts[slot(passed)] = 0 }
        }
        second = now
    }
}
