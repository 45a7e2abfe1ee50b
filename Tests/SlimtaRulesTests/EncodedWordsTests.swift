// Encoded words of RFC 2047, as rules about the header read them.

import NIOCore
import Testing

@testable import SlimtaRules

struct EncodedWordsTests {
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
    func decoded(_ value: String, _ text: String) { #expect(EncodedWords.decoded(value) == text, "\(value)") }

    @Test(arguments: [
        "", "plain", "=?", "=?utf-8", "=?utf-8?", "=?utf-8?q", "=?utf-8?q?", "=?utf-8?q?x", "=?utf-8?q?x?",
        "=?utf-8?x?y?=",
        "=??q?x?=", "=?utf-8?qq?x?=", "=?utf-8?b?!!!?=", "=?utf-8?q?a b?=", "=?unheard-of?q?x?=",
        "=?iso-2022-cn-ext?b?eA==?=",
        "=?UTF-8//TRANSLIT?q?x?=",
    ])
    func isNone(_ value: String) { #expect(EncodedWords.decoded(value) == nil, "\(value)") }

    /// Half characters at the end, and octets that are none.
    @Test func brokenText() {
        #expect(EncodedWords.decoded("=?shift_jis?B?k/qW?=") == "\u{65E5}")
        #expect(EncodedWords.decoded("=?gb2312?Q?=FF=FFa?=")?.hasSuffix("a") == true)
        #expect(EncodedWords.decoded("=?utf-8?Q?=FFa?=") == "\u{FFFD}a")
    }

    /// A condition is met by what is written and by what it says.
    @Test func valuesOfAHeader() {
        let head = ByteBuffer(
            string: "Subject: =?utf-8?q?=C3=BCbel?=\r\n =?utf-8?q?_x?=\r\nX-A: plain\r\nSubject: second\r\n\r\n")
        let facts = HeaderFacts(of: head)
        #expect(
            facts.values(of: "subject") == ["=?utf-8?q?=C3=BCbel?= =?utf-8?q?_x?=", "\u{FC}bel x", "second"])
        #expect(facts.values(of: "X-A") == ["plain"])
    }

    /// A character set is opened once, however often it changes, and each word begins anew with it.
    @Test func charactersSetsByTurns() {
        let converters = EncodedWords.Converters()
        let words = [
            "=?big5?B?p0Gmbg==?= ", "=?iso-2022-jp?B?GyRCRnw=?= ", "=?koi8-r?B?8NLJ18XU?= ", "=?iso-2022-jp?Q?a?= ",
        ]
        let value = String(repeating: words.joined(), count: 1000)
        let once = "\u{4F60}\u{597D}\u{65E5}\u{41F}\u{440}\u{438}\u{432}\u{435}\u{442}a"
        #expect(EncodedWords.decoded(value, by: converters) == String(repeating: once, count: 1000) + " ")
        #expect(converters.count == 3)
    }

    /// In proportion to its length, however much looks like the beginning of a word.
    @Test func longValues() {
        for piece in ["=?", "=?utf-8?", "=?utf-8?q?", "=?utf-8?q?x", "=?utf-8?q?x?= ", " "] {
            let value = String(repeating: piece, count: 200_000 / piece.utf8.count)
            _ = EncodedWords.decoded("=?" + value)
        }
    }
}
