// The small parts of the relays: what is remembered, and for how long.

import NIOCore
import Testing

@testable import SlimtaRelay

struct ExpiringCacheTests {
    @Test func endsAndBounds() {
        var cache = ExpiringCache<Int, String>(capacity: 10)
        let start = NIODeadline.now()
        cache.insert("a", for: 1, until: start + .seconds(5), at: start)
        #expect(cache.value(for: 1, at: start + .seconds(4)) == "a")
        #expect(cache.value(for: 1, at: start + .seconds(5)) == nil)
        // However much is inserted.
        for key in 0..<1000 { cache.insert("x", for: key, until: start + .seconds(100), at: start) }
        #expect(cache.count <= 10)
        #expect(cache.value(for: 999, at: start) == "x")
        // What has ended goes first.
        for key in 0..<10 { cache.insert("x", for: key, until: start, at: start) }
        cache.insert("y", for: 1000, until: start + .seconds(1), at: start)
        #expect(cache.value(for: 1000, at: start) == "y")
    }
}

struct OwnAddressesTests {
    @Test(arguments: [
        ("192.0.2.1", 25, true), ("192.0.2.1", 587, false), ("192.0.2.2", 25, false), ("127.0.0.1", 587, true),
        ("127.9.9.9", 587, true), ("::1", 587, true), ("127.0.0.1", 25, false), ("192.0.2.9", 587, false),
        ("::ffff:127.0.0.1", 587, true), ("::ffff:192.0.2.1", 25, true),
    ])
    func contains(_ ip: String, _ port: Int, _ isOurs: Bool) throws {
        let own = OwnAddresses(listeners: [
            try SocketAddress(ipAddress: "192.0.2.1", port: 25), try SocketAddress(ipAddress: "0.0.0.0", port: 587),
        ])
        #expect(own.contains(try SocketAddress(ipAddress: ip, port: port)) == isOurs)
    }
}
