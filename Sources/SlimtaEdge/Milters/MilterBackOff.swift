// When a milter that could not be asked is tried again: the rule of MilterService, without connections. A value; time comes in
// with each event.

internal import NIOCore

/// Whether connections to a milter are made.
///
///     asked ──cannot be asked──▶ left alone for 1 s ──▶ one tries ──cannot──▶ left alone for 2, 4 … 30 s ──▶ …
///       ▲                                                   │
///       └─────────────────── it answers ────────────────────┘
///
/// Not asked can be who takes no connection, and who does not answer our offer: of what comes later a client may be the cause.
struct MilterBackOff: Sendable {
    private enum State: Hashable {
        case asked
        case alone(until: NIODeadline)
        /// One session is on its way to see; for so long, if nothing is heard of it.
        case trying(until: NIODeadline)
    }

    private static let most = TimeAmount.seconds(30)
    /// Longer than a connection and an answer may take.
    private static let trial = TimeAmount.minutes(2)

    private var state = State.asked
    private var pause = TimeAmount.seconds(1)

    /// Whether it is left alone.
    var isOpen: Bool { state != .asked }

    /// A session wants a connection: whether it may have one.
    mutating func mayTry(_ now: NIODeadline) -> Bool {
        switch state {
        case .asked: return true
        case .alone(let until), .trying(let until):
            guard until <= now else { return false }
            state = .trying(until: now + Self.trial)
            return true
        }
    }

    /// It could not be asked. Returns whether that is news.
    mutating func failed(_ now: NIODeadline) -> Bool {
        switch state {
        case .asked:
            pause = .seconds(1)
            state = .alone(until: now + pause)
            return true
        case .trying:
            pause = min(pause * 2, Self.most)
            state = .alone(until: now + pause)
        // Those that were on their way when it was found out.
        case .alone: break
        }
        return false
    }

    /// It has answered. Returns whether that is news.
    mutating func answered() -> Bool {
        defer { state = .asked }
        return state != .asked
    }

    /// A session is over before it was known whether the milter answers: another one may try.
    mutating func abandoned(_ now: NIODeadline) {
        if case .trying = state { state = .alone(until: now) }
    }
}
