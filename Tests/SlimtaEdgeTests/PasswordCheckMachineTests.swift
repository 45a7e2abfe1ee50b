// Guessing is slow and shuts nobody else out: the line before the password threads, without threads and without waiting.

import SlimtaMail
import Testing

@testable import SlimtaEdge

private typealias Machine = PasswordCheckMachine

private func source(_ text: String) throws -> Machine.Source? {
    Machine.Source(.ip(try #require(IPAddress(text)), port: 1000))
}

/// A machine and a clock that only tests move.
private struct Line {
    var machine: Machine
    var now = ContinuousClock.now
    private var passwords: UInt64 = 0

    init(threads: Int = 1, _ change: (inout Machine.Limits) -> Void = { _ in }) {
        var limits = Machine.Limits(threads: threads)
        change(&limits)
        machine = Machine(limits)
    }

    /// A password that was not tried before.
    mutating func check(_ source: Machine.Source?, _ login: Int = 1, password: UInt64? = nil) -> Machine.Check {
        passwords += 1
        return Machine.Check(source: source, login: login, password: password ?? passwords)
    }

    /// Asks; what may begin goes into line, as nothing is known.
    mutating func ask(_ check: Machine.Check) -> Machine.Verdict {
        let verdict = machine.asked(check, now)
        if verdict == .begun { machine.lined(check) }
        return verdict
    }

    /// Ends the next check in line; nil if there is none.
    mutating func hash(_ result: Machine.Result = .wrong) -> Machine.Check? {
        guard let check = machine.next() else { return nil }
        machine.ended(check, result, now)
        return check
    }

    /// Lets time pass until the next delayed check is due, and puts all that are into line. How long it was.
    mutating func wait() -> Duration? {
        guard let due = machine.nextDue else { return nil }
        let waited = due - now
        now = due
        while let check = machine.due(now) { machine.lined(check) }
        return waited
    }

    /// Fails from `source` with `count` passwords, waiting whenever that is asked for.
    mutating func fail(_ source: Machine.Source?, _ count: Int, login: Int = 1) -> [Duration] {
        var waits: [Duration] = []
        for _ in 0..<count {
            let verdict = ask(check(source, login))
            #expect(verdict == .begun || verdict == .delayed)
            waits.append(verdict == .delayed ? wait() ?? .zero : .zero)
            #expect(hash() != nil)
        }
        return waits
    }
}

@Suite struct PasswordCheckMachineTests {
    @Test func anAddressThatGuessesWaitsLongerAndLonger() throws {
        var line = Line()
        let waits = line.fail(try source("192.0.2.1"), 12)
        #expect(waits.prefix(6).allSatisfy { $0 == .zero }, "some are free: people mistype")
        // The first pause is from the check before it on.
        #expect(waits[6...] == [1, 2, 4, 8, 16, 30].map { Duration.seconds($0) }[...])
    }

    /// Reconnecting resets nothing: the machine does not know connections. IPv6: nor does another address of the /64.
    @Test(arguments: [
        ("192.0.2.1", "192.0.2.1"), ("192.0.2.1", "::ffff:192.0.2.1"), ("2001:db8::1", "2001:db8::ffff:9"),
    ])
    func whatIsOneAddress(first: String, second: String) throws {
        var line = Line()
        _ = line.fail(try source(first), 7)
        #expect(line.ask(line.check(try source(second), 2)) == .delayed)
    }

    @Test func othersAreNotDelayed() throws {
        var line = Line()
        _ = line.fail(try source("192.0.2.1"), 20, login: 1)
        for other in ["192.0.2.2", "2001:db8:1::1", "2001:db8:2::1"] {
            #expect(line.ask(line.check(try source(other), 2)) == .begun)
        }
        #expect(line.ask(line.check(nil, 2)) == .begun, "a UNIX socket")
    }

    /// 560 sessions of six addresses, each with a check under way: an honest user of a seventh waits for one check of each
    /// of them at most, and is never refused.
    @Test func aFloodOfSixAddressesCostsAnHonestUserSevenTurns() throws {
        var line = Line()
        var refused = 0
        for number in 0..<560 {
            let source = try source("192.0.2.\(number % 6 + 1)")
            if line.ask(line.check(source, number)) == .refused { refused += 1 }
        }
        #expect(line.machine.count == 6 * 32)
        #expect(refused == 560 - 6 * 32)
        let honest = line.check(try source("198.51.100.1"), 1000)
        #expect(line.ask(honest) == .begun)
        var turns = 0
        while let check = line.hash() {
            turns += 1
            if check == honest { break }
        }
        #expect(turns <= 7)
    }

    /// The rate of guesses, whatever the connections: six addresses in an hour.
    @Test func guessesOfAnHourAreCounted() throws {
        var line = Line(threads: 2)
        let end = line.now + .seconds(3600)
        var guesses = 0
        while line.now < end {
            for number in 1...6 {
                let source = try source("192.0.2.\(number)")
                while [.begun, .delayed].contains(line.ask(line.check(source))) {}
            }
            while line.hash() != nil { guesses += 1 }
            if line.wait() == nil { break }
        }
        // 32 in hand, then one in 30 s, for each.
        #expect(guesses < 6 * (32 + 8 + 3600 / 30 + 5), "\(guesses)")
        #expect(line.machine.count <= 6 * 32)
    }

    @Test func aLoginThatManyGuessIsDelayedALittleAndNeverLockedOut() throws {
        var line = Line()
        // One failure from each of many addresses.
        for number in 0..<200 {
            let source = try source("10.1.0.\(number)")
            let verdict = line.ask(line.check(source, 7))
            #expect(verdict != .refused)
            if verdict == .delayed { _ = line.wait() }
            _ = line.hash()
        }
        let honest = line.check(try source("198.51.100.1"), 7)
        #expect(line.ask(honest) == .delayed)
        #expect(line.wait() == .seconds(8), "the longest there is")
        #expect(line.hash(.right) == honest)
        // From now on the login is known there.
        #expect(line.ask(line.check(try source("198.51.100.1"), 7)) == .begun)
        // A login that does not exist is delayed in the same way: the machine does not know which do.
        #expect(line.ask(line.check(try source("198.51.100.1"), 8)) == .begun)
    }

    @Test func aFamiliarLoginIsServedBesideAGuesserOfItsAddress() throws {
        var line = Line()
        let office = try source("192.0.2.1")
        let known = line.check(office, 1)
        #expect(line.ask(known) == .begun)
        #expect(line.hash(.right) == known)
        _ = line.fail(office, 20, login: 2)
        while line.ask(line.check(office, 2)) != .refused {}
        // Others' failures at the address, and its full lane, are not his.
        let again = line.check(office, 1)
        #expect(line.ask(again) == .begun)
        #expect(line.hash(.right) == again)
        // His own are: then he is a stranger like others.
        for _ in 0..<5 {
            #expect(line.ask(line.check(office, 1)) == .begun)
            _ = line.hash(.wrong)
        }
        #expect(line.ask(line.check(office, 1)) != .begun)
    }

    @Test func familiarLoginsComeFirstAndLeaveOthersATurn() throws {
        var line = Line()
        for number in 1...8 {
            let check = line.check(try source("192.0.2.\(number)"), number)
            #expect(line.ask(check) == .begun)
            #expect(line.hash(.right) == check)
        }
        for number in 1...8 { _ = line.ask(line.check(try source("10.0.0.\(number)"), number + 100)) }
        for number in 1...8 { _ = line.ask(line.check(try source("192.0.2.\(number)"), number)) }
        var order: [Bool] = []
        while let check = line.hash() { order.append(check.login < 100) }
        #expect(order.count == 16)
        #expect(order.prefix(8).filter { $0 }.count >= 6)
        #expect(order.prefix(8).contains(false))
    }

    @Test func theSameWrongPasswordIsOneFailure() throws {
        var line = Line()
        let phone = try source("192.0.2.1")
        let old = line.check(phone)
        #expect(line.ask(old) == .begun)
        _ = line.hash()
        for _ in 0..<288 { #expect(line.machine.asked(old, line.now) == .repeated) }
        #expect(line.ask(line.check(phone)) == .begun)
        // Elsewhere it is not known.
        #expect(line.ask(line.check(try source("192.0.2.2"), password: old.password)) == .begun)
    }

    @Test func whoAsksTheSameMeanwhileGetsTheSameAnswer() throws {
        var line = Line()
        let check = line.check(try source("192.0.2.1"))
        #expect(line.ask(check) == .begun)
        for _ in 0..<200 { #expect(line.machine.asked(check, line.now) == .joined) }
        #expect(line.machine.count == 1)
        #expect(line.hash() == check)
        #expect(line.hash() == nil)
    }

    @Test func failuresAreForgotten() throws {
        var line = Line()
        let source = try source("192.0.2.1")
        _ = line.fail(source, 12)
        line.now += .seconds(600) * 40
        #expect(line.ask(line.check(source)) == .begun)
    }

    /// A right password does not wipe an address clean: else an account of one's own would open the door.
    @Test func ownSuccessesDoNotHelpToGuessOthers() throws {
        var line = Line()
        let source = try source("192.0.2.1")
        _ = line.fail(source, 12, login: 1)
        let own = line.check(source, 2)
        #expect(line.ask(own) == .delayed)
        _ = line.wait()
        #expect(line.hash(.right) == own)
        #expect(line.ask(line.check(source, 1)) == .delayed)
    }

    @Test func whatWouldWaitTooLongIsRefusedAndCostsNothing() throws {
        var line = Line()
        let source = try source("192.0.2.1")
        _ = line.fail(source, 15)
        var delayed = 0
        for _ in 0..<100 where line.ask(line.check(source)) == .delayed { delayed += 1 }
        #expect(delayed == 2)
        #expect(line.wait() == .seconds(30))
        #expect(line.wait() == .seconds(30))
        #expect(line.wait() == nil)
    }

    @Test func threadsAreNotMoreThanThereAre() throws {
        var line = Line(threads: 2)
        for number in 1...5 { _ = line.ask(line.check(try source("192.0.2.\(number)"))) }
        let begun = [line.machine.next(), line.machine.next(), line.machine.next()]
        #expect(begun.map { $0 != nil } == [true, true, false])
        line.machine.ended(try #require(begun[0]), .unavailable, line.now)
        #expect(line.machine.next() != nil)
    }

    @Test func memoryIsBounded() throws {
        var line = Line { $0.remembered = 64 }
        let loud = try source("192.0.2.1")
        _ = line.fail(loud, 12, login: 1)
        for number in 0..<2000 {
            let source = try source("10.0.\(number / 250).\(number % 250)")
            let verdict = line.ask(line.check(source, number + 10))
            if verdict == .delayed { _ = line.wait() }
            _ = line.hash(number % 2 == 0 ? .wrong : .right)
        }
        let remembered = line.machine.remembered
        #expect(remembered.addresses == 64 && remembered.logins == 64 && remembered.familiars == 64)
        #expect(line.machine.count == 0)
        // Who made up many did not push out who guessed much.
        #expect(line.ask(line.check(loud, 5)) == .delayed)
    }
}
