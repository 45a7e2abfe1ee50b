// Names: those that are asked for, and those in answers.

import Testing

@testable import SlimtaDNS

@Suite struct DNSNameTests {
    private static let label63 = String(repeating: "a", count: 63)

    @Test(arguments: [
        ("example.com", "example.com"), ("EXAMPLE.Com", "example.com"), ("example.com.", "example.com"),
        ("com", "com"), ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("_25._tcp.mx.example", "_25._tcp.mx.example"),
        ("1.2.3.4", "1.2.3.4"), ("-a-.example", "-a-.example"), ("\(label63).example", "\(label63).example"),
        (
            "\(label63).\(label63).\(label63).\(label63.dropLast(2))",
            "\(label63).\(label63).\(label63).\(label63.dropLast(2))"
        ),
    ])
    func name(text: String, normalized: String) {
        #expect(DNSName.normalized(text) == normalized)
    }

    @Test(arguments: [
        "", ".", "..", ".example", "example..com", "example.com..", "a b.example", "a\0b.example", "a\nb.example",
        "b\u{FC}cher.example", "\u{212A}.example", "a/b.example", "*.example", "a\\.b.example", "[192.0.2.1]", "a:b",
        "\(label63)a.example", "\(label63).\(label63).\(label63).\(label63.dropLast(1))",
    ])
    func noName(text: String) {
        #expect(DNSName.normalized(text) == nil)
    }

    private static func wire(_ labels: String...) -> [UInt8] {
        labels.flatMap { [UInt8($0.utf8.count)] + Array($0.utf8) } + [0]
    }

    @Test(
        arguments: [
            ([0], ""), (wire("MX", "Example", "com"), "mx.example.com"), (wire("a_b-1"), "a_b-1"),
            (
                wire(label63, label63, label63, String(label63.dropLast(2))),
                [label63, label63, label63, String(label63.dropLast(2))].joined(separator: ".")
            ),
        ] as [([UInt8], String)])
    func inAnAnswer(wire: [UInt8], name: String) {
        #expect(DNSName.parse(wire[...]) == name)
        // In the middle of something larger.
        #expect(DNSName.parse(([9, 9] + wire + [9]).dropFirst(2).dropLast()) == name)
        // What is behind it does not belong there, and what is missing cannot be made up.
        #expect(DNSName.parse((wire + [0])[...]) == nil)
        for length in 0..<wire.count { #expect(DNSName.parse(wire[..<length]) == nil) }
    }

    @Test(
        arguments: [
            [], wire("a.b"), wire("a\0b"), wire("a b"), wire("\u{FC}"), wire("a\\"), wire("*"), wire("a\r\n"),
            // A pointer, a label of 64 octets, the two reserved kinds of label, 256 octets.
            [0xC0, 0x00], [1, 0x61, 0xC0, 0x00], [64] + Array(repeating: 0x61, count: 64) + [0], [0x41, 0x61, 0],
            [0x80, 0x61, 0], wire(label63, label63, label63, String(label63.dropLast(1))),
        ] as [[UInt8]])
    func notBelieved(wire: [UInt8]) {
        #expect(DNSName.parse(wire[...]) == nil)
    }

    /// Whatever octets: a name of host name octets, or none.
    @Test func anyOctets() {
        var random = SystemRandomNumberGenerator()
        for _ in 0..<20_000 {
            let octets = (0..<Int.random(in: 0...40, using: &random)).map { _ -> UInt8 in
                [0, 1, 2, 3, 63, 64, 0x61, 0x2E, 0xC0, .random(in: 0...255, using: &random)].randomElement()!
            }
            guard let name = DNSName.parse(octets[...]), !name.isEmpty else { continue }
            #expect(DNSName.normalized(name) == name, "\(octets)")
        }
    }
}
