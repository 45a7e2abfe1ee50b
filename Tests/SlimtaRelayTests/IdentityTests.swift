// As whom hosts see us: what a name server says of addresses and names, and what of it does not agree.

import SlimtaDNS
import SlimtaMail
import TestKit
import Testing

@testable import SlimtaRelay

@Suite(.timeLimit(.minutes(4)))
struct IdentityTests {
    private static func identity(_ address: String, _ name: String = "out.test") -> OutwardIdentity {
        OutwardIdentity(address: IPAddress(address)!, name: name)
    }

    @Test func whatANameServerSays() async throws {
        let names = try NameServer(
            records: [
                "out.test. 300 IN A 192.0.2.1", "out.test. 300 IN AAAA 2001:db8::1",
                "1.2.0.192.in-addr.arpa. 300 IN PTR Out.test.",
                "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. 300 IN PTR out.test.",
                "2.2.0.192.in-addr.arpa. 300 IN PTR pool-2.test.",
                "3.2.0.192.in-addr.arpa. 300 IN PTR other.test.", "other.test. 300 IN A 192.0.2.3",
            ], refusing: ["5.2.0.192.in-addr.arpa.", "refused.test."])
        let resolver = try Fixture.resolver(names.port)
        func found(_ address: String, _ name: String = "out.test") async -> [String]? {
            await IdentityWatch.findings(of: [Self.identity(address, name)], resolver)[0]
        }
        #expect(await found("192.0.2.1") == [])
        #expect(await found("2001:db8::1") == [])
        #expect(await found("192.0.2.1", "[192.0.2.1]") == [])
        #expect(
            await found("192.0.2.2") == [
                "192.0.2.2, where mail leaves from, is called pool-2.test (PTR), and that name does not lead back to it",
                "our name in EHLO, out.test, is not that of 192.0.2.2, where mail leaves from",
            ])
        #expect(
            await found("192.0.2.3")?.first
                == "192.0.2.3, where mail leaves from, is called other.test (PTR), and our name in EHLO is out.test")
        #expect(
            await found("192.0.2.4", "none.test") == [
                "192.0.2.4, where mail leaves from, has no name (PTR)",
                "our name in EHLO, none.test, is not that of 192.0.2.4, where mail leaves from",
            ])
        // What nobody can say is held against nobody, and is no agreement either.
        #expect(await found("192.0.2.5", "refused.test") == nil)
        #expect(await found("192.0.2.1", "refused.test") != [])
    }

    /// It is looked at the start, told once, and over when it is.
    @Test func watch() async throws {
        let port = try NameServer.freePort()
        var names: NameServer? = try NameServer(records: ["out.test. 1 IN A 192.0.2.1"], port: port)
        let watch = IdentityWatch(
            [Self.identity("192.0.2.1"), Self.identity("10.0.0.1"), Self.identity("127.0.0.1")],
            resolver: try Fixture.resolver(port), logger: Fixture.logger)
        await watch.look()
        #expect(watch.findings == ["192.0.2.1, where mail leaves from, has no name (PTR)"], "private ones are not seen")
        names?.stop()
        names = nil
        let idle = IdentityWatch(
            [Self.identity("10.0.0.1")], resolver: try Fixture.resolver(port), logger: Fixture.logger)
        idle.start()
        #expect(idle.findings == [])
        idle.end()
    }
}
