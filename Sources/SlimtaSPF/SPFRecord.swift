// A policy record (RFC 7208 sections 4.5, 4.6, 5 and 6) as a value. Read by SPFRecordParser, walked by SPFCheck.

import SlimtaMail

/// What a domain has published, known to be well-formed from its beginning to its end.
struct SPFRecord: Hashable, Sendable {
    /// The mechanisms in their order.
    var directives: [SPFDirective] = []
    /// The domain whose record counts if nothing matches (section 6.1).
    var redirect: SPFMacroString?
    /// Where the domain's text for a `fail` is (section 6.2).
    var explanation: SPFMacroString?

    /// Whether `all` is in it: `redirect` then is ignored, wherever it stands (section 6.1).
    var hasAll: Bool { directives.contains { $0.mechanism == .all } }

    /// Which of a name's TXT records is a policy: the version, and then a blank or nothing (section 4.5). The suffix is
    /// what is behind the version.
    static func isPolicy(_ text: [UInt8]) -> Bool {
        SPFName.areSame(text.prefix(version.count), version)
            && (text.count == version.count || text[version.count] == UInt8(ascii: " "))
    }

    static let version = Array("v=spf1".utf8)
}

/// A mechanism with what its match means.
struct SPFDirective: Hashable, Sendable {
    /// What a match comes to: pass, fail, softfail or neutral (section 4.6.2).
    var result: SPFResult
    /// What is compared.
    var mechanism: SPFMechanism
    /// As it was written, for logs and Received-SPF: visible ASCII.
    var text: String
}

/// A mechanism (section 5). A domain of nil is the one that the record is of.
enum SPFMechanism: Hashable, Sendable {
    case all
    case include(SPFMacroString)
    case a(SPFMacroString?, SPFPrefixes)
    case mx(SPFMacroString?, SPFPrefixes)
    case ptr(SPFMacroString?)
    case ip4(SPFNetwork)
    case ip6(SPFNetwork)
    case exists(SPFMacroString)

    /// Whether it counts among the ten that ask DNS (section 4.6.4).
    var isCounted: Bool {
        switch self {
        case .include, .a, .mx, .ptr, .exists: true
        case .all, .ip4, .ip6: false
        }
    }
}

/// How many bits of addresses are compared (dual-cidr-length, section 5.6).
struct SPFPrefixes: Hashable, Sendable {
    var ip4 = 32
    var ip6 = 128

    /// The network around `client`: an address that is in it matches. An IPv4 address is in no IPv6 network and the other
    /// way round. Made once for many addresses: an answer can have thousands.
    func network(of client: IPAddress) -> NetworkRange? {
        NetworkRange.enclosing("\(client)/\(client.isIPv4 ? ip4 : ip6)")
    }
}

/// The network of `ip4` and `ip6`. Bits behind the prefix may be set, and mean nothing (section 5.6).
struct SPFNetwork: Hashable, Sendable {
    /// 4 octets, or 16. `ip6:::ffff:192.0.2.1` has 16 as well: no client is in it, for such a client is one of IPv4.
    var octets: [UInt8]
    var bits: Int

    /// Whether the client is in it.
    func contains(_ client: IPAddress) -> Bool {
        let client = client.octets
        return client.count == octets.count && Self.areSame(client, octets, bits: bits)
    }

    /// Whether the first bits of two addresses of the same length are.
    static func areSame(_ a: [UInt8], _ b: [UInt8], bits: Int) -> Bool {
        let whole = bits / 8
        guard a.prefix(whole) == b.prefix(whole) else { return false }
        return bits % 8 == 0 || (a[whole] ^ b[whole]) >> (8 - bits % 8) == 0
    }
}
