// What a SASL exchange has to know of the connection it is on and of the house it is in. Made by the edge for each AUTH.

package import SlimtaMail

/// What is the same for all exchanges of one connection.
package struct SASLContext: Sendable {
    /// What the client was shown in the last EHLO: by that a downgrade is noticed (RFC 5802 section 6), and not by what is
    /// configured.
    package var listed: Set<SASLMechanism>
    /// The octets that bind an exchange to this TLS session, by type; empty: in clear, or TLS ends before us.
    package var bindings: [ChannelBinding: [UInt8]]
    /// What the keys of users that do not exist are derived from: the same for as long as the house stands, and on all
    /// machines that share its users.
    package var inventing: SecretOctets
    /// The iterations that such a user has: those that new users get.
    package var iterations: Int
    /// Whether logins that differ by case only are the same: then those that do not exist have to be, too.
    package var foldsCase: Bool
    /// Our name: a part of CRAM-MD5's challenge (RFC 2195 section 2).
    package var hostname: String
    /// What a client is told whose token is not good.
    package var tokenHint: TokenHint

    /// What clients of OAuth are told where to get a token, and for what (RFC 7628 section 3.2.2).
    package struct TokenHint: Hashable, Sendable {
        /// The scope that a token needs; nil: none is named.
        package var scope: String?
        /// The URL of the issuer's OpenID configuration; nil: none is named.
        package var configuration: String?

        /// Each is what its property says.
        package init(scope: String? = nil, configuration: String? = nil) {
            self.scope = scope
            self.configuration = configuration
        }
    }

    /// Each is what its property says.
    package init(
        listed: Set<SASLMechanism>, bindings: [ChannelBinding: [UInt8]] = [:], inventing: SecretOctets,
        iterations: Int = SCRAMKeys.defaultIterations, foldsCase: Bool = false, hostname: String,
        tokenHint: TokenHint = TokenHint()
    ) {
        self.listed = listed
        self.bindings = bindings
        self.inventing = inventing
        self.iterations = iterations
        self.foldsCase = foldsCase
        self.hostname = hostname
        self.tokenHint = tokenHint
    }
}
