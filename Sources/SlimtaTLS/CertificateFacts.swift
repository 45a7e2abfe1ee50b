// What a certificate says of itself and its chain, for people. `slimtad check` shows it.

import COpenSSL
import Glibc
import SlimtaCrypto

/// A PEM file of a server's certificate and the chain of its issuers, as clients will see it.
package struct CertificateFacts: Sendable {
    /// The host names that it is for; its common name where it has none.
    package let names: [String]
    /// Who issued it, and each certificate behind it in the file: the way up as far as the file goes.
    package let chain: [String]
    /// The end of its validity, in seconds since 1970-01-01T00:00:00Z.
    package let expiry: Int64
    /// SHA-256 of the leaf.
    package let fingerprint: [UInt8]
    /// Issued by itself: no client trusts it without having been told to.
    package let isSelfSigned: Bool
    /// Why the chain does not lead to a root that this system knows, in OpenSSL's words; nil: it does. Times are not
    /// looked at.
    package let chainProblem: String?

    /// Reads the file's octets. Throws ``TLSError/Code/certificate`` if they are no certificate, or if one behind it is broken.
    package init(certificatePEM: [UInt8]) throws(TLSError) {
        let source = try PEMText(certificates: certificatePEM)
        let leaf = try source.readLeaf()
        defer { X509_free(leaf) }
        var issuers: [OpaquePointer?] = []
        defer { for issuer in issuers { X509_free(issuer) } }
        while let issuer = try source.readIssuer() { issuers.append(issuer) }

        let names = Self.names(of: leaf, GEN_DNS)
        self.names = names.isEmpty ? [Self.commonName(X509_get_subject_name(leaf))] : names
        fingerprint = TLSEngine.digest(of: leaf, EVP_sha256()) ?? []
        isSelfSigned = X509_check_issued(leaf, leaf) == X509_V_OK
        chain = ([leaf] + issuers).map { Self.commonName(X509_get_issuer_name($0)) }
        expiry = try TLSServerContext.seconds(of: X509_get0_notAfter(leaf))
        let error = issuers.withUnsafeMutableBufferPointer {
            C_X509_chain_error(leaf, $0.baseAddress, CInt($0.count))
        }
        ERR_clear_error()
        chainProblem = error == 0 ? nil : String(cString: X509_verify_cert_error_string(Int(error)))
    }

    /// Whether a name of a certificate, which may begin with "*.", is for a host (RFC 6125 section 6.4.3).
    package static func matches(_ name: String, _ host: String) -> Bool {
        let (name, host) = (name.lowercased(), host.lowercased())
        guard name.hasPrefix("*.") else { return name == host }
        return host.split(separator: ".", maxSplits: 1).last.map { $0 == name.dropFirst(2) } ?? false
    }

    /// The subject alternative names of one type (RFC 5280 section 4.2.1.6).
    static func names(of certificate: OpaquePointer, _ type: CInt) -> [String] {
        let list = NameList()
        C_X509_each_name(certificate, type, Unmanaged.passUnretained(list).toOpaque()) { context, octets, count in
            guard let context, let octets else { return }
            let name = String(decoding: UnsafeBufferPointer(start: octets, count: Int(count)), as: UTF8.self)
            Unmanaged<NameList>.fromOpaque(context).takeUnretainedValue().names.append(name)
        }
        return list.names
    }

    /// The common name, or all of the name where it has none.
    static func commonName(_ name: OpaquePointer?) -> String {
        var buffer = [CChar](repeating: 0, count: 256)
        let count = X509_NAME_get_text_by_NID(name, NID_commonName, &buffer, CInt(buffer.count))
        if count >= 0 {
            // With a NUL in it, if it has one: what is before that is another name.
            return String(decoding: buffer.prefix(Int(count)).map { UInt8(bitPattern: $0) }, as: UTF8.self)
        }
        X509_NAME_oneline(name, &buffer, CInt(buffer.count))
        return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}

/// Names on their way through C.
private final class NameList {
    var names: [String] = []
}
