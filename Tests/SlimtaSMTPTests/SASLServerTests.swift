// The exchanges of PLAIN and LOGIN, and that no password is in anything that could be printed.

import SlimtaMail
import SlimtaSASL
import TestKit
import Testing

@testable import SlimtaSMTP

@Suite struct SASLServerTests {
    typealias SASLServer = SlimtaSMTP.SASLServer
    typealias Step = SASLServer.Step

    private static func check(_ login: String, _ password: String) -> Step {
        .check(Credentials(login: login, password: Array(password.utf8)))
    }

    static let plain: [(String, Step)] = [
        ("\0u\0p", check("u", "p")),
        ("u\0u\0p", check("u", "p")),
        ("\0tim\0tanstaaftanstaaf", check("tim", "tanstaaftanstaaf")),
        ("\0ü\0pässwort", check("ü", "pässwort")),
        ("\0u@example.com\0p w", check("u@example.com", "p w")),
        ("\0u\0\t\u{1}", check("u", "\t\u{1}")),
        // another's identity, no login, no password
        ("a\0u\0p", .refused), ("Ursel\0Kurt\0xipj3plmq", .refused), ("U\0u\0p", .refused),
        ("\0\0p", .refused), ("\0u\0", .refused), ("\0\0", .refused),
        // not the grammar
        ("", .malformed), ("u", .malformed), ("\0", .malformed), ("\0u", .malformed), ("u\0p", .malformed),
        ("\0u\0p\0", .malformed), ("\0u\0p\0x", .malformed), ("\0\0u\0p", .malformed), ("\0\0\0", .malformed),
        // a login that would not stay in its line of a log
        ("\0u\n\0p", .malformed), ("\0u\rx\0p", .malformed), ("\0u\u{7F}\0p", .malformed),
        ("\0\u{1B}[2J\0p", .malformed),
        ("\0u\u{85}\0p", .malformed), ("\0u\u{9B}2J\0p", .malformed), ("\0u\u{2028}\0p", .malformed),
    ]

    @Test(arguments: plain) func plainMessage(_ message: String, _ step: Step) {
        #expect(SASLServer.begin(.plain, initialResponse: Array(message.utf8)).step == step)
        var (exchange, first) = SASLServer.begin(.plain, initialResponse: nil)
        #expect(first == .challenge(""))
        #expect(exchange.received(Array(message.utf8)) == step)
    }

    @Test func plainIsUTF8() {
        for octets in [[0, 0xFF, 0, 0x70], [0, 0x75, 0, 0xFF], [0xFF, 0, 0x75, 0, 0x70], [0, 0x75, 0, 0xC3]]
            as [[UInt8]]
        {
            #expect(SASLServer.begin(.plain, initialResponse: octets).step == .malformed)
        }
    }

    @Test func lengths() {
        func step(_ login: Int, _ password: Int) -> Step {
            let (login, password) = (String(repeating: "u", count: login), String(repeating: "p", count: password))
            return SASLServer.begin(.plain, initialResponse: Array("\0\(login)\0\(password)".utf8)).step
        }
        for length in [254, 255] { #expect(step(length, 1) == Self.check(String(repeating: "u", count: length), "p")) }
        #expect(step(256, 1) == .malformed)
        for length in [1023, 1024] {
            #expect(step(1, length) == Self.check("u", String(repeating: "p", count: length)))
        }
        #expect(step(1, 1025) == .refused)
    }

    static let login: [(String, String, Step)] = [
        ("u", "p", check("u", "p")), ("ü", "p w", check("ü", "p w")), ("", "p", .refused), ("u", "", .refused),
        ("u", "a\0b", .malformed), ("", "", .refused),
    ]

    @Test(arguments: login) func loginDialogue(_ login: String, _ password: String, _ step: Step) {
        var (exchange, first) = SASLServer.begin(.login, initialResponse: nil)
        #expect(first == .challenge(Base64.encode(Array("Username:".utf8))))
        #expect(exchange.received(Array(login.utf8)) == .challenge(Base64.encode(Array("Password:".utf8))))
        #expect(exchange.received(Array(password.utf8)) == step)

        var (short, second) = SASLServer.begin(.login, initialResponse: Array(login.utf8))
        #expect(second == .challenge(Base64.encode(Array("Password:".utf8))))
        #expect(short.received(Array(password.utf8)) == step)
    }

    @Test func loginMalformed() {
        let invalid: [[UInt8]] = [
            [0xFF], [0x75, 0], [0x0A], Array("u\u{9B}".utf8), Array(repeating: 0x75, count: 256),
        ]
        for name in invalid { #expect(SASLServer.begin(.login, initialResponse: name).step == .malformed) }
        var (exchange, _) = SASLServer.begin(.login, initialResponse: Array("u".utf8))
        #expect(exchange.received([0xFF]) == .malformed)
    }

    @Test(.enabled(if: SharedFiles.areThere, "../shared is not beside the repository")) func vectors() throws {
        struct Other: Decodable {
            struct Plain: Decodable { let octetsHex, authzid, authcid, password: String }
            let plain: [Plain]
        }
        let cases = try SharedFiles.vector(Other.self, "sasl/other.json").plain
        #expect(cases.count == 2)
        for plain in cases {
            let message = octets(hex: plain.octetsHex)
            // Nobody may act for another here.
            let step = plain.authzid.isEmpty ? Self.check(plain.authcid, plain.password) : .refused
            #expect(SASLServer.begin(.plain, initialResponse: message).step == step)
        }
    }

    @Test func randomMessages() {
        var generator = SeededGenerator(seed: 4616)
        for _ in 0..<20_000 {
            let octets = generator.octets(
                Int.random(in: 0...9, using: &generator), from: [0, 0, 0x75, 0x70, 0x0A, 0xC3, 0xA9])
            for mechanism in [SASLMechanism.plain, .login] {
                var (exchange, step) = SASLServer.begin(mechanism, initialResponse: octets)
                if case .challenge = step { step = exchange.received(octets) }
                guard case .check(let credentials) = step else { continue }
                #expect(!credentials.login.isEmpty && !credentials.password.isEmpty)
                #expect(!credentials.password.contains(0))
                #expect(!credentials.login.utf8.contains { $0 < 32 })
            }
        }
    }

    // MARK: Nothing prints a password

    @Test func noDescriptionHasThePassword() throws {
        let credentials = Credentials(login: "u", password: Array("hunter2".utf8))
        expectHidden(credentials)
        expectHidden([credentials])
        expectHidden(SASLServer.Step.check(credentials))
        expectHidden(SMTPServerMachine.Action.ask(.credentials(credentials)))
        #expect("\(credentials)".contains("u"))
        let line = Array("AUTH PLAIN \(Base64.encode(Array("\0u\0hunter2".utf8)))".utf8)
        expectHidden(try SMTPCommand(parsing: line.span))
    }

    /// Neither as text nor in base64 nor as a list of octets, by no way to print a value.
    private func expectHidden(_ value: some Any) {
        var dumped = ""
        dump(value, to: &dumped)
        let octets = Array("hunter2".utf8)
        let encoded = Base64.encode(Array("\0u\0hunter2".utf8))
        let secrets = [
            "hunter2", encoded, "\(octets)", octets.map(String.init).joined(separator: "\n"),
            "\(Array(encoded.utf8))", "\(encoded.utf8.first!)\n",
        ]
        for text in ["\(value)", String(reflecting: value), "\(Optional(value) as Any)", dumped] {
            for secret in secrets { #expect(!text.contains(secret)) }
            #expect(!text.contains("104"), "no octet of it")
        }
    }
}
