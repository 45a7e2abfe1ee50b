// How much is logged. Both log handlers ask for the level at each event; the composition root changes it at a reload.

package import Logging
import Synchronization

/// The level below which nothing is logged: one for all loggers that did not get their own.
package final class SharedLogLevel: Sendable {
    private let index: Atomic<Int>

    /// Starts with `level`.
    package init(_ level: Logger.Level) { index = Atomic(Self.index(of: level)) }

    /// The level now.
    package var level: Logger.Level {
        get { Logger.Level.allCases[index.load(ordering: .relaxed)] }
        set { index.store(Self.index(of: newValue), ordering: .relaxed) }
    }

    private static func index(of level: Logger.Level) -> Int { Logger.Level.allCases.firstIndex(of: level) ?? 0 }
}

extension Logger.Level {
    /// The level of syslog(3).
    var priority: Int {
        switch self {
        case .trace, .debug: 7
        case .info: 6
        case .notice: 5
        case .warning: 4
        case .error: 3
        case .critical: 2
        }
    }
}
