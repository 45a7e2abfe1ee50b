// IP addresses and networks as values.

import NIOCore
import Testing

@testable import SlimtaMail

@Suite struct NetworkTests {
    @Test(arguments: [
        ("10.0.0.0/8", "10.255.0.1", true), ("10.0.0.0/8", "11.0.0.0", false), ("0.0.0.0/0", "255.255.255.255", true),
        ("192.0.2.1", "192.0.2.1", true), ("192.0.2.1", "192.0.2.2", false), ("192.0.2.1/32", "::ffff:192.0.2.1", true),
        ("192.0.2.0/31", "192.0.2.1", true), ("192.0.2.0/31", "192.0.2.2", false),
        ("::ffff:10.0.0.0/104", "10.1.1.1", true), ("::ffff:10.0.0.0/104", "11.1.1.1", false),
        ("2001:db8::/32", "2001:db8:ffff::1", true), ("2001:db8::/32", "2001:db9::", false),
        ("2001:db8::/127", "2001:db8::1", true), ("2001:db8::/127", "2001:db8::2", false),
        // IPv6 networks have no IPv4 addresses in them, whatever the notation.
        ("::/0", "10.0.0.1", false), ("::/0", "::ffff:10.0.0.1", false), ("0.0.0.0/0", "::1", false),
        ("::/0", "2001:db8::1", true), ("::1", "::1", true), ("10.0.0.0/8", "", false),
        ("10.0.0.0/8", "10.0.0.1 ", false),
        ("10.0.0.0/8", "[10.0.0.1]", false), ("10.0.0.0/8", "10.0.0.1\0", false),
    ])
    func contains(network: String, address: String, expected: Bool) throws {
        #expect(try #require(NetworkRange(network)).contains(addressText: address) == expected)
    }

    @Test(arguments: [
        "", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/08", "10.0.0.0/8/8", "10.0.0.1/8", "10.0.0/8",
        "2001:db8::1/64", "::/129", "::ffff:10.0.0.0/95", "localhost", "010.0.0.0/8", "1.2.3.4 ", "fe80::1%lo",
        "10.0.0.0/ 8", "10.0.0.0/٨",
    ])
    func isNone(text: String) { #expect(NetworkRange(text) == nil) }

    @Test(arguments: [
        ("10.0.0.0/8", "10.1.0.0/16", true), ("10.0.0.0/8", "10.0.0.0/8", true), ("10.0.0.0/16", "10.1.0.0/16", false),
        ("192.0.2.1", "192.0.2.0/24", true), ("2001:db8::/32", "2001:db8:1::/48", true),
        ("2001:db8::/48", "2001:db8:1::/48", false), ("0.0.0.0/0", "::/0", false),
    ])
    func overlaps(one: String, other: String, expected: Bool) throws {
        let (one, other) = (try #require(NetworkRange(one)), try #require(NetworkRange(other)))
        #expect(one.overlaps(other) == expected && other.overlaps(one) == expected)
    }

    @Test func octetsInNetworkOrder() throws {
        let network = try #require(NetworkRange("192.0.2.0/24"))
        #expect(network.contains(bytes: [192, 0, 2, 7]))
        #expect(!network.contains(bytes: [2, 0, 192, 7]))
        #expect(network.contains(bytes: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 192, 0, 2, 7]))
        #expect(!network.contains(bytes: [192, 0, 2]))
        #expect(network.description == "192.0.2.0/24")
        #expect(NetworkRange("2001:DB8:0::/32")?.description == "2001:db8::/32")
    }

    @Test(arguments: [
        ("127.0.0.1", true), ("127.255.0.9", true), ("::1", true), ("::ffff:127.0.0.1", true), ("128.0.0.1", false),
        ("::", false), ("::2", false), ("::127.0.0.1", false),
    ])
    func loopback(text: String, expected: Bool) throws {
        #expect(try #require(IPAddress(text)).isLoopback == expected)
    }

    /// Of sockets as of text: an IPv4-mapped address is the IPv4 address.
    @Test(arguments: [
        ("192.0.2.1", "192.0.2.1"), ("::ffff:192.0.2.1", "192.0.2.1"), ("::FFFF:c000:201", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"), ("::192.0.2.1", "::192.0.2.1"), ("::", "::"),
    ])
    func ofSockets(text: String, shown: String) throws {
        let socket = try SocketAddress(ipAddress: text, port: 25)
        #expect(IPAddress(socket) == IPAddress(text))
        #expect(IPAddress(socket)?.description == shown)
        #expect(socket.unmapped.ipAddress == shown)
        #expect(socket.unmapped.port == 25)
        #expect(IPAddress(try SocketAddress(unixDomainSocketPath: "/a")) == nil)
    }

    @Test func networksOfCustomers() throws {
        #expect(IPAddress("2001:db8:0:1:ffff::9")?.customerNetwork == IPAddress("2001:db8:0:1::"))
        #expect(IPAddress("::ffff:192.0.2.1")?.customerNetwork == IPAddress("192.0.2.1"))
    }
}
