// Why a token is refused: told to the log, never to the client, who could try out what we look at. Thrown by the checks of
// this folder, in the order of the cases.

/// What is wrong with a token. The raw value is what the log has.
package enum TokenFault: String, Error, CaseIterable, Hashable, Sendable {
    /// More octets than any honest token has.
    case tooLong = "too long"
    /// Not three parts of base64url without padding, of which two are JSON objects with no name twice (RFC 7519 section
    /// 7.2); or, where tokens are shown to the issuer, octets that no token has (RFC 6750 section 2.1).
    case malformed = "malformed"
    /// Signed in a way that is not configured, by HMAC or not at all.
    case algorithm = "algorithm"
    /// Has extensions that must be understood (RFC 7515 section 4.1.11).
    case critical = "critical extension"
    /// Names a key that the issuer does not have, or one for other signatures; or names none, and several would do.
    case key = "key"
    /// Not signed by that key.
    case signature = "signature"
    /// `typ` is of another kind of token.
    case type = "type"
    /// The issuer says that it is not valid, or no more (RFC 7662 section 2.2).
    case inactive = "inactive"
    /// `iss` is missing or another.
    case issuer = "issuer"
    /// `aud` is missing, or has none of ours in it.
    case audience = "audience"
    /// `exp` is missing, no number, or over.
    case expired = "expired"
    /// `nbf` or `iat` is no number, or in the future.
    case early = "not valid yet"
    /// A scope is missing that is required.
    case scope = "scope"
    /// Made for a client that is none of those that are allowed.
    case client = "client"
    /// The claim that is the login is missing, empty or no string.
    case login = "no login"
    /// `email` is the login, and the issuer has not verified it.
    case unverified = "email not verified"
    /// The client said that it is somebody else.
    case otherLogin = "another login"
}
