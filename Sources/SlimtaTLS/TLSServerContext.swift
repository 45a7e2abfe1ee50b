// What an edge needs to speak TLS: certificate chains and private keys. One is made at start, and a new one when a
// certificate has changed.

import COpenSSL
import SlimtaCrypto

/// A server's side of TLS: its certificate, its key and the versions that it speaks.
///
/// Clients cannot choose a key exchange without forward secrecy; the rest of the cipher list, the groups and the
/// security level are the system's. Connections that have begun keep the context that they began with.
package final class TLSServerContext: Sendable {
    let context: TLSContext
    /// When the certificate (the leaf, not its issuers) ends to be valid, in seconds since 1970-01-01T00:00:00Z.
    package let certificateExpiry: Int64
    /// Whether clients are asked for a certificate; they need not have one.
    let asksForCertificate: Bool
    /// The end of the first list of revoked certificates of clients, as ``certificateExpiry``: no certificate that its
    /// issuer has issued is good from then on. nil: there is no such list, or none ends.
    package let revocationExpiry: Int64?
    /// The certificates for other names; nil if there are none.
    private let alternatives: Alternatives?

    /// Takes what was read from PEM files: the certificate followed by the chain of its issuers, and the key without
    /// a passphrase.
    ///
    /// - Parameters:
    ///   - others: a client that asks for a host by name (SNI, RFC 6066 section 3) is shown the first of these
    ///     certificates that is for that name, if this one is not.
    ///   - clientTrustFile: clients are asked for a certificate, and it is good if a certificate in this PEM file issued
    ///     it, and no list of revoked ones in it has it; nil: none is good. One that is not good, or none, does not end the handshake.
    ///   - asksClients: whether they are asked without that file as well.
    package init(
        certificatePEM: [UInt8], keyPEM: [UInt8], minimum: TLSMinimum = .v1_2, others: [TLSServerContext] = [],
        clientTrustFile: String? = nil, asksClients: Bool = false
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

        certificateExpiry = try context.show(TLSIdentity(ofServer: certificatePEM, keyPEM))
        asksForCertificate = asksClients || clientTrustFile != nil
        revocationExpiry =
            asksForCertificate ? try Self.askForCertificates(pointer, trustFile: clientTrustFile) : nil
        alternatives = others.isEmpty ? nil : Alternatives(others)
        guard let alternatives else { return }
        C_SSL_CTX_set_servername(
            pointer, { ssl, _, argument in chooseContext(ssl, argument) },
            Unmanaged.passUnretained(alternatives).toOpaque())
    }

    /// Says when the first list of revoked certificates ends.
    ///
    /// RFC 8446 section 4.3.2, without the names of authorities: some clients ask their users if these are sent.
    private static func askForCertificates(_ context: OpaquePointer, trustFile: String?) throws(TLSError) -> Int64? {
        ERR_clear_error()
        if let trustFile, SSL_CTX_load_verify_file(context, trustFile) != 1 {
            throw .drainQueue(.trust, while: "cannot read \(trustFile)")
        }
        // The verdict is kept by OpenSSL, with the session and its ticket, for who asks.
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER) { _, _ in 1 }
        guard SSL_CTX_set_session_id_context(context, "slimtad", 7) == 1 else {
            throw .drainQueue(.configuration, while: "session tickets")
        }
        return try C_SSL_CTX_use_revocations(context).map { (end) throws(TLSError) in try seconds(of: end) }
    }

    /// Whether the certificate is for this host name (RFC 6125 section 6.4), wildcards included.
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
