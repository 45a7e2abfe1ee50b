// The values that slimta.conf is made of.

import SlimtaMail
import Testing

@testable import SlimtaConfiguration

@Suite struct AddressTests {
    @Test(arguments: [
        ("127.0.0.1:25", "127.0.0.1:25", true), ("[::1]:25", "[::1]:25", true), ("[0::1]:25", "[::1]:25", true),
        ("LocalHost:25", "localhost:25", true), ("[::]:587", "[::]:587", false),
        ("a-b.example:1", "a-b.example:1", false),
        ("unix:/run/slimtad/smtp", "unix:/run/slimtad/smtp", true), ("systemd:smtp", "systemd:smtp", false),
    ])
    func listen(text: String, shown: String, isLoopback: Bool) throws {
        let address = try #require(ListenAddress(text))
        #expect(address.description == shown)
        #expect(address.isLoopback == isLoopback)
        #expect(ListenAddress(address.description) == address)
    }

    @Test(arguments: [
        "", ":25", "25", "*:25", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:+25",
        "127.0.0.1: 25", "::1:25", "[::1]", "[::1]25", "[127.0.0.1]:25", "[localhost]:25", "1.2.3:25", "300.1.1.1:25",
        "-a.example:25", "a..b:25", "a.example.:25", "a_b:25", "unix:", "unix:x", "unix:/", "systemd:", "systemd:a:b",
        "unix:/" + String(repeating: "x", count: 103), "a\n:25", "m\u{200D}nchen.example:25",
    ])
    func isNoListenAddress(text: String) { #expect(ListenAddress(text) == nil) }

    @Test(arguments: [
        ("*", "a", true), ("a.example", "a.example", true), ("A.Example", "a.example", true),
        ("a.example", "b.a.example", false), ("*.a.example", "b.a.example", true),
        ("*.a.example", "c.b.a.example", true), ("*.a.example", "a.example", false),
        ("*.a.example", "ba.example", false), ("*.a.example", ".a.example", false), ("a.example", "", false),
    ])
    func domains(pattern: String, domain: String, expected: Bool) throws {
        #expect(try #require(DomainPattern(pattern)).matches(domain) == expected)
    }

    @Test(arguments: ["", "*.", "*a.example", "a.*", "**", ".a", "a b", "[127.0.0.1]", "a@b", "o\u{200D}.example"])
    func isNoPattern(text: String) { #expect(DomainPattern(text) == nil) }
}

@Suite struct QuantityTests {
    @Test(
        arguments: [("0s", 0), ("30s", 30), ("5m", 300), ("4h", 14400), ("5d", 432_000), ("007m", 420)]
            as [(String, Int)])
    func durations(text: String, seconds: Int) { #expect(Duration(configured: text) == .seconds(seconds)) }

    @Test(arguments: [
        "", "s", "5", "5 m", " 5m", "5m ", "-5m", "+5m", "1.5h", "1h30m", "500ms", "5w", "5M", "٥m", "999999999999999d",
        "9999999999999999999999s", "never",
    ])
    func isNoDuration(text: String) { #expect(Duration(configured: text) == nil) }

    @Test(arguments: [
        ("1KiB", 1024), ("50MiB", 52_428_800), ("2GiB", 1 << 31), ("10MB", 10_000_000), ("3KB", 3000), ("0GB", 0),
    ])
    func sizes(text: String, octets: Int) { #expect(Size.octets(text) == octets) }

    @Test(arguments: ["", "MiB", "5", "5 MiB", "-5MiB", "1.5MiB", "5mib", "5M", "5B", "5TiB", "999999999999999GiB"])
    func isNoSize(text: String) { #expect(Size.octets(text) == nil) }

    @Test(
        arguments: [
            ("mesage_size", "message_size"), ("errros", "errors"), ("message-size", "message_size"),
            ("Listen", "listen"),
            ("x", nil), ("", nil), ("completely", nil),
        ] as [(String, String?)])
    func spelling(word: String, meant: String?) {
        #expect(Spelling.nearest(to: word, among: ["message_size", "errors", "listen", "tls"]) == meant)
    }
}

@Suite struct InternationalNameTests {
    /// Either form of a name is the same name.
    @Test func eitherForm() throws {
        #expect(DomainPattern("*.M\u{FC}nchen.test") == .below("xn--mnchen-3ya.test"))
        #expect(DomainPattern("m\u{FC}nchen.test") == DomainPattern("xn--mnchen-3ya.test"))
        #expect(HostPort("mx.m\u{FC}nchen.test:25")?.host == "mx.xn--mnchen-3ya.test")
        #expect(DomainPattern("m\u{200D}nchen.test") == nil)
        let pattern = try #require(DomainPattern("m\u{FC}nchen.test"))
        for domain in ["m\u{FC}nchen.test", "M\u{DC}NCHEN.test", "xn--Mnchen-3ya.test", "mu\u{308}nchen.test"] {
            #expect(pattern.matches(Mailbox(localPart: "a", domain: domain).foldedDomain))
        }
        #expect(!pattern.matches(Mailbox(localPart: "a", domain: "munchen.test").foldedDomain))
    }

    @Test func hostname() throws {
        let configuration = try Configuration.parse("hostname = \"mail.m\u{FC}nchen.test\"\n" + edge, file: "f")
        #expect(configuration.hostname == "mail.xn--mnchen-3ya.test")
    }
}
