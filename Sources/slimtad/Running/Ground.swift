// What the world of every configuration stands on, and no reload changes: threads, counts of connections and files, the log.
// The daemon makes it at start, in the phase startThreads, and ends it last.

import Logging
import NIOCore
import NIOPosix
import SlimtaEdge
import SlimtaSystem

/// Shared by all worlds.
struct Ground: Sendable {
    let group: MultiThreadedEventLoopGroup
    /// What maildirs are written by, and pickup folders read.
    let fileThreads: NIOThreadPool
    let passwordChecks: PasswordChecks
    let guesses: GuessWatch
    let limiter: ConnectionLimiter
    let budget: FileBudget
    let endings = Endings()
    let refreshTokens = RefreshTokens()
    let quotas: QuotaKeeper
    let signing: DKIMKeeper
    let tlsMemory: TLSMemoryKeeper
    let sts: STSKeeper
    let sites: SiteKeeper
    let tlsReports: TLSReportKeeper
    let level: SharedLogLevel
    let logger: Logger

    /// Starts the threads. Nobody is let in until the limiter gets other limits.
    init(
        budget: FileBudget, level: SharedLogLevel, quotas: QuotaKeeper, signing: DKIMKeeper,
        tlsMemory: TLSMemoryKeeper, sts: STSKeeper, sites: SiteKeeper, tlsReports: TLSReportKeeper, logger: Logger
    ) {
        (self.quotas, self.signing, self.tlsMemory, self.sts) = (quotas, signing, tlsMemory, sts)
        (self.sites, self.tlsReports) = (sites, tlsReports)
        group = MultiThreadedEventLoopGroup(numberOfThreads: System.coreCount)
        fileThreads = NIOThreadPool(numberOfThreads: 2)
        fileThreads.start()
        passwordChecks = PasswordChecks(threads: System.coreCount, logger: logger)
        guesses = GuessWatch(logger)
        limiter = ConnectionLimiter(.init(total: 0, perAddress: 0))
        self.budget = budget
        self.level = level
        self.logger = logger
    }

    /// Ends the threads.
    func end() async {
        await passwordChecks.shutdown()
        try? await fileThreads.shutdownGracefully()
        try? await group.shutdownGracefully()
    }
}
