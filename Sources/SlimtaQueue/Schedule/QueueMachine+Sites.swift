// What the scheduler shares with those of other nodes that send from the same addresses: its share of each destination's limit,
// and who finds out whether a destination that backs off answers again. Called by the queue's driver once a beat.

import SlimtaMail

extension QueueMachine {
    /// As many attempts at once may this node make to a destination, whatever its hosts do.
    func share(_ number: UInt32) -> Int {
        let limit = limits.attemptsPerDestination
        if shared.limits.isAlone { return limit }
        let advised = Int(destinations[number].advisedShare)
        return min(limit, advised > 0 ? advised : SharedLimits.even(limit, among: shared.limits.nodes))
    }

    /// Adds one envelope to the destination of this name. What other nodes have said of that holds from its first one on.
    mutating func use(_ name: String, isDoubted: Bool = false, now: Timestamp?) -> UInt32 {
        let number = destinations.use(name, isDoubted: isDoubted)
        guard !isDoubted, !shared.limits.advice.isEmpty, destinations[number].entries == 1,
            let advice = SiteSubject(destination: name).flatMap({ shared.limits.advice[$0] })
        else { return number }
        destinations[number].advisedShare = Int32(clamping: advice.share)
        if case .leaveAlone(let failure) = advice.backOff, let now, destinations.backOff(number) == nil {
            follow(number, failure.reason, tried: now + (.zero - shared.limits.hold), now)
        }
        return number
    }

    /// One more attempt has begun there.
    mutating func noteUse(_ number: UInt32) {
        if !shared.limits.isAlone, Int(destinations[number].inFlight) >= share(number) { shared.limited.insert(number) }
    }

    /// Takes effect for what begins from now on.
    package mutating func advised(_ limits: SharedLimits, _ clock: ClockReading) -> [DestinationChange] {
        let before = shared.limits
        shared.limits = limits
        if limits.isAlone { (shared.limited, shared.returned) = ([], [:]) }
        var changes: [DestinationChange] = []
        for subject in Set(before.advice.keys).union(limits.advice.keys) {
            guard let name = subject.destination else { continue }
            for number in destinations.numbers(of: name) where !destinations[number].isDoubted {
                let advice = limits.advice[subject]
                destinations[number].advisedShare = Int32(clamping: advice?.share ?? 0)
                if let change = obey(advice?.backOff, number, clock) { changes.append(change) }
                settle(number)
            }
        }
        if before.nodes != limits.nodes { for number in destinations.known { settle(number) } }
        return changes
    }

    private mutating func obey(
        _ advice: SiteAdvice.BackOff?, _ number: UInt32, _ clock: ClockReading
    ) -> DestinationChange? {
        let known = destinations.backOff(number)
        switch advice {
        case .leaveAlone(let failure):
            follow(number, failure.reason, tried: clock.own(failure.tried), clock.now)
            return known == nil
                ? .backedOff(destinations[number].name, until: clock.now + shared.limits.hold, reason: failure.reason)
                : nil
        case .answers:
            guard known != nil else { return nil }
            destinations.setBackOff(number, nil)
            destinations[number].window = PlaceShares.firstWindow
            setPace(number, .unknown)
            return .cameBack(destinations[number].name)
        case .probe, nil:
            // Whoever was to find out does not any more.
            guard var backOff = known, backOff.isOthers else { return nil }
            backOff.isOthers = false
            backOff.until = clock.now
            destinations.setBackOff(number, backOff)
            return nil
        }
    }

    /// Another node finds out whether the destination answers again: if nothing more is heard, not for ever.
    private mutating func follow(_ number: UInt32, _ reason: Outcome, tried: Timestamp, _ now: Timestamp) {
        var backOff =
            destinations.backOff(number) ?? Destination.BackOff(since: now, until: now, tried: tried, reason: reason)
        if destinations.backOff(number) == nil { setPace(number, .slow) }
        backOff.isOthers = true
        backOff.until = now + shared.limits.hold
        backOff.tried = max(backOff.tried, tried)
        backOff.reason = reason
        destinations[number].window = 1
        destinations.setBackOff(number, backOff)
    }

    /// When a destination that backs off may be probed. If another node does that, then all the same for an envelope whose time
    /// is over: its sender is to be told, and only behind one more attempt.
    func probeTime(_ backOff: Destination.BackOff, _ first: UInt32) -> Timestamp {
        backOff.isOthers ? min(backOff.until, entries[first].due) : backOff.until
    }

    /// The destination answers again: others are to know.
    mutating func tellReturn(_ name: String) {
        if !shared.limits.isAlone { shared.returned[name] = SharedSchedule.tellings }
    }

    /// What others are to know. Looks at destinations that were limited, that others have told of, or that back off.
    package mutating func siteReports(_ clock: ClockReading) -> [SiteDemand] {
        guard !shared.limits.isAlone else { return [] }
        var numbers = shared.limited
        for subject in shared.limits.advice.keys {
            guard let name = subject.destination else { continue }
            numbers.formUnion(destinations.numbers(of: name))
        }
        numbers.formUnion(destinations.backOffs.keys.prefix(SharedSchedule.mostBackOffs))
        var reports: [SiteDemand] = []
        for number in numbers {
            let report = report(number, clock)
            if let report { reports.append(report) }
            if report?.isLimited != true { shared.limited.remove(number) }
        }
        for (name, left) in shared.returned {
            shared.returned[name] = left > 1 ? left - 1 : nil
            guard let subject = SiteSubject(destination: name) else { continue }
            if let place = reports.firstIndex(where: { $0.subject == subject }) {
                if reports[place].health == nil { reports[place].health = .answers }
            } else {
                reports.append(
                    SiteDemand(
                        subject, limit: limits.attemptsPerDestination, wanted: 0, used: 0, isLimited: false,
                        health: .answers))
            }
        }
        return reports
    }

    private func report(_ number: UInt32, _ clock: ClockReading) -> SiteDemand? {
        // What is there may be another one's, or of nobody any more.
        guard destinations[number].entries > 0, !destinations[number].isDoubted,
            let subject = SiteSubject(destination: destinations[number].name)
        else { return nil }
        let limit = limits.attemptsPerDestination
        let used = Int(destinations[number].inFlight)
        var report = SiteDemand(subject, limit: limit, wanted: min(used, limit), used: used, isLimited: false)
        if let backOff = destinations.backOff(number) {
            let failure = SiteFailure(backOff.reason, tried: clock.wall(backOff.tried))
            report.health = backOff.isOthers ? .follows(failure) : .backsOff(failure)
        } else {
            report.wanted = min(limit, used + due(number, clock.now, atMost: limit))
            report.isLimited = report.wanted > share(number)
        }
        return report
    }

    /// How many envelopes are due, up to a bound.
    private func due(_ number: UInt32, _ now: Timestamp, atMost limit: Int) -> Int {
        let parked = min(limit, destinations[number].parked.count)
        let new = destinations[number].new.count(atMost: limit) { entries[$0].due <= now }
        return parked + new + destinations[number].retries.count(atMost: limit) { entries[$0].due <= now }
    }
}
