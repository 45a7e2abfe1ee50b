// How slow a message may come in or go out. A value without a clock: times are told to it. Used by the drivers of both
// sides, SlimtaEdge's and the HTTP server's for what a client sends, SlimtaRelay's for what a server takes.

package import NIOCore

/// The deadline of a transfer, which moves on with what was transferred: a transfer may take as long as it needs while it
/// goes on.
///
/// It begins `stallTimeout` ahead. Each octet buys the time that it may take at the least rate, and time cannot be hoarded
/// beyond `stallTimeout`. So silence ends the transfer after `stallTimeout`; whoever transfers at the least rate or more
/// never comes to the end; whoever dribbles comes there in time, however the octets are spread.
package struct TransferWatch: Equatable, Sendable {
    /// What is asked of a transfer.
    package struct Limits: Hashable, Sendable {
        /// Octets a second; 0: any octet is enough.
        package var leastRate: Int
        /// How long nothing at all may move.
        package var stallTimeout: TimeAmount

        /// `leastRate` in octets a second.
        package init(leastRate: Int, stallTimeout: TimeAmount) {
            self.leastRate = leastRate
            self.stallTimeout = stallTimeout
        }
    }

    private let limits: Limits
    /// When the transfer is to be ended, if nothing more moves until then.
    package private(set) var deadline: NIODeadline

    /// The transfer begins.
    package init(_ limits: Limits, at now: NIODeadline) {
        self.limits = limits
        deadline = now + limits.stallTimeout
    }

    /// `octets` were transferred since the last call.
    package mutating func moved(_ octets: Int, at now: NIODeadline) {
        guard octets > 0 else { return }
        let furthest = now + limits.stallTimeout
        let (nanoseconds, overflow) = octets.multipliedReportingOverflow(by: 1_000_000_000)
        guard limits.leastRate > 0, !overflow else { return deadline = furthest }
        deadline = min(furthest, deadline + .nanoseconds(Int64(nanoseconds / limits.leastRate)))
    }

    /// For so long it was our turn, and is not any more: the peer gets that time as well.
    package mutating func wasHeld(for time: TimeAmount) { deadline = deadline + time }

    /// It was our turn until now: the peer gets its whole time again.
    package mutating func resumed(at now: NIODeadline) { deadline = now + limits.stallTimeout }
}
