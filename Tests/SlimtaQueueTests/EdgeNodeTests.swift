// The queue of a node that delivers nothing: what it takes is another's to deliver, and it does not touch it.

import SlimtaMail
import StorageKit
import Testing

@testable import SlimtaQueue

@Suite struct EdgeNodeTests {
    let database = MemoryDatabase()

    @Test func whatItTakesIsDeliveredByOthers() async throws {
        let relay = try await Node(database, "relay")
        let edge = try await Node(database, "edge", isEdge: true)
        var ids: Set<QueueID> = []
        for number in 0..<20 { ids.insert(try await edge.accept(to: "x@x\(number).test")) }
        try await eventually("the other delivers it") { relay.relay.attempted == ids }
        try await eventually("all of it") { relay.queue.count == 0 }
        #expect(edge.queue.count == 0 && edge.relay.attempted.isEmpty)
        let ledger = try await edge.storage.ledger()
        #expect(ledger.isBalanced && ledger.submitted.delivered == 20)
        await edge.end()
        await relay.end()
    }

    @Test func itWaitsForSomebody() async throws {
        let edge = try await Node(database, "edge", isEdge: true)
        let id = try await edge.accept(to: "x@x.test")
        try await edge.settled()
        #expect(!edge.knows(id) && edge.relay.attempted.isEmpty)
        let relay = try await Node(database, "relay")
        try await eventually("who comes delivers it") { relay.relay.attempted == [id] }
        await edge.end()
        await relay.end()
    }

    @Test func whatIsDiscardedIsCountedAtOnce() async throws {
        let edge = try await Node(database, "edge", isEdge: true)
        let envelope = edge.envelope(to: "x@x.test")
        let failure: StorageError? = await withCheckedContinuation { continuation in
            edge.queue.discard(envelope, by: "milter x") { result in
                if case .failure(let error) = result {
                    continuation.resume(returning: error)
                } else {
                    continuation.resume(returning: nil)
                }
            }
        }
        #expect(failure == nil)
        let ledger = try await edge.storage.ledger()
        #expect(ledger.isBalanced && ledger.submitted.accepted == 1 && ledger.submitted.removed == 1)
        await edge.end()
    }

    /// An id says where; when the message has come whole, that may be another's.
    @Test func aBucketThatLeftWhileTheMessageCame() async throws {
        let first = try await Node(database, "first")
        let second = try await Node(database, "second")
        let envelope = first.envelope(to: "x@x.test")
        database.move(QueueBuckets(numbers: [envelope.id.bucket]), to: "second")
        try await eventually("it has left") { !first.storage.keeps(envelope.id) }
        #expect(await first.outcome(of: envelope) == nil)
        try await eventually("who has it delivers") { second.relay.attempted == [envelope.id] }
        #expect(first.relay.attempted.isEmpty)
        await first.end()
        await second.end()
    }
}
