// What others may know of the running daemon, and have it do: the daemon's task writes it, the control socket reads it.

import NIOPosix
import SlimtaControl
import SlimtaEdge
import SlimtaMail
import SlimtaRelay
import SlimtaSystem
import Synchronization

/// What the daemon's task is told to do, one after another.
enum Order: Sendable {
    case signal(Signal)
    /// Reload, then tell how it went.
    case reload(@Sendable (ReloadResult) -> Void)
    /// Stop, as after SIGTERM.
    case drain
    /// Look at what others may have renewed. Each second.
    case look
}

/// The daemon as it is now.
final class DaemonState: Sendable {
    struct Values: Sendable {
        var hostname = ""
        var file = ""
        /// What was in the file when it was read, and when that was.
        var content: [UInt8] = []
        var read = Timestamp.now()
        /// The last one; nil: there was none.
        var reload: ReloadResult?
        var edges: [DaemonFacts.Edge] = []
        /// The names of those whose logins are users of this machine.
        var localEdges: [String] = []
        /// Whether DNS answers are validated, in a word, and why not.
        var validation = "unknown"
        var validationReason: String?
        var isDraining = false
        /// `[queue] deliver`.
        var delivers = true
        /// What was wrong with certificates and users when they were loaded, and what the machine is too small for.
        var warnings: [String] = []
        /// What the operator has to put right with the relays and edges in use.
        var complaints: @Sendable () -> [String] = { [] }
        /// Whom somebody means by the name of a login; may wait for the system's databases.
        var login: @Sendable (String) -> KnownLogin = { KnownLogin(name: $0, isThere: nil) }
        /// How mail for a domain would go.
        var explain: @Sendable (String) async -> TLSPlanReport? = { _ in nil }
        /// When the certificates in use end.
        var certificates: [Certificates.Expiry] = []
    }

    let since = Timestamp.now()
    let orders: AsyncStream<Order>.Continuation
    private let values = Mutex(Values())
    private let watch: GuessWatch
    private let keys: DKIMKeeper
    private let memory: TLSMemoryKeeper
    let siteKeeper: SiteKeeper
    private let reportKeeper: TLSReportKeeper

    init(
        orders: AsyncStream<Order>.Continuation, _ watch: GuessWatch, _ keys: DKIMKeeper, _ memory: TLSMemoryKeeper,
        _ sites: SiteKeeper, _ reports: TLSReportKeeper
    ) {
        self.orders = orders
        self.watch = watch
        self.keys = keys
        self.memory = memory
        siteKeeper = sites
        reportKeeper = reports
    }

    var now: Values { values.withLock { $0 } }

    func set(_ change: (inout Values) -> Void) { values.withLock { change(&$0) } }
}

extension DaemonState: ControlledDaemon {
    var delivers: Bool { now.delivers }

    func facts(_ time: Timestamp) async -> DaemonFacts {
        let values = now
        return DaemonFacts(
            version: Version.text, hostname: values.hostname, since: since, file: values.file, read: values.read,
            difference: await difference(values), reload: values.reload, edges: values.edges,
            validation: values.validation, validationReason: values.validationReason, isDraining: values.isDraining,
            delivers: values.delivers,
            warnings: values.complaints() + values.warnings
                + values.certificates.compactMap { $0.warning(time) })
    }

    /// In what the file on disk is not what runs; nil: it is.
    private func difference(_ values: Values) async -> String? {
        let since = "what runs was read \(values.read.isoDate)"
        let found = try? await NIOThreadPool.singleton.runIfActive { () -> String? in
            do throws(SystemError) {
                return try ConfigurationFile.read(values.file) == values.content
                    ? nil : "\(values.file) has been changed and is not in use: slimtad reload; \(since)"
            } catch {
                return "a reload would fail: \(error); \(since)"
            }
        }
        return found ?? nil
    }

    func reload() async -> ReloadResult {
        await withCheckedContinuation { continuation in
            orders.yield(.reload { continuation.resume(returning: $0) })
        }
    }

    func drain() { orders.yield(.drain) }

    func guesses() -> [GuessReport] {
        watch.findings().map {
            GuessReport(
                kind: $0.kind.rawValue, name: $0.name, failures: $0.failures, logins: $0.logins, delay: $0.delay,
                until: $0.until, times: $0.times)
        }
    }

    func releaseGuesses(_ what: String) -> Bool { watch.release(what) }

    func sites() -> [SiteReport] { siteKeeper.reports() }

    var pacedSites: Int { siteKeeper.pacedCount }

    func setSite(_ name: String, _ change: SiteChange) -> Int { siteKeeper.set(name, change) }

    func forgetSite(_ name: String) -> Int { siteKeeper.forget(name) }

    func signing() -> SigningReport { keys.report() }

    func tlsMemory(of domain: String?) -> [TLSMemoryReport] {
        memory.book.entries(of: domain, at: .now()).map {
            TLSMemoryReport(
                domain: $0.domain, host: $0.host, days: $0.days, first: $0.first, last: $0.last, dane: $0.dane,
                policy: $0.policy, isInForce: $0.isInForce)
        }
    }

    func forgetTLS(of domain: String) async -> Int {
        let count = memory.book.forget(domain: domain)
        if count > 0 { await memory.write() }
        return count
    }

    func tlsReports() -> TLSReportsReport { reportKeeper.report() }

    func sendTLSReports(withToday: Bool) async -> [TLSReportsReport.Past]? {
        await reportKeeper.sendNow(withToday: withToday)
    }

    func explainTLS(_ domain: String) async -> TLSPlanReport? { await now.explain(domain) }

    func askForKeys(of domain: String?) async -> SigningReport { await keys.check(domain) }

    func makeSigningKey(_ wish: SigningKeyWish) async throws(SigningKeyRefusal) -> SigningReport.Key {
        let made = try? await NIOThreadPool.singleton.runIfActive { [keys] in
            Result { () throws(SigningKeyRefusal) in try keys.make(wish) }
        }
        guard let made else { throw .failed("the daemon is stopping") }
        return try made.get()
    }

    func userName(_ uid: UInt32) async -> String {
        // The system's databases may be on the network.
        (try? await NIOThreadPool.singleton.runIfActive { Accounts.userName(uid) }) ?? "\(uid)"
    }

    func login(_ name: String) async -> KnownLogin {
        let find = now.login
        return (try? await NIOThreadPool.singleton.runIfActive { find(name) }) ?? KnownLogin(name: name, isThere: nil)
    }
}
