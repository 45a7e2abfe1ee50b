// Why a plan is as it is: kept with each decision, for the log of an attempt and for `explain`.

import SlimtaMail

/// One thing that had a part in a decision. The description is for people.
enum SecurityReason: Hashable, Sendable, CustomStringConvertible {
    /// The operator's demand, where it is not the default.
    case floor(TLSFloor)
    case credentials
    case tlsNotRequired
    case requireTLS
    /// TLSA records that DNSSEC proves.
    case tlsa(usable: Int, all: Int)
    case tlsaFailed(String)
    case unvalidated
    /// DNSSEC does not prove that the host is the domain's.
    case unprovedMX
    case policy(STSPolicy)
    case notInPolicy(isEnforced: Bool)
    case memory(MemoryStanding.Encrypted)

    var description: String {
        switch self {
        case .floor(let floor): "tls = \(floor.rawValue)"
        case .credentials: "a password goes to it"
        case .tlsNotRequired: "TLS-Required: No"
        case .requireTLS: "REQUIRETLS"
        case .tlsa(0, let all): "\(all) TLSA records, none of use"
        case .tlsa(let usable, let all): "\(usable) of \(all) TLSA records"
        case .tlsaFailed(let name): "no answer for TLSA \(name)"
        case .unvalidated: "DNSSEC is not validated"
        case .unprovedMX: "MX records without DNSSEC"
        case .policy(let policy): "MTA-STS \(policy.mode.rawValue)"
        case .notInPolicy(isEnforced: true): "not in the MTA-STS policy"
        case .notInPolicy(isEnforced: false): "not in the MTA-STS policy, which is a test"
        case .memory(let known): "encrypted on \(known.days) days, last \(known.lastDate)"
        }
    }
}

extension MemoryStanding.Encrypted {
    /// "2026-11-29"
    var lastDate: String {
        String(Timestamp(milliseconds: Int64(last) * 86_400_000).isoDate.prefix(10))
    }
}
