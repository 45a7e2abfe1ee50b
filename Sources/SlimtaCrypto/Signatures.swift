// Signatures as DKIM (RFC 6376, RFC 8463) and JWT (RFC 7518, RFC 8037) make and check them.

import COpenSSL

/// How messages are signed. What is possible follows from the key: nobody else, and least of all who sent the signature,
/// may choose another.
package enum SignatureScheme: Hashable, Sendable, CaseIterable {
    /// RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017 section 8.2): `rsa-sha256` of DKIM, `RS256` of JWT.
    case rsaSHA256
    /// RSASSA-PSS with SHA-256, also for its masks, and a salt of 32 octets (RFC 8017 section 8.1): `PS256` of JWT (RFC 7518
    /// section 3.5). Any RSA key can do it, so who wants it says so.
    case rsaPSS
    /// Ed25519 (RFC 8032 section 5.1): `EdDSA` of JWT. What DKIM's `ed25519-sha256` gives it is a digest (RFC 8463
    /// section 3).
    case ed25519
    /// ECDSA on the curve P-256 with SHA-256, as two numbers of 32 octets each: `ES256` of JWT (RFC 7518 section 3.4).
    case ecdsaP256

    /// That of an `EVP_PKEY`.
    fileprivate init(of key: OpenSSLObject) throws(CryptoError) {
        if EVP_PKEY_is_a(key.pointer, "RSA") == 1 {
            self = .rsaSHA256
        } else if EVP_PKEY_is_a(key.pointer, "ED25519") == 1 {
            self = .ed25519
        } else if EVP_PKEY_is_a(key.pointer, "EC") == 1, Self.group(of: key) == SN_X9_62_prime256v1 {
            self = .ecdsaP256
        } else {
            ERR_clear_error()
            throw CryptoError("a key for neither RSA nor Ed25519 nor ECDSA on P-256")
        }
    }

    private static func group(of key: OpenSSLObject) -> String {
        var name = [CChar](repeating: 0, count: 64)
        EVP_PKEY_get_group_name(key.pointer, &name, name.count, nil)
        return String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// What the message is hashed with before it is signed; nil: the scheme does that itself.
    fileprivate var algorithm: OpaquePointer? {
        switch self {
        case .rsaSHA256, .rsaPSS, .ecdsaP256: EVP_sha256()
        case .ed25519: nil
        }
    }

    /// Whether a key for `self` can be used for `other` too.
    fileprivate func allows(_ other: SignatureScheme) -> Bool {
        self == other || self == .rsaSHA256 && other == .rsaPSS
    }

    /// Tells a context that was made for a key what the key does not say. Masks use the message's hash by default.
    fileprivate func prepare(_ context: OpaquePointer?) -> Bool {
        guard self == .rsaPSS else { return true }
        return EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PSS_PADDING) == 1
            && EVP_PKEY_CTX_set_rsa_pss_saltlen(context, 32) == 1
    }

    /// The octets of each of ECDSA's two numbers.
    fileprivate static let scalar = 32
}

/// A key that signs. It may be used by many threads at a time, and is overwritten when nobody has it any more.
package final class PrivateKey: Sendable {
    /// How it signs.
    package let scheme: SignatureScheme
    /// An `EVP_PKEY`.
    let key: OpenSSLObject

    /// The first private key in PEM text, without a passphrase.
    package convenience init(pem: [UInt8]) throws(CryptoError) { try self.init(PEMText(pem).readPrivateKey()) }

    /// An Ed25519 key from its 32 octets (RFC 8032 section 5.1.5).
    package convenience init(ed25519 octets: [UInt8]) throws(CryptoError) {
        ERR_clear_error()
        guard let key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nil, octets, octets.count) else {
            throw .drainQueue(while: "not an Ed25519 key")
        }
        try self.init(OpenSSLObject(key) { EVP_PKEY_free($0) })
    }

    init(_ key: OpenSSLObject) throws(CryptoError) {
        scheme = try SignatureScheme(of: key)
        self.key = key
    }

    /// What others check its signatures with.
    package var publicKey: PublicKey {
        get throws(CryptoError) { try PublicKey(subjectPublicKeyInfo: key.subjectPublicKeyInfo) }
    }

    /// The signature of `message`. RSA takes a millisecond or more. Fails if the key is too short for it.
    ///
    /// - Parameter other: instead of ``scheme``; fails if the key is not one for it.
    package func sign(
        _ message: some Collection<UInt8>, by other: SignatureScheme? = nil
    ) throws(CryptoError) -> [UInt8] {
        let scheme = other ?? self.scheme
        guard self.scheme.allows(scheme) else { throw CryptoError("a key for another kind of signatures") }
        ERR_clear_error()
        let context = EVP_MD_CTX_new()
        defer { EVP_MD_CTX_free(context) }
        let signature: [UInt8]? = message.withOctets { message in
            var size = 0
            var parameters: OpaquePointer?
            guard EVP_DigestSignInit(context, &parameters, scheme.algorithm, nil, key.pointer) == 1,
                scheme.prepare(parameters),
                EVP_DigestSign(context, nil, &size, message.baseAddress, message.count) == 1
            else { return nil }
            var signature = [UInt8](repeating: 0, count: size)
            guard EVP_DigestSign(context, &signature, &size, message.baseAddress, message.count) == 1 else {
                return nil
            }
            signature.removeLast(signature.count - size)
            return scheme == .ecdsaP256 ? Self.numbers(of: signature) : signature
        }
        guard let signature else { throw .drainQueue(while: "cannot sign") }
        return signature
    }

    /// The two numbers of an ECDSA signature in DER (RFC 3279 section 2.2.3), which is OpenSSL's form.
    private static func numbers(of der: [UInt8]) -> [UInt8]? {
        let signature = der.withUnsafeBufferPointer { der in
            var place = der.baseAddress
            return d2i_ECDSA_SIG(nil, &place, der.count)
        }
        defer { ECDSA_SIG_free(signature) }
        let size = CInt(SignatureScheme.scalar)
        var numbers = [UInt8](repeating: 0, count: 2 * SignatureScheme.scalar)
        let isWhole = numbers.withUnsafeMutableBufferPointer { room in
            BN_bn2binpad(ECDSA_SIG_get0_r(signature), room.baseAddress, size) == size
                && BN_bn2binpad(ECDSA_SIG_get0_s(signature), room.baseAddress! + SignatureScheme.scalar, size) == size
        }
        return signature != nil && isWhole ? numbers : nil
    }
}

