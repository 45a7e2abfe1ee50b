// Every event in every state of every mechanism, on the server's side.

import SlimtaMail
import TestKit
import Testing

@testable import SlimtaSASL

@Suite struct StateTests {
    enum Event: Sendable {
        case response([UInt8]?)
        case answer(SASLAnswer)
    }

    /// The events that are tried in each state, in the order of the letters of ``states``.
    static let events: [Event] = [
        .response(nil), .response([]), .response([0xFF]), .answer(.right(login: "r")), .answer(.wrong),
        .answer(.keys(nil)), .answer(.secret(nil)), .answer(.unavailable),
    ]

    /// A state: the events that lead there from the one before, and what follows there from each of ``events``: Challenge, Ask,
    /// Success, Refused, Malformed, Unavailable.
    struct State: Sendable {
        let name: String
        let path: [Event]
        let steps: String
    }

    static let over = "UUUUUUUU"
    static let asked = "UUUSRUUU"
    static let token = "auth=Bearer T\u{1}\u{1}"
    static let digest = CRAMMD5Server.digest(of: "<N@mx.test>".octets, "p".utf8)
    static let keys = SCRAMKeys(
        password: "pencil".utf8, .sha1, iterations: 4096, salt: Base64.decode("QSXCR+Q6sek8bf92".utf8) ?? [])

    static let states: [(SASLMechanism, [State])] = [
        (
            .plain,
            [
                State(name: "first", path: [], steps: "CMMUUUUU"),
                State(name: "response", path: [.response(nil)], steps: "UMMUUUUU"),
                State(name: "asked", path: [.response("\0u\0p".octets)], steps: asked),
                State(name: "over", path: [.answer(.right(login: "u"))], steps: over),
            ]
        ),
        (
            .login,
            [
                State(name: "first", path: [], steps: "CRRUUUUU"),
                State(name: "name", path: [.response(nil)], steps: "URRUUUUU"),
                State(name: "password", path: [.response("u".octets)], steps: "URRUUUUU"),
                State(name: "asked", path: [.response("p".octets)], steps: asked),
                State(name: "over", path: [.answer(.wrong)], steps: over),
            ]
        ),
        (
            .external,
            [
                State(name: "first", path: [], steps: "CARUUUUU"),
                State(name: "response", path: [.response(nil)], steps: "UARUUUUU"),
                State(name: "asked", path: [.response([])], steps: asked),
                State(name: "over", path: [.answer(.right(login: "u"))], steps: over),
            ]
        ),
        (.oauthBearer, tokenStates("n,,\u{1}" + token)), (.xoauth2, tokenStates("user=u\u{1}" + token)),
        (
            .cramMD5,
            [
                State(name: "first", path: [], steps: "CMMUUUUU"),
                State(name: "response", path: [.response(nil)], steps: "UMMUUUUU"),
                State(name: "asked", path: [.response("u ".octets + digest)], steps: "UUUUUURU"),
                State(name: "over", path: [.answer(.secret(SecretOctets("p".utf8)))], steps: over),
            ]
        ),
        (
            .scramSHA1,
            [
                State(name: "first", path: [], steps: "CRRUUUUU"),
                State(name: "response", path: [.response(nil)], steps: "URRUUUUU"),
                State(
                    name: "keys", path: [.response("n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL".octets)], steps: "UUUUUCUU"),
                State(name: "proof", path: [.answer(.keys(keys))], steps: "URRUUUUU"),
                State(
                    name: "verified",
                    path: [
                        .response(
                            ("c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,"
                                + "p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=").octets)
                    ], steps: "USMUUUUU"),
                State(name: "over", path: [.response([])], steps: over),
            ]
        ),
    ]

    private static func tokenStates(_ message: String) -> [State] {
        [
            State(name: "first", path: [], steps: "CMMUUUUU"),
            State(name: "response", path: [.response(nil)], steps: "UMMUUUUU"),
            State(name: "asked", path: [.response(message.octets)], steps: "UUUSCUUU"),
            State(name: "told", path: [.answer(.wrong)], steps: "URRUUUUU"),
            State(name: "over", path: [.response([])], steps: over),
        ]
    }

    @Test func everyEventInEveryState() {
        for (mechanism, states) in Self.states {
            let nonce = mechanism == .scramSHA1 ? "3rfcNHYJY1ZVvWVs7j" : "N"
            var server = SASLServer(mechanism, context: .test(listed: [mechanism]), nonce: nonce)
            for state in states {
                for event in state.path { _ = apply(event, to: &server) }
                for (event, expected) in zip(Self.events, state.steps) {
                    var copy = server
                    let step = apply(event, to: &copy)
                    #expect(letter(step) == expected, "\(mechanism) \(state.name) \(event)")
                    // An end is one.
                    guard "SRMU".contains(expected) else { continue }
                    for event in Self.events { #expect(letter(apply(event, to: &copy)) == "U") }
                }
                #expect(state.steps.count == Self.events.count)
            }
        }
        // -PLUS and the other hashes are the same exchange.
        #expect(Set(Self.states.map(\.0)).union(SASLMechanism.allCases.filter { $0.scram != nil }).count == 12)
    }

    private func apply(_ event: Event, to server: inout SASLServer) -> SASLStep {
        switch event {
        case .response(let response): server.received(response)
        case .answer(let answer): server.answered(answer)
        }
    }

    private func letter(_ step: SASLStep) -> Character {
        switch step {
        case .challenge: "C"
        case .ask: "A"
        case .success: "S"
        case .refused: "R"
        case .malformed: "M"
        case .unavailable: "U"
        }
    }
}
