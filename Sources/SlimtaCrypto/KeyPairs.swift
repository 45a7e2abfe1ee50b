// New keys, and keys in the forms in which they are kept and published: PEM for files, an Ed25519 key's own octets for DNS.
// For `dkim generate`; what is read and signed with is in Signatures.swift.

import COpenSSL

extension PrivateKey {
    /// A new RSA key of so many bits with the exponent 65537. Takes a tenth of a second, of 4096 bits one and more.
    package static func generateRSA(bits: Int) throws(CryptoError) -> PrivateKey {
        try generate("RSA") { EVP_PKEY_CTX_set_rsa_keygen_bits($0, CInt(clamping: bits)) == 1 }
    }

    /// A new Ed25519 key (RFC 8032 section 5.1.5).
    package static func generateEd25519() throws(CryptoError) -> PrivateKey { try generate("ED25519") { _ in true } }

    private static func generate(
        _ kind: String, _ prepare: (OpaquePointer?) -> Bool
    ) throws(CryptoError) -> PrivateKey {
        ERR_clear_error()
        let context = EVP_PKEY_CTX_new_from_name(nil, kind, nil)
        defer { EVP_PKEY_CTX_free(context) }
        var key: OpaquePointer?
        guard context != nil, EVP_PKEY_keygen_init(context) == 1, prepare(context),
            EVP_PKEY_generate(context, &key) == 1, let key
        else { throw .drainQueue(while: "cannot make a key") }
        return try PrivateKey(OpenSSLObject(key) { EVP_PKEY_free($0) })
    }

    /// The key as PEM text (PKCS #8, RFC 7468 section 10) without a passphrase. It is as secret as the key: to overwrite it is
    /// for the caller.
    package var pem: [UInt8] {
        get throws(CryptoError) {
            ERR_clear_error()
            // OpenSSL overwrites what such a BIO had.
            let bio = BIO_new(BIO_s_secmem())
            defer { BIO_free(bio) }
            guard bio != nil, PEM_write_bio_PKCS8PrivateKey(bio, key.pointer, nil, nil, 0, nil, nil) == 1 else {
                throw .drainQueue(while: "cannot be written")
            }
            let count = BIO_ctrl_pending(bio)
            return [UInt8](unsafeUninitializedCapacity: count) { room, filled in
                filled = max(0, Int(BIO_read(bio, room.baseAddress, CInt(count))))
            }
        }
    }
}

extension PublicKey {
    /// The 32 octets of an Ed25519 key, for ``init(ed25519:)``; nil: it is of another kind.
    package var ed25519: [UInt8]? {
        guard scheme == .ed25519 else { return nil }
        var octets = [UInt8](repeating: 0, count: 32)
        var count = octets.count
        guard EVP_PKEY_get_raw_public_key(key.pointer, &octets, &count) == 1, count == 32 else { return nil }
        return octets
    }
}
