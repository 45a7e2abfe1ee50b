// A site whose limits are shared with other nodes: what this one has of sessions and rate, who waits meanwhile, and what it tells.

import NIOCore
import SlimtaMail
import SlimtaQueue
import Synchronization
import TestKit
import Testing

@testable import SlimtaRelay

@Suite(.timeLimit(.minutes(4)))
struct SharedSiteTests {
    private static let key = SiteKey([["a.example"], ["b.example"]], port: 25)
    private static let visitor = SiteVisitor(limit: 20)

    private func limits(_ share: Int, _ part: Double, nodes: Int = 2, _ site: Site) throws -> SharedLimits {
        let subject = try #require(site.subject)
        return SharedLimits(nodes: nodes, advice: [subject: SiteAdvice(share: share, part: part)])
    }

    private func isGo(_ entry: Site.Entry) -> Bool { if case .go = entry { true } else { false } }

    private func waiting(_ site: Site, _ count: Int) async throws {
        while site.state.withLock({ $0.lineCount }) != count { try await Task.sleep(for: .milliseconds(5)) }
    }

    @Test func sessions() async throws {
        let sites = Sites(logger: Fixture.logger)
        sites.advised(SharedLimits(nodes: 2))
        let site = sites.site(Self.key, connections: 4)
        #expect(sites.siteReports() == [], "nothing is done there")
        for _ in 0..<2 { #expect(isGo(await site.enter(for: "a.test", Self.visitor))) }
        let entries = (0..<4).map { _ in Task { await site.enter(for: "a.test", Self.visitor) } }
        try await waiting(site, 4)
        let subject = try #require(site.subject)
        #expect(
            sites.siteReports() == [SiteDemand(subject, limit: 4, wanted: 4, used: 2, isLimited: true)],
            "the even share, and it wants more")
        // There is more: one goes at once.
        sites.advised(try limits(3, 0.75, site))
        try await waiting(site, 3)
        // There is less: the next goes when two have left.
        sites.advised(try limits(2, 0.5, site))
        site.leave(Self.visitor)
        #expect(site.state.withLock { $0.lineCount } == 3)
        site.leave(Self.visitor)
        try await waiting(site, 2)
        // A relay that comes meanwhile does not change that.
        _ = sites.site(Self.key, connections: 4)
        #expect(site.state.withLock { $0.lineCount } == 2)
        // The others are gone.
        sites.advised(.alone)
        try await waiting(site, 0)
        for entry in entries { #expect(isGo(await entry.value)) }
        #expect(sites.siteReports() == [])
    }

    @Test func tooManySessions() throws {
        let sites = Sites(logger: Fixture.logger)
        let site = sites.site(Self.key, connections: 4)
        let host = ConnectionKey(
            host: MailHost(address: try SocketAddress(ipAddress: "192.0.2.1", port: 25), name: "a.example"),
            plan: SessionPlan(demand: TLSPlan(.ifOffered, serverName: nil)))
        for _ in 0..<4 {
            _ = site.connecting()
            site.opened(host)
        }
        #expect(!site.hasTooMany)
        sites.advised(SharedLimits(nodes: 2))
        #expect(site.hasTooMany, "each ends behind its message")
        #expect(sites.siteReports().map(\.used) == [4], "and is there until then")
        site.closed(wasOpen: true)
        site.closed(wasOpen: true)
        #expect(!site.hasTooMany)
    }

    /// What somebody has set is shared; what was learned is what this node had of it.
    @Test func rates() throws {
        let rule = SiteRule(SiteLimits(rate: 1)) { _ in true }
        let sites = Sites(.init(rules: [rule]), logger: Fixture.logger)
        let site = sites.site(Self.key, connections: 4)
        func rate(_ site: Site) -> Double? { site.state.withLock { $0.machine.rate.perSecond } }
        #expect(rate(site) == 1)
        sites.advised(SharedLimits(nodes: 4))
        #expect(rate(site) == 0.25)
        sites.advised(try limits(3, 0.75, nodes: 4, site))
        #expect(rate(site) == 0.75)
        _ = sites.site(Self.key, connections: 4)
        #expect(rate(site) == 0.75)
        sites.advised(.alone)
        #expect(rate(site) == 1)
        let other = Sites(logger: Fixture.logger)
        let learned = other.site(Self.key, connections: 4)
        learned.change { state, now in state.machine.setRate(0.5, at: now) }
        other.advised(SharedLimits(nodes: 4))
        #expect(rate(learned) == 0.5)
    }

    /// One that has less or more of a rate from now on has no message more for that.
    @Test func aChangeIsNoReasonToSend() {
        let start = Timestamp(milliseconds: 1_700_000_000_000)
        var rate = SiteRate(at: start)
        rate.set(0.1, at: start)
        rate.take(rate.slot(at: start))
        for step in 0..<20 as Range<Int64> {
            rate.share(step % 2 == 0 ? 0.05 : 0.1, at: start + .milliseconds(step))
            #expect(rate.slot(at: start + .milliseconds(step)) > start + .seconds(9))
        }
        rate.share(1, at: start + .seconds(1))
        #expect(rate.slot(at: start + .seconds(1)) <= start + .milliseconds(2100))
    }
}
