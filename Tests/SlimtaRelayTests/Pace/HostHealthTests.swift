// Which hosts of a site are remembered, and for how long.

import SlimtaMail
import Testing

@testable import SlimtaRelay

@Suite struct HostHealthTests {
    private static let start = Timestamp(milliseconds: 1_800_000_000_000)

    private func time(_ seconds: Double) -> Timestamp { Self.start + .seconds(seconds) }

    /// One that DNS does not name any more is not told of for ever.
    @Test func oldHostsAreForgotten() {
        var health = HostHealth<Int>()
        #expect(health.choose(from: [[1]], at: time(0)) == 1)
        health.failed(1, at: time(0), jitter: 0)
        #expect(health.choose(from: [[2]], at: time(3500)) == 2)
        health.answered(2)
        health.sweep(at: time(3600))
        #expect(health.failed.map(\.host) == [1])
        health.sweep(at: time(3660))
        #expect(health.failed.isEmpty)
        // The other one is in use, and known to answer: many go there at once.
        for _ in 0..<3 { #expect(health.choose(from: [[2, 3]], at: time(3661)) == 2) }
    }

    /// Several wait for one connection, and it fails: none of them tries the host any more.
    @Test func whoFailsWithAnother() {
        var health = HostHealth<Int>()
        for _ in 0..<3 { _ = health.choose(from: [[1]], at: time(0)) }
        health.failed(1, at: time(30), jitter: 0)
        #expect(health.waits(1, at: time(89)))
        health.released(1)
        health.released(1)
        // It is left alone all the same.
        #expect(health.waits(1, at: time(89)))
        health.forget()
        #expect(health.choose(from: [[1, 2]], at: time(40)) == 1)
    }

    /// What was begun and never told of ends as well.
    @Test func lostTrials() {
        var health = HostHealth<Int>()
        _ = health.choose(from: [[1]], at: time(0))
        #expect(health.choose(from: [[1, 2]], at: time(1)) == 2)
        health.sweep(at: time(3600))
        #expect(health.choose(from: [[1, 2]], at: time(3601)) == 1)
    }
}
