// [auth.oauth]: which tokens let somebody in, and from where it is known that they are right. Called by the reader of [auth].

import SlimtaMail

/// `[auth.oauth]`.
package struct OAuthSettings: Sendable, Equatable {
    /// What `algorithms` may have in it (RFC 7518 section 3.1).
    package enum Algorithm: String, Sendable, CaseIterable {
        case rs256 = "RS256"
        case ps256 = "PS256"
        case es256 = "ES256"
        case edDSA = "EdDSA"
    }

    /// Where it is known from that a token is right.
    package enum Source: Sendable, Equatable {
        /// From the issuer's keys in a file: an absolute path.
        case file(String)
        /// From the issuer's keys, which it is asked for.
        case keys(WebAddress)
        /// From the issuer, which is shown each token (RFC 7662) by a client with that secret: an absolute path or
        /// `credential:NAME`.
        case introspection(WebAddress, clientID: String, secretFile: String)
    }

    /// Where tokens are checked.
    package var source: Source
    /// Who must have made a token; nil only where the issuer is shown each.
    package var issuer: String?
    /// Whom a token must be for: one of these.
    package var audience: [String]
    /// Certificates to trust instead of the system's: an absolute path.
    package var trustFile: String?
    /// The claim that is the login.
    package var claim = "email"
    /// The claim with the addresses that the login may send as; nil: the login itself, if that is an address.
    package var sendersClaim: String?
    /// By what tokens may be signed.
    package var algorithms = Algorithm.allCases
    /// What a token must allow: all of these.
    package var requiredScopes: [String] = []
    /// For which clients it may be made; empty: for any.
    package var clients: [String] = []
    /// Whether it must say that it is an access token (RFC 9068 section 2.1).
    package var strictType = false
    /// Whether `email` counts though the issuer has not verified it.
    package var unverifiedEmail = false
}

extension OAuthSettings {
    private static let sources = ["jwks_file", "jwks_url", "introspection_url"]

    /// nil if the table is not there, or has a mistake that leaves nothing to check tokens by; that was reported.
    init?(_ table: Section) {
        guard table.exists else { return nil }
        let source = Self.source(table)
        let isShown = Self.sources.first { table.has($0) } == "introspection_url"
        let issuer =
            isShown
            ? table["issuer"]?.name()
            : table.required("issuer", "what tokens say in \"iss\", such as \"https://login.example.com/realm\"")?
                .name()
        let audience = table.required(
            "audience",
            "whom tokens must be for (\"aud\"), such as \"slimtad\": without it one for any other service would do")?
            .names()
        claim = table["claim"]?.name() ?? claim
        sendersClaim = table["senders_claim"]?.name()
        algorithms =
            table["algorithms"]?.distinctList(of: Setting.words(of: Algorithm.self), mayBeEmpty: false) { $0.choice() }
            ?? algorithms
        requiredScopes = table["required_scope"]?.names() ?? []
        clients = table["clients"]?.names() ?? []
        strictType = table["strict_typ"]?.bool() ?? strictType
        unverifiedEmail = table["unverified_email"]?.bool() ?? unverifiedEmail
        trustFile = table["trust_file"]?.absolutePath()
        table.refuseUnknownKeys()
        Self.checkUse(table, source, [claim, sendersClaim])
        guard let source, let audience else { return nil }
        (self.source, self.issuer, self.audience) = (source, issuer, audience)
    }

    private static func source(_ table: Section) -> Source? {
        let said = sources.filter { table.has($0) }
        if said.isEmpty, table.isSound("jwks_file", "jwks_url", "introspection_url") {
            table.report(
                "jwks_url", "missing", "required is jwks_url, jwks_file or introspection_url: where tokens are checked")
        }
        for key in said.dropFirst() {
            table.report(key, "found with \(said[0])", "allowed is one of \(sources.joined(separator: ", "))")
        }
        let file = table["jwks_file"]?.absolutePath()
        let keys = table["jwks_url"]?.endpoint()
        let introspection = table["introspection_url"]?.endpoint()
        guard said.first == "introspection_url" else {
            for key in ["client_id", "client_secret_file"] where table[key] != nil {
                table.report(key, "found without introspection_url", "allowed is it with introspection_url")
            }
            return file.map { .file($0) } ?? keys.map { .keys($0) }
        }
        let id = table.required("client_id", "who slimtad is for the issuer")?.name()
        let secret = table.required("client_secret_file", "the file with its password there")?.fileReference()
        guard let introspection, let id, let secret else { return nil }
        return .introspection(introspection, clientID: id, secretFile: secret)
    }

    /// Reports what does nothing where it stands.
    private static func checkUse(_ table: Section, _ source: Source?, _ claims: [String?]) {
        let isShown = table.has("introspection_url")
        for key in ["algorithms", "strict_typ"] where isShown && table.has(key) {
            table.report(key, "found with introspection_url", "allowed is it where slimtad checks tokens itself")
        }
        if table.has("unverified_email"), !claims.contains("email"), table.isSound("claim", "senders_claim") {
            table.report("unverified_email", "found with other claims", "allowed is it with claim = \"email\"")
        }
        guard table.has("trust_file") else { return }
        let isSecure =
            switch source {
            case .keys(let url), .introspection(let url, _, _): url.isSecure
            case .file: false
            case nil: true
            }
        if !isSecure {
            table.report("trust_file", "found without TLS", "allowed is it with a URL that has https://")
        }
    }
}

extension Setting {
    /// Text that is compared octet for octet.
    fileprivate func name() -> String? {
        text("text without control characters, at least one character") {
            $0.isEmpty || $0.hasControls ? nil : $0
        }
    }

    fileprivate func names() -> [String]? { oneOrMore(of: "texts") { $0.name() } }

    /// Keys that somebody else could put in their place would be no keys, and secrets that all could read no secrets.
    fileprivate func endpoint() -> WebAddress? {
        text("a URL with https://, or with http:// of this machine (127.0.0.1, [::1], localhost)") {
            WebAddress($0).flatMap { $0.isSecure || $0.isLoopback ? $0 : nil }
        }
    }
}
