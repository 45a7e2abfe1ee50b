// What an edge needs to speak TLS: certificate chains and private keys. One is made at start, and a new one when a
// certificate has changed.

import COpenSSL

/// A server's side of TLS: its certificate, its key and the versions that it speaks.
///
/// Clients cannot choose a key exchange without forward secrecy; the rest of the cipher list, the groups and the
/// security level are the system's. Connections that have begun keep the context that they began with.
package final class TLSServerContext: Sendable {
    let context: TLSContext
    /// When the certificate (the leaf, not its issuers) ends to be valid, in seconds since 1970-01-01T00:00:00Z.
    package let certificateExpiry: Int64
    /// The certificates for other names; nil if there are none.
    private let alternatives: Alternatives?

    /// Reads PEM files: the certificate followed by the chain of its issuers, and the key without a passphrase.
    package convenience init(
        certificateFile: String, keyFile: String, minimum: TLSMinimum = .v1_2
    ) throws(TLSError) {
        let certificates = try PEMSource(file: certificateFile, failure: .certificate)
        let key = try PEMSource(file: keyFile, failure: .key)
        try self.init(certificates: certificates, key: key, minimum: minimum)
    }

    /// Takes what was read from PEM files: the certificate followed by the chain of its issuers, and the key without
    /// a passphrase.
    ///
    /// - Parameter others: a client that asks for a host by name (SNI, RFC 6066 section 3) is shown the first of these
    ///   certificates that is for that name, if this one is not.
    package convenience init(
        certificatePEM: [UInt8], keyPEM: [UInt8], minimum: TLSMinimum = .v1_2, others: [TLSServerContext] = []
    ) throws(TLSError) {
        let certificates = try PEMSource(bytes: certificatePEM, failure: .certificate)
        let key = try PEMSource(bytes: keyPEM, failure: .key)
        try self.init(certificates: certificates, key: key, minimum: minimum, others: others)
    }

    private init(
        certificates: PEMSource, key: PEMSource, minimum: TLSMinimum, others: [TLSServerContext] = []
    ) throws(TLSError) {
        context = try TLSContext(method: TLS_server_method(), minimum: minimum)
        let pointer = context.pointer
        SSL_CTX_set_options(pointer, C_SSL_OP_CIPHER_SERVER_PREFERENCE | C_SSL_OP_PRIORITIZE_CHACHA)
        // RSA key exchange, the one without forward secrecy, is in the default list of TLS 1.2.
        guard SSL_CTX_set_cipher_list(pointer, "DEFAULT:!kRSA") == 1 else {
            throw .drainQueue(.configuration, while: "cipher list")
        }
        // A mail client opens one connection and resumes with the ticket of that: two tickets are one too many.
        guard SSL_CTX_set_num_tickets(pointer, 1) == 1 else {
            throw .drainQueue(.configuration, while: "session tickets")
        }

        let leaf = try certificates.readLeaf()
        defer { X509_free(leaf) }
        let privateKey = try key.readPrivateKey()
        defer { EVP_PKEY_free(privateKey) }
        ERR_clear_error()
        guard X509_check_private_key(leaf, privateKey) == 1 else {
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
        guard SSL_CTX_use_PrivateKey(pointer, privateKey) == 1 else {
            throw .drainQueue(.key, while: "private key not accepted")
        }
        certificateExpiry = try Self.seconds(of: X509_get0_notAfter(leaf))
        alternatives = others.isEmpty ? nil : Alternatives(others)
        guard let alternatives else { return }
        C_SSL_CTX_set_servername(
            pointer, { ssl, _, argument in chooseContext(ssl, argument) },
            Unmanaged.passUnretained(alternatives).toOpaque())
    }

    /// Whether the certificate is for this host name (RFC 6125), wildcards included.
    func isFor(_ name: UnsafePointer<CChar>) -> Bool { Self.isFor(context.pointer, name) }

    fileprivate static func isFor(_ context: OpaquePointer, _ name: UnsafePointer<CChar>) -> Bool {
        guard let leaf = SSL_CTX_get0_certificate(context) else { return false }
        return X509_check_host(leaf, name, 0, UInt32(X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS), nil) == 1
    }

    static func seconds(of time: UnsafePointer<ASN1_TIME>?) throws(TLSError) -> Int64 {
        guard let epoch = ASN1_TIME_set(nil, 0) else { throw .drainQueue(.certificate, while: "time of expiry") }
        defer { ASN1_STRING_free(epoch) }
        var (days, seconds): (CInt, CInt) = (0, 0)
        guard ASN1_TIME_diff(&days, &seconds, epoch, time) == 1 else {
            throw .drainQueue(.certificate, while: "time of expiry")
        }
        return Int64(days) * 86_400 + Int64(seconds)
    }
}

/// The contexts that a connection may change to. Kept alive by the one that it begins with, and that by its TLSEngine.
private final class Alternatives: Sendable {
    let contexts: [TLSServerContext]

    init(_ contexts: [TLSServerContext]) { self.contexts = contexts }
}

/// Called by OpenSSL when a client has said which host it wants: nobody is turned away for a name, who asks for an unknown
/// one is shown the first certificate.
private func chooseContext(_ ssl: OpaquePointer?, _ argument: UnsafeMutableRawPointer?) -> CInt {
    guard let ssl, let argument, let name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name),
        let context = SSL_get_SSL_CTX(ssl), !TLSServerContext.isFor(context, name)
    else { return SSL_TLSEXT_ERR_OK }
    let alternatives = Unmanaged<Alternatives>.fromOpaque(argument).takeUnretainedValue()
    if let other = alternatives.contexts.first(where: { $0.isFor(name) }) {
        SSL_set_SSL_CTX(ssl, other.context.pointer)
    }
    return SSL_TLSEXT_ERR_OK
}

