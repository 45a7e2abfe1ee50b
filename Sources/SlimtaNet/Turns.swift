// How many do something at once: the others wait in turn. Used by PipeRelay for its commands, and by OneShotExchange.

internal import NIOCore
internal import Synchronization

/// Turns, first come, first served. Safe to use from anywhere.
package final class Turns: Sendable {
    private struct State {
        var free: Int
        var waiting = CircularBuffer<(id: UInt64, turn: CheckedContinuation<Bool, Never>)>()
        /// Whose task was cancelled before they stood in line.
        var gone: Set<UInt64> = []
        var last: UInt64 = 0
    }

    private let state: Mutex<State>

    /// - Parameter count: how many have one at once.
    package init(_ count: Int) { state = Mutex(State(free: count)) }

    /// How many wait for one.
    package var waitingCount: Int { state.withLock { $0.waiting.count } }

    /// Does something in turn; nil: the task was cancelled before it had one.
    package func take<Value: Sendable>(_ body: @Sendable () async -> Value) async -> Value? {
        let id = state.withLock { state in
            state.last += 1
            return state.last
        }
        let hasTurn = await withTaskCancellationHandler {
            await withCheckedContinuation { wait(id, $0) }
        } onCancel: {
            leave(id)
        }
        // It may have been cancelled just behind that.
        state.withLock { _ = $0.gone.remove(id) }
        guard hasTurn else { return nil }
        let value = await body()
        give()
        return value
    }

    private func wait(_ id: UInt64, _ turn: CheckedContinuation<Bool, Never>) {
        let answer: Bool? = state.withLock { state in
            if state.gone.remove(id) != nil { return false }
            if state.free > 0 {
                state.free -= 1
                return true
            }
            state.waiting.append((id, turn))
            return nil
        }
        if let answer { turn.resume(returning: answer) }
    }

    private func leave(_ id: UInt64) {
        let turn = state.withLock { state -> CheckedContinuation<Bool, Never>? in
            if let index = state.waiting.firstIndex(where: { $0.id == id }) {
                return state.waiting.remove(at: index).turn
            }
            state.gone.insert(id)
            return nil
        }
        turn?.resume(returning: false)
    }

    private func give() {
        let next = state.withLock { state -> CheckedContinuation<Bool, Never>? in
            if let next = state.waiting.popFirst() { return next.turn }
            state.free += 1
            return nil
        }
        next?.resume(returning: true)
    }
}
