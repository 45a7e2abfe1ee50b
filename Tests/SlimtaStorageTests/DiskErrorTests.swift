// What the errors of a disk mean for who commits: no room or a failure, never an acknowledgement that does not hold; and
// that work goes on by itself when the disk is well again.

import Foundation
import Glibc
import NIOCore
import SlimtaMail
import SlimtaQueue
import SlimtaThreads
import StorageKit
import Synchronization
import TestKit
import Testing

@testable import SlimtaStorage

@Suite struct DiskErrorTests: OnSimulatedDisk {
    let disk = SimulatedDisk()
    let events = Events()

    private func heal() { disk.fault.withLock { $0 = nil } }

    /// Commits until the storage refuses; why it does.
    private func refusal(_ storage: JournaledStorage) async -> StorageError? {
        for _ in 0..<100 {
            do throws(StorageError) {
                try await storage.commit(
                    QueueCommit(
                        accepted: [.init(makeEnvelope(), due: someDue)],
                        message: makeMessage(String(repeating: "x", count: 3000))
                    ))
            } catch {
                return error
            }
        }
        return nil
    }

    private func goesOn(_ storage: JournaledStorage, with queued: Int) async throws {
        heal()
        try await eventually("mail is accepted again") { (try? await storage.accept()) != nil }
        #expect(storage.status().failure == nil)
        try await eventually("a checkpoint is made") { (try? await storage.checkpoint()) != nil }
        #expect(storage.count() == queued + 1)
        #expect(storage.ledger().isBalanced)
        await storage.close()
        let again = try self.storage()
        #expect(again.count() == queued + 1)
        #expect(!events.all.contains { if case .damaged = $0 { true } else { false } }, "\(events.all)")
        #expect(again.status().losses.isEmpty, "\(again.status().losses)")
        await again.close()
    }

    /// A checkpoint of a journal that failed may have come through though the disk said no, and there is no newer segment
    /// than the failed one: that is no journal that went missing.
    @Test func aStopWhileTheDiskFailsIsNoDamage() async throws {
        let storage = try storage()
        let kept = try await storage.accept()
        disk.fault.withLock {
            $0 = { call, path in call == "sync" && (path.contains("/journal") || path.hasSuffix("/super")) ? EIO : nil }
        }
        for _ in 0..<3 { await #expect(throws: StorageError.self) { try await storage.accept() } }
        // They may fail: what counts is what they leave. The second one is a new file, which this disk takes.
        for _ in 0..<2 { try? await storage.checkpoint() }
        storage.halt()
        heal()
        let found = Events()
        let again = JournaledStorage(on: disk, smallOptions(), found)
        #expect(try again.recover().map(\.id).contains(kept.id))
        #expect(!found.all.contains { if case .damaged = $0 { true } else { false } }, "\(found.all)")
        #expect(again.status().losses.isEmpty)
        await again.close()
    }

    /// The name of a directory that was made again has to be durable before anything in it is.
    @Test func nothingIsAcceptedIntoADirectoryThatAPowerCutTakesAway() async throws {
        let storage = try storage()
        try await storage.accept()
        disk.fault.withLock { $0 = { call, path in call == "sync" && path == "/q" ? EIO : nil } }
        disk.takeAway("/q/journal")
        try await eventually("it is noticed") { (try? await storage.accept()) == nil }
        try await eventually("it is made again") { disk.image.directories["/q/journal"] != nil }
        for _ in 0..<20 {
            await #expect(throws: StorageError.self) { try await storage.accept() }
            try await Task.sleep(for: .milliseconds(5))
        }
        heal()
        var accepted: QueueID?
        try await eventually("mail is accepted again") {
            accepted = try? await storage.accept().id
            return accepted != nil
        }
        storage.halt()
        var random = SeededGenerator(seed: 1)
        let rest = SimulatedDisk.afterCut(disk.image, .drop, using: &random)
        let after = JournaledStorage(on: rest, smallOptions(), events)
        #expect(try after.recover().map(\.id).contains(try #require(accepted)))
        await after.close()
    }

    /// A user's quota is like a full disk, a limit on files and a read-only file system are failures: all calls that
    /// would change something fail, from one moment on.
    @Test(arguments: [EDQUOT, ENOSPC, EFBIG, EROFS, EIO])
    func nothingIsAcknowledgedThatDoesNotHold(_ code: Int32) async throws {
        var options = smallOptions()
        options.roomTimeout = .milliseconds(50)
        let storage = try storage(options)
        let before = try await storage.accept()
        disk.fault.withLock {
            $0 = { call, path in
                switch call {
                case "read": nil
                case "open": path.hasSuffix(".tmp") ? code : nil
                default: code
                }
            }
        }
        let refused = await refusal(storage)
        if case .failed(let text) = refused {
            #expect(text.contains(systemErrorText(code)))
        } else {
            #expect(refused == .full)
        }
        // Nor can the end of a delivery be written down: none is to begin.
        await #expect(throws: StorageError.self) {
            try await storage.commit(QueueCommit(ended: [Ending(id: before.id, delivered: 1)]))
        }
        #expect(storage.status().failure?.contains(systemErrorText(code)) == true)
        let writer = storage.beginSpool(QueueID(high: 1, low: 1))
        writer.append(ByteBuffer(string: "x")) { _ in }
        let told = await withCheckedContinuation { continuation in
            writer.finish { continuation.resume(returning: $0) }
        }.failure
        let isFull = code == EDQUOT || code == ENOSPC
        #expect(isFull ? told == .full : told != nil)
        #expect(try await storage.load(before.id).envelope == before)
        let queued = storage.count()
        try await goesOn(storage, with: queued)
    }

