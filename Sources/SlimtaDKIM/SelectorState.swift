// The life of a key: a machine without I/O and without a clock. It is told what DNS answered and what time it is; it says when
// DNS is to be asked again, and what has changed. SelectorTable has all of them, and decides between them.
//
//   made ──record right──▶ seen ──settled──▶ active ──successor active──▶ retiring ──aged──▶ old ──record gone──▶ deleted
//    ▲                      │ wrong              │ wrong for 15 min, asked three times
//    └──────────────────────┘                    └──▶ failing ──record right──▶ active
//
// *Settled*: DNS was right for as long as somebody who asked too early may remember that there was nothing (RFC 2308).
// *Aged*: nothing that it has signed is under way any more, and the record has stayed for those who verify late.
// An answer that is none (SERVFAIL, a timeout, a forgery) never changes a state: what was known last holds.
//
// Waits are between points of wall-clock time, for they outlive the daemon. If the clock is set back they begin anew, so that
// none is shortened by it; if it is set forward, a state still takes as many answers as there are questions in its wait.

package import SlimtaMail

/// How long things take.
package struct SelectorTimes: Hashable, Sendable {
    /// How long what was signed counts, or waits in the queue if that is longer.
    package var signatures: Duration
    /// How long a record stays beyond that.
    package var margin: Duration = .seconds(5 * 86400)
    /// The least and the most that a record has to be right before it is signed with.
    package var settling: ClosedRange<Duration> = .seconds(3600)...(.seconds(86400))
    /// How often it has to have been right, at the least: the questions of the shortest wait.
    package var settlingAnswers = 5
    /// How long, and how often, a record has to be wrong before it is no longer signed with.
    package var failing: Duration = .seconds(900)
    /// See ``failing``.
    package var failingAnswers = 3
    /// How long what was known last holds without a word; then one wrong answer is enough.
    package var staleness: Duration = .seconds(86400)

    /// With the usual waits. `signatures`: the longer one of a signature's life and a message's in the queue.
    package init(signatures: Duration) { self.signatures = signatures }

    /// After so many answers of a kind in a row, or after none: the time to the next question. That makes 0, 1, 5 and 15
    /// minutes, then each hour.
    static func pause(after answers: Int) -> Duration {
        switch answers {
        case ...1: .seconds(60)
        case 2: .seconds(240)
        case 3: .seconds(600)
        default: longestPause
        }
    }

    static let longestPause: Duration = .seconds(3600)

    /// Nothing leaves later than that: clients may say 30 days.
    static let longestAhead: Duration = .seconds(31 * 86400)
}

/// What is known of one key.
package struct SelectorState: Hashable, Sendable {
    /// Where it is in its life.
    package enum Phase: String, Hashable, Sendable, CaseIterable {
        /// There is a key. Nobody can verify with it yet.
        case made
        /// The record is there. Some resolvers may still remember that it was not.
        case seen
        /// Mail is signed with it.
        case active
        /// It was active, and the record is gone or wrong.
        case failing
        /// A newer one signs. Mail that this one has signed is still under way.
        case retiring
        /// Nobody needs it. When the record is gone, too, the key is deleted.
        case old
    }

    /// The same answer, again and again.
    struct Row: Hashable {
        /// Nil: DNS has not answered yet.
        var isRight: Bool?
        /// Since when.
        var since: Timestamp
        /// How often.
        var count = 0
        /// The last time.
        var last: Timestamp
        /// When the domain calls its key a test (`t=y`).
        var isTesting = false
    }

    /// Something to log, or to do.
    package enum Notice: Hashable, Sendable {
        /// A new phase; why, in words.
        case changed(from: Phase, to: Phase, why: String)
        /// The record is no longer right, and still needed: of a key that is active or retiring. In words.
        case wrong(String)
        /// DNS does not say, since that time; what it said last holds.
        case stale(since: Timestamp, why: String)
        /// Receivers are told to treat mail as unsigned.
        case testing
        /// Record and mail are gone: the key is to be deleted.
        case done
    }

    /// What happened.
    package enum Event: Hashable, Sendable {
        /// DNS answered. How long the answer, and one that there is nothing (the zone's SOA, RFC 2308 section 5), may be
        /// remembered; nil: DNS was asked, and did not say.
        case answered(DKIMRecordVerdict, ttl: Duration, negativeTTL: Duration?)
        /// A message was signed with it.
        case signed
        /// One that was signed with it leaves then, and not at once.
        case leaves(Timestamp)
        /// A newer one is active.
        case succeeded
        /// Time has passed.
        case clock
        /// DNS is to be asked now: the configuration was read again, or somebody wants to know.
        case ask
    }

    /// Whose.
    package let name: SelectorName
    /// Which key has the name, as ``DKIMPublicKey/print``: what is known of one holds for no other. Nil: it was not noted yet.
    package internal(set) var key: String?
    /// Where it is in its life.
    package internal(set) var phase = Phase.made
    /// Since when.
    package internal(set) var since: Timestamp
    /// When the key was made, or first known: the newest is the one that is to sign.
    package internal(set) var made: Timestamp
    /// When it signed for the last time.
    package internal(set) var lastSigned: Timestamp?
    /// When the last one leaves of those that it signed to leave later; nil: there was none.
    package internal(set) var leaving: Timestamp?
    /// When DNS is to be asked next.
    package internal(set) var nextQuestion: Timestamp
    var row: Row
    /// How long the record has to be right before it is signed with.
    var settling: Duration
    /// How often DNS did not say in a row.
    var unanswered = 0
    /// Whether DNS has not said anything for so long that it was told.
    package internal(set) var isStale = false

    /// A new key. DNS is asked at once.
    package init(_ name: SelectorName, made time: Timestamp, _ times: SelectorTimes, key: String? = nil) {
        (self.name, self.key) = (name, key)
        (since, made, nextQuestion) = (time, time, time)
        row = Row(since: time, last: time)
        settling = times.settling.lowerBound
    }

    /// What DNS said last: nil, nothing yet.
    package var isRecordRight: Bool? { row.isRight }
    /// Since when it says so, and when it said so for the last time.
    package var recordSince: Timestamp { row.since }
    /// See ``recordSince``.
    package var recordLast: Timestamp { row.last }
    /// Whether receivers are told that signatures mean nothing yet.
    package var isTesting: Bool { row.isTesting }

    /// When the next phase comes by time alone, if DNS says nothing else until then: of a key that settles or retires.
    package func nextPhase(_ times: SelectorTimes) -> Timestamp? {
        switch phase {
        case .seen: row.since + settling
        case .retiring: max(since, lastSigned ?? since, leaving ?? since) + times.signatures + times.margin
        case .made, .active, .failing, .old: nil
        }
    }

    /// Whether DNS is to be asked. A time that is further away than any pause was said by a clock that has been set.
    package func isDue(at now: Timestamp) -> Bool {
        nextQuestion <= now || nextQuestion > now + SelectorTimes.longestPause
    }

    /// Whether it has ever been one that signs.
    var wasActive: Bool {
        switch phase {
        case .made, .seen: false
        case .active, .failing, .retiring, .old: true
        }
    }
}
