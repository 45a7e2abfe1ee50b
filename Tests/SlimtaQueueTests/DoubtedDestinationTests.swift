// Whose an envelope is where its sender decides where it goes, or where the configuration has changed: found out when it is due,
// before it is attempted, and before another destination's failures are held against it.

import SlimtaMail
import Testing

@testable import SlimtaQueue

@Suite struct DoubtedDestinationTests {
    /// Of each ten the last one is b's.
    private static func owner(_ number: UInt64) -> String { number % 10 == 0 ? "b" : "a" }

    private static let refused = Outcome(.temporary, Reply(451, .init(4, 4, 1), "refused"), isHostFailure: true)

    /// Attempts all that is due until nothing is: "a" is dead. Returns what was attempted of "b", and how often "a" was.
    private static func drive(_ queue: inout QueueMachine, _ numbers: ClosedRange<UInt64>, _ now: Timestamp) -> (
        Set<QueueID>, Int
    ) {
        let owners = Dictionary(uniqueKeysWithValues: numbers.map { (id($0), owner($0)) })
        var (attempted, failed): (Set<QueueID>, Int) = ([], 0)
        while case let taken = queue.takeAll(now), !taken.isEmpty {
            for one in taken {
                let owner = owners[one.id]!
                if queue.moved(one.id, to: owner, now: now) { continue }
                #expect(one.failure == nil || owner == "a", "told of another's failure")
                if owner == "b" {
                    attempted.insert(one.id)
                    _ = queue.done(one.id, now: now)
                } else {
                    failed += 1
                    _ = queue.retry(one.id, at: now + .seconds(60), .unreachable(refused), now: now, to: "a")
                }
            }
        }
        return (attempted, failed)
    }

    @Test func fromTheStart() {
        let numbers: ClosedRange<UInt64> = 1...1000
        var queue = machine(perDestination: 20, [])
        for number in numbers { queue.added(summary(number, to: "a", attempts: 1), isDoubted: true) }
        let (attempted, failed) = Self.drive(&queue, numbers, time(0))
        #expect(attempted == Set(numbers.filter { Self.owner($0) == "b" }.map(id)))
        // And a dead one costs no more than ever.
        #expect(failed <= 20)
        #expect(queue.count == 900 && queue.snapshot(top: 9).destinations.map(\.name) == ["a"])
    }

    /// All went to "a", and now some of it does not.
    @Test func fromAReload() {
        let numbers: ClosedRange<UInt64> = 1...1000
        var queue = machine(perDestination: 20, numbers.map { summary($0, to: "a", attempts: 1) })
        for one in queue.takeAll(time(0)) {
            _ = queue.retry(one.id, at: time(60), .unreachable(Self.refused), now: time(0), to: "a")
        }
        while case let taken = queue.takeAll(time(0)), !taken.isEmpty {
            for one in taken {
                _ = queue.retry(one.id, at: time(60), .unreachable(Self.refused), now: time(0), to: "a")
            }
        }
        #expect(queue.snapshot(top: 1).backedOffCount == 1)
        queue.doubtDestinations()
        queue.forgetBackOffs()
        let (attempted, failed) = Self.drive(&queue, numbers, time(100))
        #expect(attempted == Set(numbers.filter { Self.owner($0) == "b" }.map(id)) && failed <= 20)
        // An operator who asks for what waits there gets all of it.
        let flushed = queue.flush(destination: "a", now: time(101))
        #expect(flushed == 900)
    }

    /// What was under way when the configuration changed is no word on what is left behind.
    @Test func failuresOfBefore() {
        var queue = machine(perDestination: 20, (1...5).map { summary($0, to: "a") })
        let taken = queue.take(time(0))
        queue.doubtDestinations()
        queue.added(summary(6, to: "a"), isDoubted: true)
        for one in taken {
            let change = queue.retry(one, at: time(60), .unreachable(Self.refused), now: time(1), to: "a")
            #expect(change == nil)
        }
        #expect(queue.snapshot(top: 9).backedOffCount == 0)
        #expect(queue.take(time(1)) == [id(6)])
    }

    /// What is where it belongs is not moved.
    @Test func isAtHome() {
        var queue = machine([summary(1, to: "a")])
        #expect(queue.take(time(0)) == [id(1)])
        let isMoved = [
            queue.moved(id(1), to: "a", now: time(0)), queue.moved(id(1), to: "b", now: time(0)),
            queue.moved(id(2), to: "b", now: time(0)),
        ]
        #expect(isMoved == [false, true, false] && queue.inFlight == 0)
        #expect(queue.take(time(0)) == [id(1)] && queue.snapshot(top: 9).destinations.map(\.name) == ["b"])
    }
}
