// Digests and what is built of them: HMAC and PBKDF2. For whoever compares, signs or derives keys: KeyedDigest here, then
// SASL mechanisms, DKIM and JWT.

import COpenSSL

/// A hash function, and the constructions that take one as their parameter.
///
/// What comes out of ``hmac(_:key:)`` and ``pbkdf2(_:salt:iterations:count:)`` may be as secret as what went in: to
/// overwrite it is for the caller. Copies that are made in here are overwritten.
package enum HashFunction: Hashable, Sendable, CaseIterable {
    /// MD5 (RFC 1321), broken but for HMAC: for CRAM-MD5 alone (RFC 2195 section 2). A system that keeps to FIPS 140 has
    /// none: ``isThere``.
    case md5
    /// SHA-1 (FIPS 180-4). Whoever can choose both of two inputs can give them one digest: for HMAC and PBKDF2 alone, as
    /// SCRAM-SHA-1 needs it (RFC 5802 section 3).
    case sha1
    /// SHA-256 (FIPS 180-4).
    case sha256
    /// SHA-512 (FIPS 180-4).
    case sha512

    /// The octets of a digest.
    package var size: Int {
        switch self {
        case .md5: 16
        case .sha1: 20
        case .sha256: 32
        case .sha512: 64
        }
    }

    /// Whether OpenSSL has it: openssl.cnf can take functions away.
    package var isThere: Bool {
        ERR_clear_error()
        defer { ERR_clear_error() }
        guard let found = EVP_MD_fetch(nil, EVP_MD_get0_name(algorithm), nil) else { return false }
        EVP_MD_free(found)
        return true
    }

    /// OpenSSL's constant for it.
    var algorithm: OpaquePointer? {
        switch self {
        case .md5: EVP_md5()
        case .sha1: EVP_sha1()
        case .sha256: EVP_sha256()
        case .sha512: EVP_sha512()
        }
    }

    /// The digest of octets that are all there. Of those that come in parts: ``IncrementalDigest``.
    package func digest(_ octets: some Collection<UInt8>) -> [UInt8] {
        octets.withOctets { octets in
            fill { EVP_Digest(octets.baseAddress, octets.count, $0.baseAddress, nil, algorithm, nil) == 1 }
        }
    }

    /// HMAC (RFC 2104 section 2) of `message`, under a key of any length.
    package func hmac(_ message: some Collection<UInt8>, key: some Collection<UInt8>) -> [UInt8] {
        key.withOctets { key in message.withOctets { hmac($0, key: key) } }
    }

    private func hmac(_ message: UnsafeBufferPointer<UInt8>, key: UnsafeBufferPointer<UInt8>) -> [UInt8] {
        fill { room in
            var size = 0
            // An empty key is a key, and no key none: OpenSSL tells them apart by the pointer.
            return EVP_Q_mac(
                nil, "HMAC", nil, EVP_MD_get0_name(algorithm), nil, key.baseAddress ?? UnsafePointer(room.baseAddress),
                key.count, message.baseAddress, message.count, room.baseAddress, room.count, &size) != nil
        }
    }

    /// `count` octets derived from a password by PBKDF2 with HMAC (RFC 8018 section 5.2), which is `iterations` HMACs for
    /// each digest's worth of them: slow on purpose, never on an event loop. SCRAM calls it Hi (RFC 5802 section 2.2).
    package func pbkdf2(
        _ password: some Collection<UInt8>, salt: some Collection<UInt8>, iterations: Int, count: Int
    ) -> [UInt8] {
        password.withOctets { password in
            salt.withOctets { salt in
                fill(count) { room in
                    PKCS5_PBKDF2_HMAC(
                        UnsafeRawPointer(password.baseAddress)?.assumingMemoryBound(to: CChar.self),
                        CInt(password.count), salt.baseAddress, CInt(salt.count), CInt(iterations), algorithm,
                        CInt(room.count), room.baseAddress) == 1
                }
            }
        }
    }

    /// What `body` writes into room for `count` octets, a digest's if that is nil. That OpenSSL cannot do it is no case to
    /// go on in: it has these functions, or somebody took them away from it (openssl.cnf).
    private func fill(_ count: Int? = nil, _ body: (UnsafeMutableBufferPointer<UInt8>) -> Bool) -> [UInt8] {
        let count = count ?? size
        return [UInt8](unsafeUninitializedCapacity: count) { room, filled in
            precondition(body(room), "OpenSSL cannot do \(self)")
            filled = count
        }
    }
}

/// A digest of octets that come in parts, such as the body of a message (RFC 6376 section 3.7).
package struct IncrementalDigest: ~Copyable {
    private let function: HashFunction
    private let context: OpaquePointer

    /// The digest of nothing yet.
    package init(_ function: HashFunction) {
        guard let context = EVP_MD_CTX_new() else { preconditionFailure("EVP_MD_CTX_new: out of memory") }
        precondition(EVP_DigestInit_ex(context, function.algorithm, nil) == 1, "OpenSSL cannot do \(function)")
        (self.function, self.context) = (function, context)
    }

    deinit { EVP_MD_CTX_free(context) }

    /// These come next.
    package mutating func update(_ octets: some Collection<UInt8>) {
        octets.withOctets { take(UnsafeRawBufferPointer($0)) }
    }

    /// The same of octets that are in one piece, as those of a body are.
    package mutating func update(_ octets: UnsafeRawBufferPointer) { take(octets) }

    private func take(_ octets: UnsafeRawBufferPointer) {
        precondition(EVP_DigestUpdate(context, octets.baseAddress, octets.count) == 1, "EVP_DigestUpdate")
    }

    /// The digest of all that came; nothing can come behind.
    package consuming func finish() -> [UInt8] {
        var digest = [UInt8](repeating: 0, count: function.size)
        precondition(EVP_DigestFinal_ex(context, &digest, nil) == 1, "EVP_DigestFinal_ex")
        return digest
    }
}
