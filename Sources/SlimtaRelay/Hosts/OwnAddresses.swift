// Where this daemon listens itself, so that the MX relay does not send mail in a circle. Made by the composition root.

import Glibc
package import NIOCore
import SlimtaMail

/// The addresses and ports that lead back to us.
package struct OwnAddresses: Sendable {
    private let exact: Set<SocketAddress>
    /// The ports on which we listen for all addresses of the machine.
    private let ports: Set<Int>

    /// - Parameter listeners: the addresses that the edges listen on, wildcards (0.0.0.0 and ::) included.
    package init(listeners: [SocketAddress]) {
        let wildcards = listeners.filter { IPAddress($0)?.isUnspecified == true }
        exact = Set(listeners.map(\.unmapped)).subtracting(wildcards)
        ports = Set(wildcards.compactMap(\.port))
    }

    /// Whether a connection to `address` ends here.
    func contains(_ address: SocketAddress) -> Bool {
        let address = address.unmapped
        if exact.contains(address) { return true }
        guard let port = address.port, ports.contains(port) else { return false }
        return IPAddress(address)?.isLoopback == true || Self.isOfMachine(address)
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
}
