// [auth.oauth] as it should be, and as it should not.

import Testing

@testable import SlimtaConfiguration

@Suite struct OAuthTests {
    private static let start = edge + "[auth]\nbackends = [\"oauth\"]\n[auth.oauth]\n"

    private func parse(_ text: String) throws -> Configuration {
        try Configuration.parse(Self.start + text, file: "f")
    }

    @Test func keysOfAnIssuer() throws {
        let oauth = try #require(
            try parse(
                """
                issuer = "https://login.example.com/realm/"
                audience = "slimtad"
                jwks_url = "https://login.example.com/certs"
                """
            ).auth.oauth)
        #expect(oauth.issuer == "https://login.example.com/realm/" && oauth.audience == ["slimtad"])
        #expect(oauth.source == .keys(try #require(WebAddress("https://login.example.com/certs"))))
        #expect(oauth.algorithms == [.rs256, .ps256, .es256, .edDSA] && oauth.claim == "email")
        #expect(oauth.requiredScopes == [] && oauth.clients == [] && oauth.sendersClaim == nil)
        #expect(!oauth.strictType && !oauth.unverifiedEmail && oauth.trustFile == nil)
    }

    @Test func everyKey() throws {
        let oauth = try #require(
            try parse(
                """
                issuer = "i"
                audience = ["a", "b"]
                jwks_file = "/k"
                claim = "upn"
                senders_claim = "email"
                unverified_email = true
                algorithms = ["ES256"]
                required_scope = "smtp"
                clients = ["c", "d"]
                strict_typ = true
                """
            ).auth.oauth)
        #expect(oauth.source == .file("/k") && oauth.audience == ["a", "b"] && oauth.claim == "upn")
        #expect(oauth.sendersClaim == "email" && oauth.unverifiedEmail && oauth.algorithms == [.es256])
        #expect(oauth.requiredScopes == ["smtp"] && oauth.clients == ["c", "d"] && oauth.strictType)
        let shown = try #require(
            try parse(
                """
                audience = "a"
                introspection_url = "https://i.test/x"
                client_id = "me"
                client_secret_file = "credential:oauth"
                trust_file = "/ca.pem"
                """
            ).auth.oauth)
        let url = try #require(WebAddress("https://i.test/x"))
        #expect(shown.source == .introspection(url, clientID: "me", secretFile: "credential:oauth"))
        #expect(shown.issuer == nil && shown.trustFile == "/ca.pem")
    }

    @Test(arguments: [
        // Line 11 is the first here.
        Case(
            "issuer = \"i\"\njwks_url = \"https://i.test/\"",
            """
            10: auth.oauth.audience: missing; required is whom tokens must be for ("aud"), such as "slimtad": without it one \
            for any other service would do
            """),
        Case(
            "audience = \"a\"\njwks_url = \"https://i.test/\"",
            """
            10: auth.oauth.issuer: missing; required is what tokens say in "iss", such as \
            "https://login.example.com/realm"
            """),
        Case(
            "issuer = \"i\"\naudience = []",
            "10: auth.oauth.jwks_url: missing; required is jwks_url, jwks_file or introspection_url: where tokens are checked",
            "12: auth.oauth.audience: found an empty list; allowed is a list of texts, at least one"),
        Case(
            "issuer = \"i\"\naudience = \"a\"\njwks_url = \"http://i.test/\"",
            """
            13: auth.oauth.jwks_url: found "http://i.test/"; allowed is a URL with https://, or with http:// of this machine \
            (127.0.0.1, [::1], localhost)
            """),
        Case(
            "issuer = \"i\"\naudience = \"a\"\njwks_file = \"/k\"\njwks_url = \"https://i.test/\"",
            "14: auth.oauth.jwks_url: found with jwks_file; allowed is one of jwks_file, jwks_url, introspection_url"),
        Case(
            "audience = \"a\"\nintrospection_url = \"https://i.test/\"\nstrict_typ = true",
            "10: auth.oauth.client_id: missing; required is who slimtad is for the issuer",
            "10: auth.oauth.client_secret_file: missing; required is the file with its password there",
            """
            13: auth.oauth.strict_typ: found with introspection_url; allowed is it where slimtad checks tokens itself
            """),
        Case(
            "issuer = \"i\"\naudience = \"a\"\njwks_file = \"/k\"\nclient_id = \"c\"\nalgorithms = [\"HS256\"]\ntrust_file = \"/c\"",
            "14: auth.oauth.client_id: found without introspection_url; allowed is it with introspection_url",
            """
            15: auth.oauth.algorithms[0]: found "HS256"; allowed is "RS256", "PS256", "ES256", "EdDSA"; did you mean "RS256"?
            """,
            "16: auth.oauth.trust_file: found without TLS; allowed is it with a URL that has https://"),
        Case(
            "issuer = \"i\"\naudience = \"a\"\njwks_file = \"/k\"\nclaim = \"sub\"\nunverified_email = true",
            "15: auth.oauth.unverified_email: found with other claims; allowed is it with claim = \"email\""),
    ])
    func wrong(_ given: Case) { #expect(mistakes(Self.start + given.text) == given.errors) }

    @Test func oneWithoutTheOther() throws {
        #expect(
            mistakes(edge + "[auth]\nbackends = [\"file\", \"oauth\"]")
                == ["8: auth.oauth: missing; required is the table [auth.oauth] with the back end of that name"])
        let table = "[auth.oauth]\nissuer = \"i\"\naudience = \"a\"\njwks_file = \"/k\""
        let login = edge.replacing("auth = \"none\"", with: "auth = \"required\"\nplaintext_auth = true")
        for (edges, path) in [(login, "auth.oauth"), (edge, "auth")] {
            #expect(try Configuration.parse(edges + table, file: "f").warnings.map(\.keyPath) == [path])
        }
    }
}
