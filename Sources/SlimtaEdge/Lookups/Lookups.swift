// The lookups of all sessions of one configuration: lists and whether they are in order, the lines before the resolver, and
// what is counted. A World has one if its edges have facts to look up; sessions get theirs here.

package import Logging
package import SlimtaDNS
internal import SlimtaMail
internal import SlimtaRules
import Synchronization

/// Looks facts up for sessions. Lists are watched from ``start()`` on until the last reference is gone.
package final class Lookups: Sendable {
    /// What is looked up, and for how long.
    package struct Settings: Sendable {
        /// `[[dnsbl]]`; their names are different.
        package var lists: [BlockList]
        /// How long SPF may take in all (RFC 7208 section 4.6.4: at least 20 seconds).
        package var spfTimeout: Duration
        /// Whether somebody reads why a client may not send for a domain: only then the domain's words are asked for.
        package var explainsSPF: Bool
        /// The host name in Received-SPF and in the macro r.
        package var hostname: String
        /// How long the names of a client's address may take.
        package var ptrTimeout: Duration

        /// Lists with their own times; the others as they are recommended.
        package init(
            lists: [BlockList] = [], spfTimeout: Duration = .seconds(20), explainsSPF: Bool = false, hostname: String,
            ptrTimeout: Duration = .seconds(10)
        ) {
            self.lists = lists
            self.spfTimeout = spfTimeout
            self.explainsSPF = explainsSPF
            self.hostname = hostname
            self.ptrTimeout = ptrTimeout
        }
    }

    /// How much may be asked at a time, and when lists are looked at. Tests have other figures.
    struct Limits: Sendable {
        /// libunbound has 1024 questions at a time and 256 sockets, which relays need too.
        var line = LookupLineMachine.Limits(running: 100, runningOfSource: 12, waiting: 2000, waitingOfSource: 100)
        var watch = BlockListWatch.Times()
        /// How long a session believes that nobody can say what its client's address is called.
        var namesKept = Duration.seconds(300)

        /// Each connection asks each list once at a time: there is room for that, however many lists there are.
        func line(forLists count: Int) -> LookupLineMachine.Limits {
            var line = line
            line.waiting *= max(1, count)
            line.waitingOfSource *= max(1, count)
            return line
        }
    }

    /// What has happened since the start.
    package struct Counts: Hashable, Sendable {
        /// Facts that were found, by kind.
        package var found = 0
        /// Facts that could not be found out, times that passed among them.
        package var failed = 0
        /// Facts whose time passed.
        package var timedOut = 0
        /// Of ``failed``, by the names of lists: no answer, an error, or a list that is out of order.
        package var failedOfList: [String: Int] = [:]
        /// Questions that were not asked, for too many were waiting.
        package var leftOut = 0

        /// Nothing.
        package init() {}
    }

    let settings: Settings
    let limits: Limits
    /// By the names of their lists.
    let watches: [String: BlockListWatch]
    private let resolver: Resolver
    /// Of lists, whose servers the operator has chosen, and of names that strangers choose: a slow server of theirs must not
    /// keep lists from being asked.
    private let listLine: LookupLine
    private let line: LookupLine
    /// What several sessions want at once.
    let shared = SharedLookups()
    private let counted: CountedLookups
    /// What has to live as long as this, such as a lease of the resolver.
    private let keeping: (any Sendable)?

    /// Nothing is asked before ``start()``.
    ///
    /// - Parameter keeping: what has to live as long as this and its sessions.
    package convenience init(
        _ settings: Settings, resolver: Resolver, logger: Logger, keeping: (any Sendable)? = nil
    ) {
        self.init(settings, limits: Limits(), resolver: resolver, logger: logger, keeping: keeping)
    }

    init(
        _ settings: Settings, limits: Limits, resolver: Resolver, logger: Logger, keeping: (any Sendable)? = nil
    ) {
        let counted = CountedLookups(logger)
        // Whether lists are in order is found out however many clients there are.
        let ownLine = LookupLine(.init(running: 16, runningOfSource: 16, waiting: .max, waitingOfSource: .max))
        let own = LookupQuestions(resolver: resolver, line: ownLine, source: nil)
        self.settings = settings
        self.limits = limits
        self.resolver = resolver
        self.keeping = keeping
        self.counted = counted
        listLine = LookupLine(limits.line(forLists: settings.lists.count)) { counted.leftOut() }
        line = LookupLine(limits.line) { counted.leftOut() }
        watches = Dictionary(
            settings.lists.map {
                ($0.name, BlockListWatch($0, times: limits.watch, questions: own, logger: logger))
            },
            uniquingKeysWith: { first, _ in first })
    }

    deinit { end() }

    /// Begins to look whether lists are in order.
    package func start() { for watch in watches.values { watch.start() } }

    /// Ends that, before the last reference is gone.
    package func end() { for watch in watches.values { watch.end() } }

    /// What was counted.
    package var counts: Counts { counted.counts }

    /// What is wrong with lists.
    package var complaints: [String] { watches.sorted { $0.key < $1.key }.compactMap { $0.value.complaint } }

    /// How many questions are being asked, and how many wait.
    package var load: (running: Int, waiting: Int) {
        let (a, b) = (line.counts, listLine.counts)
        return (a.running + b.running, a.waiting + b.waiting)
    }

    // MARK: Asked by the lookups of sessions

    /// For names that strangers have chosen.
    func questions(for client: ConnectionFacts.Endpoint) -> LookupQuestions {
        LookupQuestions(resolver: resolver, line: line, source: ConnectionLimiter.Source(client))
    }

    /// For lists.
    func questionsToLists(for client: ConnectionFacts.Endpoint) -> LookupQuestions {
        LookupQuestions(resolver: resolver, line: listLine, source: ConnectionLimiter.Source(client))
    }

    /// A fact is known.
    func count(_ value: LookupValue, of fact: Fact) { counted.found(fact, hasFailed: value.hasFailed) }

    /// The time of a fact has passed.
    func timePassed(_ fact: Fact) {
        counted.timedOut()
        if case .dnsbl(let name) = fact { watches[name]?.missed() }
    }
}

/// The counts of Lookups, and the line in the log that there are too many.
final class CountedLookups: Sendable {
    private struct State {
        var counts = Lookups.Counts()
        var told: ContinuousClock.Instant?
    }

    private static let pause = Duration.seconds(60)

    private let logger: Logger
    private let state = Mutex(State())

    init(_ logger: Logger) { self.logger = logger }

    var counts: Lookups.Counts { state.withLock { $0.counts } }

    func found(_ fact: Fact, hasFailed: Bool) {
        state.withLock { state in
            guard hasFailed else { return state.counts.found += 1 }
            state.counts.failed += 1
            if case .dnsbl(let list) = fact { state.counts.failedOfList[list, default: 0] += 1 }
        }
    }

    func timedOut() { state.withLock { $0.counts.timedOut += 1 } }

    /// Told once a minute at most.
    func leftOut() {
        let now = ContinuousClock.now
        let (isDue, count) = state.withLock { state -> (Bool, Int) in
            state.counts.leftOut += 1
            if let told = state.told, now < told + Self.pause { return (false, 0) }
            state.told = now
            return (true, state.counts.leftOut)
        }
        guard isDue else { return }
        logger.warning("too many lookups at once, some are left out", metadata: ["count": "\(count)"])
    }
}
