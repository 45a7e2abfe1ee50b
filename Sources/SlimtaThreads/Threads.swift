// A storage's own threads and how they wait. A disk and a database block for as long as they like: nothing of theirs may
// run on a thread that tasks or event loops need. Both storages have theirs from here.

import CLinux
import Synchronization

/// An event that one thread waits for and any thread signals; a signal without a waiter is kept.
///
/// `@unchecked Sendable`: the word is only touched by atomic operations and futex calls, and freed when nobody is left.
package final class Event: @unchecked Sendable {
    private let word: UnsafeMutablePointer<slimta_event>

    /// One that nobody has signalled yet.
    package init() {
        word = .allocate(capacity: 1)
        word.initialize(to: slimta_event())
    }

    deinit { word.deallocate() }

    /// Wakes who waits, or who waits next.
    package func signal() { slimta_event_signal(word) }

    /// Waits for a signal; false if `timeout` passed without one.
    @discardableResult
    package func wait(_ timeout: Duration? = nil) -> Bool {
        guard let timeout else { return slimta_event_wait(word, -1) == 1 }
        let (seconds, attoseconds) = timeout.components
        let (scaled, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        let nanoseconds = overflow ? Int64.max / 4 : min(scaled, .max / 4) + attoseconds / 1_000_000_000
        return slimta_event_wait(word, max(0, nanoseconds)) == 1
    }
}

/// A thread that could not be started.
package struct ThreadError: Error, Hashable, CustomStringConvertible {
    /// The thread's name.
    package var name: String
    /// The errno.
    package var code: Int32

    /// For the log and for operators.
    package var description: String { "start thread \(name): \(systemErrorText(code))" }
}

/// A thread of the system that runs one function.
package struct Thread: Sendable {
    private let handle: UInt64

    /// Starts it, with all signals blocked. Only a system out of threads or memory refuses. Linux shows the first 15 octets
    /// of its name.
    package init(_ name: String, _ body: @escaping @Sendable () -> Void) throws(ThreadError) {
        var handle: UInt64 = 0
        let context = Unmanaged.passRetained(Body(body))
        let result = slimta_thread_start(
            &handle, name, { Unmanaged<Body>.fromOpaque($0!).takeRetainedValue().run() }, context.toOpaque())
        if result < 0 {
            context.release()
            throw ThreadError(name: name, code: -result)
        }
        self.handle = handle
    }

    /// Starts one that nobody waits for.
    package static func detached(_ name: String, _ body: @escaping @Sendable () -> Void) throws(ThreadError) {
        slimta_thread_detach(try Thread(name, body).handle)
    }

    /// Nobody will wait for its end. Instead of ``join()``.
    package func detach() { slimta_thread_detach(handle) }

    /// Waits for its end. To be called once.
    package func join() { _ = slimta_thread_join(handle) }

    private final class Body: Sendable {
        let run: @Sendable () -> Void
        init(_ run: @escaping @Sendable () -> Void) { self.run = run }
    }
}

/// Milliseconds of a clock that nobody sets.
package func monotonicMilliseconds() -> Int64 { slimta_monotonic_nanoseconds() / 1_000_000 }

/// Nanoseconds of the same clock.
package func monotonicNanoseconds() -> Int64 { slimta_monotonic_nanoseconds() }

/// Some threads that run short blocking jobs, first come first served.
package final class BlockingPool: Sendable {
    private struct State {
        var jobs: [@Sendable () -> Void] = []
        var next = 0
        var sleeping: [Event] = []
        var isStopped = false
    }

    private let name: String
    private let state = Mutex(State())
    private let threads = Mutex<[Thread]>([])

    /// One whose threads are called `name`, a hyphen and a number.
    package init(_ name: String) { self.name = name }

    /// Starts the threads.
    package func start(_ count: Int) throws(ThreadError) {
        for number in 0..<count {
            let thread = try Thread("\(name)-\(number)") { self.work() }
            threads.withLock { $0.append(thread) }
        }
    }

    /// Has `job` run by one of the threads. After `stop`, the caller runs it.
    package func run(_ job: @escaping @Sendable () -> Void) {
        let (isStopped, sleeper): (Bool, Event?) = state.withLock { state in
            if state.isStopped { return (true, nil) }
            state.jobs.append(job)
            return (false, state.sleeping.popLast())
        }
        if isStopped { job() }
        sleeper?.signal()
    }

    /// Lets the jobs that were given finish, then ends the threads.
    package func stop() {
        let sleepers = state.withLock { state in
            state.isStopped = true
            return state.sleeping
        }
        for sleeper in sleepers { sleeper.signal() }
        let threads = self.threads.withLock { threads in
            defer { threads = [] }
            return threads
        }
        for thread in threads { thread.join() }
    }

    private enum Turn {
        case job(@Sendable () -> Void)
        case sleep
        case end
    }

    private func work() {
        let event = Event()
        while true {
            let turn: Turn = state.withLock { state in
                if state.next < state.jobs.count {
                    let job = state.jobs[state.next]
                    state.next += 1
                    if state.next == state.jobs.count || state.next >= 1024 {
                        state.jobs.removeFirst(state.next)
                        state.next = 0
                    }
                    return .job(job)
                }
                if state.isStopped { return .end }
                if !state.sleeping.contains(where: { $0 === event }) { state.sleeping.append(event) }
                return .sleep
            }
            switch turn {
            case .job(let job): job()
            case .sleep: event.wait()
            case .end: return
            }
        }
    }
}
