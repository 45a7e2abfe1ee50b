// Fields in ASCII, and what only SMTPUTF8 can carry (RFC 6531, RFC 2047, RFC 2231). Python's email package reads the same in
// Tests/Interop/test_mime.py.

import NIOCore
import SlimtaMail
import TestKit
import Testing

@testable import SlimtaMIME

private func containment(_ header: ByteBuffer) -> HeaderContainment {
    HeaderContainment(of: HeaderBlock(scanning: header), in: header)
}

/// The header in ASCII, its line ends as LF; of what is left nothing has to change again.
private func ascii(_ text: String) throws -> String {
    let header = "\(text)\n\n".message
    let found = containment(header)
    #expect(found.faults.isEmpty, "\(found.faults.map(\.description))")
    let applied = found.applied(to: header)
    #expect(containment(applied) == containment("\n".message))
    #expect(applied.readableBytesView.allSatisfy { $0 < 0x80 })
    return String(String(buffer: applied).replacing("\r\n", with: "\n").dropLast(2))
}

private func faults(_ text: String) -> [String] { containment("\(text)\n\n".message).faults.map(\.description) }

@Suite struct HeaderContainmentTests {
    @Test(arguments: [
        ("Subject: plain", "Subject: plain"),
        ("Subject: gr\u{FC}n", "Subject: =?utf-8?b?Z3LDvG4=?="),
        ("Subject: a gr\u{FC}n  b", "Subject: a =?utf-8?b?Z3LDvG4=?=  b"),
        ("Subject: gr\u{FC}n bl\u{E4}u b", "Subject: =?utf-8?b?Z3LDvG4gYmzDpHU=?= b"),
        ("Subject: gr\u{FC}n\n\tbl\u{E4}u", "Subject: =?utf-8?b?Z3LDvG4JYmzDpHU=?="),
        ("Subject: \u{65E5}\u{672C}\u{8A9E}", "Subject: =?utf-8?b?5pel5pys6Kqe?="),
        // What a reader drops between two encoded words is put into ours (RFC 2047 section 6.2).
        ("Subject: =?utf-8?q?a?= \u{FC} =?utf-8?q?b?=", "Subject: =?utf-8?q?a?= =?utf-8?q?_=C3=BC_?= =?utf-8?q?b?="),
        ("Subject:\u{FC}", "Subject:=?utf-8?b?w7w=?="),
        ("X-Any: \u{FC} ", "X-Any: =?utf-8?b?w7w=?= "),
        ("Comments: (\u{FC})", "Comments: =?utf-8?b?KMO8KQ==?="),
    ]) func unstructured(_ field: String, _ expected: String) throws { #expect(try ascii(field) == expected) }

    @Test func longTextIsCutBetweenCharacters() throws {
        let text = try ascii("Subject: " + String(repeating: "\u{1F600}\u{FC}", count: 40))
        let lines = text.split(separator: "\n")
        #expect(lines.count > 3 && lines.allSatisfy { $0.utf8.count <= 76 })
        for word in text.dropFirst(9).split(whereSeparator: { $0 == " " || $0 == "\n" }) {
            let content = try #require(Base64.decode(word.dropFirst(10).dropLast(2).utf8))
            #expect(String(validating: content.span) != nil && word.utf8.count <= 75)
        }
        #expect(
            try ascii("X: \(String(repeating: "x", count: 2000))").split(separator: "\n").allSatisfy {
                $0.utf8.count <= 76
            })
        #expect(try ascii("X: \(String(repeating: "word ", count: 300))x").split(separator: "\n").count > 19)
    }

    /// Nothing is guessed (RFC 1428).
    @Test func whatIsNotUTF8() {
        let header = ByteBuffer(bytes: Array("Subject: gr".utf8) + [0xFC] + "n gr\u{FC}n\r\n\r\n".utf8)
        let applied = containment(header).applied(to: header)
        #expect(String(buffer: applied) == "Subject: =?unknown-8bit?q?gr=FCn_gr=C3=BCn?=\r\n\r\n")
    }

