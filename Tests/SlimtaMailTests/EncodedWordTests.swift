// Encoded words of RFC 2047, as they are read and written.

import SlimtaMail
import TestKit
import Testing

struct EncodedWordTests {
    @Test(arguments: [
        // Section 8 of RFC 2047.
        ("=?ISO-8859-1?Q?a?=", "a"), ("=?ISO-8859-1?Q?a?= b", "a b"), ("=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=", "ab"),
        ("=?ISO-8859-1?Q?a?=  \t =?ISO-8859-1?Q?b?=", "ab"), ("=?ISO-8859-1?Q?a_b?=", "a b"),
        ("=?ISO-8859-1?Q?a?= =?ISO-8859-2?Q?_b?=", "a b"),
        ("=?US-ASCII?Q?Keith_Moore?= <moore@cs.utk.edu>", "Keith Moore <moore@cs.utk.edu>"),
        ("=?ISO-8859-1?Q?Keld_J=F8rn_Simonsen?=", "Keld J\u{F8}rn Simonsen"),
        (
            "=?ISO-8859-1?B?SWYgeW91IGNhbiByZWFkIHRoaXMgeW8=?=\t=?ISO-8859-2?B?dSB1bmRlcnN0YW5kIHRoZSBleGFtcGxlLg==?=",
            "If you can read this you understand the example."
        ),
        // As programs write them.
        ("Re: =?utf-8?q?=C3=BCbel?= x", "Re: \u{FC}bel x"), ("x=?utf-8?Q?y?=z", "xyz"),
        ("=?utf-8?B?w7xiZWw?=", "\u{FC}bel"), ("=?UTF-8*de?b?w7xiZWw=?=", "\u{FC}bel"),
        // A character that is cut in two.
        ("=?utf-8?Q?=C3?= =?utf-8?Q?=BCbel?=", "\u{FC}bel"),
        ("=?utf-8?Q?lot?= =?utf-8?Q?tery?=", "lottery"), ("=?utf-8?Q?a=3Db?=", "a=b"), ("=?utf-8?Q?a=b?=", "a=b"),
        ("=?windows-1252?Q?=80_5?=", "\u{20AC} 5"), ("=?iso-8859-15?Q?=A4?=", "\u{20AC}"),
        ("=?koi8-r?B?8NLJ18XU?=", "\u{41F}\u{440}\u{438}\u{432}\u{435}\u{442}"),
        ("=?iso-2022-jp?B?GyRCRnxLXBsoQg==?=", "\u{65E5}\u{672C}"), ("=?shift_jis?B?k/qWew==?=", "\u{65E5}\u{672C}"),
        ("=?gb2312?B?xOO6ww==?=", "\u{4F60}\u{597D}"), ("=?big5?B?p0Gmbg==?=", "\u{4F60}\u{597D}"),
    ])
    func decoded(_ value: String, _ text: String) { #expect(EncodedWordReader.decoded(value) == text, "\(value)") }

    @Test(arguments: [
        "", "plain", "=?", "=?utf-8", "=?utf-8?", "=?utf-8?q", "=?utf-8?q?", "=?utf-8?q?x", "=?utf-8?q?x?",
        "=?utf-8?x?y?=",
        "=??q?x?=", "=?utf-8?qq?x?=", "=?utf-8?b?!!!?=", "=?utf-8?q?a b?=", "=?unheard-of?q?x?=",
        "=?iso-2022-cn-ext?b?eA==?=",
        "=?UTF-8//TRANSLIT?q?x?=",
    ])
    func isNone(_ value: String) { #expect(EncodedWordReader.decoded(value) == nil, "\(value)") }

    /// Half characters at the end, and octets that are none.
    @Test func brokenText() {
        #expect(EncodedWordReader.decoded("=?shift_jis?B?k/qW?=") == "\u{65E5}")
        #expect(EncodedWordReader.decoded("=?gb2312?Q?=FF=FFa?=")?.hasSuffix("a") == true)
        #expect(EncodedWordReader.decoded("=?utf-8?Q?=FFa?=") == "\u{FFFD}a")
    }

    /// A character set is opened once, however often it changes, and each word begins anew with it.
    @Test func charactersSetsByTurns() {
        let converters = EncodedWordReader.Converters()
        let words = [
            "=?big5?B?p0Gmbg==?= ", "=?iso-2022-jp?B?GyRCRnw=?= ", "=?koi8-r?B?8NLJ18XU?= ", "=?iso-2022-jp?Q?a?= ",
        ]
        let value = String(repeating: words.joined(), count: 1000)
        let once = "\u{4F60}\u{597D}\u{65E5}\u{41F}\u{440}\u{438}\u{432}\u{435}\u{442}a"
        #expect(EncodedWordReader.decoded(value, by: converters) == String(repeating: once, count: 1000) + " ")
        #expect(converters.count == 3)
    }

    /// As clients read names: where no word may stand, and whatever the character set is.
    @Test(arguments: [
        ("=?utf-8?q?a b?=.exe", "a b.exe"), ("x=?utf-8?b?w7!xiZWw?=", "x\u{FC}bel"),
        ("=?unheard-of?q?x=2E?=exe", "x.exe"),
        ("=?iso-8859-1?Q?=FC?= =?utf-8?Q?=C3?= =?utf-8?Q?=BC.exe?=", "\u{FC}\u{FC}.exe"), ("a.exe", "a.exe"),
        ("=?utf-8?q?x", "=?utf-8?q?x"), ("", ""),
    ])
    func names(_ name: String, _ text: String) { #expect(EncodedWordReader.name(Array(name.utf8)) == text, "\(name)") }

    /// Whatever is written is read as what it was, in words of their length.
    @Test func written() {
        var generator = SeededGenerator(seed: 2047)
        for round in 0..<2000 {
            let pieces = ["a", " ", "\u{FC}", "\u{65E5}", "\u{1F600}", "=?", "_", "?="]
            let text = (0..<Int.random(in: 1...60, using: &generator)).map { _ in
                pieces[Int.random(in: 0..<pieces.count, using: &generator)]
            }.joined()
            let words = EncodedWord.words(Array(text.utf8), room: round % 90, limit: round % 2 == 0 ? 75 : 70)
            #expect(words.allSatisfy { $0.utf8.count <= 75 && $0.utf8.allSatisfy { (33...126).contains($0) } })
            #expect((EncodedWordReader.decoded(words.joined(separator: " ")) ?? "") == text)
        }
        let words = EncodedWord.words([0x61, 0xFF], room: 75)
        #expect(words == ["=?unknown-8bit?b?Yf8=?="] || words == ["=?unknown-8bit?q?a=FF?="])
    }

    /// In proportion to its length, however much looks like the beginning of a word.
    @Test func longValues() {
        for piece in ["=?", "=?utf-8?", "=?utf-8?q?", "=?utf-8?q?x", "=?utf-8?q?x?= ", " "] {
            let value = String(repeating: piece, count: 200_000 / piece.utf8.count)
            _ = EncodedWordReader.decoded("=?" + value)
        }
    }
}
