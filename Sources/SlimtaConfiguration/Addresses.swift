// Where an edge listens, where a relay connects to, and which domains a route takes, as slimta.conf writes them. Read by
// Configuration+Edges and RelayReader; the composition root binds and connects by them.

package import SlimtaMail

/// A host and a port: "mail.example.com:587", "192.0.2.1:25", "[2001:db8::1]:25".
package struct HostPort: Hashable, Sendable, CustomStringConvertible {
    /// A domain name in lower case, or an IP address without brackets.
    package var host: String
    /// 1 to 65535.
    package var port: Int

    /// From what is known to be a host as ``host`` has it, and a port.
    package init(host: String, port: Int) {
        self.host = host
        self.port = port
    }

    /// From text; nil if it is not that. `defaultPort` stands for a missing port.
    package init?(_ text: String, defaultPort: Int? = nil) {
        var host = Substring(text)
        var port = Substring()
        var isBracketed = false
        if text.utf8.first == UInt8(ascii: "[") {
            guard let end = text.firstIndex(of: "]") else { return nil }
            host = text[text.index(after: text.startIndex)..<end]
            port = text[text.index(after: end)...]
            isBracketed = true
        } else if let colon = text.lastIndex(of: ":") {
            host = text[..<colon]
            port = text[colon...]
        }
        switch (port.first, defaultPort) {
        case (":", _):
            guard let number = Self.portNumber(port.dropFirst()) else { return nil }
            self.port = number
        case (nil, let number?): self.port = number
        case (nil, nil), (_?, _): return nil
        }
        if let address = IPAddress(host) {
            guard isBracketed == host.utf8.contains(UInt8(ascii: ":")) else { return nil }
            self.host = address.description
        } else {
            guard !isBracketed, let name = HostName.fold(host), !HostName.looksLikeAddress(name) else { return nil }
            self.host = name
        }
    }

    /// The host if it is an IP address.
    package var address: IPAddress? { IPAddress(host) }

    /// "host:port", an IPv6 address in brackets: what ``init(_:defaultPort:)`` reads.
    package var description: String { host.utf8.contains(UInt8(ascii: ":")) ? "[\(host)]:\(port)" : "\(host):\(port)" }

    private static func portNumber(_ text: Substring) -> Int? {
        guard (1...5).contains(text.utf8.count), text.utf8.allSatisfy({ (0x30...0x39).contains($0) }),
            let number = Int(text), (1...65535).contains(number)
        else { return nil }
        return number
    }
}

/// Where an edge listens.
package enum ListenAddress: Hashable, Sendable, CustomStringConvertible {
    /// "host:port" or "[v6]:port". [::] takes IPv4 too.
    case tcp(HostPort)
    /// "unix:/path": an absolute path.
    case unix(path: String)
    /// "systemd:NAME": a socket that systemd listens on, by its FileDescriptorName=.
    case systemd(name: String)

    /// The most octets of the path of a UNIX socket. Linux has room for 107, but NIO takes no more than other systems do.
    static let longestPath = 103

    /// From text; nil if it is none of these.
    package init?(_ text: String) {
        if text.hasPrefix("unix:") {
            let path = String(text.dropFirst(5))
            guard path.utf8.first == UInt8(ascii: "/"), (2...Self.longestPath).contains(path.utf8.count) else {
                return nil
            }
            self = .unix(path: path)
        } else if text.hasPrefix("systemd:") {
            let name = String(text.dropFirst(8))
            // systemd.socket(5): ASCII without control characters and colons, 255 at most.
            guard (1...255).contains(name.utf8.count),
                name.utf8.allSatisfy({ (0x21...0x7E).contains($0) && $0 != UInt8(ascii: ":") })
            else { return nil }
            self = .systemd(name: name)
        } else {
            // "Unix:51" is no host either.
            guard let address = HostPort(text), address.host != "unix", address.host != "systemd" else { return nil }
            self = .tcp(address)
        }
    }

    /// Whether only this machine can reach it. What systemd listens on is not known, so it is not.
    package var isLoopback: Bool {
        switch self {
        case .tcp(let address): address.address?.isLoopback ?? (address.host == "localhost")
        case .unix: true
        case .systemd: false
        }
    }

    /// Whether its clients have no address.
    var isUNIX: Bool {
        switch self {
        case .unix: true
        case .tcp, .systemd: false
        }
    }

    /// As slimta.conf writes it.
    package var description: String {
        switch self {
        case .tcp(let address): address.description
        case .unix(let path): "unix:\(path)"
        case .systemd(let name): "systemd:\(name)"
        }
    }

    /// Whether the system would refuse to listen on both: the same one, or one that takes the other's in.
    func overlaps(_ other: ListenAddress) -> Bool {
        guard case .tcp(let a) = self, case .tcp(let b) = other, a.port == b.port, let first = a.address,
            let second = b.address
        else { return self == other }
        return first == second || first.takesIn(second) || second.takesIn(first)
    }
}

