// Where log events go: standard error, the journal or syslog. The composition root installs it once, before the first
// logger is made.

import Glibc
package import Logging
import Synchronization

/// `[log] target`.
package enum LogTarget: Hashable, Sendable {
    /// The journal if standard error is connected to it, or if nobody sees standard error; else standard error.
    case auto
    /// The journal. Where there is none: standard error, or syslog for a daemon that nobody sees.
    case journal
    /// Standard error.
    case standardError
}

/// Installs the log handlers of the process.
package enum LogHandlers {
    private static let sink = Mutex<Sink?>(nil)

    /// Whether what is logged goes to the journal.
    package static var usesJournal: Bool { sink.withLock { $0 == .journal } }

    /// Makes all loggers write to `target`; to be called once, before the first logger is made.
    ///
    /// - Parameter isDaemonized: standard error is /dev/null.
    /// - Returns: the level of all loggers, to be changed at reload.
    @discardableResult
    package static func install(target: LogTarget, level: Logger.Level, isDaemonized: Bool = false) -> SharedLogLevel {
        let shared = SharedLogLevel(level)
        let sink = sink(
            target, isDaemonized: isDaemonized, hasJournal: hasJournal, isStarted: isStandardErrorJournal)
        self.sink.withLock { $0 = sink }
        switch sink {
        case .journal: LoggingSystem.bootstrap { _ in JournalLogHandler(level: shared) }
        case .standardError: LoggingSystem.bootstrap { _ in LineLogHandler(level: shared) }
        case .syslog: LoggingSystem.bootstrap { _ in LineLogHandler(level: shared, sink: .syslog, style: .bare) }
        }
        return shared
    }

    /// From now on a thread writes what is logged: phase `startThreads`. What is logged before the process exits is
    /// written.
    package static func startThread() throws(SystemError) {
        switch sink.withLock({ $0 }) {
        case .journal:
            atexit { LogWriter.journal.flush() }
            try LogWriter.journal.start()
        case .standardError:
            atexit { LogWriter.standardError.flush() }
            try LogWriter.standardError.start()
        case .syslog, nil: break
        }
    }

    /// Whether standard error is the stream to the journal that systemd made.
    package static var isStandardErrorJournal: Bool { isJournal(STDERR_FILENO) }

    enum Sink {
        case journal, standardError, syslog
    }

    /// What `target` comes to here. `isStarted`: by systemd, with standard error connected to the journal.
    static func sink(_ target: LogTarget, isDaemonized: Bool, hasJournal: Bool, isStarted: Bool) -> Sink {
        switch target {
        case .standardError: .standardError
        case .auto where !isDaemonized && !isStarted: .standardError
        case .auto, .journal: hasJournal ? .journal : isDaemonized ? .syslog : .standardError
        }
    }

    /// Whether there is a journal to write to: sd_journal_sendv(3) says nothing if there is none.
    static var hasJournal: Bool { access("/run/systemd/journal/socket", W_OK) == 0 }

    /// Whether `descriptor` is the stream to the journal that systemd made ($JOURNAL_STREAM, systemd.exec(5)).
    static func isJournal(_ descriptor: Int32) -> Bool {
        guard let variable = getenv("JOURNAL_STREAM") else { return false }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { return false }
        return String(cString: variable) == "\(status.st_dev):\(status.st_ino)"
    }
}
