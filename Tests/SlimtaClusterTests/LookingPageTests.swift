// Walks through all that is queued, however it is spread over the buckets.

import SlimtaMail
import SlimtaQueue
import TestKit
import Testing

@testable import SlimtaCluster

@Suite("Looking: pages", .enabled(if: PostgresServer.isThere, "\(PostgresServer.missing)"))
struct LookingPageTests {
    /// Which bucket the envelope with this number is in; nil: any.
    enum Spread: CaseIterable {
        case one, even, random, mostlyOne, oneAfterTheOther

        func bucket(_ number: Int, of count: Int) -> UInt16? {
            switch self {
            case .one: 11
            case .even: UInt16(number % 16)
            case .random: nil
            case .mostlyOne: number % 10 == 0 ? nil : 2
            case .oneAfterTheOther: UInt16(number * 16 / count)
            }
        }
    }

    private func walk(_ bench: LookingBench, by count: Int) async throws -> [QueuedEnvelope] {
        var found: [QueuedEnvelope] = []
        var place: QueueID?
        repeat {
            let page = try await bench.reader.page(after: place, count: count)
            let ids = page.envelopes.map(\.envelope.id) + page.unreadable.map(\.id)
            #expect(ids.count <= count)
            if let next = page.next {
                // It goes on, and tells where.
                #expect(ids.count == count && ids.max() == next && place.map { $0 < next } ?? true)
            }
            found += page.envelopes
            #expect(found.count <= 5_000)
            place = page.next
        } while place != nil && found.count <= 5_000
        return found
    }

    @Test(arguments: Spread.allCases) func allOnceAndInOrder(_ spread: Spread) async throws {
        let bench = try LookingBench()
        #expect(try await bench.reader.page(after: nil, count: 7).next == nil)
        var stored: [LookingBench.Stored] = []
        for number in 0..<700 {
            let envelope = bench.envelope(bucket: spread.bucket(number, of: 700), at: Int64(number / 3))
            var state = EnvelopeState(of: envelope, due: LookingBench.due)
            state.attempts = UInt32(number)
            stored.append(.init(envelope: envelope, state: number % 2 == 0 ? state : nil))
        }
        try await bench.store(stored.shuffled())
        stored.sort { $0.id < $1.id }
        for count in [1, 2, 3, 10, 33, 128, 699, 700, 701, 100_000] {
            if count < 10, spread != .one, spread != .random { continue }
            let found = try await walk(bench, by: count)
            #expect(found.map(\.envelope) == stored.map(\.envelope), "by \(count)")
            #expect(found.map(\.state.attempts) == stored.map { $0.state?.attempts ?? 0 })
        }
        // From the middle, and from behind the end.
        let rest = try await bench.reader.page(after: stored[500].id, count: 50).envelopes
        #expect(rest.map(\.envelope.id) == stored[501..<551].map(\.id))
        let behind = try await bench.reader.page(after: stored[699].id, count: 50)
        #expect(behind.envelopes.isEmpty && behind.next == nil)
        await bench.close()
    }

    @Test func whatCannotBeReadIsListed() async throws {
        let bench = try LookingBench()
        let envelopes = (0..<30).map { bench.envelope(at: Int64($0)) }
        try await bench.store(envelopes.map { .init(envelope: $0) })
        _ = try bench.sql("update slimtad.item set envelope = '\\x01' where id = \(envelopes[4].id.literal)")
        _ = try bench.sql("update slimtad.item set state = '\\x01' where id = \(envelopes[20].id.literal)")
        let page = try await bench.reader.page(after: nil, count: 30)
        #expect(page.unreadable.map(\.id) == [envelopes[4].id, envelopes[20].id])
        #expect(page.envelopes.count == 28 && page.next == envelopes[29].id)
        // Who looks has nothing to report.
        #expect(bench.told.events.isEmpty)
        await bench.close()
    }
}
