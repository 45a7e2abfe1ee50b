// Names and passwords in the forms of SASLprep and PRECIS.

import Foundation
import SlimtaMail
import TestKit
import Testing

@testable import SlimtaSASL

@Suite struct SASLprepTests {
    /// RFC 4013 section 3, and one for each of its tables.
    @Test(
        arguments: [
            ("I\u{AD}X", "IX"), ("user", "user"), ("USER", "USER"), ("\u{AA}", "a"), ("\u{2168}", "IX"), ("", ""),
            ("I\u{2000}X", "I X"), ("a b", "a b"), ("\u{7}", nil), ("a\u{7F}", nil), ("\u{627}1", nil),
            ("\u{627}1\u{627}", "\u{627}1\u{627}"),
            ("\u{627}a\u{627}", nil), ("a\u{627}", nil), ("\u{A0}\u{3000}", "  "), ("\u{200B}", ""),
            ("\u{200D}\u{FE0F}", ""),
            ("\u{FEFF}x", "x"), ("A\u{30A}", "\u{C5}"), ("\u{212B}", "\u{C5}"), ("\u{85}", nil), ("\u{6DD}", nil),
            ("\u{2028}", nil), ("\u{E000}", nil), ("\u{FFFD}", nil),
            ("\u{2FF0}", nil),
            ("\u{200E}", nil), ("\u{E0001}", nil), ("\u{10FFFD}", nil), ("\u{340}", "\u{300}"),
            ("\u{1F642}", "\u{1F642}"),
            ("\u{FB01}", "fi"), ("\u{2163}", "IV"),
        ] as [(String, String?)])
    func prepare(_ text: String, _ expected: String?) {
        let found = SASLprep.prepare(text.utf8)
        // Octets: to Swift, strings that differ in form alone are the same.
        #expect(found == expected.map { Array($0.utf8) })
        if let found { #expect(SASLprep.prepare(found) == found) }
    }

    /// Which Swift takes into no literal.
    @Test func noncharacters() throws {
        for value in [0xFDD0, 0xFDEF, 0xFFFE, 0x1_FFFF, 0x10_FFFF] as [UInt32] {
            #expect(SASLprep.prepare(String(try #require(Unicode.Scalar(value))).utf8) == nil)
        }
    }

    @Test func notUTF8() {
        for octets in [[0xFF], [0x61, 0xC3], [0xED, 0xA0, 0x80]] as [[UInt8]] {
            #expect(SASLprep.prepare(octets) == nil)
        }
    }

    @Test(.enabled(if: SharedFiles.areThere, "../shared is not beside the repository")) func vectors() throws {
        let other = try SharedFiles.vector(Other.self, "sasl/other.json")
        #expect(other.saslprep.count == 8)
        for vector in other.saslprep {
            #expect(SASLprep.prepare(vector.in.utf8) == vector.out.map { Array($0.utf8) }, "\(vector.why ?? vector.in)")
        }
    }
}

/// ../shared/vectors/sasl/other.json.
struct Other: Decodable {
    struct Prepared: Decodable { let `in`: String, out: String?, why: String? }
    struct Plain: Decodable { let octetsHex, authzid, authcid, password: String }
    struct CRAM: Decodable { let user, password, challenge, responseText, response64: String }
    let saslprep: [Prepared]
    let plain: [Plain]
    let cramMd5: [CRAM]
    let base64MustRefuse: [String]
}

@Suite struct OtherVectorTests {
    @Test(.enabled(if: SharedFiles.areThere, "../shared is not beside the repository")) func vectors() throws {
        let other = try SharedFiles.vector(Other.self, "sasl/other.json")
        #expect(other.plain.count == 2 && other.cramMd5.count == 1 && other.base64MustRefuse.count == 8)
        for plain in other.plain {
            var server = SASLServer.begin(.plain, context: .test())
            let step = server.received(octets(hex: plain.octetsHex))
            let asks = SASLStep.ask(.password(Credentials(login: plain.authcid, password: plain.password.utf8)))
            // Nobody may act for another here.
            #expect(step == (plain.authzid.isEmpty ? asks : .refused(.otherIdentity)))
        }
        for cram in other.cramMd5 {
            var server = CRAMMD5Server(challenge: cram.challenge)
            #expect(server.received(cram.responseText.octets) == .ask(.secret(login: cram.user)))
            #expect(server.answered(.secret(SecretOctets(cram.password.utf8))) == .success(login: cram.user))
            var client = CRAMMD5Client(username: cram.user, password: cram.password)
            #expect(client.respond(to: cram.challenge.octets) == cram.responseText.octets)
            #expect(Base64.encode(cram.responseText.utf8) == cram.response64)
        }
        for text in other.base64MustRefuse { #expect(Base64.decode(text.utf8) == nil, "\(text)") }
    }
}

@Suite struct PRECISTests {
    private struct Golden: Decodable {
        let profile, input: String
        let output: String?
    }

