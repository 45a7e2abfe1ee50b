// What a client of SASL knows of its server, and what a server has said against a token. Values of SASLClient.

/// Whom an exchange is with, as we have connected to it: OAUTHBEARER tells (RFC 7628 section 3.1).
package struct SASLPeer: Hashable, Sendable {
    /// A name or an IP address.
    package var host: String
    /// The TCP port.
    package var port: Int

    /// With the meaning of its properties.
    package init(host: String, port: Int) {
        self.host = host
        self.port = port
    }
}

/// What a server has said against our token (RFC 7628 section 3.2.2, and what Google says with XOAUTH2).
package struct TokenRefusal: Hashable, Sendable {
    /// JSON, as visible text of a length that logs take. There is no token in it.
    package let explanation: String
    /// Another token would be refused as well: the user or the scope is wrong.
    package let isFinal: Bool
}
