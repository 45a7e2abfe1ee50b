// New keys: made here, and read by the openssl command and by ourselves.

import Foundation
import TestKit
import Testing

@testable import SlimtaCrypto

@Suite struct KeyPairTests {
    private func openSSL(_ pem: [UInt8], _ arguments: [String]) throws -> String {
        let folder = FileManager.default.temporaryDirectory.appending(path: "pair-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        try Data(pem).write(to: folder.appending(path: "key"))
        try runOpenSSL(["pkey", "-in", "key"] + arguments + ["-out", "said"], in: folder.path)
        return String(decoding: try Data(contentsOf: folder.appending(path: "said")), as: UTF8.self)
    }

    @Test(arguments: [1024, 2048]) func rsa(_ bits: Int) throws {
        let key = try PrivateKey.generateRSA(bits: bits)
        let publicKey = try key.publicKey
        #expect(key.scheme == .rsaSHA256 && publicKey.bits == bits && publicKey.ed25519 == nil)
        let text = try openSSL(key.pem, ["-noout", "-text"])
        #expect(text.contains("\(bits) bit") && text.contains("publicExponent: 65537"))
        #expect(publicKey.isSignature(try key.sign("a".utf8), of: "a".utf8))
        let other = try PrivateKey.generateRSA(bits: bits).publicKey
        #expect(other.subjectPublicKeyInfo != publicKey.subjectPublicKeyInfo)
    }

    @Test func ed25519() throws {
        let key = try PrivateKey.generateEd25519()
        let octets = try #require(try key.publicKey.ed25519)
        #expect(octets.count == 32)
        #expect(try PublicKey(ed25519: octets).isSignature(key.sign("a".utf8), of: "a".utf8))
        // RFC 8410 section 4: the octets end the DER.
        #expect(try key.publicKey.subjectPublicKeyInfo.suffix(32) == octets[...])
        #expect(try openSSL(key.pem, ["-noout", "-text"]).contains("ED25519"))
    }

    /// PKCS #8 without a passphrase, whole, and the same key when it is read again.
    @Test func pem() throws {
        for key in [try PrivateKey.generateEd25519(), try .generateRSA(bits: 1024)] {
            let pem = try key.pem
            let text = String(decoding: pem, as: UTF8.self)
            #expect(text.hasPrefix("-----BEGIN PRIVATE KEY-----\n") && text.hasSuffix("-----END PRIVATE KEY-----\n"))
            let again = try PrivateKey(pem: pem)
            #expect(try again.publicKey.subjectPublicKeyInfo == key.publicKey.subjectPublicKeyInfo)
        }
    }

    @Test func impossible() { #expect(throws: CryptoError.self) { try PrivateKey.generateRSA(bits: 16) } }
}
