// How texts, names, addresses and parameters stand in header fields: RFC 2047, 2231, 5322, 6532.

import SlimtaMail
import Testing

@testable import SlimtaMail

@Suite struct FieldWriterTests {
    private func field(_ name: String, _ write: (inout FieldWriter) -> Void) -> String {
        var writer = FieldWriter(name)
        write(&writer)
        return String(decoding: writer.field, as: UTF8.self)
    }

    @Test(arguments: [
        ("", "Subject:\r\n"), ("a  b", "Subject: a  b\r\n"), ("a = b?", "Subject: a = b?\r\n"),
        // What a reader would lose or decode is encoded.
        (" a", "Subject: =?utf-8?q?_a?=\r\n"), ("a ", "Subject: =?utf-8?q?a_?=\r\n"),
        ("=?x?=", "Subject: =?utf-8?b?PT94Pz0=?=\r\n"),
        ("a_b is like \u{E9}", "Subject: =?utf-8?q?a=5Fb_is_like_=C3=A9?=\r\n"),
        // The shorter of both.
        ("\u{65E5}\u{672C}", "Subject: =?utf-8?b?5pel5pys?=\r\n"),
        // A blank with an accent is one all the same.
        ("a \u{301}", "Subject: =?utf-8?q?a_=CC=81?=\r\n"),
    ])
    func unstructured(_ text: String, _ expected: String) {
        #expect(field("Subject") { $0.append(text: text) } == expected)
    }

    /// Never behind the colon, never within a word, and every blank stays.
    @Test func folding() {
        let words = Array(repeating: "1234567", count: 20).joined(separator: "   ")
        let text = field("Subject") { $0.append(text: words) }
        #expect(text.utf8.split(separator: 10).allSatisfy { $0.count <= 77 })
        #expect(text.replacing("\r\n", with: "") == "Subject: \(words)")
        let long = String(repeating: "x", count: 200)
        #expect(field("Subject") { $0.append(text: "\(long) b") } == "Subject: \(long)\r\n b\r\n")
    }

