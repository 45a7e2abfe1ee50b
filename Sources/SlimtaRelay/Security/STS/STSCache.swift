// The policies that are kept of domains, in memory and, through an STSStore, on disk. STSPolicies asks and tells it; the
// composition root has the files.

package import Logging
import SlimtaMail
import Synchronization

/// Files below one folder, by paths such as "ab/example.com".
package protocol STSStore: Sendable {
    /// What is in a file; nil: it is not there, or cannot be read.
    func read(_ path: String) async -> [UInt8]?
    /// Replaces a file durably, or fails and says so.
    func write(_ octets: [UInt8], to path: String) async
    /// Removes a file; what is not there is removed.
    func remove(_ path: String) async
}

/// Shared by all configurations of the daemon, for as long as it runs. A file is read when mail for its domain is.
package final class STSCache: Sendable {
    /// Of more domains the policies are read from their files again.
    private static let mostInMemory = 10_000
    private static let mostFailures = 10_000

    private struct State {
        /// Whose policy has a file.
        var domains: Set<String>
        var policies: [String: STSCachedPolicy] = [:]
        var failures: [String: STSCheck.FailedFetch] = [:]
    }

    private let store: any STSStore
    private let logger: Logger
    private let state: Mutex<State>

    /// - Parameter paths: those of all files that there are.
    package init(_ store: any STSStore, paths: [String], logger: Logger) {
        (self.store, self.logger) = (store, logger)
        let domains = paths.compactMap { path -> String? in
            guard let slash = path.firstIndex(of: "/") else { return nil }
            let domain = String(path[path.index(after: slash)...])
            return STSCachedPolicy.path(of: domain) == path ? domain : nil
        }
        state = Mutex(State(domains: Set(domains)))
    }

    /// Whose policies are kept.
    var domains: [String] { state.withLock { $0.domains.sorted() } }

    /// What is kept of a domain, in force or not; nil: nothing.
    func kept(of domain: String) async -> STSCachedPolicy? {
        let (known, hasFile) = state.withLock { ($0.policies[domain], $0.domains.contains(domain)) }
        guard known == nil, hasFile, let path = STSCachedPolicy.path(of: domain) else { return known }
        guard let policy = await store.read(path).flatMap({ STSCachedPolicy(file: $0) }) else {
            // A policy that was in force protects nobody any more: the operator is to hear of it.
            logger.warning("kept MTA-STS policy cannot be read", metadata: ["domain": "\(domain)", "file": "\(path)"])
            _ = state.withLock { $0.domains.remove(domain) }
            return nil
        }
        state.withLock { Self.remember(policy, of: domain, in: &$0) }
        return policy
    }

    /// Does what a check says.
    func apply(_ change: STSCheck.Change, to domain: String) async {
        guard let path = STSCachedPolicy.path(of: domain) else { return }
        switch change {
        case .none: break
        case .keep(let policy):
            state.withLock { state in
                Self.remember(policy, of: domain, in: &state)
                state.domains.insert(domain)
            }
            await store.write(policy.file, to: path)
        case .remove:
            state.withLock { state in
                state.policies[domain] = nil
                state.domains.remove(domain)
            }
            await store.remove(path)
        }
    }

    private static func remember(_ policy: STSCachedPolicy, of domain: String, in state: inout State) {
        if state.policies.count >= mostInMemory, state.policies[domain] == nil { state.policies.removeAll() }
        state.policies[domain] = policy
    }

    func failure(of domain: String) -> STSCheck.FailedFetch? { state.withLock { $0.failures[domain] } }

    func set(_ failure: STSCheck.FailedFetch?, of domain: String, at now: Timestamp) {
        state.withLock { state in
            if failure != nil, state.failures.count >= Self.mostFailures {
                state.failures = state.failures.filter { now - $0.value.time < STSCheck.pause }
                if state.failures.count >= Self.mostFailures { state.failures.removeAll() }
            }
            state.failures[domain] = failure
        }
    }

    /// Removes what has ended, and what is one too many.
    func sweep(at now: Timestamp) async {
        var items: [STSCacheSize.Item] = []
        for domain in domains {
            guard let policy = await kept(of: domain) else { continue }
            items.append(.init(domain: domain, end: policy.end(at: now), lastUsed: policy.lastUsed))
        }
        for domain in STSCacheSize.surplus(of: items, at: now) { await apply(.remove, to: domain) }
    }
}
