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

    /// A user of this machine counts beside the connection that is counted already.
    @Test func users() throws {
        let limiter = ConnectionLimiter(.init(total: 10, perAddress: 2))
        let (one, two) = (ConnectionLimiter.Source(user: 1), ConnectionLimiter.Source(user: 2))
        #expect(limiter.admit(one) && limiter.admit(one) && !limiter.admit(one) && limiter.admit(two))
        #expect(limiter.count == 0)
        limiter.dismiss(one)
        #expect(limiter.admit(one) && !limiter.admit(one))
    }

    /// A client behind a proxy counts as its own address does elsewhere, and for the proxy, which never has all.
    @Test func proxies() throws {
        let limiter = ConnectionLimiter(.init(total: 10, perAddress: 2))
        let (one, two) = (try #require(IPAddress("10.0.0.1")), try #require(IPAddress("10.0.0.2")))
        let client = try source("192.0.2.1")
        for _ in 0..<9 { #expect(limiter.enter(behind: one)) }
        #expect(!limiter.enter(behind: one) && limiter.count == 9)
        // Whoever is not named yet counts for nobody; then one address has two, whichever way it comes.
        #expect(limiter.admit(client) && limiter.admit(client) && !limiter.admit(client))
        #expect(!limiter.enter(client) && limiter.count == 9)
        #expect(limiter.enter(behind: two) && !limiter.enter(nil))
        limiter.leave(nil, behind: two)
        limiter.leave(client, behind: one)
        #expect(limiter.enter(client) && !limiter.admit(client))
        limiter.leave(client)
        limiter.leave(client, behind: one)
        for _ in 0..<7 { limiter.leave(nil, behind: one) }
        #expect(limiter.count == 0 && limiter.admit(client) && limiter.admit(client))
    }

    /// With few connections in all there is no tenth to keep for others.
    @Test func aProxyWithFew() throws {
        let limiter = ConnectionLimiter(.init(total: 1, perAddress: 1))
        let proxy = try #require(IPAddress("10.0.0.1"))
        #expect(limiter.enter(behind: proxy) && !limiter.enter(behind: proxy))
        limiter.setLimits(.init(total: 0, perAddress: 0))
        limiter.leave(nil, behind: proxy)
        #expect(!limiter.enter(behind: proxy) && limiter.count == 0)
    }
}
