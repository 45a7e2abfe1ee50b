// Guessing is slow, ends in being turned away, and shuts nobody else out: without threads and without waiting.

import SlimtaMail
import Testing

@testable import SlimtaEdge

private typealias Machine = GuessMachine

@Suite struct GuessMachineTests {
    // MARK: Pauses

    @Test func anAddressThatGuessesWaitsLongerAndLonger() throws {
        var watched = WatchedGuesses()
        let waits = try watched.fail("192.0.2.1", 12, "a")
        #expect(waits.prefix(6).allSatisfy { $0 == .zero }, "some are free: people mistype")
        // From the try before it on.
        #expect(waits[6...].compactMap(\.self) == [1, 2, 4, 8, 16, 30].map { Duration.seconds($0) })
    }

    @Test(arguments: [
        ("192.0.2.1", "192.0.2.1"), ("192.0.2.1", "::ffff:192.0.2.1"), ("2001:db8::1", "2001:db8::ffff:9"),
    ])
    func whatIsOneAddress(first: String, second: String) throws {
        var watched = WatchedGuesses()
        _ = try watched.fail(first, 7)
        #expect(watched.ask(try watched.guess(second, "bob")) ?? .zero > .zero)
    }

    @Test func othersDoNotWait() throws {
        var watched = WatchedGuesses()
        _ = try watched.fail("192.0.2.1", 15)
        for other in ["192.0.2.2", "2001:db8:1::1", nil] {
            #expect(watched.ask(try watched.guess(other, "bob")) == .zero)
        }
    }

