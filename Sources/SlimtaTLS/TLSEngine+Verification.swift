// What a client asks of the server's certificate, put to OpenSSL, and what it said: names, chains, and the TLSA records of
// DANE. TLSEngine calls it before, in and behind the handshake.

import COpenSSL

extension TLSEngine {
    /// Names are those of a certificate's extension, never its subject's, and "*" stands for a whole label (RFC 9525 section
    /// 6.3, RFC 8461 section 4.2).
    private static let nameFlags = UInt32(X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT)

    /// Has OpenSSL ask it. Why it cannot be asked; nil: all is well.
    static func demand(
        _ verification: TLSVerification, of ssl: OpaquePointer, _ client: TLSClientContext
    ) -> TLSError? {
        switch verification {
        case .none:
            SSL_set_verify(ssl, SSL_VERIFY_NONE, nil)
            return nil
        case .system(let host, let others):
            precondition(client.verifies, "a context made with verifies: false cannot verify")
            SSL_set_verify(ssl, SSL_VERIFY_PEER, nil)
            SSL_set_hostflags(ssl, nameFlags)
            return match([host] + others, by: SSL_get0_param(ssl))
        case .dane(let demand):
            precondition(client.beside != nil, "a context that compares no records cannot do DANE")
            SSL_set_verify(ssl, SSL_VERIFY_PEER, nil)
            return compare(demand, ssl)
        }
    }

    private static func match(_ names: [String], by parameters: OpaquePointer?) -> TLSError? {
        for (index, name) in names.enumerated() {
            // With an empty name OpenSSL would check the chain alone.
            guard !name.isEmpty else { return TLSError(.verification, "no host name to verify") }
            // The length is given so that a NUL within the name is seen and refused.
            let accepted =
                isAddress(name)
                ? X509_VERIFY_PARAM_set1_ip_asc(parameters, name)
                : index == 0
                    ? X509_VERIFY_PARAM_set1_host(parameters, name, name.utf8.count)
                    : X509_VERIFY_PARAM_add1_host(parameters, name, name.utf8.count)
            guard accepted == 1 else { return .drainQueue(.verification, while: "host name cannot be verified") }
        }
        return nil
    }

    /// RFC 7672 section 3: which record a chain is found by decides what else counts.
    private static func compare(_ demand: DANEDemand, _ ssl: OpaquePointer) -> TLSError? {
        guard !demand.base.isEmpty, SSL_dane_enable(ssl, demand.base) > 0 else {
            return .drainQueue(.verification, while: "DANE for \(demand.base)")
        }
        SSL_set_hostflags(ssl, UInt32(X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS))
        for name in demand.names where SSL_add1_host(ssl, name) != 1 {
            return .drainQueue(.verification, while: "\(name) cannot be verified")
        }
        // DANE-EE says which key it is, and that is all (section 3.1.1).
        _ = SSL_dane_set_flags(ssl, UInt(DANE_FLAG_NO_DANE_EE_NAMECHECKS))
        let added = demand.records.count { DANEVerifier.add($0, to: ssl) }
        return added > 0 ? nil : TLSError(.verification, "no TLSA record can be used", fault: .noMatch)
    }

    // MARK: What came of it

    /// Why the handshake failed, if it was for the server's certificate.
    func certificateError(_ verification: TLSVerification) -> TLSError? {
        let name: String
        switch verification {
        case .none: return nil
        case .system(let host, _): name = host
        case .dane(let demand): name = demand.base
        }
        return Self.error(of: name, SSL_get_verify_result(ssl))
    }

    /// What stands against a session whose handshake is done.
    func errorBehindHandshake(_ verification: TLSVerification) -> TLSError? {
        guard case .dane(let demand) = verification else { return nil }
        guard SSL_get0_dane_authority(ssl, nil, nil) >= 0 else {
            return TLSError(.verification, "\(demand.base): no TLSA record matches", fault: .noMatch)
        }
        guard let name = demand.pkixName, let trusted = client?.beside else { return nil }
        return chainError(of: name, trusted, isBesideRecords: true)
    }

    /// What would stand against the server's certificate if it had to have this name, and lead to a root of `trusted`; of a
    /// session whose handshake is done.
    func chainError(of name: String, _ trusted: TLSClientContext, isBesideRecords: Bool = false) -> TLSError? {
        precondition(trusted.verifies, "a context made with verifies: false trusts nobody")
        ERR_clear_error()
        let verdict = Int(C_SSL_chain_error(ssl, trusted.context.pointer, name, Self.nameFlags))
        return Self.error(of: name, verdict, isBesideRecords: isBesideRecords)
    }

    private static func error(of name: String, _ verdict: Int, isBesideRecords: Bool = false) -> TLSError? {
        guard verdict != Int(X509_V_OK) else { return nil }
        ERR_clear_error()
        let fault: CertificateFault =
            switch CInt(verdict) {
            case X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH: .name
            case X509_V_ERR_CERT_HAS_EXPIRED, X509_V_ERR_CERT_NOT_YET_VALID: .date
            case X509_V_ERR_DANE_NO_MATCH: .noMatch
            default: .chain
            }
        return TLSError(
            .verification, "\(name): \(String(cString: X509_verify_cert_error_string(verdict)))", fault: fault,
            isBesideRecords: isBesideRecords)
    }

    /// What the server's certificate was found to be by; nil: nothing was asked of it.
    func proof(_ verification: TLSVerification) -> String? {
        switch verification {
        case .none: return nil
        case .system: return "PKIX"
        case .dane(let demand):
            guard case .matched(let record, _) = DANEVerifier.match(ssl) else { return nil }
            let words = record.description
            // Enough to tell it from the others.
            let shown = words.utf8.count > 24 ? "\(words.prefix(22))..." : words
            return "TLSA \(shown)\(demand.pkixName == nil ? "" : ", PKIX")"
        }
    }
}
