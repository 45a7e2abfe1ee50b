// The signals that steer the daemon, read from a descriptor by a thread of their own: nothing runs in a handler.
// The composition root blocks them first of all and then iterates over the stream.

import CLinux
import Glibc

/// What the daemon is told by a signal.
package enum Signal: Hashable, Sendable, CaseIterable {
    /// SIGTERM: drain and stop.
    case terminate
    /// SIGINT: the same, from a terminal.
    case interrupt
    /// SIGHUP: reload.
    case reload
    /// SIGUSR1.
    case user1

    /// The system's number.
    package var number: Int32 {
        switch self {
        case .terminate: SIGTERM
        case .interrupt: SIGINT
        case .reload: SIGHUP
        case .user1: SIGUSR1
        }
    }
}

/// Blocks signals and reads them.
package enum Signals {
    /// Blocks all of ``Signal`` and ignores SIGPIPE and SIGXFSZ, which then come as errors of write.
    ///
    /// To be called in `main` before any thread exists: threads inherit the mask.
    package static func block() throws(SystemError) {
        var set = all
        let error = pthread_sigmask(SIG_BLOCK, &set, nil)
        guard error == 0 else { throw SystemError("cannot block signals", number: error) }
        for number in [SIGPIPE, SIGXFSZ] {
            let error = linux_ignore_signal(number)
            guard error == 0 else { throw SystemError("cannot ignore signal \(number)", number: error) }
        }
    }

    /// The signals as they come, for as long as the process lives. To be called once, after ``block()``.
    package static func stream() throws(SystemError) -> AsyncStream<Signal> {
        let reader = try SignalReader()
        let (stream, continuation) = AsyncStream.makeStream(of: Signal.self, bufferingPolicy: .bufferingOldest(64))
        try startThread {
            while let signal = reader.next() { continuation.yield(signal) }
            continuation.finish()
        }
        return stream
    }

    fileprivate static var all: sigset_t {
        var set = sigset_t()
        sigemptyset(&set)
        for signal in Signal.allCases { sigaddset(&set, signal.number) }
        return set
    }
}

/// Waits for signals, one at a time.
struct SignalReader: ~Copyable, Sendable {
    private let descriptor: Int32

    init() throws(SystemError) {
        var set = Signals.all
        var descriptor: Int32 = -1
        let error = linux_signal_descriptor(&set, &descriptor)
        guard error == 0 else { throw SystemError("cannot read signals", number: error) }
        self.descriptor = descriptor
    }

    deinit { close(descriptor) }

    /// Blocks until the next signal; nil if the descriptor failed.
    func next() -> Signal? {
        let number = linux_next_signal(descriptor)
        return Signal.allCases.first { $0.number == number }
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
