// The signals that steer the daemon: a handler only notes them in a pipe, a thread of its own reads them there. The
// composition root blocks them first of all and then iterates over the stream.

import CLinux
import Glibc
import Synchronization

/// What the daemon is told by a signal.
package enum Signal: Hashable, Sendable, CaseIterable {
    /// SIGTERM: drain and stop.
    case terminate
    /// SIGINT: the same, from a terminal.
    case interrupt
    /// SIGHUP: reload.
    case reload
    /// SIGQUIT: the same, as other daemons take it.
    case quit

    /// The system's number.
    package var number: Int32 {
        switch self {
        case .terminate: SIGTERM
        case .interrupt: SIGINT
        case .reload: SIGHUP
        case .quit: SIGQUIT
        }
    }
}

/// Keeps signals from ending the process, and tells them instead.
package enum Signals {
    /// The end of the pipe in which caught signals are; -1 before ``block()``.
    private static let reader = Atomic<Int32>(-1)

    /// From now on each ``Signal`` waits for ``stream()`` instead of ending the process; all others that would end it and
    /// are not the program's own fault are ignored, SIGPIPE and SIGXFSZ come as errors of write. Where the process is
    /// the daemon, signals have been held since its first instruction, and take effect now.
    ///
    /// To be called once, first of all in `main`.
    package static func block() throws(SystemError) {
        let numbers = Signal.allCases.map(\.number)
        var descriptor: Int32 = -1
        let error = linux_catch_signals(numbers, numbers.count, &descriptor)
        guard error == 0 else { throw SystemError("cannot catch signals", number: error, code: .failed) }
        reader.store(descriptor, ordering: .releasing)
    }

    /// The signals, from ``block()`` on, for as long as the process lives. To be called once.
    package static func stream() throws(SystemError) -> AsyncStream<Signal> {
        let descriptor = reader.load(ordering: .acquiring)
        precondition(descriptor >= 0, "signals were not blocked")
        let (stream, continuation) = AsyncStream.makeStream(of: Signal.self, bufferingPolicy: .bufferingOldest(64))
        try startThread {
            // libdispatch blocks signals in its threads, and may have made this one's parent: one thread must take them.
            var set = sigset_t()
            sigemptyset(&set)
            for signal in Signal.allCases { sigaddset(&set, signal.number) }
            pthread_sigmask(SIG_UNBLOCK, &set, nil)
            while case let number = linux_next_signal(descriptor), number > 0 {
                if let signal = Signal.allCases.first(where: { $0.number == number }) { continuation.yield(signal) }
            }
            continuation.finish()
        }
        return stream
    }
}

/// Runs `body` on a new, detached thread.
private func startThread(_ body: @escaping @Sendable () -> Void) throws(SystemError) {
    var attributes = pthread_attr_t()
    pthread_attr_init(&attributes)
    defer { pthread_attr_destroy(&attributes) }
    pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
    pthread_attr_setstacksize(&attributes, 256 << 10)

    let box = Unmanaged.passRetained(ThreadBody(body))
    var thread = pthread_t()
    let error = pthread_create(
        &thread, &attributes,
        { argument in
            if let argument { Unmanaged<ThreadBody>.fromOpaque(argument).takeRetainedValue().run() }
            return nil
        }, box.toOpaque())
    guard error == 0 else {
        box.release()
        throw SystemError("cannot start a thread", number: error)
    }
}

/// A closure on its way through C.
private final class ThreadBody: Sendable {
    let run: @Sendable () -> Void

    init(_ run: @escaping @Sendable () -> Void) { self.run = run }
}
