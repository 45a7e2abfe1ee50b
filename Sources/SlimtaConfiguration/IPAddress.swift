// IP addresses and networks as slimta.conf has them. NetworkRange is what edges ask whether a client is trusted.

import Glibc

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
        var four = in_addr()
        if inet_pton(AF_INET, text, &four) == 1 {
            value = Self.mappedPrefix | UInt128(UInt32(bigEndian: four.s_addr))
            return
        }
        var six = in6_addr()
        guard inet_pton(AF_INET6, text, &six) == 1 else { return nil }
        value = withUnsafeBytes(of: six) { $0.reduce(0) { $0 << 8 | UInt128($1) } }
    }

    /// From 4 or 16 octets in network order; nil for another number of octets.
    package init?(bytes: some Collection<UInt8>) {
        switch bytes.count {
        case 4: value = bytes.reduce(Self.mappedPrefix >> 32) { $0 << 8 | UInt128($1) }
        case 16: value = bytes.reduce(0) { $0 << 8 | UInt128($1) }
        default: return nil
        }
    }

    package var isIPv4: Bool { value >> 32 == Self.mappedPrefix >> 32 }

    /// 127.0.0.0/8 or ::1.
    package var isLoopback: Bool { isIPv4 ? value >> 24 & 0xFF == 127 : value == 1 }

    /// 0.0.0.0 or ::, which mean every address of the machine.
    package var isUnspecified: Bool { value == 0 || value == Self.mappedPrefix }

    /// As inet_ntop prints it, without brackets.
    package var description: String {
        var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
        if isIPv4 {
            var four = in_addr(s_addr: UInt32(truncatingIfNeeded: value).bigEndian)
            inet_ntop(AF_INET, &four, &text, socklen_t(text.count))
        } else {
            var six = value.bigEndian
            inet_ntop(AF_INET6, &six, &text, socklen_t(text.count))
        }
        return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    static let mappedPrefix = UInt128(0xFFFF) << 32
}

/// A network in CIDR notation, or a single address.
package struct NetworkRange: Hashable, Sendable, CustomStringConvertible {
    /// Its first address.
    package let base: IPAddress
    /// How many bits of an address tell the network: 0 to 32 of an IPv4, 0 to 128 of an IPv6 address.
    package let prefixLength: Int

    /// From "192.0.2.0/24", "2001:db8::/32" or a single address; nil if it is neither, or if an address bit behind
    /// the prefix is set.
    package init?(_ text: some StringProtocol) {
        guard let network = Self.parse(text), network.first == network.address else { return nil }
        base = network.first
        prefixLength = network.prefixLength
    }

    private init(base: IPAddress, prefixLength: Int) {
        self.base = base
        self.prefixLength = prefixLength
    }

    /// The network of "192.0.2.1/24", which has bits set behind the prefix: what was probably meant.
    static func enclosing(_ text: String) -> NetworkRange? {
        Self.parse(text).map { NetworkRange(base: $0.first, prefixLength: $0.prefixLength) }
    }

    /// Whether `address` is in the network. An IPv4 address is in no IPv6 network and the other way round.
    package func contains(_ address: IPAddress) -> Bool {
        address.isIPv4 == base.isIPv4 && (address.value ^ base.value) >> (Self.width(base) - prefixLength) == 0
    }

    /// Whether the address, given as text as in ``IPAddress/init(_:)``, is in the network; false if it is none.
    package func contains(addressText: some StringProtocol) -> Bool {
        IPAddress(addressText).map { contains($0) } ?? false
    }

    /// Whether the address, given as 4 or 16 octets in network order, is in the network; false if it is none.
    package func contains(bytes: some Collection<UInt8>) -> Bool {
        IPAddress(bytes: bytes).map { contains($0) } ?? false
    }

    package var description: String { "\(base)/\(prefixLength)" }

    private static func width(_ address: IPAddress) -> Int { address.isIPv4 ? 32 : 128 }

    private static func parse(_ text: some StringProtocol) -> (first: IPAddress, address: IPAddress, prefixLength: Int)?
    {
        let parts = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
        guard let written = parts.first, let address = IPAddress(written) else { return nil }
        var length = width(address)
        if parts.count == 2 {
            // Digits only, no sign, no leading zero: "/08" would make one wonder about the base.
            let digits = parts[1].utf8
            guard (1...3).contains(digits.count), digits.allSatisfy({ (0x30...0x39).contains($0) }),
                digits.count == 1 || digits.first != UInt8(ascii: "0"), var prefix = Int(parts[1])
            else { return nil }
            if address.isIPv4, written.utf8.contains(UInt8(ascii: ":")) { prefix -= 96 }
            guard (0...length).contains(prefix) else { return nil }
            length = prefix
        }
        let hostBits = width(address) - length
        return (IPAddress(value: (address.value >> hostBits) << hostBits), address, length)
    }
}
