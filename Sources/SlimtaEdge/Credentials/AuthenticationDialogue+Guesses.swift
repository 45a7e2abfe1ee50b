// What AuthenticationDialogue does against guessing, whatever the mechanism and the back end: it asks GuessWatch before anything
// is asked of back ends, and tells it what came of the exchange.

internal import SlimtaMail
internal import SlimtaSASL
internal import SlimtaSMTP
import Synchronization

extension AuthenticationDialogue {
    /// Waits where somebody guesses. What is to be said instead of anything being asked; nil: go on.
    ///
    /// - Parameter secret: what proves who the client is; nil: the mechanism does not show it.
    func admit(_ login: String?, _ secret: SecretOctets? = nil) async -> AuthenticationOutcome? {
        guard let guesses = backEnds.guesses else { return nil }
        let login = login?.lowercased()
        let address = facts.connection.peer.address
        let guess = GuessMachine.Guess(
            address: address, isExempt: facts.isTrusted || address?.isLoopback == true, session: facts.session,
            login: login, digest: secret.map { guesses.digest(of: $0, login) })
        switch await guesses.admit(guess) {
        case .admitted(let attempt):
            let isAbandoned = state.withLock { state in
                if !state.isAbandoned { state.attempt = attempt }
                return state.isAbandoned
            }
            guard isAbandoned else { return nil }
            guesses.ended(attempt, .neither)
            return AuthenticationOutcome(.unavailable, login: login)
        case .refused:
            return AuthenticationOutcome(
                .unavailable, login: login, reason: "too many logins of one address are under way")
        case .turnedAway:
            return AuthenticationOutcome(.turnedAway, login: login, reason: "too many logins failed there")
        }
    }

    /// Where the exchange ends, what it has come to is counted.
    func counted(_ outcome: AuthenticationOutcome) -> AuthenticationOutcome {
        let result: GuessMachine.Result
        let isExhausting = state.withLock { $0.isExhausting }
        switch outcome.result {
        case .challenge:
            guard state.withLock({ $0.isAbandoned }) else { return outcome }
            result = .neither
        case .right: result = .right
        case .wrong: result = .wrong
        case .undecided: result = isExhausting ? .exhausting(isRefuted: true) : .undecided
        case .unavailable where isExhausting: result = .exhausting(isRefuted: false)
        case .refused, .malformed, .unavailable, .turnedAway: result = .neither
        }
        var outcome = outcome
        outcome.login = outcome.login ?? state.withLock { $0.login }
        guard var attempt = state.withLock({ $0.takeAttempt() }) else { return outcome }
        attempt.guess.login = attempt.guess.login ?? outcome.login?.lowercased()
        outcome.failures = backEnds.guesses?.ended(attempt, result)
        return outcome
    }
}

extension SASLMechanism {
    /// Who a response of CRAM-MD5 says that the client is (RFC 2195 section 2): a back end that holds the exchange does not
    /// say whom it has refused.
    func login(in response: SecretOctets) -> String? {
        guard self == .cramMD5, let blank = response.lastIndex(of: 0x20) else { return nil }
        return try? LoginName.normalized(response.prefix(blank))
    }
}

extension SASLQuestion {
    /// What the client has shown as the proof of who it is.
    var secret: SecretOctets? {
        switch self {
        case .password(let credentials): credentials.password
        case .token(_, let token): token
        case .certificate, .keys, .secret: nil
        }
    }
}