    /// RFC 2047 section 2: a word has at most 75 octets, its line 76; section 5: no character is cut.
    @Test(arguments: ["\u{E4}", "a\u{20AC}", "\u{1F600}", "ab\u{E9}cd ", "\u{65E5}\u{672C} x"])
    func encodedWords(_ part: String) {
        for count in 1...80 {
            let text = field("X-Some-Field") { $0.append(text: String(repeating: part, count: count) + "\u{E4}") }
            for line in text.utf8.split(separator: 10) { #expect(line.count <= 77) }
            for word in text.split(whereSeparator: \.isWhitespace).dropFirst() { #expect(word.utf8.count <= 75) }
        }
    }

    @Test(arguments: [
        (nil, "a@b.c"), ("", "a@b.c"), ("Joe Q Public", "Joe Q Public <a@b.c>"), ("  Joe   Q ", "Joe Q <a@b.c>"),
        ("J. Q.", "\"J. Q.\" <a@b.c>"), ("Doe, \"J\" \\", "\"Doe, \\\"J\\\" \\\\\" <a@b.c>"),
        ("J\u{F6}rg Miller", "=?utf-8?q?J=C3=B6rg_Miller?= <a@b.c>"),
        ("J\u{F6}rg (x)", "=?utf-8?b?SsO2cmcgKHgp?= <a@b.c>"), ("=?x", "=?utf-8?b?PT94?= <a@b.c>"),
        ("a@b", "\"a@b\" <a@b.c>"),
    ])
    func names(_ name: String?, _ expected: String) throws {
        let address = MailDraft.Address(name: name, try #require(Mailbox(parsing: "a@b.c")))
        #expect(field("To") { $0.append([address], allowsUTF8: false) } == "To: \(expected)\r\n")
    }

    @Test func utf8Names() throws {
        let address = MailDraft.Address(name: "J\u{F6}rg, X", try #require(Mailbox(parsing: "\u{FC}@m\u{FC}.de")))
        #expect(
            field("To") { $0.append([address, address], allowsUTF8: true) }
                == "To: \"J\u{F6}rg, X\" <\u{FC}@m\u{FC}.de>, \"J\u{F6}rg, X\" <\u{FC}@m\u{FC}.de>\r\n")
    }

    /// RFC 6532 is not needed for a domain alone.
    @Test func domains() throws {
        let address = MailDraft.Address(try #require(Mailbox(parsing: "a@m\u{FC}nchen.de")))
        #expect(field("To") { $0.append([address], allowsUTF8: false) } == "To: a@xn--mnchen-3ya.de\r\n")
    }

    @Test(arguments: [
        ("a.txt", "filename=a.txt"), ("two words.txt", "filename=\"two words.txt\""),
        ("(1).txt", "filename=\"(1).txt\""),
        ("a;b", "filename*=UTF-8''a%3Bb"), ("50%", "filename*=UTF-8''50%25"), ("a'b*", "filename*=UTF-8''a%27b%2A"),
        ("\u{E4}.pdf", "filename*=UTF-8''%C3%A4.pdf"), ("\u{20AC} rates", "filename*=UTF-8''%E2%82%AC%20rates"),
        ("a  b", "filename*=UTF-8''a%20%20b"), ("=?utf-8?q?x?=", "filename*=UTF-8''%3D%3Futf-8%3Fq%3Fx%3F%3D"),
    ])
    func fileNames(_ name: String, _ expected: String) {
        let text = field("Content-Disposition") {
            $0.append("attachment")
            $0.append(fileName: name)
        }
        #expect(text.replacing("\r\n", with: "") == "Content-Disposition: attachment; \(expected)")
    }

    /// RFC 2231 section 3; no character is cut.
    @Test func longFileNames() {
        let name = String(repeating: "\u{20AC}", count: 30)
        let text = field("Content-Disposition") {
            $0.append("attachment")
            $0.append(fileName: name)
        }
        let piece = String(repeating: "%E2%82%AC", count: 6)
        let pieces = (0..<5).map { ";\r\n filename*\($0)*=\($0 == 0 ? "UTF-8''" : "")\(piece)" }.joined()
        #expect(text == "Content-Disposition: attachment\(pieces)\r\n")
    }
}

@Suite struct FileNameTests {
    @Test(
        arguments: [
            ("a.txt", "a.txt"), ("/etc/passwd", "passwd"), ("C:\\dir\\a b.doc", "a b.doc"), ("..", nil), ("", nil),
            ("a/", "a"),
            (".profile", "profile"), (" .. x ", "x"), ("\u{3000}x\u{A0}", "x"), ("e\u{301}", "\u{E9}"),
            ("a/\u{301}b", "\u{301}b"),
        ] as [(String, String?)])
    func sanitised(_ text: String, _ name: String?) {
        #expect(FileName.sanitised(text).map { Array($0.utf8) } == name.map { Array($0.utf8) })
    }

    @Test func length() throws {
        let name = try #require(FileName.sanitised(String(repeating: "\u{20AC}", count: 100)))
        #expect(name.utf8.count == 255)
    }
}

@Suite struct MediaTypeTests {
    @Test(arguments: [
        ("image/png", "image/png", []), ("Text/CSV; Charset=\"utf-8\"", "text/csv", ["charset=utf-8"]),
        ("text/calendar;method=REQUEST ; name=\"x.ics\";", "text/calendar", ["method=REQUEST"]),
        ("a/b; c=\"d \\\" e\"", "a/b", ["c=d \" e"]),
    ])
    func read(_ text: String, _ name: String, _ parameters: [String]) throws {
        let type = try #require(MediaType(text))
        #expect(type.name == name)
        #expect(type.parameters.map { "\($0.name)=\($0.value)" } == parameters)
    }

    @Test(arguments: [
        "", "image", "image/", "/png", "image/png/x", "image/png x", "a/b; c", "a/b; c=", "a/b; c=\"d", "a/b; c=d; C=e",
        "a/b\r\nX: y", "a/b; c*=utf-8''x", "\u{E4}/b", "a/b; c=\"\u{E4}\"", " a/b",
    ])
    func isNone(_ text: String) { #expect(MediaType(text) == nil) }
}

@Suite struct Base64TextTests {
    @Test(arguments: [("", ""), ("SGVsbG8=", "SGVsbG8="), (" SGVs\r\nbG8=\t\n", "SGVsbG8="), ("+/8=", "+/8=")])
    func taken(_ text: String, _ kept: String) throws { #expect(try Base64Text(checking: text).text == kept) }

    @Test(arguments: [
        ("SGVsbG8", "not padded"), ("SGVsbG8=SGVs", "padding within"), ("-_8=", "alphabet for URLs"),
        ("SGVs!", "another character"),
        ("SGVsbG9=", "bits that belong"), ("SGW=====", "padding within"), ("=", "not padded"),
        ("\u{E4}AAA", "another character"),
        ("A===", "padding within"),
    ])
    func refused(_ text: String, _ reason: String) {
        #expect { try Base64Text(checking: text) } throws: { "\($0)".contains(reason) }
    }
}

@Suite struct ContentIDTests {
    @Test(
        arguments: [
            ("logo", "logo"), ("<a.b@c.d>", "a.b@c.d"), ("cid:x-1", "x-1"), ("", nil), ("a b", nil), ("a@", nil),
            ("@a", nil),
            ("a@b@c", nil), ("a..b", nil), ("<a", nil), ("\u{E4}", nil), ("a%40b", nil),
        ] as [(String, String?)])
    func identifiers(_ text: String, _ id: String?) { #expect(ContentIDs.identifier(text) == id) }

    @Test(arguments: [
        ("<img src=\"cid:logo\">", "<img src=\"cid:logo@h\">"), ("CID:logo", "CID:logo@h"),
        ("cid:logo2 cid:logo", "cid:logo2 cid:logo@h"),
        ("cid:logo@x", "cid:logo@x"), ("cid:logo%40x", "cid:logo%40x"), ("acid:other", "acid:other"), ("cid:", "cid:"),
        ("\u{E4}cid:logo\u{E4}", "\u{E4}cid:logo@h\u{E4}"),
    ])
    func qualified(_ html: String, _ expected: String) {
        #expect(ContentIDs.qualified(html, ["logo"], hostname: "h") == expected)
    }
}
