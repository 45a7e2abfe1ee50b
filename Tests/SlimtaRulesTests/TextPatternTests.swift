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
    ])
    func matches(_ pattern: String, _ text: String, _ expected: Bool) throws {
        #expect(try TextPattern(pattern).matches(text) == expected)
    }

    /// An expression that would take for ever is given up: nobody knows, and no rule acts on it.
    @Test func expressionsHaveLimits() throws {
        let pattern = try TextPattern("/^(a+)+$/")
        #expect(pattern.matches(String(repeating: "a", count: 100) + "!") == nil)
        #expect(try TextPattern("/a/").matches(String(repeating: "b", count: 100_000)) == nil)
    }

    /// A glob takes no longer than the product of both lengths, however many stars there are.
    @Test func globsHaveNoBadCase() throws {
        let pattern = try TextPattern(String(repeating: "a*", count: 400) + "b")
        #expect(pattern.matches(String(repeating: "a", count: 20_000)) == false)
    }

    @Test(arguments: ["", "@", "@.", "@a@b", "@*.example.com", "/(/", "a\u{1B}b"])
    func isNone(_ text: String) { #expect(throws: RuleError.self) { try TextPattern(text) } }
}
