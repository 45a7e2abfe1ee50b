// What of GuessMachine outlives the daemon, and what operators see of it: which logins are familiar where, and who is turned
// away. GuessWatch asks for it.

internal import SlimtaMail

extension GuessMachine {
    /// The text of a file: a line for each login that is familiar and each network that is turned away or was of late, in
    /// seconds since the epoch:
    ///
    ///     login 198.51.100.7/32 1764422697 alice
    ///     banned 203.0.113.9/32 1764423597 2 30 12
    ///
    /// The numbers of a ban are when it ends, how often there was one, and the failures and logins that led to it. A UNIX
    /// socket is "local".
    func record(_ now: Instant, _ wall: Timestamp) -> String {
        var lines: [String] = []
        for (pair, familiar) in familiars.all where now - familiar.last < limits.memory {
            let place = pair.place.map { "\($0)" } ?? "local"
            lines.append("login \(place) \((wall + (familiar.last - now)).seconds) \(pair.login)\n")
        }
        for (place, ban) in bans.all where now - ban.until < .seconds(86400) {
            let end = (wall + (ban.until - now)).seconds
            lines.append("banned \(place) \(end) \(ban.times) \(ban.failures) \(ban.logins)\n")
        }
        return lines.sorted().joined()
    }

    /// Takes up what ``record(_:_:)`` said; what cannot be understood is left out. Returns whether that is nothing.
    mutating func restore(_ record: String, _ now: Instant, _ wall: Timestamp) -> Bool {
        let understood = record.split(separator: "\n").map { restore(line: $0, now, wall) }
        return understood.allSatisfy(\.self)
    }

    private mutating func restore(line: Substring, _ now: Instant, _ wall: Timestamp) -> Bool {
        let words = line.split(separator: " ", maxSplits: 3)
        guard words.count == 4, let seconds = Int64(words[2]) else { return false }
        // A clock that was set back must not make it hold for ever.
        let time =
            now + (Timestamp(milliseconds: seconds.multipliedReportingOverflow(by: 1000).partialValue) - wall)
        let place = NetworkRange(words[1])
        switch words[0] {
        case "login" where place != nil || words[1] == "local":
            let familiar = Familiar(now, last: min(time, now))
            familiars.update(Pair(place: place, login: String(words[3])), default: familiar, now: now) {
                $0 = familiar
            }
            honest.update(place, default: familiar, now: now) { $0.last = max($0.last, familiar.last) }
        case "banned":
            let numbers = words[3].split(separator: " ").compactMap { Int($0) }
            guard let place, numbers.count == 3, numbers.allSatisfy({ $0 >= 0 }) else { return false }
            let ban = Ban(
                until: min(time, now + limits.longestBan), times: min(numbers[0], Ban.mostTimes),
                failures: numbers[1],
                logins: numbers[2])
            bans.update(place, default: ban, now: now) { $0 = ban }
        default: return false
        }
        return true
    }

    /// What operators see, as ``GuessWatch/findings(limit:)`` says.
    func findings(_ now: Instant, _ wall: Timestamp, limit: Int) -> [GuessWatch.Finding] {
        let banned = bans.all.filter { $0.value.until > now }.map { place, ban in
            GuessWatch.Finding(
                kind: place == Self.narrow(place.base) ? .address : .network, name: place.shown, failures: ban.failures,
                logins: ban.logins, delay: 0, until: wall + (ban.until - now), times: ban.times)
        }
        let isBanned = Set(banned.map(\.name))
        let waiting = addresses.all.compactMap { place, counts -> GuessWatch.Finding? in
            let pause = addressPause(place, now)
            let name = place?.shown ?? "local"
            guard pause > .zero, !isBanned.contains(name) else { return nil }
            return GuessWatch.Finding(
                kind: .address, name: name, failures: counts.failures.now(now), logins: counts.logins.count(now),
                delay: Int(pause / .seconds(1)), until: nil, times: place.flatMap { bans[$0]?.times } ?? 0)
        }
        let guessed = logins.all.compactMap { key, login -> GuessWatch.Finding? in
            let pause = loginPause(key, now)
            guard pause > .zero else { return nil }
            return GuessWatch.Finding(
                kind: .login, name: login.name, failures: login.failures.now(now), logins: nil,
                delay: Int(pause / .seconds(1)), until: nil, times: 0)
        }
        return [banned, waiting, guessed].flatMap { found in
            found.sorted { ($0.failures, $1.name) > ($1.failures, $0.name) }.prefix(limit)
        }
    }
}
