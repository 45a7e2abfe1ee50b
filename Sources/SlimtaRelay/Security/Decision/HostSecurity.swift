// The decision: how mail may go to a host, by all that anybody says of it. A pure function over the rows of one table, so
// that relays, `explain` and the tests have the very same one. Asked once for each host of an attempt; the result is kept
// with the attempt.
//
// The rows are tried in this order, and the first that fits counts:
//
//    1  the operator wants no TLS                  never
//    3  usable TLSA records                        always, DANE
//    4  the same, the MX unproved, MTA-STS         always, DANE and PKIX
//    8  the operator wants DANE, and it is not 3/4 not at all
//    5  TLSA records of no use, MTA-STS            always, PKIX
//    7  MTA-STS                                    always, PKIX
//    9  the operator wants it, or a password       always, PKIX
//    6  TLSA records of no use                     always
//   10  the operator wants it, or it always was    always
//   11  nobody says anything                       where it is offered
//
// Their numbers are those of the specification. Row 8 comes before 5 and 7, and 9 before 6: else a domain that publishes
// records of no use would lower what the operator demands, and a password would go to whoever answers. Row 2 is `TLS-Required:
// No`: what recipients publish, and what was seen before, is then not applied, and the operator's rows (1, 8 to 11) are all
// there is; with a floor of `dane`, DANE is the operator's demand.
//
// Whatever is made stronger of what goes in never makes the plan weaker: HostSecurityTests has the whole product.

import SlimtaTLS

/// What was found of one host.
struct HostFinding: Hashable, Sendable {
    /// As the MX record or the operator has it: in lower case, A-labels; the address of a literal.
    let name: String
    let tlsa: TLSAFinding
    /// ``MemoryStanding/nothing`` where memory is not enforced.
    let memory: MemoryStanding
    /// Whether ``name`` is an address: then there is no name to tell the server.
    let isAddress: Bool

    init(_ name: String, tlsa: TLSAFinding = .absent, memory: MemoryStanding = .nothing, isAddress: Bool = false) {
        (self.name, self.tlsa, self.memory, self.isAddress) = (name, tlsa, memory, isAddress)
    }
}

/// How mail may go to one host, and why.
struct HostSecurity: Hashable, Sendable {
    /// Which row of the table decided; the raw value is its number, for `explain` and logs.
    enum Row: Int, Hashable, Sendable, CaseIterable {
        case noTLS = 1
        case tlsNotRequired
        case dane
        case daneAndPolicy
        case unusableAndPolicy
        case unusable
        case policy
        case daneRequired
        case verified
        case encrypted
        case opportunistic
    }

    /// What comes of it.
    enum Verdict: Hashable, Sendable {
        case plan(TLSPlan)
        /// The host is not used for this message now. Others are tried.
        case unusable(SecurityFailure)
    }

    let verdict: Verdict
    /// nil: it did not come to that.
    let row: Row?
    /// What made it so, in the order in which it was looked at.
    let reasons: [SecurityReason]
    /// Whether each MAIL command says REQUIRETLS, which EHLO within TLS has to offer; what it offered before does not count.
    let requiresKeyword: Bool

    var plan: TLSPlan? {
        if case .plan(let plan) = verdict { return plan }
        return nil
    }

    /// Decides.
    init(of host: HostFinding, in domain: DomainSecurity) {
        var decision = Decision(host: host, domain: domain)
        var (verdict, row) = decision.decide()
        requiresKeyword = domain.message == .requireTLS
        if requiresKeyword, case .plan = verdict, !decision.qualifies(row) {
            decision.reasons.append(.requireTLS)
            verdict = .unusable(.lacksRequireTLS(host: host.name, why: "nothing proves whose host it is"))
        }
        if domain.message == .tlsNotRequired, row != nil { row = .tlsNotRequired }
        (self.verdict, self.row, reasons) = (verdict, row, decision.reasons)
    }
}

/// The table at work.
private struct Decision {
    let host: HostFinding
    let domain: DomainSecurity
    var reasons: [SecurityReason] = []

    init(host: HostFinding, domain: DomainSecurity) { (self.host, self.domain) = (host, domain) }

    /// A password goes to nobody but the host that it is for.
    private var floor: TLSFloor { domain.hasCredentials ? max(domain.floor, .verify) : domain.floor }

