// Which hosts of a site answer, and when one that does not is tried again. A part of SiteMachine.

import SlimtaMail

/// What is known of the hosts of a site.
///
/// A host that failed is left alone for a minute, then two, up to ten; all others are used meanwhile. When its time has come,
/// one message finds out, and only one: the others need not wait for the answer. Likewise one message finds out about a host
/// that has not answered yet, as long as there is another one of the same preference. Never one of another preference: a
/// backup is not asked only because nobody knows its primary.
struct HostHealth<Host: Hashable & Sendable>: Sendable {
    private struct State: Sendable {
        /// In a row.
        var failures = 0
        /// Not tried before that. While one message finds out, that is when it should know. Of hosts that failed.
        var until: Timestamp?
        /// Attempts to connect that have not come to an end.
        var trying = 0
        var hasAnswered = false
    }

    static var firstWait: Duration { .seconds(60) }
    static var longestWait: Duration { .seconds(600) }
    /// As long as a connection may take.
    static var probeTime: Duration { .seconds(30) }

    private var states: [Host: State] = [:]

    /// The host that is to be tried now; nil: all wait. ``answered(_:)`` or ``failed(_:at:jitter:)`` is to follow.
    ///
    /// - Parameter groups: hosts by preference, those of each group in the order in which they are to be tried.
    mutating func choose(from groups: [[Host]], at now: Timestamp) -> Host? {
        for group in groups {
            if let host = choose(from: group, at: now) {
                states[host, default: State()].trying += 1
                return host
            }
        }
        return nil
    }

    private mutating func choose(from group: [Host], at now: Timestamp) -> Host? {
        var second: Host?
        for host in group {
            guard let state = states[host] else { return host }
            if let until = state.until {
                guard until <= now else { continue }
                states[host]?.until = now + Self.probeTime
                return host
            }
            if state.hasAnswered || state.trying == 0 { return host }
            second = second ?? host
        }
        return second
    }

    mutating func answered(_ host: Host) {
        let trying = states[host]?.trying ?? 0
        states[host] = State(trying: max(0, trying - 1), hasAnswered: true)
    }

    /// - Parameter jitter: -1 to 1, so that hosts that failed together are not tried together.
    mutating func failed(_ host: Host, at now: Timestamp, jitter: Double) {
        let known = states[host] ?? State()
        let wait = min(Self.longestWait, Self.firstWait * (1 << min(known.failures, 4)))
        states[host] = State(
            failures: known.failures + 1, until: now + wait * (1 + 0.1 * jitter), trying: max(0, known.trying - 1))
    }

    /// When the first of those that wait may be tried; nil: none waits.
    func earliest(of hosts: [Host]) -> Timestamp? { hosts.compactMap { states[$0]?.until }.min() }
}
