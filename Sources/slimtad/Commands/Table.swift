// What commands print: on a terminal aligned columns, cut to its width; into a pipe fields with tabs between them, whole
// and without a heading.

import Glibc
import SlimtaMail
import SlimtaSystem

/// Prints rows as they come, so that a million of them need no memory.
struct Table {
    /// A column: its heading and its width on a terminal; nil: what is left of the line.
    struct Column {
        var heading: String
        var width: Int?

        init(_ heading: String, _ width: Int? = nil) {
            self.heading = heading
            self.width = width
        }
    }

    private var columns: [Column]
    /// Blanks between two columns.
    private var gap = 2
    private let terminalWidth: Int?
    private var hasHeading = false

    init(_ columns: [Column]) {
        self.columns = columns
        terminalWidth = Terminal.width
        if let terminalWidth { fit(into: terminalWidth) }
    }

    /// Makes the gaps smaller where the line would be too long, then the widest columns; those of numbers stay as they are.
    private mutating func fit(into width: Int) {
        var excess = columns.reduce(0) { $0 + ($1.width ?? Self.leastRest) } + gap * (columns.count - 1) - width
        guard excess > 0 else { return }
        gap = 1
        excess -= columns.count - 1
        while excess > 0 {
            let widest = columns.indices.max { (columns[$0].width ?? 0) < (columns[$1].width ?? 0) }
            guard let widest, let width = columns[widest].width, width > Self.leastText else { return }
            columns[widest].width = width - 1
            excess -= 1
        }
    }

    /// What is left of the line for the last column, and what a column of text is not made smaller than.
    private static let leastRest = 14
    private static let leastText = 12

    mutating func row(_ fields: [String]) {
        guard let terminalWidth else { return print(fields.map(\.visible).joined(separator: "\t")) }
        if !hasHeading {
            hasHeading = true
            print(line(columns.map(\.heading), terminalWidth))
        }
        print(line(fields.map(\.visible), terminalWidth))
    }

    private func line(_ fields: [String], _ width: Int) -> String {
        var line = ""
        for (column, field) in zip(columns, fields) {
            guard let space = column.width else {
                let space = max(8, width - line.count)
                line += field.count > space ? field.prefix(space - 1) + "~" : field[...]
                continue
            }
            let shown = field.count > space ? field.prefix(space - 1) + "~" : field[...]
            line += shown + String(repeating: " ", count: space - shown.count + gap)
        }
        while line.last == " " { line.removeLast() }
        return line
    }
}

enum Terminal {
    /// The columns of standard output; nil if it is no terminal.
    static var width: Int? {
        guard isatty(STDOUT_FILENO) == 1 else { return nil }
        var size = winsize()
        guard ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else { return 80 }
        return Int(size.ws_col)
    }

    /// Asks on the terminal whether `action` is meant, which cannot be undone: only "y" and "yes" mean so.
    ///
    /// - Parameter what: to what it would be done; asked for where there is a terminal.
    static func confirm(_ action: String, _ what: () throws(Failure) -> String) throws(Failure) {
        guard isatty(STDIN_FILENO) == 1 else {
            throw Failure(
                .usage, "\(action) cannot be undone and there is no terminal to ask on: say --yes if it is meant")
        }
        var question = Array("\(action) \(try what()) for good? [y/N] ".utf8)
        write(STDERR_FILENO, &question, question.count)
        guard ["y", "yes"].contains(readLine()?.lowercased()) else { throw Failure(.usage, "nothing was changed") }
    }
}

/// "1 message", "2 messages". `noun` is the singular of one that takes an s.
func counted(_ count: some BinaryInteger, _ noun: String) -> String { "\(count) \(noun)\(count == 1 ? "" : "s")" }

/// A number of seconds as people say it: 42s, 17m, 5h, 3d.
func age(_ seconds: Int64) -> String {
    switch seconds {
    case ..<120: "\(max(0, seconds))s"
    case ..<7200: "\(seconds / 60)m"
    case ..<172_800: "\(seconds / 3600)h"
    default: "\(seconds / 86400)d"
    }
}

/// A number of octets as people say it: 812, 40 KiB, 3.2 MiB.
func octets(_ count: Int64) -> String {
    var value = Double(count)
    var unit = 0
    while value >= 1024, unit < 4 {
        value /= 1024
        unit += 1
    }
    if unit == 0 { return "\(count) octets" }
    let tenths = Int(value * 10)
    return (tenths < 100 ? "\(tenths / 10).\(tenths % 10)" : "\(tenths / 10)")
        + " \(["", "KiB", "MiB", "GiB", "TiB"][unit])"
}
