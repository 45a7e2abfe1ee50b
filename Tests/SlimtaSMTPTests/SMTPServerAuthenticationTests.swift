// AUTH as RFC 4954 section 4 has it, whatever the mechanism: what is refused, counted, and told to whoever runs the exchange.

import SlimtaMail
import SlimtaSASL
import Testing

@testable import SlimtaSMTP

@Suite struct SMTPServerAuthenticationTests {
    /// Behind EHLO, with all mechanisms, and with the questions left open.
    private func session(_ hello: String = "EHLO c") -> SMTPSession {
        var configuration = SMTPServerConfiguration.test(tls: .none, plaintext: true)
        configuration.mechanisms = SASLMechanism.allCases
        var session = SMTPSession(configuration, keepsQuestionsOpen: true)
        session.send("\(hello)\r\n")
        _ = session.taken()
        return session
    }

    private func replies(_ session: inout SMTPSession, _ line: String) -> [String] {
        session.send("\(line)\r\n")
        return session.taken()
    }

    private func step(_ session: SMTPSession) -> SMTPServerMachine.AuthenticationStep? {
        guard case .authentication(let step) = session.question else { return nil }
        return step
    }

    private func answer(
        _ session: inout SMTPSession, _ result: SMTPServerMachine.AuthenticationResult
    ) -> [String] {
        session.answer(with: .authentication(result))
        return session.taken()
    }

