// When an answer may leave the helper: how long PAM took would tell which names exist. A value; PAMConnection has the clock.

/// A wrong name is known at once, a wrong password when its hash was made. Answers to both leave when one to a right password
/// would: behind the longest that such took of late.
struct PAMPace: Sendable {
    /// Milliseconds that a right password took of late.
    private var lately: [Int64] = []

    /// Milliseconds that every other answer takes at least.
    static let least: Int64 = 100
    private static let memory = 16

    /// When the answer to a question that was asked at `begin` may leave; before `now`: it is late already.
    ///
    /// - Parameter isRight: whether the password was.
    mutating func due(from begin: Int64, _ now: Int64, isRight: Bool) -> Int64 {
        guard isRight else { return begin + max(Self.least, lately.max() ?? 0) }
        lately.append(now - begin)
        if lately.count > Self.memory { lately.removeFirst() }
        return now
    }
}
