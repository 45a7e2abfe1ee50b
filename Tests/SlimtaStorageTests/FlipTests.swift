// A bit is changed at every 97th octet of every file of a queue of a thousand messages, one at a time. `make crash` makes
// all of them, a short run a sample.

import NIOCore
import SlimtaMail
import SlimtaQueue
import SlimtaRecords
import SlimtaThreads
import StorageKit
import Synchronization
import TestKit
import Testing

@testable import SlimtaStorage

/// A queue with a bit of everything, and what is to be found in it.
private struct FullQueue: Sendable {
    var image = SimulatedDisk.Image()
    var queued: [QueueID: StoredEnvelope] = [:]
    var receipts: [Receipt.Digest: Receipt] = [:]
    var options = smallOptions()
    static let spooled = (0..<3000).map { UInt8(truncatingIfNeeded: $0 &* 7) }

    /// Half of it is sealed, half in the journal; some have states, some have left.
    static func make() async throws -> FullQueue {
        var queue = FullQueue()
        queue.options.segmentSize = 256 << 10
        queue.options.journalLimit = 16 << 20
        queue.options.batchSize = 32 << 10
        queue.options.checkpointSegments = 100
        let disk = SimulatedDisk()
        let storage = JournaledStorage(on: disk, queue.options)
        _ = try storage.recover()
        var ids: [QueueID] = []
        for half in 0..<2 {
            ids += try await queue.fill(storage, half)
            if half == 0 { try await storage.checkpoint() }
            try await queue.change(ids, half, storage)
            if half == 0 { try await storage.checkpoint() }
        }
        for id in ids { if let stored = try? await storage.load(id) { queue.queued[id] = stored } }
        for id in ids {
            guard let receipt = try await storage.receipt(of: id) else { continue }
            queue.receipts[receipt.key] = receipt
        }
        // Before its marker the last commit cannot be told from one that was never acknowledged.
        while storage.running({ journal in journal.state.withLock { $0.told != $0.durable } }) == true {
            let id = try await storage.accept().id
            queue.queued[id] = try await storage.load(id)
            try await Task.sleep(for: .milliseconds(20))
        }
        storage.halt()
        var random = SeededGenerator(seed: 1)
        queue.image = SimulatedDisk.afterCut(disk.image, .keep, using: &random).image
        return queue
    }

    private func fill(_ storage: JournaledStorage, _ half: Int) async throws -> [QueueID] {
        try await withThrowingTaskGroup(of: QueueID.self) { group in
            for number in 0..<550 {
                let id = QueueID(high: UInt64(half * 1000 + number) << 16, low: UInt64(number) &* 0x9E37_79B9_7F4A_7C15)
                let rest = number % 200 == 0 ? try await spool(id, storage) : nil
                group.addTask {
                    let envelope = makeEnvelope(id, to: ["r\(number)@d\(number % 7).example"])
                    let message = Message(head: ByteBuffer(string: "Subject: \(number)\r\n\r\ntext\r\n"), rest: rest)
                    let receipts =
                        number % 10 == 0 ? [makeReceipt(half * 1000 + number, of: [envelope], expires: nil)] : []
                    try await storage.commit(
                        QueueCommit(accepted: [.init(envelope, due: someDue)], message: message, receipts: receipts))
                    return id
                }
            }
            return try await group.reduce(into: []) { $0.append($1) }.sorted()
        }
    }

    private func spool(_ id: QueueID, _ storage: JournaledStorage) async throws -> any SpooledBody {
        let writer = storage.beginSpool(id)
        writer.append(ByteBuffer(bytes: Self.spooled)) { _ in }
        return try await withCheckedContinuation { continuation in
            writer.finish { continuation.resume(returning: $0) }
        }.get()
    }

    private func change(_ ids: [QueueID], _ half: Int, _ storage: JournaledStorage) async throws {
        try await withThrowingTaskGroup { group in
            for (number, id) in ids.enumerated() where number / 50 % 11 == half && number < 550 || number >= 1050 {
                group.addTask {
                    var state = try await storage.load(id).state
                    state.attempts += 1
                    state.recipients[0].reply = "450 4.2.1 later"
                    let isEnd = number % 2 == 0
                    try await storage.commit(
                        isEnd
                            ? QueueCommit(ended: [Ending(id: id, delivered: 1)]) : QueueCommit(states: [state]))
                }
            }
            try await group.waitForAll()
        }
    }
}

