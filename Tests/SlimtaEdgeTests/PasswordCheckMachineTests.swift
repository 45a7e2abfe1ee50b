// Who is hashed next: the line before the password threads, without threads and without waiting.

import SlimtaMail
import Testing

@testable import SlimtaEdge

private typealias Machine = PasswordCheckMachine

private func source(_ text: String) throws -> Machine.Source? {
    Machine.Source(.ip(try #require(IPAddress(text)), port: 1000))
}

@Suite struct PasswordCheckMachineTests {
    private var machine = Machine(threads: 1)
    private var passwords: UInt64 = 0

    /// A password that was not tried before.
    private mutating func check(
        _ address: String, _ login: Int = 1, _ standing: Machine.Standing = .stranger
    ) throws -> Machine.Check {
        passwords += 1
        return Machine.Check(source: try source(address), standing: standing, login: login, password: passwords)
    }

    /// Asks, and goes into line, as nothing is known.
    private mutating func line(_ check: Machine.Check) {
        #expect(machine.asked(check) == .begun)
        machine.lined(check)
    }

    /// Ends the next check in line; nil if there is none.
    private mutating func hash() -> Machine.Check? {
        guard let check = machine.next() else { return nil }
        machine.ended(check)
        return check
    }

    /// Six addresses with 32 checks each, as many as there can be under way: an honest user of a seventh waits for one of
    /// each at most.
    @Test mutating func aFloodOfSixAddressesCostsAnHonestUserSevenTurns() throws {
        for number in 0..<192 { line(try check("192.0.2.\(number % 6 + 1)", number)) }
        let honest = try check("198.51.100.1", 1000)
        line(honest)
        var turns = 0
        while let check = hash() {
            turns += 1
            if check == honest { break }
        }
        #expect(turns <= 7)
    }

    @Test mutating func familiarLoginsComeFirstAndLeaveOthersATurn() throws {
        for number in 1...8 { line(try check("10.0.0.\(number)", number + 100)) }
        for number in 1...8 { line(try check("192.0.2.\(number)", number, .familiar)) }
        var order: [Bool] = []
        while let check = hash() { order.append(check.login < 100) }
        #expect(order.count == 16)
        #expect(order.prefix(8).filter { $0 }.count >= 6)
        #expect(order.prefix(8).contains(false))
    }

    /// Two hundred addresses that have failed, each with all that it may have in hand: who comes from another one is next.
    @Test mutating func aStrangerDoesNotStandBehindGuessers() throws {
        for number in 0..<6400 { line(try check("10.0.\(number % 200).1", number, .guesser)) }
        for _ in 0..<5 { _ = hash() }
        let honest = try check("198.51.100.1", 10_000)
        line(honest)
        let next = [hash(), hash(), hash()]
        #expect(next[..<2].contains(honest))
        #expect(next[2] != nil, "they have their turns")
    }

    /// A familiar login does not stand behind a guesser of its address.
    @Test mutating func aFamiliarLoginHasALaneOfItsOwn() throws {
        for number in 0..<30 { line(try check("192.0.2.1", number + 100)) }
        let known = try check("192.0.2.1", 1, .familiar)
        line(known)
        #expect(hash() == known)
    }

    @Test mutating func whoAsksTheSameMeanwhileGetsTheSameAnswer() throws {
        let check = try check("192.0.2.1")
        line(check)
        for _ in 0..<200 { #expect(machine.asked(check) == .joined) }
        #expect(machine.count == 1)
        #expect(hash() == check)
        #expect(hash() == nil)
    }

    // MARK: The bound

    /// A flood from few addresses, from many, and from one that has failed: each is turned away itself, and who comes last, from
    /// an address of his own, has his place and his turn.
    @Test(arguments: [(2, PasswordCheckMachine.Standing.stranger), (60, .stranger), (2, .guesser), (300, .guesser)])
    func aFullLineHasRoomForWhoIsNotTheFlood(addresses: Int, standing: PasswordCheckMachine.Standing) throws {
        var machine = Machine(threads: 1, waiting: 100)
        func check(_ address: String, _ number: Int, _ standing: Machine.Standing) throws -> Machine.Check {
            Machine.Check(source: try source(address), standing: standing, login: number, password: UInt64(number))
        }
        var lost = 0
        for number in 0..<1000 {
            let next = try check("10.0.\(number % addresses / 100).\(number % addresses % 100)", number, standing)
            #expect(machine.asked(next) == .begun)
            if let gone = machine.lined(next) {
                #expect(gone.standing == standing)
                lost += 1
            }
        }
        #expect(lost == 900 && machine.waiting == 100 && machine.count == 100)
        for (number, honest) in [Machine.Standing.stranger, .familiar].enumerated() {
            let next = try check("198.51.100.\(number)", 2000 + number, honest)
            #expect(machine.asked(next) == .begun)
            #expect(machine.lined(next)?.standing == standing, "another one goes")
        }
        var served: [Machine.Check] = []
        while let check = machine.next() {
            machine.ended(check)
            served.append(check)
        }
        #expect(served.count == 100 && served.filter { $0.login >= 2000 }.count == 2)
        #expect(machine.waiting == 0 && machine.count == 0)
    }

    @Test mutating func whoIsGoneHasNoPlace() throws {
        let checks = try (0..<3).map { try check("192.0.2.1", $0) }
        for check in checks { line(check) }
        let begun = machine.next()
        #expect(begun == checks[0])
        let left = checks.map { machine.left($0) }
        #expect(left == [false, true, true], "what is being hashed is")
        #expect(machine.count == 1 && machine.waiting == 0)
        machine.ended(checks[0])
        #expect(hash() == nil)
        line(checks[1])
        #expect(hash() == checks[1])
    }

    @Test func threadsAreNotMoreThanThereAre() throws {
        var machine = Machine(threads: 2)
        for number in 1...5 {
            let check = Machine.Check(source: try source("192.0.2.\(number)"), login: 1, password: 1)
            #expect(machine.asked(check) == .begun)
            machine.lined(check)
        }
        let begun = [machine.next(), machine.next(), machine.next()]
        #expect(begun.map { $0 != nil } == [true, true, false])
        machine.ended(try #require(begun[0]))
        #expect(machine.next() != nil)
        #expect(machine.count == 4)
    }
}
