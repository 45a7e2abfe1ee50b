// All sites: those in use, what is known of the others, and what operators say. The composition root has one, for as long as the
// daemon runs: relays come and go with the configuration, and what their hosts have taught stays.

package import Logging
package import SlimtaMail
import SlimtaQueue
import Synchronization

/// The paces of all sites.
package final class Sites: Sendable {
    /// What the configuration says of all sites.
    package struct Settings: Sendable {
        /// `[[site]]`, in that order.
        package var rules: [SiteRule]
        /// How long a host that does not answer is left alone, at first and at most.
        package var waits: ClosedRange<Duration>

        /// Without arguments: the defaults.
        package init(rules: [SiteRule] = [], waits: ClosedRange<Duration> = .seconds(60) ... .seconds(600)) {
            self.rules = rules
            self.waits = waits
        }
    }

    private struct State: Sendable {
        var settings: Settings
        var sites: [SiteKey: Site] = [:]
        /// Of those that are not in use.
        var kept: [SiteKey: SiteRecord] = [:]
        var nextSweep: Timestamp
        /// What was last written.
        var written = ""
        /// What other nodes have of the limits.
        var shared = SharedLimits.alone
    }

    /// Not used for so long, nothing but what is worth keeping is known of a site.
    private static let lifetime: Duration = .seconds(3600)
    private static let sweepInterval: Duration = .seconds(60)
    /// As many sites are kept over a restart.
    private static let capacity = 100_000

    private let clock = SiteClock()
    private let logger: Logger
    private let state: Mutex<State>

    /// Knows of no site yet.
    package init(_ settings: Settings = Settings(), logger: Logger) {
        self.logger = logger
        state = Mutex(State(settings: settings, nextSweep: clock.now + Self.sweepInterval))
    }

    // MARK: For relays

    /// The site, for an attempt that begins now.
    ///
    /// - Parameter connections: the most sessions that its relay may have there.
    func site(_ key: SiteKey, connections: Int) -> Site {
        let now = clock.now
        return state.withLock { state in
            if state.nextSweep <= now { Self.sweep(&state, now) }
            let site = state.sites[key] ?? Site(key, .init(), state.kept[key], clock: clock, logger: logger)
            if state.sites[key] == nil, !state.shared.isAlone { site.share(state.shared) }
            state.sites[key] = site
            state.kept[key] = nil
            site.configure(Self.settings(of: key, state.settings), connections)
            return site
        }
    }

    private static func settings(of key: SiteKey, _ settings: Settings) -> Site.Machine.Settings {
        var result = Site.Machine.Settings()
        result.isFixed = key.isFixed
        result.waits = settings.waits
        let limits = limits(of: key, settings)
        result.connections = limits.connections ?? .max
        (result.rate, result.messages, result.recipients) = (limits.rate, limits.messages, limits.recipients)
        return result
    }

    /// What `[[site]]` says: the first table that has a host of it; and where that says nothing, what everybody knows.
    private static func limits(of key: SiteKey, _ settings: Settings) -> SiteLimits {
        func limits(_ rules: [SiteRule]) -> SiteLimits {
            rules.first { rule in key.hosts.contains(where: rule.matches) }?.limits ?? SiteLimits()
        }
        return limits(settings.rules).over(limits(SiteRule.known))
    }

    private static func sweep(_ state: inout State, _ now: Timestamp) {
        state.nextSweep = now + sweepInterval
        for (key, site) in state.sites {
            site.sweep()
            guard let record = site.record(ifUnusedFor: lifetime) else { continue }
            state.sites[key] = nil
            if record.isWorthKeeping(at: now) { state.kept[key] = record }
        }
        state.kept = state.kept.filter { $0.value.isWorthKeeping(at: now) }
        if state.kept.count > capacity {
            for (key, _) in state.kept.sorted(by: { $0.value.lastUsed < $1.value.lastUsed })
                .prefix(state.kept.count - capacity)
            {
                state.kept[key] = nil
            }
        }
    }

    // MARK: For other nodes

    /// How limits are shared from now on. The sites for which that changes something.
    func share(_ limits: SharedLimits) -> [Site] {
        state.withLock { state in
            let before = state.shared
            state.shared = limits
            return before.isAlone && limits.isAlone ? [] : Array(state.sites.values)
        }
    }

    /// Those in use, if limits are shared at all.
    var sharedSites: [Site] { state.withLock { $0.shared.isAlone ? [] : Array($0.sites.values) } }

    // MARK: For the composition root

    /// Takes effect for what begins from now on, and for what waits: that comes back, by the relays that there are then.
    package func configure(_ settings: Settings) {
        let sites = state.withLock { state in
            state.settings = settings
            return Array(state.sites.values)
        }
        for site in sites { site.renew() }
    }

    /// Hosts that did not answer are tried again at once: an operator wants it, or the network has changed.
    package func forgetFailures() {
        for site in state.withLock({ Array($0.sites.values) }) { site.forgetFailures() }
    }

    /// Takes up what ``takeRecord()`` has given in an earlier run. Returns whether all of it was understood.
    package func restore(_ text: String) -> Bool {
        var lines = text.split(separator: "\n", omittingEmptySubsequences: true)[...]
        guard lines.popFirst().map(String.init) == Self.title else { return false }
        var kept: [SiteKey: SiteRecord] = [:]
        var isWhole = true
        for line in lines {
            let fields = line.split(separator: "\t", omittingEmptySubsequences: false)
            guard fields.count > 2, let key = SiteKey(stored: fields[0], fields[1]),
                let record = SiteRecord(fields: fields.dropFirst(2))
            else {
                isWhole = false
                continue
            }
            kept[key] = record
        }
        state.withLock { state in
            state.kept = kept.filter { state.sites[$0.key] == nil }
            state.written = isWhole ? text : ""
        }
        return isWhole
    }

    /// What is to be kept over a restart; nil: it is what was last given.
    package func takeRecord() -> String? {
        let now = clock.now
        return state.withLock { state in
            let lines = Self.records(state).filter { $0.value.isWorthKeeping(at: now) }
                .map { "\($0.key.stored)\t\($0.value.text)\n" }.sorted()
            let text = "\(Self.title)\n" + lines.joined()
            // Nothing was there, and nothing is.
            if text == state.written || lines.isEmpty && state.written.isEmpty { return nil }
            state.written = text
            return text
        }
    }

    /// What was given could not be written: it is to be given again.
    package func recordIsLost() { state.withLock { $0.written = "?" } }

    private static let title = "slimtad sites 1"

    private static func records(_ state: State) -> [SiteKey: SiteRecord] {
        state.kept.merging(state.sites.mapValues { $0.record }) { $1 }
    }

    // MARK: For operators

    /// All sites of which anything is known, by name.
    package func reports() -> [SiteKnowledge] {
        let (sites, kept, settings) = state.withLock { ($0.sites, $0.kept, $0.settings) }
        let reports =
            sites.values.map { $0.report(Self.limits(of: $0.key, settings)) }
            + kept.map { SiteKnowledge($0.key, $0.value, Self.limits(of: $0.key, settings)) }
        return reports.sorted { $0.name < $1.name }
    }

    /// How many sites pause, or are slower than they would be, just now.
    package var pacedCount: Int {
        state.withLock { Array($0.sites.values) }.count { $0.isPaced }
    }

    /// Sets limits of the sites that have this name, or a host of this name. Returns how many that are.
    package func set(_ name: String, _ change: (inout SiteLimits) -> Void) -> Int {
        state.withLock { state in
            let keys = Self.keys(named: name, state)
            for key in keys {
                if let site = state.sites[key] {
                    site.set(change)
                } else if var record = state.kept[key] {
                    change(&record.own)
                    state.kept[key] = record
                }
            }
            return keys.count
        }
    }

    /// Forgets all that was learned of the sites that have this name, or a host of this name, and what was set. Returns how
    /// many that are.
    package func forget(_ name: String) -> Int {
        state.withLock { state in
            let keys = Self.keys(named: name, state)
            for key in keys {
                state.sites[key]?.forget()
                state.kept[key] = nil
            }
            return keys.count
        }
    }

    private static func keys(named name: String, _ state: State) -> [SiteKey] {
        let folded = name.asciiLowercased()
        let all = Set(state.sites.keys).union(state.kept.keys)
        return all.filter { $0.description == folded || $0.description == name || $0.hosts.contains(folded) }
    }
}

/// What is known of a site, for operators.
package struct SiteKnowledge: Hashable, Sendable {
    /// A host that does not answer.
    package struct Host: Hashable, Sendable {
        /// IP address and port.
        package var address: String
        /// In a row.
        package var failures: Int
        /// When it is tried again.
        package var until: Timestamp
    }

    /// Its hosts and the port.
    package var name: String
    /// Their names.
    package var hosts: [String]
    /// Whether our operator has chosen it, by `host`.
    package var isFixed: Bool
    /// What was set by command.
    package var set: SiteLimits
    /// What the configuration says.
    package var configured: SiteLimits
    /// What was learned.
    package var learned: SiteLimits
    /// Whether it lets strangers wait.
    package var greylists: Bool
    /// The shortest wait that was enough.
    package var greylistWait: Duration?
    /// Sessions that are open.
    package var sessions: Int
    /// As many as there may be just now; nil: it is not in use.
    package var window: Int?
    /// Messages that wait for a place.
    package var waiting: Int
    /// Nothing goes there before.
    package var pausedUntil: Timestamp?
    /// Hosts that do not answer.
    package var failed: [Host]
    /// When mail was last for it.
    package var lastUsed: Timestamp
}
