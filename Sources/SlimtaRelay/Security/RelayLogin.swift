// Who we are for the host of a relay. Made by the composition root.

package import SlimtaSASL

/// As whom a relay logs in.
package enum RelayLogin: Hashable, Sendable {
    /// With what is always the same: a password, or the certificate of the TLS session.
    case credentials(SASLClient.Credentials)
    /// With tokens, each good for a while.
    case tokens(TokenSource)

    /// Of tokens the name alone.
    var credentials: SASLClient.Credentials {
        switch self {
        case .credentials(let credentials): credentials
        case .tokens(let source): SASLClient.Credentials(username: source.settings.username, .token(""))
        }
    }

    var tokens: TokenSource? {
        if case .tokens(let source) = self { source } else { nil }
    }
}
