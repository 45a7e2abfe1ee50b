// The server's side of a SASL exchange (RFC 4422 section 3), whatever its mechanism: a value without I/O. The edge's
// dialogue with the back ends runs it.

/// One exchange.
///
///     begin ──received(initial response, or nil)──▶ challenge ──received──▶ … ──▶ ask ──answered──▶ … ──▶ end
///
/// The ends are `success`, `refused`, `malformed` and `unavailable`; behind one of them, and whenever a response comes
/// where an answer is due or the other way round, there is nothing but ``SASLStep/unavailable``.
package struct SASLServer: Sendable {
    private enum Turn {
        case first
        case response
        case answer
        case over
    }

    /// What is spoken.
    package let mechanism: SASLMechanism
    private var exchange: any ServerExchange
    private var turn = Turn.first

    /// An exchange on a connection.
    package static func begin(_ mechanism: SASLMechanism, context: SASLContext) -> SASLServer {
        SASLServer(mechanism, context: context, nonce: RandomNonce.make())
    }

    /// With a nonce of one's own: for examples, and for who has to look like somebody else.
    package init(_ mechanism: SASLMechanism, context: SASLContext, nonce: String) {
        self.mechanism = mechanism
        exchange =
            switch mechanism {
            case .scramSHA256Plus, .scramSHA512Plus, .scramSHA1Plus, .scramSHA256, .scramSHA512, .scramSHA1:
                SCRAMServer(mechanism, context: context, nonce: nonce)
            case .plain: PlainServer()
            case .login: LoginServer()
            case .oauthBearer: OAuthServer(.oauthBearer, hint: context.tokenHint)
            case .xoauth2: OAuthServer(.xoauth2, hint: context.tokenHint)
            case .external: ExternalServer()
            case .cramMD5: CRAMMD5Server(challenge: "<\(nonce)@\(context.hostname)>")
            }
    }

    /// Who the client says it is, normalised, as soon as it has said so: for logs and counters.
    package var login: String? { exchange.login }

    /// Whether breaking the exchange off now (RFC 4954 section 4: "*") counts as a failed try: else guessing were free.
    package var isTried: Bool { exchange.isTried }

    /// Takes a response, decoded. The first is the initial response, nil if there was none; all others are there.
    package mutating func received(_ response: [UInt8]?) -> SASLStep {
        switch turn {
        case .first where response == nil: return end(.challenge(exchange.greeting))
        case .first where mechanism.isServerFirst: return end(.malformed)
        case .first, .response:
            guard let response else { return end(.unavailable) }
            return end(exchange.received(response))
        case .answer, .over: return end(.unavailable)
        }
    }

    /// Takes the answer to the question that the last step asked.
    package mutating func answered(_ answer: SASLAnswer) -> SASLStep {
        guard turn == .answer, answer != .unavailable else { return end(.unavailable) }
        return end(exchange.answered(answer))
    }

    /// Whose turn it is behind a step.
    private mutating func end(_ step: SASLStep) -> SASLStep {
        turn =
            switch step {
            case .challenge: .response
            case .ask: .answer
            case .success, .refused, .malformed, .unavailable: .over
            }
        return step
    }
}
