// What the control socket knows of the daemon as a whole and can have it do. The composition root has the daemon; Control
// asks it for this and knows nothing of configurations, certificates or relays.

package import SlimtaMail

/// The running daemon, for who controls it.
package protocol ControlledDaemon: Sendable {
    /// Whether queued mail is attempted: `[queue] deliver`.
    var delivers: Bool { get }

    /// How it is at `time`. Compares the configuration's file with what runs, so it reads a file.
    func facts(_ time: Timestamp) async -> DaemonFacts

    /// Takes the configuration's file in use, after what else it was told to do; returns when that is done or refused.
    func reload() async -> ReloadResult

    /// Begins to stop, as after SIGTERM. Returns at once.
    func drain()

    /// Who has guessed passwords and waits or is turned away for it, the worst first.
    func guesses() -> [GuessReport]

    /// Forgets what is held against an address, a network or a login. Returns whether anything was.
    func releaseGuesses(_ what: String) -> Bool

    /// The sites that something is known of, by name.
    func sites() -> [SiteReport]

    /// How many of them take less than they would be given.
    var pacedSites: Int { get }

    /// Sets limits of the sites of this name, or with a host of this name. Returns how many those are.
    func setSite(_ name: String, _ change: SiteChange) -> Int

    /// Forgets what was learned and set of those. Returns how many they are.
    func forgetSite(_ name: String) -> Int

    /// The name of a user of this machine, or the number where there is none.
    func userName(_ uid: UInt32) async -> String

    /// Whom an operator means by the name of a login, which may be spelled as clients may spell it.
    func login(_ name: String) async -> KnownLogin

    /// What is remembered of hosts' TLS: of those of a domain, or of all.
    func tlsMemory(of domain: String?) -> [TLSMemoryReport]

    /// Nothing is remembered of a domain's hosts any more, also after a crash. How many they were.
    func forgetTLS(of domain: String) async -> Int

    /// How mail for a domain would go now; takes as long as DNS does. nil: to no host over the network.
    func explainTLS(_ domain: String) async -> TLSPlanReport?

    /// What is known of TLS reports.
    func tlsReports() -> TLSReportsReport

    /// Sends those that wait now, with today's counts if that is wanted; takes as long as those who want them do. What came of
    /// it; nil: none are sent.
    func sendTLSReports(withToday: Bool) async -> [TLSReportsReport.Past]?

    /// The keys that mail is signed with.
    func signing() -> SigningReport

    /// The same, when DNS has been asked for those of a domain, or for all; takes as long as DNS does.
    func askForKeys(of domain: String?) async -> SigningReport

    /// Makes a key.
    func makeSigningKey(_ wish: SigningKeyWish) async throws(SigningKeyRefusal) -> SigningReport.Key
}

/// A login as those know it who let it in.
package struct KnownLogin: Hashable, Sendable {
    /// As it is called once it is in.
    package var name: String
    /// Whether there is such a login; nil: somebody who knows logins cannot be asked that.
    package var isThere: Bool?

    /// With the meaning of its properties.
    package init(name: String, isThere: Bool?) {
        self.name = name
        self.isThere = isThere
    }
}

/// The daemon as it is now.
package struct DaemonFacts: Sendable {
    /// Where mail comes in.
    package struct Edge: Sendable {
        /// The name in the configuration.
        package var name: String
        /// Addresses and ports, as the configuration writes them; or the folder that files are taken from.
        package var listen: [String]
        /// How many sessions there are now.
        package var sessions: @Sendable () -> Int

        /// An edge that is open.
        package init(name: String, listen: [String], sessions: @escaping @Sendable () -> Int) {
            self.name = name
            self.listen = listen
            self.sessions = sessions
        }
    }

    /// The warning where `delivers` is false.
    package static let undelivered = "nothing is delivered: [queue] deliver = false"

    /// Of slimtad.
    package var version: String
    /// By which it greets.
    package var hostname: String
    /// When it was started.
    package var since: Timestamp
    /// The path of the configuration's file.
    package var file: String
    /// When what is in use was read from it.
    package var read: Timestamp
    /// In what the file is not what is in use, as a sentence; nil: it is.
    package var difference: String?
    /// The last one; nil: there was none.
    package var reload: ReloadResult?
    /// Those that are open, in the configuration's order.
    package var edges: [Edge]
    /// Whether DNS answers are validated, in a word: `working`, `off`, `unavailable`, or `unknown` as yet.
    package var validation: String
    /// Why they cannot be.
    package var validationReason: String?
    /// Whether it is about to stop.
    package var isDraining: Bool
    /// Whether queued mail is attempted.
    package var delivers: Bool
    /// What else the operator has to put right: relays, certificates, users, the machine's limits.
    package var warnings: [String]

    /// All of it.
    package init(
        version: String, hostname: String, since: Timestamp, file: String, read: Timestamp, difference: String?,
        reload: ReloadResult?, edges: [Edge], validation: String, validationReason: String?, isDraining: Bool,
        delivers: Bool, warnings: [String]
    ) {
        self.version = version
        self.hostname = hostname
        self.since = since
        self.file = file
        self.read = read
        self.difference = difference
        self.reload = reload
        self.edges = edges
        self.validation = validation
        self.validationReason = validationReason
        self.isDraining = isDraining
        self.delivers = delivers
        self.warnings = warnings
    }
}

/// How a reload went.
package struct ReloadResult: Sendable {
    /// What was refused. The old stays in use: of everything, or, where the rest `isApplied`, of what is named here.
    package var errors: [String]
    /// What is not as it should be, and is in use nevertheless.
    package var warnings: [String]
    /// Whether the file is in use now, save for what `errors` names.
    package var isApplied: Bool
    /// When it was asked for.
    package let time = Timestamp.now()

    /// A reload that begins now.
    package init(errors: [String] = [], warnings: [String] = [], isApplied: Bool = true) {
        self.errors = errors
        self.warnings = warnings
        self.isApplied = isApplied
    }

    /// `errors` without the lines of the file that are shown below them.
    package var events: [String] { errors.filter { !$0.hasPrefix(" ") } }
}
