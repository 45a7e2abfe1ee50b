// The access tokens of one identity: asked for when they are needed, by one request for all who need one, and kept while they
// are good. FixedHostRelay has one; TokenMachine has the rules.

package import Logging
import NIOCore
package import NIOPosix
import SlimtaCrypto
import SlimtaMail
package import SlimtaNet
import Synchronization

/// Keeps the refresh token that an endpoint has given in place of the configured one. Slow: not for event loops.
package protocol RefreshTokenStore: Sendable {
    /// Whoever reads, asks and writes has the only turn: a token that can be used once is used once.
    var turns: Turns { get }
    /// What was kept last; nil: nothing was. A failure says why it cannot be read: what was kept may be the only one that is good.
    func read() throws(TokenSource.Unavailable) -> StoredRefreshToken?
    /// Keeps it, and returns when it is on the disk. Why not; nil: it is.
    func write(_ token: StoredRefreshToken) -> String?
}

/// Gives tokens to whoever begins sessions.
package final class TokenSource: Sendable, Hashable {
    /// There is no token for the time being: why.
    package struct Unavailable: Error, Hashable {
        let why: String

        /// With the meaning of its property.
        package init(why: String) { self.why = why }
    }

    private typealias Result = Swift.Result<String, Unavailable>

    private struct State {
        var machine: TokenMachine
        var waiting: [UInt64: CheckedContinuation<Result, Never>] = [:]
        var number: UInt64 = 0
        /// What an endpoint gave that could not be kept: it is not asked again before that is.
        var unkept: (stored: StoredRefreshToken, token: TokenAnswer.Token, asked: NIODeadline)?
    }

    /// Those of section 3 of relay-security: an endpoint is no server of mail.
    private static let limits = {
        var limits = HTTPSClient.Limits()
        limits.time = .seconds(30)
        return limits
    }()
    /// A refresh token that is not used ends after weeks or months: it is used, mail or not.
    private static let longestRest = Duration.seconds(6 * 86_400)

    /// Whose tokens they are.
    package let settings: TokenSettings
    private let client: HTTPSClient
    private let store: (any RefreshTokenStore)?
    private let threads: NIOThreadPool
    private let logger: Logger
    private let state: Mutex<State>

    /// - Parameters:
    ///   - store: of the grant "refresh token" alone.
    ///   - threads: what the store is asked on.
    ///   - rest: how long it is until it is looked whether a refresh token has to be used.
    package init(
        _ settings: TokenSettings, client: HTTPSClient, store: (any RefreshTokenStore)?, threads: NIOThreadPool,
        logger: Logger, rest: Duration = .seconds(3600)
    ) {
        self.settings = settings
        self.client = client
        self.store = store
        self.threads = threads
        self.logger = logger
        state = Mutex(State(machine: TokenMachine(margin: settings.margin)))
        guard store != nil else { return }
        Task.detached { [weak self] in
            while (try? await Task.sleep(for: rest)) != nil, let self { await self.useIfRested() }
        }
    }

    /// By identity: two sources have two tokens.
    package static func == (a: TokenSource, b: TokenSource) -> Bool { a === b }

    /// By identity, as they are compared.
    package func hash(into hasher: inout Hasher) { hasher.combine(ObjectIdentifier(self)) }

    /// What the operator has to put right; nil: nothing.
    package var complaint: String? {
        state.withLock(\.machine.trouble).map { "\(settings.endpoint): no token for \(settings.username): \($0)" }
    }

    /// The token that a session begins with now; nil: ``token()`` was not asked, or a host has refused it since.
    var current: String? { state.withLock(\.machine.current) }

    /// A token that is good, as soon as there is one.
    func token() async -> Swift.Result<String, Unavailable> {
        let number = state.withLock { state in
            state.number += 1
            return state.number
        }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let (result, isToFetch) = state.withLock { state -> (Result?, Bool) in
                    if Task.isCancelled { return (.failure(Unavailable(why: "cancelled")), false) }
                    let need = state.machine.need(at: .now())
                    switch need {
                    case .use(let token): return (.success(token), false)
                    case .none(let why): return (.failure(Unavailable(why: why)), false)
                    case .fetch, .wait:
                        state.waiting[number] = continuation
                        return (nil, need == .fetch)
                    }
                }
                if let result { continuation.resume(returning: result) }
                // Others wait for it as well: it is not this attempt's.
                if isToFetch { Task.detached { await self.fetch() } }
            }
        } onCancel: {
            let waiting = state.withLock { $0.waiting.removeValue(forKey: number) }
            waiting?.resume(returning: .failure(Unavailable(why: "cancelled")))
        }
    }

    /// Returns when nothing is asked for, nor to be kept: the client it asks by has ended.
    package func settled() async { _ = await store?.turns.take {} }

    /// A host has taken the token.
    func accepted(_ token: String) { tell(state.withLock { $0.machine.accepted(token) }) }

    /// A host does not take the token.
    func rejected(_ token: String) { tell(state.withLock { $0.machine.rejected(token, at: .now()) }) }

    private func tell(_ news: TokenMachine.News) {
        let metadata: Logger.Metadata = ["relay": "\(settings.endpoint)", "login": "\(settings.username)"]
        switch news {
        case .nothing: break
        case .trouble(let why):
            logger.warning(
                "no token for a relay, its mail waits", metadata: metadata.merging(["error": "\(why)"]) { $1 })
        case .over: logger.notice("relay has tokens again", metadata: metadata)
        }
    }

    // MARK: The endpoint

    private func fetch() async {
        let (answer, asked) = await askInTurn()
        let result: Result =
            switch answer {
            case .token(let token): .success(token.text)
            case .later(let why, _), .refused(let why): .failure(Unavailable(why: why))
            }
        let (news, waiting) = state.withLock { state in
            defer { state.waiting = [:] }
            return (state.machine.answered(answer, asked: asked, at: .now()), state.waiting.values)
        }
        if case .later(let why, _) = answer {
            logger.info("no token for the time being", metadata: ["relay": "\(settings.endpoint)", "error": "\(why)"])
        }
        tell(news)
        for continuation in waiting { continuation.resume(returning: result) }
    }

    private func askInTurn() async -> (TokenAnswer, asked: NIODeadline) {
        guard let store else { return await ask() }
        return await store.turns.take { await self.askAndKeep(store) } ?? (.later("cancelled", after: nil), .now())
    }

    /// A new refresh token is on the disk before the access token that came with it is used: the one before may be worth
    /// nothing any more.
    private func askAndKeep(_ store: any RefreshTokenStore) async -> (TokenAnswer, asked: NIODeadline) {
        guard case .refreshToken(let configured) = settings.grant else { return await ask() }
        if let unkept = state.withLock(\.unkept) {
            if let why = await keep(unkept.stored, store) { return (.later(why, after: nil), unkept.asked) }
            state.withLock { $0.unkept = nil }
            return (.token(unkept.token), unkept.asked)
        }
        let origin = StoredRefreshToken.origin(configured)
        let stored: StoredRefreshToken?
        do {
            stored = try await threads.runIfActive { try store.read() }
        } catch {
            // The configured one was given up for it, and whoever shows that again may lose both.
            let why = (error as? Unavailable)?.why ?? "slimtad stops"
            return (.refused("the kept refresh token cannot be read: \(why)"), .now())
        }
        // What was configured since is newer than what came of what was configured before.
        let newest = stored.flatMap { $0.origin == origin ? $0.token : nil } ?? configured
        let (answer, asked) = await ask(newest)
        guard case .token(let token) = answer else { return (answer, asked) }
        let new = StoredRefreshToken(token: token.refreshToken ?? newest, origin: origin, used: .now())
        guard let why = await keep(new, store), new.token != newest else { return (answer, asked) }
        state.withLock { $0.unkept = (new, token, asked) }
        return (.later(why, after: nil), asked)
    }

    /// Why it could not be kept.
    private func keep(_ token: StoredRefreshToken, _ store: any RefreshTokenStore) async -> String? {
        do {
            guard let why = try await threads.runIfActive({ store.write(token) }) else { return nil }
            return "the new refresh token cannot be kept: \(why)"
        } catch {
            return "slimtad stops"
        }
    }

    private func ask(_ refreshToken: String? = nil) async -> (TokenAnswer, asked: NIODeadline) {
        let asked = NIODeadline.now()
        let request = TokenRequest(
            settings: settings, refreshToken: refreshToken, now: .now(),
            identifier: RandomOctets.visible(16).map { String(hexadecimal: $0, digits: 2) }.joined())
        let form: String
        do throws(CryptoError) { form = try request.form() } catch { return (.refused("\(error)"), asked) }
        let answer = await client.post(
            ByteBuffer(string: form), of: "application/x-www-form-urlencoded", to: settings.endpoint,
            fields: [("Accept", "application/json")], limits: Self.limits)
        return (TokenAnswer(answer, now: .now()), asked)
    }

    private func useIfRested() async {
        guard case .refreshToken(let configured) = settings.grant, let store else { return }
        let kept = try? await threads.runIfActive { try store.read() }
        if let stored = kept ?? nil, stored.origin == StoredRefreshToken.origin(configured),
            (.zero..<Self.longestRest).contains(.now() - stored.used)
        {
            return
        }
        _ = await token()
    }
}
