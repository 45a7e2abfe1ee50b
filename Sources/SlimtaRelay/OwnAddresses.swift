// Where this daemon listens itself, so that the MX relay does not send mail in a circle. Made by the composition root.

package import NIOCore
import NIOPosix

/// The addresses and ports that lead back to us.
package struct OwnAddresses: Sendable {
    private let exact: Set<SocketAddress>
    /// The ports on which we listen for all addresses of the machine.
    private let ports: Set<Int>
    /// The addresses of the machine.
    private let machine: Set<String>

    /// - Parameter listeners: the addresses that the edges listen on, wildcards (0.0.0.0 and ::) included.
    package init(listeners: [SocketAddress]) {
        let wildcards = listeners.filter { Self.isUnspecified($0) }
        exact = Set(listeners.map(\.unmapped)).subtracting(wildcards)
        ports = Set(wildcards.compactMap(\.port))
        // Without the list, loopback is still known.
        let devices = (try? System.enumerateDevices()) ?? []
        machine = Set(devices.compactMap { $0.address?.ipAddress })
    }

    /// Whether a connection to `address` ends here.
    func contains(_ address: SocketAddress) -> Bool {
        let address = address.unmapped
        if exact.contains(address) { return true }
        guard let port = address.port, ports.contains(port), let ip = address.ipAddress else { return false }
        return Self.isLoopback(address) || machine.contains(ip)
    }

    /// 0.0.0.0 and ::, which no host has: connecting to them leads to ourselves.
    static func isUnspecified(_ address: SocketAddress) -> Bool {
        address.ipAddress == "0.0.0.0" || address.ipAddress == "::"
    }

    /// 127.0.0.0/8 and ::1.
    private static func isLoopback(_ address: SocketAddress) -> Bool {
        guard let ip = address.ipAddress else { return false }
        return ip == "::1" || ip.utf8.starts(with: "127.".utf8)
    }
}
