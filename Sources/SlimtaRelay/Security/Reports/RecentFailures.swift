// Which failures without a connection were counted a moment ago. A part of TLSReports, without a clock.

import SlimtaMail

/// Failures that come before any connection, or without one: a policy that is not to be had, hosts that are not in it. Each
/// attempt meets them anew, while what is counted beside them is connections, which many messages share (RFC 8460 section 4.3):
/// one counts once a minute.
struct RecentFailures: Sendable {
    struct Failure: Hashable, Sendable {
        let domain: String
        let mxName: String?
        let policy: TLSPolicyType
        /// Without its reason: that is a stranger's text, and may be another each time.
        let kind: TLSResult.Kind
    }

    private static let time: Duration = .seconds(60)
    private static let capacity = 10_000

    private var times: [Failure: Timestamp] = [:]

    /// Whether it was not counted in the last minute. Then it is now.
    mutating func isNews(_ failure: Failure, at now: Timestamp) -> Bool {
        if let last = times[failure], Self.isRecent(last, now) { return false }
        if times.count >= Self.capacity {
            times = times.filter { Self.isRecent($0.value, now) }
            if times.count >= Self.capacity { times = [:] }
        }
        times[failure] = now
        return true
    }

    /// A clock that was set back begins anew.
    private static func isRecent(_ last: Timestamp, _ now: Timestamp) -> Bool { last <= now && now - last < time }
}
