// Events as lines of text, for standard error or syslog. LogHandlers installs it.

import CLinux
// Its headers have timespec, too.
import CSystemd
import Glibc
package import Logging

/// Writes events as lines: `2026-01-31T23:59:59.123Z info message key=value ...`.
///
/// On a terminal the level is coloured; if the descriptor is the journal's, its priority prefix stands for the time.
package struct LineLogHandler: LogHandler {
    /// Where lines go.
    package enum Sink: Sendable {
        /// A descriptor.
        case writer(LogWriter)
        /// syslog(3), facility mail; it adds time and level itself.
        case syslog
    }

    /// What is at the other end, as far as it changes the line.
    package enum Style: Sendable {
        /// A file or a pipe: time and level.
        case plain
        /// A terminal: time, and the level in colour.
        case terminal
        /// The journal: the priority prefix of sd-daemon(3).
        case journal
        /// Neither time nor level.
        case bare
    }

    /// Fields of the logger, for each of its events.
    package var metadata: Logger.Metadata = [:]
    /// Gives more fields, asked at each event.
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

    /// Another sink, in this style.
    package init(level: SharedLogLevel, sink: Sink, style: Style) {
        shared = level
        self.sink = sink
        self.style = style
    }

    /// The logger's own level if it was given one, else that of all.
    package var logLevel: Logger.Level {
        get { own ?? shared.level }
        set { own = newValue }
    }

    /// One field of the logger.
    package subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    /// Writes the event as a line; an error is written when this returns.
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
