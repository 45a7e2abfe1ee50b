// How many messages a site takes in a time, as it turns out: a token bucket that is not there before it is needed. A part of
// SiteMachine.

import SlimtaMail

/// The rate that a site allows, and when the next message may go.
///
/// Nobody says what a limit is. It is taken from what was accepted in the minute before the refusal, a fifth less, and then
/// grows by a tenth each minute until it is refused again. What was accepted in a minute in which we paused says little: such a
/// minute takes no more than a little over a third of what was known, one in which little was sent a fifth; and while the message behind a pause is refused again
/// and again, only the pause grows. A rate that is not what holds mail up is forgotten after a while.
struct SiteRate: Sendable {
    /// Messages a second; nil: no limit is known.
    private(set) var perSecond: Double?
    /// Nothing goes before that.
    private(set) var pausedUntil: Timestamp
    /// How often the message behind a pause was refused again.
    private var pauses = 0
    /// When the rate last changed by itself, or was set.
    private var changed: Timestamp
    /// When the last refusal was that counted.
    private var refused: Timestamp?
    /// When the bucket, which holds one message, is full again.
    private var nextFree: Timestamp
    /// The last one that was taken.
    private var lastSlot: Timestamp?
    /// In how many changes in a row far less went than may.
    private var unneeded = 0
    private var accepted: MinuteCount

    /// Less is not learned: one message a minute finds out whether more is taken.
    static let least = 1.0 / 60
    /// Nobody can set less: one a day.
    static let slowest = 1.0 / 86_400
    /// What is faster is no limit.
    static let most = 1000.0
    /// Three in a minute.
    static let leastSeen = 3.0 / 60
    static let firstPause: Duration = .seconds(30)
    static let longestPause: Duration = .seconds(900)
    static let growthInterval: Duration = .seconds(60)
    /// What several sessions were refused at once is one refusal.
    static let sameRefusal: Duration = .seconds(5)
    /// A rate that is not needed for so many changes is forgotten.
    static let mostUnneeded = 10

    init(at now: Timestamp) {
        (pausedUntil, changed, nextFree) = (now, now, now)
        accepted = MinuteCount(at: now)
    }

    /// Whether nothing was accepted since the last pause.
    var isBehindPause: Bool { pauses > 0 }

    /// A rate that is known: from an earlier run, or an operator.
    mutating func set(_ perSecond: Double?, at now: Timestamp) {
        self.perSecond = perSecond.map { max(Self.slowest, $0) }
        (changed, nextFree, pauses, unneeded, lastSlot) = (now, now, 0, 0, nil)
    }

    /// The rate is an operator's, and stays what it is.
    mutating func hold(_ perSecond: Double) { self.perSecond = max(Self.slowest, perSecond) }

    /// The rate is an operator's, and this node has more or less of it than before: that is no reason to let one more go now.
    mutating func share(_ perSecond: Double, at now: Timestamp) {
        hold(perSecond)
        nextFree = min(nextFree, now + .seconds(1 / (self.perSecond ?? perSecond)) + .milliseconds(1))
    }

    /// When the next message may go.
    func slot(at now: Timestamp) -> Timestamp {
        perSecond == nil ? max(now, pausedUntil) : max(now, pausedUntil, nextFree)
    }

    /// One goes in that slot.
    mutating func take(_ slot: Timestamp) {
        lastSlot = slot
        // Rounded up: a site that counts sees no more than the rate.
        if let perSecond { nextFree = slot + .seconds(1 / perSecond) + .milliseconds(1) }
    }

    /// Nothing went in that slot after all: the next one may, unless a later one is given away already.
    mutating func giveBack(_ slot: Timestamp) {
        guard lastSlot == slot else { return }
        (nextFree, lastSlot) = (min(slot, nextFree), nil)
    }

    mutating func accepted(at now: Timestamp) {
        accepted.add(at: now)
        pauses = 0
        guard let known = perSecond, now - changed > Self.growthInterval else { return }
        changed = now
        unneeded = 2 * seen(at: now) < known ? unneeded + 1 : 0
        let grown = known * 1.1
        perSecond = unneeded >= Self.mostUnneeded || grown > Self.most ? nil : grown
    }

    /// It is the rate that was refused. When the site may be asked again is ``pausedUntil`` then. Whether it is news.
    mutating func refused(at now: Timestamp) -> Bool {
        // Nothing is known of the minute before, or we paused in it.
        let isShort = now - pausedUntil < .seconds(60)
        guard pause(at: now) else { return false }
        (changed, unneeded) = (now, 0)
        let seen = seen(at: now)
        guard let known = perSecond else {
            // Who has taken next to nothing has refused something else than its rate.
            if pauses == 1, seen >= Self.leastSeen { perSecond = max(Self.least, 0.8 * seen) }
            return true
        }
        // Once behind a pause: the rate may have been wrong. More often, it is not that.
        if pauses > 2 { return true }
        let floor = isShort ? 0.8 * known : 2 * seen < known ? known : 0
        let measured = min(known, max(seen, floor))
        perSecond = max(Self.least, 0.8 * measured)
        return true
    }

    /// It is left alone for a while, whatever the rate: longer each time that the message behind the pause is refused again.
    /// Whether it is news.
    mutating func pause(at now: Timestamp) -> Bool {
        // What was on its way when the pause began says nothing of it.
        if now < pausedUntil || refused.map({ now - $0 < Self.sameRefusal }) ?? false { return false }
        pausedUntil = now + min(Self.longestPause, Self.firstPause * (1 << min(pauses, 5)))
        pauses += 1
        refused = now
        return true
    }

    /// Messages a second in the last minute.
    private mutating func seen(at now: Timestamp) -> Double { Double(accepted.total(at: now)) / 60 }
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
