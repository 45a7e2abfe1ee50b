// What operators make of an envelope's state: by the queue's driver while a daemon runs, by `slimtad queue` on the files
// where none does.

package import SlimtaMail

extension EnvelopeState {
    /// Why what ``isKept`` cannot be released.
    package static let keptText =
        "is kept to be looked at, and never leaves: its client was told to send the message again"

    /// It is not attempted until it is released.
    package mutating func hold() { isHeld = true }

    /// It is accepted, and not attempted until somebody has looked at it: `reason` is the name of the rule that wants it so.
    package mutating func hold(because reason: String) {
        isHeld = true
        heldReason = reason
    }

    /// Its hold ends, and it is due.
    package mutating func release(at now: Timestamp) {
        isHeld = false
        heldReason = nil
        due = now
    }

    /// The end of an envelope that an operator takes out: who is pending is told nothing.
    package func removed(by name: String) -> Ending {
        var state = self
        for index in state.pending { state.recipients[index].fate = .removed }
        var ending = Ending(of: state)
        ending.by = name
        return ending
    }
}
