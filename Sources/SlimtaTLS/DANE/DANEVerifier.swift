// Whether a chain of certificates is the one that a host's TLSA records name (RFC 6698, RFC 7671, RFC 7672 section 3): octets
// in, a verdict out, without a session. It is OpenSSL's own DANE that decides, as it does in handshakes: rules such as the
// agility of digests (RFC 7671 section 9) are easily got wrong by a loop over records. For tests of records, and for whoever
// wants to know of a certificate before it is in use.

import COpenSSL
import SlimtaCrypto

/// Compares chains with TLSA records.
package struct DANEVerifier: Sendable {
    /// What a chain is by the records.
    package enum Verdict: Hashable, Sendable {
        /// The record that it was found by, and at which certificate of the chain: 0 is the server's own.
        case matched(TLSARecord, depth: Int)
        /// None of the records can authenticate a mail host: TLS is demanded, and nothing of the certificate.
        case noUsableRecord
        /// Why not, in OpenSSL's words.
        case refused(String)
    }

    private let context: TLSContext

    /// One for all chains. It trusts no root: what is not in the records proves nothing here.
    package init() throws(TLSError) {
        context = try TLSContext(method: TLS_client_method(), minimum: .v1_2)
        ERR_clear_error()
        guard SSL_CTX_dane_enable(context.pointer) == 1 else { throw .drainQueue(.configuration, while: "DANE") }
        // What is proved by its zone need not have a key that a root would sign today (RFC 7672 section 3.1.1 leaves it open).
        SSL_CTX_set_security_level(context.pointer, 1)
    }

    /// Whether a server's chain is what its records say.
    ///
    /// - Parameters:
    ///   - chain: certificates in DER, the server's own first.
    ///   - records: all of the host's; those that are of no use to mail are left out here.
    ///   - names: what a certificate below a DANE-TA record may be for; the first is where the records are.
    ///   - checksNamesOfEndEntities: DANE-EE matches no names in mail (RFC 7672 section 3.1.1); elsewhere it may.
    package func verify(
        _ chain: [[UInt8]], _ records: [TLSARecord], names: [String], checksNamesOfEndEntities: Bool = false
    ) -> Verdict {
        ERR_clear_error()
        defer { ERR_clear_error() }
        guard let ssl = SSL_new(context.pointer) else { preconditionFailure("SSL_new: out of memory") }
        defer { SSL_free(ssl) }
        SSL_set_connect_state(ssl)
        guard let base = names.first, !base.isEmpty, SSL_dane_enable(ssl, base) > 0 else {
            return .refused("no name that could be matched")
        }
        for name in names.dropFirst() where SSL_add1_host(ssl, name) != 1 {
            return .refused("\(name) cannot be matched")
        }
        SSL_set_hostflags(ssl, UInt32(X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS))
        if !checksNamesOfEndEntities { _ = SSL_dane_set_flags(ssl, UInt(DANE_FLAG_NO_DANE_EE_NAMECHECKS)) }
        guard records.count(where: { $0.isUsable && Self.add($0, to: ssl) }) > 0 else { return .noUsableRecord }

        var certificates: [OpaquePointer?] = []
        defer { for certificate in certificates { X509_free(certificate) } }
        for octets in chain {
            guard let certificate = TLSARecord.certificate(octets) else { return .refused("not a certificate") }
            certificates.append(certificate)
        }
        let isGood = certificates.withUnsafeMutableBufferPointer {
            C_SSL_verify_chain(ssl, $0.baseAddress, CInt($0.count)) == 1
        }
        guard isGood else {
            return .refused(String(cString: X509_verify_cert_error_string(SSL_get_verify_result(ssl))))
        }
        return Self.match(ssl)
    }

    /// Whether OpenSSL can use it: whole certificates and keys are read.
    static func add(_ record: TLSARecord, to ssl: OpaquePointer) -> Bool {
        SSL_dane_tlsa_add(ssl, record.usage, record.selector, record.matching, record.data, record.data.count) > 0
    }

    /// The record that a session was found by.
    static func match(_ ssl: OpaquePointer) -> Verdict {
        var (usage, selector, matching): (UInt8, UInt8, UInt8) = (0, 0, 0)
        var data: UnsafePointer<UInt8>?
        var count = 0
        let depth = SSL_get0_dane_tlsa(ssl, &usage, &selector, &matching, &data, &count)
        guard depth >= 0, let data else { return .refused("no record matches") }
        let record = TLSARecord(
            usage: usage, selector: selector, matching: matching,
            data: Array(UnsafeBufferPointer(start: data, count: count)))
        return .matched(record, depth: Int(depth))
    }
}
