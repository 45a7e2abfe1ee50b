// Why a SASL exchange came to nothing, in the words of logs. Made by the mechanisms.

/// Why an exchange was refused: for the log. A client learns nothing of it but 535. The names are those of RFC 5802
/// section 7, where it has one; `unknown-user` is none of them, for whoever reads the log of guesses.
package enum SASLFault: String, Error {
    /// The message is none of the mechanism's.
    case invalidEncoding = "invalid-encoding"
    /// A mandatory extension (RFC 5802 section 5.1), and there is none.
    case extensionsNotSupported = "extensions-not-supported"
    /// The password was another one, or there is no such user.
    case invalidProof = "invalid-proof"
    /// The client is in another TLS session than we are: somebody stands in between.
    case channelBindingsDontMatch = "channel-bindings-dont-match"
    /// The client says it was offered no channel binding, and it was: somebody took it out of the list.
    case serverDoesSupportChannelBinding = "server-does-support-channel-binding"
    /// The client binds the channel in a mechanism without -PLUS.
    case channelBindingNotSupported = "channel-binding-not-supported"
    /// A type of binding that this connection does not have.
    case unsupportedChannelBindingType = "unsupported-channel-binding-type"
    /// A name that SASLprep or the bounds of logins refuse.
    case invalidUsernameEncoding = "invalid-username-encoding"
    /// No login, or no password.
    case noCredentials = "no-credentials"
    /// Password, token or certificate are not right: what the back end said.
    case invalidCredentials = "invalid-credentials"
    /// The client wants to act for somebody else (the authorization identity of RFC 4422 section 3.4.1).
    case otherIdentity = "other-identity"
}
