// When the sender of a message is told of a recipient: NOTIFY of RFC 3461. Milters say it of whom they add; the queue's notices go
// by it.

/// A value of RCPT's NOTIFY (RFC 3461 section 4.1).
package struct NotifyConditions: OptionSet, Hashable, Sendable {
    package let rawValue: UInt8

    package init(rawValue: UInt8) { self.rawValue = rawValue }

    /// SUCCESS: when it has the message. Nothing of ours tells of that yet.
    package static let success = NotifyConditions(rawValue: 1)
    /// FAILURE: when it will never have it.
    package static let failure = NotifyConditions(rawValue: 2)
    /// DELAY: when that takes long.
    package static let delay = NotifyConditions(rawValue: 4)
    /// What holds where nobody has said anything.
    package static let usual: NotifyConditions = [.failure, .delay]

    /// NEVER, which is none of them, or a list of the other words; nil: it is neither.
    package init?(parsing value: some StringProtocol) {
        var conditions: NotifyConditions = []
        let words = value.uppercased().split(separator: ",", omittingEmptySubsequences: false)
        if words != ["NEVER"] {
            for word in words {
                switch word {
                case "SUCCESS": conditions.insert(.success)
                case "FAILURE": conditions.insert(.failure)
                case "DELAY": conditions.insert(.delay)
                default: return nil
                }
            }
        }
        self = conditions
    }
}
