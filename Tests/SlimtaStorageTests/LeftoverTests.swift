// Files under names that a power cut or a failure left behind: none of them is used twice.

import Glibc
import NIOCore
import SlimtaMail
import SlimtaQueue
import SlimtaRecords
import StorageKit
import Synchronization
import TestKit
import Testing

@testable import SlimtaStorage

@Suite struct LeftoverTests: OnSimulatedDisk {
    let disk = SimulatedDisk()
    let events = Events()

    private func useAll(_ disk: SimulatedDisk, after envelopes: [Envelope]) async throws {
        let storage = JournaledStorage(on: disk, smallOptions(), events)
        #expect(try storage.recover().map(\.id) == envelopes.map(\.id))
        for _ in 0..<20 { try await storage.accept(makeEnvelope(), String(repeating: "x", count: 3000)) }
        storage.halt()
        let after = JournaledStorage(on: disk, smallOptions(), events)
        #expect(try after.recover().count == envelopes.count + 20)
        for envelope in envelopes { #expect(try await after.load(envelope.id).envelope == envelope) }
        #expect(events.all.isEmpty)
        await after.close()
    }

    /// A segment that is used again has a marker of its former time where its first frame is to come, with the number that
    /// comes next: that is no torn tail.
    @Test func aMarkerOfAFormerTimeIsNoTornTail() async throws {
        let disk = SimulatedDisk()
        for _ in 0..<30 {
            let events = Events()
            let storage = JournaledStorage(on: disk, smallOptions(), events)
            _ = try storage.recover()
            #expect(events.all.isEmpty)
            try await storage.accept()
            try await storage.checkpoint()
            // Idle: the empty segment gets a marker, then it is closed; and there is no other one to be used again.
            try await Task.sleep(for: .milliseconds(10))
            for name in try disk.list("/q/journal") where name.hasSuffix(".free") {
                try disk.remove("/q/journal/\(name)")
            }
            await storage.close()
        }
    }

    /// It was renamed to be used again, and both names are there after the power cut.
    @Test func aSegmentThatIsAlsoSpentIsNotUsedTwice() async throws {
        let storage = try storage()
        let envelope = try await storage.accept()
        storage.halt()
        var image = disk.image
        for (name, node) in image.directories["/q/journal"]!.names where name.hasSuffix(".wal") {
            image.directories["/q/journal"]!.names[name.dropLast(4) + ".free"] = node
        }
        var random = SeededGenerator(seed: 1)
        try await useAll(SimulatedDisk.afterCut(image, .keep, using: &random), after: [envelope])
    }

    /// It was renamed twice, and neither the loss of the first name nor the last name came through.
    @Test func aSpentFileWithTwoNamesIsNotUsedTwice() async throws {
        let storage = try storage()
        let envelope = try await storage.accept()
        await storage.close()
        let last = try #require(try disk.list("/q/journal").compactMap { Segment.number($0) }.max())
        let header = SegmentHeader(number: last + 5, salt: 5).encode().array
        var image = disk.image
        let content = header + [UInt8](repeating: 0, count: smallOptions().segmentSize - header.count)
        image.nodes[100_000] = SimulatedDisk.Node(content: content, durable: content)
        let name = Segment.name(last + 1)
        for name in [name, name.dropLast(4) + ".free"] { image.directories["/q/journal"]!.names[name] = 100_000 }
        var random = SeededGenerator(seed: 1)
        try await useAll(SimulatedDisk.afterCut(image, .keep, using: &random), after: [envelope])
    }

    /// A checkpoint that ended before `super` told of it left files, and their deletion may take its time: their names
    /// are not used again meanwhile.
    @Test func theNameOfALeftoverGenerationIsNotUsedAgain() async throws {
        var options = smallOptions()
        options.retryInterval = .seconds(600)
        let storage = try storage(options)
        let envelope = try await storage.accept()
        disk.fault.withLock { $0 = { call, path in call == "write" && path == "/q/super" ? EIO : nil } }
        await #expect(throws: StorageError.self) { try await storage.checkpoint() }
        storage.halt()
        #expect(try disk.list("/q/queue").sorted() == ["env-00000001.gdbm", "meta-00000002.gdbm"])
        let gate = Mutex(true)
        let deleted = Mutex(0)
        disk.fault.withLock {
            $0 = { call, path in
                guard call == "unlink", path.hasSuffix(".gdbm") else { return nil }
                while gate.withLock({ $0 }) { usleep(1000) }
                deleted.withLock { $0 += 1 }
                return nil
            }
        }
        // What the last run left in the journal is taken up at once.
        let again = try self.storage(options)
        try await eventually("the checkpoint is made") { again.status().generations == 2 }
        gate.withLock { $0 = false }
        try await eventually("the leftovers are deleted") { deleted.withLock { $0 } == 2 }
        again.halt()
        disk.fault.withLock { $0 = nil }
        let after = try self.storage()
        #expect(after.count() == 1)
        #expect(try await after.load(envelope.id).envelope == envelope)
        await after.close()
    }
}
