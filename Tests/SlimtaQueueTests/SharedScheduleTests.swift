// What the scheduler shares with those of other nodes: its share of a destination's limit, and who probes one that backs off.

import SlimtaMail
import Testing

@testable import SlimtaQueue

private let refused = Outcome(
    .temporary, Reply(451, .init(4, 4, 1), "connection refused"), relay: "mx.test[192.0.2.1]:25", isHostFailure: true)
private let subject = SiteSubject(stored: "d:x.test")

/// The system's clock is an hour before the queue's.
private func reading(_ seconds: Int64) -> ClockReading {
    ClockReading(wall: time(seconds + 3600), now: time(seconds))
}

private func failure(tried seconds: Int64) -> SiteFailure { SiteFailure(refused, tried: time(seconds + 3600)) }

private func limits(_ share: Int = 10, _ backOff: SiteAdvice.BackOff? = nil, nodes: Int = 2) -> SharedLimits {
    SharedLimits(
        nodes: nodes, advice: [subject: SiteAdvice(share: share, part: 0.5, backOff: backOff)], hold: .seconds(15))
}

/// Begins and ends an attempt that is answered: then nothing but the limit counts.
private func proven(_ count: UInt64, perDestination: Int = 20) -> QueueMachine {
    var queue = machine(perDestination: perDestination, [summary(1)])
    let first = queue.take(time(0))
    for number in 2...count + 1 { queue.added(summary(number)) }
    for one in first { _ = queue.done(one) }
    return queue
}

/// One that found out that nobody answers, with as much mail.
private func backingOff(_ count: UInt64) -> QueueMachine {
    var queue = machine(perDestination: 20, (1...count).map { summary($0) })
    while queue.snapshot(top: 1).backedOffCount == 0 {
        for one in queue.take(time(0)) { _ = queue.retry(one, at: time(600), .unreachable(refused), now: time(0)) }
    }
    return queue
}

@Suite struct SharedScheduleTests {
    @Test func sharesOfALimit() {
        var queue = proven(100)
        _ = queue.advised(SharedLimits(nodes: 3), reading(0))
        #expect(queue.take(time(0)).count == 6, "evenly, where nobody has said anything")
        let reports = queue.siteReports(reading(0))
        #expect(reports == [SiteDemand(subject, limit: 20, wanted: 20, used: 6, isLimited: true)])
        _ = queue.advised(limits(15, nodes: 3), reading(3))
        #expect(queue.take(time(3)).count == 9, "at once, when there is more")
        _ = queue.advised(limits(1, nodes: 3), reading(6))
        #expect(queue.take(time(6)) == [], "what was begun goes on, and nothing more begins")
        #expect(queue.siteReports(reading(6)).first?.used == 15)
        _ = queue.advised(.alone, reading(9))
        #expect(queue.take(time(9)).count == 5, "alone it has all")
        #expect(queue.siteReports(reading(9)) == [])
    }

    @Test func nothingIsToldOfWhatIsNotLimited() {
        var queue = proven(6)
        _ = queue.advised(SharedLimits(nodes: 2), reading(0))
        #expect(queue.take(time(0)).count == 6)
        #expect(queue.siteReports(reading(0)) == [])
        // It has as many as it may have, and wants no more.
        for number: UInt64 in 10..<14 { queue.added(summary(number)) }
        #expect(queue.take(time(0)).count == 4)
        #expect(queue.siteReports(reading(0)).allSatisfy { !$0.isLimited && $0.wanted == 10 })
        #expect(queue.siteReports(reading(0)) == [])
    }

    @Test func whatIsNotDueIsNotWanted() {
        var queue = proven(12)
        for number: UInt64 in 100..<2000 { queue.added(summary(number, due: 1000)) }
        _ = queue.advised(SharedLimits(nodes: 2), reading(0))
        #expect(queue.take(time(0)).count == 10)
        #expect(queue.siteReports(reading(0)).first?.wanted == 12)
        #expect(queue.siteReports(reading(1000)).first?.wanted == 20)
    }

