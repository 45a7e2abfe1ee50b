// Sets of keys as issuers publish them, and broken ones.

import SlimtaCrypto
import SlimtaNet
import TestKit
import Testing

@testable import SlimtaEdge

@Suite struct JSONWebKeysTests {
    private func keys(_ members: [JSON]) throws -> JSONWebKeys { try JSONWebKeys(Issuer.set(members)) }

    private func isKey(_ choice: JSONWebKeys.Choice) -> Bool { if case .key = choice { true } else { false } }

    private func isUnknown(_ choice: JSONWebKeys.Choice) -> Bool { if case .unknown = choice { true } else { false } }

    @Test func choice() throws {
        let issuer = try Issuer.shared.get()
        let keys = try keys(issuer.jwks)
        #expect(keys.count == 3)
        for algorithm in TokenAlgorithm.allCases {
            #expect(isKey(keys.key(issuer.key(algorithm).id, for: algorithm)))
            #expect(isKey(keys.key(nil, for: algorithm)))
            #expect(isUnknown(keys.key("rsa-9", for: algorithm)))
            // Those that were passed over are not there.
            #expect(isUnknown(keys.key("enc", for: algorithm)) && isUnknown(keys.key("", for: algorithm)))
        }
        // A key that has the name is not asked for again because it does not fit.
        if case .none = keys.key("rsa-1", for: .es256) {} else { Issue.record("a key of RSA for ES256") }
        if case .none = keys.key("ec-1", for: .rs256) {} else { Issue.record("a key of ECDSA for RS256") }
    }

    /// One name for two keys of different kinds (RFC 7517 section 4.5), and for two of one.
    @Test func sameNames() throws {
        let issuer = try Issuer.shared.get()
        let shared = try keys([issuer.rsa.jwk(), issuer.ec.jwk([("kid", "rsa-1")])])
        #expect(isKey(shared.key("rsa-1", for: .ps256)) && isKey(shared.key("rsa-1", for: .es256)))
        let twice = try keys([issuer.ec.jwk(), issuer.ec.jwk()])
        if case .none = twice.key("ec-1", for: .es256) {} else { Issue.record("one of two") }
    }

    @Test func itsOwnAlgorithm() throws {
        let issuer = try Issuer.shared.get()
        let keys = try keys([issuer.rsa.jwk([("alg", "PS256")])])
        #expect(isKey(keys.key("rsa-1", for: .ps256)) && !isKey(keys.key("rsa-1", for: .rs256)))
    }

    /// What is passed over. The second key is there so that the set is one.
    @Test func passedOver() throws {
        let issuer = try Issuer.shared.get()
        let x = try issuer.ec.jwk()["x"]
        let unusable: [JSON] = [
            .null, .string("key"), .array([]), .object([]),
            try issuer.rsa.jwk([("use", "enc")]), try issuer.rsa.jwk([("use", .number(1))]),
            try issuer.rsa.jwk([("key_ops", .array(["sign", "encrypt"]))]), try issuer.rsa.jwk([("kid", .number(1))]),
            try issuer.rsa.jwk([("alg", "RSA-OAEP")]), try issuer.rsa.jwk([("alg", "HS256")]),
            try issuer.rsa.jwk([("alg", .array(["RS256"]))]), try issuer.rsa.jwk([("kty", "EC")]),
            try issuer.rsa.jwk([("n", "AQAB")]), try issuer.rsa.jwk([("n", .null)]), try issuer.rsa.jwk([("e", "AA")]),
            try issuer.rsa.jwk([("e", "AQ")]), try issuer.rsa.jwk([("e", "Ag")]), try issuer.rsa.jwk([("e", "AQAB==")]),
            try issuer.rsa.jwk([("e", .string(base64URL([UInt8](repeating: 1, count: 9))))]),
            try issuer.rsa.jwk([("n", .string(base64URL([UInt8](repeating: 1, count: 2000))))]),
            try IssuerKey("short", .rsa(bits: 1024)).jwk(),
            try issuer.ec.jwk([("crv", "P-384")]), try issuer.ec.jwk([("crv", "secp256k1")]),
            try issuer.ec.jwk([("y", x)]), try issuer.ec.jwk([("x", "AA")]), try issuer.ec.jwk([("kty", "OKP")]),
            try issuer.ed.jwk([("crv", "Ed448")]), try issuer.ed.jwk([("crv", "X25519")]),
            try issuer.ed.jwk([("x", "AA")]),
            .object([.init("kty", "oct"), .init("k", "c2VjcmV0")]),
        ]
        for key in unusable {
            #expect(throws: JSONWebKeys.Fault.self, "\(key.line)") { try keys([key]) }
            #expect(try keys([key, issuer.ed.jwk()]).count == 1, "\(key.line)")
        }
        #expect(try keys([issuer.rsa.jwk([("key_ops", .array(["verify"])), ("use", .null)])]).count == 1)
    }

    /// What an operator reads.
    @Test func faults() throws {
        let issuer = try Issuer.shared.get()
        let faults: [([UInt8], String)] = [
            ([], "not JSON at octet 0: no value"),
            (Array("<html>Sign in</html>".utf8), "not JSON at octet 0: no value"),
            (Array("[]".utf8), "no JWK set: it has no array \"keys\""),
            (Array(#"{"keys":{}}"#.utf8), "no JWK set: it has no array \"keys\""),
            (Array(#"{"keys":[]}"#.utf8), "none of its 0 keys can check RS256, PS256, ES256 or EdDSA"),
            (Array(#"{"keys":[],"keys":[]}"#.utf8), "not JSON at octet 17: a name twice"),
            (Issuer.set(Array(repeating: .object([]), count: 257)), "more than 256 keys"),
            (try issuer.set + Array(repeating: UInt8(ascii: " "), count: JSONWebKeys.limit), "longer than 512 KiB"),
        ]
        for (octets, text) in faults {
            let error = #expect(throws: JSONWebKeys.Fault.self) { try JSONWebKeys(octets) }
            #expect(error?.description == text)
        }
    }
}