    @Test(arguments: [
        ("To: J\u{F6}rg <j@example.com>", "To: =?utf-8?b?SsO2cmc=?= <j@example.com>"),
        ("To: J\u{F6}rg M\u{FC}ller<j@example.com>", "To: =?utf-8?b?SsO2cmcgTcO8bGxlcg==?= <j@example.com>"),
        (
            "To: Dr. J\u{F6}rg X <j@example.com>, b@example.com",
            "To: Dr. =?utf-8?b?SsO2cmc=?= X <j@example.com>, b@example.com"
        ),
        ("To: \"M\u{FC}ller, J.\" <j@example.com>", "To: =?utf-8?b?TcO8bGxlciwgSi4=?= <j@example.com>"),
        ("To: \"a \\\"\u{FC}\\\"\" <j@example.com>", "To: =?utf-8?b?YSAiw7wi?= <j@example.com>"),
        (
            "To: j@example.com (J\u{F6}rg (\u{FC} x))",
            "To: j@example.com (=?utf-8?b?SsO2cmc=?= (=?utf-8?b?w7w=?= x))"
        ),
        (
            "To: Gr\u{FC}ppe: a@example.com, b@example.com;",
            "To: =?utf-8?q?Gr=C3=BCppe?= : a@example.com, b@example.com;"
        ),
        // No addresses: names without quotes, and names alone.
        (
            "To: M\u{FC}ller, J\u{FC}rgen <j@example.com>",
            "To: =?utf-8?q?M=C3=BCller?= , =?utf-8?q?J=C3=BCrgen?= <j@example.com>"
        ),
        ("Reply-To: gr\u{FC}n", "Reply-To: =?utf-8?b?Z3LDvG4=?="), ("To: \"\u{FC}@x\"", "To: =?utf-8?b?w7xAeA==?="),
        ("To: a@b, Empf\u{E4}nger x (y)", "To: a@b, =?utf-8?q?Empf=C3=A4nger?= x (y)"),
        ("To: j@m\u{FC}nchen.de", "To: j@xn--mnchen-3ya.de"),
        ("To: j . k @ m\u{FC}nchen . de", "To: j.k@xn--mnchen-3ya.de"),
        ("To: <j@M\u{FC}nchen.de>", "To: <j@xn--mnchen-3ya.de>"),
        ("To: <\"a b\"@m\u{FC}nchen.de>", "To: <\"a b\"@xn--mnchen-3ya.de>"),
        ("To: J <j@m\u{FC}nchen.de> (x)", "To: J <j@xn--mnchen-3ya.de> (x)"),
        (
            "From: \"=?utf-8?q?a?=\" \u{FC} <j@example.com>",
            "From: \"=?utf-8?q?a?=\" =?utf-8?b?IMO8?= <j@example.com>"
        ),
        (
            "Date: Sat, 28 Nov 2026 12:00:00 +0000 (\u{FC})",
            "Date: Sat, 28 Nov 2026 12:00:00 +0000 (=?utf-8?b?w7w=?=)"
        ),
        ("List-Id: Gr\u{FC}n <a.example.com>", "List-Id: =?utf-8?b?R3LDvG4=?= <a.example.com>"),
        ("Keywords: gr\u{FC}n, blau", "Keywords: =?utf-8?b?Z3LDvG4=?= , blau"),
        ("In-Reply-To: <a@b> (\u{FC})", "In-Reply-To: <a@b> (=?utf-8?b?w7w=?=)"),
    ]) func structured(_ field: String, _ expected: String) throws { #expect(try ascii(field) == expected) }

    @Test(arguments: [
        ("Content-Type: a/b; name=gr\u{FC}n.txt", "Content-Type: a/b; name*=utf-8''gr%C3%BCn.txt"),
        ("Content-Type: a/b; name=\"gr\u{FC}n x.txt\"; x=y", "Content-Type: a/b; name*=utf-8''gr%C3%BCn%20x.txt; x=y"),
        ("Content-Type: a/b (\u{FC}); x=\"y z\"", "Content-Type: a/b; x=\"y z\""),
        ("Content-Type: a/b (\u{FC}) c/d; x=y", "Content-Type: a/b c/d; x=y"),
        ("Content-Type: a / b (\u{FC})", "Content-Type: a/b"), ("Content-Type: a/ b (\u{FC})", "Content-Type: a/b"),
        ("Content-Type: (\u{FC}) a/b", "Content-Type: a/b"),
        ("Content-Disposition: attachment(\u{FC})x", "Content-Disposition: attachment x"),
        (
            "Content-Disposition: attachment; filename=x.txt; filename*=utf-8''\u{FC}.txt",
            "Content-Disposition: attachment; filename=x.txt; filename*=utf-8''%C3%BC.txt"
        ),
        (
            "Content-Disposition: attachment; filename*0=\u{FC}; filename*1=.txt",
            "Content-Disposition: attachment; filename*=utf-8''%C3%BC.txt"
        ),
        // Not twice in the form of RFC 2231.
        (
            "Content-Disposition: attachment; filename=\u{FC}.txt; filename*=utf-8''%C3%BC.txt",
            "Content-Disposition: attachment; filename*=utf-8''%C3%BC.txt"
        ),
        (
            "Content-Disposition: attachment; filename*=utf-8''\u{FC}.txt; filename=\u{FC}.txt; x=y",
            "Content-Disposition: attachment; filename*=utf-8''%C3%BC.txt; x=y"
        ),
        ("Content-Type: a/b; name=\u{FC}; name=\u{E4}", "Content-Type: a/b; name*=utf-8''%C3%BC"),
        (
            "Content-Disposition: attachment; filename*1=a; filename=\u{FC}",
            "Content-Disposition: attachment; filename*1=a; filename*=utf-8''%C3%BC"
        ),
        (
            "Content-Disposition: attachment; filename=\u{1F600}\u{1F600}\u{1F600}\u{1F600}\u{1F600}.txt",
            """
            Content-Disposition: attachment;
             filename*0*=utf-8''%F0%9F%98%80%F0%9F%98%80%F0%9F%98%80;
             filename*1*=%F0%9F%98%80%F0%9F%98%80.txt
            """
        ),
    ]) func parameters(_ field: String, _ expected: String) throws { #expect(try ascii(field) == expected) }

    /// Each piece is looked at once, not once for each: otherwise none of these would end.
    @Test func manyPieces() throws {
        let pieces = (0..<100_000).map { "; a*\($0 % 10_000)=b" }.joined()
        #expect(try ascii("Content-Type: a/b; x=\u{FC}\(pieces)").utf8.count > pieces.utf8.count)
        let holes = String(repeating: "; a*1=b", count: 100_000)
        #expect(try ascii("Content-Type: a/b; a*2=\u{FC}\(holes)").utf8.count > holes.utf8.count)
    }

    @Test(arguments: [
        ("To: \u{FC}@example.com", "the address \u{FC}@example.com in the field To needs SMTPUTF8"),
        ("Cc: X <a@b>, J\u{F6} <\u{FC}@example.com>", "the address \u{FC}@example.com in the field Cc needs SMTPUTF8"),
        ("Message-ID: <\u{FC}@example.com>", "an identifier in the field Message-ID needs SMTPUTF8"),
        ("To: \"\u{FC} x\"@example.com", "the address \"\u{FC} x\"@example.com in the field To needs SMTPUTF8"),
        ("To: \u{FC} . x @example.com", "the address \u{FC}.x@example.com in the field To needs SMTPUTF8"),
        ("References: <a@b> <\u{FC}@example.com>", "an identifier in the field References needs SMTPUTF8"),
    ]) func whatNeedsSMTPUTF8(_ field: String, _ expected: String) {
        #expect(faults(field) == [expected])
        #expect(containment("\(field)\n\n".message).smtputf8Need?.description == expected)
    }

    @Test(arguments: [
        "Received: by \u{FC}.example.com; Sat, 28 Nov 2026 12:00:00 +0000", "DKIM-Signature: v=1; i=\u{FC}@example.com",
        "ARC-Seal: i=\u{FC}", "Date: \u{FC}", "To: \"\u{FC} <a@b>", "To: <a@b> \u{FC}", "To: (\u{FC}",
        "To: a@b, \u{FC} >",
        // Words beside an address, and no address between "<" and ">".
        "To: J\u{F6}rg j@example.com", "To: j@example.com J\u{F6}rg", "To: a (b) \u{FC}@example.com",
        "To: <J\u{F6}rg M j@example.com>", "To: <\u{FC}>", "To: X <J\u{F6}rg>",
        // Identifiers that are none.
        "In-Reply-To: Nachricht f\u{FC}r <a@b>", "References: \u{FC}", "Message-ID: <\u{FC}>",
        "List-Post: <mailto:\u{FC}@example.com>", "Content-Type: \u{FC}/b", "To: <\u{FC}",
    ]) func whatCannotBeInASCII(_ field: String) {
        let found = containment("\(field)\n\n".message)
        #expect(found.faults.count == 1 && found.edits.isEmpty && found.smtputf8Need == nil)
    }

    /// One field does not keep others from being encoded; all others stay as they are.
    @Test func otherFieldsStay() {
        let header = "Received: \u{FC}\nSubject: \u{FC}\nX:  y \n  z\nTo: a@b\n\nbody \u{FC}".message
        let found = containment(header)
        #expect(found.edits.map(\.name) == ["Subject"] && found.faults.map(\.field) == ["Received"])
        #expect(
            String(buffer: found.applied(to: header)).replacing("\r\n", with: "\n")
                == "Received: \u{FC}\nSubject: =?utf-8?b?w7w=?=\nX:  y \n  z\nTo: a@b\n\nbody \u{FC}")
    }
}
