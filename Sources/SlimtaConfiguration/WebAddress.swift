// Where something is that is reached over HTTP, as slimta.conf writes it. Read by RelayReader.

import SlimtaMail

/// A URL of HTTP (RFC 9110 section 4.2): "https://mail.example.com/submit?queue=a". Strict: two programs that read it must
/// see the same host.
package struct WebAddress: Hashable, Sendable, CustomStringConvertible {
    /// https: over TLS.
    package var isSecure: Bool
    /// The host, and the port, which is 443 or 80 where none is said.
    package var host: HostPort
    /// Path and query as they are sent (RFC 9112 section 3.2.1); at least "/".
    package var target: String

    /// What stands for a URL that is missing.
    static let nowhere = WebAddress(isSecure: true, host: HostPort(host: "", port: 0), target: "/")

    private init(isSecure: Bool, host: HostPort, target: String) {
        self.isSecure = isSecure
        self.host = host
        self.target = target
    }

    /// From text; nil if it is no such URL, has a user or a password in it, or a fragment, which is never sent.
    package init?(_ text: String) {
        guard text.utf8.count <= 2048, let scheme = text.firstRange(of: "://") else { return nil }
        switch text[..<scheme.lowerBound].lowercased() {
        case "https": isSecure = true
        case "http": isSecure = false
        default: return nil
        }
        let rest = text[scheme.upperBound...]
        let authority = rest.prefix { $0 != "/" && $0 != "?" && $0 != "#" }
        // "user@host" is no host, nor is "host:".
        guard let host = HostPort(String(authority), defaultPort: isSecure ? 443 : 80) else { return nil }
        self.host = host
        let target = rest[authority.endIndex...]
        guard Self.isTarget(target.utf8) else { return nil }
        self.target = target.first == "/" ? String(target) : "/" + target
    }

    /// Whether only this machine can read what is sent there in clear.
    package var isLoopback: Bool { host.address?.isLoopback ?? (host.host == "localhost") }

    /// As slimta.conf may write it.
    package var description: String { "\(isSecure ? "https" : "http")://\(host)\(target)" }

    /// RFC 3986 sections 3.3 and 3.4: what is not allowed there is written with "%".
    private static func isTarget(_ text: Substring.UTF8View) -> Bool {
        var rest = text
        while let octet = rest.popFirst() {
            switch octet {
            case UInt8(ascii: "%"):
                guard rest.prefix(2).count == 2, rest.prefix(2).allSatisfy({ $0.hexadecimalValue != nil }) else {
                    return false
                }
            case _ where octet.isASCIILetterOrDigit || "-._~!$&'()*+,;=:@/?".utf8.contains(octet): break
            default: return false
            }
        }
        return true
    }
}
