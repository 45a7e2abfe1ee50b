// What is kept of a site: how long limits hold that nobody hears of any more, and how they are written down.

import SlimtaMail
import Testing

@testable import SlimtaRelay

@Suite struct SiteLearningTests {
    private static let start = Timestamp(milliseconds: 1_800_000_000_000)

    private func day(_ number: Double) -> Timestamp { Self.start + .seconds(86_400 * number) }

    /// One transaction of one domain says "one recipient", and the site takes a hundred.
    @Test func limitsAreTriedAgain() {
        var learning = SiteLearning()
        learning.stopped(afterRecipients: 1, at: day(0))
        learning.stopped(afterMessages: 41, at: day(0))
        var recipients: [Int?] = []
        var messages: [Int?] = []
        for number in 0..<9 {
            learning.tryMore(at: day(Double(number)))
            recipients.append(learning.recipients)
            messages.append(learning.messages)
        }
        #expect(recipients == [1, 2, 4, 8, 16, 32, 64, nil, nil])
        #expect(messages == [40, 80, nil, nil, nil, nil, nil, nil, nil])
        #expect(learning == SiteLearning())
        // What is said again holds again.
        learning.stopped(afterRecipients: 30, at: day(10))
        learning.tryMore(at: day(11))
        learning.stopped(afterRecipients: 30, at: day(11.5))
        learning.tryMore(at: day(12.4))
        #expect(learning.recipients == 30)
    }

    /// One that was kept without its time begins anew, and none is too large to be doubled.
    @Test func limitsWithoutTime() {
        var learning = SiteLearning(recipients: 5, messages: .max)
        learning.tryMore(at: day(0))
        #expect(learning.recipients == 5)
        learning.tryMore(at: day(1))
        #expect(learning.recipients == 10 && learning.messages == nil)
    }

    /// A site asks before each message.
    @Test func theMachineTriesMore() {
        var machine = SiteMachine<Int>(.init(), SiteLearning(recipients: 5), at: day(0))
        _ = machine.turn(at: day(0))
        _ = machine.turn(at: day(1))
        #expect(machine.mostRecipients == 10)
    }

    @Test func records() throws {
        var record = SiteRecord(lastUsed: day(2))
        record.learning.stopped(afterRecipients: 7, at: day(0))
        record.learning.stopped(afterMessages: 8, at: day(1))
        record.learning.rate = 0.25
        record.own = SiteLimits(connections: 3, rate: 1.0 / 86_400)
        #expect(SiteRecord(fields: record.text.split(separator: "\t")) == record)
        // A rate that has grown for too long is none, and takes nothing else along.
        for (text, rate) in [("inf", nil), ("1e300", nil), ("1e-300", SiteRate.least)] as [(String, Double?)] {
            let read = try #require(SiteRecord(fields: "rate=\(text)\tset_connections=3".split(separator: "\t")))
            #expect(read.own.connections == 3 && read.learning.rate == rate)
        }
    }
}
