// When a token is asked for, used and thrown away: the rules of one identity, without clock and without I/O. TokenSource does
// what they say.

import NIOCore

/// One token for all who need it.
///
/// ```
///           need                 answered(token)
/// empty ───────────▶ fetching ────────────────────▶ valid ── its end is near ──▶ empty
///   ▲                   │  later: 5 s ... 5 min       │
///   │                   │  refused: 5 min             │ rejected by the host
///   └── time has come ──┴──▶ waiting ◀────────────────┴─▶ empty, once; again: waiting, 5 min
/// ```
struct TokenMachine {
    enum Need: Hashable {
        case use(String)
        /// Ask, and tell ``answered(_:at:)``.
        case fetch
        /// Somebody asks.
        case wait
        /// There is none for the time being: why.
        case none(String)
    }

    /// What is to be told of a change.
    enum News: Hashable {
        case nothing
        /// The operator has something to put right.
        case trouble(String)
        /// That is over.
        case over
    }

    private static let leastPause = TimeAmount.seconds(5)
    private static let longestPause = TimeAmount.minutes(5)
    /// Where the endpoint does not say how long a token is good.
    private static let usualLifetime = Duration.seconds(300)

    private let margin: Duration
    private var token: (text: String, end: NIODeadline)?
    private var isFetching = false
    private var pause: (end: NIODeadline, why: String)?
    private var failures = 0
    /// The host has thrown out a token, and has taken none since.
    private var isRejected = false
    /// What the operator was told, and has not put right yet.
    private(set) var trouble: String?

    /// - Parameter margin: how long before its end a token is no longer used.
    init(margin: Duration) { self.margin = margin }

    /// The token that sessions begin with now.
    var current: String? { token?.text }

    mutating func need(at now: NIODeadline) -> Need {
        if let token, now < token.end { return .use(token.text) }
        if isFetching { return .wait }
        if let pause, now < pause.end { return .none(pause.why) }
        isFetching = true
        return .fetch
    }

    /// The answer to what was asked at `asked`.
    mutating func answered(_ answer: TokenAnswer, asked: NIODeadline, at now: NIODeadline) -> News {
        isFetching = false
        switch answer {
        case .token(let new):
            let lifetime = new.lifetime ?? Self.usualLifetime
            // One that is good for less than twice the margin is to be used all the same.
            token = (new.text, asked + TimeAmount(lifetime - min(margin, lifetime / 2)))
            (pause, failures) = (nil, 0)
            // A new token that the host has not seen may be as bad as the last one.
            return isRejected ? .nothing : settle()
        case .later(let why, let after):
            failures += 1
            let grown = Self.leastPause * (1 << min(failures - 1, 6))
            let wanted = after.map { TimeAmount($0) } ?? .zero
            pause = (now + max(min(grown, Self.longestPause), min(wanted, .hours(1))), why)
            return .nothing
        case .refused(let why):
            pause = (now + Self.longestPause, why)
            return complain(why)
        }
    }

    /// A host has taken the token.
    mutating func accepted(_ text: String) -> News {
        guard isRejected, text == token?.text else { return .nothing }
        isRejected = false
        return settle()
    }

    /// A host does not take the token: another one may be better, and is asked for once.
    mutating func rejected(_ text: String, at now: NIODeadline) -> News {
        // Another attempt has seen to it.
        guard text == token?.text else { return .nothing }
        token = nil
        guard isRejected else {
            isRejected = true
            return .nothing
        }
        let why = "the host refuses new tokens as well"
        pause = (now + Self.longestPause, why)
        return complain(why)
    }

    private mutating func complain(_ why: String) -> News {
        defer { trouble = why }
        return trouble == nil ? .trouble(why) : .nothing
    }

    private mutating func settle() -> News {
        defer { trouble = nil }
        return trouble == nil ? .nothing : .over
    }
}
