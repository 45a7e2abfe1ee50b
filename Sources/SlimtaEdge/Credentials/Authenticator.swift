// Who is it? What the edges ask, SMTP's AUTH and HTTP's Authorization alike: they know neither mechanisms nor back ends. In the
// daemon `BackEnds` answers.

package import SlimtaMail
package import SlimtaSASL
package import SlimtaSMTP

/// Finds out who clients are.
package protocol Authenticator: Sendable {
    /// What a client on this connection can use now, in the order in which it is listed.
    func mechanisms(on facts: AuthenticationFacts) -> [SASLMechanism]

    /// What a client is to be told in place of a greeting; nil: it may talk to us.
    ///
    /// - Parameter isTrusted: as ``AuthenticationFacts/isTrusted``.
    func turnsAway(_ client: ConnectionFacts.Endpoint, isTrusted: Bool) -> Reply?

    /// Why somebody who has logged in may go on no longer; nil: nothing is known of that. Must not wait.
    func obstacle(of user: AuthenticatedUser) -> String?

    /// An exchange that has not begun: its first step is ``SMTPServerMachine/AuthenticationStep/begin(_:initialResponse:listed:)``.
    func exchange(on facts: AuthenticationFacts) -> any AuthenticationExchange
}

extension Authenticator {
    /// Everybody may.
    package func turnsAway(_ client: ConnectionFacts.Endpoint, isTrusted: Bool) -> Reply? { nil }

    /// Nothing is known.
    package func obstacle(of user: AuthenticatedUser) -> String? { nil }
}

/// One try of a client to say who it is.
package protocol AuthenticationExchange: Sendable {
    /// What follows from a step. Calls `completion` once, within the call or later, on any thread; there is no other step
    /// before that.
    func take(
        _ step: SMTPServerMachine.AuthenticationStep,
        completion: @escaping @Sendable (AuthenticationOutcome) -> Void)

    /// The client is gone: nobody needs an answer any more.
    func abandon()
}

/// What is known of a connection on which somebody says who it is.
package struct AuthenticationFacts: Sendable {
    /// The client, our end, TLS, and the proxy between.
    package var connection: ConnectionFacts
    /// The edge's name.
    package var edge: String
    /// The session's name in logs.
    package var session: String
    /// Whom the client's certificate is for, and whether it is good; nil: it has shown none.
    package var certificate: CertificateIdentity?
    /// What binds the exchange to the TLS session, as far as it is needed and can be had.
    package var channelBindings: [ChannelBinding: [UInt8]] = [:]
    /// Whether the client is in one of the edge's trusted networks: it is never turned away for what it guesses.
    package var isTrusted = false
    /// What is known of the login that is being tried there.
    var standing = PasswordCheckMachine.Standing.stranger

    /// Without a certificate and bindings.
    package init(connection: ConnectionFacts, edge: String, session: String) {
        self.connection = connection
        self.edge = edge
        self.session = session
    }

    /// Whom failures are counted for; nil: a UNIX socket.
    var source: ConnectionLimiter.Source? { ConnectionLimiter.Source(connection.peer) }

    /// Whether an exchange can be bound to the TLS session: on TLS 1.3 only, since clients bind to what TLS 1.2 has by a
    /// type that is not ours; and not behind a proxy, which may be where the client's TLS ends.
    package var canBind: Bool { connection.tls?.session.version == "TLSv1.3" && connection.proxy == nil }
}

/// What follows from a step, and what the log tells of it.
package struct AuthenticationOutcome: Equatable, Sendable {
    /// What the client is told.
    package var result: SMTPServerMachine.AuthenticationResult
    /// The name as the client wrote it; nil: it has not come so far.
    package var login: String?
    /// Why it is so, for the operator; nil: it goes without saying.
    package var reason: String?
    /// How many failures of the client's address there are by now; nil: it is none, or none that counts.
    package var failures: Int?

    /// Each is what its property says.
    package init(_ result: SMTPServerMachine.AuthenticationResult, login: String? = nil, reason: String? = nil) {
        self.result = result
        self.login = login
        self.reason = reason
    }
}
