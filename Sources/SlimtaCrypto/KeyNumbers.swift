// Public keys from the numbers that they are made of, as JSON Web Keys have them (RFC 7518 section 6). Made in SlimtaEdge of
// an issuer's keys. Ed25519's key is one number: Signatures.swift has it.

extension PublicKey {
    /// An RSA key from modulus and exponent, both with the highest octet first.
    ///
    /// Fails if it is none, or one that nobody makes and that would take long to compute with: the modulus has at most
    /// 8192 bits, the exponent 64.
    package convenience init(rsaModulus modulus: [UInt8], exponent: [UInt8]) throws(CryptoError) {
        let (modulus, exponent) = (modulus.drop { $0 == 0 }, exponent.drop { $0 == 0 })
        guard modulus.count <= 1024, exponent.count <= 8, modulus.last.map({ $0 & 1 == 1 }) == true,
            exponent.last.map({ $0 & 1 == 1 }) == true, exponent != [1]
        else { throw CryptoError("not an RSA key") }
        // RFC 8017 appendix A.1.1, in RFC 5280's SubjectPublicKeyInfo.
        let key = DER.value(0x30, DER.number(modulus) + DER.number(exponent))
        try self.init(
            subjectPublicKeyInfo: DER.value(0x30, Self.rsaEncryption + DER.value(0x03, [0] + key)))
    }

    /// A key on the curve P-256 from its point, each coordinate in 32 octets (RFC 7518 section 6.2.1). Fails if the point is
    /// not on the curve.
    package convenience init(p256 x: [UInt8], _ y: [UInt8]) throws(CryptoError) {
        guard x.count == 32, y.count == 32 else { throw CryptoError("not a point of P-256") }
        // Uncompressed (RFC 5480 section 2.2).
        try self.init(
            subjectPublicKeyInfo: DER.value(0x30, Self.p256 + DER.value(0x03, [0, 4] + x + y)))
    }

    /// AlgorithmIdentifier of RSA keys: 1.2.840.113549.1.1.1 with NULL (RFC 3279 section 2.3.1).
    private static let rsaEncryption: [UInt8] = DER.value(
        0x30, DER.value(0x06, [0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x01]) + DER.value(0x05, []))
    /// AlgorithmIdentifier of keys on P-256: 1.2.840.10045.2.1 with 1.2.840.10045.3.1.7 (RFC 5480 section 2.1.1).
    private static let p256: [UInt8] = DER.value(
        0x30,
        DER.value(0x06, [0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01])
            + DER.value(0x06, [0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07]))
}

/// As much of X.690 as a key takes.
private enum DER {
    /// Tag, length (section 10.1: as short as can be) and content of less than 64 kB.
    static func value(_ tag: UInt8, _ content: [UInt8]) -> [UInt8] {
        let count = content.count
        let low = UInt8(truncatingIfNeeded: count)
        return [tag] + (count < 0x80 ? [low] : count < 0x100 ? [0x81, low] : [0x82, UInt8(count >> 8), low]) + content
    }

    /// An INTEGER that is not negative and has no zeros in front.
    static func number(_ octets: ArraySlice<UInt8>) -> [UInt8] {
        value(0x02, (octets.first.map { $0 >= 0x80 } == true ? [0] : []) + octets)
    }
}
