// Records of keys: written and read again, and what is none. What verifiers take is in VectorTests.swift.

import SlimtaCrypto
import SlimtaMail
import TestKit
import Testing

@testable import SlimtaDKIM

@Suite struct KeyRecordTests {
    @Test(arguments: DKIMAlgorithm.allCases) func published(_ algorithm: DKIMAlgorithm) throws {
        let key = try DKIMSigningKey.generate(algorithm)
        #expect(key.algorithm == algorithm && key.publicKey.warning == nil)
        // Kept in a file, it is the same key.
        #expect(try DKIMSigningKey(pem: key.pem).publicKey == key.publicKey)
        let record = key.publicKey.record
        #expect(record.hasPrefix("v=DKIM1; k=\(algorithm.keyType); p=") && !record.contains("\""))
        #expect(DKIMKeyAnswer.records([Array(record.utf8)]).judged(for: key.publicKey) == .right(isTesting: false))
        // As a line of a zone file: no string is too long, and all together are the record.
        let line = key.publicKey.zoneLine("s._domainkey.example.com")
        let strings = line.split(separator: "\"").enumerated().filter { $0.offset % 2 == 1 }.map(\.element)
        #expect(line.hasPrefix("s._domainkey.example.com. IN TXT \"v=DKIM1; "))
        #expect(strings.allSatisfy { (1...255).contains($0.utf8.count) } && strings.joined() == record)
        #expect(strings.count == (algorithm == .rsaSHA256 ? 2 : 1))
        let other = try DKIMSigningKey.generate(algorithm).publicKey
        #expect(DKIMKeyAnswer.records([Array(record.utf8)]).judged(for: other) == .otherKey)
    }

    @Test func ed25519() throws {
        let key = try SampleKeys.ed25519().publicKey
        #expect(key.record == "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=")
        for (record, verdict) in [
            ("k=rsa; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=", DKIMRecordVerdict.otherKey),
            ("p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=", .otherKey),
            ("k=ed25519; p=\(Base64.encode(key.octets.dropLast()))", .otherKey), ("k=ed25519; p=", .revoked),
            ("k=ed25519; t=s:y; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=", .right(isTesting: true)),
            (
                "k=ed25519; s=other : email; h=sha1:sha256; n=x y; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=;",
                .right(isTesting: false)
            ),
            ("k=ed25519; g=*; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=", .right(isTesting: false)),
            ("k=ed25519; g=a; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=", .malformed(.value("g"))),
            ("k=ed448; p=AAAA", .malformed(.value("k"))), ("v=DKIM1", .malformed(.missing("p"))),
            ("k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo", .malformed(.value("p"))),
            ("v=spf1 -all", .malformed(.value("v"))), ("", .malformed(.syntax("a tag without a name"))),
        ] {
            #expect(DKIMKeyAnswer.records([Array(record.utf8)]).judged(for: key) == verdict, "\(record)")
        }
        #expect(DKIMKeyAnswer.records([]).judged(for: key) == .absent)
    }

    /// Lengths: refused, warned of, well.
    @Test(arguments: [(1024, true), (2048, false), (5120, true)]) func lengths(_ bits: Int, _ isWarned: Bool) throws {
        let key = try DKIMSigningKey(PrivateKey.generateRSA(bits: bits))
        #expect(key.publicKey.bits == bits && (key.publicKey.warning != nil) == isWarned)
    }

    @Test func refusedKeys() throws {
        let short = try PrivateKey.generateRSA(bits: 1023)
        #expect(throws: CryptoError.self) { try DKIMSigningKey(short) }
        #expect(try DKIMPublicKey(short.publicKey).isTooWeak)
        #expect(throws: CryptoError.self) { try DKIMSigningKey(pem: Array("no key".utf8)) }
        #expect(throws: CryptoError.self) { try DKIMPublicKey(.rsaSHA256, octets: [1, 2]) }
        #expect(throws: CryptoError.self) { try DKIMPublicKey(.ed25519SHA256, octets: [1, 2]) }
        // An Ed25519 key is none of RSA's, in whatever form.
        let info = try PrivateKey.generateEd25519().publicKey.subjectPublicKeyInfo
        #expect(throws: CryptoError.self) { try DKIMPublicKey(.rsaSHA256, octets: info) }
    }

    /// A verifier with DNS: what records say beside the key.
    @Test func verifierAndRecords() throws {
        let message = SampleMessage("From: a@example.com\r\n\r\nHi.\r\n")
        let key = try SampleKeys.ed25519()
        let signer = DKIMSigner(domain: "example.com", selector: "s", key: key, lifetime: nil)
        let field = try signer.sign(message.header, BodyHash(of: message.body, .relaxed), at: .now())
        let verifier = DKIMVerifier(message.header, message.hashes, at: .now())
        let record = key.publicKey.record
        for (answer, verdict) in [
            (DKIMKeyAnswer.records([Array(record.utf8)]), DKIMVerdict.pass(isTesting: false)),
            (.records([Array("\(record); t=y".utf8)]), .pass(isTesting: true)),
            (.records([Array("\(record); t=s".utf8)]), .pass(isTesting: false)),
            (.failed("SERVFAIL"), .unknown("SERVFAIL")), (.absent, .fail(.record(.absent))),
            (.records([Array("v=DKIM1; p=".utf8)]), .fail(.record(.revoked))),
            (.records([Array("k=ed25519; p=AAAA".utf8)]), .fail(.record(.malformed(.value("p"))))),
            (.records([Array("k=rsa; p=AAAA".utf8)]), .fail(.record(.otherKey))),
            (.records([Array(record.utf8), Array("v=spf1".utf8)]), .fail(.record(.several(2)))),
        ] {
            #expect(verifier.verify(field, with: answer) == verdict)
        }
        #expect(DKIMVerifier(message.header, [], at: .now()).verify(field, with: key.publicKey) == .fail(.bodyHash))
        let cut = SampleMessage("From: a@example.com\r\nno field\r\n")
        #expect(
            DKIMVerifier(cut.header, message.hashes, at: .now()).verify(field, with: key.publicKey)
                == .fail(.malformedHeader))
    }
}
