// Certificates and keys, good and bad ones.

import Foundation
import TestKit
import Testing

@testable import SlimtaTLS

@Suite struct TLSContextTests {
    @Test(arguments: [Certificates.Key.ecdsa, .rsa(bits: 2048)])
    func certificateAndKey(key: Certificates.Key) throws {
        let pair = try Fixture.certificates.selfSigned("mx.example.com", key: key)
        let context = try Fixture.server(pair)
        let expected = Date.now.addingTimeInterval(30 * 86_400).timeIntervalSince1970
        #expect(abs(Double(context.certificateExpiry) - expected) < 600)
    }

    @Test func fromMemory() throws {
        let pair = Fixture.trusted
        let context = try TLSServerContext(certificatePEM: pair.certificatePEM, keyPEM: pair.keyPEM, minimum: .v1_3)
        #expect(try context.certificateExpiry == Fixture.server(pair).certificateExpiry)
    }

    @Test func certificateAndKeyInOneFile() throws {
        let pair = Fixture.trusted
        _ = try TLSServerContext(
            certificatePEM: pair.certificatePEM + pair.keyPEM, keyPEM: pair.certificatePEM + pair.keyPEM, minimum: .v1_2
        )
    }

    @Test(arguments: [Certificates.Key.ecdsa, .rsa(bits: 2048)])
    func keyOfAnotherCertificate(key: Certificates.Key) throws {
        let other = try Fixture.certificates.selfSigned("mx.example.com", key: key)
        let error = #expect(throws: TLSError.self) {
            try TLSServerContext(certificatePEM: Fixture.trusted.certificatePEM, keyPEM: other.keyPEM)
        }
        #expect(error?.code == .keyMismatch)
        #expect(error?.description.contains("the private key is not that of the certificate") == true)
    }

    @Test(arguments: ["", "hello\n", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
    func notPEM(text: String) throws {
        let pair = Fixture.trusted
        let certificate = #expect(throws: TLSError.self) {
            try TLSServerContext(certificatePEM: Array(text.utf8), keyPEM: pair.keyPEM)
        }
        #expect(certificate?.code == .certificate)
        let key = #expect(throws: TLSError.self) {
            try TLSServerContext(certificatePEM: pair.certificatePEM, keyPEM: Array(text.utf8))
        }
        #expect(key?.code == .key)
    }

    @Test func damagedChain() throws {
        let pair = Fixture.trusted
        let rest = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
        let error = #expect(throws: TLSError.self) {
            try TLSServerContext(certificatePEM: pair.certificatePEM + Array(rest.utf8), keyPEM: pair.keyPEM)
        }
        #expect(error?.code == .certificate)
        #expect(error?.message.contains("chain of issuers") == true)
    }

    /// The daemon has nobody to ask for the passphrase, and must not wait for one on the terminal.
    @Test func keyWithPassphrase() throws {
        let pair = Fixture.trusted
        let key = Array(try Data(contentsOf: URL(fileURLWithPath: Fixture.certificates.encryptedKey(of: pair))))
        let error = #expect(throws: TLSError.self) {
            try TLSServerContext(certificatePEM: pair.certificatePEM, keyPEM: key)
        }
        #expect(error?.code == .key)
    }

    @Test func shortKey() throws {
        let pair = try Fixture.certificates.selfSigned("mx.example.com", key: .rsa(bits: 1024))
        let error = #expect(throws: TLSError.self) { try Fixture.server(pair) }
        #expect(error?.code == .certificate)
        #expect(error?.message.contains("too small") == true)
    }

    @Test func trustFile() throws {
        _ = try TLSClientContext(verifies: true, trustFile: Fixture.authority.certificateFile)
        _ = try TLSClientContext(verifies: true)
        for file in ["/nonexistent/ca.pem", try Fixture.certificates.file("hello\n")] {
            let error = #expect(throws: TLSError.self) { try TLSClientContext(verifies: true, trustFile: file) }
            #expect(error?.code == .trust)
            #expect(error?.message.contains(file) == true)
        }
    }

    /// An error is taken off OpenSSL's queue by whoever gets it: the next one tells of itself alone.
    @Test func errorsDoNotLinger() throws {
        for _ in 0..<3 {
            #expect(throws: TLSError.self) { try TLSServerContext(certificatePEM: [], keyPEM: []) }
        }
        let error = #expect(throws: TLSError.self) { try TLSClientContext(verifies: true, trustFile: "/nonexistent") }
        #expect(error?.message.contains("no start line") == false)
    }
}
