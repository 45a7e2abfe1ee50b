// What a server may send, and what comes of it.

import NIOCore
import SlimtaMail
import SlimtaSMTP
import Testing

struct ReplyParserTests {
    /// Everything that comes of `chunks`: the replies, and the error that ended it.
    static func parse(_ chunks: [[UInt8]]) -> ([Reply], ReplyError?) {
        var parser = ReplyParser()
        var replies: [Reply] = []
        for chunk in chunks {
            parser.append(ByteBuffer(bytes: chunk))
            do {
                while let reply = try parser.next() { replies.append(reply) }
            } catch {
                return (replies, error)
            }
        }
        return (replies, nil)
    }

    static func parse(_ text: String) -> ([Reply], ReplyError?) { parse([Array(text.utf8)]) }

    @Test(arguments: [
        ("250 OK\r\n", Reply(250, nil, "OK")),
        ("250 2.1.0 Sender ok\r\n", Reply(250, EnhancedStatus(2, 1, 0), "Sender ok")),
        ("250\r\n", Reply(250, nil, "")),
        ("250 \r\n", Reply(250, nil, "")),
        ("250 2.0.0\r\n", Reply(250, EnhancedStatus(2, 0, 0), "")),
        ("250 OK\n", Reply(250, nil, "OK")),
        ("599 5.999.999 x\r\n", Reply(599, EnhancedStatus(5, 999, 999), "x")),
        // A status of another class than the code's is only text.
        ("550 4.1.1 hm\r\n", Reply(550, nil, "4.1.1 hm")),
        ("550 5.1.1: no\r\n", Reply(550, nil, "5.1.1: no")),
        ("550 5.1 no\r\n", Reply(550, nil, "5.1 no")),
        ("220-one\r\n220-\r\n220 three\r\n", Reply(220, nil, lines: ["one", "", "three"])),
        (
            "550-5.1.1 one\r\n550-5.1.1 two\r\n550 5.2.2 three\r\n",
            Reply(550, EnhancedStatus(5, 1, 1), lines: ["one", "two", "5.2.2 three"])
        ),
        ("550-one\r\n550 5.1.1 two\r\n", Reply(550, nil, lines: ["one", "5.1.1 two"])),
        ("550 a\tb\u{0}c\u{1B}[31md\re\r\n", Reply(550, nil, "a b?c?[31md?e")),
        ("550 \u{202E}gnp.exe\u{2028}\r\n", Reply(550, nil, "?gnp.exe?")),
        ("550 für Jörg \u{1F600}\r\n", Reply(550, nil, "für Jörg \u{1F600}")),
    ])
    func reply(_ text: String, _ expected: Reply) {
        let (replies, error) = Self.parse(text)
        #expect(replies == [expected])
        #expect(error == nil)
    }

    @Test func invalidUTF8IsMadeSafe() {
        let (replies, _) = Self.parse([Array("550 a".utf8) + [0xFF, 0xC3] + Array("b\r\n".utf8)])
        #expect(replies == [Reply(550, nil, "a??b")])
    }

    @Test(arguments: [
        ("\r\n", ReplyError.notAReply), ("25\r\n", .notAReply), ("25x OK\r\n", .notAReply),
        ("150 wait\r\n", .notAReply),
        ("600 x\r\n", .notAReply), ("000 x\r\n", .notAReply), ("250_x\r\n", .notAReply), ("2500 x\r\n", .notAReply),
        ("HTTP/1.1 400 Bad Request\r\n", .notAReply), (" 250 x\r\n", .notAReply), ("-25 x\r\n", .notAReply),
        ("250-x\r\n251 x\r\n", .codeChanged), ("250-x\r\n550-x\r\n", .codeChanged), ("250-x\r\nx\r\n", .notAReply),
    ])
    func error(_ text: String, _ expected: ReplyError) {
        let (replies, error) = Self.parse(text)
        #expect(replies.isEmpty)
        #expect(error == expected)
    }

