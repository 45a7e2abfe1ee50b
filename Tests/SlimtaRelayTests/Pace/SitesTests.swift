// All sites: who waits for a place, what is kept over a restart, what operators set.

import NIOCore
import SlimtaMail
import SlimtaQueue
import SlimtaSMTP
import Synchronization
import TestKit
import Testing

@testable import SlimtaRelay

@Suite(.timeLimit(.minutes(4)))
struct SitesTests {
    private static let key = SiteKey([["a.example"], ["b.example"]], port: 25)
    private static let visitor = SiteVisitor(limit: 20)
    private static var delivered: (outcomes: [Outcome], hasSent: Bool) {
        ([Outcome(.delivered, Reply(250, nil, "ok"))], true)
    }

    private func site(_ sites: Sites = Sites(logger: Fixture.logger), connections: Int = 20) -> Site {
        sites.site(Self.key, connections: connections)
    }

    private static func transaction(_ reply: Reply, _ recipients: [String]) -> Transaction {
        Transaction(
            sender: Mailbox(localPart: "s", domain: "example.com"),
            recipients: recipients.map { Mailbox(localPart: $0, domain: "example.net") },
            outcomes: recipients.map { _ in Outcome(Outcome.result(of: reply), reply, isRemote: true) },
            causes: recipients.map { _ in OutcomeCause(.recipient, .reply) }, messagesBefore: 0)
    }

    private func isGo(_ entry: Site.Entry) -> Bool { if case .go = entry { true } else { false } }

    // MARK: Turns

    @Test func domainsTakeTurns() {
        var line = SiteLine()
        for (ticket, domain) in [(1, "a"), (2, "a"), (3, "a"), (4, "b"), (5, "c")] {
            #expect(line.join(SiteLine.Ticket(ticket), for: domain, Self.visitor, capacity: 5) == nil)
        }
        // The last one of the longest lane makes room; among equals the one who comes.
        #expect(line.join(6, for: "d", Self.visitor, capacity: 5) == 3)
        #expect(line.join(7, for: "a", Self.visitor, capacity: 5) == 7)
        #expect((0..<6).map { _ in line.next() } == [1, 4, 5, 6, 2, nil])
        #expect(line.isEmpty)
        _ = line.join(8, for: "a", Self.visitor, capacity: 5)
        #expect(line.remove(8) && !line.remove(8) && line.next() == nil)
    }

    @Test func placesAreShared() async throws {
        let site = site(connections: 1)
        #expect(isGo(await site.enter(for: "a.test", Self.visitor)))
        async let second = site.enter(for: "b.test", Self.visitor)
        while site.state.withLock({ $0.lineCount }) == 0 { try await Task.sleep(for: .milliseconds(5)) }
        site.leave(Self.visitor)
        #expect(isGo(await second))
        // Who does not want it any more makes room for nobody.
        let third = Task { await site.enter(for: "c.test", Self.visitor) }
        while site.state.withLock({ $0.lineCount }) == 0 { try await Task.sleep(for: .milliseconds(5)) }
        third.cancel()
        guard case .cancelled = await third.value else {
            Issue.record("not cancelled")
            return
        }
        site.leave(Self.visitor)
        #expect(isGo(await site.enter(for: "d.test", Self.visitor)))
    }

    private static func waitForLine(_ site: Site, _ count: Int = 1) async throws {
        while site.state.withLock({ $0.lineCount }) < count { try await Task.sleep(for: .milliseconds(5)) }
    }

    private static func postponed(_ entry: Site.Entry) -> Duration? {
        if case .postponed(let outcome) = entry { outcome.postponed } else { nil }
    }

    /// Relays with limits of their own at one site: neither changes what the site is found to take, and one with few sessions
    /// holds up nobody.
    @Test func relaysOfOneSite() async throws {
        let sites = Sites(logger: Fixture.logger)
        let (many, few) = (site(sites, connections: 20), site(sites, connections: 1))
        #expect(many === few && few.state.withLock { $0.machine.settings.connections } == 20)
        let (one, other) = (SiteVisitor(limit: 1), SiteVisitor(limit: 20))
        #expect(isGo(await few.enter(for: "a.test", one)))
        async let second = few.enter(for: "a.test", one)
        try await Self.waitForLine(few)
        #expect(isGo(await many.enter(for: "b.test", other)))
        #expect(few.state.withLock { $0.lineCount } == 1)
        many.leave(other)
        #expect(few.state.withLock { $0.lineCount } == 1)
        few.leave(one)
        #expect(isGo(await second))
    }

