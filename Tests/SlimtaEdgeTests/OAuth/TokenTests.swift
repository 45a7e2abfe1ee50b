// Tokens, good and bad: form, signature and claims, by keys that are made here.

import SlimtaCrypto
import SlimtaMail
import SlimtaNet
import TestKit
import Testing

@testable import SlimtaEdge

/// What the checks of TokenVerifier say of a token, in its order.
private func login(
    _ token: String, _ keys: JSONWebKeys, _ rules: TokenRules = Issuer.rules, now: Timestamp = Issuer.now
) throws(TokenFault) -> String {
    let token = try SignedToken(parsing: token.utf8, algorithms: rules.algorithms)
    guard case .key(let key) = keys.key(token.keyID, for: token.algorithm) else { throw .key }
    guard token.isSigned(by: key) else { throw .signature }
    try rules.check(type: token.type)
    return try rules.login(token.claims, now: now).name
}

@Suite struct TokenTests {
    let issuer: Issuer
    let keys: JSONWebKeys

    init() throws {
        issuer = try Issuer.shared.get()
        keys = try JSONWebKeys(issuer.set)
    }

    @Test(arguments: TokenAlgorithm.allCases) func good(_ algorithm: TokenAlgorithm) throws {
        #expect(try login(issuer.token(algorithm), keys) == "maria@example.com")
        var rules = Issuer.rules
        rules.algorithms.remove(algorithm)
        #expect(throws: TokenFault.algorithm) { try login(issuer.token(algorithm), keys, rules) }
    }

