// What a TLS report is about: the policies that were looked at for a host, and what a session with it says of each of them (RFC
// 8460 sections 4.3 and 4.4). A pure function of values; HostDecisions makes subjects, TLSReportWatch asks them.
//
// A session counts for every policy that was looked at, whichever decided: as a success where it would have satisfied that one.
// Where nobody can know that, it does not count for that policy: a handshake that DANE has ended shows no certificate to
// compare with a policy of MTA-STS.

import SlimtaTLS

/// What the TLS of a session came to.
enum TLSSessionOutcome: Hashable, Sendable {
    /// What there is to be said of a certificate, for the host's name and with the roots of the system.
    enum Certificate: Hashable, Sendable {
        case good
        case bad(CertificateFault)
        /// Nobody has looked.
        case unseen
    }

    case established(Certificate)
    /// STARTTLS is not offered.
    case notOffered
    /// It is, and refused.
    case refused
    /// The handshake ended for another reason than the certificate.
    case handshake(String)
    /// For the certificate: by what was demanded of it. `isBesideRecords`: its TLSA records have matched.
    case certificate(CertificateFault, isBesideRecords: Bool)
}

/// A host, for the reports of the domain that it takes mail for.
struct TLSReportSubject: Hashable, Sendable {
    /// Whom the reports are for.
    let domain: String
    let host: String
    /// nil: there is none.
    private let policy: STSPolicy?
    private let tlsa: TLSAFinding

    /// nil: the host is an address, of which nobody publishes anything, and for which nobody could ask for reports.
    init?(_ host: HostFinding, in domain: DomainSecurity) {
        guard !host.isAddress, domain.origin != .literal else { return nil }
        self.domain = domain.domain
        self.host = host.name
        policy = domain.sts.policy
        tlsa = host.tlsa
    }

    /// Whether the host's certificate has to be looked at for a policy.
    var wantsCertificate: Bool { policy != nil }

    // MARK: Policies

    /// The domain's policy of MTA-STS; nil: it has none.
    var sts: TLSReportedPolicy? { policy.map { .sts($0, of: domain) } }

    /// nil: no records are proved, and none are hidden.
    private var dane: TLSReportedPolicy? {
        switch tlsa {
        case .absent, .unvalidated: nil
        case .present(let base, let records): .tlsa(records.map(\.description), base: base)
        case .failed: .tlsa([], base: host)
        }
    }

    /// What is counted where there is no session: with which policy.
    func result(of failure: SecurityFailure) -> (policy: TLSReportedPolicy, result: TLSResult)? {
        guard let result = failure.result else { return nil }
        let none = TLSReportedPolicy.none(domain)
        return switch result.policy {
        case .tlsa: (dane ?? .tlsa([], base: host), result)
        case .sts: (sts ?? none, result)
        case .noPolicy: (none, result)
        case nil: (dane ?? sts ?? none, result)
        }
    }

    // MARK: Sessions

    /// How each policy was not satisfied by a session of this plan; empty: it was. Policies of which nobody knows are not there.
    func results(of outcome: TLSSessionOutcome, by plan: TLSPlan) -> [TLSReportedPolicy: [TLSResult]] {
        var results: [TLSReportedPolicy: [TLSResult]] = [:]
        if let sts, let policy { results[sts] = self.results(of: outcome, by: plan, for: policy) }
        if let dane { results[dane] = daneResults(of: outcome, by: plan) }
        if sts == nil, dane == nil { results[.none(domain)] = resultsWithoutPolicy(of: outcome, by: plan) }
        return results
    }

    private func results(
        of outcome: TLSSessionOutcome, by plan: TLSPlan, for policy: STSPolicy
    ) -> [TLSResult]? {
        let mismatch = policy.matches(host) ? [] : [TLSResult.mxMismatch]
        let unknown = mismatch.isEmpty ? nil : mismatch
        switch outcome {
        case .established(.good): return mismatch
        case .established(.bad(let fault)): return mismatch + [TLSResult(fault)]
        case .established(.unseen): return unknown
        case .notOffered, .refused: return mismatch + [TLSResult(.startTLSNotSupported)]
        case .handshake(let why): return mismatch + [TLSResult(.validationFailure, reason: why)]
        case .certificate(let fault, let isBesideRecords):
            // What ends a handshake by DANE is a matter of DANE; other names are the operator's.
            let isOfPolicy = plan.dane == nil ? plan.names(host) : isBesideRecords
            return isOfPolicy ? mismatch + [TLSResult(fault)] : unknown
        }
    }

    private func daneResults(of outcome: TLSSessionOutcome, by plan: TLSPlan) -> [TLSResult]? {
        let isUsable = !tlsa.usable.isEmpty
        // They are of no use, or not to be had: that alone is a failure, whatever the session is like.
        var before: [TLSResult] = []
        switch tlsa {
        case .absent, .unvalidated: break
        case .present: if !isUsable { before = [.noUsableTLSA] }
        case .failed: before = [TLSResult(.dnssecInvalid, of: .tlsa)]
        }
        let unknown = before.isEmpty ? nil : before
        switch outcome {
        case .established: return isUsable && plan.dane != nil ? [] : unknown
        case .notOffered, .refused: return before + [TLSResult(.startTLSNotSupported)]
        case .handshake(let why): return before + [TLSResult(.validationFailure, reason: why)]
        case .certificate(let fault, let isBesideRecords):
            guard isUsable, plan.dane != nil else { return unknown }
            return isBesideRecords ? [] : [TLSResult(fault)]
        }
    }

    private func resultsWithoutPolicy(of outcome: TLSSessionOutcome, by plan: TLSPlan) -> [TLSResult]? {
        switch outcome {
        case .established: return []
        // Nobody wanted it: there was no negotiation.
        case .notOffered: return plan.encryption == .always ? [TLSResult(.startTLSNotSupported)] : nil
        case .refused: return [TLSResult(.startTLSNotSupported)]
        case .handshake(let why): return [TLSResult(.validationFailure, reason: why)]
        case .certificate(let fault, _): return [TLSResult(fault)]
        }
    }
}

extension TLSPlan {
    /// Whether the certificate had to have this name, or one of others as well.
    fileprivate func names(_ host: String) -> Bool { pkixName == host || otherNames.contains(host) }

    /// Whether a session by this plan proves that the certificate has this name, and leads to a root of the system.
    func proves(_ host: String) -> Bool { pkixName == host && otherNames.isEmpty }
}