extension Setting {
    /// Text that may be "unix:/path", and that `parse` makes something of. `allowed` says what else it may be.
    func address<T>(_ allowed: String, _ parse: (String) -> T?) -> T? {
        if let string, string.hasPrefix("unix:"), string.utf8.count > 5 + ListenAddress.longestPath {
            return refuse("allowed is a path of up to \(ListenAddress.longestPath) octets behind \"unix:\"")
        }
        return text(allowed, parse)
    }

    /// The value as a network; reported, and nil, if it is none.
    func network() -> NetworkRange? {
        text(
            "a network such as \"192.0.2.0/24\", \"2001:db8::/32\", or an address",
            didYouMean: { NetworkRange.enclosing($0)?.description }, { NetworkRange($0) })
    }
}

extension IPAddress {
    /// Whether listening here takes connections to `other` as well: [::] takes all, 0.0.0.0 all of IPv4.
    fileprivate func takesIn(_ other: IPAddress) -> Bool { isUnspecified && (!isIPv4 || other.isIPv4) }
}

/// Which domains a route takes.
package enum DomainPattern: Hashable, Sendable, CustomStringConvertible {
    /// "*"
    case any
    /// "example.net", in lower case.
    case exact(String)
    /// "*.example.org": all below example.org, but not example.org itself. Without "*.", in lower case.
    case below(String)

    /// From text; nil if it is none of these.
    package init?(_ text: String) {
        if text == "*" {
            self = .any
        } else if text.hasPrefix("*.") {
            guard let name = HostName.fold(text.dropFirst(2)) else { return nil }
            self = .below(name)
        } else {
            guard let name = HostName.fold(text) else { return nil }
            self = .exact(name)
        }
    }

    /// Whether a domain, given as ``Mailbox/foldedDomain`` has it, is among them.
    package func matches(_ foldedDomain: some StringProtocol) -> Bool {
        switch self {
        case .any: return true
        case .exact(let name): return foldedDomain.utf8.elementsEqual(name.utf8)
        case .below(let name):
            let domain = foldedDomain.utf8
            let start = domain.count - name.utf8.count - 1
            return start > 0 && domain.dropFirst(start).first == UInt8(ascii: ".")
                && domain.dropFirst(start + 1).elementsEqual(name.utf8)
        }
    }

    /// As slimta.conf writes it.
    package var description: String {
        switch self {
        case .any: "*"
        case .exact(let name): name
        case .below(let name): "*.\(name)"
        }
    }
}

/// Names of the DNS as host names are written (RFC 5321 section 4.1.2, with RFC 1123 section 2.1).
enum HostName {
    /// The name with letters in lower case; nil if it is none: labels of 1 to 63 letters, digits and inner hyphens,
    /// 253 octets at most. An international name comes back in A-labels.
    static func fold(_ text: some StringProtocol) -> String? {
        guard let name = DomainName.ascii(text) else { return nil }
        let octets = Array(name.utf8)
        guard (1...253).contains(octets.count) else { return nil }
        for label in octets.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false) {
            guard (1...63).contains(label.count), label.first != UInt8(ascii: "-"),
                label.last != UInt8(ascii: "-"), label.allSatisfy(isLabelOctet)
            else { return nil }
        }
        return name
    }

    /// Whether the last label is a number: then it is a mistyped IPv4 address, no top-level domain is numeric.
    static func looksLikeAddress(_ name: String) -> Bool {
        name.utf8.split(separator: UInt8(ascii: ".")).last?.allSatisfy(\.isASCIIDigit) ?? false
    }

    private static func isLabelOctet(_ octet: UInt8) -> Bool {
        octet.isASCIILetterOrDigit || octet == UInt8(ascii: "-")
    }
}

/// Where a service listens that we connect to: "127.0.0.1:10040" or "unix:/path".
package enum ServiceAddress: Hashable, Sendable, CustomStringConvertible {
    /// An IP address with a port.
    case tcp(HostPort)
    /// An absolute path.
    case unix(path: String)

    /// From text; nil if it is neither. A host has to be an address, or "localhost": no question waits for the DNS.
    package init?(_ text: String) {
        switch ListenAddress(text) {
        case .tcp(var address):
            if address.host == "localhost" { address.host = "127.0.0.1" }
            guard let ip = address.address, !ip.isUnspecified else { return nil }
            self = .tcp(address)
        case .unix(let path): self = .unix(path: path)
        case .systemd, nil: return nil
        }
    }

    /// Whether what is said there stays on this machine.
    var isOfThisMachine: Bool {
        switch self {
        case .tcp(let address): address.address?.isLoopback ?? false
        case .unix: true
        }
    }

    /// As slimta.conf writes it.
    package var description: String {
        switch self {
        case .tcp(let address): address.description
        case .unix(let path): "unix:\(path)"
        }
    }
}
