// Files of a queue that somebody deleted: what is gone is told, counted as lost, and told again until an operator
// acknowledges it; all else goes on.

import NIOCore
import SlimtaMail
import SlimtaQueue
import SlimtaRecords
import StorageKit
import Synchronization
import Testing

@testable import SlimtaStorage

@Suite struct MissingFileTests: OnSimulatedDisk {
    let disk = SimulatedDisk()
    let events = Events()

    /// Checkpoints only when they are asked for.
    private var options: StorageOptions {
        var options = smallOptions()
        options.segmentSize = 256 << 10
        options.batchSize = 32 << 10
        options.checkpointSegments = 100
        options.checkpointAge = .seconds(3600)
        options.journalLimit = 200 * options.segmentSize
        return options
    }

    private func storage(on disk: SimulatedDisk, _ events: Events) throws -> (JournaledStorage, Set<QueueID>) {
        let storage = JournaledStorage(on: disk, options, events)
        return (storage, Set(try storage.recover().map(\.id)))
    }

    /// A journal of several segments with `count` acknowledged messages, killed; and the segment of each.
    private func killed(_ count: Int, size: Int = 30_000) async throws -> [QueueID: UInt64] {
        let storage = try storage(options)
        var ids: [QueueID] = []
        if size > 1000 {
            // So many that segments are not taken up at once.
            let many = (0..<300).map { _ in makeEnvelope() }
            try await storage.commit(
                QueueCommit(accepted: many.map { .init($0, due: someDue) }, message: makeMessage("for many")))
            ids = many.map(\.id)
        }
        // A commit that has to wait for the next segment would begin a checkpoint.
        func nextSegment() async throws {
            try await eventually("the next segment is ready") {
                storage.running { journal in journal.state.withLock { $0.ready != nil } } == true
            }
        }
        for _ in 0..<count {
            try await nextSegment()
            ids.append(try await storage.accept(makeEnvelope(), String(repeating: "x", count: size)).id)
        }
        try await nextSegment()
        let segments = storage.core.index.withLock { index in
            Dictionary(uniqueKeysWithValues: ids.map { ($0, index.entry($0)!.envelope.segment) })
        }
        storage.halt()
        return segments
    }

    private func isMissing(_ event: StorageEvent) -> Bool { if case .missing = event { true } else { false } }
    private func isDamage(_ event: StorageEvent) -> Bool { if case .damaged = event { true } else { false } }