    /// Limits that are the same number are two, if they are those of two relays.
    @Test func relaysWithOneLimit() async throws {
        let site = site(connections: 20)
        let relays = [SiteVisitor(limit: 2), SiteVisitor(limit: 2)]
        for relay in relays + relays { #expect(isGo(await site.enter(for: "a.test", relay))) }
        async let third = site.enter(for: "a.test", relays[0])
        try await Self.waitForLine(site)
        site.leave(relays[1])
        #expect(site.state.withLock { $0.lineCount } == 1)
        site.leave(relays[0])
        #expect(isGo(await third))
    }

    /// The line keeps nobody for as long as a site may take: the configuration changes, and senders are to be warned.
    @Test func theLineEnds() async throws {
        let site = Site(
            Self.key, .init(), nil, clock: SiteClock(), lineTime: .milliseconds(50), logger: Fixture.logger)
        site.configure(.init(), 1)
        #expect(isGo(await site.enter(for: "a.test", Self.visitor)))
        for _ in 0..<2 {
            let wait = Self.postponed(await site.enter(for: "b.test", Self.visitor))
            #expect(wait.map { $0 >= .zero && $0 <= .seconds(2) } == true)
        }
        #expect(site.state.withLock { $0.lineCount } == 0)
    }

    @Test func reload() async throws {
        let sites = Sites(logger: Fixture.logger)
        let site = site(sites, connections: 1)
        #expect(isGo(await site.enter(for: "a.test", Self.visitor)))
        async let second = site.enter(for: "b.test", Self.visitor)
        try await Self.waitForLine(site)
        sites.configure(.init())
        #expect(Self.postponed(await second).map { $0 <= .seconds(2) } == true)
        // What counts is what relays want since.
        #expect(self.site(sites, connections: 3).state.withLock { $0.machine.settings.connections } == 3)
    }

    /// A slot in the future is none any more when the site pauses: nothing is sent into the pause, and that is no refusal.
    @Test func aSlotInAPause() async throws {
        // Six seconds from one to the next.
        let sites = Sites(.init(rules: [SiteRule(SiteLimits(rate: 1.0 / 6)) { _ in true }]), logger: Fixture.logger)
        let site = site(sites)
        let sent = await site.visit(for: "a.test", 1, Self.visitor) { Self.delivered }
        #expect(sent.map(\.result) == [.delivered])
        async let later = site.visit(for: "b.test", 1, Self.visitor) {
            Issue.record("sent into the pause")
            return Self.delivered
        }
        while site.state.withLock({ $0.machine.places }) == 0 { try await Task.sleep(for: .milliseconds(5)) }
        let slow = Reply(450, EnhancedStatus(4, 7, 1), "rate limit exceeded")
        var transaction = Self.transaction(slow, ["one", "two", "three"])
        site.learn(from: &transaction)
        let outcomes = await later
        #expect(outcomes.map { $0.postponed.map { $0 > .seconds(20) } } == [true])
        #expect(site.state.withLock { $0.machine.places } == 0)
    }

    /// An attempt that told no host of a message gives its slot back, whatever is to be said of the message.
    @Test func aSlotThatIsNotUsed() async {
        let sites = Sites(.init(rules: [SiteRule(SiteLimits(rate: 1.0 / 60)) { _ in true }]), logger: Fixture.logger)
        let site = site(sites)
        let dead = Outcome(.temporary, Reply(451, EnhancedStatus(4, 4, 1), "no host"), isHostFailure: true)
        let refused = Outcome(.permanent, Reply(554, nil, "no mail here"), isRemote: true)
        for outcome in [dead, refused, dead] {
            let outcomes = await site.visit(for: "a.test", 1, Self.visitor) { ([outcome], false) }
            #expect(outcomes == [outcome])
        }
        _ = await site.visit(for: "a.test", 1, Self.visitor) { Self.delivered }
        guard case .go(let slot) = await site.enter(for: "a.test", Self.visitor) else {
            Issue.record("no place")
            return
        }
        #expect(slot - site.clock.now > .seconds(50))
    }

    /// A host that greets with 554, or lacks the TLS that has to be, has counted no message; one that takes it has.
    @Test(arguments: [
        ([ScriptedServer.Step.send("554 5.3.2 no mail here\r\n"), .close], Outcome.Result.permanent),
        ([.send("220 x\r\n"), .expect("EHLO"), .send("250 x\r\n"), .close], .temporary),
        ([.send("220 x\r\n"), .serve([])], .delivered),
    ])
    func slotsOfVisits(_ script: [ScriptedServer.Step], _ result: Outcome.Result) async throws {
        let sites = Sites(.init(rules: [SiteRule(SiteLimits(rate: 1.0 / 60)) { _ in true }]), logger: Fixture.logger)
        let world = try MailWorld(["x.test. 300 IN MX 10 mx1.test."])
        let server = try await world.server(1, script)
        var options = RelayOptions(hostname: "client.test")
        options.port = world.port
        options.networks.allowed = ["127.0.0.0/8"].compactMap { NetworkRange($0) }
        options.security = result == .temporary ? .required : .opportunistic
        let relay = try MXRelay(
            options, resolver: world.resolver, own: OwnAddresses(listeners: []), sites: sites, group: Fixture.group,
            logger: Fixture.logger)
        #expect(await relay.attempt(Delivery(to: ["a@x.test"])).map(\.result) == [result])
        let site = sites.site(SiteKey([["mx1.test"]], port: world.port), connections: 20)
        let wait = site.state.withLock { $0.machine.rate.slot(at: site.clock.now) } - site.clock.now
        #expect((wait > .seconds(30)) == (result == .delivered), "\(wait)")
        await relay.shutDown()
        await server.stop()
        await world.end()
    }

    /// More wait than there is room for: each next one comes back later.
    @Test func aCrowd() async throws {
        let site = site(connections: 1)
        #expect(isGo(await site.enter(for: "a.test", Self.visitor)))
        let waiting = (0..<250).map { number in Task { await site.enter(for: "d\(number).test", Self.visitor) } }
        try await Self.waitForLine(site, 250)
        // Nobody is served: that is less than one a second.
        try await Task.sleep(for: .milliseconds(1100))
        var waits: [Duration] = []
        for number in 0..<100 {
            let wait = Self.postponed(await site.enter(for: "e\(number).test", Self.visitor))
            waits.append(try #require(wait))
        }
        #expect(waits[0] >= .seconds(5) && waits[0] < .seconds(15))
        #expect(waits[99] > .seconds(60) && waits[99] < .seconds(900))
        for task in waiting { task.cancel() }
        for task in waiting { _ = await task.value }
    }

    // MARK: Hosts

    /// What we lack ourselves says nothing of a host: others with the same site go there.
    @Test func oursIsNotTheHosts() {
        let site = site()
        let (mine, other) = (SessionPlanTests.key(1, .never), SessionPlanTests.key(1, .ifOffered))
        #expect(site.choose(from: [mine]) == mine)
        let outcome = Outcome(.temporary, Reply(451, EnhancedStatus(4, 4, 1), "no source address of its family"))
        #expect(!site.failed(mine, HostFailure(outcome: outcome, isOurs: true), isBesideOthers: false))
        #expect(site.choose(from: [mine]) == nil)
        #expect(!site.isLeftAlone(other) && site.choose(from: [other]) == other)
    }

    /// Of plans and hosts that nobody uses any more nothing is kept.
    @Test func oldTroubles() {
        let sites = Sites(logger: Fixture.logger)
        let site = site(sites)
        let key = SessionPlanTests.key(1, .never)
        let outcome = Outcome(.temporary, Reply(451, EnhancedStatus(4, 7, 4), "no STARTTLS"))
        _ = site.failed(key, HostFailure(outcome: outcome, isOfPlan: true), isBesideOthers: false)
        #expect(site.state.withLock { $0.troubles.count } == 1)
        site.sweep()
        #expect(site.state.withLock { $0.troubles.count } == 1)
        sites.configure(.init())
        #expect(site.state.withLock { $0.troubles.count } == 0)
        var cache = ExpiringCache<Int, Bool>(capacity: 8)
        let now = NIODeadline.now()
        for number in 0..<4 { cache.insert(true, for: number, until: now + .seconds(Int64(number)), at: now) }
        cache.removeEnded(at: now + .seconds(2))
        #expect(cache.count == 1)
    }

    /// A pause is for all who wait, and for all who come.
    @Test func pause() async throws {
        let site = site(connections: 1)
        #expect(isGo(await site.enter(for: "a.test", Self.visitor)))
        async let second = site.enter(for: "b.test", Self.visitor)
        while site.state.withLock({ $0.lineCount }) == 0 { try await Task.sleep(for: .milliseconds(5)) }
        let slow = Reply(450, EnhancedStatus(4, 7, 1), "rate limit exceeded")
        var transaction = Self.transaction(slow, ["one", "two", "three"])
        site.learn(from: &transaction)
        #expect(transaction.outcomes.map { $0.postponed == nil } == [true, true, false])
        site.leave(Self.visitor)
        for entry in [await second, await site.enter(for: "c.test", Self.visitor)] {
            guard case .postponed(let outcome) = entry else {
                Issue.record("not postponed")
                continue
            }
            #expect(outcome.result == .temporary && !outcome.isHostFailure)
            #expect(outcome.postponed.map { $0 > .seconds(20) && $0 <= .seconds(35) } == true)
        }
        #expect(site.isPaced)
    }

    /// Of a refusal of the whole message one recipient counts.
    @Test func wholeMessages() {
        let site = site()
        let slow = Reply(450, EnhancedStatus(4, 7, 1), "rate limit exceeded")
        var transaction = Self.transaction(slow, ["one", "two", "three"])
        transaction = Transaction(
            sender: nil, recipients: transaction.recipients, outcomes: transaction.outcomes,
            causes: transaction.recipients.map { _ in OutcomeCause(.mail, .reply) }, messagesBefore: 0)
        site.learn(from: &transaction)
        #expect(transaction.outcomes.allSatisfy { $0.postponed == nil })
    }

    // MARK: What is kept

    @Test func restart() throws {
        let sites = Sites(logger: Fixture.logger)
        #expect(sites.takeRecord() == nil)
        let site = site(sites)
        let grey = Reply(450, EnhancedStatus(4, 2, 0), "greylisted")
        var transaction = Self.transaction(grey, ["one"])
        site.learn(from: &transaction)
        #expect(transaction.outcomes[0].retryAfter == .seconds(310))
        site.learn(.takes(30), of: SessionPlanTests.key(1, .never))
        #expect(sites.set("B.example", { $0.messages = 4 }) == 1 && sites.set("c.example", { _ in }) == 0)
        #expect(site.isUsedUp([], after: 4) == false)
        let text = try #require(sites.takeRecord())
        #expect(sites.takeRecord() == nil)

        let next = Sites(logger: Fixture.logger)
        #expect(next.restore(text))
        #expect(next.takeRecord() == nil)
        let report = try #require(next.reports().first)
        #expect(report.name == "1 a.example, 2 b.example:25" && report.greylists && report.learned.recipients == 30)
        #expect(report.set == SiteLimits(messages: 4))
        let again = self.site(next)
        #expect(again.mostRecipients == 30)
        #expect(again.isUsedUp([], after: 4))
        #expect(next.forget("a.example") == 1)
        #expect(again.mostRecipients == nil)
        // Nothing is left to be kept, and that is new.
        #expect(next.takeRecord() == "slimtad sites 1\n")
    }

    /// What is damaged is told, and the rest is used.
    @Test func damaged() {
        let sites = Sites(logger: Fixture.logger)
        #expect(!sites.restore(""))
        #expect(!sites.restore("slimtad sites 2\n"))
        let good = "mx\ta.example:25\tused=\(Timestamp.now().milliseconds)\trate=0.5\tlater=x"
        #expect(!sites.restore("slimtad sites 1\n\(good)\nmx\tb.example:25\tused=x\n\nfixed\tc.example\tused=1\n"))
        #expect(sites.reports().map(\.name) == ["a.example:25"])
        #expect(sites.reports().map(\.learned.rate) == [0.5])
        for text in [
            "rate=0", "rate=nan", "rate=-1", "recipients=0", "messages=x", "greylists", "set_rate=inf",
            "messages_found=x",
        ] {
            #expect(SiteRecord(fields: [Substring(text)]) == nil, "\(text)")
        }
    }

    @Test func rules() {
        let rule = SiteRule(SiteLimits(connections: 3, rate: 2, recipients: 5)) { $0 == "b.example" }
        let sites = Sites(.init(rules: [rule]), logger: Fixture.logger)
        let site = site(sites)
        #expect(site.state.withLock { $0.machine.settings.connections } == 3)
        #expect(site.mostRecipients == 5)
        // What is set by command is before it.
        _ = sites.set("a.example") { $0.recipients = 6 }
        #expect(self.site(sites).mostRecipients == 6)
        #expect(sites.reports().map(\.configured.rate) == [2])
    }

    /// Limits that everybody knows, behind those of the operator.
    @Test func knownHosts() {
        let key = SiteKey(fixed: "Smtp.Office365.com", port: 587)
        let sites = Sites(logger: Fixture.logger)
        let site = sites.site(key, connections: 20)
        #expect(site.state.withLock { $0.machine.settings.connections } == 3)
        #expect(site.state.withLock { $0.machine.rate.perSecond } == 0.5 && !site.isPaced)
        let rule = SiteRule(SiteLimits(connections: 10, recipients: 50)) { _ in true }
        sites.configure(.init(rules: [rule]))
        #expect(sites.site(key, connections: 20).state.withLock { $0.machine.settings.connections } == 10)
        #expect(site.mostRecipients == 50 && sites.reports().map(\.configured.rate) == [0.5])
        #expect(sites.site(SiteKey(fixed: "smtp.example.com", port: 587), connections: 9).mostRecipients == 50)
    }
}
