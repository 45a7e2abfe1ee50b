// What operators can do to messages, by its name on the command line, in requests and in the log. The commands of
// `slimtad queue` and the control socket know it.

package import SlimtaQueue

/// What can be done to a queued message.
package enum QueueAction: String, CaseIterable, Sendable {
    case flush, hold, release, remove, bounce

    /// All of them, for who named another.
    package static var names: String { allCases.map(\.rawValue).joined(separator: ", ") }

    /// As the queue knows it.
    package var verb: OperatorCommand.Verb {
        switch self {
        case .flush: .flush
        case .hold: .hold
        case .release: .release
        case .remove: .remove
        case .bounce: .bounce
        }
    }

    /// What was done, in a log line and for who asked.
    package var done: String {
        switch self {
        case .flush: "flushed"
        case .hold: "held"
        case .release: "released"
        case .remove: "removed"
        case .bounce: "bounced"
        }
    }
}
