// Where this daemon listens itself, so that the MX relay does not send mail in a circle. Made by the composition root.

import Glibc
package import NIOCore

/// The addresses and ports that lead back to us.
package struct OwnAddresses: Sendable {
    private let exact: Set<SocketAddress>
    /// The ports on which we listen for all addresses of the machine.
    private let ports: Set<Int>

    /// - Parameter listeners: the addresses that the edges listen on, wildcards (0.0.0.0 and ::) included.
    package init(listeners: [SocketAddress]) {
        let wildcards = listeners.filter { Self.isUnspecified($0) }
        exact = Set(listeners.map(\.unmapped)).subtracting(wildcards)
        ports = Set(wildcards.compactMap(\.port))
    }

    /// Whether a connection to `address` ends here.
    func contains(_ address: SocketAddress) -> Bool {
        let address = address.unmapped
        if exact.contains(address) { return true }
        guard let port = address.port, ports.contains(port) else { return false }
        return Self.isLoopback(address) || Self.isOfMachine(address)
    }

    /// 0.0.0.0 and ::, which no host has: connecting to them leads to ourselves.
    static func isUnspecified(_ address: SocketAddress) -> Bool {
        address.ipAddress == "0.0.0.0" || address.ipAddress == "::"
    }

    /// Whether the machine has the address: only then a socket can be bound to it. Unlike the list of interfaces this
    /// needs no netlink socket, which the service is not allowed, and knows addresses that came after the start.
    private static func isOfMachine(_ address: SocketAddress) -> Bool {
        let family: CInt
        switch address {
        case .v4: family = AF_INET
        case .v6: family = AF_INET6
        case .unixDomainSocket: return false
        }
        let descriptor = socket(family, CInt(SOCK_DGRAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { return false }
        defer { close(descriptor) }
        var anyPort = address
        anyPort.port = 0
        return anyPort.withSockAddr { bind(descriptor, $0, socklen_t($1)) == 0 }
    }

    /// 127.0.0.0/8 and ::1.
    private static func isLoopback(_ address: SocketAddress) -> Bool {
        guard let ip = address.ipAddress else { return false }
        return ip == "::1" || ip.utf8.starts(with: "127.".utf8)
    }
}
