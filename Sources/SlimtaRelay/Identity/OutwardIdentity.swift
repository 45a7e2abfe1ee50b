// As whom hosts see us: an address, its name, and our name in EHLO. Many hosts take no mail where these do not agree. Values;
// IdentityWatch asks DNS.

package import SlimtaMail

/// One of our addresses that mail leaves from, and what we call ourselves there.
package struct OutwardIdentity: Hashable, Sendable {
    /// Where connections come from.
    package let address: IPAddress
    /// Our name in EHLO.
    package let name: String

    /// With the meaning of its properties.
    package init(address: IPAddress, name: String) {
        self.address = address
        self.name = name.asciiLowercased()
    }

    /// Whether others see the address as it is: a private one is translated on the way, and what to is not known here.
    package var isSeen: Bool {
        PermittedNetworks().permit(address) && !PermittedNetworks.privateNetworks.contains { $0.contains(address) }
    }

    /// What DNS says of one.
    struct Facts {
        /// The names of the address (PTR); nil: nobody knows just now.
        var pointers: [String]?
        /// Where names are; none: nobody knows just now.
        var addresses: [String: [IPAddress]] = [:]
    }

    /// Whether nothing is missing that ``findings(_:)`` goes by.
    func isKnown(by facts: Facts) -> Bool {
        facts.pointers.map { ($0 + (isLiteral ? [] : [name])).allSatisfy { facts.addresses[$0] != nil } } ?? false
    }

    /// What does not agree, in words for the operator (RFC 1912 section 2.1).
    func findings(_ facts: Facts) -> [String] {
        var findings: [String] = []
        if let pointers = facts.pointers {
            let known = pointers.compactMap { facts.addresses[$0] }
            if pointers.isEmpty {
                findings.append("\(address), where mail leaves from, has no name (PTR)")
            } else if known.count == pointers.count, !known.contains(where: { $0.contains(address) }) {
                findings.append(
                    "\(address), where mail leaves from, is called \(pointers.joined(separator: ", ")) (PTR), and that "
                        + "name does not lead back to it")
            } else if !pointers.contains(name), !isLiteral {
                findings.append(
                    "\(address), where mail leaves from, is called \(pointers.joined(separator: ", ")) (PTR), and our "
                        + "name in EHLO is \(name)")
            }
        }
        if !isLiteral, let addresses = facts.addresses[name], !addresses.contains(address) {
            findings.append("our name in EHLO, \(name), is not that of \(address), where mail leaves from")
        }
        return findings
    }

    /// RFC 5321 section 4.1.3.
    private var isLiteral: Bool { name.hasPrefix("[") }
}
