// Where header fields are: a table, awkward messages of the shared corpus, and every cut of them.

import Foundation
import NIOCore
import SlimtaMail
import TestKit
import Testing

@Suite struct HeaderBlockTests {
    /// What a scan found, as texts.
    struct Found: Equatable {
        var fields: [[String]]
        /// The octets behind the header.
        var body: String
        var isWellFormed = true
        var isComplete = true
    }

    static let table: [(String, Found)] = [
        ("", Found(fields: [], body: "", isComplete: false)),
        ("\r\n", Found(fields: [], body: "")),
        ("\n", Found(fields: [], body: "")),
        ("\r\nbody\r\n", Found(fields: [], body: "body\r\n")),
        ("A: b\r\n\r\nbody", Found(fields: [["A", "A: b\r\n"]], body: "body")),
        ("A:\r\n\r\n", Found(fields: [["A", "A:\r\n"]], body: "")),
        (":\r\n\r\n", Found(fields: [], body: ":\r\n\r\n", isWellFormed: false)),
        ("A: b\n\nbody", Found(fields: [["A", "A: b\n"]], body: "body")),
        // only a header
        ("A: b\r\n", Found(fields: [["A", "A: b\r\n"]], body: "", isComplete: false)),
        ("A: b", Found(fields: [["A", "A: b"]], body: "", isComplete: false)),
        ("A: b\r\nC:d\r\n", Found(fields: [["A", "A: b\r\n"], ["C", "C:d\r\n"]], body: "", isComplete: false)),
        // folded
        ("A: b\r\n c\r\n\td\r\n\r\n", Found(fields: [["A", "A: b\r\n c\r\n\td\r\n"]], body: "")),
        ("A:\r\n b\r\nC: d\r\n\r\n", Found(fields: [["A", "A:\r\n b\r\n"], ["C", "C: d\r\n"]], body: "")),
        ("A: b\r\n \r\nC: d\r\n\r\n", Found(fields: [["A", "A: b\r\n \r\n"], ["C", "C: d\r\n"]], body: "")),
        ("A: b\r\n C: d\r\n\r\n", Found(fields: [["A", "A: b\r\n C: d\r\n"]], body: "")),
        (" A: b\r\n\r\n", Found(fields: [], body: " A: b\r\n\r\n", isWellFormed: false)),
        ("\tA: b\r\n\r\n", Found(fields: [], body: "\tA: b\r\n\r\n", isWellFormed: false)),
        // names
        ("A : b\r\n\r\n", Found(fields: [["A", "A : b\r\n"]], body: "")),
        ("A \t : b\r\n\r\n", Found(fields: [["A", "A \t : b\r\n"]], body: "")),
        (
            "!#$%&'*+-/=?^_`{|}~;,.@\"()<>[]\\: x\r\n\r\n",
            Found(
                fields: [["!#$%&'*+-/=?^_`{|}~;,.@\"()<>[]\\", "!#$%&'*+-/=?^_`{|}~;,.@\"()<>[]\\: x\r\n"]], body: "")
        ),
        ("A::b\r\n\r\n", Found(fields: [["A", "A::b\r\n"]], body: "")),
        // malformed
        ("A b: c\r\n\r\n", Found(fields: [], body: "A b: c\r\n\r\n", isWellFormed: false)),
        (
            "A: b\r\nno field\r\nC: d\r\n\r\n",
            Found(fields: [["A", "A: b\r\n"]], body: "no field\r\nC: d\r\n\r\n", isWellFormed: false)
        ),
        (
            "From a@b Sat Jan  1\r\nA: b\r\n\r\n",
            Found(fields: [], body: "From a@b Sat Jan  1\r\nA: b\r\n\r\n", isWellFormed: false)
        ),
        ("ü: b\r\n\r\n", Found(fields: [], body: "ü: b\r\n\r\n", isWellFormed: false)),
        ("A\u{1}: b\r\n\r\n", Found(fields: [], body: "A\u{1}: b\r\n\r\n", isWellFormed: false)),
        ("A: b\r\nword\r\n", Found(fields: [["A", "A: b\r\n"]], body: "word\r\n", isWellFormed: false)),
        // A line that begins with CR is not empty for that.
        ("A: b\r\n\rC: d\r\n\r\n", Found(fields: [["A", "A: b\r\n"]], body: "\rC: d\r\n\r\n", isWellFormed: false)),
        // the octets end within a line that may become a field, or the empty line
        ("Wor", Found(fields: [], body: "Wor", isWellFormed: false, isComplete: false)),
        ("A: b\r\nWor", Found(fields: [["A", "A: b\r\n"]], body: "Wor", isWellFormed: false, isComplete: false)),
        ("A: b\r\n\r", Found(fields: [["A", "A: b\r\n"]], body: "\r", isWellFormed: false, isComplete: false)),
    ]

