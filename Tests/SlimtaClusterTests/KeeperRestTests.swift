// Large messages and tables that are emptied: one that takes too long is refused, and one whose pieces are gone is never
// acknowledged.

import NIOCore
import SlimtaMail
import SlimtaQueue
import StorageKit
import TestKit
import Testing

@testable import SlimtaCluster

@Suite("Keeper: large messages", .needsPostgres)
struct KeeperRestTests {
    private static let late = StorageError.failed("the message took too long to arrive")

    private func appended(_ writer: any SpoolWriter, _ count: Int) async -> StorageError? {
        await withCheckedContinuation { continuation in
            writer.append(ByteBuffer(repeating: 7, count: count)) { continuation.resume(returning: $0) }
        }
    }

    private func finished(_ writer: any SpoolWriter) async -> Result<any SpooledBody, StorageError> {
        await withCheckedContinuation { continuation in writer.finish { continuation.resume(returning: $0) } }
    }

    /// Where no time is left nothing is written, not even the last piece.
    @Test func tooLate() async throws {
        let bench = try LookingBench.kept { $0.ringHold = .zero }
        let writer = bench.reader.beginSpool(bench.envelope().id)
        #expect(await appended(writer, 3 * Chunk.size) == Self.late)
        #expect(await appended(writer, 1) == Self.late)
        #expect(await finished(writer).failure == Self.late)
        let other = bench.reader.beginSpool(bench.envelope().id)
        #expect(await finished(other).failure == Self.late)
        #expect(try bench.count("message_00") == 0)
        await bench.close()
    }

    /// Pieces of a message that has come whole are gone when it is committed.
    @Test(arguments: [
        "delete from slimtad.message_00 where chunk = 1", "delete from slimtad.message_00 where chunk = 2",
        "truncate slimtad.message_00",
    ])
    func piecesAreGone(_ change: String) async throws {
        let place = try ClusterPlace()
        let storage = try await place.open()
        try await storage.start { _ in }
        let good = try await spooled(storage)
        let bad = try await spooled(storage)
        _ = try place.server.sql(
            change.hasPrefix("truncate")
                ? """
                begin; create temporary table kept as select * from slimtad.message_00 where id = \(good.0.id.literal);
                \(change); insert into slimtad.message_00 select * from kept; commit
                """ : "\(change) and id = \(bad.0.id.literal)", in: place.name)
        let small = makeEnvelope(storage.newID(at: .now()))
        // The first one waits for the lock; the others become a group behind it.
        let holder = try place.session()
        try holder.execute("begin; lock table slimtad.item in exclusive mode", by: .after(patience))
        let first = makeEnvelope(storage.newID(at: .now()))
        let commits = [commit(first), commit(small), commit(bad.0, bad.1), commit(good.0, good.1)]
        let answers = AsyncStream<(Int, StorageError?)>.makeStream()
        for (number, commit) in commits.enumerated() {
            storage.commit(commit) { answers.continuation.yield((number, $0.failure)) }
        }
        try holder.execute("commit", by: .after(patience))
        var failures: [StorageError?] = [nil, nil, nil, nil]
        var count = 0
        for await (number, failure) in answers.stream {
            failures[number] = failure
            count += 1
            if count == commits.count { break }
        }
        #expect(failures[0] == nil && failures[1] == nil && failures[3] == nil)
        guard case .failed = failures[2] else { return #expect(failures[2] == .failed("")) }
        #expect(await failure { () async throws(StorageError) in _ = try await storage.load(bad.0.id) } == .notFound)
        let reader = try #require(try await storage.load(good.0.id).message.rest).makeReader()
        var octets = 0
        while let piece = try await reader.next(Chunk.size) { octets += piece.readableBytes }
        #expect(octets == 2 * Chunk.size + 5)
        #expect(try await storage.load(small.id).message.size == 4)
        await storage.close()
    }

    /// A message without an octet behind its head is whole.
    @Test func emptyRest() async throws {
        let place = try ClusterPlace()
        let storage = try await place.open()
        try await storage.start { _ in }
        let id = storage.newID(at: .now())
        let body = try await finished(storage.beginSpool(id)).get()
        try await storage.commit(commit(makeEnvelope(id), body))
        #expect(try await storage.load(id).message.size == 4)
        await storage.close()
    }

    private func spooled(_ storage: any QueueBackend) async throws -> (Envelope, any SpooledBody) {
        let envelope = makeEnvelope(storage.newID(at: .now()))
        let writer = storage.beginSpool(envelope.id)
        #expect(await appended(writer, 2 * Chunk.size + 5) == nil)
        return (envelope, try await finished(writer).get())
    }

    private func commit(_ envelope: Envelope, _ rest: (any SpooledBody)? = nil) -> QueueCommit {
        QueueCommit(
            accepted: [.init(envelope, due: someDue)], message: Message(head: ByteBuffer(string: "head"), rest: rest))
    }
}

extension Result where Failure == StorageError {
    fileprivate var failure: StorageError? { if case .failure(let error) = self { error } else { nil } }
}
