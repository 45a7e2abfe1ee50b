// No way to print what the server's machine has of an AUTH exchange shows a password.

import SlimtaMail
import SlimtaSASL
import Testing

@testable import SlimtaSMTP

@Suite struct SMTPServerSecretTests {
    @Test func noDescriptionHasThePassword() throws {
        let response = SecretOctets(Array("\0u\0hunter2".utf8))
        expectHidden(SMTPServerMachine.Action.ask(.authentication(.response(response))))
        expectHidden(
            SMTPServerMachine.Action.ask(.authentication(.begin(.plain, initialResponse: response, listed: [.plain]))))
        let line = Array("AUTH PLAIN \(Base64.encode(Array("\0u\0hunter2".utf8)))".utf8)
        expectHidden(try SMTPCommand(parsing: line.span))
    }

    /// Neither as text nor in base64 nor as a list of octets.
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
