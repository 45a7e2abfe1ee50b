// The grammar of addresses (RFC 5321 section 4.1.2, RFC 6531) against a table, the isemail vectors and random octets.

import Foundation
import SlimtaMail
import TestKit
import Testing

@Suite struct MailboxTests {
    static let good: [(local: String, domain: String)] = [
        ("a", "b"),
        ("user", "example.com"),
        ("first.last+tag", "Example.COM"),
        ("!#$%&'*+-/=?^_`{|}~", "example.com"),
        ("%relay%other", "example.com"),
        ("#!/bin/sh", "example.com"),
        ("1", "1.2.3.4"),
        ("a", "a-b.c--d.e"),
        ("a", "_dmarc.example.com"),
        ("a", "xn--fiqs8s"),
        // quoted strings
        ("\"\"", "example.com"),
        ("\"a\"", "example.com"),
        ("\"a b\"", "example.com"),
        ("\" \"", "example.com"),
        ("\"a>b\"", "example.com"),
        ("\"<a>\"", "example.com"),
        ("\"a@b\"", "example.com"),
        ("\"a@b.example>\"", "example.com"),
        ("\"a..b.\"", "example.com"),
        ("\"a\\\"b\"", "example.com"),
        ("\"a\\\\\"", "example.com"),
        ("\"\\a\\ \\@\\>\"", "example.com"),
        ("\"(),:;[]\"", "example.com"),
        // address literals
        ("a", "[127.0.0.1]"),
        ("a", "[0.0.0.0]"),
        ("a", "[255.255.255.255]"),
        ("a", "[IPv6:::]"),
        ("a", "[IPv6:::1]"),
        ("a", "[ipv6:1::]"),
        ("a", "[IPV6:2001:DB8::a]"),
        ("a", "[IPv6:1:2:3:4:5:6:7:8]"),
        ("a", "[IPv6:1:2:3:4:5:6:1.2.3.4]"),
        ("a", "[IPv6:::ffff:1.2.3.4]"),
        ("a", "[IPv6:1::1.2.3.4]"),
        ("a", "[IPv6:1:2:3::8]"),
    ]

    @Test(arguments: good) func isAccepted(_ local: String, _ domain: String) throws {
        for allowsUTF8 in [false, true] {
            let mailbox = try #require(Mailbox(parsing: local + "@" + domain, allowsUTF8: allowsUTF8))
            #expect(mailbox.text == local + "@" + domain)
            #expect(mailbox.localPart == local)
            #expect(mailbox.domain == domain)
            #expect(mailbox.foldedDomain == domain.lowercased())
            #expect(!mailbox.needsSMTPUTF8)
            #expect(mailbox == Mailbox(localPart: local, domain: domain))
        }
    }