    private func prepare(_ profile: String, _ text: String) -> [UInt8]? {
        profile == "OpaqueString" ? PRECIS.opaqueString(text.utf8) : PRECIS.usernameCasePreserved(text.utf8)
    }

    /// RFC 8265 sections 3.5 and 4.3.
    @Test(
        arguments: [
            ("UsernameCasePreserved", "juliet@example.com", "juliet@example.com"),
            ("UsernameCasePreserved", "fussball", "fussball"),
            ("UsernameCasePreserved", "fu\u{DF}ball", "fu\u{DF}ball"), ("UsernameCasePreserved", "\u{3C0}", "\u{3C0}"),
            ("UsernameCasePreserved", "\u{3A3}", "\u{3A3}"), ("UsernameCasePreserved", "\u{3C2}", "\u{3C2}"),
            ("UsernameCasePreserved", "foo bar", nil), ("UsernameCasePreserved", "", nil),
            ("UsernameCasePreserved", "henry\u{2163}", nil),
            ("UsernameCasePreserved", "\u{221E}", nil), ("UsernameCasePreserved", "Juliet", "Juliet"),
            ("OpaqueString", "correct horse battery staple", "correct horse battery staple"),
            ("OpaqueString", "Correct Horse Battery Staple", "Correct Horse Battery Staple"),
            ("OpaqueString", "\u{3C0}\u{DF}\u{E5}", "\u{3C0}\u{DF}\u{E5}"),
            ("OpaqueString", "Jack of \u{2666}s", "Jack of \u{2666}s"),
            ("OpaqueString", "foo\u{1680}bar", "foo bar"), ("OpaqueString", "", nil),
            ("OpaqueString", "my cat is a \u{9}by", nil),
            ("UsernameCasePreserved", "\u{FF2A}\u{FF55}\u{FF4C}\u{FF49}\u{FF45}\u{FF54}", "Juliet"),
        ] as [(String, String, String?)])
    func examples(_ profile: String, _ text: String, _ expected: String?) {
        #expect(prepare(profile, text) == expected.map { Array($0.utf8) })
    }

    @Test(.enabled(if: SharedFiles.areThere, "../shared is not beside the repository")) func golden() throws {
        // Inputs that are half a surrogate pair are no text, here or anywhere: they are taken out before the JSON is read.
        let text = String(decoding: try SharedFiles.vector("precis/golden.json"), as: UTF8.self)
        let records = text.split(separator: "\n},").map { $0.trimmingCharacters(in: ["[", "]", "\n", "{", "}"]) }
        #expect(records.count == 975)
        var count = 0
        for record in records {
            guard let golden = try? JSONDecoder().decode(Golden.self, from: Data("{\(record)}".utf8)) else {
                #expect(record.contains("\"input\": \"\\ud8"))
                continue
            }
            // Case is for the back end: nothing here folds it.
            guard golden.profile != "UsernameCaseMapped" else { continue }
            count += 1
            #expect(
                prepare(golden.profile, golden.input) == golden.output.map { Array($0.utf8) },
                "\(golden.profile) \(golden.input.unicodeScalars.map { String($0.value, radix: 16) })")
        }
        #expect(count == 646)
    }

    @Test func notUTF8() {
        #expect(PRECIS.opaqueString([0xFF]) == nil && PRECIS.usernameCasePreserved([0x61, 0xC3]) == nil)
    }

    /// SASLprep and PRECIS differ (`slimtad passwd` warns of such passwords).
    @Test func theyDiffer() {
        #expect(PRECIS.opaqueString("\u{2168}".utf8) == Array("\u{2168}".utf8))
        #expect(PRECIS.opaqueString("\u{627}1".utf8) == Array("\u{627}1".utf8))
        #expect(PRECIS.opaqueString("I\u{AD}X".utf8) == nil)
    }
}

@Suite struct LoginNameTests {
    @Test(arguments: [
        ("u", "u"), ("  u@example.com ", "u@example.com"), ("User", "User"), ("a b", "a b"), ("e\u{301}", "\u{E9}"),
        ("\u{FF55}", "u"), ("\u{E9} \u{E9}", "\u{E9} \u{E9}"), ("D\\u", "D\\u"), ("u%example.com", "u%example.com"),
    ])
    func normalized(_ name: String, _ expected: String) throws {
        #expect(Array(try LoginName.normalized(name.utf8).utf8) == Array(expected.utf8))
        #expect(try LoginName.normalized(LoginName.normalized(name.utf8).utf8) == expected)
    }

    @Test(arguments: [
        ("", SASLFault.noCredentials), ("  ", .noCredentials), ("a\0", .invalidUsernameEncoding),
        ("a\n", .invalidUsernameEncoding),
        (String(repeating: "u", count: 256), .invalidUsernameEncoding),
    ])
    func refused(_ name: String, _ fault: SASLFault) {
        #expect(throws: fault) { try LoginName.normalized(name.utf8) }
    }
}
