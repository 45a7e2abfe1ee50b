// Which hosts are one site: those that share a pace, whoever's domain has led to them. Asked behind the MX lookup, for only
// then it is known.

import SlimtaMail

/// A set of exchangers as one.
///
/// A provider's ten thousand domains have one set of exchangers, and its limits are of that set. Nothing but pace goes by
/// site: policies are of domains and hosts (KumoMTA issue 484).
struct SiteKey: Sendable, CustomStringConvertible {
    /// Sorted hosts with their preferences, and the port. For people to read, and for nothing to take apart.
    let description: String
    /// Its hosts, in lower case: what operators know it by.
    let hosts: [String]
    /// Whether our operator has chosen it.
    let isFixed: Bool

    /// More hosts than that tell no site from another.
    static let mostHosts = 20

    /// Of an MX answer, in any order.
    init(exchangers: [(preference: UInt16, host: String)], port: Int) {
        let sorted = exchangers.map { (preference: $0.preference, host: $0.host.asciiLowercased()) }.sorted { $0 < $1 }
        let list = sorted.prefix(Self.mostHosts).map { "\($0.preference) \($0.host)" }.joined(separator: ", ")
        description = "\(list):\(port)"
        hosts = sorted.prefix(Self.mostHosts).map(\.host)
        isFixed = false
    }

    /// Of hosts by preference, of which only the order counts; one host, or an address literal, is a group of one.
    init(_ groups: [[String]], port: Int) {
        if groups.count == 1, groups[0].count == 1 {
            self.init(host: groups[0][0], port: port)
        } else {
            let ranked = groups.enumerated().flatMap { rank, names in
                names.map { (preference: UInt16(clamping: rank + 1), host: $0) }
            }
            self.init(exchangers: ranked, port: port)
        }
    }

    /// Of a domain without MX records, or an address literal.
    init(host: String, port: Int) {
        description = "\(host.asciiLowercased()):\(port)"
        hosts = [host.asciiLowercased()]
        isFixed = false
    }

    /// Of a host that our operator has chosen.
    init(fixed host: String, port: Int) {
        description = "\(host.asciiLowercased()):\(port)"
        hosts = [host.asciiLowercased()]
        isFixed = true
    }

    /// Of several that our operator has chosen for the same mail, in any order: each may have a port of its own.
    init(fixed places: [(host: String, port: Int)]) {
        let sorted = places.map { (host: $0.host.asciiLowercased(), port: $0.port) }.sorted { $0 < $1 }
        description = sorted.map { "\($0.host):\($0.port)" }.joined(separator: ", ")
        hosts = sorted.map(\.host)
        isFixed = true
    }

    /// Of a UNIX socket.
    init(socket path: String) {
        (description, hosts, isFixed) = ("unix:\(path)", [], true)
    }

    /// As it was kept: by ``stored``, in two parts.
    init?(stored kind: Substring, _ name: Substring) {
        guard ["mx", "fixed"].contains(kind), !name.isEmpty else { return nil }
        (description, isFixed) = (String(name), kind == "fixed")
        if name.hasPrefix("unix:") {
            hosts = []
            return
        }
        guard let colon = name.lastIndex(of: ":") else { return nil }
        if isFixed {
            // Each has its port.
            hosts = name.split(separator: ",").compactMap { place -> String? in
                guard let colon = place.lastIndex(of: ":") else { return nil }
                return String(place[..<colon].drop { $0 == " " })
            }
            return
        }
        hosts = name[..<colon].split(separator: ",").compactMap { $0.split(separator: " ").last.map(String.init) }
    }

    /// As it is kept.
    var stored: String { "\(isFixed ? "fixed" : "mx")\t\(description)" }

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

extension SiteKey: Hashable {
    static func == (a: SiteKey, b: SiteKey) -> Bool { a.description == b.description && a.isFixed == b.isFixed }

    func hash(into hasher: inout Hasher) { hasher.combine(description) }
}
