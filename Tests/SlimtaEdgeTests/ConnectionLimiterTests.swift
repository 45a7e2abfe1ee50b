// Connections are counted by network, and counted down again.

import SlimtaMail
import Testing

@testable import SlimtaEdge

private func source(_ text: String) throws -> ConnectionLimiter.Source? {
    ConnectionLimiter.Source(.ip(try #require(IPAddress(text)), port: 1000))
}

@Suite struct ConnectionLimiterTests {
    @Test(arguments: [
        ("192.0.2.1", "192.0.2.1", true), ("192.0.2.1", "192.0.2.2", false), ("192.0.2.1", "::ffff:192.0.2.1", true),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::9", true), ("2001:db8:0:1::1", "2001:db8:0:2::1", false),
        ("::1", "0.0.0.0", false),
    ])
    func networks(a: String, b: String, areOne: Bool) throws {
        #expect((try source(a) == source(b)) == areOne)
    }

    @Test func limits() throws {
        let limiter = ConnectionLimiter(.init(total: 3, perAddress: 2))
        let (a, b) = (try source("192.0.2.1"), try source("192.0.2.2"))
        #expect(limiter.enter(a))
        #expect(limiter.enter(a))
        #expect(!limiter.enter(a))
        #expect(limiter.enter(b))
        #expect(!limiter.enter(b))
        #expect(!limiter.enter(nil))
        limiter.leave(a)
        #expect(limiter.enter(nil))
        #expect(limiter.count == 3)
    }
}
