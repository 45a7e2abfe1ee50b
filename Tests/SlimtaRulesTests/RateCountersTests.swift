// Counts of messages: by whom, for how long, and in bounded memory.

import SlimtaMail
import Testing

@testable import SlimtaRules

@Suite struct RateCountersTests {
    private static let all = Set(
        RateSubject.allCases.flatMap { subject in RateWindow.allCases.map { RateFacts.Key(subject, $0) } })

    private func at(_ seconds: Int64) -> Timestamp { Timestamp(milliseconds: (1_000_000_000 + seconds) * 1000) }

    private func count(
        _ counters: RateCounters, _ subject: RateSubject, _ window: RateWindow, client: String = "192.0.2.1",
        login: String? = "alice", at seconds: Int64
    ) -> Int {
        counters.facts(client: IPAddress(client), login: login, at: at(seconds)).counts[.init(subject, window)] ?? 0
    }

    @Test func windows() {
        var counters = RateCounters(for: Self.all)
        for second in 0..<10 {
            counters.accepted(from: IPAddress("192.0.2.1"), login: "alice", at: at(Int64(second)))
        }
        for window in RateWindow.allCases {
            for subject in RateSubject.allCases {
                #expect(count(counters, subject, window, at: 10) == 10)
                // A message counts for the whole window, and a twelfth more at most.
                #expect(count(counters, subject, window, at: window.seconds - 1) == 10)
                #expect(count(counters, subject, window, at: 10 + window.seconds * 13 / 12) == 0)
            }
        }
        #expect(count(counters, .login, .hour, login: "bob", at: 10) == 0)
        #expect(count(counters, .login, .hour, login: nil, at: 10) == 0)
        #expect(count(counters, .client, .hour, client: "192.0.2.2", at: 10) == 0)
    }

    /// The same as counting every message of the last while, give or take the part that is being left.
    @Test func likeAListOfTimes() {
        var random = SystemRandomNumberGenerator()
        for window in RateWindow.allCases {
            var counters = RateCounters(for: [.init(.login, window)])
            var times: [Int64] = []
            var now: Int64 = 0
            for _ in 0..<500 {
                now += Int64.random(in: 0...window.seconds / 20, using: &random)
                counters.accepted(from: nil, login: "a", at: at(now))
                times.append(now)
                let found = count(counters, .login, window, login: "a", at: now)
                let least = times.count { $0 > now - window.seconds }
                let most = times.count { $0 > now - window.seconds * 13 / 12 - 1 }
                #expect((least...most).contains(found))
            }
        }
    }

    @Test func aNetworkIsOneClient() {
        var counters = RateCounters(for: [.init(.client, .hour)])
        counters.accepted(from: IPAddress("2001:db8:0:1::1"), login: nil, at: at(0))
        counters.accepted(from: IPAddress("2001:db8:0:1:ffff::2"), login: "x", at: at(0))
        #expect(count(counters, .client, .hour, client: "2001:db8:0:1::3", at: 1) == 2)
        #expect(count(counters, .client, .hour, client: "2001:db8:0:2::1", at: 1) == 0)
        #expect(counters.count == 1)
    }

    /// Nothing is counted that no rule compares.
    @Test func onlyWhatIsAsked() {
        var counters = RateCounters(for: [])
        counters.accepted(from: IPAddress("192.0.2.1"), login: "a", at: at(0))
        #expect(counters.count == 0)
        #expect(counters.facts(client: IPAddress("192.0.2.1"), login: "a", at: at(0)) == RateFacts())
    }

    /// A flood of strangers makes no room for itself at the cost of who was here just now.
    @Test func memoryIsBounded() {
        var counters = RateCounters(for: Self.all, limit: 100)
        for number in 0..<2000 {
            counters.accepted(from: nil, login: "known", at: at(Int64(number)))
            counters.accepted(
                from: IPAddress("10.0.\(number / 256).\(number % 256)"), login: nil, at: at(Int64(number)))
            #expect(counters.count <= 100)
        }
        #expect(count(counters, .login, .day, login: "known", at: 2000) == 2000)
    }

    /// Whoever changes what is counted keeps what still is.
    @Test func whatIsKeptGoesOn() {
        var counters = RateCounters(for: [.init(.login, .day), .init(.login, .minute), .init(.client, .hour)])
        for second in 0..<5 { counters.accepted(from: IPAddress("192.0.2.1"), login: "alice", at: at(Int64(second))) }
        #expect(counters.count == 2)
        counters.keep([.init(.login, .day), .init(.login, .hour)])
        #expect(counters.count == 1)
        counters.accepted(from: IPAddress("192.0.2.1"), login: "alice", at: at(6))
        let facts = counters.facts(client: IPAddress("192.0.2.1"), login: "alice", at: at(7))
        #expect(facts.counts == [.init(.login, .day): 6, .init(.login, .hour): 1])
        // What was not counted for a while begins anew.
        counters.keep([.init(.client, .hour), .init(.login, .day)])
        #expect(count(counters, .client, .hour, at: 8) == 0 && count(counters, .login, .day, at: 8) == 6)
    }

    @Test func theClockIsPutBack() {
        var counters = RateCounters(for: Self.all)
        counters.accepted(from: nil, login: "a", at: at(100_000))
        counters.accepted(from: nil, login: "a", at: at(0))
        #expect(count(counters, .login, .minute, login: "a", at: 1) == 1)
        #expect((1...2).contains(count(counters, .login, .day, login: "a", at: 1)))
    }
}
