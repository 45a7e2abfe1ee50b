// How long the threads of a node wait before they try again.

/// Waits between tries that fail: longer and longer, and never for as long as somebody else's.
struct BackOff {
    private static let first = 100
    private static let longest = 5000
    private var milliseconds = 0

    /// Whether nothing has failed yet.
    var isFresh: Bool { milliseconds == 0 }

    /// It works.
    mutating func reset() { milliseconds = 0 }

    /// Something failed, and is tried again at once.
    mutating func skip() { milliseconds = max(milliseconds, Self.first) }

    /// Something failed: how long to wait.
    mutating func next() -> Duration {
        let wait = max(milliseconds, Self.first)
        milliseconds = min(wait * 2, Self.longest)
        return .milliseconds(Int.random(in: wait / 2...wait))
    }
}
