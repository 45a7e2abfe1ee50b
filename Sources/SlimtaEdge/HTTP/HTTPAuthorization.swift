// The Authorization field: which schemes there are, and what they say. HTTPExchange asks the credential back end about it.

internal import SlimtaMail
internal import SlimtaSASL

/// What clients say of themselves in a field. Another scheme is another case here, its challenge, and its back end.
enum HTTPAuthorization {
    /// What WWW-Authenticate has for whoever is to say who it is (RFC 7617 section 2 and 2.1).
    static let challenge = "Basic realm=\"slimtad\", charset=\"UTF-8\""

    /// What WWW-Authenticate has for whoever has said this: a token that is refused is answered as such (RFC 6750 section 3.1).
    static func challenge(to fields: [String]) -> String {
        fields.first?.lowercased().hasPrefix("bearer ") == true
            ? "Bearer realm=\"slimtad\", error=\"invalid_token\"" : challenge
    }

    /// What a field says, as a mechanism's one response; nil if nobody can read it.
    static func response(_ field: String) -> (mechanism: SASLMechanism, response: SecretOctets)? {
        plain(field).map { (.plain, $0) } ?? bearer(field).map { (.oauthBearer, $0) }
    }

    /// What `Bearer` says (RFC 6750 section 2.1) as OAUTHBEARER would (RFC 7628 section 3.1); nil if it is another scheme.
    private static func bearer(_ field: String) -> SecretOctets? {
        let parts = field.split(separator: " ", maxSplits: 1)
        guard parts.count == 2, parts[0].lowercased() == "bearer" else { return nil }
        var octets = Array("n,,\u{1}auth=Bearer ".utf8) + Array(parts[1].utf8.drop { $0 == 0x20 }) + [1, 1]
        defer { octets.wipe() }
        return SecretOctets(octets)
    }

    /// What `Basic` says as SASL PLAIN would (RFC 4616); nil if it is another scheme, or there is no colon.
    static func plain(_ field: String) -> SecretOctets? {
        let parts = field.split(separator: " ", maxSplits: 1)
        guard parts.count == 2, parts[0].lowercased() == "basic" else { return nil }
        let token = parts[1].utf8.drop { $0 == 0x20 }
        guard token.count <= 4096, var octets = Base64.decode(token) else { return nil }
        defer { octets.wipe() }
        guard let colon = octets.firstIndex(of: UInt8(ascii: ":")) else { return nil }
        // Behind an authorization identity that is empty.
        octets[colon] = 0
        octets.insert(0, at: 0)
        return SecretOctets(octets)
    }
}
