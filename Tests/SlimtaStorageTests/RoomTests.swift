// Room on the disk: what starts and drains where there is little, what is given back, and how it is asked for.

import Foundation
import Glibc
import NIOCore
import SlimtaMail
import SlimtaQueue
import SlimtaThreads
import StorageKit
import Synchronization
import Testing

@testable import SlimtaStorage

@Suite struct RoomTests: OnSimulatedDisk {
    let disk = SimulatedDisk()
    let events = Events()

    /// A disk on which files together may grow by so many octets from now on.
    private func limit(_ octets: Int) {
        let used = disk.image.nodes.values.reduce(0) { $0 + $1.content.count }
        disk.setLimit(used + octets)
    }

    private var options: StorageOptions {
        var options = smallOptions()
        options.segmentSize = 1 << 20
        options.journalLimit = 16 << 20
        options.minimumFree = 200 << 10
        options.reserveSize = 512 << 10
        options.roomTimeout = .milliseconds(50)
        return options
    }

    private func journal() throws -> [String] { try disk.list("/q/journal").sorted() }

    /// The queue is there, the disk is full, and nothing is left of the journal's spare files.
    private func fill(_ room: Int, keepsReserve: Bool = true) async throws -> Envelope {
        let storage = try storage(options)
        let envelope = try await storage.accept()
        try await eventually("the reserve is made") { disk.content("/q/reserve") != nil }
        await storage.close()
        for name in try journal() where name.hasSuffix(".free") { try disk.remove("/q/journal/\(name)") }
        // The one that was made ready and never used may go.
        for name in try journal().dropFirst() { try disk.remove("/q/journal/\(name)") }
        if !keepsReserve { try disk.remove("/q/reserve") }
        try disk.syncDirectory("/q/journal")
        try disk.syncDirectory("/q")
        limit(room)
        return envelope
    }

    /// It starts, refuses new mail, records what is delivered, and when there is room again it is as before.
    private func drain(_ envelope: Envelope) async throws {
        let storage = try storage(options)
        #expect(events.all.contains { if case .diskFull(.octets, _, _) = $0 { true } else { false } }, "\(events.all)")
        #expect(storage.status().isFull && storage.admission(of: 0) == .full)
        await #expect(throws: StorageError.full) { try await storage.accept() }
        let stored = try await storage.load(envelope.id)
        #expect(stored.envelope == envelope)
        let bounce = makeEnvelope(sender: nil)
        try await storage.commit(
            QueueCommit(
                accepted: [.init(bounce, due: someDue)], message: makeMessage("bounce"),
                ended: [Ending(id: envelope.id, bounced: 1)]))
        // More than the small segment has room for.
        for _ in 0..<40 {
            try await eventually("it is recorded") {
                (try? await storage.commit(QueueCommit(states: [EnvelopeState(of: bounce, due: someDue)]))) != nil
            }
        }
        try await storage.commit(QueueCommit(ended: [Ending(id: bounce.id, delivered: 1)]))
        #expect(storage.count() == 0)
        disk.setLimit(nil)
        try await eventually("it is accepted again") { (try? await storage.accept()) != nil }
        // Also what only fits into a whole segment.
        try await eventually("a large one is accepted") {
            (try? await storage.accept(makeEnvelope(), String(repeating: "x", count: 500_000))) != nil
        }
        #expect(storage.ledger().isBalanced)
        let queued = storage.count()
        storage.halt()
        let after = Events()
        let again = JournaledStorage(on: disk, options, after)
        #expect(try again.recover().count == queued)
        #expect(after.all.isEmpty, "\(after.all)")
        #expect(again.status().losses.isEmpty)
        await again.close()
    }

    @Test func aStartWithLittleRoom() async throws { try await drain(try await fill(150 << 10)) }

    /// Room for a small segment only.
    @Test func aStartWithVeryLittleRoom() async throws { try await drain(try await fill(20 << 10)) }

    /// The reserve has to go.
    @Test func aStartWithoutRoom() async throws { try await drain(try await fill(0)) }