    @Test func aLoginThatManyGuessWaitsALittleAndIsNeverLockedOut() throws {
        var watched = WatchedGuesses()
        // One failure from each of many networks.
        for number in 0..<200 { #expect(watched.attempt(try watched.guess("10.1.\(number).1")) != nil) }
        let honest = try watched.guess("198.51.100.1")
        #expect(watched.attempt(honest, .right) == .seconds(8), "the longest there is")
        // From now on the login is known there, and for 30 days.
        watched.now += .seconds(29 * 86400)
        for number in 0..<200 { _ = watched.attempt(try watched.guess("10.1.\(number).1")) }
        #expect(watched.attempt(try watched.guess("198.51.100.1"), .right) == .zero)
        watched.now += .seconds(31 * 86400)
        for number in 0..<200 { _ = watched.attempt(try watched.guess("10.1.\(number).1")) }
        #expect(watched.attempt(try watched.guess("198.51.100.1")) == .seconds(8))
    }

    @Test func failuresAreForgotten() throws {
        var watched = WatchedGuesses()
        _ = try watched.fail("192.0.2.1", 12)
        watched.now += FadingCount.forgetting * 40
        #expect(watched.ask(try watched.guess("192.0.2.1")) == .zero)
    }

    /// A right password wipes nothing: an account of one's own makes a few more tries free, and opens no door.
    @Test func ownSuccessesDoNotHelpToGuessOthers() throws {
        var watched = WatchedGuesses()
        #expect(watched.attempt(try watched.guess("192.0.2.1", "mallory"), .right) == .zero)
        let waits = try watched.fail("192.0.2.1", 60, "victim of one")
        #expect(waits.compactMap(\.self).filter { $0 >= .seconds(8) }.count > 40)
    }

    @Test func whatWouldWaitTooLongIsRefusedAndCostsNothing() throws {
        var watched = WatchedGuesses()
        _ = try watched.fail("192.0.2.1", 15)
        var waits: [Duration] = []
        for _ in 0..<100 { if let wait = watched.ask(try watched.guess("192.0.2.1", "bob")) { waits.append(wait) } }
        #expect(waits == [.seconds(30), .seconds(60)])
        #expect(watched.machine.count == 2)
    }

    @Test func fewAreUnderWayAtATime() throws {
        var watched = WatchedGuesses()
        var admitted = 0
        for number in 0..<100 where watched.ask(try watched.guess("192.0.2.1", "\(number)")) != nil { admitted += 1 }
        #expect(admitted == 32)
        for _ in 0..<32 { watched.end(.neither) }
        #expect(watched.machine.count == 0)
    }

    // MARK: What counts

    @Test func theSameWrongPasswordIsOneFailure() throws {
        var watched = WatchedGuesses()
        var phone = try watched.guess("192.0.2.1")
        for day in 0..<10 {
            for number in 0..<288 {
                phone.session = "\(day) \(number)"
                #expect(watched.ask(phone) == .zero)
                #expect(watched.end() == Machine.Failure(count: number == 0 && day == 0 ? 1 : nil))
                watched.now += .seconds(300)
            }
        }
        watched.now += .seconds(86401)
        #expect(watched.ask(phone) == .zero)
        #expect(watched.end()?.count == 1, "after a day it is another one")
    }

    /// smtplib and swaks try CRAM-MD5, PLAIN and LOGIN, one after the other on one connection.
    @Test func aClientThatTriesEveryMechanismFailsOnce() throws {
        var watched = WatchedGuesses()
        var guess = try watched.guess("192.0.2.1")
        guess.digest = nil
        _ = watched.ask(guess)
        #expect(watched.end()?.count == 1)
        guess.digest = 1
        for _ in 0..<2 {
            _ = watched.ask(guess)
            #expect(watched.end() == Machine.Failure())
        }
        guess.digest = 2
        watched.now += .seconds(61)
        _ = watched.ask(guess)
        #expect(watched.end()?.count == 2, "a minute later it is another try")
    }

    /// Where the mechanism does not show the password, each failure makes the next one wait; but a telephone with an old
    /// password is not turned away for it.
    @Test func aTelephoneThatPollsIsNeverTurnedAway() throws {
        var watched = WatchedGuesses()
        for _ in 0..<2000 {
            var guess = try watched.guess("192.0.2.1")
            guess.digest = nil
            #expect(watched.attempt(guess) != nil)
            watched.now += .seconds(300)
        }
        var waits: [Duration?] = []
        for _ in 0..<2 {
            var guess = try watched.guess("192.0.2.1")
            guess.digest = nil
            waits.append(watched.attempt(guess))
        }
        #expect(waits == [.zero, .seconds(30)])
    }

    @Test func whatIsNoGuessCountsForNothing() throws {
        var watched = WatchedGuesses()
        for _ in 0..<50 { #expect(watched.attempt(try watched.guess("192.0.2.1"), .neither) == .zero) }
    }

    // MARK: What keeps a back end busy

    /// Each time, whatever login and password it is: it is held against the address, and against nobody else.
    @Test func whoKeepsABackEndBusyWaitsAndIsNotTurnedAway() throws {
        var watched = WatchedGuesses()
        var guess = try watched.guess("192.0.2.1")
        var waits: [Duration?] = []
        for number in 0..<200 {
            guess.session = "hang \(number)"
            waits.append(watched.ask(guess))
            #expect(watched.end(.exhausting(isRefuted: false)) == nil, "it is no wrong password")
        }
        #expect(waits.prefix(6).allSatisfy { $0 == .zero })
        #expect(waits.suffix(180).allSatisfy { ($0 ?? .zero) >= .seconds(16) })
        #expect(!watched.machine.isTurnedAway(try #require(IPAddress("192.0.2.1")), watched.now))
        #expect(watched.ask(try watched.guess("198.51.100.1")) == .zero, "nor is its login")
        // The back end is there again: what it could not help is soon forgotten.
        watched.now += FadingCount.forgetting * 6
        #expect(watched.ask(try watched.guess("192.0.2.1")) == .zero)
    }

    /// Who is known there waits for no back end that was away, and is none the less known.
    @Test func aFamiliarLoginIsNotBlamedForABackEnd() throws {
        var watched = WatchedGuesses()
        #expect(watched.attempt(try watched.guess("192.0.2.1"), .right) == .zero)
        for _ in 0..<100 {
            #expect(watched.attempt(try watched.guess("192.0.2.1"), .exhausting(isRefuted: false)) == .zero)
        }
        #expect(watched.attempt(try watched.guess("192.0.2.1"), .right) == .zero)
        let bob = try watched.guess("192.0.2.1", "bob")
        guard case .admitted(let ticket) = watched.machine.asked(bob, watched.now) else {
            Issue.record("not admitted")
            return
        }
        #expect(!ticket.hasFailed)
    }

    /// A wrong password counts once; that it keeps a back end busy counts each time.
    @Test func theSameWrongPasswordKeepsABackEndBusyAgain() throws {
        var watched = WatchedGuesses()
        var guess = try watched.guess("192.0.2.1")
        var counts: [Int?] = []
        for number in 0..<8 {
            guess.session = "hang \(number)"
            #expect(watched.ask(guess) != nil)
            counts.append(watched.end(.exhausting(isRefuted: true))?.count)
        }
        #expect(counts == [1, nil, nil, nil, nil, nil, nil, nil])
        #expect(watched.ask(guess) == .seconds(4))
    }

    // MARK: Familiar logins

    @Test func aFamiliarLoginIsServedBesideAGuesserOfItsAddress() throws {
        var watched = WatchedGuesses()
        #expect(watched.attempt(try watched.guess("192.0.2.1", "alice"), .right) == .zero)
        for number in 0..<200 { _ = watched.attempt(try watched.guess("192.0.2.1", "victim \(number % 60)")) }
        // However much failed there, an address where somebody is at home is not turned away.
        let verdict = watched.machine.asked(try watched.guess("192.0.2.1", "x"), watched.now)
        #expect(verdict != .turnedAway)
        // What is under way of others takes no room of its own.
        while watched.ask(try watched.guess("192.0.2.1", "victim")) != nil {}
        #expect(watched.attempt(try watched.guess("192.0.2.1", "alice"), .right) == .zero)
        // Its own failures do: then it is a stranger like others.
        for _ in 0..<5 { #expect(watched.attempt(try watched.guess("192.0.2.1", "alice")) == .zero) }
        let waits = try watched.fail("192.0.2.1", 2)
        #expect(waits == [.zero, .seconds(30)], "it waits for its own tries only")
        watched.now += FadingCount.forgetting
        #expect(watched.attempt(try watched.guess("192.0.2.1", "alice"), .right) == .zero, "not for good")
        #expect(watched.attempt(try watched.guess("192.0.2.1", "alice")) == .zero)
    }

    /// Where many share an address, one that guesses delays whom he guesses, and nobody else: an office with an honest login,
    /// a trusted network.
    @Test(arguments: [true, false])
    func whoGuessesBesideOthersHoldsUpOnlyWhomHeGuesses(isTrusted: Bool) throws {
        var watched = WatchedGuesses()
        func guess(_ login: String) throws -> Machine.Guess {
            var guess = try watched.guess("192.0.2.1", login)
            guess.isExempt = isTrusted
            return guess
        }
        if !isTrusted { #expect(watched.attempt(try guess("alice"), .right) == .zero) }
        for number in 0..<70 { _ = watched.attempt(try guess("victim \(number % 60)")) }
        // As many lines as can be are full.
        for number in 0..<40 { while watched.ask(try guess("victim \(number)")) != nil {} }
        #expect(watched.machine.count > 64)
        #expect(watched.attempt(try guess("bob"), .right) == .zero)
        let first = watched.ask(try guess("carol"))
        let second = watched.ask(try guess("carol"))
        #expect(first == .zero && second == .seconds(30))
    }

    /// Who goes away while he waits leaves no gap, and nothing is under way.
    @Test func whoGoesAwayLeavesHisTurn() throws {
        var watched = WatchedGuesses()
        _ = try watched.fail("192.0.2.1", 15)
        for _ in 0..<10 {
            let wait = watched.ask(try watched.guess("192.0.2.1", "bob"))
            #expect(wait == .seconds(30))
            watched.leave()
        }
        #expect(watched.machine.count == 0)
    }

    // MARK: Being turned away

    /// While a back end is away, right passwords of its users may be wrong for another one: they wait, but no office is
    /// turned away for them.
    @Test func whatIsUndecidedTurnsNobodyAway() throws {
        var watched = WatchedGuesses()
        for number in 0..<40 {
            if watched.ask(try watched.guess("192.0.2.1", "login \(number)")) != nil { watched.end(.undecided) }
        }
        #expect(watched.machine.bans.count == 0 && watched.machine.networks.count == 0)
        #expect(watched.ask(try watched.guess("192.0.2.1", "bob")) == .seconds(30))
    }

    @Test func whoTriesManyLoginsIsTurnedAway() throws {
        var watched = WatchedGuesses()
        let count = try watched.failUntilTurnedAway("192.0.2.1")
        #expect((10...14).contains(count), "\(count)")
        let address = try #require(IPAddress("192.0.2.1"))
        #expect(watched.machine.isTurnedAway(address, watched.now))
        #expect(watched.ask(try watched.guess("192.0.2.1", "bob")) == nil)
        #expect(watched.ask(try watched.guess("192.0.2.2", "bob")) == .zero)
        watched.now += .seconds(901)
        #expect(!watched.machine.isTurnedAway(address, watched.now))
    }

    @Test func whoTriesManyPasswordsIsTurnedAway() throws {
        var watched = WatchedGuesses()
        let waits = try watched.fail("192.0.2.1", 60)
        #expect((30...45).contains(waits.count { $0 != nil }), "\(waits.count { $0 != nil })")
    }

    @Test func eachTimeItIsTwiceAsLongUpToADay() throws {
        var watched = WatchedGuesses()
        let place = GuessMachine.narrow(try #require(IPAddress("192.0.2.1")))
        var times: [Duration] = []
        for _ in 0..<9 {
            _ = try watched.failUntilTurnedAway("192.0.2.1")
            let ban = try #require(watched.machine.bans[place])
            times.append(ban.until - watched.now)
            watched.now = ban.until + .seconds(60)
        }
        #expect(times == [15, 30, 60, 120, 240, 480, 960, 1440, 1440].map { Duration.seconds($0 * 60) })
        watched.now += .seconds(2 * 86400)
        _ = try watched.failUntilTurnedAway("192.0.2.1")
        #expect(watched.machine.bans[place]?.times == 1, "after a day it begins anew")
    }

    /// What was under way when the address was turned away does not have it turned away for longer.
    @Test func whatWasUnderWayCountsOnce() throws {
        var watched = WatchedGuesses()
        for number in 0..<32 { #expect(watched.ask(try watched.guess("192.0.2.1", "login \(number)")) == .zero) }
        for _ in 0..<32 { watched.end() }
        #expect(watched.machine.bans.all.map(\.value.times) == [1])
    }

    /// Many addresses of a network that each keep below their threshold; an honest address there is served all the same.
    @Test(arguments: [("192.0.2.", "192.0.2.200", "192.0.3.1"), ("2001:db8:1:", "2001:db8:1:200::1", "2001:db8:2::1")])
    func aNetworkIsTurnedAwayToo(network: String, honest: String, other: String) throws {
        var watched = WatchedGuesses()
        #expect(watched.attempt(try watched.guess(honest, "alice"), .right) == .zero)
        var banned: NetworkRange?
        for number in 0..<200 where banned == nil {
            let address = network + (network.contains(":") ? "\(number / 3)::1" : "\(number / 3)")
            let guess = try watched.guess(address, "login \(number)")
            if watched.ask(guess) != nil { banned = watched.end()?.banned?.place }
        }
        #expect(banned?.prefixLength == (network.contains(":") ? 48 : 24))
        let turnedAway = try [network + (network.contains(":") ? "99::1" : "99"), honest, other].map {
            watched.machine.isTurnedAway(try #require(IPAddress($0)), watched.now)
        }
        #expect(turnedAway == [true, false, false])
    }

    @Test func trustedNetworksAndThisMachineAreNot() throws {
        var watched = WatchedGuesses()
        for number in 0..<300 {
            var guess = try watched.guess("192.0.2.1", "login \(number)")
            guess.isExempt = true
            _ = watched.attempt(guess)
        }
        #expect(watched.machine.bans.count == 0)
        // Nor do others wait for them.
        #expect(watched.ask(try watched.guess("192.0.2.2", "bob")) == .zero)
        for number in 0..<300 { _ = watched.attempt(try watched.guess(nil, "login \(number)")) }
        #expect(watched.machine.bans.count == 0)
    }

    @Test func operatorsLetIn() throws {
        var watched = WatchedGuesses()
        for address in ["192.0.2.1", "2001:db8::1"] { _ = try watched.failUntilTurnedAway(address) }
        for number in 0..<30 { _ = watched.attempt(try watched.guess("10.1.\(number).1", "alice")) }
        let all = watched.machine.findings(watched.now, .now(), limit: 10)
        #expect(all.map(\.name).sorted() == ["192.0.2.1", "2001:db8::/64", "alice"])
        #expect(all[0].until != nil && all[0].times == 1 && (10...14).contains(all[0].logins ?? 0))
        #expect(all[2].kind == .login && all[2].delay == 8)
        let unknown = [watched.machine.release("198.51.100.1"), watched.machine.release("bob")]
        #expect(unknown == [false, false])
        for name in ["192.0.2.0/24", "2001:db8::1", "Alice"] {
            let isReleased = watched.machine.release(name)
            #expect(isReleased, "\(name)")
        }
        #expect(watched.machine.findings(watched.now, .now(), limit: 10).isEmpty)
        #expect(watched.ask(try watched.guess("192.0.2.1", "bob")) == .zero)
    }

    // MARK: Memory

    @Test func whatIsKeptIsTakenUp() throws {
        var watched = WatchedGuesses()
        #expect(watched.attempt(try watched.guess("198.51.100.1", "alice b"), .right) == .zero)
        #expect(watched.attempt(try watched.guess(nil, "local one"), .right) == .zero)
        _ = try watched.failUntilTurnedAway("2001:db8::1")
        #expect(watched.machine.hasNews)
        let wall = Timestamp(milliseconds: 1_700_000_000_000)
        let record = watched.machine.record(watched.now, wall)
        #expect(record.split(separator: "\n").map { $0.split(separator: " ")[0] } == ["banned", "login", "login"])
        var other = Machine()
        let news = "login x 1 y\nlogin 192.0.2.1/32 99999999999999999999 y\nbanned 192.0.2.1/32 5 5\n\n\u{0}\nlogin\n"
        var isUnderstood = other.restore(record + news, watched.now, wall)
        #expect(!isUnderstood)
        #expect(other.record(watched.now, wall) == record)
        #expect(other.isTurnedAway(try #require(IPAddress("2001:db8::5")), watched.now))
        guard case .admitted(let ticket) = other.asked(try watched.guess("198.51.100.1", "alice b"), watched.now) else {
            Issue.record("not admitted")
            return
        }
        #expect(ticket.isFamiliar)
        // Of what was kept for long nothing is left.
        other = Machine()
        isUnderstood = other.restore(record, watched.now, wall)
        #expect(isUnderstood)
        #expect(other.record(watched.now + .seconds(31 * 86400), wall).isEmpty)
    }

    /// However a file came to say so.
    @Test func numbersThatAreTooGreatAreTakenUp() throws {
        var watched = WatchedGuesses()
        let most = "\(Int.max) \(Int.max) \(Int.max)"
        let isUnderstood = watched.machine.restore(
            "banned 192.0.2.1/32 1700000000 \(most)\n", watched.now, .init(milliseconds: 1_700_000_000_000))
        #expect(isUnderstood)
        watched.now += .seconds(1)
        _ = try watched.failUntilTurnedAway("192.0.2.1")
        let ban = try #require(watched.machine.bans.all.first?.value)
        #expect(ban.times == Machine.Ban.mostTimes && ban.until - watched.now == .seconds(86400))
    }

    /// Of an IPv6 network there are addresses without end.
    @Test func aLoginPushesOutItself() throws {
        var watched = WatchedGuesses { $0.familiars = 128 }
        #expect(watched.attempt(try watched.guess("198.51.100.1", "alice"), .right) == .zero)
        for number in 0..<500 {
            watched.now += .seconds(1)
            #expect(watched.attempt(try watched.guess("2001:db8:1:\(number)::1", "mallory"), .right) == .zero)
        }
        #expect(watched.machine.familiars.count == 65 && watched.machine.honest.count == 65)
        let places = try ["198.51.100.1", "2001:db8:1:499::1", "2001:db8:1:3::1"].map {
            watched.machine.isHonest(Machine.narrow(try #require(IPAddress($0))), watched.now)
        }
        #expect(places == [true, true, false])
    }

    @Test func memoryIsBounded() throws {
        var watched = WatchedGuesses { ($0.remembered, $0.familiars) = (64, 32) }
        #expect(watched.attempt(try watched.guess("198.51.100.1", "honest"), .right) == .zero)
        for _ in 0..<7 { _ = watched.attempt(try watched.guess("192.0.2.1", "loud")) }
        for number in 0..<2000 {
            _ = watched.attempt(try watched.guess("10.\(number / 250).\(number % 250).1", "login \(number)"))
        }
        let machine = watched.machine
        #expect([machine.addresses.count, machine.networks.count, machine.logins.count] == [64, 64, 64])
        #expect(machine.count == 0)
        // Who made up many did not push out who guessed much, nor who is known.
        #expect(watched.ask(try watched.guess("192.0.2.1", "x")) != .zero)
        #expect(watched.attempt(try watched.guess("198.51.100.1", "honest"), .right) == .zero)
        for number in 0..<100 { _ = watched.attempt(try watched.guess("10.1.1.1", "own \(number)"), .right) }
        #expect(watched.machine.familiars.count == 32)
    }

    @Test func aSetOfLoginsCountsAboutRight() {
        let now = ContinuousClock.now
        for wanted in [1, 5, 10, 50, 100, 200] {
            var set = LoginSet(since: now)
            for number in 0..<wanted { for _ in 0..<3 { set.insert("login \(number)".hashValue, now) } }
            #expect(abs(set.count(now) - wanted) <= 2 + wanted / 4, "\(set.count(now)) of \(wanted)")
            #expect(set.count(now + .seconds(7200)) == 0)
        }
    }
}
