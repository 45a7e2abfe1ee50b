// What a header is: one reading for everybody, whatever comes. And what is put on top of it.

import Foundation
import NIOCore
import SlimtaMail
import TestKit
import Testing

@testable import SlimtaPolicy

private let now = Timestamp(milliseconds: 1_795_255_200_000)
private let context = PolicyContext(
    hostname: "mail.example.com", now: now, zoneOffset: 0, newID: { time, _ in QueueID(at: time) })

private let id = QueueID(at: now)

private func envelope(_ name: String = "laptop") -> Envelope {
    Envelope(
        id: id, sender: Mailbox(parsing: "a@example.com"),
        recipients: [Mailbox(parsing: "b@example.org")!],
        received: now, client: ClientInfo(address: "192.0.2.7", name: name, protocolWord: "ESMTPSA"))
}

private func run(_ policies: [any QueuePolicy], _ content: [UInt8], _ name: String = "laptop") throws(PolicyRefusal)
    -> [UInt8]
{
    let mail = try applying(policies, to: envelope(name), ByteBuffer(bytes: content), context, hops: 20)
    return Array(mail.envelopes[0].prependedFields.readableBytesView) + Array(mail.message.head.readableBytesView)
}

private func run(_ policies: [any QueuePolicy], _ content: String, _ name: String = "laptop") throws(PolicyRefusal)
    -> String
{
    String(decoding: try run(policies, Array(content.utf8), name), as: UTF8.self)
}

