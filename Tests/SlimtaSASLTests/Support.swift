// What all tests of SASL share: a context, octets of texts, and a client that speaks with a server.

import SlimtaMail
import TestKit

@testable import SlimtaSASL

extension String {
    var octets: [UInt8] { Array(utf8) }
}

extension SASLContext {
    /// A connection with both bindings, on which `listed` was listed.
    static func test(
        listed: Set<SASLMechanism> = Set(SASLMechanism.allCases),
        bindings: [ChannelBinding: [UInt8]] = [.exporter: Array(0..<32), .endPoint: Array(32..<64)],
        hint: TokenHint = TokenHint()
    ) -> SASLContext {
        SASLContext(
            listed: listed, bindings: bindings, inventing: SecretOctets("secret".utf8), iterations: 4096,
            hostname: "mx.test", tokenHint: hint)
    }
}

extension SASLStep {
    /// A challenge as text.
    static func text(_ challenge: String) -> SASLStep { .challenge(challenge.octets) }
}

/// The octets that hexadecimal digits stand for.
func octets(hex: String) -> [UInt8] {
    stride(from: 0, to: hex.utf8.count, by: 2).map { place in
        UInt8(hex.dropFirst(place).prefix(2), radix: 16) ?? 0
    }
}

extension SASLServer {
    /// What comes of a whole exchange with `client`; `answer` says what each question is answered with.
    mutating func run(
        _ client: inout SASLClient, answer: (SASLQuestion) -> SASLAnswer
    ) -> SASLStep {
        var step = received(client.begin())
        while true {
            switch step {
            case .challenge(let challenge):
                guard let response = client.respond(to: challenge) else { return step }
                step = received(response)
            case .ask(let question): step = answered(answer(question))
            case .success, .refused, .malformed, .unavailable: return step
            }
        }
    }
}
