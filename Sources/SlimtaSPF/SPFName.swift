// Names of DNS as SPF handles them: made by macros out of what strangers say, so that any octet may be in one. Used by
// SPFCheck and by macros.

import SlimtaMail

/// Names as octets, labels separated by dots.
enum SPFName {
    private static let dot = UInt8(ascii: ".")
    /// Octets of the longest name (RFC 1035 section 2.3.4: 255 on the wire).
    static let longest = 253

    /// What of an expanded name is asked for (RFC 7208 section 7.3): without a dot at its end, and without so many labels
    /// at its left as make it longer than 253 octets. Nil if DNS cannot carry it: a label has none or more than 63
    /// octets. Nothing is found under such a name (section 4.8).
    static func queried(_ expanded: [UInt8]) -> [UInt8]? {
        var name = expanded[...]
        if name.last == dot { name.removeLast() }
        while name.count > longest {
            guard let end = name.firstIndex(of: dot) else { return nil }
            name = name[(end + 1)...]
        }
        let labels = name.split(separator: dot, omittingEmptySubsequences: false)
        return labels.allSatisfy { (1...63).contains($0.count) } ? Array(name) : nil
    }

    /// The domain of an identity, if `check_host()` has a policy to look for there (section 4.3): more than one label, in
    /// ASCII. Nil for address literals, single labels and what no host is called. International names are in A-labels
    /// then, as section 4.3 wants.
    static func ofIdentity(_ name: some StringProtocol) -> [UInt8]? {
        // A dotted quad in EHLO is a name by its letters, but nobody's.
        guard let ascii = name.isASCII ? String(name) : DomainName.ascii(name), IPAddress(ascii) == nil,
            ascii.utf8.allSatisfy({ $0.isASCIILetterOrDigit || "-_.".utf8.contains($0) }),
            let domain = queried(Array(ascii.utf8)), domain.count >= ascii.utf8.count - 1,
            domain.contains(dot)
        else { return nil }
        return domain
    }

    /// Whether two names are the same: ASCII letters compare without their case.
    static func areSame(_ a: some Collection<UInt8>, _ b: some Collection<UInt8>) -> Bool {
        a.count == b.count && zip(a, b).allSatisfy { $0.asciiLowercased() == $1.asciiLowercased() }
    }

    /// Whether `name` is `domain`, or below it.
    static func isWithin(_ name: [UInt8], _ domain: [UInt8]) -> Bool {
        if name.count == domain.count { return areSame(name, domain) }
        return name.count > domain.count && name[name.count - domain.count - 1] == dot
            && areSame(name.suffix(domain.count), domain)
    }

    /// The name whose PTR records name an address (RFC 1035 section 3.5, RFC 3596 section 2.5).
    static func reverse(_ address: IPAddress) -> [UInt8] {
        let parts = dotted(address).split(separator: dot).reversed()
        return Array(parts.joined(separator: [dot])) + Array(".\(network(address)).arpa".utf8)
    }

    /// The macro i: an IPv4 address as always, of an IPv6 address its 32 nibbles (RFC 7208 section 7.3).
    static func dotted(_ address: IPAddress) -> [UInt8] {
        if address.isIPv4 { return Array(address.description.utf8) }
        let nibbles = address.octets.flatMap { [$0 >> 4, $0 & 0xF] }
        return Array(nibbles.map { [UInt8(hexadecimalDigit: $0, uppercase: true)] }.joined(separator: [dot]))
    }

    /// The macro v: where the names of the address are, below arpa.
    static func network(_ address: IPAddress) -> String { address.isIPv4 ? "in-addr" : "ip6" }
}
