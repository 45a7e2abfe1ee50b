// All sites: who waits for a place, what is kept over a restart, what operators set.

import SlimtaMail
import SlimtaSMTP
import Synchronization
import TestKit
import Testing

@testable import SlimtaRelay

@Suite(.timeLimit(.minutes(4)))
struct SitesTests {
    private static let key = SiteKey([["a.example"], ["b.example"]], port: 25)

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
            #expect(line.join(SiteLine.Ticket(ticket), for: domain, capacity: 5) == nil)
        }
        // The last one of the longest lane makes room; among equals the one who comes.
        #expect(line.join(6, for: "d", capacity: 5) == 3)
        #expect(line.join(7, for: "a", capacity: 5) == 7)
        #expect((0..<6).map { _ in line.next() } == [1, 4, 5, 6, 2, nil])
        #expect(line.isEmpty)
        _ = line.join(8, for: "a", capacity: 5)
        #expect(line.remove(8) && !line.remove(8) && line.next() == nil)
    }

    @Test func placesAreShared() async throws {
        let site = site(connections: 1)
        #expect(isGo(await site.enter(for: "a.test")))
        async let second = site.enter(for: "b.test")
        while site.state.withLock({ $0.lineCount }) == 0 { try await Task.sleep(for: .milliseconds(5)) }
        site.leave()
        #expect(isGo(await second))
        // Who does not want it any more makes room for nobody.
        let third = Task { await site.enter(for: "c.test") }
        while site.state.withLock({ $0.lineCount }) == 0 { try await Task.sleep(for: .milliseconds(5)) }
        third.cancel()
        guard case .cancelled = await third.value else {
            Issue.record("not cancelled")
            return
        }
        site.leave()
        #expect(isGo(await site.enter(for: "d.test")))
    }

    /// A pause is for all who wait, and for all who come.
    @Test func pause() async throws {
        let site = site(connections: 1)
        #expect(isGo(await site.enter(for: "a.test")))
        async let second = site.enter(for: "b.test")
        while site.state.withLock({ $0.lineCount }) == 0 { try await Task.sleep(for: .milliseconds(5)) }
        let slow = Reply(450, EnhancedStatus(4, 7, 1), "rate limit exceeded")
        var transaction = Self.transaction(slow, ["one", "two", "three"])
        site.learn(from: &transaction)
        #expect(transaction.outcomes.map { $0.postponed == nil } == [true, true, false])
        site.leave()
        for entry in [await second, await site.enter(for: "c.test")] {
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
        for text in ["rate=0", "rate=nan", "rate=-1", "recipients=0", "messages=x", "greylists", "set_rate=inf"] {
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
}
