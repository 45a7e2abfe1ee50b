// What a failed login counts for in GuessMachine: how long the next try waits, and when an address or its network is turned
// away.

internal import SlimtaMail

extension GuessMachine {
    /// Counts a failure.
    ///
    /// - Parameter isUndecided: it may have been right: the next try waits, but nobody is turned away for it.
    mutating func failed(_ ticket: Ticket, _ guess: Guess, isUndecided: Bool, _ now: Instant) -> Failure {
        let key = guess.login.map { Self.key($0) }
        let isNew = isNew(ticket, guess, key, now)
        // Without the password nobody sees whether it is the same one: it counts, but is no strike.
        guard isNew || guess.digest == nil else { return Failure() }
        let isStrike = isNew && guess.login != nil && !isUndecided
        let count = count(guess, key, at: ticket.place, in: \.addresses, factor: 1, isStrike: isStrike, now)
        guard let count else { return Failure() }
        if ticket.isFamiliar, let login = guess.login {
            let pair = Pair(place: ticket.place, login: login)
            familiars.update(pair, default: Familiar(now), now: now) {
                $0.failures.add(now, most: limits.familiarFailures)
            }
        }
        guard let address = guess.address, !guess.isExempt else { return Failure(count: count) }
        // A telephone that polls is nothing to its network.
        if isStrike {
            let wide = Self.wide(address)
            _ = self.count(guess, key, at: wide, in: \.networks, factor: limits.wideFactor, isStrike: isStrike, now)
        }
        return Failure(count: count, banned: ban(address, now))
    }

    /// Counts a try that has kept a back end busy for nothing: each, for whoever sends the same again takes as much again.
    mutating func exhausted(_ ticket: Ticket, _ now: Instant) {
        guard !ticket.isFamiliar else { return }
        let most = limits.addressTimeOuts
        addresses.update(ticket.place, default: Place(now), now: now) { place in
            if place.failures.now(now) < most { place.failures.add(now, most: most) }
        }
    }

    /// Whether it is not what was wrong already; and counts it for the login if it is a stranger's.
    private mutating func isNew(_ ticket: Ticket, _ guess: Guess, _ key: Int?, _ now: Instant) -> Bool {
        guard let login = guess.login, let key else { return true }
        var isNew = true
        let hour = Int(Self.epoch.duration(to: now) / .seconds(3600))
        let digest = guess.digest ?? Self.stand(for: ticket.place, hour)
        logins.update(key, default: Login(login, now), now: now) { login in
            isNew = login.isNew(digest, now)
            if isNew, !ticket.isFamiliar { login.failures.add(now, most: 32) }
        }
        return isNew
    }

    /// Counts a failure; how many there are then, nil: it belongs to one that was counted already.
    ///
    /// - Parameter factor: how many times as much the place may.
    private mutating func count<Key>(
        _ guess: Guess, _ key: Int?, at place: Key,
        in table: WritableKeyPath<GuessMachine, BoundedTable<Key, Place>>, factor: Int, isStrike: Bool,
        _ now: Instant
    ) -> Int? {
        var count: Int?
        let most = limits.strikes * 2 * factor
        self[keyPath: table].update(place, default: Place(now), now: now) { place in
            // A client that tries one mechanism after the other.
            if let last = place.last, last.session == guess.session, last.login == key,
                now - last.since < .seconds(60)
            {
                return
            }
            place.last = key.map { (guess.session, $0, now) }
            place.failures.add(now, most: most)
            if isStrike {
                place.strikes.add(now, most: most)
                if let key { place.logins.insert(key, now) }
            }
            count = place.failures.now(now)
        }
        return count
    }

    /// Turns an address or its network away, if it is time.
    private mutating func ban(_ address: IPAddress, _ now: Instant) -> (NetworkRange, Ban)? {
        let (narrow, wide) = (Self.narrow(address), Self.wide(address))
        // What was under way when it was turned away does not have it turned away for longer.
        guard !isHonest(narrow, now), !isTurnedAway(address, now) else { return nil }
        if let ban = overdue(addresses[narrow], factor: 1, now) {
            addresses.update(narrow, default: Place(now), now: now) { $0.isForgiven(now) }
            return (narrow, turnAway(narrow, ban, now))
        }
        if let ban = overdue(networks[wide], factor: limits.wideFactor, now) {
            networks.update(wide, default: Place(now), now: now) { $0.isForgiven(now) }
            return (wide, turnAway(wide, ban, now))
        }
        return nil
    }

    private func overdue(_ place: Place?, factor: Int, _ now: Instant) -> (failures: Int, logins: Int)? {
        guard let place else { return nil }
        let (strikes, logins) = (place.strikes.now(now), place.logins.count(now))
        guard strikes >= limits.strikes * factor || logins >= limits.distinctLogins * factor else { return nil }
        return (strikes, logins)
    }

    private mutating func turnAway(_ place: NetworkRange, _ why: (failures: Int, logins: Int), _ now: Instant) -> Ban {
        var times = 1
        // A day without: it begins anew.
        if let old = bans[place], now - old.until < .seconds(86400) { times = min(old.times + 1, Ban.mostTimes) }
        let time = min(limits.firstBan * (1 << min(times - 1, 16)), limits.longestBan)
        let ban = Ban(until: now + time, times: times, failures: why.failures, logins: why.logins)
        bans.update(place, default: ban, now: now) { $0 = ban }
        hasNews = true
        return ban
    }

    // MARK: Pauses

    func addressPause(_ place: NetworkRange?, _ now: Instant) -> Duration {
        let free = limits.addressFailures * (isHonest(place, now) ? limits.wideFactor : 1)
        return pause(addresses[place]?.failures, now, free: free, limits.longestAddressPause)
    }

    /// Without turns: others in the network are to wait no longer than that.
    func networkPause(_ address: IPAddress?, _ now: Instant) -> Duration {
        guard let address else { return .zero }
        return pause(
            networks[Self.wide(address)]?.failures, now, free: limits.addressFailures * limits.wideFactor,
            limits.longestLoginPause)
    }

    func loginPause(_ login: String?, _ now: Instant) -> Duration {
        login.map { loginPause(Self.key($0), now) } ?? .zero
    }

    func loginPause(_ key: Int, _ now: Instant) -> Duration {
        pause(logins[key]?.failures, now, free: limits.loginFailures, limits.longestLoginPause)
    }

    /// Nothing for the failures that are free, then a second, doubled with each one.
    private func pause(_ failures: FadingCount?, _ now: Instant, free: Int, _ longest: Duration) -> Duration {
        let count = (failures?.now(now) ?? 0) - free
        return count < 0 ? .zero : min(.seconds(1 << min(count, 16)), longest)
    }
}

extension GuessMachine.Place {
    /// It has been turned away for it.
    fileprivate mutating func isForgiven(_ now: ContinuousClock.Instant) {
        strikes = FadingCount(since: now)
        logins = LoginSet(since: now)
    }
}
