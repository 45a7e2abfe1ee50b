// Limits that nodes share, over a real server: two or three storages with one egress, what their queues are told, and what is
// in the table.

import SlimtaMail
import SlimtaQueue
import StorageKit
import Synchronization
import TestKit
import Testing

@testable import SlimtaCluster

/// A node whose queue reports what the test says.
private final class SharingNode: Sendable {
    let storage: any QueueBackend
    private let wish = Mutex<[SiteDemand]>([])
    private let heard = Mutex<[SharedLimits]>([])

    init(_ place: ClusterPlace, _ name: String) async throws {
        storage = try await place.open(node: name)
        try await storage.start { [weak self] events in self?.receive(events) }
    }

    private func receive(_ events: [QueueEvent]) {
        for case .sites(let limits) in events {
            heard.withLock { $0.append(limits) }
            storage.report(wish.withLock { $0 })
        }
    }

    func wish(_ reports: [SiteDemand]) { wish.withLock { $0 = reports } }

    var limits: SharedLimits? { heard.withLock { $0.last } }
    var all: [SharedLimits] { heard.withLock { $0 } }
}

@Suite(.enabled(if: PostgresServer.isThere, Comment(rawValue: PostgresServer.missing)), .serialized)
struct SharedSitesTests {
    private static let subject = SiteSubject(stored: "d:x.test")

    private static func report(wanted: Int, used: Int = 0, health: SiteHealth? = nil) -> SiteDemand {
        SiteDemand(subject, limit: 20, wanted: wanted, used: used, isLimited: wanted > used, health: health)
    }

    private static func place(_ egress: @escaping @Sendable (String) -> String = { _ in "pool" }) throws -> ClusterPlace
    {
        try ClusterPlace { $0.egress = egress($0.node) }
    }

    private func eventually(_ what: Comment, _ isSo: () throws -> Bool) async throws {
        for _ in 0..<6000 {
            if try isSo() { return }
            try await Task.sleep(for: .milliseconds(10))
        }
        Issue.record(what)
    }

    private func rows(_ place: ClusterPlace) throws -> String {
        try place.server.sql("select count(*) from slimtad.site", in: place.name)
    }

    @Test func sharesFollowWhatIsWanted() async throws {
        let place = try Self.place()
        let one = try await SharingNode(place, "one")
        let two = try await SharingNode(place, "two")
        try await eventually("they know each other") { one.limits?.nodes == 2 && two.limits?.nodes == 2 }
        #expect(one.limits?.advice.isEmpty == true && one.limits?.share(of: 20, by: nil) == 10)
        #expect(try rows(place) == "0", "nothing is limited, and nothing is written")

        one.wish([Self.report(wanted: 20, used: 10)])
        try await eventually("who wants it has nearly all") {
            one.limits?.advice[Self.subject]?.share == 19 && two.limits?.advice[Self.subject]?.share == 1
        }
        two.wish([Self.report(wanted: 20)])
        try await eventually("and gives half of it back") {
            one.limits?.advice[Self.subject]?.share == 10 && two.limits?.advice[Self.subject]?.share == 10
        }
        let part = one.limits?.advice[Self.subject]?.part ?? 0
        #expect(part > 0.49 && part < 0.51)

        // Who is not there any more has left all of it.
        await place.crash(two.storage)
        try await eventually("alone it has all") { one.limits?.nodes == 1 }
        await one.storage.close()
        #expect(place.events.contains(.sharing(nodes: 2)) && place.events.contains(.sharing(nodes: 1)))
    }

    @Test func otherAddressesAreNobodysMatter() async throws {
        let place = try Self.place { $0 == "three" ? "other" : "pool" }
        let one = try await SharingNode(place, "one")
        let three = try await SharingNode(place, "three")
        let two = try await SharingNode(place, "two")
        try await eventually("they know each other") { one.limits?.nodes == 2 && two.limits?.nodes == 2 }
        one.wish([Self.report(wanted: 20)])
        try await eventually("it is written") { try rows(place) == "2" }
        #expect(three.all.isEmpty, "nobody tells it anything")
        one.wish([])
        try await eventually("and goes when nothing is limited any more") { try rows(place) == "0" }
        for node in [one, two, three] { await node.storage.close() }
    }

    @Test func oneProbesAndAllAreFree() async throws {
        let place = try Self.place()
        let reason = Outcome(
            .temporary, Reply(451, EnhancedStatus(4, 4, 1), "cannot connect"), relay: "mx.test[192.0.2.1]:25",
            isHostFailure: true)
        let failure = SiteFailure(reason, tried: .now())
        let one = try await SharingNode(place, "one")
        let two = try await SharingNode(place, "two")
        try await eventually("they know each other") { one.limits?.nodes == 2 && two.limits?.nodes == 2 }
        one.wish([Self.report(wanted: 0, health: .backsOff(failure))])
        try await eventually("the other leaves it alone") {
            if case .leaveAlone(let found) = two.limits?.advice[Self.subject]?.backOff {
                return found.reason == reason
                    && (failure.tried + .seconds(-1)...failure.tried + .seconds(1)).contains(found.tried)
            }
            return false
        }
        #expect(one.limits?.advice[Self.subject]?.backOff == .probe)
        two.wish([Self.report(wanted: 0, health: .follows(failure))])
        one.wish([Self.report(wanted: 0, health: .answers)])
        try await eventually("it hears that it answers") {
            two.all.contains { $0.advice[Self.subject]?.backOff == .answers }
        }
        // Who finds out dies.
        one.wish([Self.report(wanted: 0, health: .backsOff(failure))])
        two.wish([Self.report(wanted: 0, health: .follows(failure))])
        try await eventually("the other leaves it alone again") {
            if case .leaveAlone = two.limits?.advice[Self.subject]?.backOff { true } else { false }
        }
        await place.crash(one.storage)
        try await eventually("nobody leaves it alone for ever") {
            two.limits?.nodes == 1 && two.limits?.advice[Self.subject] == nil
        }
        await two.storage.close()
    }

    /// A line that is cut, and the node's rows.
    @Test func withoutTheDatabaseNobodyHasMore() async throws {
        let place = try Self.place()
        let one = try await SharingNode(place, "one")
        let two = try await SharingNode(place, "two")
        try await eventually("they know each other") { one.limits?.nodes == 2 && two.limits?.nodes == 2 }
        one.wish([Self.report(wanted: 20)])
        try await eventually("who wants it has nearly all") { one.limits?.advice[Self.subject]?.share == 19 }
        await place.setAway("one", "cut")
        try await eventually("it has its even share") {
            one.limits?.nodes == 2 && one.limits?.advice[Self.subject]?.share == 10
        }
        await place.setAway("one", nil)
        try await eventually("and more again") { one.limits?.advice[Self.subject]?.share == 19 }
        await place.setAway("two", "cut")
        #expect(two.limits?.advice[Self.subject]?.share == 1, "what it has not, it does not take")
        await place.setAway("two", nil)
        try await eventually("and more again") { one.limits?.advice[Self.subject]?.share == 19 }
        await two.storage.close()
        await one.storage.close()
        #expect(try rows(place) == "0", "who leaves takes its rows along")
    }
}
