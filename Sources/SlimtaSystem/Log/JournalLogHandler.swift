// The journal: events with their fields, over sd_journal_sendv(3). Installed by LogHandlers.

import CSystemd
import Glibc
package import Logging

/// Sends events to the journal: the line as MESSAGE, its kind as MESSAGE_ID, and each field as a field of its own,
/// `queue_id` as `SLIMTA_QUEUE_ID`. The facility is mail.
package struct JournalLogHandler: LogHandler {
    package var metadata: Logger.Metadata = [:]
    package var metadataProvider: Logger.MetadataProvider?
    private let shared: SharedLogLevel
    private var own: Logger.Level?

    package init(level: SharedLogLevel) { shared = level }

    package var logLevel: Logger.Level {
        get { own ?? shared.level }
        set { own = newValue }
    }

    package subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

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

/// Events for the journal on their way through a LogWriter: each field with its length before it, and at the end of an
/// event a length that no field has.
enum JournalFrame {
    private static let end = UInt32.max

    /// One event.
    static func encode(_ entries: [[UInt8]]) -> [UInt8] {
        var frame: [UInt8] = []
        frame.reserveCapacity(entries.reduce(4) { $0 + 4 + $1.count })
        for entry in entries {
            append(UInt32(entry.count), to: &frame)
            frame += entry
        }
        append(end, to: &frame)
        return frame
    }

    /// Sends events, one call for each. What the journal does not take is lost: there is nowhere to say it.
    static func send(_ frames: inout [UInt8]) {
        frames.withUnsafeMutableBytes { buffer in
            var vectors: [iovec] = []
            var offset = 0
            while offset < buffer.count {
                let length = buffer.loadUnaligned(fromByteOffset: offset, as: UInt32.self)
                offset += 4
                if length == end {
                    sd_journal_sendv(vectors, Int32(vectors.count))
                    vectors.removeAll(keepingCapacity: true)
                } else {
                    vectors.append(iovec(iov_base: buffer.baseAddress.map { $0 + offset }, iov_len: Int(length)))
                    offset += Int(length)
                }
            }
        }
    }

    private static func append(_ length: UInt32, to frame: inout [UInt8]) {
        withUnsafeBytes(of: length) { frame += $0 }
    }
}