    static let bad: [String] = [
        "", "@", "a", "a@", "@b", "a b", "a@b@c", "a@b c", " a@b", "a@b ", "a @b", "a@ b", "<a@b>", "a@b>",
        // dots
        ".a@b", "a.@b", "a..b@c", ".@b", "a@.b", "a@b.", "a@b..c", "a@.",
        // what only a header may have
        "(c)a@b", "a(c)@b", "a@b(c)", "\"a\".b@c", "a.\"b\"@c", "a,b@c", "a:b@c", "a;b@c", "a\\@b@c", "x <a@b>",
        // quoted strings
        "\"@b", "\"a@b", "\"a\\\"@b", "\"a\"b@c", "a\"b\"@c", "\"a\"\"b\"@c", "\"\"\"@b", "\"a\"", "\"a\"@",
        // domains
        "a@-b", "a@b-", "a@b.-c", "a@b-.c", "a@b/c", "a@b+c", "a@b%c", "a@b!c", "a@b:25", "a@b,c", "a@[b", "a@b]",
        "a@\"b\"", "a@b=c", "a@b'c", "a@*.b",
        // address literals
        "a@[]", "a@[1.2.3]", "a@[1.2.3.4.5]", "a@[1.2.3.256]", "a@[1.2.3.]", "a@[.1.2.3]", "a@[1..2.3]", "a@[1.2.3.4",
        "a@1.2.3.4]", "a@[1.2.3.4]x", "a@[1.2.3.4].b", "a@[ 1.2.3.4]", "a@[1.2.3.4 ]", "a@[0x7f.0.0.1]",
        "a@[2130706433]",
        "a@[1.2.3.4444]", "a@[::1]", "a@[IPv6:]", "a@[IPv6::]", "a@[IPv6:1]", "a@[IPv6:1:2:3:4:5:6:7]",
        "a@[IPv6:1:2:3:4:5:6:7:8:9]", "a@[IPv6:1:2:3:4:5:6:7:]", "a@[IPv6::1:2:3:4:5:6:7]", "a@[IPv6:1::2::3]",
        "a@[IPv6:1:::2]", "a@[IPv6:12345::]", "a@[IPv6:g::]", "a@[IPv6:1:2:3:4:5:6:7::8:9]", "a@[IPv6:::1%lo]",
        "a@[IPv6:::1.2.3]", "a@[IPv6:::1.2.3.256]", "a@[IPv6:1.2.3.4]", "a@[IPv6:1.2.3.4::]", "a@[IPv6:1.2.3.4:1::]",
        "a@[IPv6:1:2:3:4:5:6:7:1.2.3.4]", "a@[IPv6: ::1]", "a@[IPv4:1.2.3.4]", "a@[x400:abc]", "a@[IPv6:::1]]",
    ]

    @Test(arguments: bad) func isRefused(_ text: String) {
        #expect(Mailbox(parsing: text, allowsUTF8: false) == nil)
        #expect(Mailbox(parsing: text, allowsUTF8: true) == nil)
    }

    /// No control character, at no place of the address, quoted or not, behind a backslash or not.
    @Test(arguments: Array(0..<32) + [127] as [UInt8]) func controls(_ control: UInt8) {
        for template in ["*a@b", "a*@b", "a*a@b", "a@*b", "a@b*", "\"*\"@b", "\"a\\*\"@b", "a@[1.2.3.4*]", "a@[*]"] {
            let octets = template.utf8.map { $0 == UInt8(ascii: "*") ? control : $0 }
            #expect(Mailbox(parsing: octets.span, allowsUTF8: true) == nil, "\(template)")
        }
    }

    // MARK: Lengths (RFC 5321 section 4.5.3.1)

