// Resolver against a real name server on loopback, without DNSSEC.

import TestKit
import Testing

@testable import SlimtaDNS

@Suite struct ResolverTests {
    @Test func mailExchanges() async throws {
        let server = try NameServer(records: [
            "example.com. 300 IN MX 10 Mx1.Example.com.", "example.com. 300 IN MX 10 mx2.example.com.",
            "example.com. 300 IN MX 20 backup.example.net.",
        ])
        defer { server.stop() }
        let resolver = try Resolver(servers: [("127.0.0.1", server.port)], dnssec: .off)
        let answer = try await resolver.mx("EXAMPLE.com")
        #expect(
            Set(answer.records) == [
                MXRecord(preference: 10, exchange: "mx1.example.com"),
                MXRecord(preference: 10, exchange: "mx2.example.com"),
                MXRecord(preference: 20, exchange: "backup.example.net"),
            ])
        #expect(answer.security == .insecure)
        #expect((1...300).contains(answer.ttl))
        #expect(answer.canonicalName == nil)
        await resolver.close()
    }
}
