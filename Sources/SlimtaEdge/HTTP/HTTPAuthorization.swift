// The Authorization field: which schemes there are, and what they say. HTTPExchange asks the credential back end about it.

internal import SlimtaMail
internal import SlimtaSASL

/// What clients say of themselves in a field. Another scheme is another case here, its challenge, and its back end.
enum HTTPAuthorization {
    /// What WWW-Authenticate has for whoever is to say who it is (RFC 7617 section 2 and 2.1).
    static let challenge = "Basic realm=\"slimtad\", charset=\"UTF-8\""

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
