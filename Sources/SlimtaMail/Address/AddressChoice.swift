// Which of a host's addresses are connected to, and in what order. A setting of relays, in the words of slimta.conf.

package import NIOCore

/// What `ip` of a relay may say.
package enum AddressChoice: String, Hashable, Sendable, CaseIterable {
    /// Both families in turn, as they come.
    case any
    // swift-format-ignore: AlwaysUseLowerCamelCase
    case v4
    // swift-format-ignore: AlwaysUseLowerCamelCase
    case v6
    /// Those of IPv6 when those of IPv4 have failed.
    case preferV4 = "prefer_v4"
    /// Those of IPv4 when those of IPv6 have failed.
    case preferV6 = "prefer_v6"

    /// Those that are connected to, in their order; among those of one family it stays what it is.
    package func chosen<Host>(_ hosts: [Host], at address: (Host) -> SocketAddress) -> [Host] {
        func isV6(_ host: Host) -> Bool { if case .v6 = address(host) { true } else { false } }
        return switch self {
        case .any: hosts
        case .v4: hosts.filter { !isV6($0) }
        case .v6: hosts.filter(isV6)
        case .preferV4: hosts.filter { !isV6($0) } + hosts.filter(isV6)
        case .preferV6: hosts.filter(isV6) + hosts.filter { !isV6($0) }
        }
    }
}
