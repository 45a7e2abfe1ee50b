// A JSON Web Token with a signature, as it came from a client: its form (RFC 7519 section 7.2, RFC 7515 section 5.2), and
// whether a key signed it. TokenVerifier reads one for each AUTH; what its claims say is judged by TokenRules.

internal import SlimtaCrypto
internal import SlimtaMail
internal import SlimtaNet

/// A token whose form is right. Nothing in it is true before ``isSigned(by:)`` says so, and of its header no more than which
/// of *our* keys to take is ever used: `jwk`, `jku`, `x5u` and `x5c`, by which it could bring its own, are not looked at.
struct SignedToken: Sendable {
    /// Octets of the longest: what one line of SMTP can carry (RFC 4954 section 4), and more than issuers make.
    static let limit = 8192

    /// How it says that it is signed: one of those that were allowed.
    let algorithm: TokenAlgorithm
    /// `kid`, the name of the key; nil: none.
    let keyID: String?
    /// `typ` as it is written; nil: none.
    let type: String?
    /// An object.
    let claims: JSON
    /// What is signed.
    private let content: [UInt8]
    private let signature: [UInt8]

    /// Reads a token that is signed by one of `algorithms`.
    init(parsing token: some Collection<UInt8>, algorithms: Set<TokenAlgorithm>) throws(TokenFault) {
        guard token.count <= Self.limit else { throw .tooLong }
        let parts = Array(token).split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        guard parts.count == 3, let signature = Base64.decode(url: parts[2]) else { throw .malformed }
        let header = try Self.object(parts[0])
        claims = try Self.object(parts[1])
        guard let name = header["alg"].text else { throw .malformed }
        guard let algorithm = TokenAlgorithm(rawValue: name), algorithms.contains(algorithm) else { throw .algorithm }
        // We understand no extension, and one that is named so must be (RFC 7515 section 4.1.11).
        guard !header.members.contains(where: { $0.name == "crit" }) else { throw .critical }
        self.algorithm = algorithm
        keyID = try Self.text(header["kid"])
        type = try Self.text(header["typ"])
        self.signature = signature
        content = Array(token.prefix(parts[0].count + 1 + parts[1].count))
    }

    private static func object(_ part: ArraySlice<UInt8>) throws(TokenFault) -> JSON {
        guard let octets = Base64.decode(url: part), let json = try? JSON(parsing: octets, depth: 16),
            case .object = json
        else { throw .malformed }
        return json
    }

    private static func text(_ member: JSON) throws(TokenFault) -> String? {
        switch member {
        case .null: return nil
        case .string(let text): return text
        default: throw .malformed
        }
    }

    /// Whether `key` signed header and claims.
    func isSigned(by key: PublicKey) -> Bool { key.isSignature(signature, of: content, by: algorithm.scheme) }
}
