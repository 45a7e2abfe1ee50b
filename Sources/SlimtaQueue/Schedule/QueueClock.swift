// The time that the queue goes by: it never jumps, whatever is done to the system's clock. Read by the queue's driver;
// machines are handed what it says.

import Glibc
package import SlimtaMail

/// What the clocks say at one moment.
package struct ClockReading: Sendable {
    /// The system's clock: what people are told, and what is stored.
    package let wall: Timestamp
    /// The queue's own time: what the system's clock said when the queue was made, and the time that has passed since.
    package let now: Timestamp

    /// Both at the same moment.
    package init(wall: Timestamp, now: Timestamp) {
        self.wall = wall
        self.now = now
    }

    /// A time of the queue as the system's clock counts now.
    package func wall(_ time: Timestamp) -> Timestamp { wall + (time - now) }

    /// The reverse of ``wall(_:)``.
    package func own(_ time: Timestamp) -> Timestamp { now + (time - wall) }
}

/// Tells the time. Waits are counted by CLOCK_BOOTTIME, which goes on while the machine is suspended and which nobody can
/// set: a wall clock that is set back would make everything stand still, one that is set forward would end it.
package struct QueueClock: Sendable {
    /// Both clocks, now.
    package let read: @Sendable () -> ClockReading

    /// - Parameter read: its `now` never goes back.
    package init(_ read: @escaping @Sendable () -> ClockReading) { self.read = read }

    /// The clocks of the system.
    package init() {
        let start = Timestamp.now()
        let running = Self.running()
        read = { ClockReading(wall: .now(), now: start + (Self.running() - running)) }
    }

    /// The time since the machine was started, with that for which it was suspended.
    private static func running() -> Duration {
        var time = timespec()
        clock_gettime(CLOCK_BOOTTIME, &time)
        return .milliseconds(Int64(time.tv_sec) * 1000 + Int64(time.tv_nsec) / 1_000_000)
    }
}

/// How far the clocks that envelopes were accepted by were behind the queue's time, by small numbers: an entry of the
/// scheduler has room for no more. Used by QueueMachine.
struct ClockShifts {
    /// An entry has four bits for the number.
    private static let limit = 16
    /// Schedules count in minutes.
    private static let tolerance = Duration.seconds(60)

    private var shifts: [Duration] = [.zero]

    /// What is to be added to the time at which an envelope was accepted.
    subscript(number: UInt8) -> Duration { shifts[Int(number)] }

    /// The number for an envelope that was accepted just now, at `now`, and at `received` as its clock said. If a clock was
    /// set again and again there are no more numbers: then the next best.
    mutating func number(received: Timestamp, at now: Timestamp) -> UInt8 {
        let wanted = now - received
        var best = 0
        for index in shifts.indices where distance(shifts[index], wanted) < distance(shifts[best], wanted) {
            best = index
        }
        if distance(shifts[best], wanted) > Self.tolerance, shifts.count < Self.limit {
            best = shifts.count
            shifts.append(wanted)
        }
        return UInt8(best)
    }

    private func distance(_ a: Duration, _ b: Duration) -> Duration { a > b ? a - b : b - a }
}