@Suite struct HeaderTests {
    /// The line of a mailbox file goes; what is behind it is the header.
    @Test(arguments: [
        ("From a@b Sat Jan  1 00:00:00 2022\r\nA: 1\r\nBcc: secret\r\n\r\nx", "A: 1\r\n\r\nx"),
        (">From a@b\r\nA: 1\r\n\r\n", "A: 1\r\n\r\n"),
        ("From a\r\n>From b\r\nBcc: secret\r\nA: 1\r\n\r\n", "A: 1\r\n\r\n"),
        // Fields, and text.
        ("From : a@b\r\n\r\n", "From : a@b\r\n\r\n"), ("From: a\r\n\r\nFrom here\r\n", "From: a\r\n\r\nFrom here\r\n"),
        ("From now on, all is well.\r\n", "\r\nFrom now on, all is well.\r\n"),
        ("From now on\r\n\r\nA: 1\r\n", "\r\nFrom now on\r\n\r\nA: 1\r\n"),
    ])
    func mailboxLine(content: String, expected: String) throws { #expect(try run([], content) == expected) }

    /// A line that is no field ends the header: then there is an empty line before it.
    @Test(arguments: [
        ("A: 1\r\nno field\r\nmore\r\n\r\nx", "A: 1\r\n\r\nno field\r\nmore\r\n\r\nx"), ("text\r\n", "\r\ntext\r\n"),
        ("text", "\r\ntext"), ("A: 1\r\ntext", "A: 1\r\n\r\ntext"), (" folded\r\n", "\r\n folded\r\n"),
        ("A: 1\r\nhttp is fine\r\nX-Other: 2\r\n", "A: 1\r\n\r\nhttp is fine\r\nX-Other: 2\r\n"),
        // Behind an empty line it is text anyway.
        ("A: 1\r\ntext\r\n\r\nBcc: x\r\n", "A: 1\r\n\r\ntext\r\n\r\nBcc: x\r\n"),
        // What has its end stays, octet for octet.
        ("A: 1\r\n \r\nB: 2\r\n\r\nx", "A: 1\r\n \r\nB: 2\r\n\r\nx"), ("A: 1\r\n", "A: 1\r\n"), ("", ""),
    ])
    func anEmptyLineIsPutIn(content: String, expected: String) throws { #expect(try run([], content) == expected) }

    /// Not if somebody would miss what stands behind it: it would be shown to all, or be there twice.
    @Test(arguments: [
        ("A: 1\r\nno field\r\nBcc: secret\r\n\r\n", 2), ("no field\r\nBcc : secret\r\n\r\n", 1),
        ("A: 1\r\nB: 2\r\n 3\r\nno field\r\nDATE: x\r\n\r\n", 4), (" A: 1\r\nMessage-ID: <a@b>\r\n\r\n", 1),
        (" Bcc: secret\r\n\r\n", 1), ("Bcc\u{A0}: secret\r\n\r\n", 1), ("A: 1\r\nB\u{1}cc: secret\r\n\r\n", 2),
        ("\u{FEFF}Bcc: secret\r\n", 1), ("Resent-Bcc x: secret", 1), ("A: 1\r\nB cc: secret\r\n", 2),
        ("From a@b\r\nA: 1\r\nFrom c@d\r\nTo: x\r\n\r\n", 3), ("x\r\nContent-Type: text/html\r\n", 1),
        ("x\r\nReceived: y\r\n", 1), ("x\r\n Subject: y\r\n", 1),
    ])
    func elseItIsRefused(content: String, line: Int) {
        let refusal = #expect(throws: PolicyRefusal.self) { try run([], content) }
        #expect(
            refusal?.reply.description
                == "554 5.6.0 Line \(line) of the message is no header field, and an empty line must end the header")
    }

    /// Loops are counted in the header that there is.
    @Test func hopsBehindAMailboxLine() {
        let hops = String(repeating: "Received: from a by b; date\r\n", count: 21)
        let refusal = #expect(throws: PolicyRefusal.self) { try run([], "From a@b\r\n" + hops + "\r\n") }
        #expect(refusal?.reply.description.hasPrefix("554 5.4.6") == true)
    }

    // MARK: One reading

    /// Whatever comes in: who reads on to the first empty line finds fields alone, no Bcc, one Date and one Message-ID.
    private func check(_ content: [UInt8]) -> Bool {
        guard let result = try? run([DatePolicy(), MessageIDPolicy(), ReceivedPolicy()], content) else { return false }
        var names: [String: Int] = [:]
        for line in lines(result) {
            if line.isEmpty { break }
            let text = String(String.UnicodeScalarView(line.map { Unicode.Scalar($0) }))
            if text.hasPrefix(" ") || text.hasPrefix("\t") { continue }
            let name = text.prefix { $0 != ":" }
            let isField =
                name.count < text.count && !name.isEmpty
                && name.unicodeScalars.allSatisfy { (33...126).contains($0.value) || $0 == " " || $0 == "\t" }
            #expect(isField, "\(ChunkVerifier.printable(content)): \(text)")
            names[name.trimmingCharacters(in: .whitespaces).lowercased(), default: 0] += 1
        }
        #expect(names["bcc"] == nil && names["resent-bcc"] == nil, "\(ChunkVerifier.printable(content))")
        #expect(
            names["date", default: 0] == 1 && names["message-id", default: 0] == 1,
            "\(ChunkVerifier.printable(content))")
        // Nor is one to be found by who passes lines over that are none.
        let text = String(decoding: result, as: UTF8.self)
        #expect(!text.contains(": secret"), "\(ChunkVerifier.printable(content))")
        let dates = text.replacingOccurrences(of: "X-Original-Date: ", with: "").components(separatedBy: "Date: ")
        #expect(dates.count == 2, "\(ChunkVerifier.printable(content))")
        return true
    }

    private func lines(_ octets: [UInt8]) -> [ArraySlice<UInt8>] {
        octets.split(separator: 10, omittingEmptySubsequences: false).map { $0.last == 13 ? $0.dropLast() : $0 }
    }

