// The small parts of the relays: what is remembered, and for how long.

import NIOCore
import SlimtaMail
import Synchronization
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

struct PermittedNetworksTests {
    @Test(arguments: [
        "0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.255.255", "169.254.169.254", "169.254.0.1", "224.0.0.1",
        "239.255.255.250", "240.0.0.1", "255.255.255.255", "192.0.0.192", "100.100.100.200", "::", "::1", "::127.0.0.1",
        "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:0:127.0.0.1", "64:ff9b::127.0.0.1",
        "64:ff9b::169.254.169.254", "64:ff9b::0.0.0.0", "64:ff9b:1::1", "64:ff9b:1:7f00:0:100::", "2002:7f00:1::1",
        "2002:a9fe:a9fe::", "2001:0:5db8::80ff:fffe", "fe80::1", "febf::1", "fec0::1", "ff02::1", "ff0e::1", "100::1",
        "fd00:ec2::254", "fd20:ce::254",
    ])
    func never(_ text: String) throws {
        let address = try #require(IPAddress(text))
        #expect(!PermittedNetworks().permit(address))
        let all = ["0.0.0.0/0", "::/0"].compactMap { NetworkRange($0) }
        #expect(PermittedNetworks(allowed: all, refused: all).permit(address))
    }

    @Test(arguments: [
        "1.0.0.1", "8.8.8.8", "126.255.255.255", "128.0.0.1", "169.253.255.255", "169.255.0.0", "192.0.1.1",
        "223.255.255.255", "10.0.0.1", "192.168.1.1", "172.16.0.1", "100.64.0.1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8",
        "2002:808:808::1", "2001:0:5db8::f7f7:f7f7", "2001:db8::1", "2a00::1", "fc00::1", "fd00::1", "::1:0:0:0",
    ])
    func usually(_ text: String) throws {
        #expect(PermittedNetworks().permit(try #require(IPAddress(text))))
    }

    /// What is refused is refused in every form; what is allowed within it is allowed.
    @Test(arguments: [
        ("10.1.0.1", false), ("::ffff:10.1.0.1", false), ("64:ff9b::10.1.0.1", false), ("2002:a01:1::1", false),
        ("10.0.0.1", true), ("::ffff:10.0.0.1", true), ("64:ff9b::10.0.0.1", true), ("11.0.0.1", true),
        ("127.0.0.1", false), ("127.0.0.2", true), ("64:ff9b::127.0.0.2", true),
    ])
    func configured(_ text: String, _ isPermitted: Bool) throws {
        let networks = PermittedNetworks(
            allowed: ["10.0.0.0/16", "127.0.0.2"].compactMap { NetworkRange($0) },
            refused: [try #require(NetworkRange("10.0.0.0/8"))])
        #expect(networks.permit(try #require(IPAddress(text))) == isPermitted)
    }

    @Test func theTableIsWhole() { #expect(PermittedNetworks.notOfTheInternet.count == 15) }
}

struct PartsTests {
    /// Keys of the recipients, how many a part may have, and the parts.
    @Test(arguments: [
        ("", 9, ""), ("a", 9, "a0"), ("aaa", 9, "a012"), ("aba", 9, "a02 b1"), ("aaa", 2, "a01 a2"),
        ("abababa", 2, "a02 b13 a46 b5"), ("abc", 1, "a0 b1 c2"),
    ])
    func parts(_ keys: String, _ limit: Int, _ expected: String) async {
        let all = Array(keys)
        let parts = Mutex<[String]>([])
        let outcomes = await attemptInParts(all.count, atMost: limit, by: { all[$0] }) { key, positions in
            parts.withLock { $0.append("\(key)" + positions.map { "\($0)" }.joined()) }
            return positions.map { Outcome(.delivered, Reply(250, EnhancedStatus(2, 0, 0), "\(key)\($0)")) }
        }
        #expect(parts.withLock { $0.sorted() } == expected.split(separator: " ").map(String.init).sorted())
        #expect(outcomes.map(\.reply.text) == all.enumerated().map { "\($1)\($0)" })
    }
}
