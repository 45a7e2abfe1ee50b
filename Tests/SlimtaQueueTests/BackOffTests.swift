// Destinations that do not answer: how many attempts they cost, when they are probed, how they come back, and what
// becomes of what waits for them.

import SlimtaMail
import Testing

@testable import SlimtaQueue

private let refused = Outcome(
    .temporary, Reply(451, .init(4, 4, 1), "connection refused"), relay: "mx.test[192.0.2.1]:25", isHostFailure: true)

/// Attempts that all fail at once, until nothing more is due; how many there were.
private func failAll(_ queue: inout QueueMachine, _ now: Timestamp, retry: Int64 = 300) -> Int {
    var attempts = 0
    while true {
        let taken = queue.take(now)
        if taken.isEmpty { return attempts }
        for one in taken {
            attempts += 1
            _ = queue.retry(one, at: now + .seconds(retry), .unreachable(refused), now: now)
        }
    }
}

@Suite struct BackOffTests {
    /// A million that are due to a dead destination are parked little by little: whoever accepts mail meanwhile waits for
    /// each call, and for all of them together if they take too much of a core.
    @Test func parkingIsSpreadOverTime() {
        let many = 10_000
        var queue = machine(attempts: 10, perDestination: 10, (1...UInt64(many)).map { summary($0) })
        // Until it backs off.
        while queue.snapshot(top: 1).backedOffCount == 0 {
            for one in queue.takeDue(now: time(0)) {
                _ = queue.retry(one.id, at: time(100_000), .unreachable(refused), now: time(0))
            }
        }
        let number = queue.destinations.numbers(of: "x.test")[0]
        var (now, calls, next) = (time(0), 0, Timestamp?.none)
        while queue.destinations[number].parked.count < many - 100, calls < many {
            let before = queue.destinations[number].parked.count
            _ = queue.takeDue(now: now)
            _ = queue.takeDue(now: now)
            #expect(queue.destinations[number].parked.count - before <= 128)
            next = queue.nextDue
            #expect(next.map { $0 <= now + .milliseconds(20) } ?? false)
            (now, calls) = (max(next ?? now, now), calls + 1)
        }
        #expect(calls >= many / 128 - 2 && calls < many / 100)
        #expect(now >= time(1) && now <= time(2))
    }

    /// Its site takes no more for a while: nothing goes there before, and nothing else waits for that.
    @Test func aPause() {
        var queue = machine(perDestination: 20, (1...100).map { summary($0) })
        let taken = queue.take(time(0))
        #expect(taken.count == 5)
        _ = queue.done(taken[0])
        #expect(queue.retry(taken[1], at: time(30), .paced(.seconds(30)), now: time(0)) == nil)
        #expect(queue.take(time(1)) == [])
        #expect(queue.nextDue == time(30))
        #expect(queue.snapshot(top: 1).backedOffCount == 0)
        queue.added(summary(200, to: "y.test"))
        #expect(queue.take(time(2)) == [id(200)])
        // A shorter one does not end it; an operator does.
        _ = queue.retry(taken[2], at: time(5), .paced(.seconds(3)), now: time(2))
        #expect(queue.take(time(6)) == [])
        _ = queue.flush(destination: "x.test", now: time(6))
        #expect(queue.take(time(6)).count > 0)
    }

    /// That all hosts are left alone is known, and is no probe in vain.
    @Test func hostsThatAreLeftAlone() {
        var alone = refused
        alone.postponed = .seconds(40)
        var queue = machine(perDestination: 20, (1...100).map { summary($0) })
        let taken = queue.take(time(0))
        _ = queue.retry(taken[0], at: time(40), .unreachable(alone), now: time(0))
        #expect(queue.snapshot(top: 1).destinations[0].backOff?.until == time(40))
        for one in taken.dropFirst() { _ = queue.retry(one, at: time(40), .unreachable(alone), now: time(0)) }
        let probe = queue.take(time(40))
        #expect(probe.count == 1)
        _ = queue.retry(probe[0], at: time(100), .unreachable(alone), now: time(41))
        let backOff = queue.snapshot(top: 1).destinations[0].backOff
        #expect(backOff?.until == time(81) && backOff?.probes == 0)
    }

