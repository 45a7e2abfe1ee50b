// Two handlers joined in memory: which certificates a client takes for those of a host.

import SlimtaMail
import TestKit
import Testing

@testable import SlimtaTLS

@Suite struct TLSVerificationTests {
    private static func verify(
        _ pair: Certificates.Pair, trust: Certificates.Pair, host: String, version: Version = .tls13
    ) throws -> Pair {
        let client = try TLSClientContext(verifies: true, trustFile: trust.certificateFile)
        version.limit(client.context)
        let joined = try Pair(
            server: Fixture.server(pair), client: client, serverName: "mx.example.com",
            verification: .system(host: host))
        try joined.run()
        return joined
    }

    @Test(arguments: Version.allCases)
    func trustedCertificate(version: Version) throws {
        for host in ["mx.example.com", "MX.Example.COM", "192.0.2.1"] {
            let pair = try Self.verify(Fixture.trusted, trust: Fixture.authority, host: host, version: version)
            #expect(pair.client.recorder.entries == [.established])
            #expect(pair.client.recorder.info?.isPeerVerified == true)
            #expect(pair.server.recorder.info?.isPeerVerified == false)
        }
    }

    @Test func selfSignedCertificateIsTrustedByItself() throws {
        let pair = try Self.verify(Fixture.selfSigned, trust: Fixture.selfSigned, host: "mx.example.com")
        #expect(pair.client.recorder.info?.isPeerVerified == true)
    }

    @Test func chainOverAnIntermediate() throws {
        let intermediate = try Fixture.certificates.issued("Intermediate", by: Fixture.authority, isAuthority: true)
        let leaf = try Fixture.certificates.issued("mx.example.com", by: intermediate)
        let pair = try Self.verify(leaf, trust: Fixture.authority, host: "mx.example.com")
        #expect(pair.client.recorder.info?.isPeerVerified == true)
    }

    @Test func wildcard() throws {
        let leaf = try Fixture.certificates.issued("*.example.com", "m*.example.net", by: Fixture.authority)
        for (host, isGood) in [
            ("mx.example.com", true), ("example.com", false), ("a.mx.example.com", false), ("mx.example.net", false),
        ] {
            let pair = try Self.verify(leaf, trust: Fixture.authority, host: host)
            #expect((pair.client.recorder.info != nil) == isGood, "\(host)")
        }
    }

    @Test(
        arguments: [
            "other.example.com", "example.com", "192.0.2.2", "mx.example.com.evil.example", "", "mx.example.com\0.evil",
        ], Version.allCases)
    func wrongHost(host: String, version: Version) throws {
        let pair = try Self.verify(Fixture.trusted, trust: Fixture.authority, host: host, version: version)
        #expect(pair.client.recorder.entries == [.error(.verification), .inactive])
        #expect(pair.server.recorder.info == nil)
    }

    @Test func unknownIssuer() throws {
        let pair = try Self.verify(Fixture.selfSigned, trust: Fixture.authority, host: "mx.example.com")
        #expect(pair.client.recorder.entries == [.error(.verification), .inactive])
        #expect(pair.client.recorder.error?.message.contains("self-signed certificate") == true)
        #expect(pair.client.recorder.error?.message.contains("mx.example.com") == true)
    }

    @Test func systemDoesNotTrustIt() throws {
        let pair = try Pair(
            server: Fixture.server(), client: TLSClientContext(verifies: true), serverName: "mx.example.com",
            verification: .system(host: "mx.example.com"))
        try pair.run()
        #expect(pair.client.recorder.entries == [.error(.verification), .inactive])
    }

    @Test func expiredCertificate() throws {
        let leaf = try Fixture.certificates.issued("mx.example.com", by: Fixture.authority, days: -1)
        let pair = try Self.verify(leaf, trust: Fixture.authority, host: "mx.example.com")
        #expect(pair.client.recorder.entries == [.error(.verification), .inactive])
        #expect(pair.client.recorder.error?.message.contains("expired") == true)
    }

    /// Opportunistic TLS takes what there is: the other choice is clear text.
    @Test(arguments: Version.allCases)
    func opportunisticTakesEverything(version: Version) throws {
        let expired = try Fixture.certificates.issued(
            "other.example.com", by: Fixture.authority, days: -1, key: .rsa(bits: 2048))
        let pair = try Pair(
            server: Fixture.server(expired), client: Fixture.opportunistic(newest: version),
            serverName: "mx.example.com")
        try pair.run()
        #expect(pair.client.recorder.entries == [.established])
        #expect(pair.client.recorder.info?.isPeerVerified == false)
    }
}
