// One question and who waits for the answer. Resolver makes it, ResolverLoop answers it, a cancelled task ends it.

import Synchronization

/// A question that is answered exactly once, by whoever comes first: the answer, or the cancellation of the task.
final class DNSQuery: Sendable {
    typealias Answer = Result<RawAnswer, DNSError>

    private enum State {
        case new
        case waiting(CheckedContinuation<Answer, Never>)
        case answered
    }

    let name: String
    let type: UnboundContext.RecordType
    private let state = Mutex(State.new)

    init(name: String, type: UnboundContext.RecordType) {
        self.name = name
        self.type = type
    }

    /// Whether someone still waits for the answer.
    var isWanted: Bool {
        state.withLock { state in
            switch state {
            case .waiting: true
            case .new, .answered: false
            }
        }
    }

    /// Begins to wait; false if it was cancelled before, which is then answered.
    func wait(_ continuation: CheckedContinuation<Answer, Never>) -> Bool {
        let isNew = state.withLock { state in
            switch state {
            case .new:
                state = .waiting(continuation)
                return true
            case .waiting: preconditionFailure("a question is waited for once")
            case .answered: return false
            }
        }
        if !isNew { continuation.resume(returning: Self.cancelled) }
        return isNew
    }

    /// Answers; without effect if it was cancelled.
    func answer(_ answer: Answer) { end()?.resume(returning: answer) }

    /// Answers that it was cancelled; false if nobody waited any more, or yet.
    func cancel() -> Bool {
        guard let continuation = end() else { return false }
        continuation.resume(returning: Self.cancelled)
        return true
    }

    private func end() -> CheckedContinuation<Answer, Never>? {
        state.withLock { state in
            defer { state = .answered }
            switch state {
            case .waiting(let continuation): return continuation
            case .new, .answered: return nil
            }
        }
    }

    private static let cancelled = Answer.failure(.temporary("cancelled"))
}
