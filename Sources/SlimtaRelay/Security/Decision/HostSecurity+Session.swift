// What a decision means once a session was tried: what is said when it did not come about, and what logs say of one that did.
// Asked by HostTrial.

import SlimtaSMTP
import SlimtaTLS

extension HostSecurity {
    /// What is said of a session that did not come about, where TLS was demanded; nil: it was not, and the session's own words
    /// count.
    ///
    /// - Parameters:
    ///   - error: what the handshake failed with; nil: it just ended.
    ///   - words: the session's own.
    func failure(
        _ fault: SMTPClientMachine.SessionFailure.TLSFault, _ error: TLSError?, words: String, host: String,
        domain: String
    ) -> SecurityFailure? {
        guard plan?.encryption == .always else { return nil }
        switch fault {
        case .notOffered:
            if row == .encrypted, let known { return .notOfferedAnyMore(host: host, domain: domain, known) }
            return .notOffered(host: host)
        case .refused(let reply): return .refused(host: host, reply: "\(reply)")
        case .failed:
            guard let error else { return .handshake(host: host, why: words) }
            guard let fault = error.fault else { return .handshake(host: host, why: error.message) }
            return .certificate(host: host, fault, why: error.message)
        }
    }

    private var known: MemoryStanding.Encrypted? {
        for case .memory(let known) in reasons { return known }
        return nil
    }

    /// What a session by this plan has shown of the host.
    var proof: TLSMemory.Proof {
        var proof: TLSMemory.Proof = []
        if plan?.dane != nil { proof.insert(.dane) }
        switch row {
        case .daneAndPolicy, .unusableAndPolicy, .policy: proof.insert(.policy)
        case nil, .noTLS, .tlsNotRequired, .dane, .unusable, .daneRequired, .verified, .encrypted, .opportunistic: break
        }
        return proof
    }

    /// How mail may go there and why, for logs; nil: TLS where it is offered, and nobody says anything.
    var summary: String? {
        guard row != .opportunistic || !reasons.isEmpty else { return nil }
        let name = row.map(\.word) ?? "not used"
        return reasons.isEmpty ? name : "\(name) (\(reasons.map(\.description).joined(separator: ", ")))"
    }
}

extension HostSecurity.Row {
    /// For people.
    var word: String {
        switch self {
        case .noTLS: "no TLS"
        case .tlsNotRequired: "not required"
        case .dane: "DANE"
        case .daneAndPolicy: "DANE and MTA-STS"
        case .unusableAndPolicy, .policy: "MTA-STS"
        case .unusable, .encrypted: "encrypted"
        case .daneRequired: "DANE required"
        case .verified: "verified"
        case .opportunistic: "opportunistic"
        }
    }
}
