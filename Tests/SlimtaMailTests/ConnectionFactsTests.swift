// What the addresses of an accepted socket say of its client.

import NIOCore
import Testing

@testable import SlimtaMail

@Suite struct ConnectionFactsTests {
    @Test func ends() throws {
        let tcp4 = try SocketAddress(ipAddress: "192.0.2.1", port: 2525)
        let mapped = try SocketAddress(ipAddress: "::ffff:192.0.2.1", port: 2525)
        let tcp6 = try SocketAddress(ipAddress: "2001:db8::1", port: 25)
        let unix = try SocketAddress(unixDomainSocketPath: "/run/x")
        let four = ConnectionFacts.Endpoint.ip(try #require(IPAddress("192.0.2.1")), port: 2525)
        let six = ConnectionFacts.Endpoint.ip(try #require(IPAddress("2001:db8::1")), port: 25)
        let table: [(SocketAddress?, SocketAddress?, ConnectionFacts.Endpoint, String, String)] = [
            (tcp4, tcp4, four, "192.0.2.1", "192.0.2.1"), (mapped, tcp6, four, "192.0.2.1", "192.0.2.1"),
            (tcp6, tcp6, six, "2001:db8::1", "2001:db8::1"), (unix, unix, .unix, "", "local"),
            (nil, unix, .unix, "", "local"), (nil, tcp4, .unknown, "", "unknown"), (nil, nil, .unknown, "", "unknown"),
        ]
        for (peer, local, expected, address, text) in table {
            let facts = ConnectionFacts(peer: peer, local: local)
            #expect(facts.peer == expected && facts.clientAddress == address && "\(facts.peer)" == text)
        }
    }

    /// Whoever has no address is trusted as this machine only if it came by a UNIX socket.
    @Test func trust() {
        let trust = ClientTrust(networks: [], allowsThisMachine: true)
        #expect(trust.allows(.unix) && !trust.allows(.unknown))
    }
}
