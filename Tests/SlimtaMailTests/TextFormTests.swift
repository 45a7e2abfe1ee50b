// Forms of text that must pass as lines of ASCII: EHLO names in one word, quoted-printable.

import NIOCore
import SlimtaMail
import TestKit
import Testing

@Suite struct ClientNameTests {
    @Test(arguments: [
        ("mail.example.com", "mail.example.com"), ("my_desk-1", "my_desk-1"), ("[127.0.0.1]", "[127.0.0.1]"),
        ("[IPv6:2001:db8::1]", "[IPv6:2001:db8::1]"), ("DOMAIN\\host", "DOMAIN+5Chost"),
        ("Anna's PC", "Anna+27s+20PC"), ("m\u{FC}ller", "m+C3+BCller"), ("a(b)", "a+28b+29"), ("a;b", "a+3Bb"),
        ("=?utf-8?q?x?=", "+3D+3Futf-8+3Fq+3Fx+3F+3D"), ("[a b]", "+5Ba+20b+5D"), ("a:b", "a+3Ab"), ("[]", "+5B+5D"),
        ("a\u{202E}b", "a+E2+80+AEb"), ("a\r\nb", "a+0D+0Ab"), ("a+b", "a+2Bb"),
    ])
    func oneWord(name: String, shown: String) { #expect(name.asClientName == shown) }

    /// Whatever it was, it is no longer than a name may be, and no escape is cut.
    @Test(arguments: [
        (String(repeating: "a", count: 255), String(repeating: "a", count: 255)),
        (String(repeating: "a", count: 256), String(repeating: "a", count: 255)),
        // 255 octets of EHLO that are no UTF-8.
        (String(repeating: "\u{FFFD}", count: 255), String(repeating: "+EF+BF+BD", count: 28) + "+EF"),
        ("ab" + String(repeating: " ", count: 100), "ab" + String(repeating: "+20", count: 84)),
        ("[" + String(repeating: "1", count: 300) + "]", "+5B" + String(repeating: "1", count: 252)),
    ])
    func noLongerThanAName(name: String, shown: String) { #expect(name.asClientName == shown) }
}

@Suite struct QuotedPrintableTests {
    private func encode(_ octets: [UInt8]) -> [UInt8] {
        Array(QuotedPrintable.encode(ByteBuffer(bytes: octets).readableBytesView).readableBytesView)
    }

    @Test(arguments: [
        ("", ""), ("plain text\r\n", "plain text\r\n"), ("gr\u{FC}n = 1\r\n", "gr=C3=BCn =3D 1\r\n"),
        ("blank \r\ntab\t\r\nlast ", "blank=20\r\ntab=09\r\nlast=20"), (".\r\n.x\r\nx.\r\n", "=2E\r\n=2Ex\r\nx.\r\n"),
        ("From here\r\nFromage\r\n", "=46rom here\r\nFromage\r\n"), ("a\rb\nc\u{0}", "a=0Db=0Ac=00"),
    ])
    func table(text: String, expected: String) {
        #expect(String(decoding: encode(Array(text.utf8)), as: UTF8.self) == expected)
    }

    /// Decoded it is what it was, in lines of at most 76 of ASCII.
    @Test func random() {
        var generator = SeededGenerator(seed: 2045)
        for _ in 0..<3000 {
            let octets = generator.octets(
                Int.random(in: 0...300, using: &generator), from: Array("aF From.=\r\n\r\n \t\u{FC}\0".utf8) + [0xFF])
            let encoded = encode(octets)
            #expect(decode(encoded) == octets)
            #expect(encoded.allSatisfy { (32...126).contains($0) || [9, 10, 13].contains($0) })
            for line in encoded.split(separator: 10, omittingEmptySubsequences: false) {
                #expect(line.count <= 77)
                #expect(![32, 9].contains(line.dropLast(line.last == 13 ? 1 : 0).last ?? 0))
            }
        }
    }

    private func decode(_ encoded: [UInt8]) -> [UInt8] {
        var octets: [UInt8] = []
        var index = 0
        while index < encoded.count {
            guard encoded[index] == UInt8(ascii: "=") else {
                octets.append(encoded[index])
                index += 1
                continue
            }
            let pair = String(decoding: encoded[(index + 1)...(index + 2)], as: UTF8.self)
            if pair != "\r\n" { octets.append(UInt8(pair, radix: 16)!) }
            index += 3
        }
        return octets
    }
}
