// Content that did not come over SMTP: every end of a line becomes CRLF, faults are found where they are, limits are exact,
// and cuts change nothing.

import NIOCore
import SlimtaMail
import TestKit
import Testing

@Suite struct ContentReaderTests {
    struct Read: Equatable {
        /// nil: refused, so nothing of it counts.
        var content: [UInt8]?
        var fault: ContentReader.Fault?
        /// The line of the fault, or the one behind the last.
        var line = 1
        var hasEightBit = false

        init(_ content: String, line: Int, hasEightBit: Bool = false) {
            (self.content, self.line, self.hasEightBit) = (Array(content.utf8), line, hasEightBit)
        }
        init(_ fault: ContentReader.Fault, line: Int) { (self.fault, self.line) = (fault, line) }
    }

    static func read(_ chunks: [ByteBuffer], limit: Int = 1000) -> Read {
        var reader = ContentReader(limit: limit)
        var content = ByteBuffer()
        for chunk in chunks {
            let count = content.readableBytes
            reader.read(chunk, into: &content)
            if reader.fault == nil { #expect(content.readableBytes - count <= 2 * chunk.readableBytes) }
        }
        reader.finish(into: &content)
        #expect(content.readableBytes <= limit)
        if let fault = reader.fault { return Read(fault, line: reader.line) }
        #expect(reader.size == content.readableBytes && reader.refusal == nil)
        var read = Read("", line: reader.line, hasEightBit: reader.hasEightBit)
        read.content = Array(content.readableBytesView)
        return read
    }

    static let table: [(String, Read)] = [
        ("", .init("", line: 1)),
        ("a", .init("a\r\n", line: 2)),
        ("\n", .init("\r\n", line: 2)),
        ("\r\n", .init("\r\n", line: 2)),
        ("a\n", .init("a\r\n", line: 2)),
        ("a\r\n", .init("a\r\n", line: 2)),
        ("a\nb\n", .init("a\r\nb\r\n", line: 3)),
        ("a\r\nb\r\n", .init("a\r\nb\r\n", line: 3)),
        // as PHP's mail() has it: a header with CRLF, a body with LF
        ("T: a\r\nS: b\r\n\r\nx\ny\n", .init("T: a\r\nS: b\r\n\r\nx\r\ny\r\n", line: 6)),
        ("a\nb\r\nc", .init("a\r\nb\r\nc\r\n", line: 4)),
        ("\n\r\n\n", .init("\r\n\r\n\r\n", line: 4)),
        // dots are text here
        (".\n..\n.", .init(".\r\n..\r\n.\r\n", line: 4)),
        ("\u{E9}\n", .init("\u{E9}\r\n", line: 2, hasEightBit: true)),
        ("a\nb\u{E9}", .init("a\r\nb\u{E9}\r\n", line: 3, hasEightBit: true)),
        // faults
        ("\r", .init(.bareCarriageReturn, line: 1)),
        ("a\r", .init(.bareCarriageReturn, line: 1)),
        ("a\rb\n", .init(.bareCarriageReturn, line: 1)),
        ("a\n\r\r\n", .init(.bareCarriageReturn, line: 2)),
        ("a\n\n\n\rb", .init(.bareCarriageReturn, line: 4)),
        ("a\r\0\n", .init(.bareCarriageReturn, line: 1)),
        ("\0", .init(.null, line: 1)),
        ("a\nb\0c\n", .init(.null, line: 2)),
        ("\0\r", .init(.null, line: 1)),
        ("01234567890123456789\0", .init(.null, line: 1)),
        ("01234567890123456789\r.", .init(.bareCarriageReturn, line: 1)),
    ]

    @Test(arguments: table) func asInTable(_ octets: String, _ expected: Read) throws {
        #expect(try ChunkVerifier.verify(Array(octets.utf8)) { Self.read($0) } == expected)
    }

    /// The limit counts what the message becomes.
    @Test func limits() throws {
        for (octets, size) in [
            ("a\nb\n", 6), ("a\r\nb\r\n", 6), ("a\nb", 6), ("\n\n\n", 6), ("", 0), ("0123456789", 12),
        ] {
            for limit in 0...(size + 3) {
                let read = try ChunkVerifier.verify(Array(octets.utf8), cuts: 4) { Self.read($0, limit: limit) }
                #expect(read.fault == (limit < size ? .tooLarge : nil), "\(size) octets, limit \(limit)")
            }
        }
    }

    /// The fault that comes first is the one that is told, wherever the cuts are.
    @Test func theFirstFaultCounts() throws {
        for (octets, fault) in [
            ("0123456789\0", ContentReader.Fault.tooLarge), ("01234567\0", .null), ("01234567\rx", .bareCarriageReturn),
            ("0123456\r\n\0", .tooLarge), ("\0012345678901234567890", .null), ("012345678901234567890", .tooLarge),
            ("01234567", .tooLarge), ("\r012345678", .bareCarriageReturn),
        ] {
            let read = try ChunkVerifier.verify(Array(octets.utf8)) { Self.read($0, limit: 8) }
            #expect(read == .init(fault, line: 1), "\(ChunkVerifier.printable(octets.utf8))")
        }
    }

    @Test func theRefusalNamesTheLine() {
        var reader = ContentReader(limit: 1000)
        var content = ByteBuffer()
        reader.read(ByteBuffer(string: "a\nb\n\rc"), into: &content)
        #expect(reader.refusal?.code == 554 && reader.refusal?.text.contains("Line 3 ") == true)
        // Nothing is read behind a fault.
        reader.read(ByteBuffer(string: "\n\n\n"), into: &content)
        #expect(reader.line == 3)
        reader = ContentReader(limit: 1)
        reader.read(ByteBuffer(string: "a"), into: &content)
        reader.finish(into: &content)
        #expect(reader.refusal?.code == 552)
    }

    @Test func linesOfAnyLength() throws {
        var (reader, content) = (ContentReader(limit: .max), ByteBuffer())
        for _ in 0..<100 { reader.read(ByteBuffer(repeating: UInt8(ascii: "x"), count: 9999), into: &content) }
        reader.finish(into: &content)
        #expect(reader.refusal == nil && reader.line == 2 && content.readableBytes == 999_902)
    }

    /// Random octets, against a reading line by line.
    @Test func randomOctets() throws {
        var generator = SeededGenerator(seed: 5322)
        for seed in 0..<600 {
            let octets = generator.octets(
                Int.random(in: 0...60, using: &generator),
                from: Array("ab\n\n\n\r\r\0\u{E9}".utf8).filter { seed % 3 > 0 || $0 > 0 })
            let limit = Int.random(in: 0...80, using: &generator)
            let read = try ChunkVerifier.verify(octets, cuts: 4, seed: UInt64(seed)) { Self.read($0, limit: limit) }
            #expect(read.content == contentByLines(octets, limit: limit), "\(octets), limit \(limit)")
        }
    }
}

/// What content becomes, by definition: lines end with LF, a CR before it is part of the end. nil: refused.
private func contentByLines(_ octets: [UInt8], limit: Int) -> [UInt8]? {
    var lines = octets.split(separator: 10, omittingEmptySubsequences: false)
    var content: [UInt8] = []
    if lines.last?.isEmpty == true { lines.removeLast() } else if lines.last?.last == 13 { return nil }
    for line in lines {
        let text = line.last == 13 ? line.dropLast() : line
        guard !text.contains(13), !text.contains(0) else { return nil }
        content += text + [13, 10]
    }
    return content.count <= limit ? content : nil
}
