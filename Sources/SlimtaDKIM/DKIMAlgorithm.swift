// The algorithms of DKIM and the keys for them (RFC 6376 section 3.3, RFC 8301, RFC 8463): read from files, made, put into
// DNS. Signers have one, the gate compares DNS with its public half.

package import SlimtaCrypto
import SlimtaMail

/// How a signature is made: `a=`. There is no rsa-sha1 (RFC 8301 section 3.1).
package enum DKIMAlgorithm: String, Hashable, Sendable, CaseIterable, Comparable {
    /// What everybody verifies.
    case rsaSHA256 = "rsa-sha256"
    /// RFC 8463. Many do not know it yet: beside the other, not instead of it.
    case ed25519SHA256 = "ed25519-sha256"

    /// What `k=` says of a key for it.
    package var keyType: String {
        switch self {
        case .rsaSHA256: "rsa"
        case .ed25519SHA256: "ed25519"
        }
    }

    /// In the order in which fields stand in a header, from the top.
    package static func < (a: DKIMAlgorithm, b: DKIMAlgorithm) -> Bool { a == .rsaSHA256 && b == .ed25519SHA256 }

    /// That of a key; nil: DKIM has none for it.
    fileprivate init?(_ scheme: SignatureScheme) {
        switch scheme {
        case .rsaSHA256: self = .rsaSHA256
        case .ed25519: self = .ed25519SHA256
        case .rsaPSS, .ecdsaP256: return nil
        }
    }

    /// What the key's scheme is given. RFC 8463 section 3: Ed25519 signs the digest, and hashes that once more as it always
    /// does.
    fileprivate func message(_ header: [UInt8]) -> [UInt8] {
        switch self {
        case .rsaSHA256: header
        case .ed25519SHA256: HashFunction.sha256.digest(header)
        }
    }
}

/// The public half of a key: what DNS has of it.
package struct DKIMPublicKey: Hashable, Sendable {
    /// What it verifies.
    package let algorithm: DKIMAlgorithm
    /// What `p=` encodes: SubjectPublicKeyInfo of RSA (RFC 6376 section 3.6.1 and its erratum; other programs refuse the form
    /// of PKCS #1), the 32 octets of Ed25519 (RFC 8463 section 4).
    package let octets: [UInt8]
    /// How long it is: the bits of RSA's modulus.
    package let bits: Int
    private let key: PublicKey

    /// A key that was made here, or read.
    package init(_ key: PublicKey) throws(CryptoError) {
        guard let algorithm = DKIMAlgorithm(key.scheme) else { throw .noDKIMKey }
        self.algorithm = algorithm
        octets = key.ed25519 ?? key.subjectPublicKeyInfo
        bits = key.bits
        self.key = key
    }

    /// What `p=` of a record encodes.
    package init(_ algorithm: DKIMAlgorithm, octets: [UInt8]) throws(CryptoError) {
        switch algorithm {
        case .rsaSHA256: try self.init(PublicKey(subjectPublicKeyInfo: octets))
        case .ed25519SHA256: try self.init(PublicKey(ed25519: octets))
        }
        guard self.algorithm == algorithm else { throw .noDKIMKey }
    }

    /// What tells it from another of the same name, in a line of text: base64 of SHA-256 over ``octets``.
    package var print: String { Base64.encode(HashFunction.sha256.digest(octets)) }

    /// Whether `signature` is one of the header data by the private half.
    func isSignature(_ signature: [UInt8], of header: [UInt8]) -> Bool {
        key.isSignature(signature, of: algorithm.message(header))
    }

    /// RFC 8301 section 3.2: nothing shorter counts.
    package static let fewestBits = 1024
    /// The same section: what signers should have.
    package static let enoughBits = 2048
    /// Beyond, DNS answers no longer fit, and some verifiers give up.
    package static let mostBits = 4096

    /// Whether verifiers are right to take no signature by it.
    package var isTooWeak: Bool { algorithm == .rsaSHA256 && bits < Self.fewestBits }

    /// What is to be said of its length, in words that follow the name of the key; nil: nothing.
    package var warning: String? {
        guard algorithm == .rsaSHA256 else { return nil }
        if bits < Self.enoughBits {
            return "has \(bits) bits: \(Self.enoughBits) are the least that is advised (RFC 8301)"
        }
        if bits > Self.mostBits { return "has \(bits) bits: there are verifiers that take \(Self.mostBits) at most" }
        return nil
    }

    /// By algorithm and octets.
    package static func == (a: DKIMPublicKey, b: DKIMPublicKey) -> Bool {
        a.algorithm == b.algorithm && a.octets == b.octets
    }

    /// The same.
    package func hash(into hasher: inout Hasher) { hasher.combine(octets) }
}

/// A key that signs mail. Many threads may use it at a time.
package struct DKIMSigningKey: Sendable {
    /// What others verify with.
    package let publicKey: DKIMPublicKey
    private let key: PrivateKey

    /// What it signs by.
    package var algorithm: DKIMAlgorithm { publicKey.algorithm }

    /// The key in PEM text, PKCS #8 or RSA's own form, without a passphrase.
    package init(pem: [UInt8]) throws(CryptoError) { try self.init(PrivateKey(pem: pem)) }

    /// A key that was read. Fails if nobody would verify what it signs.
    package init(_ key: PrivateKey) throws(CryptoError) {
        publicKey = try DKIMPublicKey(key.publicKey)
        self.key = key
        guard !publicKey.isTooWeak else {
            throw CryptoError(
                "has \(publicKey.bits) bits: below \(DKIMPublicKey.fewestBits) nobody verifies (RFC 8301)")
        }
    }

    /// A new one; RSA's takes a tenth of a second.
    package static func generate(_ algorithm: DKIMAlgorithm) throws(CryptoError) -> DKIMSigningKey {
        switch algorithm {
        case .rsaSHA256: try DKIMSigningKey(.generateRSA(bits: DKIMPublicKey.enoughBits))
        case .ed25519SHA256: try DKIMSigningKey(.generateEd25519())
        }
    }

    /// For the file that it is kept in; as secret as the key.
    package var pem: [UInt8] { get throws(CryptoError) { try key.pem } }

    /// The signature of header data. RSA takes the better part of a millisecond.
    func sign(_ header: [UInt8]) throws(CryptoError) -> [UInt8] { try key.sign(algorithm.message(header)) }
}

extension CryptoError {
    fileprivate static var noDKIMKey: CryptoError { CryptoError("a key for neither rsa-sha256 nor ed25519-sha256") }
}
