// An issuer of tokens for the tests of this folder: its keys are made by the openssl command when they run.

import SlimtaCrypto
import SlimtaMail
import SlimtaNet
import TestKit

@testable import SlimtaEdge

/// Base64url without padding.
func base64URL(_ octets: some Collection<UInt8>) -> String {
    String(
        Base64.encode(octets).prefix { $0 != "=" }.map { $0 == "+" ? "-" : $0 == "/" ? "_" : $0 })
}

/// A key with the name that tokens know it by.
struct IssuerKey: Sendable {
    let id: String
    let key: PrivateKey

    init(_ id: String, _ kind: Certificates.Key) throws {
        self.id = id
        let files = try Certificates()
        key = try withExtendedLifetime(files) {
            try PrivateKey(pem: files.selfSigned("issuer.test", key: kind).keyPEM)
        }
    }

    /// RFC 7518 section 6, read from where each kind's SubjectPublicKeyInfo has its numbers.
    func jwk(_ more: [(String, JSON)] = []) throws -> JSON {
        let info = try key.publicKey.subjectPublicKeyInfo
        var members: [(String, JSON)] = [("kid", .string(id)), ("use", "sig")]
        switch key.scheme {
        case .rsaSHA256, .rsaPSS:
            let bits = try key.publicKey.bits
            members += [
                ("kty", "RSA"), ("n", .string(base64URL(info.dropLast(5).suffix(bits / 8)))),
                ("e", .string(base64URL(info.suffix(3)))),
            ]
        case .ecdsaP256:
            members += [
                ("kty", "EC"), ("crv", "P-256"), ("x", .string(base64URL(info.suffix(64).prefix(32)))),
                ("y", .string(base64URL(info.suffix(32)))),
            ]
        case .ed25519:
            members += [("kty", "OKP"), ("crv", "Ed25519"), ("x", .string(base64URL(info.suffix(32))))]
        }
        for (name, value) in more { members.removeAll { $0.0 == name }; members.append((name, value)) }
        return .object(members.map { JSON.Member($0.0, $0.1) })
    }
}

/// Keys for all algorithms, as the laboratory's issuer has them.
struct Issuer: Sendable {
    static let name = "https://issuer.test/realm"
    let (rsa, ec, ed): (IssuerKey, IssuerKey, IssuerKey)

    /// One is enough for most.
    static let shared = Result { try Issuer("1") }

    init(_ number: String) throws {
        rsa = try IssuerKey("rsa-\(number)", .rsa(bits: 2048))
        ec = try IssuerKey("ec-\(number)", .ecdsa)
        ed = try IssuerKey("ed-\(number)", .ed25519)
    }

    func key(_ algorithm: TokenAlgorithm) -> IssuerKey {
        switch algorithm {
        case .rs256, .ps256: rsa
        case .es256: ec
        case .edDSA: ed
        }
    }

    /// RSA's says nothing of its algorithm, since it has two.
    var jwks: [JSON] {
        get throws {
            [
                try rsa.jwk(), try ec.jwk([("alg", "ES256")]), try ed.jwk([("alg", "EdDSA")]),
                // To be passed over.
                .object([.init("kty", "RSA"), .init("use", "enc"), .init("kid", "enc"), .init("n", "AQAB")]),
                .object([.init("kty", "XYZ"), .init("kid", "future")]),
            ]
        }
    }

    var set: [UInt8] { get throws { Issuer.set(try jwks) } }

    static func set(_ keys: [JSON]) -> [UInt8] { Array(JSON.object([.init("keys", .array(keys))]).line.utf8) }

    /// A good token, changed as a test wants it: a member that is null is left out.
    func token(
        _ algorithm: TokenAlgorithm = .rs256, claims: [(String, JSON)] = [], header: [(String, JSON)] = [],
        key: PrivateKey? = nil, now: Int64 = Issuer.now.seconds
    ) throws -> String {
        let head = Self.object(
            [("alg", .string(algorithm.rawValue)), ("typ", "at+jwt"), ("kid", .string(self.key(algorithm).id))], header)
        let body = Self.object(
            [
                ("iss", .string(Issuer.name)), ("aud", "slimtad"), ("sub", "maria"),
                ("email", "maria@example.com"), ("email_verified", .bool(true)), ("preferred_username", "maria"),
                ("scope", "openid smtp"), ("client_id", "mua"), ("iat", .number(now)), ("nbf", .number(now)),
                ("exp", .number(now + 600)),
            ], claims)
        return try sign(head, body, algorithm, key)
    }

    func sign(_ head: String, _ body: String, _ algorithm: TokenAlgorithm, _ key: PrivateKey? = nil) throws -> String {
        let content = "\(base64URL(head.utf8)).\(base64URL(body.utf8))"
        let signature = try (key ?? self.key(algorithm).key).sign(content.utf8, by: algorithm.scheme)
        return "\(content).\(base64URL(signature))"
    }

    static func object(_ members: [(String, JSON)], _ changes: [(String, JSON)]) -> String {
        var members = members
        for (name, value) in changes {
            members.removeAll { $0.0 == name }
            if value != .null { members.append((name, value)) }
        }
        return JSON.object(members.map { JSON.Member($0.0, $0.1) }).line
    }

    static let now = Timestamp(milliseconds: 1_800_000_000_500)
    static let rules = TokenRules(issuer: Issuer.name, audience: ["slimtad"])
}

extension JSON: ExpressibleByStringLiteral {
    package init(stringLiteral text: String) { self = .string(text) }
}
