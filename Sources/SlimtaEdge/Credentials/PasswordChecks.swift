// The threads that hash passwords, and the line before them. The daemon makes one for as long as it runs: what is
// remembered of guessing outlives reloads. FileCredentials has its passwords checked here.

package import NIOCore
internal import NIOPosix
import Synchronization

/// The driver of `PasswordCheckMachine`: runs what it lets begin, and one timer for what it delays.
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
        var timer: (scheduled: Scheduled<Void>, at: ContinuousClock.Instant)?
    }

    private let pool: NIOThreadPool
    private let loop: any EventLoop
    private let state: Mutex<State>

    /// - Parameter threads: few, since each hash takes a core and megabytes for tens of milliseconds.
    /// - Parameter loop: runs the timer.
    package convenience init(threads: Int, loop: any EventLoop) {
        self.init(PasswordCheckMachine.Limits(threads: threads), loop: loop)
    }

    init(_ limits: PasswordCheckMachine.Limits, loop: any EventLoop) {
        pool = NIOThreadPool(numberOfThreads: limits.threads)
        self.loop = loop
        state = Mutex(State(machine: PasswordCheckMachine(limits)))
        pool.start()
    }

    /// Calls `completion` once, on any thread: at once if the check need not wait, is refused or known.
    func check(_ check: Check, _ work: Work, completion: @escaping Completion) {
        let verdict = state.withLock { state in
            let verdict = state.machine.asked(check, .now)
            switch verdict {
            case .begun, .delayed: state.work[check] = (work, [completion])
            case .joined: state.work[check]?.completions.append(completion)
            case .repeated, .refused: break
            }
            return verdict
        }
        switch verdict {
        case .begun: begin(check)
        case .delayed: armTimer()
        case .joined: break
        case .repeated: completion(.wrong)
        case .refused: completion(.unavailable("too many passwords of one address wait to be checked"))
        }
    }

    private func begin(_ check: Check) {
        guard let (work, _) = state.withLock({ $0.work[check] }) else { return }
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
            let result: PasswordCheckMachine.Result =
                switch answer {
                case .right: .right
                case .wrong: .wrong
                case .refused, .unavailable: .unavailable
                }
            state.machine.ended(check, result, .now)
            return state.work.removeValue(forKey: check)?.completions ?? []
        }
        for completion in completions { completion(answer) }
        hashNext()
    }

    private func armTimer() {
        state.withLock { state in
            guard let due = state.machine.nextDue else { return }
            if let timer = state.timer, timer.at <= due { return }
            state.timer?.scheduled.cancel()
            state.timer = (loop.scheduleTask(in: TimeAmount(due - .now)) { self.timerFired() }, due)
        }
    }

    private func timerFired() {
        let due = state.withLock { state in
            state.timer = nil
            var due: [Check] = []
            while let check = state.machine.due(.now) { due.append(check) }
            return due
        }
        for check in due { begin(check) }
        armTimer()
    }

    /// Ends the threads when what they do is done. What is delayed gets no answer any more.
    package func shutdown() async {
        state.withLock { $0.timer?.scheduled.cancel() }
        try? await pool.shutdownGracefully()
    }
}
