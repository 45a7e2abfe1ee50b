// What rules are told of a message's content.

import NIOCore
import SlimtaMIME
import TestKit
import Testing

private func facts(_ text: String) throws -> ContentFacts {
    try ChunkVerifier.verify(Array(text.message.readableBytesView)) { chunks in
        var reader = ContentFactsReader()
        for chunk in chunks { reader.read(chunk) }
        return reader.finish()
    }
}

private func names(_ fields: String) throws -> [String] {
    try facts("\(fields)\n\nx\n").attachments.flatMap(\.names)
}

@Suite struct ContentFactsTests {
    @Test func aText() throws {
        let found = try facts("Subject: t\n\nhello\n")
        var expected = ContentFacts()
        expected.headerSize = 14
        #expect(found == expected)
        #expect(try facts("Subject: t\n\nh\u{E4}llo\n").hasEightBit && facts("Subject: \u{E4}\n\n").hasEightBit)
    }

    @Test func partsAndAttachments() throws {
        let found = try facts(
            """
            Content-Type: multipart/mixed; boundary=b

            --b
            Content-Type: multipart/alternative; boundary=c

            --c

            text
            --c
            Content-Type: text/html

            html
            --c--
            --b
            Content-Type: application/pdf; name=a.pdf
            Content-Disposition: attachment; filename=b.pdf

            x
            --b
            Content-Type: message/rfc822

            Content-Disposition: inline; filename="in.txt"

            x
            --b
            Content-Disposition: Attachment

            x
            --b--

            """)
        #expect(found.parts == 7 && found.nesting == 2 && found.exceeded == [])
        #expect(
            found.attachments.map { "\($0.types.joined()) \($0.names.joined(separator: " "))" } == [
                "application/pdf b.pdf a.pdf", "message/rfc822 ", "text/plain in.txt", "text/plain ",
            ])
    }

    @Test(arguments: [
        ("Content-Type: a/b; name=x.exe", ["x.exe"]), ("Content-Type: a/b; name=\"my x.exe\"", ["my x.exe"]),
        ("Content-Type: a/b; name=my x.exe", ["my x.exe"]),
        ("Content-Disposition: attachment; filename=\"x.txt\"; filename=\"x.exe\"", ["x.txt", "x.exe"]),
        ("Content-Disposition: attachment; filename=x.txt; filename*=utf-8''x.exe", ["x.exe", "x.txt"]),
        ("Content-Disposition: attachment; filename*=iso-8859-1'de'gr%FCn.exe", ["gr\u{FC}n.exe"]),
        (
            "Content-Disposition: attachment; filename*0*=utf-8''gr%C3; filename*1*=%BCn; filename*2=\".exe\"",
            ["gr\u{FC}n.exe"]
        ),
        ("Content-Disposition: attachment; filename*1=exe; filename*0=x.", ["x.exe"]),
        ("Content-Disposition: attachment; filename=\"=?utf-8?q?gr=C3=BCn?=.exe\"", ["gr\u{FC}n.exe"]),
        ("Content-Disposition: attachment; filename==?utf-8?B?eC5leGU=?=", ["x.exe"]),
        ("Content-Disposition: attachment; filename=\"=?utf-8?b?eC5l?= =?utf-8?b?eGU=?=\"", ["x.exe"]),
        ("Content-Disposition: attachment; filename=\"=?utf-8?q?=C3?= =?utf-8?q?=BC.exe?=\"", ["\u{FC}.exe"]),
        ("Content-Disposition: attachment; filename=\"x.exe", ["x.exe"]),
        ("Content-Disposition: attachment filename=\"x.exe\"", ["x.exe"]),
        ("Content-Disposition: attachment; filename = x.exe", ["x.exe"]),
        ("Content-Disposition: filename=x.exe", ["x.exe"]),
        ("Content-Disposition: attachment; size=\"1\" filename=\"x.exe\"", ["x.exe"]),
        ("Content-Disposition: attachment;\n FileName=\"x.\n exe\"", ["x. exe"]),
        ("Content-Disposition: attachment; filename=report(1).pdf (a comment)", ["report(1).pdf"]),
        ("Content-Disposition: attachment; filename=\"C:\\dir\\x.exe\"", ["C:\\dir\\x.exe"]),
        ("Content-Disposition: attachment; filename=\"a\\\"b.exe\"", ["a\"b.exe"]),
        ("Content-Disposition: attachment; filename=gr\u{FC}n.exe", ["gr\u{FC}n.exe"]),
        ("Content-Disposition: attachment; filename=\"\"", []),
        // Clients look for either name in either field, and take the first or the last of them.
        ("Content-Disposition: attachment; name=x.exe", ["x.exe"]), ("Content-Type: a/b; filename=x.exe", ["x.exe"]),
        (
            "Content-Disposition: attachment; filename=a.txt\nContent-Disposition: attachment; filename=x.exe",
            ["a.txt", "x.exe"]
        ),
        ("Content-Type: a/b; name=a.txt\nContent-Type: a/b; name=x.exe", ["a.txt", "x.exe"]),
        (
            "Content-Type: a/b; filename=3; name=2\nContent-Disposition: x; name=1; filename=0", ["0", "1", "2", "3"]
        ),
    ]) func namesAsClientsTakeThem(_ field: String, _ expected: [String]) throws {
        #expect(try names(field) == expected)
    }

    /// What is in it is not known, and by its type a rule can refuse it.
    @Test(arguments: [
        ("message/rfc822", "base64", true), ("multipart/mixed; boundary=b", "Quoted-Printable", true),
        ("message/global", "x-uuencode", true), ("multipart/mixed; boundary=b", "8bit", false),
        ("multipart/mixed; boundary=b", "8bits", false), ("application/pdf", "base64", false),
    ])
    func whatIsEncodedThoughItHasParts(type: String, encoding: String, isExceeded: Bool) throws {
        let found = try facts("Content-Type: \(type)\nContent-Transfer-Encoding: \(encoding)\n\nx\n")
        let expected: ContentFacts.Bounds = isExceeded ? .encoded : []
        #expect(found.exceeded == expected)
        let isAttachment = isExceeded || !type.hasPrefix("multipart")
        #expect(found.attachments.flatMap(\.types) == (isAttachment ? [String(type.prefix { $0 != ";" })] : []))
    }

    /// Names that fill the room do not hide another one.
    @Test func ofTooManyNamesTheEndsAreKept() throws {
        let many = (0..<2_000).map { " ; name=\($0)\(String(repeating: "x", count: 40))" }.joined(separator: "\n")
        let type = String(repeating: "t", count: 80)
        let found = try facts("Content-Type: a/\(type); name=1.exe; name=2.exe\n\(many)\n ; name=3.exe\n\nx\n")
        #expect(found.exceeded == .attachments && found.attachments.count == 1)
        #expect(found.attachments[0].types == [String(type.suffix(64))])
        #expect(found.attachments[0].names == ["1.exe", "2.exe", "3.exe"])
    }

    @Test func whatIsBeyondTheBoundsIsTold() throws {
        let long = String(repeating: "x", count: 3000)
        let part = "--b\nContent-Type: a/b; name=\(long).exe\n\nx\n"
        let found = try facts("Content-Type: multipart/mixed; boundary=b\n\n" + String(repeating: part, count: 70))
        #expect(found.parts == 70 && found.exceeded == .attachments && found.attachments.count == 70)
        let sizes = found.attachments.map(\.names[0].utf8.count)
        #expect(sizes == sizes.sorted(by: >) && sizes.prefix(50).allSatisfy { $0 == 1000 } && sizes.last == 64)
        #expect(found.attachments.allSatisfy { $0.names[0].hasSuffix("x.exe") })
        let many = try facts(
            "Content-Type: multipart/mixed; boundary=b\n\n" + String(repeating: "--b\n\n\n", count: 1001))
        #expect(many.parts == 1000 && many.exceeded == .parts)
        let deep = try facts(String(repeating: "Content-Type: message/rfc822\n\n", count: 22))
        #expect(deep.nesting == 20 && deep.exceeded == .nesting)
    }

    // MARK: What clients do not agree on

    /// The header of a part, with what is behind it, in which one client or another finds x.exe.
    @Test(arguments: [
        // A line that is no field: passed over, or folded behind what is before it.
        "junk\nContent-Disposition: attachment; filename=x.exe\n\n",
        "X: y\njunk: \u{FC}\n junk\nContent Type: x\nContent-Disposition: attachment; filename=x.exe\n\n",
        "Content-Disposition: attachment;\njunk\n filename=x.exe\n\n",
        "Content-Disposition: attachment;\nfilename=x.exe\n\n",
        "Content-Disposition: attachment; filename*0=x.;\nfilename*1=exe\n\n",
        " Content-Disposition: attachment; filename=x.exe\n\n",
        "From x\nContent-Disposition: attachment; filename=x.exe\n\n",
        "junk\nContent-Type: multipart/mixed; boundary=c\n\n--c\nContent-Type: a/b; name=x.exe\n\n",
        "Content-Type: multipart/mixed;\nboundary=c\n\n--c\nContent-Type: a/b; name=x.exe\n\n",
        "Content-Type: message/rfc822\njunk\n\nContent-Type: a/b; name=x.exe\n\n",
        "Content-Type: message/rfc822\njunk\nContent-Type: a/b; name=x.exe\n\n",
        // It ends the header, and the next one is that of a part.
        "Content-Type: multipart/mixed; boundary=c\njunk\n--c\nContent-Type: a/b; name=x.exe\n\n",
        // Or it does not, and that is no delimiter.
        "Content-Type: multipart/mixed; boundary=c\njunk\n--c--\n\n--c\nContent-Type: a/b; name=x.exe\n\n",
        "Content-Type: multipart/mixed; boundary=c\njunk\n--c\nContent-Type: multipart/mixed; boundary=d\n\n--c\n\n--d\n"
            + "Content-Type: a/b; name=x.exe\n\n",
        // The first of two fields or parameters, or the last.
        "Content-Type: multipart/mixed; boundary=c\nContent-Type: text/plain\n\n--c\nContent-Type: a/b; name=x.exe\n\n",
        "Content-Type: text/plain\nContent-Type: multipart/mixed; boundary=c\n\n--c\nContent-Type: a/b; name=x.exe\n\n",
        "Content-Type: text/plain\nContent-Type: message/rfc822\n\nContent-Type: a/b; name=x.exe\n\n",
        "Content-Type: multipart/mixed; boundary=c; boundary=d\n\n--d\nContent-Type: a/b; name=x.exe\n\n",
        "Content-Type: multipart/mixed; boundary=c; boundary*=us-ascii''d\n\n--d\nContent-Type: a/b; name=x.exe\n\n",
        "Content-Type: multipart/mixed; boundary=c; boundary=d\n\n--c--\n--d\nContent-Type: a/b; name=x.exe\n\n",
        "Content-Type: multipart/mixed; boundary=c; boundary=d\n\n--c\nContent-Type: multipart/mixed; boundary=e\n\n"
            + "--d\n\n--e\nContent-Type: a/b; name=x.exe\n\n",
        "Content-Type: message/rfc822\nContent-Type: multipart/mixed; boundary=c\n\nContent-Type: multipart/mixed;\n"
            + " boundary=d\n\n--c\n\n--d\nContent-Type: a/b; name=x.exe\n\n",
        "Content-Type: multipart/digest; boundary=c\nContent-Type: multipart/mixed; boundary=c\n\n--c\n\n"
            + "Content-Type: a/b; name=x.exe\n\n",
        // Its parts are messages where something in it is no multipart, or where a delimiter ends nothing.
        "Content-Type: multipart/digest; boundary=c\n\n--c\nContent-Type: multipart/mixed x/y; boundary=c\n\n--c\n\n"
            + "Content-Type: a/b; name=x.exe\n\n",
        "Content-Type: multipart/mixed; boundary=c; boundary=d\n\n--c\nContent-Type: multipart/digest; boundary=e\n\n"
            + "--d\n\n--e\n\nContent-Type: a/b; name=x.exe\n\n",
        // A type ends at a blank, or does not.
        "Content-Type: message/rfc822 junk\n\nContent-Type: a/b; name=x.exe\n\n",
        "Content-Type: message/rfc822\rvent-Type: message/rfc822\n\nContent-Type: a/b; name=x.exe\n\n",
        "Content-Type: multipart/mixed junk/junk; boundary=c\n\n--c\nContent-Type: a/b; name=x.exe\n\n",
        "Content-Type: multipart/mixed; boundary=\"\"; boundary=c\n\n--c\nContent-Type: a/b; name=x.exe\n\n",
        // A delimiter of what is around, or the last one of what is within.
        "Content-Type: multipart/mixed; boundary=c--\n\n--c--\nContent-Type: multipart/mixed; boundary=c\n\n--c--\n"
            + "Content-Type: a/b; name=x.exe\n\n",
    ])
    func whatAnyClientFindsIsFound(part: String) throws {
        let found = try facts("Content-Type: multipart/mixed; boundary=b\n\n--b\n\(part)x\n--b--\n")
        #expect(found.attachments.flatMap(\.names).contains("x.exe") && found.exceeded == [])
    }

    /// So with types, and with what is an attachment though it has no name.
    @Test(arguments: [
        ("Content-Type: text/plain\nContent-Type: a/x", ["text/plain", "a/x"]),
        ("Content-Type: a/x\nContent-Type: text/plain", ["a/x", "text/plain"]),
        // The last for whom the line goes on with the one before it.
        ("Content-Type: text/plain\njunk\nContent-Type: a/x", ["text/plain", "a/x", "text/plainjunk"]),
        ("junk\nContent-Type: a/x", ["text/plain", "a/x"]),
        ("Content-Type: a/x junk", ["a/xjunk", "a/x"]),
        ("Content-Type: a / x(junk)", ["a/x"]),
        ("Content-Disposition: attachment junk", ["text/plain"]),
        ("Content-Disposition: inline\nContent-Disposition: attachment", ["text/plain"]),
        (
            "Content-Type: multipart/mixed\nContent-Transfer-Encoding: 7bit\njunk\nContent-Transfer-Encoding: base64",
            ["multipart/mixed"]
        ),
        ("Content-Type: text/plain\nContent-Type: text/html\njunk: x", []),
    ])
    func allTypesCount(header: String, types: [String]) throws {
        let found = try facts("Content-Type: multipart/mixed; boundary=b\n\n--b\n\(header)\n\nx\n--b--\n")
        #expect(found.attachments.flatMap(\.types) == types && found.parts == 1)
    }

    /// The header of the message itself ends where its storage puts the empty line.
    @Test func theMessagesOwnHeaderIsDecided() throws {
        #expect(try facts("X: y\njunk\nContent-Type: a/b; name=x.exe\n\nx\n").attachments.isEmpty)
        let text = try facts(
            "Content-Type: multipart/mixed; boundary=b\n\n--b\nText that begins at once.\nNote: x\n\n--b--\n")
        #expect(text.parts == 1 && text.attachments.isEmpty && text.exceeded == [])
    }

    /// Who has many boundaries is not believed.
    @Test func tooManyBoundaries() throws {
        let eight = (0..<8).map { "; boundary=c\($0)" }.joined()
        #expect(try facts("Content-Type: multipart/mixed\(eight)\n\nx\n").exceeded == [])
        #expect(try facts("Content-Type: multipart/mixed\(eight); boundary=d\n\nx\n").exceeded == .header)
        let nested = "--c0\nContent-Type: multipart/mixed; boundary=d\n\n"
        #expect(try facts("Content-Type: multipart/mixed\(eight)\n\n\(nested)--c1\n").exceeded == .header)
    }
}
