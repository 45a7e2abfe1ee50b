// Lookups that several sessions want at once: made once, for as long as anybody waits.

import SlimtaDNS
import SlimtaRules
import Synchronization
import TestKit
import Testing

@testable import SlimtaEdge

@Suite struct SharedLookupsTests {
    /// A lookup that ends when it is told to, and counts how often it was begun and cancelled.
    private final class Lookup: Sendable {
        private let runs = Atomic<Int>(0)
        private let cancelled = Atomic<Bool>(false)
        var begun: Int { runs.load(ordering: .relaxed) }
        var isCancelled: Bool { cancelled.load(ordering: .relaxed) }
        private let gate = AsyncStream<LookupValue>.makeStream()

        func finish(_ value: LookupValue) { gate.continuation.yield(value) }

        func run(_ interim: Interim) async -> LookupValue {
            runs.add(1, ordering: .relaxed)
            interim.become(.listing(.listed([], text: "interim")))
            for await value in gate.stream { return value }
            cancelled.store(Task.isCancelled, ordering: .relaxed)
            return .listing(.failed("cancelled"))
        }
    }

    private let shared = SharedLookups()
    private let lookup = Lookup()

    private func key(_ name: String) throws -> SharedLookups.Key {
        .init(fact: .dnsbl("a"), name: try #require(QueryName(name)), source: nil)
    }

    private func wait(
        _ interim: Interim = Interim(), _ name: String = "x.list", for other: Lookup? = nil
    ) throws -> Task<String?, Never> {
        let key = try key(name)
        return Task { [shared, lookup = other ?? lookup] in
            await shared.value(of: key, interim) { await lookup.run($0) }.map { "\($0)" }
        }
    }

    private func until(_ condition: () -> Bool) async throws {
        for _ in 0..<2000 where !condition() { try await Task.sleep(for: .milliseconds(5)) }
        #expect(condition())
    }

    @Test func onceForAll() async throws {
        let interims = (0..<3).map { _ in Interim() }
        let waiters = try interims.map { try wait($0) }
        try await until { interims.allSatisfy { $0.value != nil } }
        #expect(shared.count == 1)
        lookup.finish(.listing(.notListed))
        for waiter in waiters { #expect(await waiter.value == "\(LookupValue.listing(.notListed))") }
        #expect(lookup.begun == 1)
        #expect(shared.count == 0)
        // What has ended is not kept.
        let next = try wait()
        lookup.finish(.listing(.failed("another")))
        #expect(await next.value == "\(LookupValue.listing(.failed("another")))")
        #expect(lookup.begun == 2)
    }

    /// Whoever began it may go: only who goes is told nothing.
    @Test func oneThatGoes() async throws {
        let interims = [Interim(), Interim()]
        let first = try wait(interims[0])
        try await until { interims[0].value != nil }
        let second = try wait(interims[1])
        try await until { interims[1].value != nil }
        first.cancel()
        #expect(await first.value == nil)
        lookup.finish(.listing(.notListed))
        #expect(await second.value == "\(LookupValue.listing(.notListed))")
        #expect(!lookup.isCancelled)
    }

    @Test func nobodyIsLeft() async throws {
        let interims = (0..<3).map { _ in Interim() }
        let waiters = try interims.map { try wait($0) }
        try await until { interims.allSatisfy { $0.value != nil } }
        for waiter in waiters { waiter.cancel() }
        for waiter in waiters { #expect(await waiter.value == nil) }
        #expect(shared.count == 0)
        try await until { lookup.isCancelled }
    }

    /// A task that is cancelled before it waits does not wait, nor does its lookup go on.
    @Test func cancelledBefore() async throws {
        for _ in 0..<200 {
            let waiter = try wait(for: Lookup())
            waiter.cancel()
            #expect(await waiter.value == nil)
        }
        #expect(shared.count == 0)
    }

    @Test func differentNames() async throws {
        let lookups = [Lookup(), Lookup()]
        let waiters = try zip(["x.list", "y.list"], lookups).map { try wait(Interim(), $0, for: $1) }
        try await until { lookups.allSatisfy { $0.begun == 1 } }
        for waiter in waiters { waiter.cancel() }
        for waiter in waiters { #expect(await waiter.value == nil) }
    }
}
