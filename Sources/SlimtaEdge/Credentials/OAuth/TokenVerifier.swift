// Whom does this token let in? The driver of the values of this folder: it asks the issuer when they want that, keeps time
// and tells the log. The back end "oauth" has one.

package import Logging
internal import NIOCore
internal import SlimtaCrypto
internal import SlimtaMail
package import SlimtaSASL
import Synchronization

/// Checks tokens, many at a time.
package final class TokenVerifier: Sendable {
    /// Where it is known from that a token is right.
    package enum Source: Sendable {
        /// From keys in a file, as they were when it was read.
        case file(JSONWebKeys)
        /// From keys that the issuer is asked for.
        case keys(IssuerClient)
        /// From the issuer, about each token (RFC 7662), as a client with that secret.
        case introspection(IssuerClient, id: String, secret: String)
    }

    /// What comes of a token.
    package enum Verdict: Hashable, Sendable {
        /// It is right.
        case right(TokenLogin)
        /// It is not.
        case wrong(TokenFault)
        /// Nobody knows just now, which is no fault of the token's: why.
        case unavailable(String)
    }

    private struct State {
        var keys: KeySetMachine
        /// The last fetch of keys.
        var fetch: Task<Void, Never>?
        /// Fetches keys when they are due.
        var refresh: Task<Void, Never>?
        var cache = IntrospectionCache<KeyedDigest.Value>(capacity: 4096)
        /// What the issuer is being asked.
        var questions: [KeyedDigest.Value: Task<IntrospectionAnswer, Never>] = [:]
        /// Why the issuer said nothing of a token, the last time; nil: it did.
        var silence: String?
    }

    private let rules: TokenRules
    private let source: Source
    private let logger: Logger
    private let digest: KeyedDigest
    private let state: Mutex<State>
    private let now: @Sendable () -> KeySetMachine.Instant

    /// Nothing is asked before ``start()``, or the first token.
    ///
    /// - Parameters:
    ///   - previous: by another configuration. Where that has asked the same issuer, what it was told holds on as it would
    ///     there: the issuer may be away just now. Keys are fetched anew all the same.
    ///   - now: the clock by which answers grow old, and issuers are asked again.
    package init(
        _ rules: TokenRules, _ source: Source, after previous: TokenVerifier? = nil, logger: Logger,
        now: @escaping @Sendable () -> ContinuousClock.Instant = { .now }
    ) {
        (self.rules, self.source, self.logger, self.now) = (rules, source, logger, now)
        var (state, digest) = (State(keys: KeySetMachine(now: now())), KeyedDigest())
        if let previous {
            switch (source, previous.source) {
            case (.keys(let client), .keys(let old)) where client.endpoint == old.endpoint:
                state.keys = KeySetMachine(after: previous.state.withLock { $0.keys }, now: now())
            case (.introspection(let client, let id, _), .introspection(let old, let oldID, _))
            where client.endpoint == old.endpoint && id == oldID && rules == previous.rules:
                (state.cache, state.silence) = previous.state.withLock { ($0.cache, $0.silence) }
                digest = previous.digest
            default: break
            }
        }
        self.state = Mutex(state)
        self.digest = digest
    }

    /// Fetches the keys, and again whenever they are due: so no login waits for that, and the log says early that they
    /// cannot be had.
    package func start() {
        guard case .keys = source else { return }
        let refresh = Task { [weak self] in
            while let pause = self?.refreshIfDue() {
                do { try await Task.sleep(for: pause) } catch { return }
            }
        }
        state.withLock { $0.refresh = refresh }
    }

    /// Ends what runs, and closes its connections.
    package func end() async {
        let (tasks, questions) = state.withLock { ([$0.refresh, $0.fetch], Array($0.questions.values)) }
        for task in tasks { task?.cancel() }
        for question in questions { question.cancel() }
        switch source {
        case .file: break
        case .keys(let client), .introspection(let client, _, _): await client.shutDown()
        }
    }

    /// What the operator has to put right; nil: nothing.
    package var complaint: String? { state.withLock { $0.silence ?? $0.keys.complaint } }

    /// Whom the token lets in. `login` is who the client says it is; it must mean the same, or be empty.
    package func verdict(on token: SecretOctets, login: String) async -> Verdict {
        let verdict: Verdict =
            if case .introspection(let client, let id, let secret) = source {
                await introspected(token, client, id, secret)
            } else {
                await checked(token)
            }
        guard case .right(let found) = verdict, !TokenRules.isSame(login, as: found.name) else { return verdict }
        return .wrong(.otherLogin)
    }

    // MARK: Keys

    private func checked(_ octets: SecretOctets) async -> Verdict {
        do throws(TokenFault) {
            let token = try SignedToken(parsing: octets, algorithms: rules.algorithms)
            guard let choice = await key(token.keyID, for: token.algorithm) else {
                return .unavailable(state.withLock { $0.keys.complaint } ?? "no keys")
            }
            guard case .key(let key) = choice else { throw .key }
            guard token.isSigned(by: key) else { throw .signature }
            try rules.check(type: token.type)
            return .right(try rules.login(token.claims, now: .now()))
        } catch {
            return .wrong(error)
        }
    }

    /// The key of that name; nil: nobody knows.
    private func key(_ id: String?, for algorithm: TokenAlgorithm) async -> JSONWebKeys.Choice? {
        let client: IssuerClient
        switch source {
        case .file(let set): return set.key(id, for: algorithm)
        case .keys(let issuer): client = issuer
        case .introspection: return nil
        }
        while true {
            let (answer, fetch) = state.withLock { state in
                let answer = state.keys.key(id, for: algorithm, now())
                if case .fetch = answer { state.fetch = Task { await fetchKeys(client) } }
                return (answer, state.fetch)
            }
            switch answer {
            case .key(let choice): return choice
            case .unavailable: return nil
            case .fetch, .wait: await fetch?.value
            }
        }
    }

    /// Returns how long to wait until they are due; nil: they never are.
    private func refreshIfDue() -> Duration? {
        guard case .keys(let client) = source else { return nil }
        return state.withLock { state in
            if state.keys.begunIfDue(now()) { state.fetch = Task { await fetchKeys(client) } }
            return max(.seconds(1), state.keys.due - now())
        }
    }

    private func fetchKeys(_ client: IssuerClient) async {
        let result = await client.keys()
        let news = state.withLock { state in
            switch result {
            case .success(let keys): state.keys.fetched(keys.set, age: keys.age, now())
            case .failure(let failure): state.keys.failed("\(failure)", now())
            }
        }
        switch news {
        case nil: break
        case .failed(let why):
            // The daemon ends, or another configuration has taken over.
            if Task.isCancelled { return }
            logger.warning("keys of the OAuth issuer cannot be had", metadata: ["error": "\(why)"])
        case .restored: logger.notice("keys of the OAuth issuer can be had again")
        }
    }

    // MARK: Introspection

    private func introspected(
        _ token: SecretOctets, _ client: IssuerClient, _ id: String, _ secret: String
    ) async -> Verdict {
        if token.count > SignedToken.limit { return .wrong(.tooLong) }
        guard IntrospectionAnswer.isToken(token) else { return .wrong(.malformed) }
        let digest = digest(token)
        let question = state.withLock { state -> Task<IntrospectionAnswer, Never> in
            if let known = state.cache.answer(digest, now()) { return Task { known } }
            if let running = state.questions[digest] { return running }
            let task = Task { [rules] in
                let answer = await client.introspection(of: token, id: id, secret: secret, rules)
                ended(digest, answer)
                return answer
            }
            state.questions[digest] = task
            return task
        }
        return switch await question.value {
        case .login(let login): .right(login)
        case .refused(let fault): .wrong(fault)
        case .unavailable(let why): .unavailable(why)
        }
    }

    private func ended(_ digest: KeyedDigest.Value, _ answer: IntrospectionAnswer) {
        let silence: String? = if case .unavailable(let why) = answer { why } else { nil }
        let isNews = state.withLock { state in
            state.questions[digest] = nil
            state.cache.answered(digest, answer, lifetime: answer.lifetime(now: .now()), now())
            defer { state.silence = silence }
            return (state.silence == nil) != (silence == nil)
        }
        // One that was broken off by us says nothing of the issuer.
        guard isNews, !Task.isCancelled else { return }
        if let silence {
            logger.warning("OAuth issuer says nothing of tokens", metadata: ["error": "\(silence)"])
        } else {
            logger.notice("OAuth issuer answers again")
        }
    }
}
