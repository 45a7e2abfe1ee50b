// The policy of a domain that says which hosts take its mail, and that they have certificates to show (RFC 8461 section
// 3.2). Read by STSPolicyParser, kept by STSCachedPolicy, obeyed by the decision (DomainSecurity, HostSecurity).

import SlimtaMail

/// A policy that was read whole.
struct STSPolicy: Hashable, Sendable {
    enum Mode: String, Hashable, Sendable, CaseIterable {
        /// There is none (any more).
        case none
        case testing
        case enforce
    }

    let mode: Mode
    /// Which hosts, by name. Never empty, unless the mode is `none`.
    let patterns: [STSPattern]
    /// Seconds that it may be kept, from when it was fetched: 0 to 31,557,600.
    let maxAge: Int
    /// The lines as they were received, for TLS reports (RFC 8460 section 4.4). Without line ends and empty lines.
    let lines: [String]

    /// A year, as RFC 8461 counts it.
    static let longestAge = 31_557_600
    /// Octets of a policy. A longer one is an error: cut, it might say something else.
    static let longest = 65_536

    /// Whether one of the patterns is for the host.
    func matches(_ host: String) -> Bool { patterns.contains { $0.matches(host) } }
}

/// A host's name, or all names directly below one.
struct STSPattern: Hashable, Sendable, CustomStringConvertible {
    /// In lower case, without "*.".
    private let name: String
    private let isWildcard: Bool

    /// Nil if it is neither: labels of letters, digits and inner hyphens, 63 octets at most, 253 in all (RFC 5321's Domain).
    /// International names are in A-labels.
    init?(_ text: String) {
        let octets = Array(text.utf8.map { $0.asciiLowercased() })
        isWildcard = octets.starts(with: "*.".utf8)
        let rest = octets.dropFirst(isWildcard ? 2 : 0)
        let labels = rest.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        guard octets.count <= 253, labels.allSatisfy(Self.isLabel) else { return nil }
        name = String(decoding: rest, as: UTF8.self)
    }

    private static func isLabel(_ label: ArraySlice<UInt8>) -> Bool {
        (1...63).contains(label.count) && label.first != UInt8(ascii: "-") && label.last != UInt8(ascii: "-")
            && label.allSatisfy { $0.isASCIILetterOrDigit || $0 == UInt8(ascii: "-") }
    }

    /// Whether it is for a host, whose name may be in any case and end with a dot. "*" stands for one label, never for none
    /// and never for two: lenience here would let mail go where the domain does not want it (RFC 8461 section 4.1).
    func matches(_ host: String) -> Bool {
        var host = host.asciiLowercased()[...]
        if host.utf8.last == UInt8(ascii: ".") { host = host.dropLast() }
        guard isWildcard else { return host == name }
        guard let dot = host.utf8.firstIndex(of: UInt8(ascii: ".")), dot > host.startIndex else { return false }
        return host[host.utf8.index(after: dot)...] == name
    }

    /// As in a policy.
    var description: String { isWildcard ? "*.\(name)" : name }
}
