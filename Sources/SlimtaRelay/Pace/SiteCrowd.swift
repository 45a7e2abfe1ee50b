// When those come back who are turned away at a site, because too many wait there or because it pauses. A part of Site, without
// tasks and clocks.

import SlimtaMail

/// An appointment book. Who is turned away comes back when it is likely that there is a place, so that a backlog costs no more
/// than a few attempts for each message, however many domains it is of: with a wait that is the same for all it costs as
/// many as there are others before them.
struct SiteCrowd: Sendable {
    /// Nobody comes back before that.
    static let least: Duration = .seconds(5)
    /// And nobody is sent away for longer, whatever becomes of the site meanwhile.
    static let longest: Duration = .seconds(900)
    /// How much faster than the site takes them they come: the line must not run dry when it gets faster.
    private static let margin = 1.5
    /// Messages a second, as long as nothing is known of the site.
    private static let firstPace = 100.0
    /// What is older counts less.
    private static let memory: Duration = .seconds(60)

    /// The last appointment; nil: none was made yet.
    private var booked: Timestamp?
    /// Since when somebody waits all the time, and how many got a place meanwhile.
    private var busySince: Timestamp?
    private var served = 0.0

    /// Somebody has to wait for a place.
    mutating func waits(at now: Timestamp) { busySince = busySince ?? now }

    /// One of those who wait got one.
    mutating func serves(at now: Timestamp) {
        served += 1
        guard let since = busySince, now - since >= Self.memory * 2 else { return }
        busySince = now + (.zero - Self.memory)
        served *= Self.memory / (now - since)
    }

    /// Nobody waits any more.
    mutating func isServed() { (busySince, served) = (nil, 0) }

    /// When one more of those comes back who are turned away.
    ///
    /// - Parameters:
    ///   - base: before that there is no place.
    ///   - room: how many may come at that time.
    ///   - rate: messages a second that the site is known to take; nil: as many as it has taken of late.
    ///   - spread: 0 to 1.
    mutating func appointment(
        from base: Timestamp, room: Int, rate: Double?, at now: Timestamp, spread: Double
    ) -> Timestamp {
        let step = Duration.seconds(1 / (Self.margin * max(rate ?? pace(at: now), SiteRate.least)))
        let first = base + (.zero - step * room)
        let next = max(booked ?? first, first) + step
        let end = base + Self.longest
        // It is full: some time in its second half.
        guard next <= end else { return base + Self.longest * (0.5 + 0.5 * spread) }
        booked = next
        return max(base, next) + Self.least * spread
    }

    /// Messages a second.
    private func pace(at now: Timestamp) -> Double {
        guard let since = busySince, now - since >= .seconds(1) else { return Self.firstPace }
        return max(1, served) / ((now - since) / Duration.seconds(1))
    }
}