    @Test func aDeadDestinationCostsFiveAttempts() {
        var queue = machine(perDestination: 20, (1...10_000).map { summary($0) })
        #expect(failAll(&queue, time(0)) == 5)
        let snapshot = queue.snapshot(top: 1)
        #expect(snapshot.backedOffCount == 1)
        #expect(snapshot.destinations[0].backOff?.until == time(60))
        #expect(snapshot.destinations[0].backOff?.reason == refused)
    }

    @Test func oneProbeAtATimeAtGrowingIntervals() {
        var queue = machine(perDestination: 20, (1...10_000).map { summary($0) })
        _ = failAll(&queue, time(0), retry: 100_000)
        var probes: [Int64] = []
        for second in 1...4000 as ClosedRange<Int64> {
            let taken = queue.take(time(second))
            if taken.isEmpty { continue }
            #expect(taken.count == 1)
            #expect(queue.take(time(second)) == [])
            let change = queue.retry(taken[0], at: time(100_000), .unreachable(refused), now: time(second))
            guard case .backedOff("x.test", _, refused) = change else {
                Issue.record("no change after a probe in vain")
                return
            }
            probes.append(second)
        }
        #expect(probes == [60, 180, 420, 900, 1800, 2700, 3600])
    }

    @Test func comesBackWithAllThatWaits() {
        var queue = machine(attempts: 1000, perDestination: 20, (1...500).map { summary($0) })
        _ = failAll(&queue, time(0), retry: 100_000)
        _ = queue.take(time(59))
        let probe = queue.take(time(60))
        #expect(probe.count == 1)
        #expect(queue.done(probe[0], now: time(61)) == .cameBack("x.test"))
        // At our own limit, and then all.
        let first = queue.take(time(61))
        #expect(first.count == 20)
        var count = 1
        var taken = first
        while !taken.isEmpty {
            for one in taken { _ = queue.done(one, now: time(61)) }
            count += taken.count
            taken = queue.take(time(61))
        }
        // Those that were attempted have their own time.
        #expect(count == 495)
        #expect(queue.nextDue == time(100_000))
    }

    @Test func oneBadHostOutOfSeveralIsNoReason() {
        var queue = machine(attempts: 1000, perDestination: 20, (1...2000).map { summary($0) })
        var taken = queue.take(time(0))
        for one in taken { _ = queue.done(one) }
        var number = 0
        while true {
            taken = queue.take(time(0))
            if taken.isEmpty { break }
            for one in taken {
                number += 1
                if number % 3 == 0 {
                    _ = queue.retry(one, at: time(100_000), .unreachable(refused))
                } else {
                    _ = queue.done(one)
                }
            }
        }
        #expect(number == 1995)
        #expect(queue.snapshot(top: 1).backedOffCount == 0)
    }

    @Test func refusedRecipientsAreNoReason() {
        var queue = machine(perDestination: 20, (1...2000).map { summary($0) })
        var count = 0
        while true {
            let taken = queue.take(time(0))
            if taken.isEmpty { break }
            count += taken.count
            for one in taken { _ = queue.retry(one, at: time(300), .answered) }
        }
        #expect(count == 2000)
    }

