// The client's side of a SASL exchange (RFC 4422 section 3), whatever its mechanism: a value without I/O, run by SMTPClientMachine.

package import SlimtaMail

/// One exchange. What the mechanism says is octets: base64 and `AUTH` are the protocol's.
package struct SASLClient: Sendable {
    /// Who we are for a server. Its description shows no secret.
    package struct Credentials: Hashable, Sendable, CustomStringConvertible, CustomReflectable {
        /// What proves it.
        package enum Secret: Hashable, Sendable {
            case password(String)
            /// An access token (RFC 6750).
            case token(String)
            /// The certificate of the TLS session.
            case certificate
        }

        /// The authentication identity; the authorization identity is left to the server (RFC 4422 section 3.4.1).
        package let username: String
        /// In clear; not for logs.
        package let secret: Secret

        /// What the configuration has for a host.
        package init(username: String, password: String) { self.init(username: username, .password(password)) }

        /// The same with any secret.
        package init(username: String, _ secret: Secret) {
            self.username = username
            self.secret = secret
        }

        /// The name alone: these go into messages.
        package var description: String { username }
        /// The name alone.
        package var customMirror: Mirror { Mirror(self, children: ["username": username]) }
    }

    /// What is spoken.
    package let mechanism: SASLMechanism
    private var exchange: any ClientExchange

    /// Chooses the first of the mechanisms that a server offers, in the order of ``SASLMechanism``; nil if it offers none that
    /// takes what we have.
    ///
    /// - Parameters:
    ///   - bindings: the octets that bind an exchange to this TLS session; empty: we bind none.
    ///   - server: nil: it is not told whom we take it for.
    package init?(
        offered: Set<SASLMechanism>, credentials: Credentials, bindings: [ChannelBinding: [UInt8]] = [:],
        server: SASLPeer? = nil
    ) {
        self.init(
            offered: offered, credentials: credentials, bindings: bindings, server: server, nonce: RandomNonce.make())
    }

    /// With a nonce of one's own: for examples.
    init?(
        offered: Set<SASLMechanism>, credentials: Credentials, bindings: [ChannelBinding: [UInt8]],
        server: SASLPeer? = nil, nonce: String
    ) {
        func canUse(_ mechanism: SASLMechanism) -> Bool {
            switch (credentials.secret, mechanism) {
            case (.password, _) where mechanism.scram != nil: !mechanism.bindsChannel || !bindings.isEmpty
            case (.password, .plain), (.password, .login), (.password, .cramMD5): true
            case (.token, .oauthBearer), (.token, .xoauth2), (.certificate, .external): true
            default: false
            }
        }
        guard let mechanism = offered.filter(canUse).min() else { return nil }
        self.mechanism = mechanism
        let name = credentials.username
        switch (credentials.secret, mechanism) {
        case (.password(let password), .plain): exchange = PlainClient(username: name, password: password)
        case (.password(let password), .login): exchange = LoginClient(username: name, password: password)
        case (.password(let password), .cramMD5): exchange = CRAMMD5Client(username: name, password: password)
        case (.password(let password), _):
            let offersBinding = offered.contains(where: \.bindsChannel)
            exchange = SCRAMClient(
                mechanism, username: name, password: password, bindings: bindings, offersBinding: offersBinding,
                nonce: nonce)
        case (.token(let token), _):
            exchange = OAuthClient(
                mechanism == .xoauth2 ? .xoauth2 : .oauthBearer, username: name, token: token, server: server)
        case (.certificate, _): exchange = ExternalClient(username: name)
        }
    }

    /// The initial response; nil: the server speaks first.
    package mutating func begin() -> [UInt8]? { exchange.begin() }

    /// The response to a challenge; nil: what the server says is no such challenge, or is not to be believed. The exchange
    /// is then to be broken off, and has failed.
    package mutating func respond(to challenge: [UInt8]) -> [UInt8]? { exchange.respond(to: challenge) }

    /// Whether the server's success may be believed: SCRAM's proves that it knows the user.
    package var isProven: Bool { exchange.isProven }

    /// Whether a response may take as long as a server wants it to: SCRAM derives a key. Not for an event loop.
    package var isSlow: Bool { mechanism.scram != nil }

    /// What the server has said against the token; nil: nothing.
    package var tokenRefusal: TokenRefusal? { exchange.tokenRefusal }
}
