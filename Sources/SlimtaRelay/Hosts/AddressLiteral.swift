// Address literals, the domains in brackets (RFC 5321 section 4.1.3). Used by MXRelay.

import NIOCore
import SlimtaMail

enum AddressLiteral {
    /// The address in "[192.0.2.1]" or "[IPv6:2001:db8::1]"; nil for anything else.
    static func parse(_ literal: String, port: Int) -> SocketAddress? {
        guard literal.utf8.first == UInt8(ascii: "["), literal.utf8.last == UInt8(ascii: "]") else { return nil }
        let inner = literal.dropFirst().dropLast()
        let tag = "ipv6:"
        if String(inner.prefix(tag.count)).asciiLowercased() == tag {
            return address(inner.dropFirst(tag.count), port: port, isIPv6: true)
        }
        return address(inner, port: port, isIPv6: false)
    }

    private static func address(_ text: Substring, port: Int, isIPv6: Bool) -> SocketAddress? {
        // A scope, as in fe80::1%eth0, is no part of a literal.
        guard !text.utf8.contains(UInt8(ascii: "%")),
            let address = try? SocketAddress(ipAddress: String(text), port: port)
        else { return nil }
        return (address.protocol == .inet6) == isIPv6 ? address.unmapped : nil
    }
}
