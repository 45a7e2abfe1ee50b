// What relays would do to get mail to a domain's hosts securely, for who asks: the very decision of an attempt, without a
// connection. `slimtad tls explain` shows it.

import SlimtaDNS
package import SlimtaMail
import SlimtaTLS

/// How mail for a domain would go now.
package struct TLSExplanation: Sendable {
    /// One host.
    package struct Host: Sendable {
        /// Its name, or address.
        package let name: String
        /// How many addresses it has; nil: nobody knows.
        package let addresses: Int?
        /// How sessions are made, in words.
        package let plan: String
        /// Why.
        package let reasons: [String]
        /// Why the host is not used; nil: it is.
        package let error: Reply?
    }

    /// Whether DNSSEC, or our operator, proves that these are the domain's hosts.
    package let isTrusted: Bool
    /// The mode of the domain's policy of MTA-STS; nil: it has none.
    package let policy: String?
    /// In the order in which they would be tried.
    package let hosts: [Host]
    /// Why none is tried; nil: they are.
    package let error: Reply?

    init(isTrusted: Bool = false, policy: String? = nil, hosts: [Host] = [], error: Reply? = nil) {
        (self.isTrusted, self.policy, self.hosts, self.error) = (isTrusted, policy, hosts, error)
    }
}

extension TLSExplanation.Host {
    init(_ name: String, addresses: Int?, _ security: HostSecurity) {
        self.name = name
        self.addresses = addresses
        reasons = security.reasons.map(\.description)
        switch security.verdict {
        case .plan(let demand): (plan, error) = (demand.words, nil)
        case .unusable(let failure): (plan, error) = ("not used", failure.reply)
        }
    }

    init(_ name: String, error: Reply) {
        (self.name, addresses, plan, reasons, self.error) = (name, nil, "not used", [], error)
    }
}

extension TLSPlan {
    /// For people.
    fileprivate var words: String {
        var words: String
        switch encryption {
        case .never: return "in clear"
        case .ifOffered: return "encrypted where that is offered"
        case .always: words = "encrypted"
        }
        if let dane { words += ", certificate of TLSA \(dane.records.map(\.description).joined(separator: ", "))" }
        if let pkixName {
            let names = ([pkixName] + otherNames).joined(separator: " or ")
            words += ", certificate for \(names) that the system trusts"
        }
        return words
    }
}

extension HostDecisions {
    /// What would be done for these hosts of a domain.
    func explain(_ names: [String], in domain: DomainSecurity) async -> TLSExplanation {
        let hosts = await inOrder(names.count) { index -> TLSExplanation.Host in
            let name = names[index]
            switch await lookup.addresses(of: name) {
            case .found(let found):
                let decided = await decide(name, at: found, in: domain)
                return .init(name, addresses: found.addresses.count, decided.security)
            case .none: return .init(name, error: Reply(550, EnhancedStatus(5, 1, 2), "it has no address"))
            case .unknown(let error):
                return .init(name, error: Reply(451, EnhancedStatus(4, 4, 3), "DNS lookup failed: \(error.reason)"))
            }
        }
        return TLSExplanation(isTrusted: domain.isTrusted, policy: domain.sts.policy?.mode.rawValue, hosts: hosts)
    }
}
