// What is remembered of one sender. Quotas has a table of them.

package import SlimtaMail

/// What was too much.
package enum QuotaExcess: Hashable, Sendable, CustomStringConvertible {
    /// There would be, or are, so many.
    case over(QuotaLimits.Limit, count: Int)
    /// So many of the last recipients were refused for good.
    case refused(Int, of: Int)

    /// "101 new recipients in an hour, allowed are 100".
    package var description: String {
        switch self {
        case .over(let limit, let count):
            "\(count) \(limit.counter.words) in \(limit.window.words), allowed are \(limit.most)"
        case .refused(let count, let all): "\(count) of the last \(all) recipients were refused"
        }
    }
}

/// What became of the last hundred recipients.
struct LastOutcomes: Hashable, Sendable {
    static let most = 100

    /// The last one is the lowest bit; set: refused for good.
    var bits: UInt128 = 0
    var count = 0

    mutating func note(isRefused: Bool) {
        bits = (bits << 1 | (isRefused ? 1 : 0)) & (1 << Self.most - 1)
        count = min(Self.most, count + 1)
    }

    var refused: Int { bits.nonzeroBitCount }

    /// Whether they are `share` in a hundred, and at least as many.
    func isOver(_ share: Int) -> Bool { refused >= share && refused * 100 >= share * count }
}

/// What is still to be done for a login that is held. It is kept with the hold, so that a crash forgets none of it.
package struct HoldDuties: OptionSet, Hashable, Sendable {
    /// As it is in the file.
    package let rawValue: UInt8

    /// From the file.
    package init(rawValue: UInt8) { self.rawValue = rawValue }

    /// What it has sent shortly before, and is not delivered, is to be held.
    package static let recent = HoldDuties(rawValue: 1)
    /// The operator is to be told by mail.
    package static let notice = HoldDuties(rawValue: 2)
    /// There are no others.
    static let all: HoldDuties = [.recent, .notice]
}

/// Whether a login is held.
package struct QuotaHold: Hashable, Sendable {
    /// Since when.
    package var since: Timestamp
    /// What was too much, or the operator who wants it so.
    package var reason: String
    /// Messages that were accepted and held since then, and are held yet.
    package var messages = 0
    /// Their octets.
    package var octets = 0
    /// What is still to be done.
    package var duties: HoldDuties = []

    /// A message more.
    mutating func add(_ size: Int) {
        messages += 1
        octets += size
    }

    /// One less.
    mutating func subtract(_ size: Int) {
        messages = max(0, messages - 1)
        octets = max(0, octets - size)
    }
}

/// One sender. Times are seconds since 1970 in 32 bits, which is enough until 2106.
struct QuotaAccount: Hashable, Sendable {
    /// When it was first seen.
    var since: UInt32
    /// When it was last seen.
    var last: UInt32
    var hour = QuotaHistory()
    var day = QuotaHistory()
    var known = KnownRecipients()
    /// Of a login; of others it stays empty.
    var networks = KnownNetworks()
    var outcomes = LastOutcomes()
    /// Recipients of all messages ever.
    var recipients: UInt32 = 0
    /// Soft limits that it is over, and that the operator was told of: a bit for each counter and window.
    var told: UInt16 = 0
    var hold: QuotaHold?
    /// Until when the breaker is off, after a release.
    var forgivenUntil: UInt32 = 0

    init(at now: UInt32) { (since, last) = (now, now) }

    /// The part of an hour, of a day.
    static func part(_ window: QuotaWindow, at now: UInt32) -> UInt32 {
        now / (window == .hour ? 3600 : 86400) * QuotaHistory.parts
            + now % (window == .hour ? 3600 : 86400) / (window == .hour ? 60 : 1440)
    }

    mutating func add(_ amounts: QuotaAmounts, at now: UInt32) {
        last = now
        hour.add(amounts, in: Self.part(.hour, at: now))
        day.add(amounts, in: Self.part(.day, at: now))
    }

    mutating func subtract(_ amounts: QuotaAmounts, at now: UInt32) {
        hour.subtract(amounts, in: Self.part(.hour, at: now))
        day.subtract(amounts, in: Self.part(.day, at: now))
    }

    /// What was counted in the hour and the day that end now.
    func sums(at now: UInt32) -> (hour: QuotaAmounts, day: QuotaAmounts) {
        func sum(_ history: QuotaHistory, _ window: QuotaWindow) -> QuotaAmounts {
            var sum = history.sum(to: Self.part(window, at: now))
            sum.networks = networks.count(window, at: now)
            return sum
        }
        return (sum(hour, .hour), sum(day, .day))
    }

    /// Those of the limits that it is over, or would be with these added.
    func over(
        _ limits: [QuotaLimits.Limit], adding amounts: QuotaAmounts = QuotaAmounts(), at now: UInt32
    ) -> [QuotaExcess] {
        guard !limits.isEmpty else { return [] }
        let (hour, day) = sums(at: now)
        return limits.compactMap { limit in
            let count = (limit.window == .hour ? hour : day)[limit.counter] + amounts[limit.counter]
            return count > limit.most ? .over(limit, count: count) : nil
        }
    }

    /// The soft limits that it has come over since it was last asked. One that it is back under is told of again next time.
    mutating func newlyOver(_ limits: [QuotaLimits.Limit], at now: UInt32) -> [QuotaExcess] {
        let over = over(limits, at: now)
        let before = told
        told = over.reduce(0) { $0 | Self.bit($1) }
        return over.filter { before & Self.bit($0) == 0 }
    }

    private static func bit(_ excess: QuotaExcess) -> UInt16 {
        guard case .over(let limit, _) = excess else { return 0 }
        let counter = QuotaCounter.allCases.firstIndex(of: limit.counter) ?? 0
        return 1 << UInt16(2 * counter + (limit.window == .hour ? 0 : 1))
    }

    /// Whether everybody is new to it as yet, so that writing to new recipients means nothing.
    func isLearning(_ rules: QuotaRules, at now: UInt32) -> Bool {
        recipients < rules.learningRecipients || Int64(now) - Int64(since) < rules.learning.components.seconds
    }
}