/// PEM text, in a file or in memory, read from beginning to end.
final class PEMSource {
    private let bio: OpaquePointer
    private let failure: TLSError.Code

    init(file: String, failure: TLSError.Code) throws(TLSError) {
        ERR_clear_error()
        guard let bio = BIO_new_file(file, "r") else { throw .drainQueue(failure, while: "cannot open \(file)") }
        (self.bio, self.failure) = (bio, failure)
    }

    init(bytes: [UInt8], failure: TLSError.Code) throws(TLSError) {
        ERR_clear_error()
        // A BIO of its own that is written to, because one over memory of ours would be bound to its lifetime.
        guard let bio = BIO_new(BIO_s_secmem()), let count = CInt(exactly: bytes.count),
            BIO_write(bio, bytes, count) == count
        else { throw .drainQueue(failure, while: "cannot be copied") }
        (self.bio, self.failure) = (bio, failure)
    }

    deinit { BIO_free(bio) }

    func readLeaf() throws(TLSError) -> OpaquePointer {
        ERR_clear_error()
        guard let certificate = PEM_read_bio_X509_AUX(bio, nil, refusePassphrase, nil) else {
            throw .drainQueue(failure, while: "no certificate in PEM")
        }
        return certificate
    }

    /// The next certificate behind the leaf; nil if there are no more.
    func readIssuer() throws(TLSError) -> OpaquePointer? {
        ERR_clear_error()
        if let certificate = PEM_read_bio_X509(bio, nil, refusePassphrase, nil) { return certificate }
        guard C_ERR_is(ERR_peek_last_error(), ERR_LIB_PEM, PEM_R_NO_START_LINE) == 1 else {
            throw .drainQueue(failure, while: "chain of issuers")
        }
        ERR_clear_error()
        return nil
    }

    func readPrivateKey() throws(TLSError) -> OpaquePointer {
        ERR_clear_error()
        guard let key = PEM_read_bio_PrivateKey(bio, nil, refusePassphrase, nil) else {
            throw .drainQueue(failure, while: "no private key in PEM, or one with a passphrase")
        }
        return key
    }
}

/// Instead of OpenSSL's own, which would ask on the terminal.
private func refusePassphrase(
    buffer: UnsafeMutablePointer<CChar>?, size: CInt, isWriting: CInt, user: UnsafeMutableRawPointer?
) -> CInt { -1 }
