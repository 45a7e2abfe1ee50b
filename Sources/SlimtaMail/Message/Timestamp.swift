// A point in time: what the queue stores, what schedules are made of. Used by every target.
// Machines are handed a Timestamp; only drivers ask the clock (`Timestamp.now()`).

import Glibc

/// A point in wall-clock time, in milliseconds since 1970-01-01T00:00:00Z.
///
/// Wall clock, because it must mean the same after a restart and on another machine. The queue's own times are of this
/// type too, though not by this clock while it is being set: see QueueClock.
package struct Timestamp: Hashable, Comparable, Sendable {
    /// Milliseconds since the epoch.
    package var milliseconds: Int64

    /// That many milliseconds behind the epoch, or before it.
    package init(milliseconds: Int64) { self.milliseconds = milliseconds }

    /// Whole seconds since the epoch, rounded down.
    package var seconds: Int64 {
        let (quotient, remainder) = milliseconds.quotientAndRemainder(dividingBy: 1000)
        return remainder < 0 ? quotient - 1 : quotient
    }

    /// Whether `a` is earlier.
    package static func < (a: Timestamp, b: Timestamp) -> Bool { a.milliseconds < b.milliseconds }

    /// Later by `duration`, or earlier if that is negative; stays at the last or first representable time instead of
    /// overflowing.
    package static func + (a: Timestamp, duration: Duration) -> Timestamp {
        let (sum, overflow) = a.milliseconds.addingReportingOverflow(duration.milliseconds)
        return Timestamp(milliseconds: overflow ? (duration < .zero ? .min : .max) : sum)
    }

    /// The time from `b` to `a`.
    package static func - (a: Timestamp, b: Timestamp) -> Duration {
        let (difference, overflow) = a.milliseconds.subtractingReportingOverflow(b.milliseconds)
        return .milliseconds(overflow ? (a > b ? .max : .min) : difference)
    }
}

extension Duration {
    /// Whole milliseconds, rounded towards zero; the extremes of Int64 where it does not fit.
    package var milliseconds: Int64 {
        let (seconds, attoseconds) = components
        let (whole, overflow) = seconds.multipliedReportingOverflow(by: 1000)
        if overflow { return seconds < 0 ? .min : .max }
        let (sum, carried) = whole.addingReportingOverflow(attoseconds / 1_000_000_000_000_000)
        return carried ? (seconds < 0 ? .min : .max) : sum
    }
}

extension Timestamp {
    /// The time of the system's clock. For drivers; a machine is handed its time.
    package static func now() -> Timestamp {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Timestamp(milliseconds: Int64(time.tv_sec) * 1000 + Int64(time.tv_nsec) / 1_000_000)
    }

    /// What the local zone adds to UTC at this time, in seconds (east is positive).
    package var localOffset: Int {
        var time = time_t(seconds)
        var fields = tm()
        localtime_r(&time, &fields)
        return fields.tm_gmtoff
    }
}
