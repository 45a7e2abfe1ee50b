// Writes what is logged, off the threads that log: whoever reads it may be slow, and a write for each line costs more than
// the line. LineLogHandler gives it lines, JournalLogHandler events; the composition root starts its threads.

import CLinux
import Glibc
import Synchronization

/// Lines on their way to a descriptor, or events on their way to the journal: what is logged while one write runs is written
/// by the next one.
///
/// Until `start` each line is written at once, by who logs it. Afterwards a line is written some milliseconds later, an
/// event at once; `flush` does not wait for that. Nothing is dropped: when a reader is slow, who logs waits.
package final class LogWriter: Sendable {
    /// Standard error. What it holds is written before the process exits.
    package static let standardError = LogWriter(STDERR_FILENO)

    /// The journal, over sd_journal_sendv(3); what it is given are JournalFrames.
    static let journal = LogWriter(.journal)

    private enum Target {
        case descriptor(Int32)
        case journal

        /// How long a line may wait for others, in microseconds. Events are not written together.
        var pause: UInt32 {
            switch self {
            case .descriptor: 5000
            case .journal: 0
            }
        }

        /// The thread's.
        var name: String {
            switch self {
            case .descriptor: "log"
            case .journal: "journal"
            }
        }
    }

    /// More than this does not wait in memory, in octets.
    private static let limit = 1 << 20

    private struct Pending {
        var lines: [UInt8] = []
        var hasThread = false
    }

    private let target: Target
    private let pending = Mutex(Pending())
    /// Held while writing, so that lines stay in their order; what it guards is empty memory for lines.
    private let output = Mutex<[UInt8]>([])
    private let wake = WakeWord()

    /// Lines for an open descriptor, which stays the caller's.
    package convenience init(_ descriptor: Int32) { self.init(.descriptor(descriptor)) }

    private init(_ target: Target) { self.target = target }

    /// From now on a thread writes. To be called once, after privileges are dropped: what those are, a thread inherits.
    package func start() throws(SystemError) {
        var handle: UInt64 = 0
        let result = slimta_thread_start(
            &handle, target.name, { Unmanaged<LogWriter>.fromOpaque($0!).takeUnretainedValue().run() },
            Unmanaged.passRetained(self).toOpaque())
        if result < 0 { throw SystemError("cannot start the thread for log lines", number: -result) }
        slimta_thread_detach(handle)
        pending.withLock { $0.hasThread = true }
    }

    /// Appends a line; `isUrgent`: it is written when this returns.
    func write(_ line: [UInt8], isUrgent: Bool) {
        let (isFirst, mustFlush, isFull) = pending.withLock { pending in
            let isFirst = pending.lines.isEmpty
            pending.lines += line
            return (isFirst, isUrgent || !pending.hasThread, pending.lines.count > Self.limit)
        }
        if mustFlush { return flush() }
        if isFirst { wake.signal() }
        // Until the write is over that is in progress: the thread then takes all that is here.
        if isFull { output.withLock { _ in } }
    }

    /// Writes what was logged up to now.
    package func flush() {
        output.withLock { lines in
            pending.withLock { swap(&lines, &$0.lines) }
            switch target {
            case .descriptor(let descriptor): Self.write(lines, to: descriptor)
            case .journal: JournalFrame.send(&lines)
            }
            lines.removeAll(keepingCapacity: lines.capacity <= 1 << 16)
        }
    }

    private static func write(_ lines: [UInt8], to descriptor: Int32) {
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
    }

    private func run() {
        while true {
            wake.wait()
            // What comes in a moment goes with it: under load, one write for hundreds of lines.
            if target.pause > 0 { usleep(target.pause) }
            flush()
        }
    }
}

/// The futex that the thread sleeps on.
///
/// `@unchecked Sendable`: only atomic operations and futex calls touch it.
private final class WakeWord: @unchecked Sendable {
    private let word = UnsafeMutablePointer<slimta_event>.allocate(capacity: 1)

    init() { word.initialize(to: slimta_event()) }

    deinit { word.deallocate() }

    func signal() { slimta_event_signal(word) }
    func wait() { _ = slimta_event_wait(word, -1) }
}
