// Which sites let strangers wait, and how long (greylisting). A part of SiteMachine; what it knows of the site outlives it.

import SlimtaMail

/// What is known of a site's greylisting.
struct GreylistMemory: Sendable {
    /// What is worth keeping.
    struct Knowledge: Hashable, Sendable {
        /// The shortest wait after which somebody was let in; nil: nobody was yet.
        var shortest: Duration?
        /// When it last let somebody wait.
        var last: Timestamp
    }

    /// A sender and a recipient, as a site knows them.
    struct Pair: Hashable, Sendable {
        let sender: String
        let recipient: String
    }

    static let lifetime: Duration = .seconds(30 * 86_400)
    static let margin: Duration = .seconds(10)
    static let firstWait: Duration = .seconds(310)
    static let laterWait: Duration = .seconds(600)
    /// Pairs that wait at once, of one site. More are not told apart from those that come for the first time.
    static let capacity = 1000

    private(set) var knowledge: Knowledge?
    /// Since when who waits.
    private var waiting: [Pair: Timestamp] = [:]

    init(_ knowledge: Knowledge? = nil) { self.knowledge = knowledge }

    /// Whether it greylists, as far as it is known and not too long ago.
    func isKnown(at now: Timestamp) -> Bool { knowledge.map { now - $0.last <= Self.lifetime } ?? false }

    /// Whether it sees the pair for the first time.
    func isNew(_ pair: Pair) -> Bool { waiting[pair] == nil }

    /// The pair has to wait. When it may come back: after the wait that was enough before, else after five minutes and a
    /// little, for five minutes is what most want; and ten minutes later each time that was too soon.
    mutating func refused(_ pair: Pair, at now: Timestamp) -> Timestamp {
        let isFirst = waiting[pair] == nil
        if isFirst {
            if waiting.count >= Self.capacity { waiting = waiting.filter { now - $0.value < .seconds(86_400) } }
            if waiting.count < Self.capacity { waiting[pair] = now }
        }
        let known = isKnown(at: now) ? knowledge?.shortest : nil
        knowledge = Knowledge(shortest: known, last: now)
        return now + (isFirst ? known.map { $0 + Self.margin } ?? Self.firstWait : Self.laterWait)
    }

    /// The pair is let in, or needs not come back.
    mutating func accepted(_ pair: Pair, at now: Timestamp) {
        guard let since = waiting.removeValue(forKey: pair), now > since, let known = knowledge else { return }
        knowledge = Knowledge(shortest: min(now - since, known.shortest ?? now - since), last: known.last)
    }
}
