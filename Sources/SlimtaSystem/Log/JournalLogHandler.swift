// Events for the journal, each with its fields. LogHandlers installs it; LogWriter sends what it makes.

package import Logging

/// Sends events to the journal: the line as MESSAGE, its kind as MESSAGE_ID, and each field as a field of its own,
/// `queue_id` as `SLIMTA_QUEUE_ID`. The facility is mail.
package struct JournalLogHandler: LogHandler {
    /// Fields of the logger, for each of its events.
    package var metadata: Logger.Metadata = [:]
    /// Gives more fields, asked at each event.
    package var metadataProvider: Logger.MetadataProvider?
    private let shared: SharedLogLevel
    private var own: Logger.Level?

    /// All loggers share `level`.
    package init(level: SharedLogLevel) { shared = level }

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

    /// Hands the event to the thread that sends to the journal.
    package func log(event: LogEvent) {
        let entries = Self.entries(event, LogFields(event, logger: metadata, provider: metadataProvider))
        // Never urgent: the thread sends at once, and who logs is an event loop that must not wait for journald.
        LogWriter.journal.write(JournalFrame.encode(entries), isUrgent: false)
    }

    /// `NAME=value` for each field of the journal's entry.
    static func entries(_ event: LogEvent, _ fields: LogFields) -> [[UInt8]] {
        var message = Array("MESSAGE=".utf8)
        LogText.append(message: event.message.description, to: &message)
        for field in fields.fields { LogText.append(key: field.key, value: field.value, to: &message) }
        var entries = [message, Array("PRIORITY=\(event.level.priority)".utf8), Array("SYSLOG_FACILITY=2".utf8)]
        if let id = EventCatalogue.id(of: event.message.description) { entries.append(Array("MESSAGE_ID=\(id)".utf8)) }
        for field in fields.fields {
            var entry = Array("\(name(of: field.key))=".utf8)
            LogText.append(message: field.value, to: &entry)
            entries.append(entry)
        }
        return entries
    }

    /// The journal takes A to Z, digits and underscores, 64 at most.
    private static func name(of key: String) -> String {
        let octets = key.utf8.prefix(57).map { octet -> UInt8 in
            switch octet {
            case UInt8(ascii: "a")...UInt8(ascii: "z"): octet & ~0x20
            case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"): octet
            default: UInt8(ascii: "_")
            }
        }
        return "SLIMTA_" + String(decoding: octets, as: UTF8.self)
    }
}