    @Test func randomLines() {
        var generator = SeededGenerator(seed: 18)
        let pool = [
            "Date: 1 Jan 2020 00:00 UT", "Bcc: secret", "Message-ID: <a@b>", "A: 1", " folded", "no field", "From a@b",
            ">From c", "\tx",
            "B\u{FC}: 1", "Bcc\u{1}: secret", ":", "bcc secret", "Subject: x", "Resent-Bcc: secret", "http://x", " ",
        ]
        var taken = 0
        for _ in 0..<20_000 {
            var once: Set<String> = []
            let lines = (0..<Int.random(in: 0...7, using: &generator)).map { _ in pool.randomElement(using: &generator)!
            }
            .filter { !($0.hasPrefix("Date") || $0.hasPrefix("Message")) || once.insert($0).inserted }
            let text =
                lines.joined(separator: "\r\n") + ["", "\r\n", "\r\n\r\n", "\r\n\r\nA: body"].randomElement(
                    using: &generator)!
            if check(Array(text.utf8)) { taken += 1 }
        }
        #expect(taken > 5000)
    }

    /// Values of our own and of others, folded and not, in the place where they may hide a Bcc.
    @Test func values() throws {
        var values = try Fixtures.json([String].self, "header-values.json")
        if SharedFiles.areThere {
            struct Case: Decodable { let header: String }
            for file in ["address.json", "date.json", "id.json"] {
                values += try SharedFiles.vector([Case].self, "header-fields/" + file).map(\.header)
            }
        }
        for value in values {
            let crlf = value.replacingOccurrences(of: "\r\n", with: "\n").replacingOccurrences(of: "\n", with: "\r\n")
            let field = "X-Value: " + crlf + (crlf.hasSuffix("\r\n") ? "" : "\r\n")
            let content = "First: 1\r\n\(field)Bcc: secret@x.test\r\nDate: x\r\n\r\nbody\r\n"
            guard let result = try? run([DatePolicy(), MessageIDPolicy()], content) else { continue }
            // An empty line in a value ends the header, and what is behind it is text.
            let header = result.components(separatedBy: "\r\n\r\n")[0]
            #expect(!header.contains("secret"), "\(value)")
            if !field.dropLast(2).contains("\r\n\r\n") { #expect(!result.contains("secret"), "\(value)") }
        }
    }

    @Test(.enabled(if: SharedFiles.areThere, "../shared is not beside the repository")) func corpus() throws {
        var (count, taken) = (0, 0)
        for folder in ["ruby-mail", "enmime"] {
            let root = SharedFiles.vectors.appending(path: "mail-corpus/" + folder).path
            for file in FileManager.default.enumerator(atPath: root)?.compactMap({ $0 as? String }) ?? [] {
                guard file.hasSuffix(".eml") || file.hasSuffix(".raw") else { continue }
                let octets = try SharedFiles.vector("mail-corpus/\(folder)/\(file)").filter { $0 != 13 && $0 != 0 }
                let content = octets.flatMap { $0 == 10 ? [13, 10] : [$0] }
                count += 1
                if (try? run([], content)) != nil { taken += 1 }
                guard let result = try? run([DatePolicy()], content) else { continue }
                for line in lines(result).prefix(while: { !$0.isEmpty }) where ![32, 9].contains(line.first) {
                    #expect(line.contains(UInt8(ascii: ":")), "\(file)")
                }
            }
        }
        #expect(count > 100 && taken > count - 12)
    }
}

@Suite struct MessageIDTests {
    /// RFC 6409 section 8.3: one that is none is replaced, and kept under another name.
    @Test(arguments: [
        "", " ", " <>", " < >", " no-brackets@x", " not an id", " <a@b", " a@b>", " <a>", " <@b>", " <a@>",
        " <a@b> <c@d>",
        " <<a@b>>", "\r\n ", " (<a@b>)", " <a@b>x",
        // It needs SMTPUTF8, which the client did not ask for.
        " <\u{FC}@b>",
        // We have given it to another message.
        " <0123456789abcdef0123456789abcdef@mail.example.com>",
        "\r\n <0123456789ABCDEF0123456789abcdef@Mail.Example.Com> ()",
    ])
    func isReplaced(value: String) throws {
        let field = "message-id:\(value)\r\n"
        let text = try run([MessageIDPolicy()], "A: 1\r\n\(field)Subject: x\r\n\r\nx")
        #expect(text.hasSuffix("\r\nA: 1\r\nX-Original-\(field)Subject: x\r\n\r\nx"))
        #expect(text.hasPrefix("Message-ID: <") && text.contains("@mail.example.com>\r\n"))
    }

