// A queue is made anew from what is left of one, on the machine's own disk.

import Foundation
import NIOCore
import SlimtaMail
import SlimtaQueue
import StorageKit
import Synchronization
import Testing

@testable import SlimtaStorage

@Suite struct RebuildTests {
    let directory = ScratchDirectory()
    let events = Events()

    private var options: StorageOptions {
        var options = smallOptions()
        options.segmentSize = 256 << 10
        options.checkpointSegments = 100
        options.journalLimit = 100 * options.segmentSize
        // Sealed files stay as they were made.
        options.generationLimit = 100
        options.deltaLimit = 100
        options.compactionPercentage = 0
        return options
    }

    /// Two checkpoints, and a journal of several segments behind them; what is queued.
    private func fill() async throws -> [QueueID: StoredEnvelope] {
        let storage = try JournaledStorage.scratch(directory, options)
        _ = try storage.recover()
        var ids: [QueueID] = []
        for number in 0..<60 {
            let envelope = makeEnvelope(to: ["a@x", "b@y"])
            ids.append(try await storage.accept(envelope, String(repeating: "\(number) ", count: 700)).id)
            if number % 5 == 1 {
                var state = EnvelopeState(of: envelope, due: someDue)
                state.recipients[0].fate = .delivered
                try await storage.commit(QueueCommit(states: [state]))
            }
            if number % 5 == 2 {
                let id = ids.remove(at: ids.count / 2)
                try await storage.commit(QueueCommit(ended: [Ending(id: id, delivered: 2)]))
            }
            if number == 20 || number == 35 { try await storage.checkpoint() }
        }
        // So many that segments are not taken up at once.
        let many = (0..<300).map { _ in makeEnvelope() }
        try await storage.commit(
            QueueCommit(accepted: many.map { .init($0, due: someDue) }, message: makeMessage("for many")))
        let spooled = try await spool(storage)
        let large = makeEnvelope()
        try await storage.commit(
            QueueCommit(
                accepted: [.init(large, due: someDue)],
                message: Message(head: ByteBuffer(string: "head"), rest: spooled)))
        var queued: [QueueID: StoredEnvelope] = [:]
        for id in ids + [large.id] + many.map(\.id) { queued[id] = try await storage.load(id) }
        // Segments enough; and without its marker nobody would miss the last commit.
        while storage.core.index.withLock({ $0.checkpointing != nil })
            || storage.running({ journal in
                journal.state.withLock { $0.closed.count < 6 || $0.told != $0.durable }
            }) == true
        {
            let id = try await storage.accept(makeEnvelope(), String(repeating: "x", count: 30_000)).id
            queued[id] = try await storage.load(id)
            try await Task.sleep(for: .milliseconds(5))
        }
        storage.halt()
        return queued
    }

    private func spool(_ storage: JournaledStorage) async throws -> any SpooledBody {
        let writer = storage.beginSpool(QueueID(at: .now()))
        writer.append(ByteBuffer(string: "the rest")) { _ in }
        return try await withCheckedContinuation { continuation in
            writer.finish { continuation.resume(returning: $0) }
        }.get()
    }

    private func names(_ part: String, _ suffix: String) throws -> [String] {
        try LinuxFileSystem().list("\(directory.path)/\(part)").filter { $0.hasSuffix(suffix) }.sorted()
    }

    private func remove(_ name: String) throws {
        try FileManager.default.removeItem(atPath: "\(directory.path)/\(name)")
    }

    /// With segments as small as ours; see `notBesideADaemonAndNotOfNothing` for the way that the command goes.
    private func rebuild() throws -> StorageRebuild {
        try StorageRebuild.run(LinuxFileSystem(), directory: directory.path, options: options, report: events.report)
    }

    private func rebuildAsTheCommandDoes() throws -> StorageRebuild {
        try StorageRebuild.run(directory: directory.path, owner: nil, report: events.report)
    }

    /// Starts on what was made; what is queued, and that the balance is right and all of it readable.
    private func found() async throws -> [QueueID: StoredEnvelope] {
        let after = Events()
        let storage = try JournaledStorage.scratch(directory, options, after)
        var found: [QueueID: StoredEnvelope] = [:]
        for summary in try storage.recover() { found[summary.id] = try await storage.load(summary.id) }
        #expect(after.all.isEmpty, "\(after.all)")
        let audit = try await storage.audit()
        #expect(audit.isClean, "\(audit.findings)")
        try await storage.accept()
        await storage.close()
        return found
    }

    private func isSame(_ a: StoredEnvelope?, _ b: StoredEnvelope) -> Bool {
        a?.envelope == b.envelope && a?.text == b.text && a?.message.rest?.reference == b.message.rest?.reference
    }

    private var lost: Set<QueueID> {
        Set(events.all.compactMap { if case .damaged(_, let id?, _, _) = $0 { id } else { nil } })
    }

