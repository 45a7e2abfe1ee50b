// What happens to a key, and what follows from it: each event in each phase. See SelectorState.swift for the picture.

package import SlimtaMail

extension SelectorState {
    /// Takes an event; what is to be told of it.
    package mutating func take(_ event: Event, at now: Timestamp, _ times: SelectorTimes) -> [Notice] {
        beginAnew(at: now)
        switch event {
        case .answered(.unknown(let why), _, _): return takeNothing(why, at: now, times)
        case .answered(let verdict, let ttl, let negativeTTL):
            let remembered = min(
                max(ttl, negativeTTL ?? .zero, times.settling.lowerBound), times.settling.upperBound)
            settling = max(settling, remembered)
            if case .right(let isTesting) = verdict {
                // Who does not know how long the wait is waits for the longest.
                return takeRight(
                    isTesting, wait: negativeTTL == nil ? times.settling.upperBound : settling, at: now, times)
            }
            return takeWrong(verdict, at: now, times)
        case .signed: lastSigned = now
        case .leaves(let time):
            leaving = max(leaving ?? time, time)
            beginAnew(at: now)
        case .succeeded where phase == .active || phase == .failing:
            return [change(to: .retiring, "a newer one is active", at: now)]
        case .succeeded: break
        case .clock: return age(at: now, times)
        case .ask: nextQuestion = now
        }
        return []
    }

    /// A clock that was set back leaves times in the future: what waits from there on waits from now on.
    private mutating func beginAnew(at now: Timestamp) {
        since = min(since, now)
        row.since = min(row.since, now)
        row.last = min(row.last, now)
        lastSigned = lastSigned.map { min($0, now) }
        // This one may be in the future, and that of a clock which was wrong is further away.
        leaving = leaving.map { min($0, now + SelectorTimes.longestAhead) }
    }

    private mutating func change(to phase: Phase, _ why: String, at now: Timestamp) -> Notice {
        defer { (self.phase, since) = (phase, now) }
        return .changed(from: self.phase, to: phase, why: why)
    }

    /// An answer that is one. Whether it is the first of its kind.
    private mutating func count(isRight: Bool, at now: Timestamp) -> Bool {
        let isFirst = row.isRight != isRight
        if isFirst { row = Row(isRight: isRight, since: now, last: now) }
        row.count += 1
        row.last = now
        (unanswered, isStale) = (0, false)
        return isFirst
    }

    // MARK: The record is right

    /// - Parameter settling: how long the record has to be right, by what is known now.
    private mutating func takeRight(
        _ isTesting: Bool, wait settling: Duration, at now: Timestamp, _ times: SelectorTimes
    ) -> [Notice] {
        let wasTesting = row.isTesting
        _ = count(isRight: true, at: now)
        row.isTesting = isTesting
        var notices: [Notice] = isTesting && !wasTesting ? [.testing] : []
        switch phase {
        case .made: notices.append(change(to: .seen, "the record is right", at: now))
        case .seen:
            let wait = now - row.since
            if wait >= settling, row.count >= times.settlingAnswers {
                notices.append(change(to: .active, "the record has been right for \(wait.words)", at: now))
            }
        case .failing: notices.append(change(to: .active, "the record is right again", at: now))
        case .active, .retiring, .old: break
        }
        var pause = SelectorTimes.pause(after: row.count)
        switch phase {
        case .seen:
            // The question that ends the wait comes when it ends, if all is known then.
            let left = self.settling - (now - row.since)
            if left > .zero {
                pause = min(pause, max(left, SelectorTimes.pause(after: 1)))
            } else if settling > self.settling {
                pause = SelectorTimes.pause(after: 2)
            }
        case .active, .retiring, .old, .failing: pause = SelectorTimes.longestPause
        case .made: break
        }
        nextQuestion = now + pause
        return notices
    }

    // MARK: The record is not right

    private mutating func takeWrong(
        _ verdict: DKIMRecordVerdict, at now: Timestamp, _ times: SelectorTimes
    ) -> [Notice] {
        // Nobody has looked for so long, such as while the daemon was stopped: there is no good word to go on with.
        let isLate = now - row.last >= times.staleness
        let isFirst = count(isRight: false, at: now)
        nextQuestion = now + SelectorTimes.pause(after: row.count)
        let why = "the record \(verdict)"
        switch phase {
        case .made, .failing: return []
        case .seen: return [change(to: .made, why, at: now)]
        case .active:
            let hasFailed = row.count >= times.failingAnswers && now - row.since >= times.failing
            if hasFailed || isLate { return [change(to: .failing, why, at: now)] }
            return isFirst ? [.wrong(why)] : []
        case .retiring: return isFirst ? [.wrong(why)] : []
        case .old: return verdict.isGone ? [.done] : []
        }
    }

    // MARK: Nobody knows

    private mutating func takeNothing(_ why: String, at now: Timestamp, _ times: SelectorTimes) -> [Notice] {
        unanswered += 1
        nextQuestion = now + SelectorTimes.pause(after: unanswered)
        guard !isStale, now - row.last >= times.staleness else { return [] }
        isStale = true
        return [.stale(since: row.last, why: why)]
    }

    // MARK: Time passes

    private mutating func age(at now: Timestamp, _ times: SelectorTimes) -> [Notice] {
        guard phase == .retiring else { return [] }
        // It may have signed after its successor began: when that failed.
        guard let end = nextPhase(times), now >= end else { return [] }
        return [change(to: .old, "nothing that it has signed is under way", at: now)]
    }
}

extension DKIMRecordVerdict {
    /// Whether DNS has nothing more of the key.
    fileprivate var isGone: Bool {
        switch self {
        case .absent, .revoked, .otherKey: true
        case .right, .several, .malformed, .unknown: false
        }
    }
}

extension Duration {
    /// As in a log: "75 min".
    fileprivate var words: String { "\(milliseconds / 60_000) min" }
}
