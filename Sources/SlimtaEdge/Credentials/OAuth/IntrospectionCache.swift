// What issuers said of tokens lately, so that an application that logs in for each message does not have them asked each
// time. A value without I/O; TokenVerifier drives it.

internal import SlimtaMail

/// Answers by the keyed digest of their token; the token itself is nowhere in it.
struct IntrospectionCache<Digest: Hashable & Sendable>: Sendable {
    typealias Instant = ContinuousClock.Instant

    private struct Entry: Weighed {
        var answer: IntrospectionAnswer
        var end: Instant

        /// Who is let in is kept before who is not; of those, who is longest.
        func weight(_ now: Instant) -> Int {
            let left = max(0, Int(clamping: (end - now).milliseconds))
            if case .login = answer { return left > 0 ? left + 100_000 : 0 }
            return left
        }
    }

    private var entries: BoundedTable<Digest, Entry>

    /// - Parameter capacity: answers at most.
    init(capacity: Int) { entries = BoundedTable(capacity: capacity) }

    /// What was said, if that holds yet.
    func answer(_ digest: Digest, _ now: Instant) -> IntrospectionAnswer? {
        entries[digest].flatMap { $0.end > now ? $0.answer : nil }
    }

    /// The issuer has said it now; it holds for `lifetime`.
    mutating func answered(_ digest: Digest, _ answer: IntrospectionAnswer, lifetime: Duration, _ now: Instant) {
        guard lifetime > .zero else { return }
        let entry = Entry(answer: answer, end: now + lifetime)
        entries.update(digest, default: entry, now: now) { $0 = entry }
    }
}
