// What comes of a question to the database that is not answered as it should be. Made in Wire/; the rooms above decide by it
// what a client is told.

/// Why something was not done, or may not have been.
package enum PostgresError: Error, Hashable, Sendable, CustomStringConvertible {
    /// libpq cannot be loaded.
    case unavailable(String)
    /// There is no connection, or none any more: nothing was sent.
    case unreachable(String)
    /// The server's word: its SQLSTATE, and at which step it said so. The transaction of that step is rolled back; others of
    /// the same batch are not.
    case refused(state: String, text: String, step: Int)
    /// The connection was lost, or time was over, after something had been sent: nobody knows.
    case doubtful(String)
    /// A commit came with a warning: it is here, but perhaps on no standby. As doubtful as the other.
    case warned(String)

    /// Whether what was asked may have been done.
    package var mayHaveCommitted: Bool {
        switch self {
        case .unavailable, .unreachable, .refused: false
        case .doubtful, .warned: true
        }
    }

    /// One line for the log.
    package var description: String {
        switch self {
        case .unavailable(let text): "libpq cannot be loaded: \(text)"
        case .unreachable(let text): "no connection to the database: \(text)"
        case .refused(let state, let text, _): "the database refuses (\(state)): \(text)"
        case .doubtful(let text): "no answer of the database: \(text)"
        case .warned(let text): "committed with a warning: \(text)"
        }
    }

    /// What libpq or the server has said.
    var text: String {
        switch self {
        case .unavailable(let text), .unreachable(let text), .refused(_, let text, _), .doubtful(let text),
            .warned(let text):
            text
        }
    }

    /// What libpq or a server says, as a log may have it: one line of no more than 500 octets.
    static func line(_ text: UnsafePointer<CChar>?) -> String {
        guard let text else { return "no text" }
        return line(String(cString: text))
    }

    /// The same of a text that is there.
    static func line(_ text: String) -> String {
        var line = ""
        for character in text.unicodeScalars {
            let shown = character.properties.generalCategory == .control ? " " : character
            if shown == " ", line.isEmpty || line.unicodeScalars.last == " " { continue }
            guard line.utf8.count + UTF8.width(shown) <= 500 else { break }
            line.unicodeScalars.append(shown)
        }
        if line.unicodeScalars.last == " " { line.unicodeScalars.removeLast() }
        return line.isEmpty ? "no text" : line
    }
}