    @Test func deadDestinationsHaveHalfOfThePlaces() {
        var queue = machine(attempts: 10, perDestination: 5, [])
        for number in 0..<1000 as Range<UInt64> { queue.added(summary(number, to: "dead\(number % 100)")) }
        while true {
            let taken = queue.take(time(0))
            if taken.isEmpty { break }
            for one in taken {
                let name = "dead\(one.low % 100)"
                _ = queue.retry(one, at: time(80_000), .unreachable(refused), now: time(0), to: name)
            }
        }
        #expect(queue.snapshot(top: 0).backedOffCount == 100)
        // All may be probed; none ends. New mail for those that answer has its places.
        var probing = queue.take(time(60))
        #expect(probing.count == 5)
        for number in 2000..<2020 as Range<UInt64> { queue.added(summary(number, due: 60, to: "well.test")) }
        // One until it has answered.
        let other = queue.take(time(60))
        #expect(other.count == 1)
        for one in other { _ = queue.done(one, now: time(60)) }
        let others = queue.take(time(60))
        #expect(others.count == 4)
        #expect((other + others).allSatisfy { $0 >= id(2000) })
        for one in others { _ = queue.done(one, now: time(61)) }
        // And every dead one is probed in its turn.
        var probed: Set<UInt64> = []
        for second in 61..<400 as Range<Int64> {
            for one in queue.take(time(second)) {
                if one < id(2000) { probing.append(one) } else { _ = queue.done(one, now: time(second)) }
            }
            #expect(probing.count <= 5)
            // The first are not yet to be probed again.
            guard !probing.isEmpty else { continue }
            let one = probing.removeFirst()
            probed.insert(one.low % 100)
            _ = queue.retry(
                one, at: time(80_000), .unreachable(refused), now: time(second), to: "dead\(one.low % 100)")
        }
        #expect(probed.count == 100)
    }

    @Test func sendersAreToldThoughNothingIsAttempted() {
        var queue = machine(perDestination: 20, (1...300).map { summary($0) })
        #expect(failAll(&queue, time(0), retry: 1_000_000) == 5)
        // Every probe ends without a word, so that none of the others is attempted.
        var told: Set<QueueID> = []
        for second in stride(from: Int64(10), through: 15_000, by: 10) {
            for taken in queue.takeAll(time(second)) {
                if let failure = taken.failure {
                    #expect(failure == refused)
                    #expect(second >= 14_400)
                    told.insert(taken.id)
                    _ = queue.attempted(
                        taken.id, next: time(second + 60), destination: "x.test", isWarned: true, report: .unknown,
                        now: time(second))
                } else {
                    told.remove(taken.id)
                    _ = queue.retry(taken.id, at: time(1_000_000), .unreachable(refused), now: time(second))
                }
            }
        }
        #expect(told.count > 250)
        // Next time at the end.
        var ended = 0
        for second in stride(from: Int64(15_010), through: 87_000, by: 10) {
            for taken in queue.takeAll(time(second)) {
                if taken.failure != nil {
                    #expect(second >= 86_400)
                    ended += 1
                    _ = queue.ended(taken.id, now: time(second))
                } else {
                    told.remove(taken.id)
                    _ = queue.retry(taken.id, at: time(1_000_000), .unreachable(refused), now: time(second))
                }
            }
        }
        #expect(ended == told.count)
        #expect(ended > 100)
    }

    /// The machine was suspended for six days: the end is over for all that is parked, and nobody has tried since.
    @Test(arguments: [true, false]) func beforeTheEndThereIsAProbe(answers: Bool) {
        var queue = machine(perDestination: 20, (1...300).map { summary($0, warned: true) })
        while queue.snapshot(top: 1).backedOffCount == 0 {
            for one in queue.takeDue(now: time(0)) { _ = fail(&queue, one.id, 0) }
        }
        #expect(queue.take(time(30)) == [])
        let awake: Int64 = 6 * 86_400
        let first = queue.takeAll(time(awake))
        #expect(first.count == 1 && first[0].failure == nil)
        #expect(queue.takeAll(time(awake + 1)) == [])
        if answers {
            #expect(queue.done(first[0].id, now: time(awake + 1)) == .cameBack("x.test"))
            #expect(queue.take(time(awake + 1)).count == 20)
            return
        }
        _ = queue.done(first[0].id, .unreachable(refused), now: time(awake + 9))
        var ended = 0
        while case let taken = queue.takeAll(time(awake + 10)), !taken.isEmpty {
            #expect(taken.allSatisfy { $0.failure == refused && $0.tried == time(awake) })
            for one in taken { _ = queue.done(one.id, .unknown, now: time(awake + 10)) }
            ended += taken.count
        }
        #expect(ended == 299)
    }

    /// An attempt in vain, of what nobody is to be told of but the end.
    private func fail(_ queue: inout QueueMachine, _ id: QueueID, _ second: Int64) -> DestinationChange? {
        queue.attempted(
            id, next: time(second + 100), destination: "x.test", isWarned: true, report: .unreachable(refused),
            now: time(second))
    }