    @Test(
        arguments: [
            ("AUTH scram-sha-256", nil), ("AUTH SCRAM-SHA-256 ", nil), ("AUTH SCRAM-SHA-256 =", []),
            ("AUTH SCRAM-SHA-256 biws", Array("n,,".utf8)),
        ] as [(String, [UInt8]?)])
    func initialResponses(_ line: String, _ octets: [UInt8]?) {
        var session = session()
        #expect(replies(&session, line) == [])
        let response = octets.map { SecretOctets($0) }
        #expect(
            step(session) == .begin(.scramSHA256, initialResponse: response, listed: SASLMechanism.allCases))
        #expect(answer(&session, .challenge([])) == ["S: 334 "])
        #expect(answer(&session, .challenge([1])) == [], "nobody asked")
    }

    @Test(arguments: [
        ("AUTH CRAM-MD5 biws", "501 5.7.0"), ("AUTH PLAIN biw", "501 5.5.2"), ("AUTH PLAIN b iws", "501 5.5.4"),
        ("AUTH GSSAPI", "504 5.5.4"), ("AUTH", "501 5.5.4"),
    ])
    func refusedCommands(_ line: String, _ reply: String) {
        var session = session()
        let told = replies(&session, line)
        #expect(told.count == 1 && told[0].hasPrefix("S: \(reply)"), "\(told)")
        #expect(session.question == nil)
    }

    @Test func helloIsNotEnough() {
        var session = session("HELO c")
        #expect(replies(&session, "AUTH PLAIN") == ["S: 503 5.5.1 AUTH needs EHLO in place of HELO"])
    }

    @Test(arguments: [("", []), ("=", []), ("YQ==", [97])] as [(String, [UInt8])])
    func responses(_ line: String, _ octets: [UInt8]) {
        var session = session()
        _ = replies(&session, "AUTH SCRAM-SHA-256")
        #expect(answer(&session, .challenge(Array("r=1".utf8))) == ["S: 334 cj0x"])
        #expect(replies(&session, line) == [])
        #expect(step(session) == .response(SecretOctets(octets)))
        #expect(answer(&session, .right(.init(login: "u"))) == ["S: 235 2.7.0 Authentication successful"])
        #expect(session.machine.session.mechanism == "SCRAM-SHA-256")
        #expect(replies(&session, "AUTH PLAIN") == ["S: 503 5.5.1 Bad sequence of commands"])
    }

    /// Whoever runs the exchange is told of its end, and the client what was wrong; whatever the answer.
    @Test(arguments: [
        ("*", "501 5.7.0 Authentication canceled by client"), ("LOGOUT", "501 5.5.2 Invalid auth response"),
        ("YQ", "501 5.5.2 Invalid auth response"),
        (String(repeating: "YQ==", count: 3100), "500 5.5.6 Authentication exchange line is too long"),
    ])
    func whatEndsAnExchange(_ line: String, _ reply: String) {
        for result in [
            SMTPServerMachine.AuthenticationResult.malformed, .wrong, .challenge([1]), .right(.init(login: "u")),
        ] {
            var session = session()
            _ = replies(&session, "AUTH SCRAM-SHA-256")
            _ = answer(&session, .challenge([]))
            #expect(replies(&session, line) == [])
            guard case .cancelled = step(session) else {
                Issue.record("\(String(describing: session.question))")
                continue
            }
            #expect(answer(&session, result) == ["S: \(reply)"])
            #expect(session.machine.user == nil)
            #expect(replies(&session, "NOOP") == ["S: 250 2.0.0 Ok"])
        }
    }

    @Test func anExchangeHasAnEnd() {
        var session = session()
        _ = replies(&session, "AUTH SCRAM-SHA-256")
        for _ in 0..<8 {
            #expect(answer(&session, .challenge([])) == ["S: 334 "])
            _ = replies(&session, "")
        }
        _ = answer(&session, .challenge([]))
        _ = replies(&session, "")
        guard case .cancelled = step(session) else {
            Issue.record("it goes on")
            return
        }
    }

    @Test func results() {
        let table: [(SMTPServerMachine.AuthenticationResult, String)] = [
            (.wrong, "535 5.7.8 Authentication credentials invalid"), (.malformed, "501 5.5.2 Invalid auth response"),
            (.unavailable, "454 4.7.0 Temporary authentication failure"),
            (.undecided, "454 4.7.0 Temporary authentication failure"),
            (.refused("This login has expired"), "535 5.7.8 This login has expired"),
        ]
        for (result, reply) in table {
            var session = session()
            _ = replies(&session, "AUTH PLAIN AHUAcA==")
            #expect(answer(&session, result) == ["S: \(reply)"])
        }
    }

    @Test func whoGuessesIsTurnedAway() {
        var session = session()
        _ = replies(&session, "AUTH PLAIN AHUAcA==")
        let end = ["S: 421 4.7.0 mx.example.org Too many failed logins", "close tooManyErrors"]
        #expect(answer(&session, .turnedAway) == end)
    }

    /// Of whatever kind: five, and the session is over. What is not the client's fault does not count.
    @Test func failuresAreCounted() {
        var session = session()
        for number in 1...6 {
            _ = replies(&session, "AUTH PLAIN AHUAcA==")
            _ = answer(&session, .unavailable)
            _ = replies(&session, "AUTH PLAIN AHUAcA==")
            let isWrong = number % 2 == 0
            if isWrong {
                _ = answer(&session, .challenge([]))
                _ = replies(&session, "*")
            }
            let told = answer(&session, number == 3 ? .refused("No") : .wrong)
            let end = ["S: 421 4.7.0 mx.example.org Too many failed logins", "close tooManyErrors"]
            #expect(Array(told.dropFirst()) == (number == 5 ? end : []))
            if number == 5 { return }
        }
    }

    /// What may be used is what was listed; a new EHLO lists anew, and TLS forgets.
    @Test func theListOfTheLastHello() {
        var session = session()
        session.machine.mechanisms = [.plain]
        #expect(replies(&session, "AUTH LOGIN") == [])
        #expect(answer(&session, .wrong).count == 1)
        #expect(replies(&session, "EHLO c").contains("S: 250-AUTH PLAIN"))
        #expect(replies(&session, "AUTH LOGIN").first?.hasPrefix("S: 504") == true)
        session.machine.mechanisms = []
        #expect(!replies(&session, "EHLO c").contains { $0.contains("AUTH") })
        #expect(replies(&session, "AUTH PLAIN").first?.hasPrefix("S: 504") == true)
    }

    @Test func theCommandMayBeAsLongAsAResponse() {
        var session = session()
        _ = replies(&session, "AUTH PLAIN " + String(repeating: "YWFh", count: 3065))
        guard case .begin(_, let response?, _) = step(session) else {
            Issue.record("it is short enough")
            return
        }
        #expect(response.count == 9195)
        _ = answer(&session, .wrong)
        #expect(
            replies(&session, "AUTH PLAIN " + String(repeating: "YWFh", count: 3100))
                == ["S: 500 5.5.6 Authentication exchange line is too long"])
        #expect(replies(&session, "NOOP " + String(repeating: "x", count: 3000)) == ["S: 500 5.5.2 Line too long"])
    }
}