    /// Every bad token of the laboratory's issuer (jwks.py cases), and what is found wrong with it.
    @Test func bad() throws {
        let now = Issuer.now.seconds
        let content = try issuer.token(.es256)
        let parts = content.split(separator: ".")
        let other = try IssuerKey("other", .ecdsa)
        let signature = try #require(Base64.decode(url: parts[2].utf8))
        let flipped = [signature[0] ^ 1] + signature.dropFirst()
        let (r, s) = (Array(signature.prefix(32)), Array(signature.suffix(32)))
        let der = [0x30, 70, 2, 33, 0] + r + [2, 33, 0] + s
        let hmac = try HashFunction.sha256.hmac(content.utf8, key: issuer.rsa.key.publicKey.subjectPublicKeyInfo)
        let body = Issuer.object([("iss", .string(Issuer.name))], [])
        let cases: [(String, TokenFault, String)] = [
            ("expired", .expired, try issuer.token(claims: [("exp", .number(now - 3600))])),
            ("early", .early, try issuer.token(claims: [("nbf", .number(now + 3600))])),
            ("issuer", .issuer, try issuer.token(claims: [("iss", .string(Issuer.name + "/other"))])),
            ("audience", .audience, try issuer.token(claims: [("aud", .array(["account", "another"]))])),
            ("noaud", .audience, try issuer.token(claims: [("aud", .null)])),
            ("noexp", .expired, try issuer.token(claims: [("exp", .null)])),
            ("none", .algorithm, "\(base64URL(#"{"alg":"none"}"#.utf8)).\(base64URL(body.utf8))."),
            (
                "hs256", .algorithm,
                "\(base64URL(#"{"alg":"HS256","kid":"rsa-1"}"#.utf8)).\(parts[1]).\(base64URL(hmac))"
            ),
            ("kid", .key, try issuer.token(header: [("kid", "rsa-2")])),
            ("kidconfusion", .key, try issuer.token(.es256, header: [("kid", "rsa-1")])),
            ("sig", .signature, "\(parts[0]).\(parts[1]).\(base64URL(flipped))"),
            ("der", .signature, "\(parts[0]).\(parts[1]).\(base64URL(der))"),
            ("crit", .critical, try issuer.token(header: [("crit", .array(["urn:x"])), ("urn:x", .bool(true))])),
            (
                "jwk", .signature,
                try issuer.token(.es256, header: [("kid", .null), ("jwk", try other.jwk())], key: other.key)
            ),
            (
                "idtoken", .audience,
                try issuer.token(
                    claims: [("aud", "mua"), ("azp", "mua"), ("nonce", "n"), ("scope", .null)],
                    header: [("typ", "JWT")])
            ),
            (
                "dupclaim", .malformed,
                try issuer.sign(
                    #"{"alg":"RS256","kid":"rsa-1"}"#, String(body.dropLast()) + #","sub":"maria","sub":"root"}"#,
                    .rs256)
            ),
            ("expstring", .expired, try issuer.token(claims: [("exp", .string("\(now + 600)"))])),
            (
                "huge", .tooLong,
                try issuer.token(claims: [("groups", .array((0..<8000).map { .string("g\($0)") }))])
            ),
            ("array", .malformed, try issuer.sign(#"{"alg":"RS256","kid":"rsa-1"}"#, "[]", .rs256)),
            ("padded", .malformed, "\(Base64.encode(#"{"alg":"RS256"} "#.utf8)).\(parts[1]).\(parts[2])"),
        ]
        for (name, fault, token) in cases {
            #expect(throws: fault, "\(name)") { try login(token, keys) }
        }
        // The last of them: without the name of a key. It is right as long as nobody need guess which is meant.
        let nameless = try issuer.token(header: [("kid", .null)])
        #expect(try login(nameless, keys) == "maria@example.com")
        let rotated = try JSONWebKeys(Issuer.set(issuer.jwks + [IssuerKey("rsa-2", .rsa(bits: 2048)).jwk()]))
        #expect(throws: TokenFault.key) { try login(nameless, rotated) }
    }

    @Test func forms() throws {
        let parts = try issuer.token().split(separator: ".").map(String.init)
        let bad = [
            "", ".", "..", "...", "a.b.c", parts[0], "\(parts[0]).\(parts[1])", parts.joined(separator: ".") + ".",
            "\(parts[0]).\(parts[1]).\(parts[2])=", "\(parts[0]). \(parts[1]).\(parts[2])",
            "\(parts[0]).\(parts[1]).\(parts[2])\n", "\(parts[0])..\(parts[2])", ".\(parts[1]).\(parts[2])",
            "\(parts[0]).\(parts[1]).+/+/", "\(parts[1]).\(parts[1]).\(parts[2])",
            "\(base64URL(#"{"alg":1}"#.utf8)).\(parts[1]).\(parts[2])",
            "\(base64URL(#"{"alg":"RS256","alg":"RS256"}"#.utf8)).\(parts[1]).\(parts[2])",
            "\(base64URL(#"{"alg":"RS256","kid":1}"#.utf8)).\(parts[1]).\(parts[2])",
            "\(base64URL(#"{"alg":"RS256","typ":[]}"#.utf8)).\(parts[1]).\(parts[2])",
            "\(base64URL(#"{"alg":"RS256"}x"#.utf8)).\(parts[1]).\(parts[2])",
        ]
        for token in bad {
            #expect(throws: TokenFault.malformed, "\(token)") { try login(token, keys) }
        }
        // A signature with other octets, but for none at all.
        for signature in ["", "AA", String(parts[2].dropLast(2))] {
            #expect(throws: TokenFault.signature) { try login("\(parts[0]).\(parts[1]).\(signature)", keys) }
        }
        #expect(throws: TokenFault.tooLong) { try login(String(repeating: "a", count: 8193), keys) }
        #expect(throws: TokenFault.malformed) { try login(String(repeating: ".", count: 8192), keys) }
    }

    @Test func types() throws {
        var strict = Issuer.rules
        strict.isStrictAboutType = true
        let types: [(JSON, isAccessToken: Bool, isTaken: Bool)] = [
            ("at+jwt", true, true), ("application/at+jwt", true, true), ("AT+JWT", true, true), ("JWT", false, true),
            (.null, false, true), ("logout+jwt", false, false), ("secevent+jwt", false, false), ("", false, false),
        ]
        for (type, isAccessToken, isTaken) in types {
            let token = try issuer.token(header: [("typ", type)])
            #expect(((try? login(token, keys)) != nil) == isTaken, "\(type)")
            #expect(((try? login(token, keys, strict)) != nil) == isAccessToken, "\(type)")
        }
    }

    /// Claims that change who gets in: nil is who is let in by the usual rules.
    @Test func claims() throws {
        let now = Issuer.now.seconds
        let cases: [([(String, JSON)], TokenFault?)] = [
            ([("iss", .string(Issuer.name + "/"))], .issuer), ([("iss", .array([.string(Issuer.name)]))], .issuer),
            ([("iss", .null)], .issuer),
            ([("aud", .array(["other", "slimtad"]))], nil), ([("aud", "SLIMTAD")], .audience),
            ([("aud", .array([]))], .audience), ([("aud", .array(["slimtad", .number(1)]))], .audience),
            ([("exp", .number(now - 59))], nil), ([("exp", .number(now - 60))], .expired),
            ([("exp", .decimal(try #require(JSON.Decimal(Double(now) - 59.25))))], nil),
            ([("exp", .number(.max))], nil), ([("exp", .bool(true))], .expired),
            ([("nbf", .number(now + 60))], nil), ([("nbf", .number(now + 61))], .early),
            ([("nbf", .string("\(now)"))], .early), ([("nbf", .null), ("iat", .null)], nil),
            ([("iat", .number(now + 61))], .early), ([("iat", .string("now"))], .early),
            ([("email", .null)], .login), ([("email", "")], .login), ([("email", .array(["a@b.test"]))], .login),
            ([("email", "  maria@example.com ")], nil), ([("email", "  ")], .login),
            ([("email", "a\nb@c.test")], .login),
            ([("email", .string("a@\u{202E}c.test\u{0}"))], .login),
            ([("email", .string(String(repeating: "a", count: 256)))], .login),
            ([("email_verified", .null)], .unverified), ([("email_verified", "true")], .unverified),
            ([("email_verified", .bool(false))], .unverified),
        ]
        for (claims, fault) in cases {
            let token = try issuer.token(claims: claims)
            if let fault {
                #expect(throws: fault, "\(claims)") { try login(token, keys) }
            } else {
                #expect(try login(token, keys) == "maria@example.com", "\(claims)")
            }
        }
    }

    @Test func configuredClaims() throws {
        var rules = Issuer.rules
        rules.claim = "preferred_username"
        #expect(try login(issuer.token(claims: [("email", .null)]), keys, rules) == "maria")
        // Never another claim instead.
        #expect(throws: TokenFault.login) {
            try login(issuer.token(claims: [("preferred_username", .null)]), keys, rules)
        }
        rules = Issuer.rules
        rules.takesUnverifiedEmail = true
        #expect(try login(issuer.token(claims: [("email_verified", .null)]), keys, rules) == "maria@example.com")

        rules = Issuer.rules
        rules.requiredScopes = ["smtp", "openid"]
        #expect(try login(issuer.token(), keys, rules) == "maria@example.com")
        let scopes: [([(String, JSON)], Bool)] = [
            ([("scope", "smtp")], false), ([("scope", "smtpx openid")], false), ([("scope", .null)], false),
            ([("scope", .null), ("scp", "openid smtp")], true),
            ([("scope", "openid"), ("scp", .array(["smtp"]))], true),
            ([("scope", .number(1)), ("scp", .array(["smtp", .number(1), "openid"]))], false),
        ]
        for (claims, isTaken) in scopes {
            #expect(((try? login(issuer.token(claims: claims), keys, rules)) != nil) == isTaken, "\(claims)")
        }

        rules = Issuer.rules
        rules.clients = ["mua", "phone"]
        let clients: [([(String, JSON)], Bool)] = [
            ([], true), ([("client_id", "web")], false), ([("client_id", .null)], false),
            ([("client_id", .null), ("azp", "phone")], true), ([("client_id", "web"), ("azp", "phone")], false),
        ]
        for (claims, isTaken) in clients {
            #expect(((try? login(issuer.token(claims: claims), keys, rules)) != nil) == isTaken, "\(claims)")
        }

        // Where the issuer itself is asked about each token, it need not say who it is.
        rules = TokenRules(issuer: nil, audience: ["other", "slimtad"])
        #expect(try login(issuer.token(claims: [("iss", .null)]), keys, rules) == "maria@example.com")
    }

    @Test func senders() throws {
        func senders(_ claims: [(String, JSON)], _ rules: TokenRules) throws -> [String] {
            let token = try SignedToken(parsing: issuer.token(claims: claims).utf8, algorithms: rules.algorithms)
            return try rules.login(token.claims, now: Issuer.now).senders
        }
        var rules = Issuer.rules
        #expect(try senders([], rules) == ["maria@example.com"])
        rules.claim = "sub"
        #expect(try senders([], rules) == [])
        rules.sendersClaim = "email"
        #expect(try senders([], rules) == ["maria@example.com"])
        #expect(try senders([("email_verified", .null)], rules) == [])
        rules.sendersClaim = "addresses"
        #expect(try senders([], rules) == [])
        // What is no address would mean something else where senders are.
        let claim: JSON = .array(["a@x.test", "", "@x.test", "*", "b", "b@y.test"])
        #expect(try senders([("addresses", claim)], rules) == ["a@x.test", "b@y.test"])
        #expect(try senders([("addresses", .array(["a@x.test", .number(1)]))], rules) == [])
    }

    @Test func whoItIs() {
        for said in ["", "maria@example.com", "Maria@Example.COM"] {
            #expect(TokenRules.isSame(said, as: "maria@example.com"))
        }
        #expect(TokenRules.isSame("jos\u{E9}", as: "Jose\u{301}"))
        for said in ["maria", "maria@example.com ", "root", "maria@example.com\0"] {
            #expect(!TokenRules.isSame(said, as: "maria@example.com"))
        }
    }
}
