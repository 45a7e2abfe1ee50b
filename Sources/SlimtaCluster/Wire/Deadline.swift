// Until when something may take: whoever asks the database gives one to every question, for a server that hangs answers the
// keep-alives of TCP all the same.

import CLinux
import Synchronization

/// A moment by the monotonic clock until which something may take.
struct Deadline: Sendable {
    private let nanoseconds: Int64
    private let limit: DeadlineLimit?

    private init(nanoseconds: Int64, limit: DeadlineLimit?) {
        self.nanoseconds = nanoseconds
        self.limit = limit
    }

    /// As long as that from now on.
    /// - Parameter limit: what may draw it nearer while somebody waits for it.
    static func after(_ duration: Duration, limit: DeadlineLimit? = nil) -> Deadline {
        let (seconds, attoseconds) = duration.components
        // A century is as good as any longer time, and has room.
        let some = min(max(seconds, -1), 3_000_000_000) * 1_000_000_000 + attoseconds / 1_000_000_000
        return Deadline(nanoseconds: slimta_monotonic_nanoseconds() + some, limit: limit)
    }

    fileprivate var moment: Int64 { limit.map { min(nanoseconds, $0.moment) } ?? nanoseconds }

    /// What is left of it; negative: it has passed.
    var remaining: Duration { .nanoseconds(moment - slimta_monotonic_nanoseconds()) }

    /// Whether nothing is left.
    var hasPassed: Bool { moment <= slimta_monotonic_nanoseconds() }

    /// What is left as poll(2) takes it: rounded up, for it is not to return before. Not all of it at once where it may be
    /// drawn nearer: that wakes nobody.
    var milliseconds: Int32 {
        let left = max(0, moment - slimta_monotonic_nanoseconds())
        return Int32(min((left + 999_999) / 1_000_000, limit == nil ? Int64(Int32.max) : DeadlineLimit.period))
    }

    /// This one, or another that is earlier.
    func orAfter(_ duration: Duration) -> Deadline {
        let other = Deadline.after(duration, limit: limit)
        return other.nanoseconds < nanoseconds ? other : self
    }
}

/// Draws nearer all deadlines that have it: who is told to stop does not wait for what was asked before.
final class DeadlineLimit: Sendable {
    fileprivate static let period: Int64 = 50
    private let nanoseconds = Atomic<Int64>(.max)

    fileprivate var moment: Int64 { nanoseconds.load(ordering: .relaxed) }

    /// Nothing may take longer than that from now on.
    func end(after duration: Duration) {
        nanoseconds.store(Deadline.after(duration).moment, ordering: .relaxed)
    }

    /// Whether somebody has said so.
    var isSet: Bool { moment != .max }
}
