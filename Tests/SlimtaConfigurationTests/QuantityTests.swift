// The values that slimta.conf is made of.

import Testing

@testable import SlimtaConfiguration

@Suite struct NetworkTests {
    @Test(arguments: [
        ("10.0.0.0/8", "10.255.0.1", true), ("10.0.0.0/8", "11.0.0.0", false), ("0.0.0.0/0", "255.255.255.255", true),
        ("192.0.2.1", "192.0.2.1", true), ("192.0.2.1", "192.0.2.2", false), ("192.0.2.1/32", "::ffff:192.0.2.1", true),
        ("192.0.2.0/31", "192.0.2.1", true), ("192.0.2.0/31", "192.0.2.2", false),
        ("::ffff:10.0.0.0/104", "10.1.1.1", true), ("::ffff:10.0.0.0/104", "11.1.1.1", false),
        ("2001:db8::/32", "2001:db8:ffff::1", true), ("2001:db8::/32", "2001:db9::", false),
        ("2001:db8::/127", "2001:db8::1", true), ("2001:db8::/127", "2001:db8::2", false),
        // IPv6 networks have no IPv4 addresses in them, whatever the notation.
        ("::/0", "10.0.0.1", false), ("::/0", "::ffff:10.0.0.1", false), ("0.0.0.0/0", "::1", false),
        ("::/0", "2001:db8::1", true), ("::1", "::1", true), ("10.0.0.0/8", "", false),
        ("10.0.0.0/8", "10.0.0.1 ", false),
        ("10.0.0.0/8", "[10.0.0.1]", false), ("10.0.0.0/8", "10.0.0.1\0", false),
    ])
    func contains(network: String, address: String, expected: Bool) throws {
        #expect(try #require(NetworkRange(network)).contains(addressText: address) == expected)
    }

    @Test(arguments: [
        "", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/08", "10.0.0.0/8/8", "10.0.0.1/8", "10.0.0/8",
        "2001:db8::1/64", "::/129", "::ffff:10.0.0.0/95", "localhost", "010.0.0.0/8", "1.2.3.4 ", "fe80::1%lo",
        "10.0.0.0/ 8", "10.0.0.0/٨",
    ])
    func isNone(text: String) { #expect(NetworkRange(text) == nil) }

    @Test func octetsInNetworkOrder() throws {
        let network = try #require(NetworkRange("192.0.2.0/24"))
        #expect(network.contains(bytes: [192, 0, 2, 7]))
        #expect(!network.contains(bytes: [2, 0, 192, 7]))
        #expect(network.contains(bytes: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 192, 0, 2, 7]))
        #expect(!network.contains(bytes: [192, 0, 2]))
        #expect(network.description == "192.0.2.0/24")
        #expect(NetworkRange("2001:DB8:0::/32")?.description == "2001:db8::/32")
    }

    @Test(arguments: [
        ("127.0.0.1", true), ("127.255.0.9", true), ("::1", true), ("::ffff:127.0.0.1", true), ("128.0.0.1", false),
        ("::", false), ("::2", false), ("::127.0.0.1", false),
    ])
    func loopback(text: String, expected: Bool) throws {
        #expect(try #require(IPAddress(text)).isLoopback == expected)
    }
}

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
        "unix:/" + String(repeating: "x", count: 107), "a\n:25", "münchen.example:25",
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

    @Test(arguments: ["", "*.", "*a.example", "a.*", "**", ".a", "a b", "[127.0.0.1]", "a@b", "ö.example"])
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
