// Canonical forms of bodies and fields: RFC 6376's examples, the traps that other programs fell into, random octets against the
// oracle; bodies cut in every way.

import NIOCore
import SlimtaCrypto
import TestKit
import Testing

@testable import SlimtaDKIM

@Suite struct BodyCanonicalizationTests {
    /// A body, and its simple and relaxed forms.
    @Test(arguments: [
        // RFC 6376 section 3.4.5.
        (" C \r\nD \t E\r\n\r\n\r\n", " C \r\nD \t E\r\n", " C\r\nD E\r\n"),
        // Empty, or nothing but what is empty in the end.
        ("", "\r\n", ""), ("\r\n", "\r\n", ""), ("\r\n\r\n", "\r\n", ""), ("\r\n\r\n\r\n", "\r\n", ""),
        (" \r\n\t\r\n", " \r\n\t\r\n", ""), (" ", " \r\n", ""), ("\r\n \t", "\r\n \t\r\n", ""),
        // A line of blanks is an empty line, and one within the body stays.
        ("a\r\n \t\r\nb\r\n\t\r\n", "a\r\n \t\r\nb\r\n\t\r\n", "a\r\n\r\nb\r\n"),
        // The last line gets its CRLF, as on the wire.
        ("a", "a\r\n", "a\r\n"), ("a ", "a \r\n", "a\r\n"), ("a\r\nb", "a\r\nb\r\n", "a\r\nb\r\n"),
        ("\r\n\r\na", "\r\n\r\na\r\n", "\r\n\r\na\r\n"),
        // Blanks at a line's start become one, at its end none.
        ("\t \ta\t\tb  c \r\n", "\t \ta\t\tb  c \r\n", " a b c\r\n"), (" a b\r\n", " a b\r\n", " a b\r\n"),
        // Form feeds, vertical tabs and no-break spaces are content.
        ("a\u{C}\r\n\u{B} b\u{A0}\r\n", "a\u{C}\r\n\u{B} b\u{A0}\r\n", "a\u{C}\r\n\u{B} b\u{A0}\r\n"),
        // Half line ends do not come here; they would be content.
        ("a\r", "a\r\r\n", "a\r\r\n"), ("a\nb \n\r\n", "a\nb \n\r\n", "a\nb \n\r\n"), ("\r\r\n", "\r\r\n", "\r\r\n"),
        (" \rb\r\n", " \rb\r\n", " \rb\r\n"), ("\n", "\n\r\n", "\n\r\n"),
    ])
    func forms(_ body: String, _ simple: String, _ relaxed: String) throws {
        for (form, expected) in [(Canonicalization.simple, simple), (.relaxed, relaxed)] {
            let canonical = try ChunkVerifier.verify(Array(body.utf8)) { Collected.body($0, form) }
            #expect(text(canonical) == expected, "\(form)")
            #expect(Oracle.body(Array(body.utf8), form) == Array(expected.utf8), "the oracle, \(form)")
        }
    }

    /// RFC 6376 section 3.4.3 and 3.4.4.
    @Test func emptyBodies() {
        let hashes = Canonicalization.allCases.map { BodyHash(of: ByteBuffer(), $0).digest }
        #expect(hashes[0] == base64("frcCV1k9oG9oKj3dpUqdJg1PxRT2RSN/XKdLCPjaYaY="))
        #expect(hashes[1] == base64("47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="))
    }

    @Test(arguments: Canonicalization.allCases) func randomBodies(_ form: Canonicalization) throws {
        var generator = SeededGenerator(seed: 6376)
        let alphabets: [[UInt8]] = [
            Array("\r\n \tab".utf8), Array("\r\n\r\n\r\n a".utf8), Array(" \tabcdefgh\r\n".utf8),
        ]
        for number in 0..<600 {
            let alphabet = alphabets[number % 3]
            var octets: [UInt8] = []
            // Mostly whole line ends, as bodies have them.
            for octet in generator.octets(Int.random(in: 0...120, using: &generator), from: alphabet) {
                octets += number % 2 == 0 && (octet == 0x0D || octet == 0x0A) ? [0x0D, 0x0A] : [octet]
            }
            let canonical = try ChunkVerifier.verify(octets, cuts: 4, seed: UInt64(number)) { Collected.body($0, form) }
            #expect(canonical == Oracle.body(octets, form), "\(ChunkVerifier.printable(octets))")
        }
    }

