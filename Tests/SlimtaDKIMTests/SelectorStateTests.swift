// The life of a key: each event in each phase, the waits, clocks that are set.

import SlimtaMail
import Testing

@testable import SlimtaDKIM

/// A selector, and the time.
struct Life {
    static let start = Timestamp(milliseconds: 1_800_000_000_000)
    static let times = SelectorTimes(signatures: .seconds(7 * 86400))
    static let right = SelectorState.Event.answered(.right(isTesting: false), ttl: .seconds(300), negativeTTL: .zero)
    static let absent = SelectorState.Event.answered(.absent, ttl: .zero, negativeTTL: .seconds(300))
    static let unknown = SelectorState.Event.answered(.unknown("SERVFAIL"), ttl: .zero, negativeTTL: .zero)

    var state: SelectorState
    var now = start

    init(_ selector: String = "r1") {
        state = SelectorState(
            SelectorName(domain: "example.com", selector: selector, algorithm: .rsaSHA256)!, made: Self.start,
            Self.times)
    }

    /// One that has come to a phase on the shortest way.
    init(in phase: SelectorState.Phase) {
        self.init()
        switch phase {
        case .made: break
        case .seen: take(Self.right)
        case .active: answer(.right(isTesting: false), until: .active)
        case .failing:
            self = Life(in: .active)
            answer(.absent, until: .failing)
        case .retiring:
            self = Life(in: .active)
            take(.succeeded)
        case .old:
            self = Life(in: .retiring)
            now = now + .seconds(12 * 86400)
            take(.clock)
        }
    }

    @discardableResult mutating func take(_ event: SelectorState.Event) -> [SelectorState.Notice] {
        state.take(event, at: now, Self.times)
    }

    /// Asks whenever it is time, and gets the same answer, until there is another phase; the minutes between.
    @discardableResult mutating func answer(_ verdict: DKIMRecordVerdict, until phase: SelectorState.Phase) -> [Int] {
        let began = now
        var minutes: [Int] = []
        for _ in 0..<100 where state.phase != phase {
            if !state.isDue(at: now) { now = state.nextQuestion }
            minutes.append(Int((now - began).milliseconds / 60_000))
            take(.answered(verdict, ttl: .seconds(300), negativeTTL: .seconds(300)))
        }
        return minutes
    }

    mutating func wait(_ duration: Duration) { now = now + duration }
}

