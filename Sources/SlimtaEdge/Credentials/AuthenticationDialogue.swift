// An exchange with a client: runs the mechanism, which is a value, and asks the back ends what it wants to know. `BackEnds`
// makes one for each AUTH, and for each Authorization of HTTP.

internal import NIOCore
internal import SlimtaSASL
internal import SlimtaSMTP
import Synchronization

/// One exchange. Its steps come one after the other.
///
/// Back ends are asked in their order, each no longer than it may take. The first that says yes has said it for all; if none
/// does, and one could not be asked, nobody knows: the client is to try again later, and not to be asked for another
/// password. Where a mechanism needs to know the user's secret and nobody does, a back end that holds exchanges itself may
/// go on with this one; and if that knows no such user either, the exchange goes on with invented keys, and fails where a
/// wrong password does. Of a user whom one of them bars nobody but that one is asked.
final class AuthenticationDialogue: AuthenticationExchange {
    typealias Step = SMTPServerMachine.AuthenticationStep

    /// Who goes on with the exchange.
    enum Holder: Sendable {
        case mechanism(SASLServer)
        case backEnd(any CredentialBackEnd, any BackEndExchange)
    }

    struct State {
        /// nil: the exchange has not begun, it is over, or a step is being taken.
        var holder: Holder?
        var mechanism = SASLMechanism.plain
        var listed: [SASLMechanism] = []
        /// What the client said first, for a back end that goes on with the exchange. Of SCRAM alone, which says no secret.
        var opening: SecretOctets?
        /// Who the client says it is, in an exchange that a back end holds.
        var login: String?
        /// Exchanges of back ends that did not know the login.
        var strangers: [any BackEndExchange] = []
        /// Who has logged in if the client proves it.
        var user: AuthenticatedUser?
        var end = ContinuousClock.Instant.now
        var task: Task<Void, Never>?
        /// What is counted, from where something is asked to where the exchange ends.
        var attempt: GuessWatch.Attempt?
        var isAbandoned = false
        /// What was asked has had a back end busy for as long as it may.
        var isExhausting = false

        /// Nobody has the exchange until its next step is taken.
        mutating func takeHolder() -> Holder? {
            defer { holder = nil }
            return holder
        }

        mutating func takeAttempt() -> GuessWatch.Attempt? {
            defer { attempt = nil }
            return attempt
        }
    }

    /// For the whole exchange, however many responses it has.
    private static let longest = Duration.seconds(300)

    let backEnds: BackEnds
    let facts: AuthenticationFacts
    let state = Mutex(State())

    init(_ backEnds: BackEnds, _ facts: AuthenticationFacts) {
        self.backEnds = backEnds
        self.facts = facts
    }

    func take(_ step: Step, completion: @escaping @Sendable (AuthenticationOutcome) -> Void) {
        // What can be answered at once is, on this thread.
        let task = Task.immediate { completion(counted(await outcome(of: step))) }
        state.withLock { $0.task = task }
    }

    func abandon() {
        let (holder, attempt) = state.withLock { state in
            state.task?.cancel()
            state.isAbandoned = true
            let holder = state.takeHolder()
            // While a step is taken, what comes of it counts.
            return (holder, holder == nil ? nil : state.takeAttempt())
        }
        if case .backEnd(_, let exchange) = holder { exchange.cancel() }
        if let attempt { backEnds.guesses?.ended(attempt, .neither) }
    }

    // MARK: Steps

    private func outcome(of step: Step) async -> AuthenticationOutcome {
        switch step {
        case .begin(let mechanism, let response, let listed):
            let server = SASLServer.begin(mechanism, context: backEnds.context(listed: listed, facts))
            state.withLock { state in
                (state.mechanism, state.listed) = (mechanism, listed)
                state.opening = mechanism.scram == nil ? nil : response
                state.end = .now + Self.longest
            }
            if let outcome = await beginAtBackEnd(mechanism, response) { return outcome }
            return await received(response, server)
        case .response(let response):
            let (holder, end) = state.withLock { state in
                if state.mechanism.scram != nil { state.opening = state.opening ?? response }
                return (state.takeHolder(), state.end)
            }
            guard let holder, end > .now else {
                return AuthenticationOutcome(.unavailable, reason: "the exchange took too long")
            }
            switch holder {
            case .mechanism(let server): return await received(response, server)
            case .backEnd(let backEnd, let exchange):
                state.withLock { $0.login = $0.login ?? $0.mechanism.login(in: response) }
                let step = await Self.step(of: exchange, at: backEnd, response)
                return follow(step, exchange, at: backEnd)
            }
        case .cancelled: return cancelled()
        }
    }

