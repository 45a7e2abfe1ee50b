// What a text of a rule matches.

import SlimtaRules
import Testing

struct TextPatternTests {
    @Test(arguments: [
        ("a@example.com", "A@Example.COM", true), ("a@example.com", "ab@example.com", false),
        ("@example.com", "a@example.com", true), ("@example.com", "a@mail.example.com", false),
        ("@example.com", "example.com", true), ("@.example.com", "a@mail.example.com", true),
        ("@.example.com", "a@example.com", false), ("@.example.com", "deep.mail.example.com", true),
        ("@.example.com", "a@xexample.com", false), ("*@example.com", "a@example.com", true),
        ("*.dialup.*", "1-2.dialup.example.com", true), ("a?c", "abc", true), ("a?c", "a\u{FC}c", true),
        ("a?c", "ac", false),
        ("*", "", true), ("<>", "<>", true), ("@m\u{FC}nchen.de", "a@xn--mnchen-3ya.de", true),
        ("@xn--mnchen-3ya.de", "a@M\u{FC}nchen.de", true), ("/^a.*b$/", "AxxB", true), ("/^a.*b$/", "xab", false),
        ("mail.example.com", "mail.example.com.", true),
        // Letters outside ASCII, in a name that is no domain and in one that is.
        ("m\u{FC}ll@example.com", "M\u{DC}LL@Example.com", true),
        ("M\u{DC}LL@b\u{FC}cher.de", "m\u{FC}ll@B\u{DC}CHER.de", true),
        ("M\u{DC}*@example.com", "m\u{FC}ll@example.com", true), ("J\u{DC}RG M", "j\u{FC}rg m", true),
        ("J\u{DC}RG", "j\u{FC}rg", true), ("/^m\u{FC}ll/", "M\u{DC}LL@example.com", true),
        ("ma\u{DF}@example.com", "mass@example.com", false),
    ])
    func matches(_ pattern: String, _ text: String, _ expected: Bool) throws {
        #expect(try TextPattern(pattern).matches(text) == expected)
    }

    /// An expression that would take for ever is given up: nobody knows, and no rule acts on it.
    @Test func expressionsHaveLimits() throws {
        let pattern = try TextPattern("/^(a+)+$/")
        #expect(pattern.matches(String(repeating: "a", count: 100) + "!") == nil)
    }

    /// Padding leaves no text undecided: an expression sees the first 16 KiB, cut at a character.
    @Test(arguments: [
        ("/a/", "", 100_000, "b", false), ("/a/", "a", 100_000, "b", true), ("/^ab+$/", "a", 16_400, "b", true),
        ("/\u{FC}/", "", 16_383, "\u{FC}", false), ("/\u{FC}/", "", 16_382, "\u{FC}", true),
    ])
    func expressionsSeeTheBeginning(
        _ pattern: String, _ start: String, _ padding: Int, _ end: String, _ expected: Bool
    ) throws {
        let text = start + String(repeating: "b", count: padding) + end
        #expect(try TextPattern(pattern).matches(text) == expected)
    }

    /// How a client spells a domain is its choice, and gets it round no rule: mail goes to the same one.
    @Test(arguments: [
        // An address at closed.example.
        ("/@closed\\.example$/", "bob@CLOSED.Example", true),
        ("/@closed\\.example$/", "bob@\u{FF43}\u{FF4C}\u{FF4F}\u{FF53}\u{FF45}\u{FF44}.example", true),
        ("/@closed\\.example$/", "bob@\u{FF23}losed\u{3002}example", true),
        ("/@closed\\.example$/", "bob@closed\u{FF0E}example", true),
        ("/@closed\\.example$/", "bob@closed.example.net", false),
        ("/@closed\\.example$/", "\u{FF42}ob@open.example", false),
        // One with an umlaut: as it is read, decomposed, in capitals, and in A-labels.
        ("/@b\u{FC}cher\\.example$/", "bob@b\u{FC}cher.example", true),
        ("/@b\u{FC}cher\\.example$/", "bob@B\u{DC}CHER.example", true),
        ("/@b\u{FC}cher\\.example$/", "bob@bu\u{308}cher.example", true),
        ("/@b\u{FC}cher\\.example$/", "bob@xn--bcher-kva.example", true),
        ("/@b\u{FC}cher\\.example$/", "bob@XN--BCHER-KVA.example", true),
        ("/[@.]b\u{FC}cher\\.example$/", "bob@xn--99999999.xn--bcher-kva.example", true),
        ("/@xn--bcher-kva\\.example$/", "bob@b\u{FC}cher.example", true),
        ("/@xn--bcher-kva\\.example$/", "bob@B\u{DC}cher\u{3002}example", true),
        ("/@xn--bcher-kva\\.example$/", "bob@xn--bcher-kva.example", true),
        ("/@xn--bcher-kva\\.example$/", "bob@bucher.example", false),
        // The names of hosts.
        ("/^mail\\.closed\\.example$/", "Mail.Closed.Example.", true),
        ("/^mail\\.closed\\.example$/", "mail\u{3002}\u{FF43}losed\u{3002}example", true),
        ("/^b\u{FC}cher\\./", "xn--bcher-kva.example", true),
        // As it is written counts, too.
        ("/[^\\x00-\\x7F]/", "bob@b\u{FC}cher.example", true), ("/\u{3002}/", "bob@closed\u{3002}example", true),
    ])
    func spellings(_ pattern: String, _ text: String, _ expected: Bool) throws {
        #expect(try TextPattern(pattern).matches(text) == expected)
    }

    /// A glob takes no longer than the product of both lengths, however many stars there are.
    @Test func globsHaveNoBadCase() throws {
        let pattern = try TextPattern(String(repeating: "a*", count: 400) + "b")
        #expect(pattern.matches(String(repeating: "a", count: 20_000)) == false)
    }

    @Test(arguments: ["", "@", "@.", "@a@b", "@*.example.com", "/(/", "a\u{1B}b"])
    func isNone(_ text: String) { #expect(throws: RuleError.self) { try TextPattern(text) } }
}
