// Which hosts are one site: those that share a pace, whoever's domain has led to them. Asked behind the MX lookup, for only
// then it is known.

import SlimtaMail

/// A set of exchangers as one.
///
/// A provider's ten thousand domains have one set of exchangers, and its limits are of that set. Nothing but pace goes by
/// site: policies are of domains and hosts (KumoMTA issue 484).
struct SiteKey: Hashable, Sendable, CustomStringConvertible {
    /// Sorted hosts with their preferences, and the port. For people to read, and for nothing to take apart.
    let description: String
    /// Whether our operator has chosen it.
    let isFixed: Bool

    /// More hosts than that tell no site from another.
    static let mostHosts = 20

    /// Of an MX answer, in any order.
    init(exchangers: [(preference: UInt16, host: String)], port: Int) {
        let sorted = exchangers.map { (preference: $0.preference, host: $0.host.asciiLowercased()) }.sorted { $0 < $1 }
        let list = sorted.prefix(Self.mostHosts).map { "\($0.preference) \($0.host)" }.joined(separator: ", ")
        description = "\(list):\(port)"
        isFixed = false
    }

    /// Of a domain without MX records, or an address literal.
    init(host: String, port: Int) {
        description = "\(host.asciiLowercased()):\(port)"
        isFixed = false
    }

    /// Of a host that our operator has chosen.
    init(fixed host: String, port: Int) {
        description = "\(host.asciiLowercased()):\(port)"
        isFixed = true
    }

    /// Which of `count` source addresses a site sees for a sender's domain: always the same one, for a site that greylists
    /// knows a client by its address, and one that came with another each time would wait for ever.
    func source(for senderDomain: String, of count: Int) -> Int {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        for octet in Array(description.utf8) + [0] + senderDomain.asciiLowercased().utf8 {
            hash = (hash ^ UInt64(octet)) &* 0x100_0000_01B3
        }
        return count > 1 ? Int((hash ^ hash >> 32) % UInt64(count)) : 0
    }
}
