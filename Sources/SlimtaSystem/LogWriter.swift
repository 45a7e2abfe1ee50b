// Writes log lines to a descriptor, off the threads that log: whoever reads them may be slow, and a write for each line
// costs more than the line. LineLogHandler gives it lines; the composition root starts its thread.

import CLinux
import Glibc
import Synchronization

/// Lines on their way to a descriptor: what is logged while one write runs is written by the next one.
///
/// Until `start` each line is written at once, by who logs it. Afterwards it is written some milliseconds later;
/// `flush` does not wait for that. Nothing is dropped: when a reader is slow, who logs waits.
package final class LogWriter: Sendable {
    /// Standard error. What it holds is written before the process exits.
    package static let standardError = LogWriter(STDERR_FILENO)

    /// How long a line may wait for others, in microseconds.
    private static let pause: UInt32 = 5000
    /// More than this does not wait in memory, in octets.
    private static let limit = 1 << 20

    private struct Pending {
        var lines: [UInt8] = []
        var hasThread = false
    }

    private let descriptor: Int32
    private let pending = Mutex(Pending())
    /// Held while writing, so that lines stay in their order; what it guards is empty memory for lines.
    private let output = Mutex<[UInt8]>([])
    private let wake = WakeWord()

    package init(_ descriptor: Int32) { self.descriptor = descriptor }

    /// From now on a thread writes. To be called once, after privileges are dropped: what those are, a thread inherits.
    package func start() throws(SystemError) {
        var handle: UInt64 = 0
        let result = slimta_thread_start(
            &handle, "log", { Unmanaged<LogWriter>.fromOpaque($0!).takeUnretainedValue().run() },
            Unmanaged.passRetained(self).toOpaque())
        if result < 0 { throw SystemError("cannot start the thread for log lines", number: -result) }
        slimta_thread_detach(handle)
        pending.withLock { $0.hasThread = true }
    }

    /// Appends a line; `isUrgent`: it is written when this returns.
    func write(_ line: [UInt8], isUrgent: Bool) {
        let (isFirst, mustFlush) = pending.withLock { pending in
            let isFirst = pending.lines.isEmpty
            pending.lines += line
            return (isFirst, isUrgent || !pending.hasThread || pending.lines.count > Self.limit)
        }
        if mustFlush { flush() } else if isFirst { wake.signal() }
    }

    /// Writes what was logged up to now.
    package func flush() {
        output.withLock { lines in
            pending.withLock { swap(&lines, &$0.lines) }
            var rest = lines[...]
            while !rest.isEmpty {
                let count = rest.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
                if count > 0 {
                    rest = rest.dropFirst(count)
                } else if count < 0, errno == EAGAIN {
                    var poll = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
                    _ = Glibc.poll(&poll, 1, -1)
                } else if count < 0, errno != EINTR {
                    // What cannot be written is lost: there is nowhere to say it.
                    break
                }
            }
            lines.removeAll(keepingCapacity: lines.capacity <= 1 << 16)
        }
    }

    private func run() {
        while true {
            wake.wait()
            // What comes in a moment goes with it: under load, one write for hundreds of lines.
            usleep(Self.pause)
            flush()
        }
    }
}

/// The futex that the thread sleeps on.
///
/// `@unchecked Sendable`: only atomic operations and futex calls touch it.
private final class WakeWord: @unchecked Sendable {
    private let word = UnsafeMutablePointer<slimta_event>.allocate(capacity: 1)

    init() { word.initialize(to: slimta_event(state: 0)) }

    deinit { word.deallocate() }

    func signal() { slimta_event_signal(word) }
    func wait() { _ = slimta_event_wait(word, -1) }
}
