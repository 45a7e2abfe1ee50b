// The back end "oauth": logins by token, for the mechanisms of OAuth and for HTTP's Bearer. Made by the composition root.

package import Logging
package import NIOCore
package import SlimtaSASL
internal import SlimtaSMTP

/// Users of an issuer.
package final class OAuthBackEnd: CredentialBackEnd {
    /// As `[auth] backends` has it.
    package let name = "oauth"
    /// The issuer is given five seconds; keys may have to be fetched once more behind a fetch that runs already.
    package let timeout = TimeAmount.seconds(12)

    /// What checks tokens.
    package let verifier: TokenVerifier
    private let logger: Logger
    /// Ends the verifier when nobody has this any more.
    private let lease: any Sendable

    /// - Parameter lease: what ends `verifier`; it is kept for as long as a session has the back end.
    package init(_ verifier: TokenVerifier, logger: Logger, keeping lease: any Sendable) {
        (self.verifier, self.logger, self.lease) = (verifier, logger, lease)
    }

    /// Those of tokens.
    package func mechanisms(on facts: AuthenticationFacts) -> Set<SASLMechanism> { [.oauthBearer, .xoauth2] }

    /// Whose the token is. The log says why one is refused: nobody else is told.
    package func check(token: SecretOctets, login: String?, _ facts: AuthenticationFacts) async -> CredentialVerdict {
        switch await verifier.verdict(on: token, login: login ?? "") {
        case .right(let login):
            return .right(AuthenticatedUser(login: login.name, senders: login.senders))
        case .wrong(let fault):
            logger.info(
                "token refused",
                metadata: [
                    "reason": "\(fault.rawValue)", "login": "\(login ?? "")", "edge": "\(facts.edge)",
                    "session": "\(facts.session)",
                ])
            return .wrong
        case .unavailable(let why): return .unavailable("the OAuth issuer: \(why)")
        }
    }
}
