// A certificate and the chain of its issuers in a PEM text. Used by TLSServerContext, to serve them, and by
// CertificateFacts, to tell what they say.

import COpenSSL
import SlimtaCrypto

extension PEMText {
    /// The text of a file with certificates.
    convenience init(certificates octets: [UInt8]) throws(TLSError) {
        do { try self.init(octets) } catch { throw TLSError(.certificate, error.message) }
    }

    /// The first certificate, for the caller to free.
    func readLeaf() throws(TLSError) -> OpaquePointer {
        ERR_clear_error()
        guard let certificate = PEM_read_bio_X509_AUX(bio, nil, refusePassphrase, nil) else {
            throw .drainQueue(.certificate, while: "no certificate in PEM")
        }
        return certificate
    }

    /// The next certificate behind the leaf, for the caller to free; nil if there are no more.
    func readIssuer() throws(TLSError) -> OpaquePointer? {
        ERR_clear_error()
        if let certificate = PEM_read_bio_X509(bio, nil, refusePassphrase, nil) { return certificate }
        guard C_ERR_is(ERR_peek_last_error(), ERR_LIB_PEM, PEM_R_NO_START_LINE) == 1 else {
            throw .drainQueue(.certificate, while: "chain of issuers")
        }
        ERR_clear_error()
        return nil
    }
}