    mutating func decide() -> (HostSecurity.Verdict, HostSecurity.Row?) {
        if domain.floor != .opportunistic { reasons.append(.floor(domain.floor)) }
        if domain.hasCredentials { reasons.append(.credentials) }
        if !domain.appliesPolicies { reasons.append(.tlsNotRequired) }
        if floor == .none { return (.plan(TLSPlan(.never, serverName: nil)), .noTLS) }
        if let failure = obstacle() { return (.unusable(failure), nil) }
        if let (plan, row) = dane() { return (.plan(plan), row) }
        if floor == .dane { return (.unusable(.daneRequired(host: host.name)), .daneRequired) }
        return rest()
    }

    /// Whether TLSA records are applied: a floor of `dane` is the operator's demand, whatever the message says.
    private var appliesDANE: Bool { domain.appliesPolicies || floor == .dane }

    private var enforced: STSPolicy? {
        guard domain.appliesPolicies, case .enforce(let policy) = domain.sts else { return nil }
        return policy
    }

    /// What keeps mail from this host before any plan.
    private mutating func obstacle() -> SecurityFailure? {
        if appliesDANE {
            switch host.tlsa {
            case .failed(let name, let why):
                reasons.append(.tlsaFailed(name))
                return .tlsaLookup(host: host.name, question: name, why: why)
            case .unvalidated where host.memory.hadDANE && domain.appliesPolicies:
                reasons.append(.unvalidated)
                return .unvalidated(host: host.name)
            case .absent, .unvalidated, .present: break
            }
        }
        guard let policy = domain.sts.policy, !policy.matches(host.name) else { return nil }
        reasons.append(.notInPolicy(isEnforced: enforced != nil))
        guard enforced != nil, !(domain.isTrusted && !host.tlsa.usable.isEmpty) else { return nil }
        return .notInPolicy(host: host.name, domain: domain.domain)
    }

    /// Rows 3 and 4.
    private mutating func dane() -> (TLSPlan, HostSecurity.Row)? {
        guard case .present(let base, let all) = host.tlsa else { return nil }
        let usable = host.tlsa.usable
        reasons.append(.tlsa(usable: usable.count, all: all.count))
        guard appliesDANE, !usable.isEmpty else { return nil }
        if !domain.isTrusted { reasons.append(.unprovedMX) }
        var names: [String] = []
        if !domain.isImplicit { names = [domain.domain] + (domain.canonicalDomain.map { [$0] } ?? []) }
        let demand = TLSPlan.DANE(base: base, names: names, records: usable)
        if let enforced, !domain.isTrusted {
            reasons.append(.policy(enforced))
            return (plan(.always, dane: demand, pkix: true, serverName: base), .daneAndPolicy)
        }
        // It would say that this is that host, and not that it is theirs.
        guard domain.isTrusted || floor != .dane else { return nil }
        return (plan(.always, dane: demand, serverName: base), .dane)
    }

    /// Rows 5 to 11 without 8.
    private mutating func rest() -> (HostSecurity.Verdict, HostSecurity.Row?) {
        var isUnusable = false
        if domain.appliesPolicies, case .present = host.tlsa { isUnusable = true }
        if let enforced {
            reasons.append(.policy(enforced))
            return (.plan(plan(.always, pkix: true)), isUnusable ? .unusableAndPolicy : .policy)
        }
        if floor >= .verify { return (.plan(plan(.always, pkix: true, names: domain.names)), .verified) }
        if isUnusable { return (.plan(plan(.always)), .unusable) }
        if domain.appliesPolicies, let memory = host.memory.encrypted {
            reasons.append(.memory(memory))
            return (.plan(plan(.always)), .encrypted)
        }
        return floor == .required ? (.plan(plan(.always)), .encrypted) : (.plan(plan(.ifOffered)), .opportunistic)
    }

    private func plan(
        _ encryption: TLSPlan.Encryption, dane: TLSPlan.DANE? = nil, pkix: Bool = false, names: [String] = [],
        serverName: String? = nil
    ) -> TLSPlan {
        TLSPlan(
            encryption, dane: dane, pkixName: pkix ? names.first ?? host.name : nil,
            otherNames: Array(names.dropFirst()),
            serverName: serverName ?? (host.isAddress ? nil : host.name))
    }

    /// Whether REQUIRETLS is served by a plan of this row: TLS that shows a host that the domain has named (RFC 8689 section
    /// 4.2.1). A floor of `none` serves nothing.
    func qualifies(_ row: HostSecurity.Row?) -> Bool {
        switch row {
        case .daneAndPolicy, .unusableAndPolicy, .policy: true
        case .dane, .verified: domain.isTrusted
        case nil, .noTLS, .tlsNotRequired, .unusable, .daneRequired, .encrypted, .opportunistic: false
        }
    }
}
