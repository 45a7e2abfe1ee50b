// What an edge of type "smtp" needs of the configuration. The composition root makes one at start and at each reload.

package import NIOCore
package import SlimtaMail
package import SlimtaNet
package import SlimtaSMTP
package import SlimtaTLS

/// What the sessions of an edge are like. A session keeps the settings that it began with.
package struct SMTPEdgeSettings: Sendable {
    /// The edge's name, for logs.
    package var name: String
    /// What the protocol offers and asks for, the same for each session.
    package var server: SMTPServerConfiguration
    /// nil: no TLS.
    package var tls: TLSServerContext?
    /// nil: no AUTH.
    package var credentials: (any Authenticator)?
    /// Who may send without AUTH.
    package var trust: ClientTrust
    /// Who is asked about clients; nil: nobody. What it asks at is in ``server``'s stages as well.
    package var gate: Gate? {
        didSet { server.stages = gate?.stages ?? [] }
    }
    /// For the next command to come (RFC 5321 section 4.5.3.2.7).
    package var commandTimeout: TimeAmount
    /// How slow the content of a message may come.
    package var transfer: TransferWatch.Limits
    /// For the whole content of a message, however fast it comes; nil: as long as it takes.
    package var dataTimeout: TimeAmount?
    /// For the TLS handshake, and before it for a proxy's header.
    package var handshakeTimeout: TimeAmount
    /// How long a client waits for the greeting, behind a proxy's header and a handshake where they come first. One that
    /// talks meanwhile is an early talker.
    package var greetDelay = TimeAmount.zero
    /// The proxies: who connects from these networks must begin with a PROXY header, which says who the client is; from
    /// others none is read.
    package var proxies: [NetworkRange] = []

    /// The defaults are those of `[limits]`.
    package init(
        name: String, server: SMTPServerConfiguration, tls: TLSServerContext?,
        credentials: (any Authenticator)?, trust: ClientTrust,
        commandTimeout: TimeAmount = .minutes(5),
        transfer: TransferWatch.Limits = .init(leastRate: 1024, stallTimeout: .minutes(3)),
        dataTimeout: TimeAmount? = nil, handshakeTimeout: TimeAmount = .seconds(30)
    ) {
        self.name = name
        self.server = server
        self.tls = tls
        self.credentials = credentials
        self.trust = trust
        self.commandTimeout = commandTimeout
        self.transfer = transfer
        self.dataTimeout = dataTimeout
        self.handshakeTimeout = handshakeTimeout
    }
}
