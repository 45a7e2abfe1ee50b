// Lookups that several sessions want at the same time: made once, for all of them. Lookups has one; LookupPlan asks it for
// what depends on the client alone, or on a name that many say.

internal import SlimtaDNS
internal import SlimtaRules
import Synchronization

/// Lookups that run, and who waits for them. There are never more of them than there are sessions that wait.
///
/// ```
/// first waiter ──▶ running ──▶ found: all waiters have it, and the next one begins anew
///                     └──────▶ cancelled when the last waiter has gone
/// ```
final class SharedLookups: Sendable {
    typealias Work = @Sendable (Interim) async -> LookupValue

    /// What is the same lookup. Clients of different places share none: each place has its own part of the line, and one
    /// that has filled it must not have others wait there.
    struct Key: Hashable, Sendable {
        let fact: Fact
        let name: QueryName
        let source: LookupLine.Source
    }

    private struct Running {
        let number: UInt64
        let interim: Interim
        let task: Task<Void, Never>
        var waiters: [UInt64: CheckedContinuation<LookupValue?, Never>] = [:]
    }

    private struct State {
        var running: [Key: Running] = [:]
        var next: UInt64 = 0

        mutating func number() -> UInt64 {
            defer { next += 1 }
            return next
        }
    }

    private let state = Mutex(State())

    /// How many run.
    var count: Int { state.withLock { $0.running.count } }

    /// What `work` finds, or the one that runs already for `key`; nil if the task is cancelled, which does not end the lookup
    /// while others wait for it. What is known before it is complete is in `interim`.
    func value(of key: Key, _ interim: Interim, _ work: @escaping Work) async -> LookupValue? {
        let waiter = state.withLock { $0.number() }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                join(key, waiter, continuation, interim, work)
                // It was cancelled before it waited: whoever cancelled it has not found it.
                if Task.isCancelled { leave(key, waiter) }
            }
        } onCancel: {
            leave(key, waiter)
        }
    }

    private func join(
        _ key: Key, _ waiter: UInt64, _ continuation: CheckedContinuation<LookupValue?, Never>, _ interim: Interim,
        _ work: @escaping Work
    ) {
        state.withLock { state in
            var running = state.running[key] ?? start(key, state.number(), work)
            running.waiters[waiter] = continuation
            interim.follow(running.interim)
            state.running[key] = running
        }
    }

    /// Not a child of whoever comes first: it outlives them.
    private func start(_ key: Key, _ number: UInt64, _ work: @escaping Work) -> Running {
        let interim = Interim()
        let task = Task { ended(key, number, await work(interim)) }
        return Running(number: number, interim: interim, task: task)
    }

    private func ended(_ key: Key, _ number: UInt64, _ value: LookupValue) {
        let waiters = state.withLock { state in
            state.running[key]?.number == number ? state.running.removeValue(forKey: key)?.waiters : nil
        }
        for waiter in waiters?.values.map({ $0 }) ?? [] { waiter.resume(returning: value) }
    }

    private func leave(_ key: Key, _ waiter: UInt64) {
        let (continuation, task) = state.withLock { state in
            let continuation = state.running[key]?.waiters.removeValue(forKey: waiter)
            let isWanted = continuation == nil || state.running[key]?.waiters.isEmpty == false
            return (continuation, isWanted ? nil : state.running.removeValue(forKey: key)?.task)
        }
        continuation?.resume(returning: nil)
        task?.cancel()
    }
}
