// What an issuer says of a token that it is shown (RFC 7662 section 2.2). Asked by TokenVerifier, remembered by
// IntrospectionCache.

internal import NIOCore
internal import SlimtaMail
internal import SlimtaNet

/// An answer of an introspection endpoint.
enum IntrospectionAnswer: Hashable, Sendable {
    /// Who the token is for.
    case login(TokenLogin)
    /// Nobody gets in with it.
    case refused(TokenFault)
    /// The endpoint did not say: why. That is no fault of the token, least of all where it does not take *our* login.
    case unavailable(String)

    /// Reads what came.
    init(status: Int, body: some Collection<UInt8>, _ rules: TokenRules, now: Timestamp) {
        switch status {
        case 200: self = Self.read(body, rules, now)
        case 401, 403: self = .unavailable("it refuses client_id and client_secret_file (\(status))")
        default: self = .unavailable("it answers \(status)")
        }
    }

    private static func read(_ body: some Collection<UInt8>, _ rules: TokenRules, _ now: Timestamp) -> Self {
        let claims: JSON
        do { claims = try JSON(parsing: body, depth: 16) } catch { return .unavailable("\(error)") }
        guard case .bool(let isActive) = claims["active"] else {
            return .unavailable("no introspection: it has no \"active\"")
        }
        guard isActive else { return .refused(.inactive) }
        do throws(TokenFault) { return .login(try rules.login(claims, now: now)) } catch { return .refused(error) }
    }

    /// How long it holds: at most a minute, and never beyond the token's end.
    func lifetime(now: Timestamp) -> Duration {
        switch self {
        case .login(let login): max(.zero, min(.seconds(60), login.end - now))
        case .refused: .seconds(10)
        case .unavailable: .zero
        }
    }

    /// Whether octets can be a token at all (RFC 6750 section 2.1).
    static func isToken(_ octets: some Collection<UInt8>) -> Bool {
        !octets.isEmpty && octets.allSatisfy { $0.isASCIILetterOrDigit || "-._~+/=".utf8.contains($0) }
    }

    /// The form that a token is shown in (RFC 7662 section 2.1).
    static func form(_ token: some Collection<UInt8>) -> ByteBuffer {
        ByteBuffer(string: "token_type_hint=access_token&token=" + formEncoded(token))
    }

    /// The value of an Authorization field for a client (RFC 6749 section 2.3.1): both parts are encoded as in a form
    /// before they are as in RFC 7617.
    static func authorization(id: String, secret: String) -> String {
        "Basic " + Base64.encode((formEncoded(id.utf8) + ":" + formEncoded(secret.utf8)).utf8)
    }

    /// application/x-www-form-urlencoded.
    private static func formEncoded(_ octets: some Collection<UInt8>) -> String {
        octets.percentEncoded(except: "-._*")
    }
}