    @Test(arguments: [
        " <a@b>", "<a@b>", "\r\n <a@b>", " <a@b> (comment)", " (x (y)) <a@b>", " <\"a b\"@c>", " <a@[192.0.2.1]>",
        " <1234   @   local(blah)  .machine .example>", " <a..b@c>", " <a(b)@c>", " <a@b@c>",
        " <a:b/c=d@e>",
        // Ours, and what only looks like ours.
        " <\(id)@MAIL.example.com>", " <0123456789abcdef0123456789abcdef@other.example.com>",
        " <0123456789abcdef@mail.example.com>", " <x0123456789abcdef0123456789abcde@mail.example.com>",
    ])
    func isLeft(value: String) throws {
        let content = "Message-Id:\(value)\r\n\r\nx"
        #expect(try run([MessageIDPolicy()], content) == content)
    }

    /// Our own mail comes back from a content filter, whole or split; a Received of others, or of another message, says nothing.
    @Test(arguments: [
        ("mail.example.com (slimtad)", "0123456789abcdef0123456789abcdef", true),
        ("mail.example.com (slimtad)", "0123456789ab00000000000000000000", true),
        ("mail.example.com (slimtad)", "0123456789ac00000000000000000000", false),
        ("mail.example.com (Postfix)", "0123456789abcdef0123456789abcdef", false),
        ("other.example.com (slimtad)", "0123456789abcdef0123456789abcdef", false),
        ("mail.example.com (slimtad)", "x", false),
    ])
    func comesBack(name: String, id: String, isKept: Bool) throws {
        let fields = """
            Received: from by ([192.0.2.1])
            \tby filter.example.com (id) with ESMTP; Sat, 21 Nov 2026 10:00:00 +0000
            Received: from laptop ([192.0.2.7])
            \tby \(name) with ESMTPSA
            \t(TLSv1.3 TLS_AES_256_GCM_SHA384)
            \tid \(id)
            \tfor <b@example.org>;
            \tSat, 21 Nov 2026 10:00:00 +0000
            Message-ID: <0123456789abcdef0123456789abcdef@mail.example.com>

            x
            """.replacing("\n", with: "\r\n")
        let text = try run([MessageIDPolicy()], fields)
        #expect((text == fields) == isKept)
    }

    /// A signature of the client's is not to break, nor is a good one beside a bad one made two.
    @Test(arguments: [
        "DKIM-Signature: h=message-id\r\nMessage-ID: bad\r\n\r\n", "Message-ID: bad\r\nMessage-ID: <a@b>\r\n\r\n",
    ])
    func isLeftThough(content: String) throws { #expect(try run([MessageIDPolicy()], content) == content) }
}

@Suite struct ReceivedNameTests {
    /// Whatever a desktop is called: one word, in ASCII, in a line that is not too long.
    @Test(arguments: [
        ("DOMAIN\\host", "DOMAIN+5Chost"), ("Anna's PC", "Anna+27s+20PC"), ("m\u{FC}ller", "m+C3+BCller"),
        ("x ([203.0.113.1]) by y; z", "x+20+28+5B203.0.113.1+5D+29+20by+20y+3B+20z"),
        // No longer than a name may be.
        (String(repeating: "\u{FC}", count: 127), String(repeating: "+C3+BC", count: 42) + "+C3"),
    ])
    func oneWord(name: String, shown: String) throws {
        let text = try run([ReceivedPolicy()], "A: 1\r\n\r\n", name)
        #expect(text.hasPrefix("Received: from \(shown) ([192.0.2.7])\r\n\tby mail.example.com"))
        #expect(text.utf8.allSatisfy { $0 < 0x80 })
        #expect(text.components(separatedBy: "\r\n").allSatisfy { $0.utf8.count <= 998 })
    }
}
