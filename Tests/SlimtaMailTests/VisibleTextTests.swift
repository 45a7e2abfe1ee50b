// Nothing that a terminal acts upon, and nothing that hides, is shown as it is.

import SlimtaMail
import Testing

@Suite struct VisibleTextTests {
    @Test(arguments: [
        ("Jörg Müller <joerg@müller.example>", "Jörg Müller <joerg@müller.example>"), ("日本語 עברית", "日本語 עברית"),
        ("a\u{301}", "a\u{301}"), ("\u{1B}[2J", "\\x1b[2J"), ("a\tb\r\n", "a\\x09b\\x0d\\x0a"), ("\u{7f}", "\\x7f"),
        ("\u{9b}31m", "\\u009b31m"), ("gnp.exe\u{202E}txt.", "gnp.exe\\u202etxt."),
        ("\u{2066}x\u{2069}", "\\u2066x\\u2069"),
        ("pay\u{200B}pal", "pay\\u200bpal"), ("a\u{ad}b", "a\\u00adb"), ("\u{2028}\u{2029}", "\\u2028\\u2029"),
        ("\u{feff}", "\\ufeff"), ("\u{61c}", "\\u061c"), ("\u{180e}", "\\u180e"), ("\u{e0041}", "\\U000e0041"),
        ("\u{e000}", "\\ue000"), ("\u{3164}", "\\u3164"), ("\u{115f}", "\\u115f"), ("\u{fe0f}", "\\ufe0f"),
        ("\u{fff9}", "\\ufff9"), ("\u{378}", "\\u0378"), ("", ""),
    ])
    func shown(text: String, expected: String) {
        #expect(text.visible == expected)
        #expect(text.isVisible == (text == expected))
    }

    /// Of all characters there are, what is shown has none of those that a terminal may act upon.
    @Test func nothingGetsThrough() {
        for value in UInt32(0)...0x10FFFF {
            guard let scalar = Unicode.Scalar(value) else { continue }
            switch scalar.properties.generalCategory {
            case .control, .format, .lineSeparator, .paragraphSeparator: #expect(!scalar.isVisible, "\(value)")
            default: break
            }
            if !scalar.isVisible { #expect(scalar.visible.utf8.allSatisfy { (0x21..<0x7F).contains($0) }) }
        }
    }
}