    /// The first commit finds out, whatever it is that has no room.
    @Test(arguments: [EDQUOT, ENOSPC])
    func aCommitWithoutRoomForASegmentIsToldSo(_ code: Int32) async throws {
        var options = smallOptions()
        options.roomTimeout = .milliseconds(50)
        let storage = try storage(options)
        disk.fault.withLock { $0 = { call, path in call == "open" && path.hasSuffix(".tmp") ? code : nil } }
        #expect(await refusal(storage) == .full)
        let queued = storage.count()
        #expect(queued > 0)
        try await goesOn(storage, with: queued)
    }

    /// A second sync of the same file would say that all is well: there is none, of no kind of file.
    @Test(arguments: ["/q/journal/", "/q/queue/", "/q/super", "/q/spool/"])
    func aFileWhoseSyncFailedIsNotSyncedAgain(_ part: String) async throws {
        let storage = try storage()
        let before = try await storage.accept()
        let failed = Mutex<String?>(nil)
        let again = Mutex<[String]>([])
        disk.fault.withLock {
            $0 = { call, path in
                guard path.hasPrefix(part), path != "/q/journal" else { return nil }
                // What is deleted, or has got its name, is another file when it is made again.
                if call == "unlink" || call == "rename" {
                    failed.withLock { if $0 == path || $0.map({ $0 + ".tmp" }) == path { $0 = "" } }
                }
                guard call == "sync" else { return nil }
                return failed.withLock { failed in
                    if failed == path { again.withLock { $0.append(path) } }
                    if failed != nil { return nil }
                    failed = path
                    return EIO
                }
            }
        }
        if part == "/q/spool/" {
            let writer = storage.beginSpool(QueueID(high: 1, low: 1))
            writer.append(ByteBuffer(string: "x")) { _ in }
            let result = await withCheckedContinuation { continuation in
                writer.finish { continuation.resume(returning: $0) }
            }
            #expect(throws: StorageError.self) { try result.get() }
        } else {
            _ = try? await storage.accept()
            _ = try? await storage.checkpoint()
        }
        #expect(failed.withLock { $0 } != nil)
        try await eventually("the journal works") { storage.status().failure == nil }
        try await eventually("a checkpoint is made") { (try? await storage.checkpoint()) != nil }
        #expect(again.withLock { $0.isEmpty }, "\(again.withLock { $0 })")
        #expect(try await storage.load(before.id).envelope == before)
        let queued = storage.count()
        try await goesOn(storage, with: queued)
    }

    /// An open file outlives its name, and nothing that is written to it then is ever found again.
    @Test(arguments: ["journal", ""])
    func aDirectoryThatVanishesIsNoticed(_ part: String) async throws {
        let directory = ScratchDirectory()
        let moved = ScratchDirectory()
        let storage = try JournaledStorage.scratch(directory, smallOptions(), events)
        _ = try storage.recover()
        let before = try await storage.accept()
        let path = part.isEmpty ? directory.path : "\(directory.path)/\(part)"
        try FileManager.default.moveItem(atPath: path, toPath: moved.path)
        try await eventually("it is noticed") {
            _ = try? await storage.accept()
            return events.all.contains { if case .journalFailed = $0 { true } else { false } }
        }
        if part.isEmpty {
            await #expect(throws: StorageError.self) { try await storage.accept() }
            #expect(storage.status().failure != nil)
            try FileManager.default.moveItem(atPath: moved.path, toPath: path)
        }
        // What was in the journal is written to sealed files through the files that are still open.
        try await eventually("mail is accepted again") { (try? await storage.accept()) != nil }
        try await eventually("a checkpoint is made") { (try? await storage.checkpoint()) != nil }
        let queued = storage.count()
        await storage.close()
        let again = try JournaledStorage.scratch(directory)
        #expect(try again.recover().count == queued)
        #expect(try await again.load(before.id).envelope == before)
        await again.close()
    }

    /// Nothing is changed by a start that cannot succeed.
    @Test func aReadOnlyDirectoryIsRefusedAtTheStart() async throws {
        let storage = try storage()
        let envelope = try await storage.accept()
        storage.halt()
        disk.fault.withLock { $0 = { call, _ in call == "read" || call == "open" ? nil : EROFS } }
        let error = #expect(throws: StorageOpenError.self) { try self.storage() }
        #expect(error?.description.contains(systemErrorText(EROFS)) == true)
        heal()
        let again = try self.storage()
        #expect(try await again.load(envelope.id).envelope == envelope)
        await again.close()
    }
}
