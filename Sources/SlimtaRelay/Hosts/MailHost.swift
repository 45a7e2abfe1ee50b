// A host that takes mail: an IP address and port, and the name it was found by. Made by relays, used by the pool.

import NIOCore

/// Where a connection goes.
struct MailHost: Hashable, Sendable {
    /// IP address and port.
    let address: SocketAddress
    /// The host's name; nil if only the address is known.
    let name: String?

    /// For logs and outcomes: "mx.example.com[192.0.2.1]:25".
    var label: String { "\(name ?? "")[\(ip)]:\(address.port ?? 0)" }

    /// For Remote-MTA.
    var remoteHost: String { name ?? "[\(ip)]" }

    private var ip: String { address.ipAddress ?? "?" }
}
