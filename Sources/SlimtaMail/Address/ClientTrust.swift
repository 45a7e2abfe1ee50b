// Who may send without AUTH: what keeps an edge from being an open relay. The configuration makes one of each edge and
// judges the edge by it; the SMTP edge asks it once for each connection and tells the session's machine.

/// The clients of an edge that may send without having authenticated: the addresses of `trusted_networks` on any edge; and
/// this machine on an edge that nobody else can reach and that does not require AUTH. Nobody else, whatever `auth` says.
package struct ClientTrust: Sendable, Equatable {
    /// `trusted_networks`.
    package var networks: [NetworkRange]
    /// Whether loopback addresses and UNIX sockets are allowed. Where others can reach the edge they are clients as others
    /// are, and have to be in ``networks``.
    package var allowsThisMachine: Bool

    /// Trusts the clients in `networks`, and those on this machine if `allowsThisMachine`.
    package init(networks: [NetworkRange], allowsThisMachine: Bool) {
        self.networks = networks
        self.allowsThisMachine = allowsThisMachine
    }

    /// Whether nobody may.
    package var isEmpty: Bool { networks.isEmpty && !allowsThisMachine }

    /// Whether a client may.
    package func allows(_ client: ConnectionFacts.Endpoint) -> Bool {
        switch client {
        case .unix: allowsThisMachine
        case .unknown: false
        // A client from elsewhere proves that the edge can be reached after all, by whatever way it came.
        case .ip(let address, _):
            networks.contains { $0.contains(address) } || allowsThisMachine && address.isLoopback
        }
    }
}

extension ClientTrust: CustomStringConvertible {
    /// For people: "nobody", "this machine, 192.0.2.0/24".
    package var description: String {
        let all = (allowsThisMachine ? ["this machine"] : []) + networks.map(\.description)
        return all.isEmpty ? "nobody" : all.joined(separator: ", ")
    }
}
