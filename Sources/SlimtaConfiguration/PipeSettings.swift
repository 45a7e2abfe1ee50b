// A relay of type "pipe" as values. RelayReader+Pipe reads them, the composition root makes the relay of them, and the helper
// that runs commands knows by them what it may run.

package import SlimtaMail

/// What a relay of type "pipe" has.
package struct PipeSettings: Sendable, Hashable {
    /// What `eol` may say.
    package enum LineEnd: String, Sendable, CaseIterable {
        case lf, crlf
    }

    /// `command`: the program's absolute path and its arguments; at least one word in a file without mistakes.
    package var command = CommandTemplate()
    /// `environment`: lines NAME=VALUE besides those that every command gets.
    package var environment = CommandTemplate()
    /// `user`: who runs it; never root. nil: who slimtad is, which is for trying things out.
    package var user: String?
    /// How many commands run at once, of all pipes together: the helper starts no more.
    package static let mostProcesses = 200

    /// `processes`: how many of them run at once.
    package var processes = 10
    /// `timeout`: how long one may take.
    package var timeout: Duration = .seconds(300)
    /// `eol`: what the lines of a message end with.
    package var lineEnd = LineEnd.lf
}
