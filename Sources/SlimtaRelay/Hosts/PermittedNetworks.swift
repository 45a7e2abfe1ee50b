// Where the MX relay does not send mail, whatever DNS or a recipient's address says. Made by the composition root from
// [relay] allow_networks and refuse_networks.

package import SlimtaMail

/// The IP addresses that DNS, or an address literal, may send us to.
///
/// Who may name a host may not thereby have us talk to this machine, to its neighbours on the link or to the metadata
/// service of a cloud: no mail exchanger of anybody's is there. Private networks (10.0.0.0/8, fc00::/7 and their like)
/// are the operator's to refuse: an organisation's exchangers may well be there.
package struct PermittedNetworks: Hashable, Sendable {
    /// Permitted, whatever else is said.
    package var allowed: [NetworkRange]
    /// Not permitted, besides ``notOfTheInternet``.
    package var refused: [NetworkRange]

    /// Without arguments: all of the Internet, private networks too.
    package init(allowed: [NetworkRange] = [], refused: [NetworkRange] = []) {
        self.allowed = allowed
        self.refused = refused
    }

    /// No host of the Internet has an address in these (RFC 6890 section 2.2 and the registries that it began).
    static let notOfTheInternet: [NetworkRange] = [
        // This machine, the link, what was never given out, groups; the last one is broadcast.
        "0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "192.0.0.0/24", "224.0.0.0/4", "240.0.0.0/4",
        // The same in IPv6: :: and ::1 are in the first, with the IPv4-compatible addresses of RFC 4291 section 2.5.5.1.
        "::/96", "100::/64", "fe80::/10", "fec0::/10", "ff00::/8",
        // A translator's own prefix (RFC 8215) hides where its addresses lead.
        "64:ff9b:1::/48",
        // Metadata services outside 169.254.0.0/16: of Alibaba, AWS and Google.
        "100.100.100.200", "fd00:ec2::254", "fd20:ce::254",
    ].compactMap { NetworkRange($0) }

    /// Those of organisations and providers (RFC 1918, RFC 4193, RFC 6598): not seen from outside, and not permitted where a
    /// stranger says what is asked for there.
    package static let privateNetworks = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"]
        .compactMap { NetworkRange($0) }

    /// Whether mail may be sent there. What leads to an IPv4 address by translation or a tunnel is judged by that, too.
    func permit(_ address: IPAddress) -> Bool {
        func isIn(_ networks: [NetworkRange]) -> Bool { networks.contains { $0.contains(address) } }
        if isIn(allowed) { return true }
        if isIn(Self.notOfTheInternet) || isIn(refused) { return false }
        return address.translated.map { permit($0) } ?? true
    }
}