    /// What is too long is cut, and what it says at its beginning counts.
    @Test func longLinesAreCut() {
        func line(_ length: Int, _ start: String = "250 ") -> String {
            start + String(repeating: "x", count: length - 2 - start.utf8.count) + "\r\n"
        }
        let most = ReplyParser.maximumLine - 5
        for length in [ReplyParser.maximumLine, ReplyParser.maximumLine + 1, 2500, 100_000] {
            let text = line(length)
            let whole = Self.parse(text + "250 next\r\n")
            #expect(whole.0.map(\.code) == [250, 250] && whole.1 == nil)
            #expect(whole.0[0].text.utf8.count == min(length - 6, most))
            let octets = Array((text + "250 next\r\n").utf8)
            let chunks = stride(from: 0, to: octets.count, by: 1000).map {
                Array(octets[$0..<min($0 + 1000, octets.count)])
            }
            #expect(Self.parse(chunks).0 == whole.0)
        }
        // Within a reply of several lines, too.
        let several = Self.parse("250-a\r\n" + line(3000, "250-") + "250 b\r\n")
        #expect(several.0.map(\.lines.count) == [3] && several.1 == nil)
        // What begins as no reply is not waited out.
        #expect(Self.parse(String(repeating: "x", count: ReplyParser.maximumLine)).1 == .notAReply)
        #expect(Self.parse(line(3000, "25x ")).1 == .notAReply)
    }

    @Test func limits() {
        func lines(_ count: Int) -> String { String(repeating: "250-x\r\n", count: count - 1) + "250 x\r\n" }
        #expect(Self.parse(lines(ReplyParser.maximumLines)).0.first?.lines.count == ReplyParser.maximumLines)
        let more = Self.parse(lines(ReplyParser.maximumLines + 1) + "220 y\r\n")
        #expect(more.0.map(\.lines.count) == [ReplyParser.maximumLines, 1] && more.1 == nil)
        // A server that never comes to an end, in one line or in many.
        let endless = [UInt8](repeating: UInt8(ascii: "x"), count: 65_536)
        let count = ReplyParser.maximumReply / endless.count
        #expect(Self.parse([Array("250 ".utf8)] + Array(repeating: endless, count: count - 1)).1 == nil)
        #expect(Self.parse([Array("250 ".utf8)] + Array(repeating: endless, count: count)).1 == .tooLong)
        #expect(Self.parse(lines(ReplyParser.maximumReply / 7 + 2)).1 == .tooLong)
        // Each reply begins anew.
        let many = String(repeating: lines(100), count: ReplyParser.maximumReply / 700 + 1)
        #expect(Self.parse(many).1 == nil)
    }

    @Test(arguments: [
        "220 a\r\n250-b\r\n250-PIPELINING\r\n250 SIZE 1\r\n550 5.1.1 c\n\r\n", "250-x\n250 y\n250 z\r\r\n",
        "250-a\r\n250-b\r\n251 c\r\n",
    ])
    func everyCutIsTheSame(_ text: String) {
        let octets = Array(text.utf8)
        let whole = Self.parse([octets])
        let single = Self.parse(octets.map { [$0] })
        #expect(single.0 == whole.0 && single.1 == whole.1)
        for cut in 1..<octets.count {
            let parts = Self.parse([Array(octets[..<cut]), Array(octets[cut...])])
            #expect(parts.0 == whole.0 && parts.1 == whole.1)
        }
    }

    @Test func unread() throws {
        var parser = ReplyParser()
        #expect(!parser.hasUnread)
        parser.append(ByteBuffer(string: "250-a\r\n"))
        #expect(try parser.next() == nil)
        #expect(parser.hasUnread)
        parser.append(ByteBuffer(string: "250 b\r\n2"))
        #expect(try parser.next() != nil)
        #expect(parser.hasUnread)
        parser.append(ByteBuffer(string: "50 b\r\n"))
        #expect(try parser.next() != nil)
        #expect(!parser.hasUnread)
    }
}
