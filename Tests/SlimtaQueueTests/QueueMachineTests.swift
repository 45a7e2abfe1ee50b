// The scheduler: due times, limits, turns.

import SlimtaMail
import Testing

@testable import SlimtaQueue

private func time(_ seconds: Int64) -> Timestamp { Timestamp(milliseconds: seconds * 1000) }

private func id(_ number: UInt64) -> QueueID { QueueID(high: 0, low: number) }

private func summary(_ number: UInt64, due: Int64 = 0, to destination: String = "x.test", held: Bool = false)
    -> QueuedSummary
{
    QueuedSummary(
        id: id(number), received: time(0), due: time(due), attempts: 0, isHeld: held, destination: destination)
}

private func machine(attempts: Int = 100, perDestination: Int = 100, _ summaries: [QueuedSummary]) -> QueueMachine {
    var machine = QueueMachine(limits: .init(attempts: attempts, attemptsPerDestination: perDestination))
    for summary in summaries { machine.added(summary) }
    return machine
}

@Suite struct QueueMachineTests {
    @Test func nothingBeforeItIsDue() {
        var queue = machine([summary(1, due: 10), summary(2, due: 5), summary(3, due: 20)])
        #expect(queue.nextDue == time(5))
        #expect(queue.takeDue(now: time(4)) == [])
        #expect(queue.takeDue(now: time(10)) == [id(2), id(1)])
        #expect(queue.nextDue == time(20))
        #expect(queue.inFlight == 2)
        #expect(queue.takeDue(now: time(10)) == [])
    }

    @Test func rescheduledAndRemoved() {
        var queue = machine([summary(1), summary(2)])
        #expect(queue.takeDue(now: time(0)) == [id(1), id(2)])
        queue.attempted(id(1), next: time(60), destination: "x.test")
        queue.removed(id(2))
        #expect(queue.inFlight == 0)
        #expect(queue.count == 1)
        #expect(queue.takeDue(now: time(59)) == [])
        #expect(queue.takeDue(now: time(60)) == [id(1)])
        queue.removed(id(1))
        #expect(queue.count == 0)
        #expect(queue.nextDue == nil)
    }

    @Test func limits() {
        var queue = machine(
            attempts: 3, perDestination: 2,
            (1...4).map { summary($0) } + (5...8).map { summary($0, to: "y.test") })
        let first = queue.takeDue(now: time(0))
        #expect(first == [id(1), id(5), id(2)])
        #expect(queue.takeDue(now: time(0)) == [])
        queue.removed(id(1))
        // x has one in flight and one free place, y as well; it is y's turn.
        #expect(queue.takeDue(now: time(0)) == [id(6)])
        queue.removed(id(2))
        #expect(queue.takeDue(now: time(0)) == [id(3)])
    }

    @Test func aBusyDestinationDoesNotDelayOthers() {
        var queue = machine(
            attempts: 10, perDestination: 4,
            (1...10_000).map { summary($0, to: "dead.test") } + [summary(20_000, to: "well.test")])
        #expect(queue.takeDue(now: time(0)).contains(id(20_000)))
        // Also when all places are taken first: one place that becomes free is the other's within a turn.
        var full = machine(attempts: 4, perDestination: 4, (1...1000).map { summary($0, to: "dead.test") })
        let taken = full.takeDue(now: time(0))
        #expect(taken.count == 4)
        full.added(summary(5000, to: "well.test"))
        full.attempted(taken[0], next: time(60), destination: "dead.test")
        let next = full.takeDue(now: time(0))
        #expect(next.count == 1)
        full.attempted(taken[1], next: time(60), destination: "dead.test")
        #expect((next + full.takeDue(now: time(0))).contains(id(5000)))
    }

    @Test func heldIsNeverDue() {
        var queue = machine([summary(1, held: true), summary(2)])
        #expect(queue.takeDue(now: time(100)) == [id(2)])
        queue.held(id(2))
        #expect(queue.takeDue(now: time(1000)) == [])
        #expect(queue.count == 2)
        #expect(queue.inFlight == 0)
    }

    @Test func aRemovedEntryInLineIsPassedOver() {
        var queue = machine(attempts: 1, [summary(1), summary(2), summary(3)])
        #expect(queue.takeDue(now: time(0)) == [id(1)])
        queue.removed(id(2))
        queue.removed(id(1))
        #expect(queue.takeDue(now: time(0)) == [id(3)])
    }

    /// Random events against a plain model: limits hold, nothing is lost, nothing begins twice or early.
    @Test(arguments: [1, 2, 3, 4, 5] as [UInt64])
    func model(seed: UInt64) {
        var random = Generator(state: seed)
        var queue = machine(attempts: 7, perDestination: 3, [])
        var waiting: [QueueID: Timestamp] = [:]
        var inFlight: [QueueID: String] = [:]
        var destination: [QueueID: String] = [:]
        var now: Int64 = 0
        for step in 1...3000 {
            switch random.next() % 4 {
            case 0:
                let name = "d\(random.next() % 5)"
                let due = now + Int64(random.next() % 20)
                queue.added(summary(UInt64(step), due: due, to: name))
                waiting[id(UInt64(step))] = time(due)
                destination[id(UInt64(step))] = name
            case 1:
                now += Int64(random.next() % 5)
                for taken in queue.takeDue(now: time(now)) {
                    #expect(waiting.removeValue(forKey: taken).map { $0 <= time(now) } == true)
                    inFlight[taken] = destination[taken]
                }
                #expect(inFlight.count <= 7)
                #expect(Dictionary(grouping: inFlight.values) { $0 }.values.allSatisfy { $0.count <= 3 })
            case 2:
                guard let some = inFlight.keys.sorted().first else { continue }
                inFlight[some] = nil
                if random.next() % 2 == 0 {
                    queue.removed(some)
                } else {
                    let next = now + Int64(random.next() % 30)
                    queue.attempted(some, next: time(next), destination: destination[some]!)
                    waiting[some] = time(next)
                }
            default:
                guard random.next() % 5 == 0, let some = waiting.keys.sorted().last else { continue }
                queue.removed(some)
                waiting[some] = nil
            }
            #expect(queue.count == waiting.count + inFlight.count)
            #expect(queue.inFlight == inFlight.count)
        }
        // Everything that is left comes out in the end.
        now += 1000
        while !waiting.isEmpty || !inFlight.isEmpty {
            for taken in queue.takeDue(now: time(now)) {
                inFlight[taken] = waiting.removeValue(forKey: taken).map { _ in "" }
            }
            guard let some = inFlight.keys.first else {
                Issue.record("\(waiting.count) entries never come out")
                return
            }
            inFlight[some] = nil
            queue.removed(some)
        }
        #expect(queue.count == 0)
    }
}

/// SplitMix64: the same numbers for the same seed.
struct Generator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}