    @Test(arguments: [false, true]) func lengths(allowsUTF8: Bool) {
        func isGood(_ text: String) -> Bool { Mailbox(parsing: text, allowsUTF8: allowsUTF8) != nil }
        func letters(_ count: Int) -> String { String(repeating: "x", count: count) }

        // Of a local part, as much as fits: addresses that programs make are longer than 64.
        for length in [63, 64, 65, 252] { #expect(isGood(letters(length) + "@b")) }
        #expect(!isGood(letters(253) + "@b"))
        #expect(isGood("\"" + letters(250) + "\"@b"))
        #expect(!isGood("\"" + letters(251) + "\"@b"))

        #expect(isGood("a@" + letters(62)))
        #expect(isGood("a@" + letters(63)))
        #expect(!isGood("a@" + letters(64)))
        #expect(isGood("a@b." + letters(63) + ".c"))
        #expect(!isGood("a@b." + letters(64) + ".c"))
        #expect(!isGood("a@b." + letters(64)))

        // 256 octets of path are 254 of mailbox.
        let domain = [63, 63, 63].map(letters).joined(separator: ".") + "."
        #expect(isGood("a@" + domain + letters(59)))
        #expect(isGood("a@" + domain + letters(60)))
        #expect(!isGood("a@" + domain + letters(61)))
        #expect(isGood(letters(32) + "@" + domain + letters(29)))
        #expect(!isGood(letters(32) + "@" + domain + letters(30)))
    }

    /// A label of U-labels is at most 63 octets as an A-label, which nobody knows here; an ASCII label is what it is.
    @Test func lengthOfLabelsBesideUTF8() {
        let long = String(repeating: "x", count: 64)
        #expect(Mailbox(parsing: "a@ü.\(long)") == nil)
        #expect(Mailbox(parsing: "ü@\(long).de") == nil)
        #expect(Mailbox(parsing: "a@" + String(repeating: "ü", count: 40)) != nil)
    }

    // MARK: UTF-8 (RFC 6531)

    static let international = [
        "ü@example.com", "用户@例子.广告", "\"ü ü\"@example.com", "a@bücher.example", "a@bu\u{308}cher.example",
        "अजय@डाटा.भारत", "a\u{1F4E7}@example.com", "\u{FF20}@example.com",
    ]

    @Test(arguments: international) func utf8NeedsPermission(_ text: String) throws {
        #expect(Mailbox(parsing: text, allowsUTF8: false) == nil)
        let mailbox = try #require(Mailbox(parsing: text, allowsUTF8: true))
        #expect(Array(mailbox.text.utf8) == Array(text.utf8))
        #expect(mailbox.needsSMTPUTF8)
    }

    static let invalidUTF8: [[UInt8]] = [
        [0x80], [0xBF], [0xC0, 0x80], [0xC1, 0xBF], [0xC3], [0xC3, 0x28], [0xE2, 0x82], [0xE0, 0x80, 0x80],
        [0xED, 0xA0, 0x80], [0xF0, 0x80, 0x80, 0x80], [0xF4, 0x90, 0x80, 0x80], [0xF5, 0x80, 0x80, 0x80], [0xFF],
    ]

    @Test(arguments: invalidUTF8) func nothingIsRepaired(_ octets: [UInt8]) {
        for (before, behind) in [("", "@b"), ("a", "b@c"), ("\"", "\"@b"), ("a@", ""), ("a@b", "c")] {
            let address = Array(before.utf8) + octets + Array(behind.utf8)
            #expect(Mailbox(parsing: address.span, allowsUTF8: true) == nil)
            #expect(Mailbox(parsing: address.span, allowsUTF8: false) == nil)
        }
    }

    /// What some program takes for the end of a line, or a terminal for the start of an order, is in nobody's address.
    @Test(arguments: ["\u{80}", "\u{85}", "\u{9B}", "\u{9F}", "\u{2028}", "\u{2029}"])
    func controlsAboveASCII(_ control: String) {
        for text in ["a\(control)b@c", "\"\(control)\"@c", "a@b\(control)", "\(control)@c"] {
            #expect(Mailbox(parsing: text, allowsUTF8: true) == nil)
        }
    }

    @Test func utf8BehindABackslash() {
        // quoted-pairSMTP is ASCII (RFC 5321 section 4.1.2), and RFC 6531 does not extend it.
        #expect(Mailbox(parsing: "\"\\ü\"@b", allowsUTF8: true) == nil)
    }

    // MARK: Comparison

    @Test func octetsAreCompared() throws {
        let composed = try #require(Mailbox(parsing: "\u{E9}@b"))
        let decomposed = try #require(Mailbox(parsing: "e\u{301}@b"))
        #expect(composed.text == decomposed.text, "String calls them the same")
        #expect(composed != decomposed)
        #expect(Set([composed, decomposed, composed]).count == 2)
        #expect(Mailbox(parsing: "A@b") != Mailbox(parsing: "a@b"))
        #expect(Mailbox(parsing: "a@B") != Mailbox(parsing: "a@b"))
        #expect(Mailbox(parsing: "a@B")?.foldedDomain == "b")
        #expect(Mailbox(parsing: "a@\u{DC}.B")?.foldedDomain == "xn--tda.b", "the A-label of \u{FC}")
    }

    @Test func combiningCharactersDoNotMoveTheParts() throws {
        let mailbox = try #require(Mailbox(parsing: "a@\u{301}b.c"))
        #expect(Array(mailbox.localPart.utf8) == Array("a".utf8))
        #expect(Array(mailbox.domain.utf8) == Array("\u{301}b.c".utf8))
    }

    // MARK: Where a path's mailbox ends

    static let paths: [(String, Int?)] = [
        ("a@b>", 3), ("a@b", 3), ("a@b> X=>", 3), ("\"a>b\"@c>", 7), ("\"a\\\">\"@c>x", 8), ("Postmaster>", 10),
        ("a b>", 3), (">", nil), ("", nil), ("\"a>", nil), (".a@b>", nil), ("a@\">\"b>", 3),
    ]

    @Test(arguments: paths) func pathEnds(_ path: String, _ end: Int?) {
        let octets = Array(path.utf8)
        #expect(Mailbox.endOfPath(in: octets.span, allowsUTF8: true) == end)
    }

    // MARK: Fixtures, and isemail

    /// Our own cases, in Tests/Fixtures.
    @Test func fixtures() throws {
        struct Addresses: Decodable { let good, bad: [String] }
        let addresses = try Fixtures.json(Addresses.self, "addresses.json")
        for allowsUTF8 in [false, true] {
            for good in addresses.good {
                #expect(Mailbox(parsing: good, allowsUTF8: allowsUTF8)?.text == good)
            }
            for bad in addresses.bad {
                #expect(
                    Mailbox(parsing: bad, allowsUTF8: allowsUTF8) == nil, "\(ChunkVerifier.printable(bad.utf8))")
            }
        }
    }

