// Wakes the queue's driver when something is due: one timer, however much waits.

import SlimtaMail
import Synchronization

/// Calls `fire` at the earliest time that it was set to. Set by the driver of the queue, after each look at what is due.
final class QueueTimer: Sendable {
    private struct State {
        var time: Timestamp?
        var task: Task<Void, Never>?
    }

    /// So long at most: a timer may stand still while the machine is suspended, and what it waits for does not.
    private static let longest = Duration.seconds(60)

    private let state = Mutex(State())
    private let fire: @Sendable () -> Void

    init(_ fire: @escaping @Sendable () -> Void) { self.fire = fire }

    deinit { cancel() }

    /// Fires at `time`, unless it fires before that anyway.
    /// - Parameter now: both are by the queue's clock.
    func set(_ time: Timestamp, now: Timestamp) {
        state.withLock { state in
            if let earlier = state.time, earlier <= time { return }
            state.task?.cancel()
            state.time = time
            let delay = min(max(time - now, .zero), Self.longest)
            state.task = Task { [weak self] in
                guard (try? await Task.sleep(for: delay)) != nil else { return }
                self?.fired(time)
            }
        }
    }

    /// Does not fire any more.
    func cancel() {
        state.withLock { state in
            state.task?.cancel()
            state = State()
        }
    }

    private func fired(_ time: Timestamp) {
        let isSet = state.withLock { state in
            guard state.time == time else { return false }
            state = State()
            return true
        }
        if isSet { fire() }
    }
}
