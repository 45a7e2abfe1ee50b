// The submissions of an edge that are on their way. The edges that take messages as a whole have one each, for their end:
// nobody is kept waiting then because a rule says so.

import Synchronization

/// Ends what rules delay, for all submissions of an edge and for those that still begin.
final class SubmissionsInProgress: Sendable {
    private struct State {
        var sessions: [Reference] = []
        var limit = 64
        var isEnding = false
    }

    /// Whoever makes a submission has it; here nothing is kept.
    private struct Reference {
        weak var session: SubmissionSession?
    }

    private let state = Mutex(State())

    /// A submission begins.
    func add(_ session: SubmissionSession) {
        let isEnding = state.withLock { state in
            if state.sessions.count >= state.limit {
                state.sessions.removeAll { $0.session == nil }
                state.limit = 2 * state.sessions.count + 64
            }
            state.sessions.append(Reference(session: session))
            return state.isEnding
        }
        if isEnding { session.endDelays() }
    }

    /// The edge ends.
    func endDelays() {
        let references = state.withLock { state in
            defer { (state.sessions, state.isEnding) = ([], true) }
            return state.sessions
        }
        for reference in references { reference.session?.endDelays() }
    }
}
