// How slow a transfer may be: what ends it, and what does not however long it lasts.

import NIOCore
import SlimtaNet
import Testing

@Suite struct TransferWatchTests {
    private let limits = TransferWatch.Limits(leastRate: 1024, stallTimeout: .minutes(3))
    private let start = NIODeadline.uptimeNanoseconds(1_000_000_000)

    /// The second in which a transfer of `octets` every `seconds` ends; nil: not within a day.
    private func end(octets: Int, every seconds: Int64) -> Int64? {
        var watch = TransferWatch(limits, at: start)
        var now: Int64 = 0
        while now < 86_400 {
            now += seconds
            if watch.deadline < start + .seconds(now) {
                return (watch.deadline - start).nanoseconds / 1_000_000_000
            }
            watch.moved(octets, at: start + .seconds(now))
        }
        return nil
    }

    @Test func aSlowAndSteadyTransferIsNeverEnded() {
        #expect(end(octets: 1024, every: 1) == nil)
        #expect(end(octets: 60 * 1024, every: 60) == nil)
        #expect(end(octets: 64 * 1024 * 1024, every: 170) == nil, "bursts with long silence between them")
    }

    @Test func aDribblingTransferEndsHoweverItsOctetsAreSpread() {
        #expect(end(octets: 1, every: 1) == 180)
        #expect(end(octets: 1, every: 179) == 180)
        #expect(end(octets: 512, every: 1) == 359, "at half the rate the time is used up half as fast")
        #expect(end(octets: 30 * 1024, every: 60) != nil)
    }

    @Test func silenceEndsATransferAfterTheStallTimeout() {
        var watch = TransferWatch(limits, at: start)
        #expect(watch.deadline == start + .minutes(3))
        watch.moved(100 * 1024 * 1024, at: start + .minutes(1))
        #expect(watch.deadline == start + .minutes(4), "time is not hoarded")
        watch.moved(0, at: start + .minutes(2))
        #expect(watch.deadline == start + .minutes(4), "nothing is no progress")
    }

    @Test func ourOwnDelayIsNotThePeers() {
        var watch = TransferWatch(limits, at: start)
        watch.resumed(at: start + .minutes(2))
        #expect(watch.deadline == start + .minutes(5))
    }

    @Test func withoutALeastRateAnyOctetIsEnough() {
        var watch = TransferWatch(.init(leastRate: 0, stallTimeout: .minutes(3)), at: start)
        watch.moved(1, at: start + .minutes(1))
        #expect(watch.deadline == start + .minutes(4))
        watch = TransferWatch(limits, at: start)
        watch.moved(.max, at: start + .minutes(1))
        #expect(watch.deadline == start + .minutes(4), "a number beyond all numbers")
    }
}