    @Test(arguments: table) func asInTable(_ text: String, _ expected: Found) {
        #expect(found(ByteBuffer(string: text)) == expected)
        // Offsets count from the reader index.
        var buffer = ByteBuffer(string: "gone" + text)
        buffer.moveReaderIndex(forwardBy: 4)
        #expect(found(buffer) == expected)
    }

    @Test func lookUp() {
        let buffer = ByteBuffer(string: "To: a\r\nBCC: b\r\nbcc : c\r\n d\r\nbccc: e\r\nBc: f\r\n\r\nBcc: body\r\n")
        let header = HeaderBlock(scanning: buffer)
        let blind = header.fields(named: "bcc", in: buffer)
        #expect(blind.map { text(buffer, $0.range) } == ["BCC: b\r\n", "bcc : c\r\n d\r\n"])
        #expect(header.has("to", in: buffer) && header.has("bc", in: buffer) && header.has("bccc", in: buffer))
        #expect(!header.has("from", in: buffer) && !header.has("t", in: buffer) && !header.has("", in: buffer))
        // Folding a letter must not fold "@" to "`" or "[" to "{".
        let odd = ByteBuffer(string: "@: x\r\n[: y\r\n\r\n")
        #expect(!HeaderBlock(scanning: odd).has("`", in: odd) && !HeaderBlock(scanning: odd).has("{", in: odd))
        #expect(HeaderBlock(scanning: odd).has("@", in: odd))
    }

    // MARK: Fixtures, and vectors

    @Test func headerValues() throws { try fieldsEnd(Fixtures.json([String].self, "header-values.json")) }

    @Test(
        .enabled(if: SharedFiles.areThere, "../shared is not beside the repository"),
        arguments: ["address.json", "date.json", "id.json"]) func headerFields(_ file: String) throws
    {
        struct Case: Decodable { let header: String }
        try fieldsEnd(SharedFiles.vector([Case].self, "header-fields/" + file).map(\.header))
    }

    /// A field with each of these values, between two others, ends where it should.
    private func fieldsEnd(_ values: [String]) throws {
        #expect(values.count > 10)
        for value in values {
            let crlf = value.replacingOccurrences(of: "\r\n", with: "\n").replacingOccurrences(of: "\n", with: "\r\n")
            let field = "X-Value: " + crlf + (crlf.hasSuffix("\r\n") ? "" : "\r\n")
            // Some values are not folded as they should be: then the header ends before the line that is no field.
            let message = Array("First: 1\r\n\(field)Last: 3\r\n\r\nbody".utf8)
            let (names, end, isWellFormed) = slowScan(message)
            let buffer = ByteBuffer(bytes: message)
            let header = HeaderBlock(scanning: buffer)
            #expect(header.fields.map { text(buffer, $0.name) } == names)
            #expect(header.end == end && header.isWellFormed == isWellFormed && header.isComplete)
            let isFolded = field.components(separatedBy: "\r\n").dropFirst().dropLast().allSatisfy {
                $0.hasPrefix(" ") || $0.hasPrefix("\t")
            }
            if isFolded {
                #expect(header.fields.map { text(buffer, $0.range) } == ["First: 1\r\n", field, "Last: 3\r\n"])
            }
        }
    }

    static let messages: [String] =
        (try? FileManager.default.contentsOfDirectory(atPath: Fixtures.directory.appending(path: "messages").path))?
        .filter { $0.hasSuffix(".eml") }.sorted() ?? []

