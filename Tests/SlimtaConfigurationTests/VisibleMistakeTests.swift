// Whatever stands in slimta.conf, what is said of it is visible: no mistake steers a terminal, or hides what it is about.

import SlimtaMail
import Testing

@testable import SlimtaConfiguration

@Suite struct VisibleMistakeTests {
    @Test(arguments: [
        ("a\"b\\", #""a\"b\\""#), ("\t\r\n\u{1B}", #""\t\r\n\u001b""#), ("\u{7F}\u{9B}", #""\u007f\u009b""#),
        ("\u{3A2}", #""\u03a2""#), ("\u{202E}\u{200B}", #""\u202e\u200b""#), ("\u{E000}", #""\ue000""#),
        ("\u{FFFF}", #""\uffff""#), ("\u{E0041}\u{10FFFF}", #""\U000e0041\U0010ffff""#),
        ("J\u{F6}rg \u{65E5} \u{FFFD}", "\"J\u{F6}rg \u{65E5} \u{FFFD}\""),
    ])
    func quoted(_ text: String, _ expected: String) { #expect(KeyPath.quoted(text) == expected) }

    /// All characters there are: as values and as keys.
    @Test func allOfUnicode() {
        let hidden = (UInt32(0)...0x10FFFF).compactMap(Unicode.Scalar.init).filter {
            !KeyPath.quoted(String($0)).isVisible || !KeyPath.joining("x", String($0)).isVisible
        }
        #expect(hidden.isEmpty, "\(hidden.prefix(5).map(\.value))")
    }

    /// Wherever it stands, "%" in the text, and whoever finds it: the TOML parser, the scanner, or what reads the settings.
    @Test(arguments: [
        "[limits]\nmessage_size = \"a %\"", "\"a%b\" = 1", "a%b = 1", "hostname = %", "hostname = \"h.example\" %",
        "hostname = \"%",
        "[%]", "[\"a%\"]\n[\"a%\"]", "[log]\n\"a%\" = 1\n\"a%\" = 2", "\"a%\" = 1\n\"a%\".b = 1",
        "[log]\nlevel = \"inf%o\" # %", "[dns]\nservers = [\"%\"]",
        "[[rule]]\nname = \"%\"\nat = \"message\"\nnot = { sender = \"/(%/\" }\nreply = \"550 {%}\"",
        "[[rule]]\nname = \"x\"\nat = \"message\"\naction = \"hold\"\nheader = { name = \"To\", value = \"@%.example\" }",
    ])
    func whoeverFindsIt(_ form: String) {
        let characters = [
            "\u{3A2}", "\u{E000}", "\u{FFFF}", "\u{1FFFE}", "\u{10FFFF}", "\u{202E}", "\u{200B}", "\u{AD}", "\u{FE0F}",
            "\u{3164}", "\u{E0041}", "\u{2028}", "\u{85}", "\u{9B}", "\u{7F}", "\u{1B}", "\u{FEFF}",
        ]
        // Those that TOML can have in no other way, and halves of pairs, which it cannot have at all.
        let escapes = ["\\n", "\\u001b", "\\u0378", "\\uD800", "\\uDFFF", "\\U0000DC00", "\\U00110000", "\\U0010FFFE"]
        var count = 0
        for character in characters + escapes {
            let text = edge + form.replacing("%", with: character)
            let mistakes = Configuration.Understood(text, file: "f").mistakes
            count += mistakes.errors.count
            for error in mistakes.errors { #expect(error.description.isVisible, "\(error.description.visible)") }
            let told = mistakes.description(with: text).split(separator: "\n")
            #expect(told.allSatisfy { $0.isVisible }, "\(told.map(\.visible))")
        }
        #expect(count >= 10)
    }

    /// What hides is told as a number in the excerpt too, and the mark is below all of it.
    @Test func theExcerpt() {
        let text = "\u{FEFF}hostname = \"\u{3A2} \u{202E}\""
        let mistakes = Configuration.Understood(text, file: "f").mistakes
        let lines = mistakes.description(with: text).split(separator: "\n").map(String.init)
        #expect(lines.contains("     1 | \\ufeffhostname = \"\\u03a2 \\u202e\""), "\(lines)")
        #expect(lines.contains("       | " + String(repeating: " ", count: 17) + "^^^^^^^^^^^^^^^"), "\(lines)")
    }
}
