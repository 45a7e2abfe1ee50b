// The life of a large message's file, and the inspector.

import Foundation
import NIOCore
import SlimtaMail
import SlimtaQueue
import StorageKit
import Testing

@testable import SlimtaStorage

@Suite struct SpoolTests {
    let directory = ScratchDirectory()

    private func files() -> [String] {
        let spool = "\(directory.path)/spool"
        return (FileManager.default.enumerator(atPath: spool)?.allObjects as? [String] ?? [])
            .filter { $0.utf8.count > 30 }
    }

    private func spool(_ storage: JournaledStorage, _ octets: [UInt8]) async throws -> any SpooledBody {
        let writer = storage.beginSpool(QueueID(at: .now()))
        for start in stride(from: 0, to: octets.count, by: 70_000) {
            let piece = ByteBuffer(bytes: octets[start..<min(start + 70_000, octets.count)])
            let failure: StorageError? = await withCheckedContinuation { continuation in
                writer.append(piece) { continuation.resume(returning: $0) }
            }
            #expect(failure == nil)
        }
        return try await withCheckedContinuation { continuation in
            writer.finish { continuation.resume(returning: $0) }
        }.get()
    }

    private func commit(_ body: any SpooledBody, _ storage: JournaledStorage, count: Int = 1) async throws -> [Envelope]
    {
        let envelopes = (0..<count).map { _ in makeEnvelope() }
        try await storage.commit(
            QueueCommit(
                accepted: envelopes.map { .init($0, due: someDue) },
                message: Message(head: ByteBuffer(string: "head"), rest: body)))
        return envelopes
    }

    let octets = (0..<2_500_000).map { UInt8(truncatingIfNeeded: $0 &* 2_654_435_761 >> 7) }

    @Test func aLargeMessageIsReadBackAndGoesWithItsLastEnvelope() async throws {
        var storage = try JournaledStorage.scratch(directory)
        _ = try storage.recover()
        let envelopes = try await commit(try await spool(storage, octets), storage, count: 2)
        for reopen in [false, true] {
            if reopen {
                await storage.close()
                storage = try JournaledStorage.scratch(directory)
                #expect(try storage.recover().count == 2)
            }
            let loaded = try await storage.load(envelopes[1].id)
            #expect(loaded.message.size == octets.count + 4)
            let all = try await readAll(try #require(loaded.message.rest))
            #expect(Array(all.readableBytesView) == octets)
        }
        try await storage.commit(QueueCommit(ended: [Ending(id: envelopes[0].id)]))
        try await storage.checkpoint()
        #expect(files().count == 1)
        try await storage.commit(QueueCommit(ended: [Ending(id: envelopes[1].id)]))
        try await eventually("the file is deleted") { files().isEmpty }
        await storage.close()
    }

    @Test func withoutACommitTheFileGoesWithItsObject() async throws {
        let storage = try JournaledStorage.scratch(directory)
        _ = try storage.recover()
        var body: (any SpooledBody)? = try await spool(storage, [1, 2, 3])
        #expect(files().count == 1)
        _ = body
        body = nil
        try await eventually("the file is deleted") { files().isEmpty }
        await storage.close()
    }

    @Test func anAbandonedFileIsDeletedAtAnyTime() async throws {
        let storage = try JournaledStorage.scratch(directory)
        _ = try storage.recover()
        let writer = storage.beginSpool(QueueID(at: .now()))
        writer.append(ByteBuffer(bytes: octets)) { _ in }
        writer.abandon()
        try await eventually("the file is deleted") { files().isEmpty }
        var dropped: (any SpoolWriter)? = storage.beginSpool(QueueID(at: .now()))
        await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
            dropped!.append(ByteBuffer(bytes: [1])) { _ in continuation.resume() }
        }
        dropped = nil
        try await eventually("the file is deleted") { files().isEmpty }
        await storage.close()
    }

