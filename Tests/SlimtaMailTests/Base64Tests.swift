// Base64 against RFC 4648, coreutils, and what must be refused because another decoder might read it otherwise.

import SlimtaMail
import TestKit
import Testing

@Suite struct Base64Tests {
    static let pairs: [(String, String)] = [
        ("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE="),
        ("foobar", "Zm9vYmFy"), ("\0", "AA=="), ("\0\0\0", "AAAA"), ("Username:", "VXNlcm5hbWU6"),
        ("Password:", "UGFzc3dvcmQ6"), ("\0tim\0tanstaaftanstaaf", "AHRpbQB0YW5zdGFhZnRhbnN0YWFm"),
    ]

    @Test(arguments: pairs) func bothWays(_ plain: String, _ encoded: String) {
        #expect(Base64.encode(Array(plain.utf8)) == encoded)
        #expect(Base64.decode(Array(encoded.utf8)) == Array(plain.utf8))
    }

    static let refused = [
        // length
        "A", "AA", "AAA", "AAAAA", "Zg=", "Zg", "Zm8", "Zg===", "Zm9v=", "Zm9v==", "Zm9v===", "Zm9v====",
        // padding where none may be
        "=", "==", "===", "====", "A===", "=AAA", "AA=A", "A=AA", "AA==AA==", "Zg==Zg==", "AAA=AAA=", "AA==AAAA",
        // another spelling of the same octets (RFC 4648 section 3.5)
        "Zh==", "Zv==", "Z/==", "Zm9=", "Zm+=", "Zm//Zh==",
        // other characters
        "Zm9\u{1}", "Zm9 ", " Zm9", "Zm 9", "Zm9v\r\n", "Zm9v\n", "Zm-v", "Zm_v", "Zm.v", "Zm*v", "Zm,v", "Zm\0v",
        "Zmé",
        "@@@@", "[[[[", "````", "{{{{",
    ]

    /// RFC 7515 appendix C, and the alphabets of both.
    @Test(arguments: [("", []), ("A-z_4ME", [3, 236, 255, 224, 193]), ("Zg", [0x66]), ("-_-_", [0xFB, 0xFF, 0xBF])])
    func url(_ encoded: String, _ octets: [UInt8]) { #expect(Base64.decode(url: encoded.utf8) == octets) }

    @Test(arguments: ["A", "AAAAA", "Zg==", "Zm8=", "=", "Zh", "Zm9", "+/+/", "Zm9 ", "Zm9v\n", "Zm\09", "Zmé"])
    func isRefusedOfURL(_ text: String) { #expect(Base64.decode(url: text.utf8) == nil) }

    @Test(arguments: refused) func isRefused(_ text: String) { #expect(Base64.decode(Array(text.utf8)) == nil) }

    @Test func fixtures() throws {
        for text in try Fixtures.json([String].self, "base64-refused.json") {
            #expect(Base64.decode(Array(text.utf8)) == nil, "\(text)")
        }
    }

    @Test(.enabled(if: SharedFiles.areThere, "../shared is not beside the repository")) func vectors() throws {
        struct Other: Decodable { let base64MustRefuse: [String] }
        let refused = try SharedFiles.vector(Other.self, "sasl/other.json").base64MustRefuse
        #expect(refused.count >= 8)
        for text in refused { #expect(Base64.decode(Array(text.utf8)) == nil, "\(text)") }
    }

    /// Of all texts of four characters over a few, exactly those are read that are what encoding gives.
    @Test func onlyCanonicalTextIsRead() {
        let alphabet = Array("ABQgwz8/9=".utf8)
        var read = 0
        for a in alphabet {
            for b in alphabet {
                for c in alphabet {
                    for d in alphabet {
                        let text = [a, b, c, d]
                        guard let octets = Base64.decode(text) else { continue }
                        read += 1
                        #expect(Array(Base64.encode(octets).utf8) == text)
                    }
                }
            }
        }
        #expect(read == 9 * 9 * 9 * 9 + 9 * 9 * 5 + 9 * 4, "5 of them end in 2 clear bits, 4 in 4")
    }

    @Test func likeCoreutils() throws {
        var generator = SeededGenerator(seed: 4648)
        for length in Array(0...40) + [100, 1000, 4097] {
            let octets = generator.octets(length)
            let text = try output(of: "/usr/bin/base64", ["-w0"], input: octets)
            #expect(Base64.encode(octets) == text)
            #expect(Base64.decode(Array(text.utf8)) == octets)
        }
    }

    @Test func roundTrip() {
        var generator = SeededGenerator(seed: 64)
        for _ in 0..<2000 {
            let octets = generator.octets(Int.random(in: 0...80, using: &generator))
            #expect(Base64.decode(Array(Base64.encode(octets).utf8)) == octets)
        }
    }

    @Test func randomText() {
        var generator = SeededGenerator(seed: 46)
        for _ in 0..<20_000 {
            let text = generator.octets(
                Int.random(in: 0...16, using: &generator), from: Array("ABab09+/==\r\n\0-_é".utf8))
            if let octets = Base64.decode(text) { #expect(Array(Base64.encode(octets).utf8) == text) }
        }
    }
}
