// The public keys of an issuer, as it publishes them (RFC 7517). Read from a file at the start, or by TokenVerifier from a
// server; SignedToken finds its key here.

internal import SlimtaCrypto
internal import SlimtaMail
internal import SlimtaNet

/// A key that can check the signatures of tokens.
struct JSONWebKey: Sendable {
    /// What a token calls it; nil: it has no name.
    let id: String?
    /// The only algorithm that it is for; nil: all that it can do.
    private let algorithm: TokenAlgorithm?
    /// The key itself.
    let key: PublicKey

    /// Fewer bits are too few for RSA (RFC 7518 section 3.3).
    private static let leastBits = 2048

    /// nil if it is not for signatures, or of a kind that we do not know: a set may have such, which are passed over
    /// (RFC 7517 section 5).
    init?(_ members: JSON) {
        guard Self.isForSignatures(members) else { return nil }
        switch members["kid"] {
        case .null: id = nil
        case .string(let id): self.id = id
        default: return nil
        }
        switch members["alg"] {
        case .null: algorithm = nil
        case .string(let name):
            guard let algorithm = TokenAlgorithm(rawValue: name) else { return nil }
            self.algorithm = algorithm
        default: return nil
        }
        guard let key = Self.key(members) else { return nil }
        self.key = key
    }

    /// RFC 7517 sections 4.2 and 4.3.
    private static func isForSignatures(_ members: JSON) -> Bool {
        guard members["use"] == .null || members["use"].text == "sig" else { return false }
        return members["key_ops"] == .null || members["key_ops"].elements.contains(.string("verify"))
    }

    /// RFC 7518 section 6, RFC 8037 section 2.
    private static func key(_ members: JSON) -> PublicKey? {
        func octets(_ name: String) -> [UInt8]? { members[name].text.flatMap { Base64.decode(url: $0.utf8) } }
        switch (members["kty"].text, members["crv"].text) {
        case ("RSA", _):
            guard let n = octets("n"), let e = octets("e"), let key = try? PublicKey(rsaModulus: n, exponent: e),
                key.bits >= leastBits
            else { return nil }
            return key
        case ("EC", "P-256"):
            guard let x = octets("x"), let y = octets("y") else { return nil }
            return try? PublicKey(p256: x, y)
        case ("OKP", "Ed25519"): return octets("x").flatMap { try? PublicKey(ed25519: $0) }
        default: return nil
        }
    }

    /// Whether it may check what was signed by `other`: by its kind, and by what it says it is for.
    func fits(_ other: TokenAlgorithm) -> Bool {
        key.allows(other.scheme) && (algorithm == nil || algorithm == other)
    }
}

/// A JWK set (RFC 7517 section 5): what is usable of it, which is at least one key.
package struct JSONWebKeys: Sendable {
    /// Why octets are no such set, in words for a person.
    package struct Fault: Error, Hashable, Sendable, CustomStringConvertible {
        /// Without the place that it came from.
        package let description: String
    }

    /// Which key a token is to be checked with.
    enum Choice: Sendable {
        case key(PublicKey)
        /// No key has that name: the issuer may have made it since.
        case unknown
        /// There is no such key, or several, and newer ones would not change that.
        case none
    }

    /// Octets of a set, and how many keys it may have: an issuer has a handful.
    package static let limit = 512 << 10
    private static let mostKeys = 256

    private let keys: [JSONWebKey]

    /// How many keys are usable.
    package var count: Int { keys.count }

    /// Reads a set. What is no usable key in it is passed over; that none is left is a fault.
    package init(_ octets: some Collection<UInt8>) throws(Fault) {
        guard octets.count <= Self.limit else { throw Fault(description: "longer than \(Self.limit >> 10) KiB") }
        let set: JSON
        do { set = try JSON(parsing: octets, depth: 16) } catch { throw Fault(description: "\(error)") }
        guard case .object = set, case .array(let members) = set["keys"] else {
            throw Fault(description: "no JWK set: it has no array \"keys\"")
        }
        guard members.count <= Self.mostKeys else { throw Fault(description: "more than \(Self.mostKeys) keys") }
        keys = members.compactMap { JSONWebKey($0) }
        guard !keys.isEmpty else {
            throw Fault(description: "none of its \(members.count) keys can check RS256, PS256, ES256 or EdDSA")
        }
    }

    /// The key of that name for signatures by `algorithm`; without a name the only one there is.
    func key(_ id: String?, for algorithm: TokenAlgorithm) -> Choice {
        let named = keys.filter { id == nil || $0.id == id }
        if named.isEmpty { return .unknown }
        let fitting = named.filter { $0.fits(algorithm) }
        // Two of one name may be of different kinds (RFC 7517 section 4.5), and no more than that.
        guard fitting.count == 1 else { return .none }
        return .key(fitting[0].key)
    }
}