    private func received(_ response: SecretOctets?, _ server: SASLServer) async -> AuthenticationOutcome {
        var server = server
        var octets = response.map { Array($0) }
        defer { octets?.wipe() }
        let outcome = await follow(server.received(octets), server)
        guard outcome.result == .wrong else { return outcome }
        for stranger in state.withLock({ $0.strangers }) {
            if case .unavailable(let reason) = await stranger.refusal() {
                return AuthenticationOutcome(.unavailable, login: outcome.login, reason: reason)
            }
        }
        return outcome
    }

    private func cancelled() -> AuthenticationOutcome {
        let (holder, mechanism) = state.withLock { ($0.takeHolder(), $0.mechanism) }
        var outcome = AuthenticationOutcome(.malformed)
        switch holder {
        case .mechanism(let server):
            outcome.login = server.login
            if server.isTried { outcome.result = .wrong }
        case .backEnd(_, let exchange):
            exchange.cancel()
            if mechanism.scram != nil { outcome.result = .wrong }
        case nil: break
        }
        outcome.reason =
            mechanism.bindsChannel
            ? "the client has given up \(mechanism.rawValue); if it always does, it cannot bind to TLS: "
                + "auth.channel_binding = \"off\" is for such clients"
            : "the client has given up \(mechanism.rawValue)"
        return outcome
    }

    private func follow(_ step: SASLStep, _ server: SASLServer) async -> AuthenticationOutcome {
        var outcome: AuthenticationOutcome
        switch step {
        case .challenge(let challenge):
            state.withLock { $0.holder = .mechanism(server) }
            return AuthenticationOutcome(.challenge(challenge))
        case .ask(let question): return await ask(question, server)
        case .success:
            outcome = AuthenticationOutcome(state.withLock { $0.user }.map { .right($0) } ?? .unavailable)
        case .refused(let fault): outcome = AuthenticationOutcome(.wrong, reason: fault.rawValue)
        case .malformed: outcome = AuthenticationOutcome(.malformed)
        case .unavailable: outcome = AuthenticationOutcome(.unavailable, reason: "the exchange is out of step")
        }
        outcome.login = server.login
        return outcome
    }

    // MARK: Questions

    private func ask(_ question: SASLQuestion, _ server: SASLServer) async -> AuthenticationOutcome {
        if let outcome = await admit(server.login, question.secret) { return outcome }
        var facts = facts
        facts.standing = state.withLock { state in
            state.login = server.login
            return state.attempt?.standing ?? .stranger
        }
        return await ask(question, server, facts)
    }

    private func ask(
        _ question: SASLQuestion, _ server: SASLServer, _ facts: AuthenticationFacts
    ) async -> AuthenticationOutcome {
        switch question {
        case .password(let credentials):
            return await judge(server, credentials.login) { await $0.check(credentials, facts) }
        case .token(let login, let token):
            return await judge(server, login) { await $0.check(token: token, login: login, facts) }
        case .certificate(let authorization):
            return await judge(server, authorization) {
                await $0.checkCertificate(authorization: authorization, facts)
            }
        case .keys(let login, let hash):
            return await find(server, login, { await $0.keys(of: login, hash, facts) }, answer: { .keys($0) })
        case .secret(let login):
            return await find(server, login, { await $0.secret(of: login, facts) }, answer: { .secret($0) })
        }
    }

    /// Those that serve the mechanism here, and may let the login in.
    private func asked(about login: String?) -> [any CredentialBackEnd] {
        let mechanism = state.withLock { $0.mechanism }
        let served = backEnds.all.filter { $0.mechanisms(on: facts).contains(mechanism) }
        guard let login, isBarred(login) else { return served }
        return served.filter { $0.bars(login) }
    }

    /// Whether somebody knows it as a user who may not log in.
    private func isBarred(_ login: String) -> Bool { backEnds.all.contains { $0.bars(login) } }

    /// The same of somebody whom a back end knows, maybe by another name than the client's.
    private func isBarred(_ user: AuthenticatedUser, of backEnd: any CredentialBackEnd) -> Bool {
        backEnd.knownNames(of: user).contains { isBarred($0) }
    }

    /// Is it right? The first that says so is believed.
    private func judge(
        _ server: SASLServer, _ login: String?,
        _ question: @escaping @Sendable (any CredentialBackEnd) async -> CredentialVerdict
    ) async -> AuthenticationOutcome {
        var server = server
        var failure: String?
        // Who guesses while a back end is away must not do so for nothing.
        var isRefuted = false
        for backEnd in asked(about: login) {
            let late = CredentialVerdict.unavailable(backEnd.lateness)
            switch await answer(within: backEnd.timeout, else: late, { await question(backEnd) }) {
            case .right(let user):
                guard !isBarred(user, of: backEnd) else { return await follow(server.answered(.wrong), server) }
                state.withLock { $0.user = user.known(to: backEnd.name) }
                return await follow(server.answered(.right(login: user.login)), server)
            case .refused(let reason):
                return AuthenticationOutcome(.refused(reason), login: server.login, reason: reason)
            case .unavailable(let reason): failure = failure ?? reason
            case .exhausting(let reason):
                failure = failure ?? reason
                state.withLock { $0.isExhausting = true }
            case .wrong: isRefuted = true
            }
        }
        if let failure {
            return AuthenticationOutcome(
                isRefuted ? .undecided : .unavailable, login: server.login, reason: failure)
        }
        return await follow(server.answered(.wrong), server)
    }

