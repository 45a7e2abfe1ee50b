// What of a TLS session costs something to know, and is computed for who asks: channel bindings, for SASL, and who the
// peer's certificate is for. TLSHandler passes it on.

import COpenSSL
import SlimtaCrypto
internal import SlimtaMail

extension TLSEngine {
    /// The data of a channel binding; nil if this session has none of that type.
    func channelBinding(_ type: ChannelBinding) -> [UInt8]? {
        ERR_clear_error()
        defer { ERR_clear_error() }
        return switch type {
        case .exporter: exporter
        case .endPoint: endPoint
        }
    }

    /// RFC 9266 section 2: the context is empty, and not absent, which differs in TLS 1.2 (RFC 5705 section 4).
    private var exporter: [UInt8]? {
        guard SSL_version(ssl) == TLS1_3_VERSION || C_SSL_get_extms_support(ssl) == 1 else { return nil }
        let label = "EXPORTER-Channel-Binding"
        var octets = [UInt8](repeating: 0, count: 32)
        let result = SSL_export_keying_material(ssl, &octets, octets.count, label, label.utf8.count, [], 0, 1)
        return result == 1 ? octets : nil
    }

    /// RFC 5929 section 4.1: the digest is that of the certificate's signature, but SHA-256 for MD5 and SHA-1; undefined
    /// where the signature names none (Ed25519).
    private var endPoint: [UInt8]? {
        let isServer = SSL_is_server(ssl) == 1
        guard let certificate = isServer ? SSL_get_certificate(ssl) : SSL_get0_peer_certificate(ssl) else { return nil }
        var digest = NID_undef
        guard X509_get_signature_info(certificate, &digest, nil, nil, nil) == 1, digest != NID_undef else { return nil }
        let isOld = digest == NID_md5 || digest == NID_sha1
        return Self.digest(of: certificate, isOld ? EVP_sha256() : EVP_get_digestbyname(OBJ_nid2sn(digest)))
    }

    /// Who the peer's certificate is for; nil: it has shown none.
    var peerIdentity: CertificateIdentity? {
        ERR_clear_error()
        defer { ERR_clear_error() }
        guard let certificate = SSL_get0_peer_certificate(ssl),
            let fingerprint = Self.digest(of: certificate, EVP_sha256())
        else { return nil }
        return CertificateIdentity(
            emailAddresses: CertificateFacts.names(of: certificate, GEN_EMAIL)
                + CertificateFacts.names(of: certificate, GEN_OTHERNAME),
            hostNames: CertificateFacts.names(of: certificate, GEN_DNS),
            commonName: CertificateFacts.commonName(X509_get_subject_name(certificate)),
            hasOtherNames: X509_get_ext_by_NID(certificate, NID_subject_alt_name, -1) >= 0,
            issuerName: CertificateFacts.commonName(X509_get_issuer_name(certificate)), fingerprint: fingerprint,
            keyFingerprint: Self.keyDigest(of: certificate), isVerified: isPeerVerified)
    }

    /// Of the SubjectPublicKeyInfo as the certificate has it.
    private static func keyDigest(of certificate: OpaquePointer) -> [UInt8] {
        let key = X509_get_X509_PUBKEY(certificate)
        let count = Int(i2d_X509_PUBKEY(key, nil))
        guard count > 0 else { return [] }
        let octets = [UInt8](unsafeUninitializedCapacity: count) { room, filled in
            // It moves the pointer to the end of what it wrote.
            var start = room.baseAddress
            filled = max(0, Int(i2d_X509_PUBKEY(key, &start)))
        }
        return HashFunction.sha256.digest(octets)
    }

    static func digest(of certificate: OpaquePointer, _ function: OpaquePointer?) -> [UInt8]? {
        guard let function else { return nil }
        var octets = [UInt8](repeating: 0, count: Int(EVP_MAX_MD_SIZE))
        var count: CUnsignedInt = 0
        guard X509_digest(certificate, function, &octets, &count) == 1 else { return nil }
        return Array(octets.prefix(Int(count)))
    }
}
