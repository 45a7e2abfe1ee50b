// Disks that fail and fill up.

import NIOCore
import SlimtaMail
import SlimtaQueue
import SlimtaThreads
import StorageKit
import Synchronization
import Testing

@testable import SlimtaStorage

private let inputOutputError: Int32 = 5
private let noSpace: Int32 = 28

@Suite struct FaultTests: OnSimulatedDisk {
    let disk = SimulatedDisk()
    let events = Events()

    private func failOnce(_ call: String, _ part: String, _ code: Int32) {
        let isSpent = Mutex(false)
        disk.fault.withLock {
            $0 = { made, path in
                // A segment in the making is not what is meant.
                guard made == call, path.contains(part), !path.hasSuffix(".wal.tmp") else { return nil }
                return isSpent.withLock { spent in
                    defer { spent = true }
                    return spent ? nil : code
                }
            }
        }
    }

    private func fail(_ call: String, _ part: String, _ code: Int32) {
        disk.fault.withLock { $0 = { made, path in made == call && path.contains(part) ? code : nil } }
    }

    private func heal() { disk.fault.withLock { $0 = nil } }

    @Test(arguments: ["sync", "write"])
    func aFailedSyncFailsItsBatchAndIsNeverTriedAgain(_ call: String) async throws {
        let storage = try storage()
        let before = try await storage.accept()
        failOnce(call, ".wal", inputOutputError)
        let failed = makeEnvelope()
        await #expect(throws: StorageError.self) { try await storage.accept(failed) }
        try await eventually("the journal recovers") { storage.status().failure == nil }
        let after = try await storage.accept()
        #expect(try await storage.load(before.id).envelope == before)
        await #expect(throws: StorageError.notFound) { try await storage.load(failed.id) }
        storage.halt()
        heal()
        // Also the next run does not believe what may be on the disk behind the failure.
        let again = try self.storage()
        var ids: Set<QueueID> = []
        again.core.index.withLock { index in
            for envelope in [before, failed, after] where index.entry(envelope.id) != nil { ids.insert(envelope.id) }
        }
        #expect(ids == [before.id, after.id])
        #expect(events.all.contains { if case .journalFailed = $0 { true } else { false } })
        #expect(events.all.contains(.journalRecovered))
        #expect(!events.all.contains { if case .damaged = $0 { true } else { false } })
        await again.close()
    }

    /// The writer finds that a batch needs the next segment when callers have begun another one: that one was encoded for
    /// the segment before, and gets the checksums of the new one.
    @Test func whatIsEncodedWhenSegmentsChangeStaysReadable() throws {
        let core = StorageCore(disk, directory: "/q", options: smallOptions(), report: events.report)
        try Recovery(core).run()
        let housekeeper = Housekeeper(core, free: [])
        let segments = try [1, 2].map { try housekeeper.makeSegment($0) }
        core.catalog.withLock { $0.segments[1] = segments[0] }
        let journal = Journal(
            core, next: 1, durable: 0, current: segments[0], position: SegmentHeader.space, closed: [],
            housekeeper: Event(), checkpointer: Event(), discard: { _ in })
        journal.state.withLock { $0.ready = segments[1] }
        let envelope = makeEnvelope()
        journal.commit(QueueCommit(accepted: [.init(envelope, due: someDue)], message: makeMessage("text"))) { _ in }
        journal.rotate()
        journal.state.withLock { $0.isStopped = true }
        journal.run()
        let loaded = try ContentReader(core, windowSize: 4096).load(envelope.id) { _ in preconditionFailure() }
        #expect(loaded.envelope == envelope)
        #expect(core.index.withLock { $0.entry(envelope.id)?.envelope.segment } == 2)
    }

