// An answer that is not waited for longer than a time. AuthenticationDialogue asks back ends by it, as a session has no deadline
// while it waits for us; DirectoryEdge waits by it for what it breaks off.

internal import NIOCore
import Synchronization

/// What `work` returns, or `late` if it has not within `time`: then it is cancelled, and what it still does is for nobody. An
/// answer that is there at once costs no timer, and no change of thread.
func answer<Answer: Sendable>(
    within time: TimeAmount, else late: Answer, _ work: @escaping @Sendable () async -> Answer
) async -> Answer {
    let first = FirstAnswer<Answer>()
    let task = Task.immediate { first.take(await work()) }
    if let answer = first.known { return answer }
    let timer = Task {
        guard (try? await Task.sleep(for: .nanoseconds(time.nanoseconds))) != nil else { return }
        first.take(late)
        task.cancel()
    }
    defer { timer.cancel() }
    return await withTaskCancellationHandler {
        await first.value
    } onCancel: {
        task.cancel()
    }
}

/// The first of several answers.
private final class FirstAnswer<Answer: Sendable>: Sendable {
    private enum State {
        case open
        case awaited(CheckedContinuation<Answer, Never>)
        case known(Answer)
    }

    private let state = Mutex(State.open)

    var known: Answer? {
        state.withLock { if case .known(let answer) = $0 { answer } else { nil } }
    }

    /// To be awaited once.
    var value: Answer {
        get async {
            await withCheckedContinuation { continuation in
                let known: Answer? = state.withLock { state in
                    if case .known(let answer) = state { return answer }
                    state = .awaited(continuation)
                    return nil
                }
                if let known { continuation.resume(returning: known) }
            }
        }
    }

    func take(_ answer: Answer) {
        let waiting: CheckedContinuation<Answer, Never>? = state.withLock { state in
            switch state {
            case .open:
                state = .known(answer)
                return nil
            case .awaited(let continuation):
                state = .known(answer)
                return continuation
            case .known: return nil
            }
        }
        waiting?.resume(returning: answer)
    }
}
