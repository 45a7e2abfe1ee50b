// Keys in the form of files, text between BEGIN and END lines: read here for signatures, and by SlimtaTLS, with the
// certificates that stand there too.

import COpenSSL

/// PEM text (RFC 7468 section 2) in memory, read from beginning to end. OpenSSL's copy of it is overwritten with this object.
package final class PEMText {
    /// For OpenSSL's PEM functions: each reads the next that is of its kind.
    package let bio: OpaquePointer

    /// Copies the text. Whether there is anything in it is found out by reading.
    package init(_ octets: [UInt8]) throws(CryptoError) {
        ERR_clear_error()
        // A BIO of its own that is written to, because one over memory of ours would be bound to its lifetime.
        guard let bio = BIO_new(BIO_s_secmem()), let count = CInt(exactly: octets.count),
            BIO_write(bio, octets, count) == count
        else { throw .drainQueue(while: "cannot be copied") }
        self.bio = bio
    }

    deinit { BIO_free(bio) }

    /// The next private key, an `EVP_PKEY` of any kind: of PKCS #8, or of a kind's own form. One with a passphrase is
    /// refused.
    package func readPrivateKey() throws(CryptoError) -> OpenSSLObject {
        ERR_clear_error()
        guard let key = PEM_read_bio_PrivateKey(bio, nil, refusePassphrase, nil) else {
            throw .drainQueue(while: "no private key in PEM, or one with a passphrase")
        }
        return OpenSSLObject(key) { EVP_PKEY_free($0) }
    }

    /// The next public key, an `EVP_PKEY` of any kind (SubjectPublicKeyInfo, RFC 7468 section 13).
    func readPublicKey() throws(CryptoError) -> OpenSSLObject {
        ERR_clear_error()
        guard let key = PEM_read_bio_PUBKEY(bio, nil, refusePassphrase, nil) else {
            throw .drainQueue(while: "no public key in PEM")
        }
        return OpenSSLObject(key) { EVP_PKEY_free($0) }
    }
}

/// A `pem_password_cb`: instead of OpenSSL's own, which would ask on the terminal.
package func refusePassphrase(
    buffer: UnsafeMutablePointer<CChar>?, size: CInt, isWriting: CInt, user: UnsafeMutableRawPointer?
) -> CInt { -1 }