/// What a changed bit did.
private struct FlipOutcome {
    /// Envelopes that are not what they should be, and those that should not be there.
    var hit: Set<QueueID> = []
    var told: Set<QueueID> = []
    /// All that was moved aside, one after the other.
    var aside: [UInt8] = []
    var isTold = false
    /// Receipts that are not what they should be.
    var receipts = 0

    /// Reads the contents that `isNear` says have something to do with what was changed, and some others.
    init(_ disk: SimulatedDisk, _ queue: FullQueue, _ isNear: (IndexEntry) -> Bool) throws {
        let events = Events()
        let core = StorageCore(disk, directory: "/q", options: queue.options, report: events.report)
        let recovery = Recovery(core)
        try recovery.run()
        var found: Set<QueueID> = []
        recovery.forEach { found.insert($0.id) }
        hit = found.symmetricDifference(queue.queued.keys)
        let reader = ContentReader(core, windowSize: 64 << 10)
        let storage = SpoolStorage(core: core, pool: BlockingPool("storage-io"), delete: { _ in })
        for (number, id) in found.sorted().enumerated() where !hit.contains(id) {
            guard number % 20 == 0 || core.index.withLock({ $0.entry(id).map(isNear) }) ?? true else { continue }
            guard let stored = try? reader.load(id, spool: { StoredSpool(reference: $0, storage: storage, of: id) })
            else {
                hit.insert(id)
                continue
            }
            let expected = queue.queued[id]!
            if stored.envelope != expected.envelope || stored.state != expected.state || stored.text != expected.text {
                hit.insert(id)
            }
            if let reference = stored.message.rest?.reference, !Self.isWhole(reference, storage) { hit.insert(id) }
        }
        receipts = queue.receipts.count { key, receipt in
            let record = core.index.withLock { $0.receipts.find(key, at: .now()) }
            return (try? record?.receipt()) != receipt
        }
        for event in events.all {
            switch event {
            case .damaged(_, let id, _, let quarantine):
                isTold = true
                if let id { told.insert(id) }
                if let quarantine { aside += disk.content(quarantine) ?? [] }
            case .resurrected(let id): told.insert(id)
            case .missing: isTold = true
            case .tornTail, .superblockRepaired, .journalFailed, .journalRecovered, .checkpointFailed, .diskFull,
                .diskRoom, .leftover, .receiptsForgotten:
                break
            }
        }
    }

    private static func isWhole(_ reference: SpoolReference, _ storage: SpoolStorage) -> Bool {
        let reader = FileSpoolReader(reference, storage)
        guard case .success(let octets?) = reader.read(1 << 20), case .success(nil) = reader.read(1) else {
            return false
        }
        return Array(octets.readableBytesView) == FullQueue.spooled
    }

    /// Whether the operator was told of this envelope; where its id was hit itself, the octets of the record will do.
    func tells(of id: QueueID) -> Bool {
        if told.contains(id) { return true }
        if told.contains(where: { ($0.high ^ id.high).nonzeroBitCount + ($0.low ^ id.low).nonzeroBitCount == 1 }) {
            return true
        }
        let halves = [id.high, id.low].map { half in (0..<8).map { UInt8(truncatingIfNeeded: half >> (8 * $0)) } }
        return halves.contains { aside.firstRange(of: $0) != nil }
    }
}

@Suite struct FlipTests {
    /// Several at once: these are most of all files.
    @Test(arguments: 0..<4) func inTheJournal(_ part: UInt64) async throws {
        try await flip { path in
            guard path.hasPrefix("/q/journal/") else { return false }
            return (UInt64(path.dropFirst("/q/journal/".count).prefix(16)) ?? 0) % 4 == part
        }
    }

