// When those come back who are turned away: what a backlog of many domains at one site costs; and which of several relays may
// have a place.

import SlimtaMail
import TestKit
import Testing

@testable import SlimtaRelay

@Suite struct SiteCrowdTests {
    private static let start = Timestamp(milliseconds: 1_800_000_000_000)

    private func time(_ seconds: Double) -> Timestamp { Self.start + .seconds(seconds) }

    /// Ten thousand domains at a site that takes so many a second, with 250 places in its line. How many attempts that takes,
    /// and when the last one was served.
    private func drain(_ count: Int, perSecond: Int, rate: Double?) -> (attempts: Int, seconds: Int) {
        var (crowd, generator) = (SiteCrowd(), SeededGenerator(seed: 1))
        var (line, served, attempts, second) = (0, 0, 0, 0)
        var due: [Int: Int] = [0: count]
        while served < count, second < 100_000 {
            let now = time(Double(second))
            for _ in 0..<min(perSecond, line) {
                (line, served) = (line - 1, served + 1)
                crowd.serves(at: now)
            }
            if line == 0 { crowd.isServed() }
            for _ in 0..<(due.removeValue(forKey: second) ?? 0) {
                attempts += 1
                if line < 250 {
                    line += 1
                    crowd.waits(at: now)
                } else {
                    let back = crowd.appointment(
                        from: now + SiteCrowd.least, room: 0, rate: rate, at: now,
                        spread: Double.random(in: 0...1, using: &generator))
                    due[second + Int((back - now).milliseconds / 1000 + 1), default: 0] += 1
                }
            }
            second += 1
        }
        return (attempts, second)
    }

    /// Each comes a few times, and the line does not run dry.
    @Test(arguments: [(1, 1.0), (1, nil), (20, nil), (100, nil)] as [(Int, Double?)])
    func backlogs(_ perSecond: Int, _ rate: Double?) {
        let (attempts, seconds) = drain(10_000, perSecond: perSecond, rate: rate)
        #expect(attempts < 100_000, "\(attempts) attempts")
        #expect(seconds < 10_000 / perSecond * 11 / 10 + 20, "\(seconds) s")
    }

    /// Behind a pause as many come at once as there is room for.
    @Test func behindAPause() {
        var crowd = SiteCrowd()
        let times = (0..<2000).map { _ in
            crowd.appointment(from: time(30), room: 250, rate: 1, at: Self.start, spread: 0)
        }
        #expect(times[..<250].allSatisfy { $0 == time(30) })
        #expect(times[400] > time(125) && times[400] < time(135))
        #expect(times.allSatisfy { $0 <= time(930) } && times[1999] == time(480))
    }

    /// Whose relay has all the sessions that it may have lets others go.
    @Test func limitsOfRelays() {
        var line = SiteLine()
        let (few, many) = (SiteVisitor(limit: 2), SiteVisitor(limit: 20))
        for (ticket, visitor) in [(1, few), (2, many), (3, few)] {
            _ = line.join(SiteLine.Ticket(ticket), for: "a", visitor, capacity: 5)
        }
        #expect(line.hasNext { $0 == many } && line.next { $0 == many } == 2)
        #expect(!line.hasNext { $0 == many } && line.next { $0 == many } == nil)
        #expect(line.count == 2 && line.remove(3) && line.next() == 1 && line.isEmpty)
    }
}
