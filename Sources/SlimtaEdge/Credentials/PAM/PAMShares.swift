// How many questions to PAM one client may have there at once, and how many all of a kind, so that others have their answers
// too. A value; PAMBackEnd asks it before each question.

internal import SlimtaPAM

/// Who has questions with PAM now. A module that hangs keeps a process to the end of its time: without this one client with one
/// login would keep them all, and so would two hundred with a few each.
struct PAMShares {
    typealias Standing = PasswordCheckMachine.Standing

    private var byClient: [ConnectionLimiter.Source: Int] = [:]
    private var total = 0
    /// Of clients that have failed, or kept a process to the end of its time.
    private var guessers = 0

    /// What a client may have when half of all are taken; before that it may have more, for many people may be behind one
    /// address.
    static let share = 4
    /// What is left to logins that have succeeded from there.
    static let reserved = PAMWorkers.limit / 4
    /// What those may have who have failed of late: the rest is for who has not.
    static let ofGuessers = PAMWorkers.limit / 2

    /// Whether a question may be asked; if so, ``leave(_:_:)`` follows.
    ///
    /// - Parameters:
    ///   - client: nil: one that is not counted.
    ///   - standing: what is known of its login there.
    mutating func enter(_ client: ConnectionLimiter.Source?, _ standing: Standing = .stranger) -> Bool {
        if let client {
            let own = byClient[client, default: 0]
            guard own < Self.share || total < PAMWorkers.limit / 2 else { return false }
            guard standing == .familiar || total < PAMWorkers.limit - Self.reserved else { return false }
            guard standing != .guesser || guessers < Self.ofGuessers else { return false }
            byClient[client] = own + 1
            if standing == .guesser { guessers += 1 }
        }
        total += 1
        return true
    }

    /// The question is over.
    mutating func leave(_ client: ConnectionLimiter.Source?, _ standing: Standing = .stranger) {
        total -= 1
        guard let client, let own = byClient[client] else { return }
        byClient[client] = own > 1 ? own - 1 : nil
        if standing == .guesser { guessers -= 1 }
    }
}