    /// Lines are looked at in pieces: a blank that has to go is found wherever it is, and one that may stay, stays.
    @Test func blanksAnywhere() {
        for length in [1, 2, 15, 16, 17, 18, 31, 32, 33, 49, 63, 64, 65, 80, 130] {
            for place in 0..<length {
                for blanks in ["\t", " ", "  ", " \t", "\t\t\t", "\u{C} "] {
                    var line = [UInt8](repeating: UInt8(ascii: "x"), count: length)
                    line.insert(contentsOf: blanks.utf8, at: place)
                    // Lines that stay as they are, before it and behind it, and empty ones.
                    let body = Array("a\r\n".utf8) + line + "\r\n\r\nb\r\n\r\n".utf8
                    for form in Canonicalization.allCases {
                        let canonical = Collected.body([ByteBuffer(bytes: body)], form)
                        guard canonical != Oracle.body(body, form) else { continue }
                        Issue.record("\(ChunkVerifier.printable(body)), \(form)")
                    }
                }
            }
        }
    }

    /// More empty lines than there is room for at once, and lines longer than any.
    @Test func longBodies() {
        for form in Canonicalization.allCases {
            let parts: [[UInt8]] = [
                Array(repeatElement([0x0D, 0x0A], count: 10_000).joined()), Array("a \tb ".utf8),
                Array(repeating: 0x20, count: 10_000), Array(repeating: 0x63, count: 10_000),
                Array(repeatElement(Array("  x\r\n".utf8), count: 3000).joined()),
            ]
            let all = Array(parts.joined())
            let canonical = Collected.body(parts.map { ByteBuffer(bytes: $0) }, form)
            #expect(canonical == Oracle.body(all, form))
            #expect(BodyHash(of: ByteBuffer(bytes: all), form).digest == HashFunction.sha256.digest(canonical))
        }
    }
}

@Suite struct HeaderCanonicalizationTests {
    /// A field, and its relaxed form.
    @Test(arguments: [
        // RFC 6376 section 3.4.5.
        ("A: X\r\n", "a:X\r\n"), ("B : Y\t\r\n\tZ  \r\n", "b:Y Z\r\n"),
        // Blanks around the colon go, of names and values alike; within the value one is left.
        ("Subject \t :\t a \t b\t\r\n", "subject:a b\r\n"), ("SUBJECT:a:b : c\r\n", "subject:a:b : c\r\n"),
        // A fold is undone by its CRLF alone.
        ("A: b\r\n c\r\n\t d\r\n", "a:b c d\r\n"), ("A:\r\n b\r\n", "a:b\r\n"), ("A: \r\n \r\n\t\r\n", "a:\r\n"),
        ("A: b\r\n \r\n", "a:b\r\n"), ("A:\r\n", "a:\r\n"), ("A:", "a:\r\n"), ("A: b", "a:b\r\n"),
        // Other white space and 8-bit octets are content.
        ("A: \u{C}b\u{B} \u{A0}\r\n", "a:\u{C}b\u{B} \u{A0}\r\n"), ("A: \u{E4}\r\n", "a:\u{E4}\r\n"),
    ])
    func relaxed(_ field: String, _ expected: String) {
        #expect(text(Canonicalization.relaxed.canonical(Array(field.utf8))) == expected)
        #expect(
            text(Oracle.header(Array(field.hasSuffix("\r\n") ? field.utf8.dropLast(2) : field.utf8[...]))) == expected)
        let ended = field.hasSuffix("\r\n") ? field : field + "\r\n"
        #expect(text(Canonicalization.simple.canonical(Array(field.utf8))) == ended)
    }

    /// What is no UTF-8 stays what it is.
    @Test func octets() {
        let field = Array("A: \u{E4}".utf8.dropLast()) + [0xFF, 0xFE, 0x0D, 0x0A]
        #expect(Canonicalization.relaxed.canonical(field) == [0x61, 0x3A, 0xC3, 0xFF, 0xFE, 0x0D, 0x0A])
        #expect(Canonicalization.simple.canonical(field) == field)
    }

    @Test func randomFields() {
        var generator = SeededGenerator(seed: 3)
        for _ in 0..<2000 {
            var field =
                Array("Xy".utf8) + generator.octets(Int.random(in: 0...2, using: &generator), from: [0x20, 0x09])
            field.append(0x3A)
            for octet in generator.octets(
                Int.random(in: 0...40, using: &generator), from: Array(" \tab:\r\n\u{C}".utf8))
            {
                field += octet == 0x0D || octet == 0x0A ? [0x0D, 0x0A, 0x20] : [octet]
            }
            #expect(
                Canonicalization.relaxed.canonical(field + [0x0D, 0x0A]) == Oracle.header(field),
                "\(ChunkVerifier.printable(field))")
        }
    }
}