    /// Dominic Sayers' vectors. Good in SMTP are its categories "valid", "DNS warning" (no DNS here) and "RFC 5321";
    /// "CFWS", "deprecated" and "RFC 5322" are for headers, or too long, and "error" is for nothing.
    ///
    /// Two are another matter: "::" for a single group is more than RFC 5321 allows and less than RFC 4291 does, and of local
    /// parts we take as much as fits.
    @Test(.enabled(if: SharedFiles.areThere, "../shared is not beside the repository")) func isemail() throws {
        let vectors = try IsemailVector.all()
        #expect(vectors.count == 164)
        for vector in vectors {
            let isGood =
                ["ISEMAIL_VALID_CATEGORY", "ISEMAIL_DNSWARN", "ISEMAIL_RFC5321"].contains(vector.category)
                || ["ISEMAIL_RFC5321_IPV6DEPRECATED", "ISEMAIL_RFC5322_LOCAL_TOOLONG"].contains(vector.diagnosis)
            #expect(
                (Mailbox(parsing: vector.address, allowsUTF8: false) != nil) == isGood,
                "\(ChunkVerifier.printable(vector.address.utf8)) is \(vector.category)")
            #expect((Mailbox(parsing: vector.address, allowsUTF8: true) != nil) == isGood)
        }
    }

    // MARK: Random octets

    /// Whatever comes: no trap, and what is accepted is what was given, with nothing in it that ends a line or a path.
    @Test func randomOctets() {
        var generator = SeededGenerator(seed: 5321)
        let alphabet = Array("aaaaabbb@@@@Z09.-_+@\"\\<>[]: ()%IPv6:1\u{E9}\t\r\n\0".utf8) + [0x80, 0xC3, 0xFF]
        var accepted = 0
        for _ in 0..<60_000 {
            let octets = generator.octets(Int.random(in: 0...12, using: &generator), from: alphabet)
            _ = Mailbox.endOfPath(in: octets.span, allowsUTF8: true)
            for allowsUTF8 in [false, true] {
                guard let mailbox = Mailbox(parsing: octets.span, allowsUTF8: allowsUTF8) else { continue }
                accepted += 1
                #expect(Array(mailbox.text.utf8) == octets)
                #expect(octets.allSatisfy { $0 >= 32 && $0 != 127 })
                #expect(!mailbox.domain.utf8.contains(UInt8(ascii: "@")))
                #expect(mailbox.text == "\(mailbox.localPart)@\(mailbox.domain)")
                #expect(Mailbox.endOfPath(in: (octets + [UInt8(ascii: ">")]).span, allowsUTF8: true) == octets.count)
            }
        }
        #expect(accepted > 100)
    }
}
