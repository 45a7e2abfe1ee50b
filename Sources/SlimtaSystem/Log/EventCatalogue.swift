// The message catalogue: what each kind of event means and what to do about it, for `journalctl -x`. The journal's log
// handler takes ids from here, and `slimtad catalog` writes the file that systemd wants.

/// The kinds of events that slimtad logs. The message, which is constant, is the key.
package enum EventCatalogue {
    /// One kind of event.
    package struct Entry: Sendable {
        /// MESSAGE_ID=: 32 hexadecimal digits.
        package let id: String
        /// The message that is logged.
        package let message: String
        /// What it means. `@FIELD@` stands for the event's field of that name.
        package let meaning: String
        /// What to do about it; nil: nothing.
        package let remedy: String?

        init(_ id: String, _ message: String, _ meaning: String, remedy: String? = nil) {
            self.id = id
            self.message = message
            self.meaning = meaning
            self.remedy = remedy
        }
    }

    private static let ids = Dictionary(uniqueKeysWithValues: entries.map { ($0.message, $0.id) })

    /// The id of the kind of event that is logged with `message`; nil if no entry tells of it.
    static func id(of message: String) -> String? { ids[message] }

    /// The catalogue as journald reads it (https://systemd.io/CATALOG).
    package static var file: String {
        var text = "# The events of slimtad: what they mean, and what to do. Written by `slimtad catalog`.\n"
        for entry in entries {
            text += """

                -- \(entry.id)
                Subject: slimtad: \(entry.message)
                Defined-By: slimtad
                Documentation: man:slimtad(8)

                \(folded(entry.meaning))

                """
            if let remedy = entry.remedy { text += "\nWhat to do:\n\n\(folded(remedy))\n" }
        }
        return text
    }

    /// Lines of at most 76 octets, as a terminal has room beside journalctl's own margin.
    private static func folded(_ text: String) -> String {
        var lines = [""]
        for word in text.split(separator: " ") {
            if let last = lines.last, !last.isEmpty, last.utf8.count + 1 + word.utf8.count > 76 { lines.append("") }
            lines[lines.count - 1] += (lines[lines.count - 1].isEmpty ? "" : " ") + word
        }
        return lines.joined(separator: "\n")
    }
}
