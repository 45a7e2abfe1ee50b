// Nodes as operators see them, and what is done to them: drained, resumed, forgotten. With a real server.

import SlimtaMail
import SlimtaQueue
import StorageKit
import TestKit
import Testing

@testable import SlimtaCluster

@Suite("Drained and forgotten nodes", .enabled(if: PostgresServer.isThere, "\(PostgresServer.missing)"), .serialized)
struct DrainTests {
    /// A node that lets go at once of what others want.
    private func node(_ place: ClusterPlace, _ name: String) async throws -> ClusterStorage {
        let storage = try #require(try await place.open(node: name) as? ClusterStorage)
        try await storage.start { [weak storage] events in
            for case .releasing(let buckets) in events { storage?.released(buckets) }
        }
        return storage
    }

    private func refusal(_ storage: ClusterStorage, _ name: String, _ change: NodeChange) async -> NodeRefusal? {
        do throws(NodeRefusal) {
            try await storage.change(name, change)
            return nil
        } catch {
            return error
        }
    }

    private func wait(_ what: Comment, _ condition: () async throws -> Bool) async throws {
        for _ in 0..<600 {
            if try await condition() { return }
            try await Task.sleep(for: .milliseconds(100))
        }
        Issue.record(what)
    }

    private func buckets(_ storages: ClusterStorage...) -> [Int] { storages.map { $0.status().node?.buckets ?? -1 } }

    @Test func drainAndResume() async throws {
        let place = try ClusterPlace { $0.balances = true }
        let (first, second) = (try await node(place, "first"), try await node(place, "second"))
        try await wait("both have a half") { buckets(first, second) == [8, 8] }
        #expect(await refusal(first, "third", .drain(isForced: false)) == .unknown)
        // Asked on another one.
        #expect(await refusal(first, "second", .drain(isForced: false)) == nil)
        try await wait("the other has all") { buckets(first, second) == [16, 0] }
        #expect(second.admission(of: 1) == .draining && first.admission(of: 1) == .open)
        #expect(place.events.contains(.draining(true)))
        let seen = try await first.sharing(isCounting: true)
        #expect(seen.nodes.map(\.name) == ["first", "second"] && seen.nodes.map(\.state) == ["works", "drained"])
        #expect(seen.nodes.map(\.buckets) == [16, 0] && seen.buckets == 16 && seen.freeBuckets == 0)
        #expect(seen.nodes.allSatisfy { $0.incarnation == 1 && $0.isEdge && $0.isRelay && $0.heard < .seconds(60) })
        #expect(seen.logPosition.contains("/") && seen.standbys.isEmpty)
        // What would have nobody who delivers it stays.
        #expect(await refusal(second, "first", .drain(isForced: false)) == .last)
        #expect(first.admission(of: 1) == .open)
        // It is so over a restart.
        await second.close()
        let again = try await node(place, "second")
        try await wait("it takes no mail") { again.admission(of: 1) == .draining }
        #expect(buckets(first, again) == [16, 0])
        #expect(await refusal(again, "second", .resume) == nil)
        try await wait("both have a half again") { buckets(first, again) == [8, 8] }
        #expect(again.admission(of: 1) == .open)
        await first.close()
        await again.close()
    }

    /// The last one, if it has to be: it takes no mail, and delivers what it has.
    @Test func forced() async throws {
        let place = try ClusterPlace()
        let only = try await node(place, "only")
        #expect(await refusal(only, "only", .drain(isForced: false)) == .last)
        #expect(await refusal(only, "only", .drain(isForced: true)) == nil)
        try await wait("it takes no mail") { only.admission(of: 1) == .draining }
        #expect(buckets(only) == [16] && only.status().failure == nil && only.status().node?.isDraining == true)
        await only.close()
    }

    /// Two that are drained at once do not each count on the other.
    @Test func bothAtOnce() async throws {
        let place = try ClusterPlace()
        let (first, second) = (try await node(place, "first"), try await node(place, "second"))
        async let one = refusal(first, "first", .drain(isForced: false))
        async let other = refusal(second, "second", .drain(isForced: false))
        let refusals = await [one, other]
        #expect(refusals.contains(.last) && refusals.contains(nil))
        await first.close()
        await second.close()
    }

    @Test func forget() async throws {
        let place = try ClusterPlace()
        let (first, second) = (try await node(place, "first"), try await node(place, "second"))
        #expect(await refusal(first, "second", .forget) == .works)
        #expect(await refusal(first, "first", .forget) == .works)
        await second.close()
        #expect(try await first.sharing(isCounting: true).nodes.map(\.state) == ["works", "gone"])
        #expect(await refusal(first, "second", .forget) == nil)
        #expect(try await first.sharing(isCounting: true).nodes.map(\.name) == ["first"])
        #expect(await refusal(first, "second", .forget) == .unknown)
        // One that comes with the name is another one than whoever had it: what that one records does not count.
        let again = try await node(place, "second")
        let fence = try place.server.sql("select incarnation from slimtad.fence where node = 'second'", in: place.name)
        let life = try #require(try await first.sharing(isCounting: true).nodes.last?.incarnation)
        #expect(life > 1 && fence == "3")
        await again.close()
        await first.close()
    }

    /// One that is silent is declared dead first, and what it had is free.
    @Test func forgetTheDead() async throws {
        let place = try ClusterPlace()
        let first = try await node(place, "first")
        let second = try await node(place, "second")
        #expect(buckets(first, second) == [16, 0])
        await place.crash(first)
        try await wait("it is silent for a lease") { await refusal(second, "first", .forget) == nil }
        try await wait("what it had is the other's") { buckets(second) == [16] }
        #expect(try await second.sharing(isCounting: true).nodes.map(\.name) == ["second"])
        let fence = try place.server.sql("select incarnation from slimtad.fence where node = 'first'", in: place.name)
        #expect(fence == "2")
        await second.close()
    }
}
