// How a relay gets access tokens (RFC 6749): what the operator has set, and the request that follows. Values; TokenSource asks.

import SlimtaCrypto
import SlimtaMail
import SlimtaNet

/// One identity at one token endpoint.
package struct TokenSettings: Hashable, Sendable {
    /// What a token is asked for with.
    package enum Grant: Hashable, Sendable {
        /// Such a token as configured, and those that the endpoint gives in its place (RFC 6749 section 6).
        case refreshToken(String)
        /// What we are (RFC 6749 section 4.4).
        case clientCredentials
        /// A signed statement (RFC 7523 section 2.1): who makes it, for whom, and to whom. An audience that is nil is the
        /// endpoint.
        case assertion(issuer: String, subject: String?, audience: String?)
    }

    /// How we prove who we are.
    package enum Proof: Hashable, Sendable {
        /// By nothing but our name.
        case none
        /// By `client_secret`.
        case secret(String)
        /// By statements that are signed with this key (RFC 7523 section 2.2): PEM, and a certificate behind it for who wants
        /// to find the key by that.
        case key([UInt8])
    }

    /// Where.
    package var endpoint: HTTPSClient.Place
    /// The mailbox whose mail it is: it is told the host, not the endpoint.
    package var username: String
    /// What the endpoint knows us by.
    package var clientID: String
    /// See ``Proof``. With ``Grant/assertion(issuer:subject:audience:)`` it is the key that signs.
    package var proof: Proof
    /// See ``Grant``.
    package var grant: Grant
    /// What the token is to be good for; nil: it is not said.
    package var scope: String?
    /// How long before its end a token is no longer used.
    package var margin: Duration

    /// With the meaning of its properties.
    package init(
        endpoint: HTTPSClient.Place, username: String, clientID: String, proof: Proof, grant: Grant,
        scope: String? = nil, margin: Duration = .seconds(600)
    ) {
        self.endpoint = endpoint
        self.username = username
        self.clientID = clientID
        self.proof = proof
        self.grant = grant
        self.scope = scope
        self.margin = margin
    }
}

/// The body of one request for a token.
struct TokenRequest {
    /// Clocks differ: a statement is made out for a minute ago.
    private static let minusSkew = Duration.seconds(-60)
    /// How long a statement about ourselves holds; endpoints take ten minutes at most.
    private static let proofAge = Duration.seconds(540)
    /// How long one for a mailbox holds, from the time it is made out for: Google's bound is an hour.
    private static let assertionAge = Duration.seconds(3600)

    let settings: TokenSettings
    /// The newest refresh token; nil: the grant has none.
    let refreshToken: String?
    /// The time.
    let now: Timestamp
    /// No other statement has it.
    let identifier: String

    /// As a form (RFC 6749 appendix B). Throws if the key cannot sign.
    func form() throws(CryptoError) -> String {
        var fields: [HTTPTarget.Parameter] = []
        func add(_ name: String, _ value: String) { fields.append(.init(name, value)) }
        switch settings.grant {
        case .refreshToken(let configured):
            add("grant_type", "refresh_token")
            add("refresh_token", refreshToken ?? configured)
        case .clientCredentials: add("grant_type", "client_credentials")
        case .assertion(let issuer, let subject, let audience):
            add("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer")
            add("assertion", try assertion(issuer: issuer, subject: subject, audience: audience))
            return Self.encoded(fields)
        }
        if let scope = settings.scope { add("scope", scope) }
        add("client_id", settings.clientID)
        switch settings.proof {
        case .none: break
        case .secret(let secret): add("client_secret", secret)
        case .key:
            add("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
            add("client_assertion", try proof())
        }
        return Self.encoded(fields)
    }

    private static func encoded(_ fields: [HTTPTarget.Parameter]) -> String {
        String(HTTPTarget([], fields).description.dropFirst(2))
    }

    private var endpoint: String { settings.endpoint.url }

    /// Who we are, signed (RFC 7523 section 3).
    private func proof() throws(CryptoError) -> String {
        let begin = now + Self.minusSkew
        let end = begin + Self.proofAge
        return try signed([
            .init("iss", .string(settings.clientID)), .init("sub", .string(settings.clientID)),
            .init("aud", .string(endpoint)), .init("jti", .string(identifier)), .init("iat", .number(begin.seconds)),
            .init("exp", .number(end.seconds)),
        ])
    }

    /// Whose mailbox it is, signed.
    private func assertion(issuer: String, subject: String?, audience: String?) throws(CryptoError) -> String {
        var claims: [JSON.Member] = [.init("iss", .string(issuer))]
        if let subject { claims.append(.init("sub", .string(subject))) }
        if let scope = settings.scope { claims.append(.init("scope", .string(scope))) }
        let begin = now + Self.minusSkew
        let end = begin + Self.assertionAge
        claims += [
            .init("aud", .string(audience ?? endpoint)), .init("iat", .number(begin.seconds)),
            .init("exp", .number(end.seconds)),
        ]
        return try signed(claims)
    }

    /// A JSON Web Token in the compact form (RFC 7515 section 3.1).
    private func signed(_ claims: [JSON.Member]) throws(CryptoError) -> String {
        guard case .key(let pem) = settings.proof else { throw CryptoError("there is no key to sign with") }
        let key = try PrivateKey(pem: pem)
        var header: [JSON.Member] = [.init("alg", .string(key.scheme.jwtName)), .init("typ", .string("JWT"))]
        // RFC 7515 section 4.1.8.
        if let certificate = PEMBlock.first("CERTIFICATE", in: pem) {
            header.append(.init("x5t#S256", .string(Base64.encode(url: HashFunction.sha256.digest(certificate)))))
        }
        let text = [JSON.object(header), JSON.object(claims)].map { Base64.encode(url: $0.line.utf8) }
            .joined(separator: ".")
        return "\(text).\(Base64.encode(url: try key.sign(text.utf8)))"
    }
}

extension HTTPSClient.Place {
    /// As it is written whole.
    var url: String {
        let name = host.contains(":") ? "[\(host)]" : host
        return "https://\(name)\(port == 443 ? "" : ":\(port)")\(target)"
    }
}

extension Timestamp {
    /// Since 1970-01-01T00:00:00Z.
    fileprivate var seconds: Int64 { milliseconds / 1000 }
}

extension SignatureScheme {
    /// RFC 7518 section 3.1, RFC 8037 section 3.1.
    fileprivate var jwtName: String {
        switch self {
        case .rsaSHA256: "RS256"
        case .rsaPSS: "PS256"
        case .ed25519: "EdDSA"
        case .ecdsaP256: "ES256"
        }
    }
}

extension Base64 {
    /// With "-" and "_", and without padding (RFC 4648 section 5, RFC 7515 section 2).
    fileprivate static func encode(url octets: some Collection<UInt8>) -> String {
        String(
            encode(octets).compactMap { letter -> Character? in
                switch letter {
                case "+": "-"
                case "/": "_"
                case "=": nil
                default: letter
                }
            })
    }
}

/// The octets between BEGIN and END lines (RFC 7468 section 2).
enum PEMBlock {
    /// nil: there is no such block.
    static func first(_ label: String, in pem: [UInt8]) -> [UInt8]? {
        let (begin, end) = ("-----BEGIN \(label)-----", "-----END \(label)-----")
        guard let begins = pem.firstRange(of: begin.utf8),
            let ends = pem[begins.upperBound...].firstRange(of: end.utf8)
        else { return nil }
        let text = pem[begins.upperBound..<ends.lowerBound].filter { $0 > 0x20 }
        return Base64.decode(text)
    }
}
