// The threads that hash passwords, and the line before them. The daemon has one for as long as it runs. FileCredentials has
// its passwords checked here.

package import Logging
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
        var work: [Check: (work: Work, completions: [Int: Completion])] = [:]
        /// Of the last who asked.
        var number = 0
        /// When it was last told that the line is full.
        var told: ContinuousClock.Instant?
    }

    private let pool: NIOThreadPool
    private let state: Mutex<State>
    private let logger: Logger

    /// - Parameters:
    ///   - threads: few, since each hash takes a core and megabytes for tens of milliseconds.
    ///   - logger: is told that the line is full.
    package convenience init(threads: Int, logger: Logger) { self.init(threads: threads, waiting: nil, logger) }

    /// - Parameter waiting: as PasswordCheckMachine has it.
    init(threads: Int, waiting: Int?, _ logger: Logger) {
        self.logger = logger
        pool = NIOThreadPool(numberOfThreads: threads)
        state = Mutex(State(machine: PasswordCheckMachine(threads: threads, waiting: waiting)))
        pool.start()
    }

    /// How many checks wait to be hashed.
    var waiting: Int { state.withLock { $0.machine.waiting } }

    /// How many clients wait for an answer.
    var asking: Int { state.withLock { $0.work.values.reduce(0) { $0 + $1.completions.count } } }

    /// Calls `completion` once, on any thread: at once if the answer is known. Returns what ``leave(_:_:)`` wants to know.
    @discardableResult
    func check(_ check: Check, _ work: Work, completion: @escaping Completion) -> Int {
        let (verdict, number) = state.withLock { state in
            let verdict = state.machine.asked(check)
            state.number &+= 1
            state.work[check, default: (work, [:])].completions[state.number] = completion
            return (verdict, state.number)
        }
        guard verdict == .begun else { return number }
        if let answer = work.known() {
            ended(check, answer)
            return number
        }
        let (lost, completions, isNews) = state.withLock { state -> (Check?, [Completion], Bool) in
            guard let lost = state.machine.lined(check) else { return (nil, [], false) }
            let now = ContinuousClock.now
            let isNews = state.told.map { now - $0 >= Self.silence } ?? true
            if isNews { state.told = now }
            return (lost, state.work.removeValue(forKey: lost).map { Array($0.completions.values) } ?? [], isNews)
        }
        if isNews {
            logger.warning("too many passwords wait to be checked", metadata: ["waiting": "\(waiting)"])
        }
        if lost != nil { for completion in completions { completion(Self.noRoom) } }
        hashNext()
        return number
    }

    /// Who has asked is gone: what is not being hashed yet is not any more, unless others ask for the same.
    func leave(_ check: Check, _ number: Int) {
        let completion = state.withLock { state -> Completion? in
            guard let completion = state.work[check]?.completions[number] else { return nil }
            guard state.work[check]?.completions.count == 1 else {
                return state.work[check]?.completions.removeValue(forKey: number)
            }
            guard state.machine.left(check) else { return nil }
            state.work[check] = nil
            return completion
        }
        completion?(.unavailable("the client is gone"))
    }

    private static let noRoom = CredentialVerdict.unavailable("too many passwords wait to be checked")
    /// Told again after that at the earliest.
    private static let silence = Duration.seconds(60)

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
            return state.work.removeValue(forKey: check).map { Array($0.completions.values) } ?? []
        }
        for completion in completions { completion(answer) }
        hashNext()
    }

    /// Ends the threads when what they do is done.
    package func shutdown() async { try? await pool.shutdownGracefully() }
}
