// What a certificate says of itself, for `slimtad check`.

import Foundation
import TestKit
import Testing

@testable import SlimtaTLS

@Suite struct CertificateFactsTests {
    private func facts(_ pair: Certificates.Pair) throws -> CertificateFacts {
        try CertificateFacts(certificatePEM: Array(Data(contentsOf: URL(fileURLWithPath: pair.certificateFile))))
    }

    @Test func namesAndIssuer() throws {
        let facts = try facts(Fixture.trusted)
        #expect(facts.names.contains("mx.example.com"))
        #expect(!facts.isSelfSigned)
        #expect(facts.chain.count >= 1 && facts.chain.allSatisfy { !$0.isEmpty })
        // The authority is none that this system knows.
        #expect(facts.chainProblem != nil)
        #expect(facts.expiry > Int64(Date().timeIntervalSince1970))
    }

    @Test func selfSigned() throws {
        #expect(try facts(Fixture.selfSigned).isSelfSigned)
    }

    @Test func notACertificate() {
        #expect(throws: TLSError.self) { try CertificateFacts(certificatePEM: Array("nothing".utf8)) }
    }

    @Test(arguments: [
        ("mail.example.com", "MAIL.example.com", true), ("*.example.com", "mail.example.com", true),
        ("*.example.com", "a.b.example.com", false), ("*.example.com", "example.com", false),
        ("mail.example.com", "example.com", false),
    ])
    func matches(name: String, host: String, isFor: Bool) {
        #expect(CertificateFacts.matches(name, host) == isFor)
    }
}
