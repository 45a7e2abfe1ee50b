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
        /// What hangs in the middle of a session: tried behind all others until then.
        var isLastUntil: Timestamp?
        /// When somebody was last to try it.
        var chosen: Timestamp?
    }

    static var firstWait: Duration { .seconds(60) }
    static var longestWait: Duration { .seconds(600) }
    /// Of which nothing was heard for so long, that is not known any more.
    private static var lifetime: Duration { .seconds(3600) }
    /// As long as a connection may take.
    static var probeTime: Duration { .seconds(30) }

    /// How long a host that failed is left alone, at first and at most.
    var waits = Self.firstWait...Self.longestWait

    private var states: [Host: State] = [:]

    /// The host that is to be tried now; nil: all wait. ``answered(_:)`` or ``failed(_:at:jitter:)`` is to follow.
    ///
    /// - Parameter groups: hosts by preference, those of each group in the order in which they are to be tried.
    mutating func choose(from groups: [[Host]], at now: Timestamp) -> Host? {
        for group in groups {
            if let host = choose(from: group, at: now) {
                states[host, default: State()].trying += 1
                states[host]?.chosen = now
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
                states[host]?.until = now + min(Self.probeTime, waits.upperBound)
                return host
            }
            if state.hasAnswered || state.trying == 0 { return host }
            second = second ?? host
        }
        return second
    }

    mutating func answered(_ host: Host) {
        let known = states[host] ?? State()
        states[host] = State(
            trying: max(0, known.trying - 1), hasAnswered: true, isLastUntil: known.isLastUntil, chosen: known.chosen)
    }

    /// Another one that tried it tells what came of it.
    mutating func released(_ host: Host) {
        if let known = states[host] { states[host]?.trying = max(0, known.trying - 1) }
    }

    /// The host that ``choose(from:at:)`` gave was not tried after all.
    mutating func untried(_ host: Host, at now: Timestamp) {
        guard let known = states[host] else { return }
        states[host]?.trying = max(0, known.trying - 1)
        if known.until != nil { states[host]?.until = now }
    }

    /// A session with the host came to nothing: others are tried before it until then.
    mutating func hung(_ host: Host, until: Timestamp) {
        states[host, default: State()].isLastUntil = max(until, states[host]?.isLastUntil ?? until)
    }

    /// Whether others are to be tried before it.
    func isLast(_ host: Host, at now: Timestamp) -> Bool { states[host]?.isLastUntil.map { now < $0 } ?? false }

    /// Whether it failed, and its time has not come.
    func waits(_ host: Host, at now: Timestamp) -> Bool { states[host]?.until.map { now < $0 } ?? false }

    /// The hosts that failed, and when each is tried again.
    var failed: [(host: Host, failures: Int, until: Timestamp)] {
        states.compactMap { host, state in state.until.map { (host, state.failures, $0) } }
    }

    /// All hosts are taken to answer, until they turn out not to.
    mutating func forget() {
        states = states.compactMapValues { $0.trying > 0 ? State(trying: $0.trying, chosen: $0.chosen) : nil }
    }

    /// Hosts that DNS no longer names, and what was begun and never told of, do not stay for ever.
    mutating func sweep(at now: Timestamp) {
        states = states.filter { _, state in
            let last = [state.until, state.isLastUntil, state.chosen].compactMap(\.self).max()
            return last.map { now - $0 < Self.lifetime } ?? false
        }
    }

    /// - Parameter jitter: -1 to 1, so that hosts that failed together are not tried together.
    mutating func failed(_ host: Host, at now: Timestamp, jitter: Double) {
        let known = states[host] ?? State()
        let wait = min(waits.upperBound, waits.lowerBound * (1 << min(known.failures, 4)))
        states[host] = State(
            failures: known.failures + 1, until: now + wait * (1 + 0.1 * jitter), trying: max(0, known.trying - 1),
            isLastUntil: known.isLastUntil, chosen: known.chosen)
    }

    /// When the first of those that wait may be tried; nil: none waits.
    func earliest(of hosts: [Host]) -> Timestamp? { hosts.compactMap { states[$0]?.until }.min() }
}
