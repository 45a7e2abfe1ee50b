// When a message that could not be delivered is tried again, and when that ends. Used by AttemptResolution and
// QueueMachine.

package import SlimtaMail

/// `[queue] retry`, `expire` and `warn`.
package struct RetrySchedule: Hashable, Sendable {
    /// The waits after attempt 1, 2, ...; the last one repeats. Not empty.
    package var intervals: [Duration]
    /// Counted from acceptance: what is not delivered by then is given up.
    package var expire: Duration
    /// Counted from acceptance: the sender is then told of the delay; nil: never.
    package var warn: Duration?

    package init(intervals: [Duration], expire: Duration, warn: Duration?) {
        precondition(!intervals.isEmpty)
        self.intervals = intervals
        self.expire = expire
        self.warn = warn
    }

    /// When the attempt after `attempts` attempts is due, or nil if time is up. The last attempt is made when time is up,
    /// however long the interval.
    package func nextAttempt(after attempts: UInt32, received: Timestamp, now: Timestamp) -> Timestamp? {
        let end = received + expire
        guard now < end else { return nil }
        let index = min(Int(max(attempts, 1)) - 1, intervals.count - 1)
        return min(now + intervals[index], end)
    }

    /// Whether it is time to tell the sender of the delay.
    package func isWarningDue(received: Timestamp, now: Timestamp) -> Bool {
        guard let warn else { return false }
        return now >= received + warn
    }

    /// When the sender of an envelope that is not attempted has to be told something: of the delay, else of the end.
    package func deadline(received: Timestamp, isWarned: Bool) -> Timestamp {
        if let warn, !isWarned { return received + min(warn, expire) }
        return received + expire
    }

    /// How long a destination that does not answer is left alone after `probes` probes in vain: a minute, then twice as
    /// long each time, up to a quarter of an hour; never longer than the longest wait of the schedule, and at first not
    /// longer than the first.
    package func probeInterval(after probes: Int) -> Duration {
        let longest = min(.seconds(900), intervals.max() ?? intervals[0])
        var interval = min(.seconds(60), intervals[0])
        for _ in 0..<probes where interval < longest { interval = interval * 2 }
        return min(interval, longest)
    }
}