    @Test func inSealedContents() async throws { try await flip { $0.hasPrefix("/q/queue/env") } }
    @Test func inSealedStates() async throws { try await flip { $0.hasPrefix("/q/queue/meta") } }
    @Test func inAllElse() async throws { try await flip { !$0.hasPrefix("/q/journal") && !$0.hasPrefix("/q/queue") } }

    private func flip(_ isWanted: (String) -> Bool) async throws {
        let queue = try await FullQueue.make()
        #expect(queue.queued.count >= 1000)
        let stride = crashRounds == nil ? 97 * Int.random(in: 300..<350) : 97
        var (flips, hits, repairs) = (0, 0, 0)
        for (directory, names) in queue.image.directories.sorted(by: { $0.key < $1.key }) {
            for (name, node) in names.names.sorted(by: { $0.key < $1.key }) {
                let path = "\(directory)/\(name)"
                guard isWanted(path) else { continue }
                for offset in Swift.stride(from: flips % 97, to: queue.image.nodes[node]!.content.count, by: stride) {
                    let outcome = try FlipOutcome(
                        damaged(queue, path, offset), queue, near(queue, path, node, offset))
                    flips += 1
                    let place = "\(path) at \(offset)"
                    #expect(outcome.hit.count <= 1, "\(place): \(outcome.hit.count)")
                    for id in outcome.hit where !path.hasPrefix("/q/spool") {
                        #expect(outcome.tells(of: id), "\(place): \(id) is lost without a word")
                    }
                    #expect(outcome.receipts == 0 || outcome.isTold, "\(place): a receipt is lost without a word")
                    if outcome.hit.isEmpty { continue }
                    hits += 1
                    guard hits % 7 == 1 || outcome.hit.count > 1 else { continue }
                    repairs += 1
                    try await goOn(queue, path, offset, costing: outcome.hit)
                }
            }
        }
        print("\(flips) flipped bits, \(hits) cost a record, \(repairs) times gone on with")
    }

    private func damaged(_ queue: FullQueue, _ path: String, _ offset: Int) -> SimulatedDisk {
        let disk = SimulatedDisk(queue.image)
        disk.damage(path) { $0[offset] ^= 1 << UInt8(offset / 97 % 8) }
        return disk
    }

    /// What may be hit when an octet of this file is changed.
    private func near(_ queue: FullQueue, _ path: String, _ node: Int, _ offset: Int) -> (IndexEntry) -> Bool {
        guard path.hasPrefix("/q/journal") || path == "/q/super" else { return { _ in true } }
        let page = offset / 4096 * 4096
        // Where nothing is written nothing is hit.
        guard let segment = Segment.number(String(path.dropFirst("/q/journal/".count))),
            queue.image.nodes[node]!.content[page..<(page + 4096)].contains(where: { $0 != 0 })
        else { return { _ in false } }
        return { entry in
            [entry.envelope, entry.state].contains { $0.isJournal && $0.segment == segment }
        }
    }

    /// The damage is left behind: after a checkpoint all that was whole is there, and the next start finds no fault.
    private func goOn(_ queue: FullQueue, _ path: String, _ offset: Int, costing hit: Set<QueueID>) async throws {
        let disk = damaged(queue, path, offset)
        let storage = JournaledStorage(on: disk, queue.options)
        _ = try storage.recover()
        for id in hit { _ = try? await storage.load(id) }
        try await storage.accept()
        try await storage.checkpoint()
        #expect(storage.ledger().isBalanced, "\(path) at \(offset): \(storage.ledger())")
        await storage.close()
        let events = Events()
        let again = JournaledStorage(on: disk, queue.options, events)
        let found = Set(try again.recover().map(\.id))
        #expect(events.all.isEmpty, "\(path) at \(offset): \(events.all)")
        #expect(queue.queued.keys.allSatisfy { found.contains($0) || hit.contains($0) }, "\(path) at \(offset)")
        for id in found where !path.hasPrefix("/q/spool") {
            let isReadable = (try? await again.load(id)) != nil
            #expect(isReadable, "\(path) at \(offset): \(id)")
        }
        #expect(again.ledger().isBalanced)
        again.halt()
    }
}
