// The deadline of a session, which begins anew with each command and still costs next to nothing. Each driver of a machine that
// knows times has one: of sessions in both directions, and of the services that are asked about clients.

package import NIOCore

/// One timer for a session. A deadline that moves further away costs a comparison: the timer fires too early then, and is
/// set again. Lives on the session's event loop; its owner calls ``cancel()`` when the session ends.
package struct SessionTimer: Sendable {
    /// When the session's time is over; `distantFuture`: never. What is written here does not move the timer: that is for
    /// deadlines that are looked up when it fires.
    package var deadline = NIODeadline.distantFuture
    private var scheduled: (task: Scheduled<Void>, at: NIODeadline)?

    /// No deadline.
    package init() {}

    /// The session has time until `deadline`.
    ///
    /// - Parameter fired: called on the event loop, not before the deadline or any that was set before; it is to ask
    ///   ``hasPassed(on:fired:)``.
    package mutating func set(
        _ deadline: NIODeadline, on eventLoop: any EventLoop, fired: @escaping () -> Void
    ) {
        self.deadline = deadline
        if let scheduled, scheduled.at <= deadline { return }
        scheduled?.task.cancel()
        scheduled = nil
        guard deadline < .distantFuture else { return }
        scheduled = (eventLoop.assumeIsolated().scheduleTask(deadline: deadline, fired), deadline)
    }

    /// The timer has fired: whether the time is over. If it is not, the timer is set again; if it is, there is no deadline
    /// until one is set.
    package mutating func hasPassed(on eventLoop: any EventLoop, fired: @escaping () -> Void) -> Bool {
        scheduled = nil
        guard deadline <= eventLoop.now else {
            set(deadline, on: eventLoop, fired: fired)
            return false
        }
        deadline = .distantFuture
        return true
    }

    /// Nothing fires any more.
    package mutating func cancel() {
        scheduled?.task.cancel()
        scheduled = nil
    }
}