    /// What is it? The first that knows is believed.
    private func find<Secret: Sendable>(
        _ server: SASLServer, _ login: String,
        _ question: @escaping @Sendable (any CredentialBackEnd) async -> SecretAnswer<Secret>,
        answer make: (Secret?) -> SASLAnswer
    ) async -> AuthenticationOutcome {
        var server = server
        var failure: String?
        for backEnd in asked(about: login) {
            let late = SecretAnswer<Secret>.unavailable(backEnd.lateness)
            switch await answer(within: backEnd.timeout, else: late, { await question(backEnd) }) {
            case .known(let secret, let user):
                state.withLock { $0.user = user.known(to: backEnd.name) }
                return await follow(server.answered(make(secret)), server)
            case .unavailable(let reason): failure = failure ?? reason
            case .unknown:
                guard let (exchange, step) = await handOver(to: backEnd) else { continue }
                switch step {
                case .verdict(.wrong): state.withLock { $0.strangers.append(exchange) }
                case .verdict(.unavailable(let reason)): failure = failure ?? reason
                default: return follow(step, exchange, at: backEnd)
                }
            }
        }
        if let failure { return AuthenticationOutcome(.unavailable, login: server.login, reason: failure) }
        server = disguised(server)
        return await follow(server.answered(make(nil)), server)
    }

    /// An exchange with invented keys that looks like one of the back end that would hold it, if it knew the login.
    private func disguised(_ server: SASLServer) -> SASLServer {
        let (strangers, listed, opening) = state.withLock { ($0.strangers, $0.listed, $0.opening) }
        guard let look = strangers.first?.look, let opening else { return server }
        var context = backEnds.context(listed: listed, facts)
        context.iterations = look.iterations
        var disguised = SASLServer(server.mechanism, context: context, nonce: look.nonce)
        _ = disguised.received(Array(opening))
        return disguised
    }

    // MARK: Exchanges of back ends

    /// Where the server speaks first, what it says is the back end's that holds the exchange; nil: the mechanism is ours.
    private func beginAtBackEnd(
        _ mechanism: SASLMechanism, _ response: SecretOctets?
    ) async -> AuthenticationOutcome? {
        guard mechanism.isServerFirst, let first = asked(about: nil).first,
            let exchange = first.begin(mechanism, facts)
        else {
            return nil
        }
        // Who it is will be said when it is proved.
        if let outcome = await admit(nil) { return outcome }
        return follow(await Self.step(of: exchange, at: first, response), exchange, at: first)
    }

    /// Has a back end go on with the exchange, as if it had heard all that was said: one response at most.
    private func handOver(
        to backEnd: any CredentialBackEnd
    ) async -> (any BackEndExchange, BackEndStep)? {
        let (mechanism, opening) = state.withLock { ($0.mechanism, $0.opening) }
        guard let exchange = backEnd.begin(mechanism, facts) else { return nil }
        return (exchange, await Self.step(of: exchange, at: backEnd, opening))
    }

    private static func step(
        of exchange: any BackEndExchange, at backEnd: any CredentialBackEnd, _ response: SecretOctets?
    ) async -> BackEndStep {
        await answer(within: backEnd.timeout, else: .verdict(.unavailable(backEnd.lateness))) {
            await exchange.received(response)
        }
    }

    private func follow(
        _ step: BackEndStep, _ exchange: any BackEndExchange, at backEnd: any CredentialBackEnd
    ) -> AuthenticationOutcome {
        switch step {
        case .challenge(let challenge):
            state.withLock { $0.holder = .backEnd(backEnd, exchange) }
            return AuthenticationOutcome(.challenge(challenge))
        case .verdict(.right(let user)) where isBarred(user, of: backEnd):
            return AuthenticationOutcome(.wrong, login: user.login)
        case .verdict(.right(let user)):
            return AuthenticationOutcome(.right(user.known(to: backEnd.name)), login: user.login)
        case .verdict(.wrong): return AuthenticationOutcome(.wrong)
        case .verdict(.refused(let reason)): return AuthenticationOutcome(.refused(reason), reason: reason)
        case .verdict(.unavailable(let reason)), .verdict(.exhausting(let reason)):
            exchange.cancel()
            return AuthenticationOutcome(.unavailable, reason: reason)
        case .malformed: return AuthenticationOutcome(.malformed)
        }
    }
}

extension CredentialBackEnd {
    /// Why there is no answer of it.
    fileprivate var lateness: String { "\(name) has not answered within \(timeout.nanoseconds / 1_000_000_000) s" }
}
