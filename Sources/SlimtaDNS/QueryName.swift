// Names to ask for that need not be those of hosts: what SPF's macros make of a sender's local part (RFC 7208 section 7),
// and names below in-addr.arpa (RFC 2317). Made by the lookups of the edges, asked for by Resolver.

/// A name with any octets in its labels. Only asked for: nothing that an answer says becomes one unseen.
package struct QueryName: Hashable, Sendable {
    /// In lower case, without a dot at its end; octets that host names do not have are written `\DDD` (RFC 1035
    /// section 5.1), which libunbound reads.
    let presentation: String

    /// The name that `octets` spell, labels separated by dots; one dot at the end is left out. Nil if a label has no
    /// or more than 63 octets, or all together more than 253 (RFC 1035 section 2.3.4), or if it is the root.
    package init?(octets: some Collection<UInt8>) {
        var octets = Array(octets)
        if octets.last == UInt8(ascii: ".") { octets.removeLast() }
        guard octets.count <= 253 else { return nil }
        var text: [UInt8] = []
        text.reserveCapacity(octets.count)
        for label in octets.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false) {
            guard (1...63).contains(label.count) else { return nil }
            if !text.isEmpty { text.append(UInt8(ascii: ".")) }
            for octet in label {
                if let folded = DNSName.folded(octet) {
                    text.append(folded)
                } else {
                    text.append(UInt8(ascii: "\\"))
                    for unit in [100, 10, 1] as [UInt8] { text.append(UInt8(ascii: "0") + octet / unit % 10) }
                }
            }
        }
        presentation = String(decoding: text, as: UTF8.self)
    }

    /// As ``init(octets:)``, of the UTF-8 of a text.
    package init?(_ text: some StringProtocol) { self.init(octets: Array(text.utf8)) }

    /// Where the names of an address are (RFC 1035 section 3.5, RFC 3596 section 2.5): of its 4 or 16 octets.
    package init?(reverseOf octets: [UInt8], isIPv4: Bool) {
        let reversed = octets.reversed()
        let labels =
            isIPv4
            ? reversed.map { "\($0)" } : reversed.flatMap { [$0 & 0xF, $0 >> 4] }.map { String($0, radix: 16) }
        self.init(labels.joined(separator: ".") + (isIPv4 ? ".in-addr.arpa" : ".ip6.arpa"))
    }

    /// The name of a host; what is none throws ``DNSError/invalidName``.
    init(host: String) throws(DNSError) {
        guard let name = DNSName.normalized(host) else { throw .invalidName }
        presentation = name
    }
}