    @Test func whoFindsOutGoesOn() {
        var queue = backingOff(50)
        _ = queue.advised(limits(10, .probe), reading(1))
        #expect(queue.siteReports(reading(1)).first?.health == .backsOff(failure(tried: 0)))
        let until = queue.snapshot(top: 1).destinations[0].backOff?.until ?? time(0)
        let probe = queue.take(until)
        #expect(probe.count == 1)
        guard case .cameBack = queue.done(probe[0], now: until) else {
            Issue.record("it does not come back")
            return
        }
        for _ in 0..<3 {
            #expect(queue.siteReports(reading(100)).contains { $0.subject == subject && $0.health == .answers })
        }
        #expect(!queue.siteReports(reading(100)).contains { $0.health == .answers }, "that is enough")
    }

    @Test func othersLeaveItAlone() {
        var queue = machine(perDestination: 20, (1...50).map { summary($0) })
        let flying = queue.take(time(0))
        let changes = queue.advised(limits(10, .leaveAlone(failure(tried: -60))), reading(1))
        #expect(changes == [.backedOff("x.test", until: time(16), reason: refused)])
        for one in flying { _ = queue.retry(one, at: time(2), .unreachable(refused), now: time(1)) }
        for second in 2..<100 as Range<Int64> {
            #expect(queue.advised(limits(10, .leaveAlone(failure(tried: -60))), reading(second)) == [])
            #expect(queue.take(time(second)) == [], "nothing is attempted")
        }
        #expect(queue.siteReports(reading(100)).first?.health == .follows(failure(tried: -60)))
        #expect(queue.advised(limits(10, .answers), reading(100)) == [.cameBack("x.test")])
        #expect(queue.take(time(100)).count > 0, "all is due at once")
        #expect(queue.advised(limits(10, nil), reading(101)) == [])
    }

    @Test func nothingIsLeftAloneForEver() {
        // Nothing more is heard: then it is probed when the last word has been long enough ago.
        var queue = machine(perDestination: 20, (1...50).map { summary($0) })
        _ = queue.advised(limits(10, .leaveAlone(failure(tried: 0))), reading(1))
        #expect(queue.take(time(15)) == [])
        #expect(queue.nextDue.map { $0 <= time(16) } ?? false)
        #expect(queue.take(time(16)).count == 1)
        // Who has found out is gone: at once, and one.
        for advice in [limits(10, .probe), limits(10, nil), SharedLimits(nodes: 2), .alone] {
            var queue = machine(perDestination: 20, (1...50).map { summary($0) })
            _ = queue.advised(limits(10, .leaveAlone(failure(tried: 0))), reading(1))
            #expect(queue.take(time(2)) == [])
            _ = queue.advised(advice, reading(3))
            #expect(queue.take(time(3)).count == 1)
            let reports = queue.siteReports(reading(3))
            #expect(advice.isAlone || reports.first?.health == .backsOff(failure(tried: 0)))
        }
    }

    @Test func mailThatComesLaterIsParkedAsWell() {
        var queue = machine(perDestination: 20, [])
        _ = queue.advised(limits(10, .leaveAlone(failure(tried: 0))), reading(1))
        queue.added(summary(1), acceptedAt: time(2))
        #expect(queue.take(time(2)) == [])
        #expect(queue.siteReports(reading(3)).count == 1)
    }

    /// Whose time is over, the sender is told of behind one more attempt, though another node finds out.
    @Test func theEndComesAllTheSame() {
        var queue = machine(perDestination: 20, [summary(1, warned: true), summary(2, warned: true)])
        let advice = limits(10, .leaveAlone(failure(tried: 10)))
        _ = queue.advised(advice, reading(1))
        #expect(queue.takeAll(time(1)) == [])
        let end: Int64 = 86_400
        _ = queue.advised(advice, reading(end - 1))
        #expect(queue.takeAll(time(end - 1)) == [])
        _ = queue.advised(advice, reading(end))
        let last = queue.takeAll(time(end))
        #expect(last.count == 1 && last[0].failure == nil)
        _ = queue.ended(last[0].id, report: .unreachable(refused), now: time(end + 1))
        _ = queue.advised(advice, reading(end + 2))
        // That attempt began when the other one's time was over as well.
        #expect(queue.takeAll(time(end + 2)).map(\.failure) == [refused])
    }
}
