// Lines of commands: ends, limits, and the same lines however they were cut.

import NIOCore
import TestKit
import Testing

@testable import SlimtaSMTP

@Suite struct LineReaderTests {
    static let table: [(String, [String], rest: String)] = [
        ("", [], ""),
        ("NOOP\r\n", ["NOOP"], ""),
        ("\r\n", [""], ""),
        ("\r\n\r\n", ["", ""], ""),
        ("A\r\nB\r\nC", ["A", "B"], "C"),
        ("A\r\nB\r", ["A"], "B\r"),
        (" A \r\n", [" A "], ""),
        // ends that are none: said at once, and the reader is at its end
        ("A\n", ["malformed"], "-"),
        ("\n", ["malformed"], "-"),
        ("A\nB\r\nC\r\n", ["malformed"], "-"),
        ("A\r\nB\nC\r\n", ["A", "malformed"], "-"),
        ("A\r\r\n", ["malformed"], "-"),
        ("A\rB\r\n", ["malformed"], "-"),
        ("\rA\r\n", ["malformed"], "-"),
        ("A\r", [], "A\r"),
        ("A\rQUIT\nNOOP\r\nB\r\n", ["malformed"], "-"),
        ("A\0\r\n", ["malformed"], "-"),
        ("\0\r\nB\r\n", ["malformed"], "-"),
        ("A\r\0\nB\r\n", ["malformed"], "-"),
        // limits: 16 octets with CRLF
        ("0123456789abc\r\nB\r\n", ["0123456789abc", "B"], ""),
        ("0123456789abcd\r\nB\r\n", ["0123456789abcd", "B"], ""),
        ("0123456789abcde\r\nB\r\n", ["too long", "B"], ""),
        ("0123456789abcdef\r\nB\r\n", ["too long", "B"], ""),
        ("0123456789abcdef0123456789abcdef\r\nB\r\n", ["too long", "B"], ""),
        ("0123456789abcdef0123456789abcdef\nB\r\nC\r\n", ["malformed"], "-"),
        ("0123456789abcde\nB\r\nC\r\n", ["malformed"], "-"),
        ("0123456789abcdef\nB\r\nC\r\n", ["malformed"], "-"),
        ("0123456789abcd\r\r\nB\r\n", ["too long", "B"], ""),
        ("0123456789abc\0\r\nB\r\n", ["malformed"], "-"),
        ("0123456789abcdef0123456789abcdef\r\n0123456789abcdef\r\nB\r\n", ["too long", "too long", "B"], ""),
    ]

    @Test(arguments: table) func asInTable(_ octets: String, _ lines: [String], _ rest: String) throws {
        let read = try ChunkVerifier.verify(Array(octets.utf8)) { Self.read($0, limit: 16) }
        #expect(read == lines + ["rest " + rest])
    }

    /// Where the end of a line that is too long has not come, little of it is kept.
    @Test func littleIsKept() {
        var reader = LineReader()
        var input = ByteBuffer()
        for _ in 0..<10_000 {
            input.writeString("0123456789")
            #expect(reader.next(&input, limit: 512) == nil)
            #expect(input.readableBytes < 512)
        }
        input.writeString("\r\nNOOP\r\n")
        #expect(reader.next(&input, limit: 512) == .tooLong)
        #expect(reader.next(&input, limit: 512) == .line(ByteBuffer(string: "NOOP")))
        #expect(reader.next(&input, limit: 512) == nil)
    }

    @Test func randomOctets() throws {
        var generator = SeededGenerator(seed: 2920)
        for seed in 0..<300 {
            let octets = generator.octets(
                Int.random(in: 0...120, using: &generator), from: Array("aaaaaaaaaaaaa\r\r\r\r\r\r\n\n\n\0".utf8))
            let read = try ChunkVerifier.verify(octets, cuts: 6, seed: UInt64(seed)) { Self.read($0, limit: 12) }
            #expect(read == Self.slowRead(octets, limit: 12), "\(ChunkVerifier.printable(octets))")
        }
    }

    private static func read(_ chunks: [ByteBuffer], limit: Int) -> [String] {
        var reader = LineReader()
        var input = ByteBuffer()
        var lines: [String] = []
        for chunk in chunks {
            input.writeImmutableBuffer(chunk)
            while let line = reader.next(&input, limit: limit) {
                switch line {
                case .line(let octets): lines.append(String(buffer: octets))
                case .malformed: return lines + ["malformed", "rest -"]
                case .tooLong: lines.append("too long")
                }
            }
        }
        // Of a line that is too long and not at its end, what is kept depends on the cuts.
        return lines + [
            "rest " + (openLine(chunks.flatMap(\.readableBytesView)).count >= limit ? "-" : String(buffer: input))
        ]
    }

    /// What is behind the last LF.
    private static func openLine(_ octets: [UInt8]) -> ArraySlice<UInt8> {
        octets[(octets.lastIndex(of: 10).map { $0 + 1 } ?? 0)...]
    }

    private static func slowRead(_ octets: [UInt8], limit: Int) -> [String] {
        var lines: [String] = []
        for line in octets.split(separator: 10, omittingEmptySubsequences: false).dropLast() {
            let text = line.dropLast()
            if line.last != 13 { return lines + ["malformed", "rest -"] }
            if line.count + 1 > limit {
                lines.append("too long")
            } else if text.contains(13) || text.contains(0) {
                return lines + ["malformed", "rest -"]
            } else {
                lines.append(String(decoding: text, as: UTF8.self))
            }
        }
        let rest = openLine(octets)
        return lines + ["rest " + (rest.count < limit ? String(decoding: rest, as: UTF8.self) : "-")]
    }
}
