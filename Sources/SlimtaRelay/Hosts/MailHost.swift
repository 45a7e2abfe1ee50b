// A host that takes mail: an IP address and port, and the name it was found by; or a UNIX socket. Made by relays, used by the
// pool.

import NIOCore

/// Where a connection goes.
struct MailHost: Hashable, Sendable {
    /// IP address and port, or the path of a UNIX socket.
    let address: SocketAddress
    /// The host's name; nil if only the address is known.
    let name: String?

    /// For logs and outcomes: "mx.example.com[192.0.2.1]:25", "unix:/run/dovecot/lmtp".
    var label: String { address.pathname.map { "unix:\($0)" } ?? "\(name ?? "")[\(ip)]:\(address.port ?? 0)" }

    /// For Remote-MTA; nil for a UNIX socket, which is no host.
    var remoteHost: String? { address.pathname == nil ? name ?? "[\(ip)]" : nil }

    private var ip: String { address.ipAddress ?? "?" }
}
