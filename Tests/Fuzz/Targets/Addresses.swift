// Addresses, networks and names as slimta.conf, clients and name servers write them.

import Glibc
import SlimtaMail

@testable import SlimtaConfiguration
@testable import SlimtaDNS

extension FuzzTarget {
    /// What was accepted is the same when it is printed and read again.
    static let address = FuzzTarget(name: "address", maximumLength: 300) { octets in
        let text = String(decoding: octets, as: UTF8.self)
        if let address = IPAddress(text) {
            try same(IPAddress(address.description), address, "\(text) printed")
            try hold(isAddressOfSystem(text, isIPv6: text.contains(":")), "\(text) is no address for the system")
            try hold(NetworkRange(text)?.contains(address) == true, "\(text) is not in itself")
            try same(IPAddress(address.customerNetwork.description), address.customerNetwork, "the network of \(text)")
            if let translated = address.translated { try hold(translated.isIPv4, "\(text) is translated") }
        }
        if let network = NetworkRange(text) {
            try same(NetworkRange(network.description), network, "\(text) printed")
            try hold(network.contains(network.base), "\(text) has not its own base")
        }
        if let network = NetworkRange.enclosing(text) {
            try same(NetworkRange(network.description), network, "what encloses \(text)")
        }
        if let place = HostPort(text) {
            try same(HostPort(place.description), place, "\(text) printed")
            try hold((1...65535).contains(place.port), "port \(place.port)")
        }
        if let place = HostPort(text, defaultPort: 53) { try same(HostPort(place.description), place, "\(text):53") }
        if let place = ListenAddress(text) {
            try same(ListenAddress(place.description), place, "\(text) printed")
            try hold(place.overlaps(place), "\(text) does not overlap itself")
        }
        if let pattern = DomainPattern(text) {
            try same(DomainPattern(pattern.description), pattern, "\(text) printed")
        }
        if let name = DomainName.ascii(text) {
            try hold(name.utf8.allSatisfy { $0 < 0x80 }, "\(text) is not ASCII as \(name)")
            try same(DomainName.ascii(name), name, "\(text) folded twice")
        }
        if let name = HostName.fold(text) {
            try same(HostName.fold(name), name, "\(text) folded twice")
            try same(DNSName.normalized(name), name, "\(text) as a question")
        }
        try same(text.foldedAsAddress().foldedAsAddress(), text.foldedAsAddress(), "\(text) folded twice")
        let name = text.asClientName
        try hold(name.utf8.count <= min(255, 3 * text.utf8.count), "\(name) is too long for \(text)")
        try hold(
            name.utf8.allSatisfy { (33...126).contains($0) && !"()<>,;\"\\".utf8.contains($0) }, "\(name) is no word")
        try same(name.asClientName == name || name.contains("+"), true, "\(name) is a word")
    }

    /// Names in answers of name servers, and names to ask for.
    static let dns = FuzzTarget(name: "dns", maximumLength: 300) { octets in
        if let name = DNSName.parse(octets[...]) {
            var wire: [UInt8] = []
            for label in name.split(separator: ".") { wire += [UInt8(label.utf8.count)] + label.utf8 }
            // Letters of labels are folded, lengths are below 64.
            var folded = octets
            var offset = 0
            while offset < folded.count {
                let end = offset + 1 + Int(folded[offset])
                for index in offset + 1..<min(end, folded.count) where (65...90).contains(folded[index]) {
                    folded[index] |= 0x20
                }
                offset = end
            }
            try same(wire + [0], folded, "\(name) on the wire")
            if !name.isEmpty { try same(DNSName.normalized(name), name, "\(name) as a question") }
        }
        let text = String(decoding: octets, as: UTF8.self)
        if let name = DNSName.normalized(text) {
            try same(DNSName.normalized(name), name, "\(text) normalized twice")
            var wire: [UInt8] = []
            for label in name.split(separator: ".", omittingEmptySubsequences: false) {
                wire += [UInt8(label.utf8.count)] + label.utf8
            }
            try same(DNSName.parse((wire + [0])[...]), name, "\(text) in an answer")
        }
        if let name = DNSName.parse(octets[...], of: .visible), !name.isEmpty {
            try hold(name.utf8.allSatisfy { (0x21...0x7E).contains($0) && $0 != 0x5C }, "\(name) is visible")
            // 255 octets on the wire are 253 as text.
            try hold(QueryName(name) != nil, "\(name) of an answer can be asked for")
        }
        if let name = QueryName(octets: octets) {
            try hold(
                name.presentation.utf8.count <= 4 * octets.count, "\(name.presentation) is longer than escapes make it")
            if let host = DNSName.normalized(text) { try same(name.presentation, host, "\(text) needs no escapes") }
        }
        for cut in octets.indices.prefix(8) { _ = DNSName.parse(octets[cut...]) }
    }
}

/// Whether inet_pton reads it.
func isAddressOfSystem(_ text: String, isIPv6: Bool) -> Bool {
    var octets: (UInt64, UInt64) = (0, 0)
    return inet_pton(isIPv6 ? AF_INET6 : AF_INET, text, &octets) == 1
}
