// Which policy of MTA-STS counts for a domain: STSCheck, with its questions asked. Relays ask for each attempt; the composition
// root has policies refreshed.

package import Logging
import NIOCore
package import SlimtaDNS
import SlimtaMail
import SlimtaNet
import Synchronization

/// One for all relays of a configuration; what is kept is the daemon's (STSCache).
package final class STSPolicies: Sendable {
    /// What a domain's web server was asked, and answered.
    typealias Fetch = @Sendable (_ host: String) async -> Result<[UInt8], STSFetch.Failure>

    /// Name servers that answer nothing at all are waited for no longer.
    private static let patience = Duration.seconds(15)
    /// So long an answer is good for other attempts, if it does not end before.
    private static let remembered = Duration.seconds(60)
    private static let mostRemembered = 10_000
    /// Of the whole fetch. The first mail for a domain waits for it: half of the minute that RFC 8461 section 3.3 suggests.
    static let limits = {
        var limits = HTTPSClient.Limits()
        limits.time = .seconds(30)
        return limits
    }()

    private struct State {
        /// Who waits for a check that somebody else makes.
        var waiting: [String: [CheckedContinuation<STSCheck.Outcome?, Never>]] = [:]
        var recent: [String: (outcome: STSCheck.Outcome, end: ContinuousClock.Instant)] = [:]
    }

    let cache: STSCache
    private let resolver: Resolver
    private let fetch: Fetch
    private let logger: Logger
    private let state = Mutex(State())

    /// - Parameter client: asks web servers.
    package convenience init(_ cache: STSCache, resolver: Resolver, client: HTTPSClient, logger: Logger) {
        self.init(cache, resolver: resolver, logger: logger) { host in
            let place = HTTPSClient.Place(host: host, target: STSFetch.path)
            switch await client.get(place, mediaType: "text/plain", limits: Self.limits) {
            case .success(let body): return .success(Array(body.readableBytesView))
            case .failure(let failure):
                return .failure(failure.isOfTLS ? .tls(failure.description) : .transport(failure.description))
            }
        }
    }

    init(_ cache: STSCache, resolver: Resolver, logger: Logger, fetch: @escaping Fetch) {
        (self.cache, self.resolver, self.fetch, self.logger) = (cache, resolver, fetch, logger)
    }

    /// What counts now for a domain in A-labels and lower case. As long as DNS and the domain's web server take, but one
    /// check at a time is made of a domain, and its result is good for a minute.
    func check(_ domain: String) async -> STSCheck.Outcome {
        while true {
            if let known = recent(domain) { return known }
            switch await turn(domain) {
            case .ours:
                let outcome = await made(domain)
                // What was broken off says nothing.
                let isWhole = !Task.isCancelled
                end(domain, isWhole ? outcome : nil)
                return outcome
            // Its failure is told to who has made it.
            case .theirs(let outcome?): return STSCheck.Outcome(policy: outcome.policy)
            case .theirs(nil): if Task.isCancelled { return STSCheck.Outcome() }
            }
        }
    }

    private enum Turn {
        case ours
        /// nil: they were broken off.
        case theirs(STSCheck.Outcome?)
    }

    private func turn(_ domain: String) async -> Turn {
        let isOurs = state.withLock { state in
            guard state.waiting[domain] == nil else { return false }
            state.waiting[domain] = []
            return true
        }
        if isOurs { return .ours }
        return .theirs(
            await withCheckedContinuation { continuation in
                let hasEnded = state.withLock { state in
                    guard state.waiting[domain] != nil else { return true }
                    state.waiting[domain]?.append(continuation)
                    return false
                }
                // Meanwhile it was: its result is remembered, or ours to find.
                if hasEnded { continuation.resume(returning: nil) }
            })
    }

    private func end(_ domain: String, _ outcome: STSCheck.Outcome?) {
        let waiting = state.withLock { state in
            if let outcome, outcome.policy?.maxAge != 0 {
                if state.recent.count >= Self.mostRemembered { state.recent.removeAll() }
                state.recent[domain] = (outcome, .now + Self.remembered)
            }
            return state.waiting.removeValue(forKey: domain) ?? []
        }
        for continuation in waiting { continuation.resume(returning: outcome) }
    }

    private func recent(_ domain: String) -> STSCheck.Outcome? {
        state.withLock { state in
            guard let known = state.recent[domain], .now < known.end else { return nil }
            // It is counted, and told, once.
            return STSCheck.Outcome(policy: known.outcome.policy)
        }
    }

    /// Asks, and keeps what comes of it.
    private func made(_ domain: String, isRefresh: Bool = false) async -> STSCheck.Outcome {
        let now = Timestamp.now()
        var check = STSCheck(
            domain, kept: await cache.kept(of: domain), failedFetch: cache.failure(of: domain), at: now,
            isRefresh: isRefresh)
        while true {
            switch check.step {
            case .askRecord(let name): check.answered(await record(name))
            case .fetch(let host): check.fetched(await fetch(host))
            case .done(let outcome):
                guard !Task.isCancelled else { return outcome }
                cache.set(check.failedFetch, of: domain, at: now)
                await cache.apply(outcome.change, to: domain)
                if let failure = outcome.failure { tell(failure, domain, outcome.policy) }
                return outcome
            }
        }
    }

    private func record(_ name: String) async -> STSCheck.RecordAnswer {
        guard let name = QueryName(name) else { return .records([]) }
        let answer = await within(Self.patience) { [resolver] () -> STSCheck.RecordAnswer in
            do throws(DNSError) {
                return .records(try await resolver.txt(name).records)
            } catch {
                switch error {
                case .noSuchName, .invalidName: return .records([])
                case .temporary, .bogus: return .failed(error.reason)
                }
            }
        }
        return answer ?? .failed("no answer in time")
    }

    private func tell(_ failure: TLSResult, _ domain: String, _ policy: STSPolicy?) {
        logger.notice(
            "MTA-STS policy cannot be had",
            metadata: [
                "domain": "\(domain)", "result": "\(failure.kind.rawValue)", "reason": "\(failure.reason ?? "")",
                "policy": "\(policy?.mode.rawValue ?? "none")",
            ])
    }

    /// Fetches those policies again that are due, one after the other, and removes those that have ended.
    package func refresh() async {
        let now = Timestamp.now()
        for domain in cache.domains {
            guard !Task.isCancelled else { return }
            guard let policy = await cache.kept(of: domain),
                policy.isRefreshDue(of: domain, at: now, lastTry: cache.failure(of: domain)?.time)
            else { continue }
            _ = await made(domain, isRefresh: true)
        }
        await cache.sweep(at: now)
    }
}
