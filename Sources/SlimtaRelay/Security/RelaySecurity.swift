// What relays have in common to decide how mail may go to hosts: what is remembered of them, and the policies of
// domains. One for all relays of a configuration; what it stands on lasts as long as the daemon.

package import Logging
import SlimtaMail

/// Shared by relays.
package struct RelaySecurity: Sendable {
    let memory: TLSMemoryBook
    /// nil: nobody is asked for any.
    private let policies: STSPolicies?
    private let logger: Logger

    /// - Parameter memory: that of the daemon.
    package init(memory: TLSMemoryBook = TLSMemoryBook(), policies: STSPolicies? = nil, logger: Logger) {
        (self.memory, self.policies, self.logger) = (memory, policies, logger)
    }

    /// What the policy of MTA-STS of a domain comes to now.
    func policy(of domain: String) async -> STSStanding { await policies?.check(domain).standing ?? .none }

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
}

/// Decides for hosts: asks DNS, and what is remembered, for what HostSecurity has to know. For relays, and for who wants to
/// know what they would do.
struct HostDecisions: Sendable {
    let lookup: HostLookup
    let shared: RelaySecurity
    let use: TLSMemoryUse

    /// What was decided of a host by its name, whose addresses are known.
    func decide(
        _ name: String, at found: HostLookup.Found, in domain: DomainSecurity
    ) async -> (HostSecurity, MemoryStanding.Encrypted?) {
        // Where there is to be no TLS, nobody has to be asked about it.
        let asks = domain.floor != .none || domain.hasCredentials
        let tlsa = asks ? await lookup.tlsa(of: name, found) : .absent
        let key = TLSMemory.Key(domain: domain.domain, host: name)
        let standing = use == .off ? .nothing : shared.memory.standing(of: key, at: .now())
        let security = HostSecurity(
            of: HostFinding(name, tlsa: tlsa, memory: use == .enforce ? standing : .nothing), in: domain)
        return (security, use == .report ? standing.encrypted : nil)
    }

    /// A host by its name, at each of its addresses.
    func hosts(
        _ name: String, at found: HostLookup.Found, in domain: DomainSecurity
    ) async -> [SecuredHost] {
        let (security, reported) = await decide(name, at: found, in: domain)
        let key = use == .off ? nil : TLSMemory.Key(domain: domain.domain, host: name)
        return found.addresses.map {
            SecuredHost(
                host: MailHost(address: $0, name: name), security: security, domain: domain.domain, memory: key,
                reported: reported)
        }
    }

    /// A host by its address alone, or one that is none: a UNIX socket. Nobody publishes anything of it.
    static func host(_ host: MailHost, _ text: String, in domain: DomainSecurity) -> SecuredHost {
        SecuredHost(
            host: host, security: HostSecurity(of: HostFinding(text, isAddress: true), in: domain),
            domain: domain.domain)
    }
}