/// A key that checks signatures. It may be used by many threads at a time.
package final class PublicKey: Sendable {
    /// How what it checks was signed.
    package let scheme: SignatureScheme
    /// An `EVP_PKEY`.
    let key: OpenSSLObject

    /// The first public key in PEM text.
    package convenience init(pem: [UInt8]) throws(CryptoError) { try self.init(PEMText(pem).readPublicKey()) }

    /// A key in DER (SubjectPublicKeyInfo, RFC 5280 section 4.1.2.7): what DKIM has for RSA in `p=`, decoded. Nothing may
    /// stand behind it.
    package convenience init(subjectPublicKeyInfo der: [UInt8]) throws(CryptoError) {
        ERR_clear_error()
        let key = der.withUnsafeBufferPointer { der in
            var place = der.baseAddress
            let key = d2i_PUBKEY(nil, &place, der.count).map { pointer in OpenSSLObject(pointer) { EVP_PKEY_free($0) } }
            return place == der.baseAddress.map { $0 + der.count } ? key : nil
        }
        guard let key else { throw .drainQueue(while: "no public key in DER") }
        try self.init(key)
    }

    /// An Ed25519 key from its 32 octets (RFC 8032 section 5.1.5): what DKIM has in `p=` (RFC 8463 section 4), and JWT
    /// in `x` (RFC 8037 section 2).
    package convenience init(ed25519 octets: [UInt8]) throws(CryptoError) {
        ERR_clear_error()
        guard let key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nil, octets, octets.count) else {
            throw .drainQueue(while: "not an Ed25519 key")
        }
        try self.init(OpenSSLObject(key) { EVP_PKEY_free($0) })
    }

    private init(_ key: OpenSSLObject) throws(CryptoError) {
        scheme = try SignatureScheme(of: key)
        self.key = key
    }

    /// How long the key is: the bits of RSA's modulus. How many are enough is for who asks (RFC 8301 section 3.2, RFC 7518
    /// section 3.3).
    package var bits: Int { Int(EVP_PKEY_get_bits(key.pointer)) }

    /// The key in DER, for ``init(subjectPublicKeyInfo:)``.
    package var subjectPublicKeyInfo: [UInt8] { key.subjectPublicKeyInfo }

    /// Whether the key checks what was signed by `scheme`.
    package func allows(_ scheme: SignatureScheme) -> Bool { self.scheme.allows(scheme) }

    /// Whether `signature` is one of `message` by the private key of this one. Anything else is "no", malformed octets
    /// too.
    ///
    /// - Parameter other: how it was signed instead of by ``scheme``. It must be one that the key ``allows(_:)``.
    package func isSignature(
        _ signature: some Collection<UInt8>, of message: some Collection<UInt8>, by other: SignatureScheme? = nil
    ) -> Bool {
        let scheme = other ?? self.scheme
        guard allows(scheme) else { return false }
        ERR_clear_error()
        defer { ERR_clear_error() }
        let octets = scheme == .ecdsaP256 ? Self.der(of: Array(signature)) : Array(signature)
        guard let octets, let context = EVP_MD_CTX_new() else { return false }
        defer { EVP_MD_CTX_free(context) }
        return message.withOctets { message in
            var parameters: OpaquePointer?
            return EVP_DigestVerifyInit(context, &parameters, scheme.algorithm, nil, key.pointer) == 1
                && scheme.prepare(parameters)
                && EVP_DigestVerify(context, octets, octets.count, message.baseAddress, message.count) == 1
        }
    }

    /// Two numbers as OpenSSL takes them.
    private static func der(of numbers: [UInt8]) -> [UInt8]? {
        let size = SignatureScheme.scalar
        guard numbers.count == 2 * size, let signature = ECDSA_SIG_new() else { return nil }
        defer { ECDSA_SIG_free(signature) }
        let (r, s) = numbers.withUnsafeBufferPointer {
            (BN_bin2bn($0.baseAddress, CInt(size), nil), BN_bin2bn($0.baseAddress! + size, CInt(size), nil))
        }
        guard ECDSA_SIG_set0(signature, r, s) == 1 else {
            BN_free(r)
            BN_free(s)
            return nil
        }
        return encoded { i2d_ECDSA_SIG(signature, $0) }
    }
}

extension OpenSSLObject {
    /// An `EVP_PKEY`'s public half in DER.
    fileprivate var subjectPublicKeyInfo: [UInt8] { encoded { i2d_PUBKEY(pointer, $0) } ?? [] }
}

/// The DER that an `i2d` function writes; nil if it cannot.
private func encoded(
    _ write: (UnsafeMutablePointer<UnsafeMutablePointer<UInt8>?>?) -> CInt
) -> [UInt8]? {
    let count = Int(write(nil))
    guard count > 0 else { return nil }
    return [UInt8](unsafeUninitializedCapacity: count) { room, filled in
        // It moves the pointer to the end of what it wrote.
        var place = room.baseAddress
        filled = max(0, Int(write(&place)))
    }
}
