// The scheduler: due times, limits, turns, priorities.

import SlimtaMail
import Testing

@testable import SlimtaQueue

/// Times of these tests are seconds after this.
let epoch = Timestamp(milliseconds: 1_795_255_200_000)

func time(_ seconds: Int64) -> Timestamp { epoch + .seconds(seconds) }

/// An id of an envelope that was accepted at `epoch`; they sort by their numbers.
func id(_ number: UInt64) -> QueueID { QueueID(high: UInt64(epoch.milliseconds) << 16, low: number) }

func summary(
    _ number: UInt64, due: Int64 = 0, to destination: String = "x.test", held: Bool = false, attempts: UInt32 = 0,
    warned: Bool = false
) -> QueuedSummary {
    QueuedSummary(
        id: id(number), received: time(0), due: time(due), attempts: attempts, isHeld: held, isWarned: warned,
        destination: destination)
}

let longSchedule = RetrySchedule(
    intervals: [.seconds(60), .seconds(300), .seconds(3600)], expire: .seconds(86_400), warn: .seconds(14_400))

func machine(attempts: Int = 100, perDestination: Int = 100, _ summaries: [QueuedSummary]) -> QueueMachine {
    var machine = QueueMachine(
        limits: .init(attempts: attempts, attemptsPerDestination: perDestination), schedule: longSchedule)
    for summary in summaries { machine.added(summary) }
    return machine
}

extension QueueMachine {
    /// All that can be taken now, however many calls that takes.
    mutating func takeAll(_ now: Timestamp) -> [Taken] {
        var all: [Taken] = []
        var calls = 0
        repeat {
            all += takeDue(now: now)
            calls += 1
            precondition(calls < 100_000, "takes nothing, and says that there is something")
        } while nextDue.map { $0 <= now } ?? false
        return all
    }

    /// The ids of what is to be attempted.
    mutating func take(_ now: Timestamp) -> [QueueID] { takeAll(now).filter { $0.failure == nil }.map(\.id) }

    mutating func retry(
        _ id: QueueID, at next: Timestamp, _ report: HostReport = .unknown, now: Timestamp = epoch,
        to destination: String = "x.test"
    ) -> DestinationChange? {
        attempted(id, next: next, destination: destination, isWarned: false, report: report, now: now)
    }

    mutating func done(_ id: QueueID, _ report: HostReport = .answered, now: Timestamp = epoch) -> DestinationChange? {
        ended(id, report: report, now: now)
    }
}

@Suite struct QueueMachineTests {
    @Test func nothingBeforeItIsDue() {
        var queue = machine([summary(1, due: 10), summary(2, due: 5), summary(3, due: 20)])
        #expect(queue.nextDue == time(5))
        #expect(queue.take(time(4)) == [])
        #expect(queue.take(time(10)) == [id(2), id(1)])
        #expect(queue.nextDue == time(20))
        #expect(queue.inFlight == 2)
        #expect(queue.take(time(10)) == [])
    }

    @Test func rescheduledAndRemoved() {
        var queue = machine([summary(1), summary(2)])
        #expect(queue.take(time(0)) == [id(1), id(2)])
        _ = queue.retry(id(1), at: time(60))
        _ = queue.done(id(2))
        #expect(queue.inFlight == 0)
        #expect(queue.count == 1)
        #expect(queue.take(time(59)) == [])
        #expect(queue.take(time(60)) == [id(1)])
        _ = queue.done(id(1))
        #expect(queue.count == 0)
        #expect(queue.nextDue == nil)
    }

    @Test func limits() {
        var queue = machine(
            attempts: 3, perDestination: 2,
            (1...4).map { summary($0) } + (5...8).map { summary($0, to: "y.test") })
        #expect(queue.take(time(0)) == [id(1), id(5), id(2)])
        #expect(queue.nextDue == nil)
        _ = queue.done(id(1))
        // x has one in flight and one free place, y as well; it is y's turn.
        #expect(queue.take(time(0)) == [id(6)])
        _ = queue.done(id(2))
        #expect(queue.take(time(0)) == [id(3)])
    }

    @Test func manyToOneDestinationDoNotDelayOthers() {
        var queue = machine(attempts: 10, perDestination: 4, [])
        for number in 1...100_000 as ClosedRange<UInt64> { queue.added(summary(number, to: "dead.test")) }
        queue.added(summary(2_000_000, to: "well.test"))
        #expect(queue.takeDue(now: time(0)).contains(.init(id(2_000_000))))
        // Also when all places are taken first: one of the next two that become free is the other's.
        var full = machine(attempts: 4, perDestination: 4, (1...1000).map { summary($0, to: "dead.test") })
        let taken = full.take(time(0))
        #expect(taken.count == 4)
        full.added(summary(5000, to: "well.test"))
        _ = full.retry(taken[0], at: time(60), to: "dead.test")
        let next = full.take(time(0))
        #expect(next.count == 1)
        _ = full.retry(taken[1], at: time(60), to: "dead.test")
        #expect((next + full.take(time(0))).contains(id(5000)))
    }

    /// One call takes little, whatever is due; the rest follows.
    @Test func workIsBounded() {
        var queue = machine(attempts: 100_000, perDestination: 100_000, [])
        for number in 0..<20_000 as Range<UInt64> { queue.added(summary(number, to: "d\(number)")) }
        var calls = 0
        var taken: Set<QueueID> = []
        while let next = queue.nextDue, next <= time(0) {
            let some = queue.takeDue(now: time(0))
            #expect(some.count <= 64)
            taken.formUnion(some.map(\.id))
            calls += 1
        }
        #expect(taken.count == 20_000)
        #expect(calls >= 20_000 / 64)
    }

