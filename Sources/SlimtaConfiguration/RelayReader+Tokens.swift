// `auth = "oauth2"` of [relay] and [[route]]: where tokens for the host are from. Used by LoginKeys.

import SlimtaMail

/// What a table says of tokens, or what it has inherited.
struct TokenKeys {
    /// What stands in it.
    static let names = [
        "token_endpoint", "client_id", "client_secret_file", "client_key_file", "refresh_token_file", "grant", "issuer",
        "subject", "audience", "scope", "refresh_margin",
    ]

    private var endpoint: WebAddress?
    private var clientID: String?
    private var secretFile: String?
    private var keyFile: String?
    private var refreshTokenFile: String?
    private var grant: RelayTokens.GrantName?
    private var issuer: String?
    private var subject: String?
    private var audience: String?
    private var scope: String?
    private var margin: Duration?

    init(_ table: Section) {
        func text(_ key: String) -> String? {
            table[key]?.text("up to 1000 characters without control characters") { text in
                (1...1000).contains(text.utf8.count) && text.hasNoASCIIControl ? text : nil
            }
        }
        endpoint = table["token_endpoint"]?.text("a URL such as \"https://login.example.com/token\"") { text in
            WebAddress(text).flatMap { $0.isSecure ? $0 : nil }
        }
        clientID = text("client_id")
        secretFile = table["client_secret_file"]?.fileReference()
        keyFile = table["client_key_file"]?.fileReference()
        refreshTokenFile = table["refresh_token_file"]?.fileReference()
        grant = table["grant"]?.choice()
        (issuer, subject, audience, scope) = (text("issuer"), text("subject"), text("audience"), text("scope"))
        margin = table["refresh_margin"]?.duration(.zero ... .hours(12))
    }

    /// Reports what is missing, and what does nothing; nil: that leaves no tokens.
    func tokens(_ table: Section) -> RelayTokens? {
        guard Self.names.allSatisfy({ table.isSound($0) }) else { return nil }
        func missing(_ key: String, _ what: String) -> RelayTokens? {
            table.report(key, "missing", "required with auth = \"oauth2\" is \(what)")
            return nil
        }
        guard let endpoint else {
            return missing("token_endpoint", "a URL such as \"https://login.example.com/token\"")
        }
        let name = grant ?? .refreshToken
        if secretFile != nil, keyFile != nil {
            table.report("client_key_file", "found with client_secret_file", "allowed is one of them")
        }
        refuse(table, "refresh_token_file", refreshTokenFile, unless: name == .refreshToken, "refresh_token")
        for (key, value) in [("issuer", issuer), ("subject", subject), ("audience", audience)] {
            refuse(table, key, value, unless: name == .assertion, "jwt_bearer")
        }
        let made: RelayTokens.Grant
        switch name {
        case .refreshToken:
            guard let refreshTokenFile else {
                return missing("refresh_token_file", "a file with a refresh token, or another grant")
            }
            made = .refreshToken(file: refreshTokenFile)
        case .clientCredentials:
            guard secretFile != nil || keyFile != nil else {
                return missing("client_secret_file", "it or client_key_file with grant = \"client_credentials\"")
            }
            made = .clientCredentials
        case .assertion:
            guard let issuer else { return missing("issuer", "who makes the statements of grant = \"jwt_bearer\"") }
            guard keyFile != nil else { return missing("client_key_file", "the key that signs them") }
            made = .assertion(issuer: issuer, subject: subject, audience: audience)
        }
        guard clientID != nil || name == .assertion else {
            return missing("client_id", "what the endpoint knows us by")
        }
        return RelayTokens(
            endpoint: endpoint, clientID: clientID ?? "",
            proof: secretFile.map { .secret(file: $0) } ?? keyFile.map { .key(file: $0) } ?? .none, grant: made,
            scope: scope, margin: margin ?? .seconds(600))
    }

    private func refuse(_ table: Section, _ key: String, _ value: String?, unless isRight: Bool, _ grant: String) {
        guard value != nil, !isRight else { return }
        table.report(key, "found with another grant", "allowed is it with grant = \"\(grant)\"")
    }
}