    @Test func messagesAreThere() { #expect(Self.messages.count > 10) }

    @Test(arguments: messages) func awkwardMessageOfOurs(_ name: String) throws {
        try scan(crlf(Fixtures.file("messages/" + name)))
    }

    static let corpus: [String] = ["ruby-mail", "enmime"].flatMap { folder in
        let root = SharedFiles.vectors.appending(path: "mail-corpus/" + folder).path
        let files = FileManager.default.enumerator(atPath: root)?.compactMap { $0 as? String } ?? []
        return files.filter { !$0.contains("LICENSE") && $0.contains(".") }.sorted().map { "\(folder)/\($0)" }
    }

    @Test(.enabled(if: SharedFiles.areThere, "../shared is not beside the repository")) func corpusIsThere() {
        #expect(Self.corpus.count > 100)
    }

    @Test(.enabled(if: SharedFiles.areThere, "../shared is not beside the repository"), arguments: corpus)
    func awkwardMessage(_ path: String) throws { try scan(crlf(SharedFiles.vector("mail-corpus/" + path))) }

    private func scan(_ octets: [UInt8]) throws {
        let buffer = ByteBuffer(bytes: octets)
        let header = HeaderBlock(scanning: buffer)
        let expected = slowScan(octets)
        #expect(header.fields.map { text(buffer, $0.name) } == expected.names)
        #expect(header.end == expected.end)
        #expect(header.isWellFormed == expected.isWellFormed)

        // The fields lie behind each other from the first octet, and then comes the end.
        var offset = 0
        for field in header.fields {
            #expect(field.range.lowerBound == offset)
            #expect(field.name.lowerBound == offset && field.name.upperBound < field.range.upperBound)
            offset = field.range.upperBound
        }
        #expect(header.isWellFormed && header.isComplete ? offset == header.end - 2 : offset == header.end)

        try cuts(octets, header)
    }

    /// What a cut message says must not contradict what the whole one says; only what is whole may be called complete.
    private func cuts(_ octets: [UInt8], _ header: HeaderBlock) throws {
        // The line that the verdict hangs on.
        let verdict = header.isWellFormed ? header.end : lineEnd(octets, header.end)
        var generator = SeededGenerator(seed: UInt64(octets.count))
        let places =
            verdict <= 600
            ? Array(0...min(verdict + 2, octets.count))
            : (0..<150).map { _ in Int.random(in: 0...verdict, using: &generator) } + [verdict - 1, verdict]
        for place in places where place <= octets.count {
            let cut = HeaderBlock(scanning: ByteBuffer(bytes: octets[..<place]))
            if header.isComplete, place >= verdict {
                #expect(cut.isComplete && cut.end == header.end && cut.fields == header.fields, "cut at \(place)")
            } else {
                #expect(!cut.isComplete, "cut at \(place)")
                #expect(cut.end <= place)
                let whole = cut.fields.dropLast()
                #expect(Array(whole) == Array(header.fields.prefix(whole.count)), "cut at \(place)")
            }
        }
    }

    @Test func everyCutOfTheTable() throws {
        for (text, _) in Self.table {
            let octets = Array(text.utf8)
            let header = HeaderBlock(scanning: ByteBuffer(bytes: octets))
            if header.isComplete { try cuts(octets, header) }
        }
    }

    @Test func randomOctets() {
        var generator = SeededGenerator(seed: 3)
        for _ in 0..<20_000 {
            let octets = generator.octets(
                Int.random(in: 0...24, using: &generator), from: Array("Ab: \t\r\n\u{E9}\0".utf8))
            let buffer = ByteBuffer(bytes: octets)
            let header = HeaderBlock(scanning: buffer)
            let expected = slowScan(octets)
            #expect(header.fields.map { text(buffer, $0.name) } == expected.names, "\(ChunkVerifier.printable(octets))")
            #expect(header.end == expected.end, "\(ChunkVerifier.printable(octets))")
        }
    }

    // MARK: Helpers

    private func found(_ buffer: ByteBuffer) -> Found {
        let header = HeaderBlock(scanning: buffer)
        return Found(
            fields: header.fields.map { [text(buffer, $0.name), text(buffer, $0.range)] },
            body: text(buffer, header.end..<buffer.readableBytes), isWellFormed: header.isWellFormed,
            isComplete: header.isComplete)
    }

    private func text(_ buffer: ByteBuffer, _ range: Range<Int>) -> String {
        String(decoding: buffer.readableBytesView.dropFirst(range.lowerBound).prefix(range.count), as: UTF8.self)
    }

    private func lineEnd(_ octets: [UInt8], _ start: Int) -> Int {
        (octets[start...].firstIndex(of: UInt8(ascii: "\n")) ?? octets.count - 1) + 1
    }

    private func crlf(_ octets: [UInt8]) -> [UInt8] {
        var result: [UInt8] = []
        for octet in octets {
            if octet == UInt8(ascii: "\n"), result.last != UInt8(ascii: "\r") { result.append(UInt8(ascii: "\r")) }
            result.append(octet)
        }
        return result
    }

    /// The same with lines and texts, as one would write it without a thought for speed.
    private func slowScan(_ octets: [UInt8]) -> (names: [String], end: Int, isWellFormed: Bool) {
        var names: [String] = []
        var offset = 0
        while offset < octets.count {
            let next = lineEnd(octets, offset)
            let line = String(String.UnicodeScalarView(octets[offset..<next].map { Unicode.Scalar($0) }))
            if line.unicodeScalars.elementsEqual("\r\n".unicodeScalars) || line == "\n" { return (names, next, true) }
            if line.hasPrefix(" ") || line.hasPrefix("\t") {
                if names.isEmpty { return (names, offset, false) }
            } else {
                guard let colon = line.unicodeScalars.firstIndex(of: ":") else { return (names, offset, false) }
                var name = line.unicodeScalars[..<colon]
                while let last = name.last, last == " " || last == "\t" { name.removeLast() }
                guard !name.isEmpty, name.allSatisfy({ (33...126).contains($0.value) }) else {
                    return (names, offset, false)
                }
                names.append(String(name))
            }
            offset = next
        }
        return (names, offset, true)
    }
}