    /// What is accepted after the clock was set has its end as much later as what was accepted before.
    @Test(arguments: [-7200, 6 * 86_400, -4 * 365 * 86_400] as [Int64]) func acceptedByAClockThatWasSet(jump: Int64) {
        func accepted(_ number: UInt64, at second: Int64, _ jump: Int64) -> QueuedSummary {
            QueuedSummary(
                id: QueueID(high: UInt64(time(second + jump).milliseconds) << 16, low: number),
                received: time(second + jump), due: time(second), attempts: 0, isHeld: false, destination: "x.test")
        }
        var queue = machine([])
        let before = (1...100).map { accepted($0, at: 0, 0) }
        let behind = (101...200).map { accepted($0, at: 100, jump) }
        for one in before { queue.added(one, acceptedAt: time(0)) }
        for one in behind { queue.added(one, acceptedAt: time(101)) }
        for one in before { #expect(queue.accepted(one.id) == time(0)) }
        for one in behind { #expect(queue.accepted(one.id).map { ($0 - time(100)).milliseconds / 1000 } == 1) }
        // Parked, they are told of the delay in their order, and when it is time.
        _ = failAll(&queue, time(101), retry: 1_000_000)
        var told: [Int64: Int] = [:]
        for second in stride(from: Int64(102), through: 15_000, by: 1) {
            for taken in queue.takeAll(time(second)) {
                if taken.failure == nil {
                    _ = queue.retry(taken.id, at: time(1_000_000), .unreachable(refused), now: time(second))
                } else {
                    told[second, default: 0] += 1
                    _ = queue.done(taken.id, .unknown, now: time(second))
                }
            }
        }
        #expect(Set(told.keys).isSubset(of: [14_400, 14_501]) && told.count == 2)
    }

    @Test func flushAndReconfigurationForgetIt() throws {
        var queue = machine(perDestination: 20, (1...100).map { summary($0) })
        _ = failAll(&queue, time(0))
        #expect(queue.take(time(1)) == [])
        try queue.flush(id(77), now: time(1))
        let taken = queue.take(time(1))
        #expect(taken.first == id(77))
        #expect(taken.count == 5)
        for one in taken { _ = queue.retry(one, at: time(300), .unreachable(refused), now: time(1)) }
        #expect(queue.take(time(2)) == [])
        #expect(queue.flush(destination: "x.test", now: time(2)) == 100)
        #expect(failAll(&queue, time(2)) == 5)
        queue.forgetBackOffs()
        #expect(failAll(&queue, time(3)) == 5)
    }

    @Test func reports() {
        let ok = Outcome(.delivered, Reply(250, .init(2, 0, 0), "ok"), isRemote: true)
        let ours = Outcome(.temporary, Reply(451, .init(4, 3, 0), "cannot be read"))
        let later = Outcome(.temporary, Reply(450, .init(4, 2, 0), "later"), isRemote: true)
        #expect(HostReport([refused, refused], of: ["x", "x"]) == .unreachable(refused))
        #expect(HostReport([refused, later], of: ["x", "x"]) == .answered)
        #expect(HostReport([refused, ok], of: ["x", "y"]) == .unreachable(refused))
        #expect(HostReport([ours, ok], of: ["x", "y"]) == .unknown)
        #expect(HostReport([ok], of: ["x"]) == .answered)
    }

    @Test func intervals() {
        func intervals(_ retry: [Int]) -> [Int64] {
            let schedule = RetrySchedule(intervals: retry.map { .seconds($0) }, expire: .seconds(9999), warn: nil)
            return (0...7).map { schedule.probeInterval(after: $0).milliseconds / 1000 }
        }
        #expect(intervals([60, 300, 900, 1800]) == [60, 120, 240, 480, 900, 900, 900, 900])
        #expect(intervals([1]) == [1, 1, 1, 1, 1, 1, 1, 1])
        #expect(intervals([3600]) == [60, 120, 240, 480, 900, 900, 900, 900])
        #expect(intervals([30, 100]) == [30, 60, 100, 100, 100, 100, 100, 100])
    }
}
