// What is to be done when the client of a request goes away before it is answered. HTTPConnection has one for each connection,
// HTTPRequest sets it: a connection is kept for any number of requests, and nothing of one is to be kept with it.

import Synchronization

/// Something that is done once, when the connection ends, unless it is taken back.
final class HTTPAbandonment: Sendable {
    private struct State {
        var action: (@Sendable () -> Void)?
        var isGone = false
    }

    private let state = Mutex(State())

    /// Replaces what there is; is done at once where the connection has ended.
    func set(_ action: @escaping @Sendable () -> Void) {
        let isGone = state.withLock { state in
            state.action = state.isGone ? nil : action
            return state.isGone
        }
        if isGone { action() }
    }

    /// The request is answered.
    func clear() { state.withLock { $0.action = nil } }

    /// The connection has ended.
    func gone() {
        let action = state.withLock { state in
            defer { state = State(action: nil, isGone: true) }
            return state.action
        }
        action?()
    }
}