    @Test(arguments: ["nothing", "super is lost", "super is damaged"])
    func allOfAWholeQueueIsThere(_ damage: String) async throws {
        let queued = try await fill()
        let old = try names("queue", ".gdbm") + names("journal", ".wal")
        if damage == "super is lost" { try remove("super") }
        if damage == "super is damaged" {
            try Data(repeating: 7, count: 128 << 10).write(to: URL(fileURLWithPath: "\(directory.path)/super"))
        }
        if damage != "nothing" {
            #expect(throws: StorageOpenError.self) { try JournaledStorage.scratch(directory, options).recover() }
        }
        let made = try rebuild()
        #expect(events.all.isEmpty, "\(events.all)")
        #expect(made.envelopes == queued.count)
        let kept = Set(try LinuxFileSystem().list(made.aside) + names("queue", ".gdbm"))
        #expect(old.allSatisfy { kept.contains($0) })
        #expect(kept.contains("super") == (damage != "super is lost"))
        let found = try await found()
        #expect(found.count == queued.count)
        for (id, stored) in queued {
            #expect(isSame(found[id], stored))
            #expect(found[id]?.state == stored.state)
        }
        // Again, of what was made of it.
        #expect(try rebuild().envelopes == queued.count + 1)
        #expect(events.all.isEmpty, "\(events.all)")
    }

    @Test(arguments: ["env", "meta"], [true, false])
    func withoutASealedFileTheOthersAreThere(_ kind: String, _ isSuperLost: Bool) async throws {
        let queued = try await fill()
        let name = try #require(try names("queue", ".gdbm").first { $0.hasPrefix(kind) })
        try remove("queue/\(name)")
        if isSuperLost { try remove("super") }
        _ = try rebuild()
        let found = try await found()
        if kind == "meta" {
            // States are lost, messages are not; some that had left may be back.
            for (id, stored) in queued { #expect(isSame(found[id], stored)) }
            #expect(events.all.contains { if case .resurrected = $0 { true } else { false } })
        } else {
            #expect(!lost.isEmpty)
            for (id, stored) in queued { #expect(isSame(found[id], stored) != lost.contains(id)) }
            #expect(found.keys.allSatisfy { queued[$0] != nil })
        }
    }

    @Test(arguments: [0, 1, 2], [true, false])
    func withoutASegmentTheOthersAreThere(_ place: Int, _ isSuperLost: Bool) async throws {
        let queued = try await fill()
        let places = try StorageInspector(directory: directory.path).core.index.withLock { index in
            queued.keys.map { ($0, index.entry($0)!.envelope) }.filter { $0.1.isJournal }
        }
        let segments = Set(places.map(\.1.segment)).sorted()
        try #require(segments.count > 3)
        // What is in it alone.
        let inIt = Set(places.filter { $0.1.segment == segments[place] }.map(\.0))
        try remove("journal/\(Segment.name(segments[place]))")
        if isSuperLost { try remove("super") }
        _ = try rebuild()
        let found = try await found()
        for (id, stored) in queued { #expect(isSame(found[id], stored) != inIt.contains(id)) }
        // Without `super` nobody misses the first one.
        if place > 0 || !isSuperLost { #expect(!events.all.isEmpty) }
    }

    @Test func aDamagedRecordIsLeftBehind() async throws {
        let queued = try await fill()
        let name = try #require(try names("queue", ".gdbm").first { $0.hasPrefix("env") })
        let url = URL(fileURLWithPath: "\(directory.path)/queue/\(name)")
        var octets = try Data(contentsOf: url)
        let text = Data(String(repeating: "3 ", count: 700).utf8)
        octets[try #require(octets.range(of: text)).lowerBound] ^= 1
        try octets.write(to: url)
        try remove("super")
        let made = try rebuild()
        #expect(lost.count == 1)
        let found = try await found()
        for (id, stored) in queued { #expect(isSame(found[id], stored) != lost.contains(id)) }
        #expect(try LinuxFileSystem().list(made.aside).contains(name))
    }

    @Test func notBesideADaemonAndNotOfNothing() async throws {
        let storage = try JournaledStorage.scratch(directory, options)
        _ = try storage.recover()
        #expect(throws: StorageOpenError.inUse(processID: getpid())) { try rebuildAsTheCommandDoes() }
        try await storage.accept()
        storage.halt()
        #expect(try rebuildAsTheCommandDoes().envelopes == 1)
        for name in ["super", "queue", "journal"] { try remove(name) }
        #expect(throws: StorageOpenError.self) { try rebuildAsTheCommandDoes() }
        let missing = "\(directory.path)/missing"
        #expect(throws: StorageOpenError.self) {
            try StorageRebuild.run(directory: missing, owner: nil, report: events.report)
        }
        #expect(!FileManager.default.fileExists(atPath: missing))
    }
}