    /// Everything that should happen with `gone` deleted, `left` is what remains queued.
    private func goOn(_ left: Set<QueueID>, lost: UInt64?) async throws {
        let found = Events()
        let (storage, queued) = try storage(on: disk, found)
        #expect(queued == left)
        #expect(found.all.contains(where: isMissing), "\(found.all)")
        #expect(!found.all.contains(where: isDamage), "\(found.all)")
        #expect(!storage.status().losses.isEmpty)
        #expect(storage.ledger().isBalanced)
        if let lost { #expect(storage.ledger().submitted.lost == lost) }
        #expect(try await storage.audit().isClean == false)
        for id in left { #expect(try await storage.load(id).envelope.id == id) }
        let more = try await storage.accept().id
        // A checkpoint takes the traces away, and a stop: it is told all the same.
        await storage.close()
        let later = Events()
        let (again, stillQueued) = try self.storage(on: disk, later)
        #expect(stillQueued == left.union([more]))
        #expect(later.all.isEmpty, "\(later.all)")
        #expect(!again.status().losses.isEmpty)
        let audit = try await again.audit()
        #expect(!audit.isClean && audit.findings.contains { $0.isFault })
        if let lost { #expect(again.ledger().submitted.lost == lost) }
        #expect(try await again.acknowledgeLosses().isEmpty == false)
        #expect(again.status().losses.isEmpty)
        #expect(try await again.audit().isClean)
        again.halt()
        let after = Events()
        let (last, _) = try self.storage(on: disk, after)
        #expect(after.all.isEmpty, "\(after.all)")
        #expect(try await last.audit().isClean)
        #expect(last.ledger().isBalanced)
        await last.close()
    }

    /// 30 messages, a kill, and the only segment that has frames is deleted.
    @Test func theOnlyLiveSegment() async throws {
        let segments = try await killed(5, size: 100)
        #expect(Set(segments.values).count == 1)
        try disk.remove("/q/journal/\(Segment.name(segments.values.first!))")
        try await goOn([], lost: nil)
    }

    @Test(arguments: ["first", "middle", "last"]) func aLiveSegment(_ which: String) async throws {
        let segments = try await killed(30)
        let numbers = Set(segments.values).sorted()
        #expect(numbers.count > 3)
        let gone = which == "first" ? numbers[0] : which == "last" ? numbers.last! : numbers[numbers.count / 2]
        try disk.remove("/q/journal/\(Segment.name(gone))")
        let left = Set(segments.filter { $0.value != gone }.keys)
        // Nothing behind the last one tells how much was in it.
        try await goOn(left, lost: which == "last" ? nil : UInt64(segments.count - left.count))
    }

    /// Also where the journal was gone on with since.
    @Test func aSegmentOfAnEarlierRun() async throws {
        let segments = try await killed(5, size: 100)
        disk.fault.withLock { $0 = { call, path in call == "open" && path.hasSuffix(".gdbm.tmp") ? 5 : nil } }
        let again = try storage(options)
        again.halt()
        disk.fault.withLock { $0 = nil }
        try disk.remove("/q/journal/\(Segment.name(segments.values.first!))")
        try await goOn([], lost: 5)
    }

    @Test(arguments: [false, true]) func allSegments(_ isDirectory: Bool) async throws {
        _ = try await killed(5, size: 100)
        if isDirectory {
            disk.takeAway("/q/journal")
        } else {
            for name in try disk.list("/q/journal") { try disk.remove("/q/journal/\(name)") }
        }
        try await goOn([], lost: nil)
    }

    /// What an older version made says nothing of the segment before: then the numbers of records tell.
    @Test func aSegmentBeforeOneOfAnOlderVersion() async throws {
        let segments = try await killed(30)
        for name in try disk.list("/q/journal") where name.hasSuffix(".wal") {
            disk.damage("/q/journal/\(name)") { octets in
                for start in [44, 2048 + 44] {
                    octets.replaceSubrange(start..<(start + 12), with: repeatElement(0, count: 12))
                }
            }
        }
        let first = segments.values.min()!
        try disk.remove("/q/journal/\(Segment.name(first))")
        let found = Events()
        let (storage, queued) = try storage(on: disk, found)
        #expect(queued == Set(segments.filter { $0.value != first }.keys))
        #expect(found.all.contains(where: isDamage))
        #expect(storage.ledger().submitted.lost == UInt64(segments.count - queued.count))
        #expect(try await storage.audit().isClean == false)
        #expect(!storage.status().losses.isEmpty)
        await storage.close()
    }

    @Test(arguments: ["env-", "meta-"]) func aSealedFile(_ kind: String) async throws {
        let storage = try storage(options)
        let envelope = try await storage.accept()
        await storage.close()
        let name = try #require(try disk.list("/q/queue").first { $0.hasPrefix(kind) })
        try disk.remove("/q/queue/\(name)")
        let found = Events()
        let (again, queued) = try self.storage(on: disk, found)
        #expect(found.all.contains(where: isMissing))
        // Without its state it is queued as it was accepted; without its content it may still come back.
        #expect(queued == [envelope.id])
        #expect(!again.status().losses.isEmpty)
        #expect(try await again.audit().isClean == false)
        again.halt()
    }

    /// The rest of a message whose envelope is lost is kept: an operator may make something of it.
    @Test func theSpoolOfALostEnvelopeStays() async throws {
        let storage = try storage(options)
        let writer = storage.beginSpool(QueueID(high: 1, low: 1))
        writer.append(ByteBuffer(string: "the rest")) { _ in }
        let body = try await withCheckedContinuation { continuation in
            writer.finish { continuation.resume(returning: $0) }
        }.get()
        try await storage.commit(
            QueueCommit(
                accepted: [.init(makeEnvelope(), due: someDue)],
                message: Message(head: ByteBuffer(string: "head"), rest: body)))
        try await eventually("the next segment is ready") {
            storage.running { journal in journal.state.withLock { $0.ready != nil } } == true
        }
        storage.halt()
        try disk.remove("/q/journal/\(Segment.name(1))")
        for _ in 0..<3 {
            let (again, _) = try self.storage(on: disk, events)
            try await again.accept()
            await again.close()
        }
        #expect(disk.content("/q/spool/01/\(QueueID(high: 1, low: 1))") != nil)
        let (last, _) = try self.storage(on: disk, events)
        _ = try await last.acknowledgeLosses()
        await last.close()
        let (cleaned, _) = try self.storage(on: disk, events)
        try await eventually("it is deleted") { disk.content("/q/spool/01/\(QueueID(high: 1, low: 1))") == nil }
        await cleaned.close()
    }

    /// Losses survive in `super`, as many as fit.
    @Test func lossesAreWrittenDownAsFarAsTheyFit() {
        var superblock = Superblock()
        superblock.ledger = Ledger(since: .now())
        for number in 0..<100 {
            let isNews = superblock.add(loss: "\(number) " + String(repeating: "ü", count: 500))
            #expect(isNews == (number <= 32))
        }
        let isKnown = !superblock.add(loss: superblock.losses[0])
        #expect(isKnown)
        let octets = superblock.encode()
        #expect(octets.array.withUnsafeBytes { Superblock.decode($0) } == .superblock(superblock))
    }

    @Test func aHeaderSaysWhichSegmentWasBefore() {
        let header = SegmentHeader(number: 7, salt: 3, previous: 5)
        var octets = header.encode().array
        #expect(octets.withUnsafeBytes { SegmentHeader.decode($0) } == .header(header))
        // Either copy will do.
        for copy in [0, 2048] {
            var damaged = octets
            damaged[copy + 46] ^= 1
            #expect(damaged.withUnsafeBytes { SegmentHeader.decode($0) } == .header(header))
        }
        for copy in [0, 2048] { octets.replaceSubrange((copy + 44)..<(copy + 56), with: repeatElement(0, count: 12)) }
        #expect(
            octets.withUnsafeBytes { SegmentHeader.decode($0) } == .header(SegmentHeader(number: 7, salt: 3)))
    }
}
