// What clients and issuers send where logins are tokens: JSON Web Tokens, sets of keys, and what an issuer says of a token.

import SlimtaCrypto
import SlimtaMail
import SlimtaNet

@testable import SlimtaEdge

extension FuzzTarget {
    /// A key that is no secret.
    private static let key = try? PrivateKey(ed25519: Array(repeating: 7, count: 32))

    /// Octets as they are are a token that nobody signed. Made into one whose parts are a header and claims and that is
    /// signed, they are read as what they are, or refused; signed is that alone, and nobody gets in without a name.
    static let token = FuzzTarget(name: "token", maximumLength: 2000) { octets in
        guard let key, let publicKey = try? key.publicKey else { throw Broken(description: "no key") }
        let all = Set(TokenAlgorithm.allCases)
        if let token = try? SignedToken(parsing: octets, algorithms: all) {
            try hold(!token.isSigned(by: publicKey), "signed by nobody")
        }
        let parts = octets.split(separator: 0, maxSplits: 1, omittingEmptySubsequences: false)
        let content = parts.map(url).joined(separator: ".")
        guard parts.count == 2, let signature = try? key.sign(content.utf8) else { return }
        let text = "\(content).\(url(signature[...]))"
        guard let token = try? SignedToken(parsing: text.utf8, algorithms: all) else { return }
        try same(try? JSON(parsing: parts[1]), token.claims, "the claims of \(octets)")
        try same(token.isSigned(by: publicKey), token.algorithm == .edDSA, "whether it is signed")
        if let other = try? SignedToken(parsing: "\(content)A.\(url(signature[...]))".utf8, algorithms: all) {
            try hold(!other.isSigned(by: publicKey), "another one is signed")
        }
        let rules = TokenRules(issuer: "i", audience: ["a"])
        if let login = try? rules.login(token.claims, now: Timestamp(milliseconds: 1_000_000)) {
            try hold(!login.name.isEmpty && login.end.milliseconds > 940_000, "who gets in by \(octets)")
        }
    }

    /// A set that is read has keys, and says of a name the same each time; what an issuer says of a token is bounded.
    static let keys = FuzzTarget(name: "jwks", maximumLength: 4000) { octets in
        if let keys = try? JSONWebKeys(octets) {
            try hold((1...256).contains(keys.count), "\(keys.count) keys")
            let fitting = TokenAlgorithm.allCases.count { algorithm in
                if case .unknown = keys.key(nil, for: algorithm) { false } else { true }
            }
            try hold(fitting == TokenAlgorithm.allCases.count, "keys without a name are unknown")
        }
        let now = Timestamp(milliseconds: 1_000_000)
        let answer = IntrospectionAnswer(status: 200, body: octets, TokenRules(issuer: nil, audience: ["a"]), now: now)
        try hold((.zero ... .seconds(60)).contains(answer.lifetime(now: now)), "how long an answer holds")
    }

    private static func url(_ octets: ArraySlice<UInt8>) -> String {
        String(Base64.encode(octets).prefix { $0 != "=" }.map { $0 == "+" ? "-" : $0 == "/" ? "_" : $0 })
    }
}