    @Test func aLoadedBodyCanBeCommittedAgain() async throws {
        let storage = try JournaledStorage.scratch(directory)
        _ = try storage.recover()
        let first = try await commit(try await spool(storage, [1, 2, 3]), storage)[0]
        let loaded = try await storage.load(first.id)
        let second = try await commit(try #require(loaded.message.rest), storage)[0]
        try await storage.commit(QueueCommit(ended: [Ending(id: first.id)]))
        try await storage.checkpoint()
        let body = try #require(try await storage.load(second.id).message.rest)
        #expect(Array(try await readAll(body).readableBytesView) == [1, 2, 3])
        try await storage.commit(QueueCommit(ended: [Ending(id: second.id)]))
        try await eventually("the file is deleted") { files().isEmpty }
        // A body whose file is gone is not queued.
        await #expect(throws: StorageError.self) { try await commit(body, storage) }
        #expect(storage.count() == 0)
        await storage.close()
    }

    @Test func afterAStartOnlyFilesWithAnEnvelopeStay() async throws {
        var storage = try JournaledStorage.scratch(directory)
        _ = try storage.recover()
        let kept = try await commit(try await spool(storage, [1, 2, 3]), storage)[0]
        let lost = try await spool(storage, [4, 5, 6])
        let unfinished = storage.beginSpool(QueueID(at: .now()))
        unfinished.append(ByteBuffer(bytes: [7])) { _ in }
        storage.halt()
        #expect(files().count == 3)
        storage = try JournaledStorage.scratch(directory)
        _ = try storage.recover()
        try await eventually("what nobody has is deleted") { files().count == 1 }
        let body = try #require(try await storage.load(kept.id).message.rest)
        #expect(Array(try await readAll(body).readableBytesView) == [1, 2, 3])
        await storage.close()
        withExtendedLifetime((lost, unfinished)) {}
    }

    @Test func aChangedFileIsNoticed() async throws {
        let storage = try JournaledStorage.scratch(directory)
        _ = try storage.recover()
        let envelope = try await commit(try await spool(storage, octets), storage)[0]
        let path = "\(directory.path)/spool/\(files()[0])"
        var content = try Data(contentsOf: URL(fileURLWithPath: path))
        content[2_000_000] ^= 1
        try content.write(to: URL(fileURLWithPath: path))
        let body = try #require(try await storage.load(envelope.id).message.rest)
        await #expect(throws: StorageError.self) { try await readAll(body) }
        try content.prefix(1000).write(to: URL(fileURLWithPath: path))
        await #expect(throws: StorageError.self) { try await readAll(body) }
        await storage.close()
    }

    @Test func theInspectorSeesAllOfAStoppedQueueAndTheSealedPartOfARunningOne() async throws {
        let storage = try JournaledStorage.scratch(directory)
        _ = try storage.recover()
        let sealed = try await storage.accept(makeEnvelope(), "sealed")
        try await storage.checkpoint()
        let fresh = try await storage.accept(makeEnvelope(), "fresh")
        let beside = try StorageInspector(directory: directory.path)
        #expect(beside.asOfCheckpoint != nil)
        #expect(beside.queued.map(\.id) == [sealed.id])
        #expect(try beside.load(sealed.id).text == "sealed")
        storage.halt()
        let before = try FileManager.default.subpathsOfDirectory(atPath: directory.path).sorted()
        let stopped = try StorageInspector(directory: directory.path)
        #expect(stopped.asOfCheckpoint == nil)
        #expect(stopped.queued.map(\.id) == [sealed.id, fresh.id].sorted())
        #expect(try stopped.load(fresh.id).text == "fresh")
        #expect(throws: StorageError.notFound) { try stopped.load(QueueID(high: 1, low: 1)) }
        // No daemon can start meanwhile.
        #expect(throws: StorageOpenError.self) { try JournaledStorage.scratch(directory) }
        withExtendedLifetime(stopped) {}
        #expect(try FileManager.default.subpathsOfDirectory(atPath: directory.path).sorted() == before)
    }
}
