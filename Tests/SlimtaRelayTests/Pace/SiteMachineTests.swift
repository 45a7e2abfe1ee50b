// The pace of a site, rule by rule: window, ceiling, rate, health of hosts, greylisting, what is learned.

import SlimtaMail
import Testing

@testable import SlimtaRelay

@Suite struct SiteMachineTests {
    private typealias Machine = SiteMachine<Int>

    private static let start = Timestamp(milliseconds: 1_800_000_000_000)

    private func time(_ seconds: Double) -> Timestamp { Self.start + .seconds(seconds) }

    private func pair(_ number: Int) -> GreylistMemory.Pair { .init(sender: "s@example.com", recipient: "r\(number)") }

    private static let slowDown = Reply(450, EnhancedStatus(4, 7, 1), "rate limit exceeded")
    private static let tooMany = Reply(421, EnhancedStatus(4, 7, 0), "Too many concurrent SMTP connections")

    /// A machine with so many sessions open.
    private func machine(
        open count: Int = 0, _ settings: Machine.Settings = .init(), _ learning: SiteLearning = .init()
    ) -> Machine {
        var machine = Machine(settings, learning, at: Self.start)
        for _ in 0..<count { open(&machine, at: Self.start) }
        return machine
    }

    private func open(_ machine: inout Machine, at now: Timestamp) {
        while machine.turn(at: now) == .full { machine.accepted([], at: now) }
        machine.opened(0)
    }

    // MARK: Window and ceiling

