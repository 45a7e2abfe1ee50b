// Other people's answers: the 144 signatures of sign-kat.json, the 32 records of key-records.json, chasquid's messages, and the
// messages of the mail corpus, signed and verified.

import Foundation
import NIOCore
import SlimtaMail
import TestKit
import Testing

@testable import SlimtaDKIM

@Suite(.enabled(if: SharedFiles.areThere, sharedComment)) struct KnownSignatures {
    struct Case: Decodable, CustomTestStringConvertible, Sendable {
        let id: String
        let message64: String
        let canonicalization: String
        let algorithm: String
        let headerFields: [String]
        let signatureFieldUnsigned: String
        let bh: String
        let b: String

        var testDescription: String { id }
    }

    static let cases = SharedFiles.areThere ? (try? SharedFiles.vector([Case].self, "dkim/sign-kat.json")) ?? [] : []

    @Test func areThere() { #expect(Self.cases.count == 144) }

    @Test(arguments: cases) func known(_ known: Case) throws {
        let message = SampleMessage(base64(known.message64))
        let forms = known.canonicalization.split(separator: "/").compactMap { Canonicalization(rawValue: String($0)) }
        let key = try SampleKeys.of(#require(DKIMAlgorithm(rawValue: known.algorithm)))
        let body = Array(message.body.readableBytesView)
        let canonical = try ChunkVerifier.verify(body) { Collected.body($0, forms[1]) }
        #expect(canonical == Oracle.body(body, forms[1]))
        let hash = BodyHash(of: message.body, forms[1])
        #expect(Base64.encode(hash.digest) == known.bh)

        let field = Array(known.signatureFieldUnsigned.utf8)
        let fields = message.header.canonical(known.headerFields.map { $0.asciiLowercased() }, forms[0])
        let signed = DKIMHeader.signedText(fields, forms[0], field: field)
        #expect(Base64.encode(try key.sign(signed)) == known.b)

        // The same, from the other side.
        let whole = field + known.b.utf8 + "\r\n".utf8
        let verifier = DKIMVerifier(message.header, [hash], at: Timestamp(milliseconds: 0))
        #expect(verifier.verify(whole, with: key.publicKey) == .pass(isTesting: false))
        #expect(verifier.verify(whole, with: .records([Array(key.publicKey.record.utf8)])) == .pass(isTesting: false))
        let other = try DKIMSigningKey.generate(.ed25519SHA256).publicKey
        #expect(verifier.verify(whole, with: other) != .pass(isTesting: false))
    }

    /// The public halves in keys.txt are ours.
    @Test func keys() throws {
        let lines = text(try SharedFiles.vector("dkim/keys.txt"))
        for key in [try SampleKeys.rsa(), try SampleKeys.ed25519()] {
            #expect(lines.contains(" TXT \(key.publicKey.record)\n"))
        }
    }
}

@Suite(.enabled(if: SharedFiles.areThere, sharedComment)) struct KnownRecords {
    struct File: Decodable {
        struct Case: Decodable {
            let `case`: String
            let records: [String]?
            let verdicts: [String: String]

            private struct Key: CodingKey {
                let stringValue: String
                var intValue: Int? { nil }
                init(stringValue: String) { self.stringValue = stringValue }
                init?(intValue: Int) { nil }
            }

            init(from decoder: any Decoder) throws {
                let values = try decoder.container(keyedBy: Key.self)
                `case` = try values.decode(String.self, forKey: Key(stringValue: "case"))
                records = try values.decode([String]?.self, forKey: Key(stringValue: "records"))
                verdicts = try ["dkimpy", "opendkim", "Mail::DKIM"].reduce(into: [:]) {
                    $0[$1] = try values.decode(String.self, forKey: Key(stringValue: $1))
                }
            }
        }

        let selectorKeyP: String
        let cases: [Case]

        private enum CodingKeys: String, CodingKey {
            case selectorKeyP = "selector_key_p"
            case cases
        }
    }

    /// What all three verifiers took is right, everything else is not.
    @Test func allOfThem() throws {
        let file = try JSONDecoder().decode(File.self, from: Data(SharedFiles.vector("dkim/key-records.json")))
        #expect(file.cases.count == 32)
        let expected: [String: DKIMRecordVerdict] = [
            "testing": .right(isTesting: true), "absent": .absent, "revoked": .revoked, "other key": .otherKey,
            "cut off": .otherKey, "PKCS1 instead of SPKI": .otherKey, "k=ed25519": .otherKey,
            "two tags p": .malformed(.syntax("two tags p=")),
            "quotes inside": .malformed(.syntax("a tag without a name")),
            "v of other": .malformed(.value("v")), "no semicolon": .malformed(.value("v")),
            "backslash semicolons": .malformed(.value("v")), "h=sha1": .malformed(.value("h")),
            "h=rsa-sha256": .malformed(.value("h")), "s=tlsrpt": .malformed(.value("s")), "g=": .malformed(.value("g")),
            "two records, both right": .several(2), "two records, one of another key": .several(2),
            "with an SPF record beside it": .several(2), "SERVFAIL": .unknown("SERVFAIL"),
        ]
        for one in file.cases {
            let answer: DKIMKeyAnswer
            switch one.records {
            case nil: answer = .failed("SERVFAIL")
            case []?: answer = .absent
            case let records?:
                answer = .records(records.map { Array($0.replacingOccurrences(of: "|", with: "").utf8) })
            }
            // Of 1024 bits the record says itself which key it is.
            let p =
                one.case == "1024 bit"
                ? try #require(one.records?[0].components(separatedBy: "p=").last) : file.selectorKeyP
            let verdict = answer.judged(for: try DKIMPublicKey(.rsaSHA256, octets: base64(p)))
            #expect(verdict == expected[one.case] ?? .right(isTesting: false), "\(one.case)")
            let isRight = if case .right = verdict { true } else { false }
            #expect(isRight == one.verdicts.values.allSatisfy { $0 == "pass" }, "\(one.case)")
        }
    }
}

@Suite(.enabled(if: SharedFiles.areThere, sharedComment)) struct ChasquidMessages {
    struct Outcome: Decodable {
        struct One: Decodable {
            let state: String
            enum CodingKeys: String, CodingKey { case state = "State" }
        }
        let results: [One]
        enum CodingKeys: String, CodingKey { case results = "Results" }
    }

    static let names = [
        "01-rfc8463", "02-too_many_headers", "04-bad_dkim_signature_header", "05-dns_temp_error", "06-dns_perm_error",
        "07-algo_mismatch", "08-our_signature", "09-limited_body", "10-strict_domain_check_pass",
        "11-strict_domain_check_fail",
    ]
    /// Where we are stricter on purpose: two records at a name, of which one fits; a signature with `l=`.
    static let refused: [String: (place: Int, failure: DKIMFailure)] = [
        "07-algo_mismatch": (0, .record(.several(2))), "09-limited_body": (0, .bodyLength),
    ]

    /// `NAME: \`, then the record on lines that end with `\`.
    static func zone(_ file: [UInt8]) -> [String: DKIMKeyAnswer] {
        let joined = text(file).replacingOccurrences(of: "\\\n", with: "")
        return joined.split(separator: "\n").reduce(into: [:]) { zone, line in
            let parts = line.split(separator: ":", maxSplits: 1).map { $0.trimmingCharacters(in: .whitespaces) }
            switch (parts[1], zone[parts[0]]) {
            case ("TEMPERROR", _): zone[parts[0]] = .failed("for testing")
            case ("PERMERROR", _): zone[parts[0]] = .absent
            case (_, .records(let others)?): zone[parts[0]] = .records(others + [Array(parts[1].utf8)])
            default: zone[parts[0]] = .records([Array(parts[1].utf8)])
            }
        }
    }

    @Test(arguments: names) func message(_ name: String) throws {
        let message = SampleMessage(withCRLF(try SharedFiles.vector("dkim/chasquid/\(name).msg")))
        let zone = (try? SharedFiles.vector("dkim/chasquid/\(name).dns")).map(Self.zone) ?? [:]
        let expected = try JSONDecoder().decode(
            Outcome.self, from: Data(SharedFiles.vector("dkim/chasquid/\(name).result")))
        // chasquid looks at the first five; so many there are in one of them more.
        for (place, (signature, outcome)) in zip(message.signatures, expected.results).enumerated() {
            let answer = (try? DKIMSignature(parsing: signature.field)).flatMap { zone[$0.recordName] } ?? .absent
            let verdict = DKIMVerifier(signature.header, message.hashes, at: .now()).verify(
                signature.field, with: answer)
            if let refused = Self.refused[name], refused.place == place {
                #expect(verdict == .fail(refused.failure))
                continue
            }
            switch outcome.state {
            case "SUCCESS": #expect(verdict == .pass(isTesting: false), "\(place)")
            case "TEMPFAIL": #expect(verdict == .unknown("for testing"), "\(place)")
            default: if case .fail = verdict {} else { Issue.record("\(place): \(verdict)") }
            }
        }
        #expect(message.signatures.count >= expected.results.count && !expected.results.isEmpty)
    }

    /// 03: a line that goes on where nothing began.
    @Test func badMessage() throws {
        let message = SampleMessage(withCRLF(try SharedFiles.vector("dkim/chasquid/03-bad_message.msg")))
        #expect(!message.header.isWellFormed)
    }
}

@Suite(.enabled(if: SharedFiles.areThere, sharedComment)) struct CorpusSignatures {
    static let corpus: [String] = ["ruby-mail", "enmime"].flatMap { folder in
        let root = SharedFiles.vectors.appending(path: "mail-corpus/" + folder).path
        let files = FileManager.default.enumerator(atPath: root)?.compactMap { $0 as? String } ?? []
        return files.filter { !$0.contains("LICENSE") && $0.contains(".") }.sorted().map { "\(folder)/\($0)" }
    }

    /// Signed in each way, verified, and never when it was changed. Other people's verifiers: Tests/Interop/test_dkim.py.
    @Test(arguments: corpus) func signed(_ path: String) throws {
        let message = SampleMessage(withCRLF(try SharedFiles.vector("mail-corpus/" + path)))
        let authors = message.header.counts["from"] ?? 0
        let time = Timestamp(milliseconds: 1_795_877_839_250)
        for algorithm in DKIMAlgorithm.allCases {
            let key = try SampleKeys.of(algorithm)
            for (header, body) in [
                (Canonicalization.relaxed, Canonicalization.relaxed), (.simple, .relaxed), (.relaxed, .simple),
                (.simple, .simple),
            ] {
                let signer = DKIMSigner(
                    domain: "example.com", selector: "s", key: key,
                    canonicalizations: Canonicalizations(header: header, body: body), lifetime: nil)
                let hash = BodyHash(of: message.body, body)
                guard authors == 1, message.header.isWellFormed else {
                    #expect(throws: DKIMSigningError.self) { try signer.sign(message.header, hash, at: time) }
                    continue
                }
                let field = try signer.sign(message.header, hash, at: time)
                let verifier = DKIMVerifier(message.header, [hash], at: time)
                #expect(verifier.verify(field, with: key.publicKey) == .pass(isTesting: false))
                var more = message.header
                more.prepend(ByteBuffer(string: "Subject: another\r\n"))
                #expect(DKIMVerifier(more, [hash], at: time).verify(field, with: key.publicKey) == .fail(.signature))
                more = message.header
                more.prepend(ByteBuffer(string: "Received: by a\r\nX-A: b\r\nSender: c@example.net\r\n"))
                #expect(
                    DKIMVerifier(more, [hash], at: time).verify(field, with: key.publicKey) == .pass(isTesting: false))
                let other = BodyHash(canonicalization: body, digest: [UInt8](repeating: 0, count: 32))
                #expect(
                    DKIMVerifier(message.header, [other], at: time).verify(field, with: key.publicKey)
                        == .fail(.bodyHash))
            }
        }
    }
}
