// Several certificates: which one a client is shown that asks for a name (SNI).

import SlimtaMail
import TestKit
import Testing

@testable import SlimtaTLS

@Suite struct ServerNameTests {
    /// Three certificates, the second one with a wildcard; made once.
    private static let pairs: [Certificates.Pair] = try! [
        Fixture.trusted,
        Fixture.certificates.issued("mail.example.net", "*.customers.example.net", by: Fixture.authority),
        Fixture.certificates.issued("mail.example.org", by: Fixture.authority),
    ]

    private static func server() throws -> TLSServerContext {
        let others = try pairs.dropFirst().map { try Fixture.server($0) }
        return try TLSServerContext(
            certificatePEM: pairs[0].certificatePEM, keyPEM: pairs[0].keyPEM, others: Array(others))
    }

    /// What came of a client that asks for `name` and wants a certificate for `host`.
    private static func shown(_ name: String?, for host: String, _ version: Version) throws -> Bool {
        let client = try TLSClientContext(verifies: true, trustFile: Fixture.authority.certificateFile)
        version.limit(client.context)
        // The context is nobody's but the connection's: it must live as long as that.
        let joined = try Pair(
            server: server(), client: client, serverName: name, verification: .system(host: host))
        try joined.run()
        return joined.client.recorder.info?.isPeerVerified == true
    }

    @Test(
        arguments: [
            ("mx.example.com", "mx.example.com"), ("mail.example.net", "mail.example.net"),
            ("MAIL.example.NET", "mail.example.net"), ("one.customers.example.net", "one.customers.example.net"),
            ("mail.example.org", "mail.example.org"),
            // Nobody is turned away for a name.
            ("unknown.example", "mx.example.com"), ("customers.example.net", "mx.example.com"), (nil, "mx.example.com"),
        ] as [(String?, String)], Version.allCases)
    func isForTheName(asked: (name: String?, host: String), version: Version) throws {
        #expect(try Self.shown(asked.name, for: asked.host, version))
    }

    @Test func othersAreNotShown() throws {
        #expect(try !Self.shown("mail.example.net", for: "mx.example.com", .tls13))
        #expect(try !Self.shown("mail.example.org", for: "mail.example.net", .tls12))
    }
}
