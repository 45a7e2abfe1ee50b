// Guesses, for GuessMachineTests.

import SlimtaMail
import Testing

@testable import SlimtaEdge

/// A machine and a clock that only tests move.
struct WatchedGuesses {
    var machine: GuessMachine
    var now = ContinuousClock.now
    private var number: UInt64 = 0
    private var tickets: [(GuessMachine.Ticket, GuessMachine.Guess)] = []

    init(_ change: (inout GuessMachine.Limits) -> Void = { _ in }) {
        var limits = GuessMachine.Limits()
        change(&limits)
        machine = GuessMachine(limits)
    }

    /// A try with a password and on a connection that there were not before.
    mutating func guess(_ address: String?, _ login: String? = "alice") throws -> GuessMachine.Guess {
        number += 1
        return GuessMachine.Guess(
            address: try address.map { try #require(IPAddress($0)) }, session: "s\(number)", login: login,
            digest: number)
    }

    /// Asks; the ticket of what is admitted is kept for `end`.
    mutating func ask(_ guess: GuessMachine.Guess) -> Duration? {
        guard case .admitted(let ticket) = machine.asked(guess, now) else { return nil }
        tickets.append((ticket, guess))
        return ticket.start - now
    }

    /// Ends what was admitted last, when its time has come.
    @discardableResult
    mutating func end(_ result: GuessMachine.Result = .wrong) -> GuessMachine.Failure? {
        guard let (ticket, guess) = tickets.popLast() else { return nil }
        now = max(now, ticket.start)
        return machine.ended(ticket, guess, result, now)
    }

    /// The client of what was admitted last goes away at once.
    mutating func leave() {
        guard let (ticket, guess) = tickets.popLast() else { return }
        _ = machine.ended(ticket, guess, .neither, now)
    }

    /// Asks and ends; how long it waited, nil: it was not admitted.
    mutating func attempt(_ guess: GuessMachine.Guess, _ result: GuessMachine.Result = .wrong) -> Duration? {
        let wait = ask(guess)
        if wait != nil { end(result) }
        return wait
    }

    mutating func fail(_ address: String?, _ count: Int, _ login: String? = "alice") throws -> [Duration?] {
        try (0..<count).map { _ in attempt(try guess(address, login)) }
    }

    /// Different logins fail from there, until it is turned away; how many it were.
    mutating func failUntilTurnedAway(_ address: String) throws -> Int {
        for count in 1...200 {
            let next = try guess(address, "login \(count)")
            guard ask(next) != nil else { return count - 1 }
            if end()?.banned != nil { return count }
        }
        return .max
    }
}