@Suite struct SelectorStateTests {
    /// Each event in each phase: the phase that follows.
    @Test(arguments: [
        (SelectorState.Phase.made, Life.right, SelectorState.Phase.seen), (.made, Life.absent, .made),
        (.made, Life.unknown, .made), (.made, .signed, .made),
        (.made, .leaves(Life.start), .made), (.made, .succeeded, .made), (.made, .clock, .made),
        (.made, .ask, .made),
        (.seen, Life.right, .seen), (.seen, Life.absent, .made), (.seen, Life.unknown, .seen), (.seen, .signed, .seen),
        (.seen, .succeeded, .seen), (.seen, .clock, .seen), (.seen, .ask, .seen),
        (.active, Life.right, .active), (.active, Life.absent, .active), (.active, Life.unknown, .active),
        (.active, .signed, .active), (.active, .succeeded, .retiring), (.active, .clock, .active),
        (.active, .ask, .active),
        (.failing, Life.right, .active), (.failing, Life.absent, .failing), (.failing, Life.unknown, .failing),
        (.failing, .signed, .failing), (.failing, .succeeded, .retiring), (.failing, .clock, .failing),
        (.failing, .ask, .failing),
        (.retiring, Life.right, .retiring), (.retiring, Life.absent, .retiring), (.retiring, Life.unknown, .retiring),
        (.retiring, .signed, .retiring), (.retiring, .succeeded, .retiring), (.retiring, .clock, .retiring),
        (.retiring, .ask, .retiring),
        (.old, Life.right, .old), (.old, Life.absent, .old), (.old, Life.unknown, .old), (.old, .signed, .old),
        (.old, .succeeded, .old), (.old, .clock, .old), (.old, .ask, .old),
    ])
    func eachEvent(_ phase: SelectorState.Phase, _ event: SelectorState.Event, _ expected: SelectorState.Phase) {
        var life = Life(in: phase)
        #expect(life.state.phase == phase)
        life.wait(.seconds(60))
        let notices = life.take(event)
        #expect(life.state.phase == expected)
        let changes = notices.filter { if case .changed = $0 { true } else { false } }
        #expect(changes.count == (phase == expected ? 0 : 1))
        if phase == .old, event == Life.absent { #expect(notices == [.done]) }
        if event == .ask { #expect(life.state.nextQuestion == life.now && life.state.isDue(at: life.now)) }
        if event == .signed { #expect(life.state.lastSigned == life.now) }
    }

    /// Each kind of record that is not right counts as such.
    @Test(arguments: [
        DKIMRecordVerdict.absent, .several(2), .malformed(.value("v")), .revoked, .otherKey,
    ])
    func wrong(_ verdict: DKIMRecordVerdict) {
        var life = Life(in: .seen)
        life.take(.answered(verdict, ttl: .zero, negativeTTL: .zero))
        #expect(life.state.phase == .made)
        life = Life(in: .active)
        life.wait(.seconds(3600))
        // Asked at once and after 1, 5 and 15 minutes; then it does not sign any more.
        #expect(life.answer(verdict, until: .failing) == [0, 1, 5, 15])
        life = Life(in: .old)
        // Whether the key may go: not as long as something of it is there.
        let isGone = verdict == .absent || verdict == .revoked || verdict == .otherKey
        #expect(life.take(.answered(verdict, ttl: .zero, negativeTTL: .zero)) == (isGone ? [.done] : []))
    }

    /// Nobody says how long others may remember that there was nothing: the longest wait, or until somebody does.
    @Test(arguments: [nil, 1, 30]) func theWaitIsNotKnown(_ known: Int?) {
        var life = Life()
        var hours = 0
        while life.state.phase != .active, hours < 100 {
            let negative: Duration? = (known ?? 100) <= hours ? .seconds(7200) : nil
            for _ in 0..<5 {
                life.take(.answered(.right(isTesting: false), ttl: .seconds(300), negativeTTL: negative))
                #expect(life.state.nextQuestion > life.now && life.state.nextQuestion <= life.now + .seconds(3600))
            }
            if life.state.phase == .active { break }
            life.wait(.seconds(3600))
            hours += 1
        }
        #expect(life.state.phase == .active && hours == (known == 1 ? 2 : 24))
    }

    @Test func questions() {
        var life = Life()
        #expect(life.state.isDue(at: life.now))
        // Nothing is there: 0, 1, 5, 15 minutes, then each hour.
        var asked: [Int] = []
        for _ in 0..<7 {
            life.now = life.state.nextQuestion
            asked.append(Int((life.now - Life.start).milliseconds / 60_000))
            life.take(Life.absent)
        }
        #expect(asked == [0, 1, 5, 15, 75, 135, 195])
        #expect(!life.state.isDue(at: life.now) && life.state.isDue(at: life.state.nextQuestion))
        // It is there: the same, and the question that ends the wait.
        life.now = life.state.nextQuestion
        #expect(life.answer(.right(isTesting: false), until: .active) == [0, 1, 5, 15, 60])
        #expect(life.state.nextQuestion == life.now + .seconds(3600))
        life.take(Life.right)
        #expect(life.state.nextQuestion == life.now + .seconds(3600))
    }

    /// As long as somebody may remember that there was nothing: TTL and the zone's SOA, an hour at least, a day at most.
    @Test(arguments: [(0, 0, 60), (300, 7200, 120), (10_800, 0, 180), (0, 604_800, 1440), (604_800, 5, 1440)])
    func settling(_ ttl: Int, _ negative: Int, _ minutes: Int) {
        var life = Life()
        life.take(.answered(.absent, ttl: .zero, negativeTTL: .seconds(negative)))
        life.now = life.state.nextQuestion
        let began = life.now
        for _ in 0..<60 where life.state.phase != .active {
            life.now = max(life.now, life.state.nextQuestion)
            life.take(.answered(.right(isTesting: false), ttl: .seconds(ttl), negativeTTL: .zero))
        }
        #expect(life.now - began == .seconds(minutes * 60))
    }

    /// Wrong once while it settles: all of the wait again.
    @Test func settlingAgain() {
        var life = Life(in: .seen)
        life.wait(.seconds(3000))
        life.take(Life.right)
        life.wait(.seconds(60))
        life.take(Life.absent)
        #expect(life.state.phase == .made)
        life.wait(.seconds(60))
        #expect(life.answer(.right(isTesting: false), until: .active).last == 60)
    }

    /// Nobody knows: it is asked again soon, nothing changes, and after a day it is told, once.
    @Test(arguments: SelectorState.Phase.allCases) func nobodyKnows(_ phase: SelectorState.Phase) {
        var life = Life(in: phase)
        if phase == .made { life.take(Life.absent) }
        let (before, began) = (life.state, life.now)
        var stale: [Timestamp] = []
        for _ in 0..<60 {
            life.now = max(life.now, life.state.nextQuestion)
            for notice in life.take(Life.unknown) {
                #expect(notice == .stale(since: before.row.last, why: "SERVFAIL"))
                stale.append(life.now)
            }
        }
        #expect(life.state.phase == phase && life.state.isRecordRight == before.isRecordRight)
        #expect(stale.count == 1 && life.now - began > .seconds(86400))
        // An answer that is one ends it, and it can be told again.
        life.take(phase == .seen ? Life.right : Life.unknown)
        if phase == .seen { #expect(!life.state.isStale) }
    }

    /// Answers that are none do not help to settle, nor do they end a row of wrong ones.
    @Test func unknownBetween() {
        var life = Life(in: .seen)
        for minute in 1...120 {
            life.now = Life.start + .seconds(minute * 60)
            life.take(Life.unknown)
        }
        #expect(life.state.phase == .seen)
        life = Life(in: .active)
        for event in [Life.absent, Life.unknown, Life.absent, Life.unknown, Life.absent] {
            life.wait(.seconds(200))
            life.take(event)
        }
        #expect(life.state.phase == .active)
        life.wait(.seconds(200))
        life.take(Life.absent)
        #expect(life.state.phase == .failing)
    }

    /// One server's mistake.
    @Test func wrongForAMoment() {
        var life = Life(in: .active)
        life.wait(.seconds(3600))
        #expect(life.take(Life.absent) == [.wrong("the record is not there")])
        life.wait(.seconds(60))
        #expect(life.take(Life.absent) == [])
        life.wait(.seconds(240))
        life.take(Life.right)
        life.wait(.seconds(86399))
        // Long ago does not count.
        #expect(life.take(Life.absent) == [.wrong("the record is not there")])
        #expect(life.state.phase == .active)
        // Three times within a minute is no 15 minutes; one time after 15 minutes is no three times.
        life.take(Life.absent)
        life.take(Life.absent)
        #expect(life.state.phase == .active)
        life = Life(in: .active)
        life.take(Life.absent)
        life.wait(.seconds(5000))
        life.take(Life.absent)
        #expect(life.state.phase == .active)
        life.take(Life.absent)
        #expect(life.state.phase == .failing)
        #expect(life.take(Life.right) == [.changed(from: .failing, to: .active, why: "the record is right again")])
    }

    /// Nobody has looked for a day: the first answer counts. Silence is none.
    @Test func wrongAfterADay() {
        var life = Life(in: .active)
        life.wait(.seconds(86399))
        #expect(life.take(Life.absent) == [.wrong("the record is not there")])
        life = Life(in: .active)
        life.wait(.seconds(86400))
        life.take(Life.unknown)
        #expect(life.state.phase == .active)
        #expect(life.take(Life.absent) == [.changed(from: .active, to: .failing, why: "the record is not there")])
        // It signs again as soon as DNS is right.
        life.wait(.seconds(60))
        life.take(Life.right)
        #expect(life.state.phase == .active)
        life = Life(in: .active)
        life.take(Life.absent)
        life.wait(.seconds(86400))
        life.take(Life.absent)
        #expect(life.state.phase == .failing)
    }

    /// A signature's life and five days after the last one; from the end of its being active if it signed nothing.
    @Test func aging() {
        var life = Life(in: .retiring)
        let retired = life.now
        life.now = retired + .seconds(12 * 86400 - 1)
        #expect(life.take(.clock) == [])
        // Its successor failed, and it signed once more.
        life.take(.signed)
        life.now = life.now + .seconds(12 * 86400 - 1)
        #expect(life.take(.clock) == [])
        life.wait(.seconds(1))
        #expect(
            life.take(.clock)
                == [.changed(from: .retiring, to: .old, why: "nothing that it has signed is under way")])
        // The record is to stay while mail is under way: somebody was too early.
        life = Life(in: .retiring)
        #expect(life.take(Life.absent) == [.wrong("the record is not there")])
        #expect(life.take(Life.absent) == [])
    }

    /// What it has signed may leave weeks later: its record stays until then, and no longer if a clock was wrong.
    @Test func agingOfWhatLeavesLater() {
        var life = Life(in: .active)
        let start = life.now + .seconds(30 * 86400)
        life.take(.signed)
        life.take(.leaves(start))
        #expect(life.state.lastSigned == life.now && life.state.leaving == start)
        life.take(.leaves(life.now + .seconds(86400)))
        life.take(.succeeded)
        #expect(life.state.leaving == start)
        life.now = start + .seconds(12 * 86400 - 1)
        #expect(life.take(.clock) == [])
        life.wait(.seconds(1))
        life.take(.clock)
        #expect(life.state.phase == .old)

        life = Life(in: .retiring)
        life.take(.leaves(life.now + .seconds(400 * 86400)))
        #expect(life.state.leaving == life.now + .seconds(31 * 86400))
        life.take(.leaves(life.now + .seconds(30 * 86400)))
        life.wait(.seconds(-86400 * 365))
        life.take(.clock)
        #expect(life.state.leaving == life.now + .seconds(31 * 86400))
    }

    @Test func testing() {
        var life = Life()
        let testing = SelectorState.Event.answered(.right(isTesting: true), ttl: .zero, negativeTTL: .zero)
        #expect(life.take(testing).first == .testing && life.state.isTesting)
        #expect(life.take(testing) == [])
        life.take(Life.right)
        #expect(!life.state.isTesting)
        #expect(life.take(testing) == [.testing])
    }

    // MARK: The clock is set

    /// Back: no wait is shorter, none is endless, and DNS is asked.
    @Test func clockSetBack() {
        var life = Life(in: .seen)
        life.wait(.seconds(3000))
        life.take(Life.right)
        life.now = Life.start + .seconds(-86400 * 365)
        #expect(life.state.isDue(at: life.now))
        let waited = life.answer(.right(isTesting: false), until: .active)
        #expect(waited.last == 60)

        life = Life(in: .active)
        life.take(Life.absent)
        life.wait(.seconds(800))
        life.take(Life.absent)
        life.now = Life.start + .seconds(-86400)
        life.take(Life.absent)
        #expect(life.state.phase == .active)
        life.wait(.seconds(899))
        life.take(Life.absent)
        #expect(life.state.phase == .active)
        life.wait(.seconds(1))
        life.take(Life.absent)
        #expect(life.state.phase == .failing)

        life = Life(in: .retiring)
        life.take(.signed)
        life.now = Life.start + .seconds(-86400)
        #expect(life.take(.clock) == [])
        life.wait(.seconds(12 * 86400 - 1))
        #expect(life.take(.clock) == [])
        life.wait(.seconds(1))
        life.take(.clock)
        #expect(life.state.phase == .old)
    }

    /// Forward: a record that was seen a moment ago still has to be right some more times before it is signed with.
    @Test func clockSetForward() {
        var life = Life(in: .seen)
        life.wait(.seconds(86400 * 30))
        #expect(life.state.isDue(at: life.now))
        #expect(life.answer(.right(isTesting: false), until: .active) == [0, 4, 14, 74])
    }
}
