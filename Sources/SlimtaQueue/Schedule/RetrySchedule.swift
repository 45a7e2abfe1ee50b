// When a message that could not be delivered is tried again, and when that ends. Used by AttemptResolution and
// QueueMachine.

package import SlimtaMail

/// How old an envelope was when an attempt was made, in time that has passed.
package struct AttemptAge: Hashable, Sendable {
    /// When the attempt began. For what shares the failure of a probe, when that began.
    package var begun: Duration
    /// When the attempt ended.
    package var ended: Duration

    /// Ages since the envelope was accepted.
    package init(begun: Duration, ended: Duration) {
        self.begun = begun
        self.ended = ended
    }
}

/// `[queue] retry`, `expire` and `warn`.
package struct RetrySchedule: Hashable, Sendable {
    /// The waits after attempt 1, 2, ...; the last one repeats. Not empty.
    package var intervals: [Duration]
    /// Counted from acceptance: what is not delivered by then is given up.
    package var expire: Duration
    /// Counted from acceptance: the sender is then told of the delay; nil: never.
    package var warn: Duration?

    /// With the meaning of its properties; `intervals` must not be empty.
    package init(intervals: [Duration], expire: Duration, warn: Duration?) {
        precondition(!intervals.isEmpty)
        self.intervals = intervals
        self.expire = expire
        self.warn = warn
    }

    /// A TLS report that nobody takes for a day is of no use any more (RFC 8460 section 4.4: the next one has come by then).
    private static let lifetimeOfReports = Duration.seconds(86_400)

    /// What holds for an envelope.
    func of(_ envelope: Envelope) -> RetrySchedule {
        guard envelope.isTLSReport else { return self }
        return RetrySchedule(intervals: intervals, expire: min(expire, Self.lifetimeOfReports), warn: nil)
    }

    /// The time from the end of the last attempt, which was the `attempts`th, to the next one; nil if time is up. It is
    /// up only for an attempt that began when it was: while the machine was suspended, or an attempt lasted, the host may
    /// have come back. That attempt is made when time is up, however long the interval.
    ///
    /// - Parameter least: what the host asked for. It makes the wait longer, never shorter.
    package func wait(after attempts: UInt32, _ age: AttemptAge, least: Duration = .zero) -> Duration? {
        guard age.begun < expire else { return nil }
        let index = min(Int(max(attempts, 1)) - 1, intervals.count - 1)
        return min(max(intervals[index], least), max(expire - age.ended, .zero))
    }

    /// The time to the next look at an envelope for which there was no attempt: its site asked for that. Nil if time is up.
    package func wait(postponed: Duration, _ age: AttemptAge) -> Duration? {
        guard age.begun < expire else { return nil }
        return min(postponed, max(expire - age.ended, .zero))
    }

    /// The longest wait.
    package var longest: Duration { intervals.max() ?? intervals[0] }

    /// Whether it is time to tell the sender of the delay.
    package func isWarningDue(_ age: AttemptAge) -> Bool {
        guard let warn else { return false }
        return age.ended >= warn
    }

    /// When the sender of an envelope that is not attempted has to be told something: of the delay, else of the end.
    package func deadline(received: Timestamp, isWarned: Bool) -> Timestamp {
        received + (isEnd(isWarned: isWarned) ? expire : warn ?? expire)
    }

    /// Whether what the sender has to be told next is the end.
    package func isEnd(isWarned: Bool) -> Bool {
        guard let warn else { return true }
        return isWarned || warn >= expire
    }

    /// How long a destination that does not answer is left alone after `probes` probes in vain: a minute, then twice as
    /// long each time, up to a quarter of an hour; never longer than the longest wait of the schedule, and at first not
    /// longer than the first.
    package func probeInterval(after probes: Int) -> Duration {
        let longest = min(.seconds(900), longest)
        var interval = min(.seconds(60), intervals[0])
        for _ in 0..<probes where interval < longest { interval = interval * 2 }
        return min(interval, longest)
    }
}
