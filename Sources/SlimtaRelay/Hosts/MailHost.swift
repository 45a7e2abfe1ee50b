// A host that takes mail: an IP address and port, and the name it was found by. Made by relays, used by the pool.

import NIOCore
import SlimtaSMTP

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

/// How sessions are made secure, as far as it differs from job to job.
struct TLSPlan: Hashable, Sendable {
    var security: SMTPClientMachine.Security
    /// Whether a session in clear may follow at once when TLS failed; false where nothing goes in clear.
    var mayGoInClear: Bool
}

/// What two jobs must have in common to share a session; credentials, certificates and source addresses are the pool's.
///
/// The address alone is not enough: the host's name is told in logs, outcomes and bounces, and by SNI to the server, and a
/// session that was made with less care must not carry what asks for more.
struct ConnectionKey: PoolDestination {
    let host: MailHost
    let plan: TLSPlan

    /// However many names lead there, an address gets no more connections.
    var group: SocketAddress { host.address }
}