    /// Nothing at all can be done there: it says so, and nothing has changed.
    @Test func aStartWithoutRoomAndWithoutReserve() async throws {
        let envelope = try await fill(0, keepsReserve: false)
        let before = disk.operations
        var again: JournaledStorage?
        do { again = try storage(options) } catch {
            #expect((error as? StorageOpenError)?.description.contains(systemErrorText(ENOSPC)) == true)
        }
        // A segment that was never used may have done.
        again?.halt()
        #expect(disk.operations > before)
        disk.setLimit(nil)
        let last = try storage(options)
        #expect(try await last.load(envelope.id).envelope == envelope)
        #expect(last.status().losses.isEmpty)
        await last.close()
    }

    /// After a kill there is one that was made ready and never used.
    @Test func aStartAfterAKillTakesTheReadySegment() async throws {
        let storage = try storage(options)
        let envelope = try await storage.accept()
        try await eventually("the next segment is ready") {
            storage.running { journal in journal.state.withLock { $0.ready != nil } } == true
        }
        try await eventually("the reserve is made") { disk.content("/q/reserve") != nil }
        storage.halt()
        limit(0)
        let again = try self.storage(options)
        #expect(try await again.load(envelope.id).envelope == envelope)
        #expect(disk.content("/q/reserve") != nil)
        #expect(again.status().losses.isEmpty)
        again.halt()
        disk.setLimit(nil)
        let last = try self.storage(options)
        #expect(last.status().losses.isEmpty && last.count() == 1)
        await last.close()
    }

    @Test func outOfInodesIsSaidSo() async throws {
        var options = smallOptions()
        options.minimumFree = 100 << 20
        disk.setFreeInodes(1000)
        let storage = try storage(options)
        #expect(options.minimumInodes == 1024)
        #expect(
            events.all.contains(.diskFull(lacks: .inodes, freeOctets: 1 << 40, freeInodes: 1000)), "\(events.all)")
        #expect(storage.status().isFull && storage.status().freeInodes == 1000)
        await #expect(throws: StorageError.full) { try await storage.accept() }
        let writer = storage.beginSpool(QueueID(high: 1, low: 1))
        let result = await withCheckedContinuation { continuation in
            writer.finish { continuation.resume(returning: $0) }
        }
        #expect(throws: StorageError.full) { try result.get() }
        disk.setFreeInodes(5000)
        try await eventually("it is accepted again") { (try? await storage.accept()) != nil }
        #expect(events.all.contains(.diskRoom(freeOctets: 1 << 40, freeInodes: 5000)))
        await storage.close()
    }

    /// What a burst left is deleted after a while in which nobody needed it; and not before.
    @Test func freeSegmentsAreGivenBackAfterAQuietTime() async throws {
        func free() -> Int { ((try? disk.list("/q/journal")) ?? []).count { $0.hasSuffix(".free") } }
        var options = smallOptions()
        (options.journalLimit, options.checkpointSegments) = (32 * options.segmentSize, 8)
        options.quietTime = .seconds(600)
        let storage = try storage(options)
        while storage.running({ journal in journal.state.withLock { $0.closed.count } }) ?? 0 < 7 {
            try await storage.accept(makeEnvelope(), String(repeating: "x", count: 7000))
        }
        try await storage.checkpoint()
        try await eventually("the segments are free") { free() >= 6 }
        await storage.close()
        let kept = free()
        #expect(kept >= 6)
        options.quietTime = .milliseconds(300)
        let again = try self.storage(options)
        try await eventually("they are given back") { free() == 0 }
        try await again.accept()
        await again.close()
    }

    /// Neither at once nor later was it deleted: it is told once, and tried until it works.
    @Test(arguments: ["open", "unlink"]) func aFileThatCannotBeDeletedIsTriedAgain(_ call: String) async throws {
        let storage = try storage()
        let writer = storage.beginSpool(QueueID(high: 1, low: 1))
        writer.append(ByteBuffer(repeating: 0, count: 500_000)) { _ in }
        let body = try await withCheckedContinuation { continuation in
            writer.finish { continuation.resume(returning: $0) }
        }.get()
        let path = storage.core.paths.spooled(body.reference.id)
        let tries = Mutex(0)
        disk.fault.withLock {
            $0 = { made, at in
                guard made == call, at == path else { return nil }
                tries.withLock { $0 += 1 }
                return EMFILE
            }
        }
        // What commits it fails, and nobody has it any more.
        await #expect(throws: StorageError.self) {
            try await storage.commit(
                QueueCommit(
                    accepted: [.init(makeEnvelope(), due: someDue)],
                    message: Message(head: ByteBuffer(bytes: [UInt8](repeating: 0, count: 1 << 20)), rest: body)))
        }
        withExtendedLifetime(body) {}
        _ = consume body
        if call == "open" {
            // To shrink it before is a courtesy to the disk.
            try await eventually("it is deleted") { disk.content(path) == nil }
        } else {
            try await eventually("it is tried again") { tries.withLock { $0 } > 2 }
            #expect(events.all.count { if case .leftover = $0 { true } else { false } } == 1)
            disk.fault.withLock { $0 = nil }
            try await eventually("it is deleted") { disk.content(path) == nil }
        }
        await storage.close()
    }

    /// Each MAIL asks: with every lock of the storage taken it still gets its answer. Locks that are taken twice by one
    /// thread end the process.
    @Test func whetherThereIsRoomTakesNoLock() async throws {
        let storage = try storage()
        try await eventually("it has looked") { storage.admission(of: 1) == .open }
        let answers = storage.running { journal in
            journal.state.withLock { _ in
                storage.core.index.withLock { _ in
                    storage.core.catalog.withLock { _ in
                        [storage.admission(of: 1) == .open, storage.admission(of: 1 << 50) == .open]
                    }
                }
            }
        }
        #expect(answers == [true, false])
        storage.halt()
        #expect(storage.admission(of: 0) == .full)
    }
}

