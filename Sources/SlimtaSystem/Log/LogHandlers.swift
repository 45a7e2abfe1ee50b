// Where log events go: standard error or the journal. Installed once by the composition root; the level can be changed
// at reload.

import CLinux
import Glibc
package import Logging
import Synchronization

/// `[log] target`.
package enum LogTarget: Hashable, Sendable {
    /// The journal if standard error is connected to it, or if nobody sees standard error; else standard error.
    case auto
    case journal
    case standardError
    // Where there is no journal, it is standard error, and for a daemon that nobody sees, syslog.
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

/// The level below which nothing is logged: one for all loggers that did not get their own.
package final class SharedLogLevel: Sendable {
    private let index: Atomic<Int>

    package init(_ level: Logger.Level) { index = Atomic(Self.index(of: level)) }

    /// The level now.
    package var level: Logger.Level {
        get { Logger.Level.allCases[index.load(ordering: .relaxed)] }
        set { index.store(Self.index(of: newValue), ordering: .relaxed) }
    }

    private static func index(of level: Logger.Level) -> Int { Logger.Level.allCases.firstIndex(of: level) ?? 0 }
}

/// Writes events as lines: `2026-01-31T23:59:59.123Z info message key=value ...`.
///
/// On a terminal the level is coloured; if the descriptor is the journal's, its priority prefix stands for the time.
package struct LineLogHandler: LogHandler {
    /// Where lines go.
    package enum Sink: Sendable {
        case writer(LogWriter)
        /// syslog(3), facility mail; it adds time and level itself.
        case syslog
    }

    /// What is at the other end, as far as it changes the line.
    package enum Style: Sendable {
        case plain
        case terminal
        case journal
        /// Neither time nor level.
        case bare
    }

    package var metadata: Logger.Metadata = [:]
    package var metadataProvider: Logger.MetadataProvider?
    private let shared: SharedLogLevel
    private var own: Logger.Level?
    private let sink: Sink
    private let style: Style

    /// Standard error, in the style that fits what it is connected to.
    package init(level: SharedLogLevel) {
        let style: Style =
            LogHandlers.isStandardErrorJournal ? .journal : isatty(STDERR_FILENO) == 1 ? .terminal : .plain
        self.init(level: level, sink: .writer(.standardError), style: style)
    }

    package init(level: SharedLogLevel, sink: Sink, style: Style) {
        shared = level
        self.sink = sink
        self.style = style
    }

    package var logLevel: Logger.Level {
        get { own ?? shared.level }
        set { own = newValue }
    }

    package subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    package func log(event: LogEvent) {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        let line = Self.line(
            event, LogFields(event, logger: metadata, provider: metadataProvider), style: style,
            seconds: now.tv_sec, milliseconds: now.tv_nsec / 1_000_000)
        switch sink {
        // An error may be the last that is heard of this process.
        case .writer(let writer): writer.write(line, isUrgent: event.level >= .error)
        case .syslog:
            // The line's end becomes the string's; there is no other NUL in it.
            (line.dropLast() + [0]).withUnsafeBufferPointer { text in
                text.withMemoryRebound(to: CChar.self) { linux_syslog(Int32(event.level.priority), $0.baseAddress) }
            }
        }
    }

    static func line(_ event: LogEvent, _ fields: LogFields, style: Style, seconds: Int, milliseconds: Int) -> [UInt8] {
        var line: [UInt8] = []
        line.reserveCapacity(256)
        switch style {
        case .journal: line.append(contentsOf: "<\(event.level.priority)>".utf8)
        case .bare: break
        case .plain, .terminal:
            LogTime.append(seconds: seconds, milliseconds: milliseconds, to: &line)
            line.append(UInt8(ascii: " "))
        }
        switch style {
        case .terminal:
            line.append(contentsOf: "\u{1B}[\(event.level.colour)m\(event.level.rawValue)\u{1B}[0m ".utf8)
        case .plain: line.append(contentsOf: "\(event.level.rawValue) ".utf8)
        case .journal, .bare: break
        }
        LogText.append(message: event.message.description, to: &line)
        for field in fields.fields { LogText.append(key: field.key, value: field.value, to: &line) }
        line.append(UInt8(ascii: "\n"))
        return line
    }
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

    /// The terminal's colour (ECMA-48 SGR).
    fileprivate var colour: Int {
        switch self {
        case .trace, .debug: 90
        case .info: 32
        case .notice: 36
        case .warning: 33
        case .error, .critical: 31
        }
    }
}