    @Test func whileTheDiskFailsNothingIsTakenAndAfterwardsEverything() async throws {
        let storage = try storage()
        let before = try await storage.accept()
        fail("sync", ".wal", inputOutputError)
        for _ in 0..<5 {
            await #expect(throws: StorageError.self) { try await storage.accept() }
            await #expect(throws: StorageError.self) {
                try await storage.commit(QueueCommit(ended: [Ending(id: before.id)]))
            }
        }
        #expect(storage.status().failure != nil)
        #expect(storage.count() == 1)
        heal()
        try await eventually("the journal recovers") { storage.status().failure == nil }
        try await storage.commit(QueueCommit(ended: [Ending(id: before.id)]))
        try await storage.accept()
        #expect(storage.count() == 1)
        await storage.close()
    }

    @Test func aFullDiskRefusesNewMailAndLetsTheQueueDrain() async throws {
        let storage = try storage()
        let before = try await storage.accept()
        disk.setFreeOctets(0)
        var options = smallOptions()
        options.minimumFree = 1000
        storage.halt()
        let full = try self.storage(options)
        #expect(full.status().isFull)
        await #expect(throws: StorageError.full) { try await full.accept() }
        try await full.commit(QueueCommit(ended: [Ending(id: before.id, delivered: 1)]))
        #expect(full.count() == 0)
        disk.setFreeOctets(1 << 30)
        try await eventually("there is room again") { !full.status().isFull }
        try await full.accept()
        #expect(events.all.contains(.diskFull(lacks: .octets, freeOctets: 0, freeInodes: .max)))
        #expect(events.all.contains(.diskRoom(freeOctets: 1 << 30, freeInodes: .max)))
        await full.close()
    }

    /// Segments are used again rather than filled with zeros anew; on a full disk nearly all of them are given back.
    @Test func freeSegmentsAreKeptAndGivenBackOnAFullDisk() async throws {
        func free() -> Int {
            disk.image.directories["/q/journal"]?.names.keys.count { $0.hasSuffix(".free") } ?? 0
        }
        var options = smallOptions()
        (options.journalLimit, options.checkpointSegments) = (32 * options.segmentSize, 8)
        options.minimumFree = 1000
        let storage = try storage(options)
        while storage.running({ journal in journal.state.withLock { $0.closed.count } }) ?? 0 < 7 {
            try await storage.accept(makeEnvelope(), String(repeating: "x", count: 7000))
        }
        try await storage.checkpoint()
        try await eventually("the segments are free") { free() >= 6 }
        disk.setFreeOctets(0)
        // In a quiet queue nobody looks.
        try await storage.accept()
        try await eventually("they are given back") { free() <= 2 }
        await storage.close()
    }

    /// No segment can be made, no checkpoint comes through: new mail is refused in the end, what is queued can leave.
    @Test func withoutRoomForSegmentsFatesAreStillRecorded() async throws {
        var options = smallOptions()
        options.roomTimeout = .milliseconds(50)
        let storage = try storage(options)
        try await eventually("a segment is ready") {
            storage.running { journal in journal.state.withLock { $0.ready != nil } } == true
        }
        disk.fault.withLock {
            $0 = { call, path in
                call == "open" && (path.hasSuffix(".tmp") || path.hasSuffix(".free")) ? noSpace : nil
            }
        }
        var accepted: [QueueID] = []
        var refused = 0
        while refused < 3 {
            do {
                accepted.append(try await storage.accept(makeEnvelope(), String(repeating: "x", count: 3000)).id)
            } catch {
                #expect(error as? StorageError == .full)
                refused += 1
            }
        }
        #expect(accepted.count > 5)
        for id in accepted.prefix(2) { try await storage.commit(QueueCommit(ended: [Ending(id: id)])) }
        #expect(storage.count() == accepted.count - 2)
        heal()
        try await eventually("there is room again") { (try? await storage.accept()) != nil }
        await storage.close()
        let again = try self.storage()
        #expect(again.count() == accepted.count - 1)
        await again.close()
    }

    @Test(arguments: ["sync", "write", "rename", "open"], ["queue", "super"])
    func aFailedCheckpointTouchesNothing(_ call: String, _ part: String) async throws {
        let storage = try storage()
        var envelopes: [Envelope] = []
        for _ in 0..<3 { envelopes.append(try await storage.accept()) }
        fail(call, part, inputOutputError)
        let fails = (try? await storage.checkpoint()) == nil
        for envelope in envelopes { #expect(try await storage.load(envelope.id).envelope == envelope) }
        heal()
        envelopes.append(try await storage.accept())
        try await storage.checkpoint()
        #expect(storage.core.index.withLock { $0.inJournal } == 0)
        for envelope in envelopes { #expect(try await storage.load(envelope.id).envelope == envelope) }
        storage.halt()
        #expect(fails == events.all.contains { if case .checkpointFailed = $0 { true } else { false } })
        let again = try self.storage()
        #expect(again.count() == envelopes.count)
        for envelope in envelopes { #expect(try await again.load(envelope.id).envelope == envelope) }
        await again.close()
    }

    @Test func theReserveGetsACheckpointThroughOnAFullDisk() async throws {
        var options = smallOptions()
        options.reserveSize = 8192
        let storage = try storage(options)
        let envelope = try await storage.accept()
        try await eventually("the reserve is made") { disk.content("/q/reserve") != nil }
        let isGivenUp = Mutex(false)
        disk.fault.withLock {
            $0 = { call, path in
                if call == "unlink", path == "/q/reserve" { isGivenUp.withLock { $0 = true } }
                return call == "open" && path.contains("gdbm.tmp") && !isGivenUp.withLock { $0 } ? noSpace : nil
            }
        }
        try await storage.checkpoint()
        #expect(isGivenUp.withLock { $0 })
        #expect(storage.core.index.withLock { $0.inJournal } == 0)
        #expect(try await storage.load(envelope.id).envelope == envelope)
        heal()
        try await storage.accept()
        try await eventually("the reserve is made again") { disk.content("/q/reserve") != nil }
        await storage.close()
    }

    /// Early, while the client still sends, if the message is longer than what is written at once; else at its end.
    @Test(arguments: [1, 1_000_000]) func aFailedSpoolFileIsTold(length: Int) async throws {
        let storage = try storage()
        fail("write", "spool/tmp", noSpace)
        let writer = storage.beginSpool(QueueID(high: 1, low: 1))
        let early: StorageError? = await withCheckedContinuation { continuation in
            writer.append(ByteBuffer(repeating: 0, count: length)) { continuation.resume(returning: $0) }
        }
        #expect(early == (length == 1 ? nil : .full))
        let result = await withCheckedContinuation { continuation in
            writer.finish { continuation.resume(returning: $0) }
        }
        #expect(throws: StorageError.full) { try result.get() }
        writer.abandon()
        heal()
        try await eventually("the file is deleted") { (try? disk.list("/q/spool/tmp").isEmpty) == true }
        await storage.close()
    }
}
