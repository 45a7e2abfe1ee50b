// Slow destinations and the places that they leave to others: the rules of PlaceShares, as the scheduler applies them.

import SlimtaMail
import Testing

@testable import SlimtaQueue

/// A scheduler with messages in flight, each to end at a time that is known.
private struct Traffic: ~Copyable {
    var queue: QueueMachine
    var number: UInt64 = 0
    var now: Int64 = 0
    /// What is in flight: to which destination, and until when.
    var flying: [QueueID: (destination: String, end: Int64)] = [:]
    var names: [QueueID: String] = [:]
    /// How long an attempt for a destination takes, in seconds.
    var took: (String) -> Int64
    /// When what was taken was added.
    var added: [QueueID: Int64] = [:]
    var waits: [String: [Int64]] = [:]

    init(places: Int, perDestination: Int = 20, took: @escaping (String) -> Int64) {
        queue = machine(attempts: places, perDestination: perDestination, [])
        self.took = took
    }

    mutating func add(_ count: Int, to destination: String) {
        for _ in 0..<count {
            number += 1
            queue.added(summary(number, due: now, to: destination))
            names[id(number)] = destination
            added[id(number)] = now
        }
    }

    /// How many places destinations hold whose names begin like this.
    func held(_ prefix: String) -> Int { flying.values.count { $0.destination.hasPrefix(prefix) } }

    mutating func take() {
        for one in queue.take(time(now)) {
            guard let name = names[one], let since = added[one] else { continue }
            flying[one] = (name, now + took(name))
            waits[name, default: []].append(now - since)
        }
    }

    /// A second goes by: what ends is delivered, and what may go next goes.
    mutating func second() {
        now += 1
        for (one, flight) in flying.sorted(by: { $0.key < $1.key }) where flight.end <= now {
            flying[one] = nil
            _ = queue.done(one, now: time(now))
        }
        take()
    }
}

@Suite struct ShareTests {
    /// The case: four domains that answer each command after five seconds, and twenty places.
    @Test func slowDestinationsHaveHalf() {
        var traffic = Traffic(places: 20) { $0.hasPrefix("slow") ? 35 : 1 }
        for domain in 1...4 { traffic.add(100, to: "slow\(domain)") }
        traffic.take()
        var most = traffic.held("slow")
        for second in 0..<600 {
            if second % 3 == 0 { traffic.add(1, to: "well") }
            traffic.second()
            most = max(most, traffic.held("slow"))
        }
        #expect(most == 10)
        // What is well goes at once, from its first message on.
        #expect(traffic.waits["well"]?.count == 200)
        #expect(traffic.waits["well"]?.max() == 1)
        // And the slow ones are served as well: 600 seconds, 35 each, ten at a time.
        #expect(traffic.waits.filter { $0.key.hasPrefix("slow") }.values.reduce(0) { $0 + $1.count } >= 150)
    }

    /// However many they are: what is quick has a quarter less an eighth to itself.
    @Test func manySlowDestinations() {
        var traffic = Traffic(places: 40) { $0.hasPrefix("slow") ? 1200 : 1 }
        traffic.add(1, to: "well")
        traffic.take()
        traffic.add(200, to: "well")
        traffic.second()
        for domain in 1...300 { traffic.add(2, to: "slow\(domain)") }
        for second in 0..<100 {
            traffic.second()
            #expect(traffic.held("slow") <= 35)
            if second % 10 == 0 { traffic.add(10, to: "well") }
        }
        #expect(traffic.held("slow") == 30)
        #expect(traffic.waits["well"]?.count == 301)
    }

    /// Destinations that were quick, and then all at once are not.
    @Test func quickDestinationsThatTurnSlow() {
        var isSlow = false
        var traffic = Traffic(places: 40, perDestination: 40) { $0.hasPrefix("turns") && isSlow ? 900 : 1 }
        for domain in 1...4 { traffic.add(200, to: "turns\(domain)") }
        traffic.take()
        traffic.second()
        isSlow = true
        for _ in 0..<20 { traffic.second() }
        #expect(traffic.held("turns") == 35)
        // The last places are for those that have none.
        for domain in 1...5 { traffic.add(3, to: "well\(domain)") }
        for _ in 0..<10 { traffic.second() }
        for domain in 1...5 { #expect(traffic.waits["well\(domain)"]?.count == 3) }
        // From then on it is known.
        for _ in 0..<900 { traffic.second() }
        #expect(traffic.held("turns") <= 20)
    }

    /// The slow have an eighth whatever waits besides.
    @Test func slowOnesAreNotForgotten() {
        var traffic = Traffic(places: 40) { $0.hasPrefix("slow") ? 30 : 5 }
        for domain in 1...8 { traffic.add(50, to: "slow\(domain)") }
        traffic.take()
        for second in 0..<300 {
            // More than there are places for, each to a destination of its own.
            for domain in 0..<10 { traffic.add(1, to: "new\(second)-\(domain)") }
            traffic.second()
            if second > 60 { #expect(traffic.held("slow") >= 5) }
        }
    }

    /// With a smarthost there is nobody to make room for.
    @Test func oneDestinationHasAll() {
        var traffic = Traffic(places: 20) { _ in 60 }
        traffic.add(100, to: "smarthost:587")
        traffic.take()
        #expect(traffic.held("smarthost") == 5)
        for _ in 0..<100 { traffic.second() }
        #expect(traffic.held("smarthost") == 20)
    }

    /// Once they are quick again they have what they need.
    @Test func recovers() {
        var isSlow = true
        var traffic = Traffic(places: 40) { $0 == "a" && isSlow ? 20 : 1 }
        traffic.add(500, to: "a")
        traffic.add(500, to: "b")
        for _ in 0..<30 { traffic.second() }
        #expect(traffic.held("a") >= 15)
        isSlow = false
        for _ in 0..<60 { traffic.second() }
        #expect(traffic.queue.count == 0)
    }
}
