// [relay] and [[route]]: who we are for a host, by passwords, tokens and certificates.

import SlimtaMail
import Testing

@testable import SlimtaConfiguration

struct RelayLoginTests {
    private static let smart = "[relay]\ntype = \"smtp\"\nhost = \"smart.example:587\"\nusername = \"u\"\n"
    private static let tokens =
        smart + "auth = \"oauth2\"\ntoken_endpoint = \"https://login.example/token?v=2\"\nclient_id = \"me\"\n"

    private static func relay(_ text: String) throws -> Configuration.Relay {
        try Configuration.parse(edge + text, file: "f").relay
    }

    private static func mistakes(_ text: String) -> [String] {
        do throws(ConfigurationErrors) {
            _ = try Configuration.parse(edge + text, file: "f")
            return []
        } catch {
            return error.errors.map { "\($0.keyPath): \($0.found); \($0.allowed)" }
        }
    }

    @Test func refreshTokens() throws {
        let relay = try Self.relay(
            Self.tokens
                + "refresh_token_file = \"/r\"\nscope = \"mail\"\nclient_secret_file = \"credential:s\"\nrefresh_margin = \"5s\"\n"
        )
        let tokens = try #require(relay.type.login?.tokens)
        #expect(relay.type.login?.username == "u" && relay.type.login?.passwordFile == nil)
        #expect(tokens.endpoint.description == "https://login.example:443/token?v=2")
        #expect(tokens.clientID == "me" && tokens.scope == "mail" && tokens.margin == .seconds(5))
        #expect(tokens.grant == .refreshToken(file: "/r") && tokens.proof == .secret(file: "credential:s"))
    }

    @Test func otherGrants() throws {
        var tokens = try Self.relay(Self.tokens + "grant = \"client_credentials\"\nclient_key_file = \"/k\"\n").type
            .login?
            .tokens
        #expect(tokens?.grant == .clientCredentials && tokens?.proof == .key(file: "/k"))
        #expect(tokens?.margin == .seconds(600) && tokens?.scope == nil)
        tokens =
            try Self.relay(
                Self.smart
                    + "auth = \"oauth2\"\ntoken_endpoint = \"https://login.example/token\"\ngrant = \"jwt_bearer\"\n"
                    + "issuer = \"i\"\nsubject = \"s\"\naudience = \"a\"\nclient_key_file = \"/k\"\n"
            ).type.login?.tokens
        #expect(tokens?.grant == .assertion(issuer: "i", subject: "s", audience: "a") && tokens?.clientID == "")
    }

    /// A login is for the host that it was given with.
    @Test func inheritance() throws {
        let configuration = try Configuration.parse(
            edge + Self.tokens + "refresh_token_file = \"/r\"\nclient_certificate = \"/c\"\nclient_key = \"/k\"\n"
                + "[[route]]\ndomains = [\"a.example\"]\nconnections = 3\n"
                + "[[route]]\ndomains = [\"b.example\"]\nhost = \"other.example:587\"\n"
                + "[[route]]\ndomains = [\"c.example\"]\nusername = \"v\"\npassword_file = \"/p\"\n", file: "f")
        func relay(_ domain: String) -> Configuration.Relay { configuration.relay(for: domain) }
        #expect(relay("a.example").type.login == configuration.relay.type.login)
        #expect(relay("b.example").type.login == nil)
        #expect(
            relay("c.example").type.login == Configuration.Relay.Login(username: "v", proof: .password(file: "/p")))
        for domain in ["a.example", "b.example", "c.example"] {
            #expect(relay(domain).clientCertificate == .init(certificate: "/c", key: "/k"))
        }
    }

    @Test func certificates() throws {
        let pair = "client_certificate = \"/c\"\nclient_key = \"credential:k\"\n"
        var relay = try Self.relay(Self.smart + pair)
        #expect(relay.type.login == Configuration.Relay.Login(username: "u", proof: .certificate))
        #expect(relay.clientCertificate == .init(certificate: "/c", key: "credential:k"))
        relay = try Self.relay(Self.smart + pair + "password_file = \"/p\"\n")
        #expect(relay.type.login?.proof == .password(file: "/p"))
        relay = try Self.relay("[relay]\n" + pair)
        #expect(relay.type == .mx && relay.clientCertificate != nil)
    }

    @Test(arguments: [
        (
            smart + "auth = \"oauth2\"\n",
            [
                "relay.token_endpoint: missing; required with auth = \"oauth2\" is a URL such as \"https://login.example.com/token\""
            ]
        ),
        (
            tokens,
            [
                "relay.refresh_token_file: missing; required with auth = \"oauth2\" is a file with a refresh token, or another grant"
            ]
        ),
        (
            tokens + "grant = \"client_credentials\"\nrefresh_token_file = \"/r\"\n",
            [
                "relay.refresh_token_file: found with another grant; allowed is it with grant = \"refresh_token\"",
                "relay.client_secret_file: missing; required with auth = \"oauth2\" is it or client_key_file with grant = \"client_credentials\"",
            ]
        ),
        (
            tokens + "grant = \"jwt_bearer\"\nissuer = \"i\"\n",
            ["relay.client_key_file: missing; required with auth = \"oauth2\" is the key that signs them"]
        ),
        (
            tokens
                + "refresh_token_file = \"/r\"\nclient_secret_file = \"/s\"\nclient_key_file = \"/k\"\nissuer = \"i\"\n",
            [
                "relay.client_key_file: found with client_secret_file; allowed is one of them",
                "relay.issuer: found with another grant; allowed is it with grant = \"jwt_bearer\"",
            ]
        ),
        (
            tokens + "refresh_token_file = \"/r\"\npassword_file = \"/p\"\n",
            ["relay.password_file: found with auth = \"oauth2\"; allowed is it with auth = \"password\""]
        ),
        (
            smart + "password_file = \"/p\"\nscope = \"x\"\n",
            ["relay.scope: found without auth = \"oauth2\"; allowed is it with auth = \"oauth2\""]
        ),
        (
            smart + "auth = \"oauth2\"\ntoken_endpoint = \"http://login.example/\"\n",
            [
                "relay.token_endpoint: found \"http://login.example/\"; allowed is a URL such as \"https://login.example.com/token\""
            ]
        ),
        (
            "[relay]\nauth = \"oauth2\"\nclient_key = \"/k\"\n",
            [
                "relay.auth: found with type \"mx\"; allowed is it with type \"smtp\", \"lmtp\" only",
                "relay.client_key: found without client_certificate; allowed are both or none",
            ]
        ),
        (
            "[relay]\nclient_certificate = \"/c\"\nclient_key = \"/k\"\ntls = \"none\"\n",
            ["relay.tls: found client_certificate with tls = \"none\"; allowed is it with TLS"]
        ),
    ])
    func whatIsWrong(_ text: String, _ expected: [String]) {
        #expect(Set(Self.mistakes(text)) == Set(expected))
    }
}
