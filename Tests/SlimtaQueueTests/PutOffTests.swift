// What is in a part of the storage that is away: it is put off, and nothing else waits for it.

import SlimtaMail
import Testing

@testable import SlimtaQueue

private let refused = Outcome(
    .temporary, Reply(451, .init(4, 4, 1), "connection refused"), relay: "mx.test[192.0.2.1]:25", isHostFailure: true)

@Suite struct PutOffTests {
    /// Odd ones are shut.
    private let isShut: (QueueID) -> Bool = { $0.low % 2 == 1 }

    /// All that can be taken now, in however many calls.
    private func take(_ queue: inout QueueMachine, _ now: Timestamp) -> [QueueID] {
        var taken: [QueueID] = []
        var calls = 0
        repeat {
            taken += queue.takeDue(now: now, except: isShut).map(\.id)
            calls += 1
            precondition(calls < 100_000, "takes nothing, and says that there is something")
        } while queue.nextDue.map { $0 <= now } ?? false
        return taken
    }

    @Test func othersGoOn() {
        var queue = machine(
            attempts: 10_000, perDestination: 10_000,
            (1...2000).map { summary($0, to: $0 % 4 < 2 ? "x.test" : "y.test", attempts: $0 < 1000 ? 0 : 1) })
        var taken: [QueueID] = []
        while true {
            let more = take(&queue, time(0))
            if more.isEmpty { break }
            taken += more
            for one in more { _ = queue.done(one, now: time(0)) }
        }
        #expect(Set(taken) == Set((1...1000).map { id(2 * $0) }) && taken.count == 1000)
        #expect(queue.count == 1000 && queue.inFlight == 0)
        #expect(take(&queue, time(14)) == [])
        // Not all at once.
        #expect(queue.nextDue.map { $0 > time(14) && $0 < time(20) } ?? false)
        #expect(queue.takeAll(time(16)).count == 500)
    }

    /// They are taken when they are not shut any more, each once.
    @Test func whenTheyAreBack() {
        var queue = machine(attempts: 1000, perDestination: 1000, (1...100).map { summary($0) })
        _ = queue.done(take(&queue, time(0))[0], now: time(0))
        _ = take(&queue, time(0))
        let back = Set(queue.take(time(31)))
        #expect(back == Set((1...50).map { id(2 * $0 - 1) }))
    }

    /// A destination that backs off is probed with one that is not shut; nobody is told of a delay that could not be recorded.
    @Test func aDestinationThatDoesNotAnswer() {
        var queue = machine(perDestination: 20, (1...200).map { summary($0) })
        var now = time(0)
        while queue.snapshot(top: 1).backedOffCount == 0 {
            for one in take(&queue, now) {
                _ = queue.retry(one, at: now + .seconds(1000), .unreachable(refused), now: now)
            }
        }
        for _ in 0..<20_000 {
            now = max(now, queue.nextDue ?? now) + .milliseconds(1)
            let taken = queue.takeDue(now: now, except: isShut)
            #expect(taken.allSatisfy { !isShut($0.id) })
            guard let probe = taken.first(where: { $0.failure == nil }) else { continue }
            #expect(queue.done(probe.id, now: now) == .cameBack("x.test"))
            return
        }
        Issue.record("it is never probed")
    }

    /// An outcome that waits takes no place.
    @Test func landed() {
        var queue = machine(attempts: 2, perDestination: 2, (1...4).map { summary($0) })
        let first = queue.take(time(0))
        #expect(first.count == 2 && queue.inFlight == 2 && queue.take(time(0)) == [])
        for one in first { queue.landed(one, now: time(0)) }
        #expect(queue.inFlight == 0)
        let second = queue.take(time(0))
        #expect(second.count == 2 && Set(first).isDisjoint(with: second))
        let isActive = queue.isActive(first[0])
        #expect(isActive)
        _ = queue.retry(first[0], at: time(60), now: time(1))
        _ = queue.done(first[1], now: time(1))
        for one in second { _ = queue.done(one, now: time(1)) }
        #expect(queue.count == 1 && queue.take(time(60)) == [first[0]])
    }
}
