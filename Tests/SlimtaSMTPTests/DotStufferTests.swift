// What goes out behind 354: transparent, ended once, and never an end of line that is none.

import NIOCore
import SlimtaSMTP
import TestKit
import Testing

struct DotStufferTests {
    /// What comes out for `chunks`; nil if they were refused.
    static func stuff(_ chunks: [[UInt8]], allowsEightBit: Bool = true) throws(ContentError) -> [UInt8] {
        var stuffer = DotStuffer(allowsEightBit: allowsEightBit)
        var out = ByteBuffer()
        for chunk in chunks { try stuffer.append(ByteBuffer(bytes: chunk), to: &out) }
        try stuffer.finish(into: &out)
        return Array(out.readableBytesView)
    }

    @Test(arguments: [
        ("", ".\r\n"), ("a", "a\r\n.\r\n"), ("a\r\n", "a\r\n.\r\n"), (".", "..\r\n.\r\n"), (".\r\n", "..\r\n.\r\n"),
        ("..\r\n", "...\r\n.\r\n"), ("a\r\n.\r\nb\r\n", "a\r\n..\r\nb\r\n.\r\n"), ("a.\r\n", "a.\r\n.\r\n"),
        ("\r\n", "\r\n.\r\n"), ("\r\n\r\n.a\r\n..b.\r\n", "\r\n\r\n..a\r\n...b.\r\n.\r\n"),
        ("S: x\r\n\r\nMAIL FROM:<a@b>\r\n.", "S: x\r\n\r\nMAIL FROM:<a@b>\r\n..\r\n.\r\n"),
    ])
    func message(_ content: String, _ expected: String) throws {
        let octets = Array(content.utf8)
        #expect(try Self.stuff([octets]) == Array(expected.utf8))
        // However it is cut.
        #expect(try Self.stuff(octets.map { [$0] }) == Array(expected.utf8))
        for cut in octets.indices {
            #expect(try Self.stuff([Array(octets[..<cut]), [], Array(octets[cut...])]) == Array(expected.utf8))
        }
    }

    @Test(arguments: [
        ("a\nb\r\n", ContentError.bareLineEnd), ("a\rb\r\n", .bareLineEnd), ("a\r", .bareLineEnd), ("\n", .bareLineEnd),
        ("a\r\r\n", .bareLineEnd), ("a\r\n\n", .bareLineEnd), ("\r\n.\n", .bareLineEnd), ("a\r\n.\r", .bareLineEnd),
        ("a\r\n.\r\r\n", .bareLineEnd), ("a\n.\n", .bareLineEnd), ("a\u{0}b\r\n", .nul), ("\r\n.\u{0}\r\n", .nul),
    ])
    func refused(_ content: String, _ expected: ContentError) {
        let octets = Array(content.utf8)
        #expect(throws: expected) { try Self.stuff([octets]) }
        #expect(throws: expected) { try Self.stuff(octets.map { [$0] }) }
        for cut in octets.indices {
            #expect(throws: expected) { try Self.stuff([Array(octets[..<cut]), Array(octets[cut...])]) }
        }
    }

    /// Threat 1: what ends a message too early at some servers never leaves here.
    @Test func smuggling() throws {
        for sequence in try NoEndOfData.all() {
            let message = Array("S: x\r\n\r\ntext".utf8) + sequence.octets + Array("MAIL FROM:<a@b>\r\n".utf8)
            #expect(throws: ContentError.self, "\(sequence.id)") { try Self.stuff([message]) }
            #expect(throws: ContentError.self, "\(sequence.id)") { try Self.stuff(message.map { [$0] }) }
        }
    }

    @Test func eightBit() throws {
        let octets = Array("a\r\nü\r\n".utf8)
        #expect(try Self.stuff([octets]) == Array("a\r\nü\r\n.\r\n".utf8))
        #expect(throws: ContentError.eightBit) { try Self.stuff([octets], allowsEightBit: false) }
        #expect(try Self.stuff([Array("a\r\n".utf8)], allowsEightBit: false) == Array("a\r\n.\r\n".utf8))
    }

    /// A reader of RFC 5321 gets back what went in, at any size and cut, and sees one message.
    @Test(arguments: 0..<50) func undone(_ seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let alphabet: [[UInt8]] = [[0x0D, 0x0A], [0x2E], [0x61], [0xFF], Array("..".utf8), Array("\r\n.\r\n".utf8)]
        let content = (0..<Int.random(in: 0..<2000, using: &random)).flatMap { _ in
            alphabet.randomElement(using: &random)!
        }
        var chunks: [[UInt8]] = []
        var rest = content[...]
        while !rest.isEmpty {
            chunks.append(Array(rest.prefix(Int.random(in: 1...40, using: &random))))
            rest = rest.dropFirst(chunks.last!.count)
        }
        let sent = try Self.stuff(chunks)
        let ended = content.isEmpty || content.suffix(2) == [0x0D, 0x0A] ? content : content + [0x0D, 0x0A]
        let lines = sent.split(separator: 0x0A, omittingEmptySubsequences: false).map { Array($0) }
        #expect(lines.last == [])
        #expect(lines.firstIndex(of: [0x2E, 0x0D]) == lines.count - 2)
        let read = lines.dropLast(2).flatMap { ($0.first == 0x2E ? Array($0.dropFirst()) : $0) + [0x0A] }
        #expect(read == ended)
    }
}
