// Disks that change what they keep: a damaged record costs that record at most, and is told.

import NIOCore
import SlimtaMail
import SlimtaQueue
import SlimtaRecords
import StorageKit
import Synchronization
import TestKit
import Testing

@testable import SlimtaStorage

@Suite struct DamageTests: OnSimulatedDisk {
    let disk = SimulatedDisk()
    let events = Events()

    /// One bit anywhere in the journal: only the record that it hits is lost, and never without a word.
    @Test func aChangedBitCostsOneRecordAndIsTold() async throws {
        var options = smallOptions()
        options.segmentSize = 256 << 10
        options.markerDelay = .milliseconds(200)
        let storage = try storage(options)
        var envelopes: [Envelope] = []
        for number in 0..<12 { envelopes.append(try await storage.accept(makeEnvelope(), "text \(number)")) }
        try await eventually("the marker is written") {
            storage.running { journal in journal.state.withLock { $0.told == $0.durable } } == true
        }
        storage.halt()
        let image = disk.image
        let segment = try #require(
            try disk.list("/q/journal").filter { $0.hasSuffix(".wal") }.sorted().first.map { "/q/journal/\($0)" })
        var random = SeededGenerator(seed: 7)
        for trial in 0..<150 {
            let damaged = SimulatedDisk.afterCut(image, .keep, using: &random)
            // Its frames: the first page is the header, the second the frame of the start.
            let offset = 8192 + trial % 12 * 4096 + Int.random(in: 0..<500, using: &random)
            damaged.damage(segment) { $0[offset] ^= 1 << UInt8(trial % 8) }
            let events = Events()
            let core = StorageCore(damaged, directory: "/q", options: options, report: events.report)
            let recovery = Recovery(core)
            try recovery.run()
            var found: [QueueID] = []
            recovery.forEach { found.append($0.id) }
            let lost = envelopes.filter { !found.contains($0.id) }
            #expect(lost.count <= 1, "offset \(offset)")
            if !lost.isEmpty {
                #expect(events.all.contains { if case .damaged = $0 { true } else { false } }, "offset \(offset)")
                #expect(!recovery.isComplete)
            }
        }
    }

    @Test func damageInASealedFileCostsThatRecord() async throws {
        let storage = try storage()
        var envelopes: [Envelope] = []
        for number in 0..<40 { envelopes.append(try await storage.accept(makeEnvelope(), "text \(number)")) }
        await storage.close()
        let names = try disk.list("/q/queue").sorted()
        let image = disk.image
        var random = SeededGenerator(seed: 3)
        for name in names {
            let size = disk.content("/q/queue/\(name)")!.count
            for trial in 0..<60 {
                let damaged = SimulatedDisk.afterCut(image, .keep, using: &random)
                let offset = Int.random(in: 0..<size, using: &random)
                damaged.damage("/q/queue/\(name)") { $0[offset] ^= 1 << UInt8(trial % 8) }
                let events = Events()
                let again = JournaledStorage(on: damaged, smallOptions(), events)
                let queued = try again.recover()
                #expect(queued.count == 40, "\(name) \(offset)")
                var unreadable = 0
                for envelope in envelopes {
                    do {
                        #expect(try await again.load(envelope.id).envelope == envelope)
                    } catch {
                        unreadable += 1
                    }
                }
                #expect(unreadable <= 1, "\(name) \(offset)")
                if unreadable > 0 {
                    #expect(events.all.contains { if case .damaged = $0 { true } else { false } })
                }
                again.halt()
            }
        }
    }

    @Test func eitherCopyOfTheSuperblockWillDo() async throws {
        let storage = try storage()
        let envelope = try await storage.accept()
        await storage.close()
        for slot in [0, Superblock.slotSize] {
            disk.damage("/q/super") { $0[slot + 20] ^= 1 }
            let again = try self.storage()
            #expect(again.count() == 1)
            #expect(try await again.load(envelope.id).envelope == envelope)
            again.halt()
        }
        disk.damage("/q/super") { octets in
            octets[20] ^= 1
            octets[Superblock.slotSize + 20] ^= 1
        }
        let error = #expect(throws: StorageOpenError.self) { try self.storage() }
        #expect(error?.description.contains("slimtad queue rebuild") == true)
    }

    @Test func aNewerFormatIsRefused() async throws {
        let storage = try storage()
        try await storage.accept()
        await storage.close()
        // The same superblock, with version 3 and a checksum that fits.
        disk.damage("/q/super") { octets in
            for slot in [0, Superblock.slotSize] {
                octets[slot + 8] = 3
                let length = Int(octets[slot + 12]) | Int(octets[slot + 13]) << 8
                let crc = octets[slot..<(slot + length - 4)].withUnsafeBytes { crc32c(0, $0) }
                for place in 0..<4 { octets[slot + length - 4 + place] = UInt8(truncatingIfNeeded: crc >> (8 * place)) }
            }
        }
        #expect(throws: StorageOpenError.newerFormat("/q/super: format 3, this version knows 2")) {
            try self.storage()
        }
    }

    @Test func aLostSuperblockBesideAQueueIsRefused() async throws {
        let storage = try storage()
        try await storage.accept()
        await storage.close()
        try disk.remove("/q/super")
        #expect(throws: StorageOpenError.self) { try self.storage() }
    }

    @Test func aTornTailIsToldAndKept() async throws {
        var options = smallOptions()
        options.markerDelay = .seconds(600)
        let storage = try storage(options)
        try await storage.accept()
        let before = disk.image
        let torn = try await storage.accept(makeEnvelope(), String(repeating: "x", count: 6000))
        var image = disk.image
        storage.halt()
        // The last page of the last commit never came.
        for (number, node) in image.nodes {
            guard let old = before.nodes[number]?.content, old != node.content else { continue }
            let changed = stride(from: 0, to: old.count, by: 4096).filter {
                old[$0..<($0 + 4096)] != node.content[$0..<($0 + 4096)]
            }
            guard changed.count == 2 else { continue }
            image.nodes[number]!.content.replaceSubrange(
                changed[1]..<(changed[1] + 4096), with: old[changed[1]..<(changed[1] + 4096)])
        }
        var random = SeededGenerator(seed: 1)
        let events = Events()
        let again = JournaledStorage(on: SimulatedDisk.afterCut(image, .keep, using: &random), smallOptions(), events)
        let queued = try again.recover()
        #expect(queued.count == 1)
        #expect(!queued.map(\.id).contains(torn.id))
        let tails = events.all.filter { if case .tornTail(_, _, .some) = $0 { true } else { false } }
        #expect(tails.count == 1)
        again.halt()
    }
}
