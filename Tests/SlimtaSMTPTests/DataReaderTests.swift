// Mail data: only CRLF.CRLF ends it, dot-stuffing is undone, limits are exact, and cuts change nothing.

import Foundation
import NIOCore
import SlimtaMail
import TestKit
import Testing

@testable import SlimtaSMTP

@Suite struct DataReaderTests {
    struct Read: Equatable {
        /// nil: refused, so nothing of it counts.
        var content: String?
        var fault: DataReader.Fault?
        var hasEightBit: Bool?
        /// What is behind the end; nil if there was no end.
        var rest: String?

        init(_ content: String, hasEightBit: Bool = false, rest: String?) {
            (self.content, self.hasEightBit, self.rest) = (content, hasEightBit, rest)
        }
        init(_ fault: DataReader.Fault, rest: String?) { (self.fault, self.rest) = (fault, rest) }
    }

    static func read(_ chunks: [ByteBuffer], limit: Int = 1000) -> Read {
        var reader = DataReader(limit: limit)
        var content = ByteBuffer()
        var rest: ByteBuffer?
        for chunk in chunks {
            var input = chunk
            if rest == nil, reader.read(&input, into: &content) { rest = ByteBuffer() }
            if rest == nil { #expect(input.readableBytes == 0, "all octets of the data are taken") }
            rest?.writeImmutableBuffer(input)
        }
        let restText = rest.map { String(buffer: $0) }
        if let fault = reader.fault { return Read(fault, rest: restText) }
        let text = String(String.UnicodeScalarView(content.readableBytesView.map { Unicode.Scalar($0) }))
        return Read(text, hasEightBit: reader.hasEightBit, rest: restText)
    }

    static let table: [(String, Read)] = [
        (".\r\n", .init("", rest: "")),
        ("\r\n.\r\n", .init("\r\n", rest: "")),
        ("a\r\n.\r\n", .init("a\r\n", rest: "")),
        ("a\r\nb\r\n.\r\n", .init("a\r\nb\r\n", rest: "")),
        ("a\r\n\r\nb\r\n\r\n.\r\n", .init("a\r\n\r\nb\r\n\r\n", rest: "")),
        ("a\r\n.\r\nQUIT\r\n", .init("a\r\n", rest: "QUIT\r\n")),
        (".\r\n.\r\n", .init("", rest: ".\r\n")),
        // no end yet
        ("", .init("", rest: nil)),
        ("a", .init("a", rest: nil)),
        ("a\r\n", .init("a\r\n", rest: nil)),
        ("a\r\n.", .init("a\r\n", rest: nil)),
        ("a\r\n.\r", .init("a\r\n", rest: nil)),
        ("a.\r\n", .init("a.\r\n", rest: nil)),
        ("a\r", .init("a", rest: nil)),
        // dot-stuffing
        ("..\r\n.\r\n", .init(".\r\n", rest: "")),
        ("...\r\n.\r\n", .init("..\r\n", rest: "")),
        (".a\r\n.\r\n", .init("a\r\n", rest: "")),
        ("..a\r\n.\r\n", .init(".a\r\n", rest: "")),
        ("a\r\n..\r\n.\r\n", .init("a\r\n.\r\n", rest: "")),
        ("a..b\r\n. \r\n.\r\n", .init("a..b\r\n \r\n", rest: "")),
        (".\t\r\n.\r\n", .init("\t\r\n", rest: "")),
        ("a.\r\n.\r\n", .init("a.\r\n", rest: "")),
        // eight bits
        ("\u{E9}\r\n.\r\n", .init("\u{C3}\u{A9}\r\n", hasEightBit: true, rest: "")),
        (".\u{E9}\r\n.\r\n", .init("\u{C3}\u{A9}\r\n", hasEightBit: true, rest: "")),
        ("a\r\n.\r\n\u{E9}", .init("a\r\n", rest: "\u{E9}")),
        // line ends that are none
        ("a\n.\r\n", .init(.bareLineEnd, rest: "")),
        ("a\n.\n", .init(.bareLineEnd, rest: "")),
        ("a\r\n.\n", .init(.bareLineEnd, rest: "")),
        ("a\r.\r\n", .init(.bareLineEnd, rest: "")),
        ("a\r\r\n.\r\n", .init(.bareLineEnd, rest: "")),
        ("a\r\n.\r\r\n", .init(.bareLineEnd, rest: nil)),
        ("a\r\n.\r\r\n.\r\n", .init(.bareLineEnd, rest: "")),
        ("\n.\r\n", .init(.bareLineEnd, rest: "")),
        ("\n.\r\n.\r\n", .init(.bareLineEnd, rest: ".\r\n")),
        ("a\n.\nQUIT\r\n", .init(.bareLineEnd, rest: "QUIT\r\n")),
        (".\n", .init(.bareLineEnd, rest: "")),
        ("a\r.\nQUIT", .init(.bareLineEnd, rest: "QUIT")),
        ("a\r.\rb\r\n", .init(.bareLineEnd, rest: nil)),
        ("a\n.b\n..\n.\n", .init(.bareLineEnd, rest: "")),
        ("a\0.\nb\r\n", .init(.bareLineEnd, rest: nil)),
        ("\n\r\n.\r\n", .init(.bareLineEnd, rest: "")),
        ("\0\r\n.\r\n", .init(.bareLineEnd, rest: "")),
        ("a\0b\r\n.\r\n", .init(.bareLineEnd, rest: "")),
        ("a\r\n.\0\r\n", .init(.bareLineEnd, rest: nil)),
        ("a\r\0\n.\r\n", .init(.bareLineEnd, rest: "")),
        ("a\rb\r\n.\r\nNOOP\r\n", .init(.bareLineEnd, rest: "NOOP\r\n")),
    ]

    @Test(arguments: table) func asInTable(_ octets: String, _ expected: Read) throws {
        #expect(try ChunkVerifier.verify(Array(octets.utf8)) { Self.read($0) } == expected)
    }

    // MARK: Smuggling

    /// What public scanners send is among the sequences of all tests of smuggling.
    @Test(.enabled(if: SharedFiles.areThere, "../shared is not beside the repository")) func scannersAreThere() throws {
        #expect(try NoEndOfData.scanners().count >= 12)
    }

    /// Whichever of the sequences is in the data, it is refused for it. Where the sequence is a line of a dot for some, the
    /// client may wait for a reply: so the data ends there, and the machine reads nothing behind it.
    @Test func smuggling() throws {
        let sequences = try NoEndOfData.all()
        #expect(sequences.count >= 12)
        for sequence in sequences {
            for text in ["", "text", "text\r\n", "..", "text\r\n..text"] {
                let data =
                    Array(text.utf8) + sequence.octets
                    + Array("MAIL FROM:<a@b>\r\nDATA\r\nsmuggled\r\n.\r\nQUIT\r\n".utf8)
                let read = try ChunkVerifier.verify(data, cuts: 6) { Self.read($0) }
                #expect(read == slowRead(data) && read.fault == .bareLineEnd, "\(sequence.id) behind \(text)")
            }
        }
    }

    // MARK: Limits

    @Test func limits() throws {
        // The limit counts what the message has, without stuffed dots and the end.
        for (data, size) in [
            ("0123456789\r\n.\r\n", 12), ("..\r\n..\r\n.\r\n", 6), ("\r\n\r\n\r\n.\r\n", 6), (".x\r\n.\r\n", 3),
            ("a\r\n.\r\n", 3),
        ] {
            for limit in 0...(size + 3) {
                let read = try ChunkVerifier.verify(Array((data + "QUIT").utf8), cuts: 4) {
                    Self.read($0, limit: limit)
                }
                #expect(read.rest == "QUIT")
                #expect(read.fault == (limit < size ? .tooLarge : nil), "\(size) octets, limit \(limit)")
            }
        }
        #expect(Self.read([ByteBuffer(string: ".\r\n")], limit: 0) == .init("", rest: ""))
    }

    /// The fault that comes first in the data is the one that is told, wherever the cuts are.
    @Test func theFirstFaultCounts() throws {
        for (data, fault) in [
            ("0123456789\n\r\n.\r\n", DataReader.Fault.tooLarge), ("01234567\n0123\r\n.\r\n", .bareLineEnd),
            ("0123456789\rx\r\n.\r\n", .tooLarge), ("01234567\rx0123\r\n.\r\n", .bareLineEnd),
            ("0123456789\0\r\n.\r\n", .tooLarge), ("01234567\0\r\n.\r\n", .bareLineEnd),
            ("01234567\n..\r\n0123456789\r\n.\r\n", .bareLineEnd), ("0123456\r\n.\r0\r\n.\r\n", .tooLarge),
            ("012345\r\n.\r0\r\n.\r\n", .bareLineEnd), ("0123456\r\n..\r0\r\n.\r\n", .tooLarge),
        ] {
            let read = try ChunkVerifier.verify(Array(data.utf8)) { Self.read($0, limit: 8) }
            #expect(read == .init(fault, rest: ""), "\(ChunkVerifier.printable(data.utf8))")
        }
    }

    // MARK: Content

    @Test func eightBitAtEveryPosition() throws {
        for length in 1...40 {
            for position in 0..<length {
                for octet in [0x7F, 0x80, 0xFF] as [UInt8] {
                    var octets = [UInt8](repeating: UInt8(ascii: "x"), count: length)
                    octets[position] = octet
                    #expect(octets.withUnsafeBytes { $0.hasEightBit } == (octet > 0x7F))
                    // Also where the octets do not begin at a multiple of eight.
                    #expect(octets[1...].withUnsafeBytes { $0.hasEightBit } == (octet > 0x7F && position > 0))
                    if length <= 12 {
                        let read = try ChunkVerifier.verify(octets + Array("\r\n.\r\n".utf8), cuts: 2) { Self.read($0) }
                        #expect(read.hasEightBit == (octet > 0x7F) && read.content?.utf8.isEmpty == false)
                    }
                }
            }
        }
        #expect(![UInt8]().withUnsafeBytes { $0.hasEightBit })
    }

    /// Any text in lines of CRLF, stuffed as RFC 5321 section 4.5.2 says, comes out as it was.
    @Test func roundTrip() throws {
        var generator = SeededGenerator(seed: 452)
        for seed in 0..<300 {
            var message = ""
            var stuffed: [UInt8] = []
            for _ in 0..<Int.random(in: 0...12, using: &generator) {
                let line = generator.octets(Int.random(in: 0...14, using: &generator), from: Array("..ab \u{E9}".utf8))
                message += String(String.UnicodeScalarView(line.map { Unicode.Scalar($0) })) + "\r\n"
                stuffed += (line.first == UInt8(ascii: ".") ? [UInt8(ascii: ".")] : []) + line + [13, 10]
            }
            let read = try ChunkVerifier.verify(stuffed + Array(".\r\n.rest".utf8), cuts: 4, seed: UInt64(seed)) {
                Self.read($0)
            }
            #expect(read.content?.unicodeScalars.elementsEqual(message.unicodeScalars) == true)
            #expect(read.rest == ".rest" && read.hasEightBit == !message.unicodeScalars.allSatisfy(\.isASCII))
        }
    }

    /// Random octets, against a reading of the definition: the end is the first line of a dot, counting the CRLF of the DATA
    /// command, whatever ends it and the line before; then every bare CR, LF or NUL up to there is a fault.
    @Test func randomOctets() throws {
        var generator = SeededGenerator(seed: 5321)
        for seed in 0..<600 {
            let octets = generator.octets(
                Int.random(in: 0...60, using: &generator),
                from: Array("\r\n\r\n\r\n\r\n...a".utf8) + (seed % 4 == 0 ? [0] : []))
            let data = seed % 2 == 0 ? Array("a\r\nb".utf8) + octets : lines(octets)
            let read = try ChunkVerifier.verify(data, cuts: 5, seed: UInt64(seed)) { Self.read($0) }
            #expect(read == slowRead(data), "\(ChunkVerifier.printable(data))")
        }
    }

    /// `octets` with every bare CR and LF made CRLF, so that random octets are good data more often.
    private func lines(_ octets: [UInt8]) -> [UInt8] {
        octets.filter { $0 != 13 }.flatMap { $0 == 10 ? [13, 10] : [$0] }
    }

    private func slowRead(_ data: [UInt8]) -> Read {
        let octets = [13, 10] + data
        let dot = octets.indices.dropFirst(2).first {
            octets[$0] == 46 && [10, 13].contains(octets[$0 - 1])
                && (octets[($0 + 1)...].starts(with: [10]) || octets[($0 + 1)...].starts(with: [13, 10]))
        }
        let behind = dot.map { $0 + (octets[$0 + 1] == 10 ? 2 : 3) }
        // With the end if that is a fault.
        let isSound = dot.map { octets[($0 - 2)...].starts(with: [13, 10, 46, 13, 10]) } ?? true
        let body = Array(octets[..<((isSound ? dot : behind) ?? octets.count)])
        let rest = behind.map { String(decoding: octets[$0...], as: UTF8.self) }
        for (index, octet) in body.enumerated() {
            let isBareCR = octet == 13 && index + 1 < body.count && body[index + 1] != 10
            if octet == 0 || isBareCR || octet == 10 && body[index - 1] != 13 { return Read(.bareLineEnd, rest: rest) }
        }
        var text = String(decoding: body, as: UTF8.self).replacingOccurrences(of: "\r\n.", with: "\r\n")
        text.removeFirst()
        if dot == nil {
            // A CR, or a line of a dot and a CR, that may still be the end.
            if text.utf8.last == 13 { text = String(text.unicodeScalars.dropLast()) }
        }
        return Read(text, rest: rest)
    }

    /// Octets that are nothing but line ends cost no more than others. If every one were searched through to the end of
    /// the buffer, this would take hours.
    @Test(arguments: [13, 10, 0, 46] as [UInt8]) func linear(_ octet: UInt8) {
        let octets = ByteBuffer(repeating: octet, count: 4 << 20)
        let read = Self.read([octets, ByteBuffer(string: "\r\n.\r\n")], limit: 8 << 20)
        #expect(read.rest == "")
        #expect(read.fault == (octet == 46 ? nil : .bareLineEnd))
    }
}
