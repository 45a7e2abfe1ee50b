// The threads that read, each with a connection: libpq blocks, and nothing that tasks or event loops need may wait for a
// database. ClusterReader has them.

import SlimtaQueue
import SlimtaThreads
import Synchronization

/// Runs jobs with connections, first come first served.
///
/// None is asked that leads to a server which a failover has left behind: what it says may be long over, and what it is told
/// is told to nobody. That there was one is known as soon as any thread of the node has met the new server.
///
/// A connection is made when it is needed. One that turns out to be gone is made again at once, for what was asked is asked
/// again: a job reads, or what it writes can be written twice. If that fails, jobs fail without a wait until it is time
/// for the next try, which one thread makes.
final class ReaderPool: Sendable {
    /// What one thread has.
    private struct Seat {
        let connection: PostgresConnection
        /// Of the server that it leads to, or an earlier one.
        let timeline: Int64
    }

    /// Makes a connection by the deadline.
    typealias Connect = @Sendable (Deadline) throws(PostgresError) -> PostgresConnection

    private typealias Job = @Sendable (inout Seat?) -> Void

    /// Why there is no connection.
    private struct Trouble {
        var reason: StorageError
        /// Of the next try.
        var time: ContinuousClock.Instant
        var wait: Duration
        /// Whether a thread is at it.
        var isTried = false
    }

    private struct State {
        var jobs: [Job] = []
        var next = 0
        var sleeping: [Event] = []
        var threads = 0
        var isClosed = false
        var trouble: Trouble?
        var ends: [CheckedContinuation<Void, Never>] = []
    }

    private let makeConnection: Connect
    private let timeline: @Sendable () -> Int64
    private let threads: Int
    private let patience: Duration
    private let keepsConnections: Bool
    private let state = Mutex(State())

    /// - Parameters:
    ///   - patience: how long a job may take, with what it waits for its turn.
    ///   - keepsConnections: false: for rare jobs, each of which gets a new one.
    ///   - timeline: of the latest server that the node has met, as `connect` notes it; 0: it has met none.
    init(
        threads: Int, patience: Duration, keepsConnections: Bool = true,
        timeline: @escaping @Sendable () -> Int64 = { 0 }, connect: @escaping Connect
    ) {
        makeConnection = connect
        self.timeline = timeline
        self.threads = threads
        self.patience = patience
        self.keepsConnections = keepsConnections
    }

    /// Starts the threads; no connection is made yet.
    func start() throws(ThreadError) {
        for number in 0..<threads {
            state.withLock { $0.threads += 1 }
            do throws(ThreadError) {
                try Thread.detached("queue-read-\(number)") { self.work() }
            } catch {
                state.withLock { $0.threads -= 1 }
                throw error
            }
        }
    }

    /// What `job` makes of a connection. It is done by the deadline, and may be run a second time with a new connection.
    func run<Value: Sendable>(
        _ job: @escaping @Sendable (PostgresConnection, Deadline) throws -> Value
    ) async throws(StorageError) -> Value {
        let result = await withCheckedContinuation { continuation in
            submit(job) { continuation.resume(returning: $0) }
        }
        return try result.get()
    }

    /// The same for who does not wait: `completion` is called once, on a thread of the pool, or before this returns if it
    /// is closed.
    func submit<Value: Sendable>(
        _ job: @escaping @Sendable (PostgresConnection, Deadline) throws -> Value,
        completion: @escaping @Sendable (Result<Value, StorageError>) -> Void
    ) {
        let deadline = Deadline.after(patience)
        let (isTaken, sleeper): (Bool, Event?) = state.withLock { state in
            if state.isClosed || state.threads == 0 { return (false, nil) }
            state.jobs.append { completion(self.perform(job, deadline, &$0)) }
            return (true, state.sleeping.popLast())
        }
        if !isTaken { completion(.failure(.closed)) }
        sleeper?.signal()
    }

    /// The database answers: the next job finds out, whenever the next try was to be.
    func tryAgain() { state.withLock { $0.trouble?.time = .now } }

    /// Whether it was told to end: a long job ends then.
    var isClosed: Bool { state.withLock { $0.isClosed } }

    /// Jobs that wait fail with `.closed`; returns when those that run have ended, and with them threads and connections.
    func close() async {
        let sleepers = state.withLock { state in
            state.isClosed = true
            defer { state.sleeping = [] }
            return state.sleeping
        }
        for sleeper in sleepers { sleeper.signal() }
        await withCheckedContinuation { continuation in
            let hasEnded = state.withLock { state in
                if state.threads > 0 { state.ends.append(continuation) }
                return state.threads == 0
            }
            if hasEnded { continuation.resume() }
        }
    }

    // MARK: On the threads

    private enum Turn {
        case job(Job)
        case sleep
        case end
    }

    private func work() {
        let event = Event()
        var seat: Seat?
        while true {
            switch turn(event) {
            case .job(let job):
                job(&seat)
                if !keepsConnections { seat = nil }
            case .sleep: event.wait()
            case .end:
                seat = nil
                let ends = state.withLock { state in
                    state.threads -= 1
                    if state.threads > 0 { return [CheckedContinuation<Void, Never>]() }
                    defer { state.ends = [] }
                    return state.ends
                }
                for end in ends { end.resume() }
                return
            }
        }
    }

    private func turn(_ event: Event) -> Turn {
        state.withLock { state in
            if state.next < state.jobs.count {
                let job = state.jobs[state.next]
                state.next += 1
                if state.next == state.jobs.count || state.next >= 1024 {
                    state.jobs.removeFirst(state.next)
                    state.next = 0
                }
                return .job(job)
            }
            if state.isClosed { return .end }
            if !state.sleeping.contains(where: { $0 === event }) { state.sleeping.append(event) }
            return .sleep
        }
    }

    private func perform<Value>(
        _ job: (PostgresConnection, Deadline) throws -> Value, _ deadline: Deadline, _ seat: inout Seat?
    ) -> Result<Value, StorageError> {
        while true {
            if isClosed { return .failure(.closed) }
            if deadline.hasPassed { return .failure(.away("no reader was free in time")) }
            if let old = seat, old.timeline < timeline() { seat = nil }
            let isNew = seat == nil
            do {
                let current = try seat ?? connect(by: deadline)
                seat = current
                return .success(try job(current.connection, deadline))
            } catch {
                let isBroken = seat?.connection.isBroken ?? true
                let isPassing = (error as? PostgresError).map { $0.isPassing || isBroken } ?? false
                if isPassing || isBroken { seat = nil }
                // It may have been idle for hours, and its server have changed.
                if isPassing, !isNew, !deadline.hasPassed { continue }
                return .failure(StorageError(reading: error))
            }
        }
    }

    private func connect(by deadline: Deadline) throws -> Seat {
        let reason = state.withLock { state -> StorageError? in
            guard let trouble = state.trouble else { return nil }
            if trouble.isTried || trouble.time > .now { return trouble.reason }
            state.trouble?.isTried = true
            return nil
        }
        if let reason { throw reason }
        do throws(PostgresError) {
            let before = timeline()
            let connection = try makeConnection(deadline)
            state.withLock { $0.trouble = nil }
            // Somebody may have met a later server meanwhile.
            return Seat(connection: connection, timeline: before == 0 ? timeline() : before)
        } catch {
            state.withLock { state in
                let wait = min((state.trouble?.wait ?? .milliseconds(100)) * 2, .seconds(5))
                state.trouble = Trouble(
                    reason: StorageError(error), time: .now + wait * Double.random(in: 0.5...1), wait: wait)
            }
            throw error
        }
    }
}
