// The rate of a site: what it is learned from, what it is not, when it ends; and the slots that it gives.

import SlimtaMail
import Testing

@testable import SlimtaRelay

@Suite struct SiteRateTests {
    private static let start = Timestamp(milliseconds: 1_800_000_000_000)

    private func time(_ seconds: Double) -> Timestamp { Self.start + .seconds(seconds) }

    private func isAbout(_ value: Double?, _ expected: Double) -> Bool {
        value.map { abs($0 - expected) < 0.001 * expected } ?? false
    }

    /// One that has taken a hundred in the minute up to second 60, and then refuses.
    private func refused() -> SiteRate {
        var rate = SiteRate(at: Self.start)
        for number in 0..<100 { rate.accepted(at: time(Double(number) * 0.6)) }
        _ = rate.refused(at: time(60))
        #expect(isAbout(rate.perSecond, 0.8 * 100 / 60))
        return rate
    }

    /// An outage of minutes is no reason to send one message a minute for an hour.
    @Test func pausesAreNoMeasure() {
        var rate = refused()
        for (now, end) in [(90, 150), (150, 270), (270, 510)] as [(Double, Double)] {
            #expect(rate.refused(at: time(now)) && rate.pausedUntil == time(end))
            // No more than once: it may have been too high.
            #expect(isAbout(rate.perSecond, 0.8 * 0.64 * 100 / 60))
        }
        // One is taken, and the next refused: within the minute in which we paused.
        rate.accepted(at: time(510))
        #expect(rate.refused(at: time(511)) && rate.pausedUntil == time(541))
        #expect(isAbout(rate.perSecond, 0.8 * 0.64 * 1.1 * 0.64 * 100 / 60))
        // What was taken in a whole minute is one again.
        for number in 0..<24 { rate.accepted(at: time(604 + 2 * Double(number))) }
        #expect(rate.refused(at: time(663)) && isAbout(rate.perSecond, 0.32))
    }

    /// What is known from before is no less because nothing was sent since.
    @Test func theBeginIsNoMeasure() {
        var rate = SiteRate(at: Self.start)
        rate.set(10, at: Self.start)
        rate.accepted(at: time(1))
        #expect(rate.refused(at: time(6)) && isAbout(rate.perSecond, 6.4))
    }

    /// Nor is a minute in which little was sent.
    @Test func quietIsNoMeasure() {
        var rate = SiteRate(at: Self.start)
        rate.set(1, at: Self.start)
        for number in 0..<5 { rate.accepted(at: time(600 + Double(number))) }
        #expect(rate.refused(at: time(610)) && isAbout(rate.perSecond, 0.8 * 1.1))
        // Where nothing is known it is only left alone.
        var unknown = SiteRate(at: Self.start)
        unknown.accepted(at: time(600))
        #expect(unknown.refused(at: time(610)) && unknown.perSecond == nil && unknown.pausedUntil == time(640))
    }

    /// What was sent before the pause is refused in it: that is not the message behind it.
    @Test func refusalsInAPause() {
        var rate = refused()
        for second in [61.0, 70, 89] {
            let isNews = rate.refused(at: time(second)) || rate.pause(at: time(second))
            #expect(!isNews)
        }
        #expect(rate.pausedUntil == time(90))
    }

    /// Growth is no refusal: one that follows at once counts.
    @Test func refusedBehindGrowth() {
        var rate = SiteRate(at: Self.start)
        rate.set(1, at: Self.start)
        for second in 1...120 { rate.accepted(at: time(Double(second))) }
        #expect(isAbout(rate.perSecond, 1.1))
        rate.accepted(at: time(125))
        #expect(isAbout(rate.perSecond, 1.21))
        #expect(rate.refused(at: time(126)) && rate.pausedUntil == time(156))
    }

    /// A rate that is not what holds mail up ends, and none is ever without bounds.
    @Test func aRateEnds() {
        var rate = SiteRate(at: Self.start)
        rate.set(1, at: Self.start)
        var changes: [Double?] = []
        for minute in 1...12 {
            rate.accepted(at: time(Double(minute) * 61))
            changes.append(rate.perSecond)
        }
        #expect(changes[8] != nil && changes[9] == nil && changes[11] == nil)

        rate.set(900, at: time(0))
        var now = 0.0
        while now < 61 * 10, rate.perSecond != nil {
            now += 1
            for _ in 0..<950 { rate.accepted(at: time(now)) }
        }
        #expect(rate.perSecond == nil && now < 61 * 3)
    }

    /// One that is used stays, and grows.
    @Test func aRateThatIsNeededStays() {
        var rate = SiteRate(at: Self.start)
        rate.set(1, at: Self.start)
        var now = time(0)
        for _ in 0..<3000 {
            guard let known = rate.perSecond else { break }
            rate.accepted(at: now)
            now = now + .seconds(1 / known)
        }
        #expect(rate.perSecond.map { $0 > 5 } == true)
    }

    // MARK: Slots

    /// "10/h" is six an hour too few if it becomes one a minute: what is set holds, and nobody sleeps for hours with a place.
    @Test func slowRates() throws {
        let slow = try #require(RateText.perSecond("10/h"))
        var settings = SiteMachine<Int>.Settings()
        settings.rate = slow
        var machine = SiteMachine<Int>(settings, at: Self.start)
        #expect(machine.rate.perSecond == slow)
        #expect(machine.turn(at: Self.start) == .go(Self.start))
        #expect(machine.turn(at: time(1)) == .wait(time(360) + .milliseconds(1)))
        #expect(machine.places == 1)
        machine.accepted([], at: time(1))
        machine.leave()
        #expect(machine.rate.perSecond == slow)
        #expect(machine.turn(at: time(300)) == .go(time(360) + .milliseconds(1)))
        // The slowest that can be said.
        settings.rate = RateText.perSecond("1/d")
        machine.configure(settings, at: time(301))
        #expect(machine.rate.perSecond == SiteRate.slowest)
    }

    /// A message that did not go after all costs the site no time.
    @Test func slotsAreGivenBack() {
        var machine = SiteMachine<Int>(.init(), SiteLearning(rate: SiteRate.least), at: Self.start)
        #expect(machine.turn(at: time(1)) == .go(time(1)))
        machine.leave(unused: time(1))
        #expect(machine.turn(at: time(2)) == .go(time(2)))
        let later = time(62) + .milliseconds(1)
        #expect(machine.turn(at: time(2)) == .go(later))
        machine.leave()
        // A later one is given away.
        machine.leave(unused: time(2))
        #expect(machine.turn(at: time(3)) == .wait(time(122) + .milliseconds(2)))
    }
}
