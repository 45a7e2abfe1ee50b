// A certificate and its private key, as PEM files have them: whom a side of TLS shows itself as. Used by both contexts.

import COpenSSL
import SlimtaCrypto

/// Whom a client shows itself as to servers that ask for a certificate.
package struct TLSIdentity: Hashable, Sendable {
    /// The certificate, and the chain of its issuers behind it.
    let certificatePEM: [UInt8]
    /// The key, without a passphrase; not for logs.
    let keyPEM: [UInt8]

    /// What was read from PEM files. Throws what would be wrong with it in a handshake.
    package init(certificatePEM: [UInt8], keyPEM: [UInt8]) throws(TLSError) {
        self.certificatePEM = certificatePEM
        self.keyPEM = keyPEM
        try TLSContext(method: TLS_client_method(), minimum: .v1_2).show(self)
    }

    /// What a server shows, which finds out by itself whether it is good.
    init(ofServer certificatePEM: [UInt8], _ keyPEM: [UInt8]) {
        self.certificatePEM = certificatePEM
        self.keyPEM = keyPEM
    }
}

extension TLSContext {
    /// Has the peer shown this certificate. Only while the context is made.
    ///
    /// - Returns: the end of its validity, in seconds since 1970-01-01T00:00:00Z.
    @discardableResult
    func show(_ identity: TLSIdentity) throws(TLSError) -> Int64 {
        let certificates = try PEMText(certificates: identity.certificatePEM)
        let leaf = try certificates.readLeaf()
        defer { X509_free(leaf) }
        let privateKey: OpenSSLObject
        do {
            privateKey = try PEMText(identity.keyPEM).readPrivateKey()
        } catch {
            throw TLSError(.key, error.message)
        }
        ERR_clear_error()
        guard X509_check_private_key(leaf, privateKey.pointer) == 1 else {
            throw .drainQueue(.keyMismatch, while: "the private key is not that of the certificate")
        }
        guard SSL_CTX_use_certificate(pointer, leaf) == 1 else {
            throw .drainQueue(.certificate, while: "certificate not accepted")
        }
        while let issuer = try certificates.readIssuer() {
            guard C_SSL_CTX_add0_chain_cert(pointer, issuer) == 1 else {
                X509_free(issuer)
                throw .drainQueue(.certificate, while: "certificate of an issuer not accepted")
            }
        }
        guard SSL_CTX_use_PrivateKey(pointer, privateKey.pointer) == 1 else {
            throw .drainQueue(.key, while: "private key not accepted")
        }
        return try TLSServerContext.seconds(of: X509_get0_notAfter(leaf))
    }
}
