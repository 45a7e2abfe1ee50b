// The first step of the decision, once for a domain: which hosts may be asked at all, and how much DNS proves of them (RFC
// 7672 section 2.2.1, RFC 8461 section 5, RFC 7505). HostSecurity takes what comes of it, once for each host.

import SlimtaMail

/// What DNS, or who configured it, says of a domain's exchangers.
enum ExchangerFinding: Hashable, Sendable {
    /// Those of MX records, or of our own configuration, in the order of their preference.
    case hosts([String])
    /// No MX record: the domain is the host.
    case implicit
    /// "No mail here" (RFC 7505 section 3).
    case null
    /// No answer, or a forged one. No host is tried, and the domain's own address is no way around.
    case failed(why: String, isBogus: Bool)
}

/// What counts for all hosts of a domain.
struct DomainSecurity: Hashable, Sendable {
    let origin: RelayOrigin
    /// The recipient's domain, the fixed host's name, or the address of a literal: in A-labels, lower case.
    let domain: String
    /// What CNAME records make of the domain, if all of them are proved; nil: it is no alias.
    let canonicalDomain: String?
    /// Whether the domain is the host, for want of an MX record.
    let isImplicit: Bool
    /// Whether the hosts are proved to be the domain's. Without that DANE says "this is that host", and not "it is theirs".
    let isTrusted: Bool
    let sts: STSStanding
    /// The operator's demand.
    let floor: TLSFloor
    /// What a certificate may have instead of the host's name, where the operator's demand is why it is verified; empty: nothing.
    let names: [String]
    /// Whether a password goes over the session.
    let hasCredentials: Bool
    let message: MessageDemand

    /// For hosts that DNS names, or that the operator does. `canonicalDomain` is of a proved answer, or nil.
    init(
        _ origin: RelayOrigin, _ domain: String, canonicalDomain: String? = nil, isImplicit: Bool = false,
        isTrusted: Bool, sts: STSStanding = .none, floor: TLSFloor = .opportunistic, names: [String] = [],
        hasCredentials: Bool = false,
        message: MessageDemand = .nothing
    ) {
        self.origin = origin
        self.domain = domain
        self.canonicalDomain = canonicalDomain
        self.isImplicit = isImplicit
        // Whoever names the host itself has looked nothing up that somebody could forge.
        self.isTrusted = origin == .domain ? isTrusted : true
        self.sts = origin == .literal ? .none : sts
        self.floor = floor
        self.names = names
        self.hasCredentials = hasCredentials
        self.message = message
    }

    /// Whether what the recipient's side publishes is applied: not where the sender wants the mail to arrive before all.
    var appliesPolicies: Bool { message != .tlsNotRequired }

    /// What the domain comes to.
    enum Verdict: Hashable, Sendable {
        /// These may be tried, in their order. `leftOut` match no pattern of a policy in force: each is counted as a failure
        /// (`validation-failure`), and not connected to.
        case hosts([String], leftOut: [String])
        case failed(SecurityFailure)
        case permanent(Reply)
    }

    /// Which of the hosts may be tried.
    ///
    /// A policy of mode `enforce` leaves out hosts that it does not name before anything is asked of them. Where DNSSEC proves
    /// the MX records, that is decided host by host: one with usable TLSA records is the domain's without the policy.
    func hosts(of finding: ExchangerFinding) -> Verdict {
        let names: [String]
        switch finding {
        case .hosts(let hosts): names = hosts
        case .implicit: names = [domain]
        case .null: return .permanent(Reply(556, EnhancedStatus(5, 1, 10), "\(domain) takes no mail (null MX)"))
        case .failed(let why, let isBogus): return .failed(.lookup(domain, why: why, isBogus: isBogus))
        }
        guard appliesPolicies, floor != .none, case .enforce(let policy) = sts, !isTrusted else {
            return .hosts(names, leftOut: [])
        }
        let kept = names.filter { policy.matches($0) }
        let leftOut = names.filter { !policy.matches($0) }
        return kept.isEmpty ? .failed(.noHostInPolicy(domain: domain)) : .hosts(kept, leftOut: leftOut)
    }
}
