// Who knows the users: what each back end can be asked. A file, PAM, Dovecot and an OAuth issuer are some; AuthenticationDialogue
// asks those that `[auth] backends` names, in that order.

package import NIOCore
package import SlimtaSASL
package import SlimtaSMTP

/// Somebody who knows users. There are two kinds of questions, "is this secret right?" and "what is this user's secret?"; and
/// who knows neither can hold the whole exchange itself (``begin(_:_:)``). What a back end does not serve it need not have:
/// each question has an answer that says so.
///
/// None of its answers may take longer for a name that does not exist, or shorter, than for one that does.
package protocol CredentialBackEnd: Sendable {
    /// As `[auth] backends` has it.
    var name: String { get }

    /// How long an answer may take; what comes later is not waited for, and its task is cancelled.
    var timeout: TimeAmount { get }

    /// What it can serve on a connection, and now. Called on event loops: it must not wait.
    func mechanisms(on facts: AuthenticationFacts) -> Set<SASLMechanism>

    /// Is this password right?
    func check(_ credentials: Credentials, _ facts: AuthenticationFacts) async -> CredentialVerdict

    /// Is this token good, and whose is it? `login` is who the client says it is; nil: it does not say.
    func check(token: SecretOctets, login: String?, _ facts: AuthenticationFacts) async -> CredentialVerdict

    /// Whose is the certificate of this connection? `authorization` is who the client wants to be; nil: it does not say.
    func checkCertificate(authorization: String?, _ facts: AuthenticationFacts) async -> CredentialVerdict

    /// What are this user's keys for SCRAM? Not those of a user who may not log in now: that one is unknown.
    func keys(of login: String, _ hash: SCRAMHash, _ facts: AuthenticationFacts) async -> SecretAnswer<SCRAMKeys>

    /// What is this user's password in clear? As for keys.
    func secret(of login: String, _ facts: AuthenticationFacts) async -> SecretAnswer<SecretOctets>

    /// Is this a user who may not log in? Then nobody else is asked, and it is in by no back end: the name is the same user's
    /// everywhere. Called on event loops: it must not wait.
    func bars(_ login: String) -> Bool

    /// By which names other back ends may know a user of this one: who is barred by any of them is not in.
    func knownNames(of user: AuthenticatedUser) -> [String]

    /// Why a user of this back end, who has logged in, may go on no longer; nil: nothing is known of that. Asked before each
    /// message: it must not wait.
    func obstacle(of user: AuthenticatedUser) -> String?

    /// Begins an exchange of its own; nil: it does not hold this mechanism's. Asked only where nobody answers the questions
    /// above, and for SCRAM where nobody knows the login.
    func begin(_ mechanism: SASLMechanism, _ facts: AuthenticationFacts) -> (any BackEndExchange)?
}

extension CredentialBackEnd {
    /// No password is right.
    package func check(_ credentials: Credentials, _ facts: AuthenticationFacts) async -> CredentialVerdict { .wrong }

    /// No token is good.
    package func check(token: SecretOctets, login: String?, _ facts: AuthenticationFacts) async -> CredentialVerdict {
        .wrong
    }

    /// No certificate is anybody's.
    package func checkCertificate(authorization: String?, _ facts: AuthenticationFacts) async -> CredentialVerdict {
        .wrong
    }

    /// Nobody has keys.
    package func keys(
        of login: String, _ hash: SCRAMHash, _ facts: AuthenticationFacts
    ) async -> SecretAnswer<SCRAMKeys> { .unknown }

    /// Nobody's password is known.
    package func secret(of login: String, _ facts: AuthenticationFacts) async -> SecretAnswer<SecretOctets> { .unknown }

    /// None is.
    package func bars(_ login: String) -> Bool { false }

    /// By the login alone.
    package func knownNames(of user: AuthenticatedUser) -> [String] { [user.login] }

    /// Nothing is known.
    package func obstacle(of user: AuthenticatedUser) -> String? { nil }

    /// None.
    package func begin(_ mechanism: SASLMechanism, _ facts: AuthenticationFacts) -> (any BackEndExchange)? { nil }
}

/// What a back end says of what a client has shown.
package enum CredentialVerdict: Equatable, Sendable {
    /// It is that user's.
    case right(AuthenticatedUser)
    /// It is not, or there is no such user: the next back end is asked.
    case wrong
    /// It is right, and the user may not log in all the same, for this reason, which the client is told. Nobody else is asked.
    case refused(String)
    /// It cannot be found out now, for this reason, which the log tells. The next back end is asked; if that does not know
    /// better, the client is to try again later.
    case unavailable(String)
    /// The same, and the question has had what there are few of, to the end of its time: who asks so again waits. No login is
    /// blamed for it.
    case exhausting(String)

    /// A certificate is good for more than one, and the client has named none.
    static let severalLogins = refused("Your certificate is for several logins: name one of them")
}

/// What a back end knows of a user's secret.
package enum SecretAnswer<Secret: Sendable>: Sendable {
    /// This is it, and this is who has logged in if the client knows it too.
    case known(Secret, AuthenticatedUser)
    /// There is no such user, or none with such a secret: the next back end is asked.
    case unknown
    /// As in ``CredentialVerdict``.
    case unavailable(String)
}

/// An exchange that a back end holds itself.
package protocol BackEndExchange: Sendable {
    /// Takes the client's next response; the first is the initial one, nil if there was none.
    func received(_ response: SecretOctets?) async -> BackEndStep

    /// What the back end's own answer to SCRAM's first message has: a nonce, and the iterations; nil: it has none. Whoever
    /// goes on with invented keys says the same.
    var look: (nonce: String, iterations: Int)? { get }

    /// Where the back end did not know the login, and the exchange went on with invented keys: what is said of the proof,
    /// which has just come. Returns when the back end would have refused one of somebody it knows.
    func refusal() async -> CredentialVerdict

    /// The exchange is over before its end: the client has gone, or given up.
    func cancel()
}

extension BackEndExchange {
    /// None.
    package var look: (nonce: String, iterations: Int)? { nil }

    /// No, at once.
    package func refusal() async -> CredentialVerdict { .wrong }
}

/// What follows from a response in an exchange of a back end.
package enum BackEndStep: Equatable, Sendable {
    /// The client is told this, and answers.
    case challenge([UInt8])
    /// The exchange has ended.
    case verdict(CredentialVerdict)
    /// What the client said cannot be read.
    case malformed
}
