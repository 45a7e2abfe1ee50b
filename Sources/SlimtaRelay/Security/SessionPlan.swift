// How sessions with hosts are made secure, and as whom. A relay has a policy, HostTrial asks it for the plan of each host,
// the pool shares connections by the plan and SMTPClientDriver does what it says.

import NIOCore
import SlimtaNet
import SlimtaSASL
import SlimtaSMTP
import SlimtaTLS

/// All of how a session is made that another session with the same host may not have in common with it.
///
/// A policy of the host's own (DANE, MTA-STS), a client certificate or a source address has its place here, so that it is
/// never forgotten where sessions are shared: what is not in the plan is the same for all of a relay's sessions.
struct SessionPlan: Hashable, Sendable {
    /// Whether the session is encrypted.
    var security: SMTPClientMachine.Security
    /// Whether a session in clear may follow at once when TLS failed; false where nothing goes in clear.
    var mayGoInClear = false
    /// Versions, ciphers and the certificates that are trusted; nil only where nothing is encrypted.
    var tls: TLSClientContext?
    /// What is asked of the server's certificate.
    var verification = TLSVerification.none
    /// Who we are for the server; nil: no AUTH.
    var credentials: SASLClient.Credentials?
}

/// What two jobs must have in common to share a session.
///
/// The address alone is not enough: the host's name is told in logs, outcomes and bounces, and by SNI to the server, and a
/// session that was made with less care must not carry what asks for more. One made with more does not carry what asks for
/// less either: a server may choose its certificate, and what it does, by what it was told.
struct ConnectionKey: PoolDestination {
    let host: MailHost
    let plan: SessionPlan

    /// However many names and plans lead there, an address gets no more connections.
    var group: SocketAddress { host.address }
}

/// A relay's rules for sessions, as the operator set them.
struct SessionPolicy: Sendable {
    private let security: SMTPClientMachine.Security
    private let clearTextAfter: Duration
    private let tls: TLSClientContext?
    /// Who we are for every host; nil: no AUTH.
    let credentials: SASLClient.Credentials?

    /// - Parameter trustFile: the certificates to trust (PEM), instead of the system's, where one is verified.
    ///
    /// Throws if there can be no TLS.
    init(
        _ options: RelayOptions, credentials: SASLClient.Credentials? = nil, trustFile: String? = nil
    ) throws(TLSError) {
        security = options.security
        clearTextAfter = options.clearTextAfter
        self.credentials = credentials
        tls =
            security == .none
            ? nil : try TLSClientContext(minimum: .v1_2, verifies: credentials != nil, trustFile: trustFile)
    }

    /// How a session with `host` is to be made for a message that has waited for so long.
    func plan(for host: MailHost, age: Duration) -> SessionPlan {
        guard let credentials else {
            let mayGoInClear = security == .opportunistic && age >= clearTextAfter
            return SessionPlan(security: security, mayGoInClear: mayGoInClear, tls: tls)
        }
        // A password goes over the connection: never in clear, and to nobody else.
        return SessionPlan(
            security: security, tls: tls, verification: .system(host: host.name ?? host.address.ipAddress ?? ""),
            credentials: credentials)
    }
}
