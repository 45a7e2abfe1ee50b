// The driver of LookupLineMachine: tasks that ask name servers wait here for their turn. Lookups has two.

import Synchronization

/// A bounded line of tasks.
final class LookupLine: Sendable {
    typealias Source = LookupLineMachine.Source

    /// What a task is doing that has not had its turn.
    private enum Entry {
        /// It is about to wait.
        case new
        case waiting(CheckedContinuation<Bool, Never>)
        /// It was cancelled before it waited.
        case cancelled
    }

    private struct State {
        var machine: LookupLineMachine
        var entries: [UInt64: Entry] = [:]
        var next: UInt64 = 0
    }

    private let state: Mutex<State>
    /// Called when one finds no room.
    private let full: @Sendable () -> Void

    init(_ limits: LookupLineMachine.Limits, full: @escaping @Sendable () -> Void = {}) {
        state = Mutex(State(machine: LookupLineMachine(limits)))
        self.full = full
    }

    /// How many run, how many wait.
    var counts: (running: Int, waiting: Int) { state.withLock { ($0.machine.running, $0.machine.waiting) } }

    /// Runs `body` when it is its turn; nil without having run it if there is no room to wait, or if the task is cancelled
    /// while it waits.
    func run<Value: Sendable>(for source: Source, _ body: @Sendable () async -> Value) async -> Value? {
        guard await turn(source) else { return nil }
        let value = await body()
        ended(source)
        return value
    }

    private func turn(_ source: Source) async -> Bool {
        let number = state.withLock { state in
            defer { state.next += 1 }
            state.entries[state.next] = .new
            return state.next
        }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { (continuation: CheckedContinuation<Bool, Never>) in
                wait(.init(number: number, source: source), continuation)
            }
        } onCancel: {
            cancel(.init(number: number, source: source))
        }
    }

    private func wait(_ ticket: LookupLineMachine.Ticket, _ continuation: CheckedContinuation<Bool, Never>) {
        let (verdict, isFull) = state.withLock { state -> (Bool?, Bool) in
            if case .cancelled = state.entries[ticket.number] {
                state.entries[ticket.number] = nil
                return (false, false)
            }
            switch state.machine.asked(ticket) {
            case .go:
                state.entries[ticket.number] = nil
                return (true, false)
            case .wait:
                state.entries[ticket.number] = .waiting(continuation)
                return (nil, false)
            case .full:
                state.entries[ticket.number] = nil
                return (false, true)
            }
        }
        if isFull { full() }
        if let verdict { continuation.resume(returning: verdict) }
    }

    private func cancel(_ ticket: LookupLineMachine.Ticket) {
        let continuation = state.withLock { state -> CheckedContinuation<Bool, Never>? in
            switch state.entries[ticket.number] {
            case .new:
                state.entries[ticket.number] = .cancelled
                return nil
            case .waiting(let continuation):
                state.entries[ticket.number] = nil
                _ = state.machine.cancelled(ticket)
                return continuation
            // It had its turn: what runs ends by itself.
            case .cancelled, nil: return nil
            }
        }
        continuation?.resume(returning: false)
    }

    private func ended(_ source: Source) {
        let next = state.withLock { state -> CheckedContinuation<Bool, Never>? in
            guard let ticket = state.machine.ended(source), case .waiting(let next) = state.entries[ticket.number]
            else { return nil }
            state.entries[ticket.number] = nil
            return next
        }
        next?.resume(returning: true)
    }
}
