// Text of log lines: what a client sends can end up here, so nothing that it sends may begin a line, a field or a
// terminal's escape sequence. Used by both log handlers.

import Glibc
import Logging
internal import SlimtaMail

/// Renders messages and fields.
enum LogText {
    /// Appends the message; what is not printable is escaped.
    static func append(message: String, to line: inout [UInt8]) {
        appendEscaped(message, to: &line, quoted: false)
    }

    /// Appends ` key=value`, the value in quotes if it is empty or has blanks, quotes, `=` or what must be escaped.
    static func append(key: String, value: String, to line: inout [UInt8]) {
        line.append(UInt8(ascii: " "))
        for octet in key.utf8 { line.append(isKeyOctet(octet) ? octet : UInt8(ascii: "_")) }
        line.append(UInt8(ascii: "="))
        if !value.isEmpty, value.utf8.allSatisfy(isBareOctet) {
            line.append(contentsOf: value.utf8)
        } else {
            line.append(UInt8(ascii: "\""))
            appendEscaped(value, to: &line, quoted: true)
            line.append(UInt8(ascii: "\""))
        }
    }

    private static func appendEscaped(_ text: String, to line: inout [UInt8], quoted: Bool) {
        for scalar in text.unicodeScalars {
            switch scalar.value {
            case 0x22 where quoted: line.append(contentsOf: #"\""#.utf8)
            case 0x5C: line.append(contentsOf: #"\\"#.utf8)
            case 0x0A: line.append(contentsOf: #"\n"#.utf8)
            case 0x0D: line.append(contentsOf: #"\r"#.utf8)
            case 0x09: line.append(contentsOf: #"\t"#.utf8)
            case 0x20..<0x7F: line.append(UInt8(truncatingIfNeeded: scalar.value))
            default: line.append(contentsOf: scalar.visible.utf8)
            }
        }
    }

    private static func isBareOctet(_ octet: UInt8) -> Bool {
        octet > 0x20 && octet < 0x7F && octet != UInt8(ascii: "\"") && octet != UInt8(ascii: "=")
            && octet != UInt8(ascii: "\\")
    }

    private static func isKeyOctet(_ octet: UInt8) -> Bool {
        octet.isASCIILetterOrDigit || "_.-".utf8.contains(octet)
    }
}

/// The fields of one event, in the order in which they are shown.
struct LogFields {
    private(set) var fields: [(key: String, value: String)]

    /// Fields of the event hide those of the logger, and those hide the provider's.
    init(_ event: LogEvent, logger: Logger.Metadata, provider: Logger.MetadataProvider?) {
        var merged = event.metadata ?? [:]
        merged.merge(logger) { event, _ in event }
        if let provider { merged.merge(provider.get()) { nearer, _ in nearer } }
        if let error = event.error, merged["error"] == nil { merged["error"] = .string("\(error)") }
        // The fields of a message's story come first, in the order in which it is told.
        var story = [(key: String, value: String)?](repeating: nil, count: Self.order.count)
        var others: [(key: String, value: String)] = []
        for (key, value) in merged {
            let text = if case .string(let text) = value { text } else { "\(value)" }
            if let place = Self.order.firstIndex(of: key) {
                story[place] = (key, text)
            } else {
                others.append((key, text))
            }
        }
        others.sort { $0.key < $1.key }
        fields = story.compactMap { $0 } + others
    }

    private static let order = [
        "edge", "session", "queue_id", "client", "sender", "recipient", "relay", "tls", "status", "delay",
    ]
}

/// `2026-01-31T23:59:59.123Z`.
enum LogTime {
    /// Appends the time, in UTC (RFC 3339 section 5.6).
    static func append(seconds: Int, milliseconds: Int, to line: inout [UInt8]) {
        var time = time_t(seconds)
        var fields = tm()
        gmtime_r(&time, &fields)
        append(Int(fields.tm_year) + 1900, 4, "-", to: &line)
        append(Int(fields.tm_mon) + 1, 2, "-", to: &line)
        append(Int(fields.tm_mday), 2, "T", to: &line)
        append(Int(fields.tm_hour), 2, ":", to: &line)
        append(Int(fields.tm_min), 2, ":", to: &line)
        append(Int(fields.tm_sec), 2, ".", to: &line)
        append(milliseconds, 3, "Z", to: &line)
    }

    private static func append(_ value: Int, _ digits: Int, _ end: Unicode.Scalar, to line: inout [UInt8]) {
        var divisor = 1
        for _ in 1..<digits { divisor *= 10 }
        while divisor > 0 {
            line.append(UInt8(ascii: "0") + UInt8(value / divisor % 10))
            divisor /= 10
        }
        line.append(UInt8(ascii: end))
    }
}
