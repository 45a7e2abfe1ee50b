// How issuers sign tokens. Configured by the composition root, compared by SignedToken and JSONWebKey.

internal import SlimtaCrypto

/// A signature of a JSON Web Token (RFC 7518 section 3.1, RFC 8037 section 3.1).
///
/// There is no `none`, and no HMAC: whoever could check such a signature could make one, and a token that says "HS256" would
/// have a public key taken for a secret.
package enum TokenAlgorithm: String, CaseIterable, Hashable, Sendable {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    case rs256 = "RS256"
    /// RSASSA-PSS with SHA-256.
    case ps256 = "PS256"
    /// ECDSA on P-256 with SHA-256; r and s are 32 octets each, not DER.
    case es256 = "ES256"
    /// Ed25519 and no other curve.
    case edDSA = "EdDSA"

    /// What it is for OpenSSL.
    var scheme: SignatureScheme {
        switch self {
        case .rs256: .rsaSHA256
        case .ps256: .rsaPSS
        case .es256: .ecdsaP256
        case .edDSA: .ed25519
        }
    }
}