    @Test func theWindowGrowsWithSuccess() {
        var machine = machine()
        for _ in 0..<5 { #expect(machine.turn(at: Self.start) == .go(Self.start)) }
        #expect(machine.turn(at: Self.start) == .full)
        for _ in 0..<5 { machine.accepted([], at: Self.start) }
        machine.accepted([], at: Self.start)
        #expect(machine.turn(at: Self.start) == .go(Self.start))
        for _ in 0..<1000 { machine.accepted([], at: Self.start) }
        for _ in 6..<20 { #expect(machine.turn(at: Self.start) == .go(Self.start)) }
        #expect(machine.turn(at: Self.start) == .full)
        machine.leave()
        #expect(machine.turn(at: Self.start) == .go(Self.start))
    }

    @Test func aRefusedSessionIsACeiling() {
        var machine = machine(open: 10)
        for _ in 0..<20 { machine.accepted([], at: Self.start) }
        #expect(machine.turn(at: Self.start) == .go(Self.start))
        let reply = Reply(421, nil, "no")
        #expect(machine.failed(0, reply, at: Self.start, jitter: 0) == .waitForPlace)
        machine.leave()
        #expect(machine.turn(at: time(1)) == .full)
        for _ in 0..<1000 { machine.accepted([], at: time(1)) }
        #expect(machine.turn(at: time(600)) == .full)
        // One more is tried.
        for _ in 0..<20 { machine.accepted([], at: time(600)) }
        #expect(machine.turn(at: time(601)) == .full)
        for _ in 0..<20 { machine.accepted([], at: time(601)) }
        #expect(machine.turn(at: time(601)) == .go(time(601)))
        #expect(machine.turn(at: time(601)) == .full)
    }

    /// One that was still connecting proves that there is room.
    @Test func aCeilingRisesWithThoseThatWereConnecting() {
        var machine = machine(open: 3)
        for _ in 0..<2 { _ = machine.turn(at: Self.start) }
        #expect(machine.failed(0, Reply(421, nil, "no"), at: Self.start, jitter: 0) == .waitForPlace)
        machine.leave()
        machine.opened(0)
        #expect(machine.established == 4)
        machine.closed()
        machine.leave()
        #expect(machine.turn(at: Self.start) == .go(Self.start))
        #expect(machine.turn(at: Self.start) == .full)
    }

    /// Alone, it is the host that refuses us.
    @Test func aRefusedSessionWithoutOthersIsTheHost() {
        var machine = machine()
        _ = machine.turn(at: Self.start)
        #expect(machine.failed(1, Reply(421, nil, "no"), at: Self.start, jitter: 0) == .nextHost)
        #expect(machine.choose(from: [[1, 2]], at: Self.start) == 2)
    }

    /// In the middle of the only session that is ours: others of the account have the rest. That is no reason to come at once,
    /// and a matter of the message before three have heard it.
    @Test(arguments: [tooMany, Reply(432, EnhancedStatus(4, 3, 2), "Concurrent connections limit exceeded")])
    func othersHaveTheSessions(_ reply: Reply) {
        var machine = machine(open: 1)
        for number in 1...2 {
            #expect(machine.refused(reply, pair(number), at: Self.start, spread: 0) == .own)
        }
        #expect(machine.refused(reply, pair(3), at: Self.start, spread: 0) == .postponed(time(30)))
        #expect(machine.turn(at: time(29)) == .wait(time(30)))
        // Again, and longer.
        #expect(machine.refused(reply, pair(4), at: time(30), spread: 0) == .postponed(time(90)))
        #expect(machine.rate.perSecond == nil && machine.learning == SiteLearning())
        #expect(machine.sessionLimits.ceiling == nil)
        machine.accepted([], at: time(90))
        #expect(machine.refused(reply, pair(5), at: time(91), spread: 0) == .own)
    }

    // MARK: Limits of ours

    /// A relay that wants fewer sessions, and then again one that wants more, takes nothing from what was learned.
    @Test func settingsComeAndGo() {
        var machine = machine(open: 10)
        #expect(machine.failed(0, Reply(421, nil, "no"), at: Self.start, jitter: 0) == .waitForPlace)
        for connections in [2, 20] {
            var settings = Machine.Settings()
            settings.connections = connections
            machine.configure(settings, at: Self.start)
            #expect(machine.sessionLimits.window == min(10, connections))
        }
        #expect(machine.sessionLimits == (10, 10))
    }

    // MARK: Rate

    @Test func aRateTakesThreeRecipients() {
        var machine = machine(open: 1)
        for second in 0..<60 { machine.accepted([], at: time(Double(second))) }
        #expect(machine.refused(Self.slowDown, pair(1), at: time(60), spread: 0) == .own)
        #expect(machine.refused(Self.slowDown, pair(1), at: time(60), spread: 0) == .own)
        #expect(machine.refused(Self.slowDown, pair(2), at: time(60), spread: 0) == .own)
        #expect(machine.rate.perSecond == nil)
        #expect(machine.refused(Self.slowDown, pair(3), at: time(60), spread: 0) == .postponed(time(90)))
        let rate = machine.rate.perSecond ?? 0
        #expect((0.79...0.81).contains(rate) && machine.learning.rate == rate)
        #expect(machine.turn(at: time(61)) == .wait(time(90)))
        #expect(machine.next(at: time(61)) == nil)
        // All that was under way.
        #expect(machine.refused(Self.slowDown, pair(4), at: time(62), spread: 1) == .postponed(time(95)))
        #expect(machine.rate.perSecond == rate)
    }

    @Test func theBucketHoldsOne() {
        let learning = SiteLearning(rate: 0.5)
        var machine = machine(.init(), learning)
        #expect(machine.turn(at: Self.start) == .go(Self.start))
        // Rounded up to the next millisecond.
        #expect(machine.turn(at: Self.start) == .go(Self.start + .milliseconds(2001)))
        // More sessions would only idle.
        #expect(machine.turn(at: Self.start) == .full)
        #expect(machine.next(at: time(1)) == Self.start + .milliseconds(4002))
        #expect(machine.next(at: time(1)) == nil)
        #expect(machine.next(at: time(100)) == time(100))
    }

    @Test func pausesDoubleAndEnd() {
        var machine = machine(.init(), SiteLearning(rate: 1))
        var now = time(0)
        var pauses: [Int64] = []
        for number in 0..<7 {
            now = now + .seconds(10)
            guard case .postponed(let until) = machine.refused(Self.slowDown, pair(number), at: now, spread: 0) else {
                Issue.record("not postponed")
                return
            }
            pauses.append((until - now).milliseconds / 1000)
            now = until
        }
        #expect(pauses == [30, 60, 120, 240, 480, 900, 900])
        machine.accepted([], at: now)
        #expect(
            machine.refused(Self.slowDown, pair(9), at: now + .seconds(10), spread: 0) == .postponed(now + .seconds(40))
        )
        // Three times by a third, however long it has lasted: what was not accepted while we paused is no measure.
        let rate = machine.rate.perSecond ?? 0
        #expect((0.288...0.289).contains(rate) && machine.learning.rate == rate)
    }

    @Test func aRateGrows() {
        var machine = machine(.init(), SiteLearning(rate: 1))
        machine.accepted([], at: time(60))
        #expect(machine.rate.perSecond == 1)
        machine.accepted([], at: time(61))
        machine.accepted([], at: time(62))
        #expect(machine.rate.perSecond == 1.1)
        machine.setRate(nil, at: time(63))
        #expect(machine.learning.rate == nil && machine.turn(at: time(63)) == .go(time(63)))
    }

    /// The same words to three recipients mean us, unless their code says that they mean mailboxes.
    @Test func theSameWords() {
        for (status, isRate) in [(EnhancedStatus(4, 3, 0), true), (EnhancedStatus(4, 2, 2), false)] {
            var machine = machine(open: 1)
            for number in 0..<3 {
                let reply = Reply(451, status, "come back, ticket \(number * 7919)")
                let isOwn = machine.refused(reply, pair(number), at: Self.start, spread: 0) == .own
                #expect(isOwn == !(isRate && number == 2), "\(status) \(number)")
            }
        }
    }

    @Test func refusalsAreForgottenAfterAMinute() {
        var machine = machine(open: 1)
        for number in 0..<9 {
            #expect(machine.refused(Self.slowDown, pair(number), at: time(Double(number) * 31), spread: 0) == .own)
        }
    }

    // MARK: Hosts

    @Test func deadHostsWait() {
        var machine = machine()
        var now = Self.start
        var waits: [Int64] = []
        for _ in 0..<6 {
            #expect(machine.choose(from: [[1, 2]], at: now) == 1)
            #expect(machine.failed(1, nil, at: now, jitter: 0) == .nextHost)
            // The others are used at once.
            #expect(machine.choose(from: [[1, 2]], at: now) == 2)
            #expect(machine.choose(from: [[1]], at: now) == nil)
            let until = machine.reachable([1], at: now)
            waits.append((until - now).milliseconds / 1000)
            now = until
        }
        #expect(waits == [60, 120, 240, 480, 600, 600])
        // One finds out, the others do not wait for it.
        #expect(machine.choose(from: [[1, 2]], at: now) == 1)
        #expect(machine.choose(from: [[1, 2]], at: now) == 2)
        machine.opened(1)
        #expect(machine.choose(from: [[1, 2]], at: now) == 1)
    }

    /// One message finds out about a host that nobody knows, while there is another one like it; a backup is none.
    @Test func unknownHosts() {
        var machine = machine()
        #expect(machine.choose(from: [[1, 2], [3]], at: Self.start) == 1)
        #expect(machine.choose(from: [[1, 2], [3]], at: Self.start) == 2)
        #expect(machine.choose(from: [[1, 2], [3]], at: Self.start) == 1)
        machine.opened(2)
        for _ in 0..<3 { #expect(machine.choose(from: [[1, 2], [3]], at: Self.start) == 2) }
        machine.opened(1)
        #expect(machine.choose(from: [[1, 2], [3]], at: Self.start) == 1)
    }

    @Test func waitsAreSpread() {
        for (jitter, wait) in [(-1.0, 54.0), (1.0, 66.0)] {
            var machine = machine()
            _ = machine.failed(1, nil, at: Self.start, jitter: jitter)
            let until = machine.reachable([1], at: Self.start)
            #expect(abs((until - time(wait)).milliseconds) <= 1)
        }
    }

    /// Of a host that the operator has chosen there is no other one.
    @Test func fixedHosts() {
        var machine = machine(.init(isFixed: true))
        #expect(machine.failed(1, nil, at: Self.start, jitter: 0) == .nextHost)
        #expect(machine.choose(from: [[1]], at: Self.start) == 1)
        let greylisted = Reply(450, EnhancedStatus(4, 2, 0), "greylisted")
        #expect(machine.refused(greylisted, pair(1), at: Self.start, spread: 0) == .own)
    }

    // MARK: Greylisting

    @Test func greylistingIsRemembered() {
        var machine = machine()
        let reply = Reply(450, EnhancedStatus(4, 2, 0), "Greylisted, see http://postgrey.example/")
        #expect(machine.refused(reply, pair(1), at: Self.start, spread: 0) == .retry(time(310)))
        #expect(machine.refused(reply, pair(1), at: time(310), spread: 0) == .retry(time(910)))
        machine.accepted([pair(1)], at: time(910))
        #expect(machine.learning.greylisting?.shortest == .seconds(910))
        #expect(machine.refused(reply, pair(2), at: time(1000), spread: 0) == .retry(time(1920)))
        machine.accepted([pair(2)], at: time(1120))
        #expect(machine.learning.greylisting?.shortest == .seconds(120))
        // In other words, of a site that is known to do it.
        let plain = Reply(450, EnhancedStatus(4, 7, 1), "not now")
        #expect(machine.refused(plain, pair(3), at: time(2000), spread: 0) == .retry(time(2130)))
        // For thirty days; and what is learned outlives the machine.
        let later = machine.learning
        let after = time(2000) + .seconds(30 * 86_400)
        var next = Machine(.init(), later, at: after)
        #expect(next.refused(plain, pair(4), at: after, spread: 0) == .retry(after + .seconds(130)))
        next = Machine(.init(), later, at: after + .seconds(1))
        #expect(next.refused(plain, pair(4), at: after + .seconds(1), spread: 0) == .own)
    }

    // MARK: What is learned

    @Test func limits() {
        var machine = machine(open: 2)
        let recipients = Reply(452, EnhancedStatus(4, 5, 3), "too many recipients")
        #expect(machine.refused(recipients, pair(1), accepted: 50, at: Self.start, spread: 0) == .fewerRecipients)
        #expect(machine.refused(recipients, pair(1), accepted: 80, at: Self.start, spread: 0) == .fewerRecipients)
        #expect(machine.learning.recipients == 50 && machine.learning.recipientsFound == Self.start)
        let messages = Reply(421, EnhancedStatus(4, 7, 0), "too many messages in this session")
        #expect(machine.refused(messages, pair(1), messages: 20, at: Self.start, spread: 0) == .newSession)
        #expect(machine.learning.messages == 19)
        #expect(machine.refused(Self.tooMany, pair(1), messages: 1, at: Self.start, spread: 0) == .newSession)
        machine.closed()
        machine.leave()
        #expect(machine.turn(at: Self.start) == .full)
    }

    /// What an operator has set is not learned.
    @Test func fixedLimits() {
        var settings = Machine.Settings()
        (settings.rate, settings.messages, settings.recipients) = (2, 5, 7)
        var machine = machine(open: 1, settings, SiteLearning(rate: 9, recipients: 3, messages: 4))
        #expect(machine.mostMessages == 5 && machine.mostRecipients == 7 && machine.rate.perSecond == 2)
        for number in 0..<3 { _ = machine.refused(Self.slowDown, pair(number), at: time(10), spread: 0) }
        #expect(machine.rate.perSecond == 2 && machine.rate.pausedUntil == time(40))
        machine.accepted([], at: time(100))
        machine.accepted([], at: time(200))
        #expect(machine.rate.perSecond == 2 && machine.learning.rate == 9)
        // Not any more: what was learned counts again.
        settings.rate = nil
        settings.connections = 3
        machine.configure(settings, at: time(201))
        #expect(machine.rate.perSecond == 9 && machine.sessionLimits.window == 3)
        machine.forget(at: time(202))
        #expect(machine.learning == SiteLearning() && machine.rate.perSecond == nil)
    }

    // MARK: Sites and sources

    @Test func sites() {
        let site = SiteKey(exchangers: [(20, "b.example"), (10, "A.example")], port: 25)
        #expect(site == SiteKey(exchangers: [(10, "a.example"), (20, "B.example")], port: 25))
        #expect(site.description == "10 a.example, 20 b.example:25")
        #expect(site != SiteKey(exchangers: [(10, "a.example"), (20, "b.example")], port: 26))
        #expect(site != SiteKey(exchangers: [(10, "a.example"), (10, "b.example")], port: 25))
        #expect(SiteKey(host: "a.example", port: 25) != SiteKey(fixed: "a.example", port: 25))
        let several = SiteKey(fixed: [(host: "B.example", port: 587), (host: "a.example", port: 465)])
        #expect(several.description == "a.example:465, b.example:587" && several.isFixed)
        #expect(SiteKey(fixed: [(host: "a.example", port: 25)]) == SiteKey(fixed: "a.example", port: 25))
        for key in [several, SiteKey(fixed: "2001:db8::1", port: 25), site] {
            let parts = key.stored.split(separator: "\t")
            let again = SiteKey(stored: parts[0], parts[1])
            #expect(again == key && again?.hosts == key.hosts)
        }
        let many = (0..<30).map { (preference: UInt16($0), host: "h\($0)") }
        #expect(SiteKey(exchangers: many, port: 25) == SiteKey(exchangers: Array(many.prefix(20)), port: 25))
    }

    /// A site that greylists must see the same address again.
    @Test func sources() {
        let site = SiteKey(host: "a.example", port: 25)
        #expect(site.source(for: "x.example", of: 0) == 0 && site.source(for: "x.example", of: 1) == 0)
        var used: [Int: Int] = [:]
        for number in 0..<1000 {
            let source = site.source(for: "d\(number).example", of: 4)
            #expect(source == site.source(for: "D\(number).EXAMPLE", of: 4))
            used[source, default: 0] += 1
        }
        #expect(used.count == 4 && used.values.allSatisfy { (180...320).contains($0) })
    }
}
