// The threads that hash passwords, and the line before them. The daemon has one for as long as it runs. FileCredentials has
// its passwords checked here.

internal import NIOPosix
import Synchronization

/// The driver of `PasswordCheckMachine`: runs what it lets begin.
package final class PasswordChecks: Sendable {
    typealias Completion = @Sendable (CredentialVerdict) -> Void
    typealias Check = PasswordCheckMachine.Check

    /// How the answer to a check is found. Both are called once at most.
    struct Work: Sendable {
        /// The answer, if it is known without hashing. Called on any thread; must not take long.
        var known: @Sendable () -> CredentialVerdict?
        /// The answer by hashing. Called on a thread of its own.
        var hashed: @Sendable () -> CredentialVerdict
    }

    private struct State {
        var machine: PasswordCheckMachine
        var work: [Check: (work: Work, completions: [Completion])] = [:]
    }

    private let pool: NIOThreadPool
    private let state: Mutex<State>

    /// - Parameter threads: few, since each hash takes a core and megabytes for tens of milliseconds.
    package init(threads: Int) {
        pool = NIOThreadPool(numberOfThreads: threads)
        state = Mutex(State(machine: PasswordCheckMachine(threads: threads)))
        pool.start()
    }

    /// Calls `completion` once, on any thread: at once if the answer is known.
    func check(_ check: Check, _ work: Work, completion: @escaping Completion) {
        let verdict = state.withLock { state in
            let verdict = state.machine.asked(check)
            state.work[check, default: (work, [])].completions.append(completion)
            return verdict
        }
        guard verdict == .begun else { return }
        if let answer = work.known() { return ended(check, answer) }
        state.withLock { $0.machine.lined(check) }
        hashNext()
    }

    private func hashNext() {
        while let (check, work) = state.withLock({ state -> (Check, Work)? in
            guard let check = state.machine.next(), let (work, _) = state.work[check] else { return nil }
            return (check, work)
        }) {
            pool.submit { _ in self.ended(check, work.hashed()) }
        }
    }

    private func ended(_ check: Check, _ answer: CredentialVerdict) {
        let completions = state.withLock { state in
            state.machine.ended(check)
            return state.work.removeValue(forKey: check)?.completions ?? []
        }
        for completion in completions { completion(answer) }
        hashNext()
    }

    /// Ends the threads when what they do is done.
    package func shutdown() async { try? await pool.shutdownGracefully() }
}