@Suite struct LockTests {
    /// The directory is the service user's, who may give any file a second name in it; root must not give that away.
    @Test func rootGivesAwayNoFileThatHasAnotherName() throws {
        let directory = ScratchDirectory()
        let outside = ScratchDirectory()
        mkdir(directory.path, 0o700)
        #expect(FileManager.default.createFile(atPath: outside.path, contents: Data("secret".utf8)))
        chmod(outside.path, 0o644)
        #expect(link(outside.path, "\(directory.path)/lock") == 0)
        let owner: (UInt32, UInt32)? = geteuid() == 0 ? (65534, 65534) : nil
        if owner != nil { chown(directory.path, 65534, 65534) }
        let error = #expect(throws: StorageOpenError.self) { try StateLock.take(directory.path, owner: owner) }
        guard case .unsafe(let text) = error else { return #expect(Bool(false), "\(String(describing: error))") }
        #expect(text.contains("2 names"))
        var info = stat()
        #expect(lstat(outside.path, &info) == 0)
        #expect(info.st_uid == geteuid() && info.st_mode & 0o777 == 0o644)
        #expect(try Data(contentsOf: URL(fileURLWithPath: outside.path)) == Data("secret".utf8))
    }

    @Test func aLinkAsTheLockIsRefused() throws {
        let directory = ScratchDirectory()
        mkdir(directory.path, 0o700)
        #expect(symlink("/etc/hostname", "\(directory.path)/lock") == 0)
        let error = #expect(throws: StorageOpenError.self) { try StateLock.take(directory.path, owner: nil) }
        guard case .unsafe = error else { return #expect(Bool(false), "\(String(describing: error))") }
    }

    /// As root: whose it is has to be root or the service's user.
    @Test func aLockOfSomebodyElseIsRefused() throws {
        let directory = ScratchDirectory()
        let lock = try StateLock.take(directory.path, owner: nil)
        withExtendedLifetime(lock) {}
        _ = consume lock
        guard geteuid() == 0 else { return }  // Nobody else can make such a file.
        chown("\(directory.path)/lock", 12345, 12345)
        let error = #expect(throws: StorageOpenError.self) { try StateLock.take(directory.path, owner: nil) }
        guard case .unsafe = error else { return #expect(Bool(false), "\(String(describing: error))") }
    }
}
