// How many questions to PAM one client may have there at once, so that others have their answers too. A value; PAMBackEnd asks
// it before each question.

internal import SlimtaPAM

/// Who has questions with PAM now. A module that hangs keeps a process to the end of its time: without this one client with one
/// login would keep them all.
struct PAMShares {
    private var byClient: [ConnectionLimiter.Source: Int] = [:]
    private var total = 0

    /// What a client may have when half of all are taken; before that it may have more, for many people may be behind one
    /// address.
    static let share = 4

    /// Whether a question may be asked; if so, ``leave(_:)`` follows.
    ///
    /// - Parameter client: nil: one that is not counted.
    mutating func enter(_ client: ConnectionLimiter.Source?) -> Bool {
        if let client {
            let own = byClient[client, default: 0]
            guard own < Self.share || total < PAMWorkers.limit / 2 else { return false }
            byClient[client] = own + 1
        }
        total += 1
        return true
    }

    /// The question is over.
    mutating func leave(_ client: ConnectionLimiter.Source?) {
        total -= 1
        guard let client, let own = byClient[client] else { return }
        byClient[client] = own > 1 ? own - 1 : nil
    }
}