    @Test func newOnesBeforeRetriesButForOneOfFour() {
        var queue = machine(attempts: 1, (1...30).map { summary($0, attempts: 1) })
        for number in 101...130 as ClosedRange<UInt64> { queue.added(summary(number)) }
        var order: [Bool] = []
        while let taken = queue.take(time(0)).first {
            order.append(taken > id(100))
            _ = queue.done(taken)
        }
        #expect(order.count == 60)
        #expect(order.prefix(40).filter { $0 }.count == 30)
        #expect(order.prefix(8) == [true, true, true, false, true, true, true, false])
    }

    @Test func heldIsNeverDue() {
        var queue = machine([summary(1, held: true), summary(2)])
        #expect(queue.take(time(100)) == [id(2)])
        queue.held(id(2))
        #expect(queue.take(time(1000)) == [])
        #expect(queue.count == 2)
        #expect(queue.heldCount == 2)
        #expect(queue.inFlight == 0)
    }

    @Test func aRemovedEntryIsPassedOver() {
        var queue = machine(attempts: 1, [summary(1), summary(2), summary(3)])
        #expect(queue.take(time(0)) == [id(1)])
        _ = queue.done(id(2))
        _ = queue.done(id(1))
        #expect(queue.take(time(0)) == [id(3)])
    }

    @Test func anIdThatComesTwiceIsThereOnce() {
        var queue = machine([summary(1, due: 5), summary(1, due: 3, to: "y.test")])
        #expect(queue.count == 1)
        #expect(queue.take(time(4)) == [])
        #expect(queue.take(time(6)) == [id(1)])
    }

    @Test func destinationsWithoutEnvelopesAreForgotten() {
        var queue = machine(attempts: 1, (1...100).map { summary($0, to: "d\($0)") })
        while let taken = queue.take(time(0)).first { _ = queue.done(taken) }
        _ = queue.take(time(0))
        #expect(queue.snapshot(top: 5).destinationCount == 0)
    }
}

@Suite struct OperatorTests {
    @Test func claimedIsNotTaken() throws {
        var queue = machine([summary(1), summary(2, held: true)])
        #expect(try queue.claim(id(1)) == false)
        #expect(try queue.claim(id(2)) == true)
        #expect(queue.take(time(10)) == [])
        #expect(throws: QueueOperationError.inFlight) { try queue.claim(id(1)) }
        #expect(throws: QueueOperationError.notFound) { try queue.claim(id(3)) }
        queue.unclaimed(id(1), isHeld: false)
        queue.unclaimed(id(2), isHeld: true)
        #expect(queue.take(time(10)) == [id(1)])
        #expect(throws: QueueOperationError.inFlight) { try queue.claim(id(1)) }
        #expect(queue.heldCount == 1)
    }

    @Test func holdAndRelease() throws {
        var queue = machine([summary(1, due: 100)])
        _ = try queue.claim(id(1))
        queue.held(id(1))
        #expect(queue.nextDue == nil)
        #expect(throws: QueueOperationError.held) { try queue.flush(id(1), now: time(1)) }
        _ = try queue.claim(id(1))
        queue.released(id(1), now: time(200))
        #expect(queue.heldCount == 0)
        #expect(queue.take(time(200)) == [id(1)])
    }

    @Test func flushedGoesBeforeRetries() throws {
        var queue = machine(attempts: 1, (1...9).map { summary($0, due: Int64($0), attempts: 3) })
        try queue.flush(id(9), now: time(0))
        #expect(queue.take(time(0)) == [id(9)])
        // In flight: that is all that one can ask for.
        try queue.flush(id(9), now: time(0))
        #expect(throws: QueueOperationError.notFound) { try queue.flush(id(10), now: time(0)) }
    }

    @Test func flushOfADestination() {
        var queue = machine(
            (1...50).map { summary($0, due: Int64(1000 - $0 * 7), attempts: 1) } + [summary(99, due: 5, to: "y.test")])
        #expect(queue.flush(destination: "x.test", now: time(0)) == 50)
        #expect(queue.flush(destination: "nobody.test", now: time(0)) == 0)
        let first = queue.take(time(0))
        #expect(first.count == 5)
        for one in first { _ = queue.done(one) }
        // Nothing is left out, and nothing of others is due.
        #expect(Set(first + queue.take(time(0))) == Set((1...50).map { id($0) }))
    }

    @Test func snapshot() {
        var queue = machine(
            attempts: 2,
            (1...10).map { summary($0, due: 50, to: "a.test") }
                + (11...15).map { summary($0, to: "b.test") } + [summary(16, to: "c.test", held: true)])
        #expect(queue.take(time(0)).count == 2)
        let snapshot = queue.snapshot(top: 2)
        #expect(snapshot.depth == 16)
        #expect(snapshot.inFlight == 2)
        #expect(snapshot.held == 1)
        #expect(snapshot.destinationCount == 3)
        #expect(snapshot.destinations.map(\.name) == ["a.test", "b.test"])
        #expect(snapshot.destinations.map(\.depth) == [10, 5])
        #expect(snapshot.destinations.map(\.inFlight) == [0, 2])
        #expect(snapshot.oldest == epoch)
        // The oldest is what is left, not what was once seen.
        var aged = machine([])
        for second in 0..<3 as Range<Int64> {
            aged.added(
                QueuedSummary(
                    id: QueueID(at: time(second)), received: time(second), due: time(second), attempts: 0,
                    isHeld: false, destination: "x.test"))
        }
        for second in 0..<3 as Range<Int64> {
            #expect(aged.oldest() == time(second))
            let first = aged.take(time(second))[0]
            _ = aged.done(first)
        }
        #expect(aged.oldest() == nil)
    }
}
