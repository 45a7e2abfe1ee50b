// What an edge that speaks HTTP needs of the configuration. The composition root makes one at start and at each reload.

package import NIOCore
package import SlimtaMail
package import SlimtaNet
internal import SlimtaSMTP
package import SlimtaTLS

/// How a client says who it is.
package enum HTTPAuthenticator: Sendable {
    /// It does not: what it may send is a matter of where it is.
    case none
    /// By a login and its password (RFC 7617), of which the submission's credential back end knows.
    case credentials
    /// The kernel says whose the process is at the other end of a UNIX socket; this says what that user may, or why it may
    /// not.
    case process(@Sendable (HTTPPeer.Process) async -> SubmissionLogin)
}

/// What the connections and messages of an edge are like. A connection keeps what concerns itself; a request is answered by
/// what holds when it comes.
package struct HTTPEdgeSettings: EdgeConnectionSettings {
    /// What holds for each message.
    package var submission: SubmissionSettings
    /// nil: no TLS.
    package var tls: TLSServerContext?
    /// How a client says who it is.
    package var authenticator: HTTPAuthenticator
    /// What can be asked for; of several that answer a path the first one does.
    package var resources: [any HTTPResource]
    /// From the beginning of a connection, or the last answer, to the end of a request's head.
    package var commandTimeout: TimeAmount
    /// How slow the content of a message may come.
    package var transfer: TransferWatch.Limits
    /// For the whole content of a message, however fast it comes; nil: as long as it takes.
    package var dataTimeout: TimeAmount?
    /// For the TLS handshake, and before it for a proxy's header.
    package var handshakeTimeout: TimeAmount
    /// How many requests a connection may make of which none has a message taken.
    package var commands = 100
    /// How many refusals in a row it may get.
    package var errors = 10
    /// The proxies: who connects from these networks must begin with a PROXY header.
    package var proxies: [NetworkRange] = []

    /// What it is called beside its addresses and the host's name, by clients that are let in without a login.
    package var serverNames: [String] = []

    /// For so many recipients there is room in the fields of a request: what a stranger may have us keep of a head is
    /// bounded.
    static let recipientsInFields = 10_000

    /// The edge's name, for logs.
    package var name: String { submission.name }

    /// The defaults of times are those of `[limits]`.
    package init(
        _ submission: SubmissionSettings, tls: TLSServerContext?, authenticator: HTTPAuthenticator,
        resources: [any HTTPResource],
        commandTimeout: TimeAmount = .minutes(5),
        transfer: TransferWatch.Limits = .init(leastRate: 1024, stallTimeout: .minutes(3)),
        dataTimeout: TimeAmount? = nil, handshakeTimeout: TimeAmount = .seconds(30)
    ) {
        self.submission = submission
        self.tls = tls
        self.authenticator = authenticator
        self.resources = resources
        self.commandTimeout = commandTimeout
        self.transfer = transfer
        self.dataTimeout = dataTimeout
        self.handshakeTimeout = handshakeTimeout
    }

    func turnsAway(_ client: ConnectionFacts.Endpoint) -> Reply? {
        submission.credentials?.turnsAway(client, isTrusted: submission.trust.allows(client))
    }

    /// What a connection may take. How large a message may be is told of each by the submission.
    var limits: HTTPLimits {
        var limits = HTTPLimits()
        limits.field = 16 << 10
        // Each recipient may have a field of its own, which has some seventy octets: twice that is room for all but the
        // longest addresses.
        let recipients = min(submission.rules.recipients, Self.recipientsInFields)
        limits.fields = 200 + recipients
        limits.head = (64 << 10) + 160 * recipients
        limits.body = .max
        limits.headTimeout = commandTimeout
        limits.bodyTimeout = dataTimeout
        limits.transfer = transfer
        limits.handshakeTimeout = handshakeTimeout
        (limits.commands, limits.errors) = (commands, errors)
        limits.pause = idlePauseTime
        return limits
    }
}
