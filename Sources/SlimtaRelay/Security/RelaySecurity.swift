// What relays have in common to decide how mail may go to hosts: what is remembered of them, and the policies of
// domains. One for all relays of a configuration; what it stands on lasts as long as the daemon.

package import Logging
import SlimtaMail

/// Shared by relays.
package struct RelaySecurity: Sendable {
    let memory: TLSMemoryBook
    /// nil: nobody is asked for any.
    private let policies: STSPolicies?
    /// What hosts' domains are told of sessions; nil: nothing.
    let reports: TLSReports?
    private let logger: Logger

    /// - Parameters:
    ///   - memory: that of the daemon.
    ///   - reports: those of the daemon, if there are any.
    package init(
        memory: TLSMemoryBook = TLSMemoryBook(), policies: STSPolicies? = nil, reports: TLSReports? = nil,
        logger: Logger
    ) {
        (self.memory, self.policies, self.reports, self.logger) = (memory, policies, reports, logger)
    }

    /// What the policy of MTA-STS of a domain comes to now.
    ///
    /// - Parameter isCounted: false: nothing is sent, somebody only wants to know.
    func policy(of domain: String, isCounted: Bool = true) async -> STSStanding {
        guard let outcome = await policies?.check(domain) else { return .none }
        if isCounted, let failure = outcome.failure, let reports {
            let policy = outcome.policy ?? STSPolicy(mode: .none, patterns: [], maxAge: 0, lines: [])
            reports.count(failure, of: .sts(policy, of: domain), for: domain)
        }
        return outcome.standing
    }

    /// That a domain's mail exchangers came to nothing is told to the domain, where it is a matter of TLS. Where only some of them
    /// are left out, sessions with the others tell it: TLSReportWatch.
    func count(_ finding: ExchangerFinding, of domain: DomainSecurity) {
        guard let reports, domain.origin != .literal, case .failed(let failure) = domain.hosts(of: finding) else {
            return
        }
        guard case .noHostInPolicy = failure else {
            if let result = failure.result {
                reports.count(result, of: .none(domain.domain), for: domain.domain)
            }
            return
        }
        if case .hosts(let names) = finding {
            count(leftOut: names, of: domain)
        } else {
            count(leftOut: [domain.domain], of: domain)
        }
    }

    /// That hosts are not asked, for the domain's policy does not name them, and no other took the message either.
    func count(leftOut hosts: [String], of domain: DomainSecurity) {
        guard let reports, let policy = domain.sts.policy else { return }
        for host in hosts {
            reports.count(
                .mxMismatch, of: .sts(policy, of: domain.domain), mxName: host, for: domain.domain)
        }
    }

    /// Mail has gone in clear to a host that was encrypted, as the operator wants it.
    func wentInClear(_ host: SecuredHost, _ known: MemoryStanding.Encrypted) {
        logger.warning(
            "host is not encrypted any more",
            metadata: [
                "relay": "\(host.host.label)", "domain": "\(host.domain)", "days": "\(known.days)",
                "last": "\(known.lastDate)",
            ])
    }
}

/// A host that may be asked for some recipients, and how mail may go there.
struct SecuredHost: Sendable {
    let host: MailHost
    let security: HostSecurity
    /// Whose host it is: as the decision has it.
    let domain: String
    /// As what it is remembered; nil: it is not, being an address.
    var memory: TLSMemory.Key?
    /// What is remembered and not enforced.
    var reported: MemoryStanding.Encrypted?
    /// What the domain's reports are to say of it; nil: it is an address.
    var subject: TLSReportSubject?
}

/// Decides for hosts: asks DNS, and what is remembered, for what HostSecurity has to know. For relays, and for who wants to
/// know what they would do.
struct HostDecisions: Sendable {
    let lookup: HostLookup
    let shared: RelaySecurity
    let use: TLSMemoryUse

    /// What was decided of a host, and what is to be told of it.
    struct Decided: Sendable {
        let security: HostSecurity
        let reported: MemoryStanding.Encrypted?
        let subject: TLSReportSubject?
    }

    /// What was decided of a host by its name, whose addresses are known.
    func decide(_ name: String, at found: HostLookup.Found, in domain: DomainSecurity) async -> Decided {
        // Where there is to be no TLS, nobody has to be asked about it.
        let asks = domain.floor != .none || domain.hasCredentials
        let tlsa = asks ? await lookup.tlsa(of: name, found) : .absent
        let key = TLSMemory.Key(domain: domain.domain, host: name)
        let standing = use == .off ? .nothing : shared.memory.standing(of: key, at: .now())
        let finding = HostFinding(name, tlsa: tlsa, memory: use == .enforce ? standing : .nothing)
        return Decided(
            security: HostSecurity(of: finding, in: domain), reported: use == .report ? standing.encrypted : nil,
            subject: TLSReportSubject(finding, in: domain))
    }

    /// A host by its name, at each of its addresses.
    func hosts(
        _ name: String, at found: HostLookup.Found, in domain: DomainSecurity
    ) async -> [SecuredHost] {
        let decided = await decide(name, at: found, in: domain)
        let key = use == .off ? nil : TLSMemory.Key(domain: domain.domain, host: name)
        return found.addresses.map {
            SecuredHost(
                host: MailHost(address: $0, name: name), security: decided.security, domain: domain.domain,
                memory: key, reported: decided.reported, subject: decided.subject)
        }
    }

    /// A host by its address alone, or one that is none: a UNIX socket. Nobody publishes anything of it.
    static func host(_ host: MailHost, _ text: String, in domain: DomainSecurity) -> SecuredHost {
        SecuredHost(
            host: host, security: HostSecurity(of: HostFinding(text, isAddress: true), in: domain),
            domain: domain.domain)
    }
}
