// Addresses as names: where their own names are kept (RFC 1035 section 3.5, RFC 3596 section 2.5), and how DNS lists have
// them (RFC 5782 sections 2.1 and 2.4). Asked by LookupPlan and BlockList.

internal import SlimtaDNS
internal import SlimtaMail

enum ReverseName {
    /// Four numbers, or 32 hexadecimal digits, the last first: "1.2.0.192". An IPv4-mapped address is an IPv4 address.
    static func labels(of address: IPAddress) -> String {
        let octets = address.octets.reversed()
        if address.isIPv4 { return octets.map { "\($0)" }.joined(separator: ".") }
        return octets.flatMap { [$0 & 0xF, $0 >> 4] }.map { String($0, radix: 16) }.joined(separator: ".")
    }

    /// An IPv4 address as if it were none: the 32 digits of its IPv4-mapped form. Lists have their test entries there
    /// (RFC 5782 section 5).
    static func mappedLabels(of address: IPAddress) -> String {
        let octets = Array(repeating: 0, count: 10) + [0xFF, 0xFF] + address.octets.suffix(4)
        return octets.reversed().flatMap { [$0 & 0xF, $0 >> 4] }.map { String($0, radix: 16) }.joined(separator: ".")
    }

    /// Where the names of the address are.
    static func name(of address: IPAddress) -> QueryName? {
        QueryName(reverseOf: address.octets, isIPv4: address.isIPv4)
    }
}
