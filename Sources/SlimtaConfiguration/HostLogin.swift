// Who a relay is for its host. Part of Configuration.Relay.

/// How we say who we are to a host (RFC 4954 section 4).
package struct HostLogin: Sendable, Equatable {
    /// What proves it.
    package enum Proof: Sendable, Equatable {
        /// `password_file`: an absolute path or `credential:NAME`. The password is the content without its line's end.
        case password(file: String)
        /// Tokens that somebody else gives.
        case tokens(RelayTokens)
        /// `client_certificate`.
        case certificate
    }

    /// The name that is sent.
    package var username: String
    /// How it is proven.
    package var proof: Proof

    /// `password_file`.
    package var passwordFile: String? {
        if case .password(let file) = proof { file } else { nil }
    }

    /// Where tokens are from.
    package var tokens: RelayTokens? {
        if case .tokens(let tokens) = proof { tokens } else { nil }
    }
}

/// An identity at a token endpoint (RFC 6749).
package struct RelayTokens: Sendable, Equatable {
    /// What `grant` may say.
    package enum GrantName: String, Sendable, CaseIterable {
        case refreshToken = "refresh_token"
        case clientCredentials = "client_credentials"
        case assertion = "jwt_bearer"
    }

    /// What a token is asked for with. A file is an absolute path or `credential:NAME`.
    package enum Grant: Sendable, Equatable {
        case refreshToken(file: String)
        case clientCredentials
        case assertion(issuer: String, subject: String?, audience: String?)
    }

    /// `client_secret_file` or `client_key_file`: an absolute path or `credential:NAME`.
    package enum Proof: Sendable, Equatable {
        case none
        case secret(file: String)
        case key(file: String)
    }

    /// `token_endpoint`: always https.
    package var endpoint: WebAddress
    /// `client_id`; empty where it is not told.
    package var clientID: String
    /// How we prove who we are there.
    package var proof: Proof
    /// What a token is asked for with.
    package var grant: Grant
    /// `scope`; nil: it is not told.
    package var scope: String?
    /// How long before its end a token is no longer used.
    package var margin: Duration
}
