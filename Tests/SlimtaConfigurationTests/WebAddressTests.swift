// URLs as slimta.conf has them, and relays over HTTP that are made of tables.

import Testing

@testable import SlimtaConfiguration

@Suite struct WebAddressTests {
    @Test(arguments: [
        ("https://a.example", "https://a.example:443/"),
        ("HTTP://A.Example:8025/x?y=%20z", "http://a.example:8025/x?y=%20z"),
        ("http://127.0.0.1/", "http://127.0.0.1:80/"), ("https://[2001:DB8::1]:8443/a", "https://[2001:db8::1]:8443/a"),
        ("https://a.example?x", "https://a.example:443/?x"), ("https://a.example/a@b:c", "https://a.example:443/a@b:c"),
        ("https://m\u{FC}nchen.example/", "https://xn--mnchen-3ya.example:443/"),
    ])
    func addresses(text: String, said: String) { #expect(WebAddress(text)?.description == said) }

    @Test(arguments: [
        "", "a.example", "//a.example/", "ftp://a.example/", "https:/a.example", "https://", "https:///x",
        "https://u@a.example/", "https://u:p@a.example/", "https://a.example@evil.example/", "https://a.example:/",
        "https://a.example:0/", "https://a.example:65536/", "https://a.example:99999999999/", "https://a_b.example/",
        "https://::1/", "https://[::1", "https://[a.example]/", "https://256.1.1.1/", "https://a.example/#x",
        "https://a.example#x", "https://a.example/a b", "https://a.example/\r\nX: y", "https://a.example/%",
        "https://a.example/%2", "https://a.example/%zz", "https://a.example/\u{FC}", "https://a.example/<x>",
        "https://a.example\\@b.example/", "https://a.example/\\b", " https://a.example/", "https://a%2e.example/",
        "http+unix:/run/x", "https://a.example/" + String(repeating: "x", count: 2048),
    ])
    func noAddresses(text: String) { #expect(WebAddress(text) == nil) }

    @Test func relays() throws {
        let head = """
            [[edge]]
            name = "a"
            type = "smtp"
            listen = ["127.0.0.1:2525"]
            tls = "none"
            auth = "none"

            """
        let configuration = try Configuration.parse(
            head + """
                [relay]
                type = "http"
                url = "https://mail.example.com/submit?x=y"
                username = "u"
                password_file = "credential:p"
                trust_file = "/ca.pem"
                [[route]]
                domains = ["a.example"]
                [[route]]
                domains = ["b.example"]
                url = "https://other.example/"
                [[route]]
                domains = ["c.example"]
                url = "http://localhost:8025/"
                socket = "unix:/run/x"
                token_file = "/t"
                [[route]]
                domains = ["d.example"]
                token_file = "/t"
                [[route]]
                domains = ["e.example"]
                type = "mx"
                """, file: "f")
        let url = try #require(WebAddress("https://mail.example.com/submit?x=y"))
        let login = Configuration.Relay.Login(username: "u", proof: .password(file: "credential:p"))
        let whole = Configuration.Relay.HTTP(url: url, access: .basic(login), trustFile: "/ca.pem")
        #expect(configuration.relay.type == .http(whole))
        #expect(configuration.relay.type.login == login && configuration.relay.type.connects)
        let kinds = configuration.routes.map(\.relay.type)
        #expect(kinds[0] == .http(whole))
        // A password is for the host that it was given for.
        #expect(kinds[1] == .http(.init(url: try #require(WebAddress("https://other.example/")))))
        let local = try #require(WebAddress("http://localhost:8025/"))
        #expect(kinds[2] == .http(.init(url: local, socket: "/run/x", access: .bearer(tokenFile: "/t"))))
        #expect(kinds[3] == .http(.init(url: url, access: .bearer(tokenFile: "/t"), trustFile: "/ca.pem")))
        #expect(kinds[4] == .mx)
    }
}
