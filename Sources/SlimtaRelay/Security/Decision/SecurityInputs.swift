// What is known when it is decided how mail may go to a host: one value for each thing that somebody says of it. The
// domain's part is put together by DomainSecurity, the decision is HostSecurity's. Nothing here looks anything up.

import SlimtaTLS

/// What the operator demands at least: `tls` of a route or a domain. Each one is more than those before it.
package enum TLSFloor: String, Hashable, Comparable, Sendable, CaseIterable {
    /// No TLS, whatever anybody publishes: for hosts whose TLS is broken beyond use.
    case none
    /// TLS where it is offered.
    case opportunistic
    /// No session in clear; whose session it is does not matter.
    case required
    /// And the host's certificate has its name and leads to a root that the system trusts.
    case verify
    /// And the host's own zone names its certificate, by DNSSEC all the way.
    case dane

    /// Whether it is less.
    package static func < (a: TLSFloor, b: TLSFloor) -> Bool { a.rank < b.rank }

    private var rank: Int { Self.allCases.firstIndex(of: self) ?? 0 }
}

/// What the message demands, as its envelope keeps it (RFC 8689). Each one is more than those before it.
enum MessageDemand: Hashable, Comparable, Sendable, CaseIterable {
    /// `TLS-Required: No`: rather in clear than not at all. What the recipient's side publishes does not hold it up.
    case tlsNotRequired
    case nothing
    /// REQUIRETLS. Where a message has both, this wins (RFC 8689 section 4.1).
    case requireTLS
}

/// Where a message is to go.
enum RelayOrigin: Hashable, Sendable, CaseIterable {
    /// A recipient's domain: DNS names the hosts.
    case domain
    /// A host of our operator's choice. Its name is the policy domain of MTA-STS, too (RFC 8461 section 3.4).
    case fixedHost
    /// An address in brackets. It has no DANE and no MTA-STS.
    case literal
}

/// What was found of a host's TLSA records (RFC 7672 section 2.2), after all names that they may be at (``TLSALookup``).
enum TLSAFinding: Hashable, Sendable {
    /// None that DNSSEC proves: not there, or not signed.
    case absent
    /// Nobody validates answers on this network: nothing is known.
    case unvalidated
    /// There are records at `base`. They count even if none of them is usable (RFC 7672 section 2.2).
    case present(base: String, [TLSARecord])
    /// The question `name` was not answered, or the answer is forged.
    case failed(name: String, why: String)

    /// Those that can authenticate the host.
    var usable: [TLSARecord] {
        if case .present(_, let records) = self { return records.filter(\.isUsable) }
        return []
    }
}

/// What was seen of a host before (``TLSMemory``), as far as it still counts.
struct MemoryStanding: Hashable, Sendable {
    /// On how many days it was encrypted, and when the last of them was; nil: on too few of them, or too long ago.
    var encrypted: Encrypted?
    /// Whether DANE authenticated it a short time ago.
    var hadDANE = false

    struct Encrypted: Hashable, Sendable {
        let days: Int
        /// As days since 1970-01-01.
        let last: Int
    }

    /// Nothing that would count.
    static let nothing = MemoryStanding()
}

/// What a domain's MTA-STS policy comes to for one attempt.
enum STSStanding: Hashable, Sendable {
    /// No policy, or one whose mode is `none`.
    case none
    /// What fails is only counted (RFC 8461 section 5).
    case testing(STSPolicy)
    case enforce(STSPolicy)

    /// Of a policy that is in force.
    init(_ policy: STSPolicy?) {
        self =
            switch policy?.mode {
            case nil, .some(.none): .none
            case .testing: policy.map { .testing($0) } ?? .none
            case .enforce: policy.map { .enforce($0) } ?? .none
            }
    }

    /// The policy, if it has patterns.
    var policy: STSPolicy? {
        switch self {
        case .none: nil
        case .testing(let policy), .enforce(let policy): policy
        }
    }

    var isEnforced: Bool {
        if case .enforce = self { return true }
        return false
    }
}
