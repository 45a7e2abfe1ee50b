// Networks as slimta.conf has them: what edges ask whether a client is trusted, and relays where mail may go.

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

    /// The network with a prefix of that length that an address is in.
    package init(of address: IPAddress, prefixLength: Int) {
        let hostBits = Self.width(address) - prefixLength
        base = IPAddress(value: (address.value >> hostBits) << hostBits)
        self.prefixLength = prefixLength
    }

    /// The network of "192.0.2.1/24", which has bits set behind the prefix: what was probably meant.
    package static func enclosing(_ text: String) -> NetworkRange? {
        Self.parse(text).map { NetworkRange(base: $0.first, prefixLength: $0.prefixLength) }
    }

    /// Whether `address` is in the network. An IPv4 address is in no IPv6 network and the other way round.
    package func contains(_ address: IPAddress) -> Bool {
        address.isIPv4 == base.isIPv4 && (address.value ^ base.value) >> (Self.width(base) - prefixLength) == 0
    }

    /// Whether some address is in both.
    package func overlaps(_ other: NetworkRange) -> Bool { contains(other.base) || other.contains(base) }

    /// Whether the address, given as text as in ``IPAddress/init(_:)``, is in the network; false if it is none.
    package func contains(addressText: some StringProtocol) -> Bool {
        IPAddress(addressText).map { contains($0) } ?? false
    }

    /// Whether the address, given as 4 or 16 octets in network order, is in the network; false if it is none.
    package func contains(bytes: some Collection<UInt8>) -> Bool {
        IPAddress(bytes: bytes).map { contains($0) } ?? false
    }

    /// "192.0.2.0/24", a single address with its whole length: "2001:db8::1/128".
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
            guard (1...3).contains(digits.count), digits.allSatisfy(\.isASCIIDigit),
                digits.count == 1 || digits.first != UInt8(ascii: "0"), var prefix = Int(parts[1])
            else { return nil }
            if address.isIPv4, written.utf8.contains(UInt8(ascii: ":")) { prefix -= 96 }
            guard (0...length).contains(prefix) else { return nil }
            length = prefix
        }
        return (NetworkRange(of: address, prefixLength: length).base, address, length)
    }
}
