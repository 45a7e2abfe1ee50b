// IP addresses as values: of clients, of exchangers, of slimta.conf. What an IPv4-mapped IPv6 address means is decided
// here, once for all rooms.

import Glibc
package import NIOCore

/// An IPv4 or IPv6 address. An IPv4-mapped IPv6 address is the IPv4 address: that is how a socket that listens on
/// `[::]` names IPv4 clients.
package struct IPAddress: Hashable, Sendable, CustomStringConvertible {
    /// An IPv4 address is in its IPv4-mapped form, ::ffff:0:0/96.
    let value: UInt128

    init(value: UInt128) { self.value = value }

    /// From text without brackets, port or prefix; nil if it is not one. A zone ("%eth0") is not part of it.
    package init?(_ text: some StringProtocol) {
        let text = String(text)
        // inet_pton reads up to a NUL: what is behind must not hide.
        guard !text.utf8.contains(0) else { return nil }
        var four: UInt32 = 0
        if inet_pton(AF_INET, text, &four) == 1 {
            value = Self.mappedPrefix | UInt128(UInt32(bigEndian: four))
            return
        }
        var six: UInt128 = 0
        guard inet_pton(AF_INET6, text, &six) == 1 else { return nil }
        value = UInt128(bigEndian: six)
    }

    /// From 4 or 16 octets in network order; nil for another number of octets.
    package init?(bytes: some Collection<UInt8>) {
        switch bytes.count {
        case 4: value = bytes.reduce(Self.mappedPrefix >> 32) { $0 << 8 | UInt128($1) }
        case 16: value = bytes.reduce(0) { $0 << 8 | UInt128($1) }
        default: return nil
        }
    }

    /// The address of a socket; nil for a UNIX socket, and for none.
    package init?(_ address: SocketAddress?) {
        switch address {
        // sin_addr is at offset 4 of its socket address, sin6_addr at 8.
        case .v4(let v4):
            value = SocketAddress.v4(v4).withSockAddr { address, _ in
                Self.mappedPrefix | Self.octets(of: address, 4..<8)
            }
        case .v6(let v6): value = SocketAddress.v6(v6).withSockAddr { address, _ in Self.octets(of: address, 8..<24) }
        case .unixDomainSocket, nil: return nil
        }
    }

    private static func octets(of address: UnsafePointer<sockaddr>, _ range: Range<Int>) -> UInt128 {
        UnsafeRawBufferPointer(start: UnsafeRawPointer(address) + range.lowerBound, count: range.count)
            .reduce(0) { $0 << 8 | UInt128($1) }
    }

    /// Whether it is an IPv4 address, also one that was written within IPv6 (RFC 4291 section 2.5.5.2).
    package var isIPv4: Bool { value >> 32 == Self.mappedPrefix >> 32 }

    /// In network order: 4 octets of an IPv4 address, 16 of an IPv6 address.
    package var octets: [UInt8] {
        (0..<(isIPv4 ? 4 : 16)).reversed().map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
    }

    /// 127.0.0.0/8 or ::1.
    package var isLoopback: Bool { isIPv4 ? value >> 24 & 0xFF == 127 : value == 1 }

    /// Its first 64 bits, an IPv6 address given: the smallest network that a customer gets. Of an IPv4 address all of it.
    package var customerNetwork: IPAddress { isIPv4 ? self : IPAddress(value: (value >> 64) << 64) }

    /// Its first 48 bits, of an IPv4 address the first 24: about what one site or one provider's pool has.
    package var accessNetwork: IPAddress {
        isIPv4 ? IPAddress(value: (value >> 8) << 8) : IPAddress(value: (value >> 80) << 80)
    }

    /// 0.0.0.0 or ::, which mean every address of the machine.
    package var isUnspecified: Bool { value == 0 || value == Self.mappedPrefix }

    /// The IPv4 address to which packets for this IPv6 address go on, where it is one of NAT64 (RFC 6052 section
    /// 2.1), of its predecessor SIIT (RFC 2765 section 2.1), of 6to4 (RFC 3056 section 2) or of Teredo (RFC 4380 section 4).
    package var translated: IPAddress? {
        let four: UInt32
        if value >> 32 == 0x0064_FF9B << 64 || value >> 32 == 0xFFFF_0000 {
            four = UInt32(truncatingIfNeeded: value)
        } else if value >> 112 == 0x2002 {
            four = UInt32(truncatingIfNeeded: value >> 80)
        } else if value >> 96 == 0x2001_0000 {
            four = ~UInt32(truncatingIfNeeded: value)
        } else {
            return nil
        }
        return IPAddress(value: Self.mappedPrefix | UInt128(four))
    }

    /// As inet_ntop prints it, without brackets.
    package var description: String {
        var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
        if isIPv4 {
            var four = UInt32(truncatingIfNeeded: value).bigEndian
            inet_ntop(AF_INET, &four, &text, socklen_t(text.count))
        } else {
            var six = value.bigEndian
            inet_ntop(AF_INET6, &six, &text, socklen_t(text.count))
        }
        return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    static let mappedPrefix = UInt128(0xFFFF) << 32
}

extension SocketAddress {
    /// Where a host is whom no DNS has to be asked about: an IP address, without brackets, and "localhost", which is this
    /// machine whatever DNS says of it, so that what goes there may go in clear. Empty: any other name.
    package static func known(_ host: String, port: Int) -> [SocketAddress] {
        (host == "localhost" ? ["127.0.0.1", "::1"] : [host]).compactMap {
            try? SocketAddress(ipAddress: $0, port: port)
        }
    }

    /// An IPv4 address that is written as IPv6 (::ffff:192.0.2.1) as what it is: connecting to it is IPv4.
    package var unmapped: SocketAddress {
        guard case .v6 = self, let ip = IPAddress(self), ip.isIPv4, let port,
            let address = try? SocketAddress(ipAddress: ip.description, port: port)
        else { return self }
        return address
    }
}
