// The ledger: every recipient that was accepted is in exactly one place, through checkpoints, restarts and damage.

import Foundation
import NIOCore
import SlimtaMail
import SlimtaQueue
import SlimtaRecords
import StorageKit
import Synchronization
import Testing

@testable import SlimtaStorage

@Suite struct LedgerTests: OnSimulatedDisk {
    let disk = SimulatedDisk()
    let events = Events()

    /// Opens the queue again: `clean` after a checkpoint, else from the journal.
    private func reopen(_ storage: JournaledStorage, clean: Bool) async throws -> JournaledStorage {
        if clean { await storage.close() } else { storage.halt() }
        return try self.storage()
    }

    private func expect(_ ledger: Ledger, _ change: (inout Ledger) -> Void, _ place: SourceLocation = #_sourceLocation)
    {
        var expected = Ledger(since: ledger.since)
        change(&expected)
        #expect(ledger == expected, sourceLocation: place)
        #expect(ledger.isBalanced, sourceLocation: place)
    }

    @Test(arguments: [false, true])
    func everyRecipientIsInOnePlace(_ clean: Bool) async throws {
        var storage = try storage()
        let since = storage.ledger().since
        let several = try await storage.accept(makeEnvelope(to: ["a@x", "b@x", "c@y", "d@y", "e@z"]))
        let single = try await storage.accept()
        let notice = try await storage.accept(makeEnvelope(to: ["a@example.com"], sender: nil))
        for again in [false, true] {
            if again { storage = try await reopen(storage, clean: clean) }
            expect(storage.ledger()) { ledger in
                (ledger.submitted.accepted, ledger.submitted.queued) = (6, 6)
                (ledger.notices.accepted, ledger.notices.queued) = (1, 1)
            }
        }

        var state = EnvelopeState(of: several, due: someDue)
        state.recipients[0].fate = .delivered
        state.recipients[1].fate = .bounced
        state.recipients[3].fate = .expired
        try await storage.commit(QueueCommit(states: [state]))
        for again in [false, true] {
            if again { storage = try await reopen(storage, clean: clean) }
            expect(storage.ledger()) { ledger in
                (ledger.submitted.accepted, ledger.submitted.queued) = (6, 3)
                (ledger.submitted.delivered, ledger.submitted.bounced, ledger.submitted.expired) = (1, 1, 1)
                (ledger.notices.accepted, ledger.notices.queued) = (1, 1)
            }
        }

        let end = Ending(id: several.id, delivered: 1, bounced: 1, expired: 1, removed: 2, by: "root")
        try await storage.commit(QueueCommit(ended: [end, Ending(id: notice.id, delivered: 1)]))
        try await storage.commit(QueueCommit(ended: [Ending(id: single.id, removed: 1, by: "anna")]))
        for again in [false, true] {
            if again { storage = try await reopen(storage, clean: clean) }
            expect(storage.ledger()) { ledger in
                ledger.submitted.accepted = 6
                (ledger.submitted.delivered, ledger.submitted.bounced, ledger.submitted.expired) = (1, 1, 1)
                ledger.submitted.removed = 3
                ledger.removedBy = ["root": 2, "anna": 1]
                (ledger.notices.accepted, ledger.notices.delivered) = (1, 1)
            }
        }
        #expect(storage.ledger().since == since)
        #expect(events.all.isEmpty)
        await storage.close()
    }

    /// The ending's own numbers are not what it is checked by.
    @Test(arguments: [
        Ending(id: QueueID(high: 1, low: 1), delivered: 1), Ending(id: QueueID(high: 1, low: 1), delivered: 3),
        // The sum is right, but one of the two had been delivered.
        Ending(id: QueueID(high: 1, low: 1), bounced: 2),
    ])
    func aRemovalThatDoesNotSumUpShows(_ ending: Ending) async throws {
        var storage = try storage()
        let envelope = try await storage.accept(makeEnvelope(ending.id, to: ["a@x", "b@x"]))
        var state = EnvelopeState(of: envelope, due: someDue)
        state.recipients[1].fate = .delivered
        try await storage.commit(QueueCommit(states: [state]))
        try await storage.commit(QueueCommit(ended: [ending]))
        for clean in [false, true, true] {
            let ledger = storage.ledger()
            #expect(ledger.mismatched == 1)
            #expect(ledger.unaccounted == 2 - Int64(Fates(ending).sum))
            #expect(!ledger.isBalanced)
            storage = try await reopen(storage, clean: clean)
        }
        await storage.close()
    }

    @Test func aRemovalOfWhatIsNotQueuedCountsNothing() async throws {
        var storage = try storage()
        let envelope = try await storage.accept()
        for _ in 0..<2 { try await storage.commit(QueueCommit(ended: [Ending(id: envelope.id, delivered: 1)])) }
        for clean in [false, true] {
            expect(storage.ledger()) {
                $0.submitted.accepted = 1; $0.submitted.delivered = 1
            }
            storage = try await reopen(storage, clean: clean)
        }
        await storage.close()
    }

    @Test func whatFailsWasNotAccepted() async throws {
        var storage = try storage()
        try await storage.accept()
        disk.fault.withLock { $0 = { call, path in call == "sync" && path.hasSuffix(".wal") ? 5 : nil } }
        await #expect(throws: StorageError.self) { try await storage.accept(makeEnvelope(to: ["a@x", "b@x"])) }
        disk.fault.withLock { $0 = nil }
        try await eventually("the journal recovers") { storage.status().failure == nil }
        try await storage.accept(makeEnvelope(to: ["a@x", "b@x", "c@x"]))
        for clean in [false, true, true] {
            expect(storage.ledger()) {
                $0.submitted.accepted = 4; $0.submitted.queued = 4
            }
            storage = try await reopen(storage, clean: clean)
        }
        await storage.close()
    }

    /// Each frame says how much came before it, so the next one tells what a damaged one had accepted.
    @Test(arguments: [false, true])
    func whatDamageCostsIsLostAndNotForgotten(_ isEnded: Bool) async throws {
        var storage = try storage()
        try await storage.accept()
        let hit = try await storage.accept(makeEnvelope(to: ["a@x", "b@x", "c@x"]), "the one that is hit")
        try await storage.accept(makeEnvelope(sender: nil))
        if isEnded { try await storage.commit(QueueCommit(ended: [Ending(id: hit.id, delivered: 3)])) }
        storage.halt()
        try damage("the one that is hit")
        for clean in [false, true, true] {
            storage = try self.storage()
            expect(storage.ledger()) { ledger in
                (ledger.submitted.accepted, ledger.submitted.queued) = (4, 1)
                if isEnded { ledger.submitted.delivered = 3 } else { ledger.submitted.lost = 3 }
                (ledger.notices.accepted, ledger.notices.queued) = (1, 1)
            }
            if clean { await storage.close() } else { storage.halt() }
        }
        let told = events.all.compactMap { if case .damaged(_, let id?, _, .some) = $0 { id } else { nil } }
        #expect(told.contains(hit.id))
    }

    /// A record of the journal that turns out to be damaged only when a checkpoint reads it.
    @Test func whatACheckpointCannotReadIsLost() async throws {
        var storage = try storage()
        try await storage.accept()
        let hit = try await storage.accept(makeEnvelope(to: ["a@x", "b@x", "c@x"]), "the one that is hit")
        var state = EnvelopeState(of: hit, due: someDue)
        state.recipients[2].fate = .delivered
        try await storage.commit(QueueCommit(states: [state]))
        try damage("the one that is hit")
        for clean in [true, false, true] {
            try await storage.checkpoint()
            expect(storage.ledger()) { ledger in
                (ledger.submitted.accepted, ledger.submitted.queued) = (4, 1)
                (ledger.submitted.lost, ledger.submitted.delivered) = (2, 1)
            }
            storage = try await reopen(storage, clean: clean)
        }
        await storage.close()
    }

    private func damage(_ text: String) throws {
        for name in try disk.list("/q/journal") where name.hasSuffix(".wal") {
            disk.damage("/q/journal/\(name)") { octets in
                guard let range = octets.firstRange(of: Array(text.utf8)) else { return }
                octets[range.lowerBound] ^= 1
            }
        }
    }

    /// Version 1 of `super` had no ledger: counting begins with what is queued.
    @Test func anOlderFormatBeginsToCount() async throws {
        var storage = try storage()
        try await storage.accept()
        try await storage.accept(makeEnvelope(to: ["a@x", "b@x"]))
        await storage.close()
        disk.damage("/q/super") { octets in
            for slot in [0, Superblock.slotSize] {
                let generations = octets[(slot + 44)..<(slot + 48)].withUnsafeBytes {
                    $0.number(at: 0, as: UInt32.self)
                }
                let length = 52 + 29 * Int(generations)
                octets[slot + 8] = 1
                octets[slot + 12] = UInt8(length)
                octets[slot + 13] = 0
                let crc = octets[slot..<(slot + length - 4)].withUnsafeBytes { crc32c(0, $0) }
                for place in 0..<4 { octets[slot + length - 4 + place] = UInt8(truncatingIfNeeded: crc >> (8 * place)) }
            }
        }
        for _ in 0..<2 {
            storage = try self.storage()
            expect(storage.ledger()) {
                $0.submitted.accepted = 3; $0.submitted.queued = 3
            }
            storage.halt()
        }
        storage = try self.storage()
        try await storage.accept()
        storage = try await reopen(storage, clean: true)
        expect(storage.ledger()) {
            $0.submitted.accepted = 4; $0.submitted.queued = 4
        }
        await storage.close()
        #expect(disk.content("/q/super")?[8] == 2)
    }
}

/// An audit says what is true, and is not fooled by the running counters.
@Suite struct AuditTests {
    let directory = ScratchDirectory()

    private func fill(_ storage: JournaledStorage) async throws -> [Envelope] {
        var envelopes: [Envelope] = []
        for number in 0..<30 {
            envelopes.append(try await storage.accept(makeEnvelope(to: ["a@x", "b@y"]), "text \(number)"))
            if number == 12 { try await storage.checkpoint() }
            if number % 5 == 0 {
                var state = EnvelopeState(of: envelopes[number], due: someDue)
                state.recipients[0].fate = .delivered
                try await storage.commit(QueueCommit(states: [state]))
            }
            if number % 3 == 2 {
                try await storage.commit(
                    QueueCommit(ended: [Ending(id: envelopes.remove(at: number / 3).id, delivered: 2)]))
                envelopes.insert(try await storage.accept(), at: number / 3)
            }
        }
        return envelopes
    }

    @Test func ofAnUnharmedQueueIsClean() async throws {
        let storage = try JournaledStorage.scratch(directory)
        _ = try storage.recover()
        _ = try await fill(storage)
        let spooled = try await spool(storage, [1, 2, 3])
        try await storage.commit(
            QueueCommit(
                accepted: [.init(makeEnvelope(), due: someDue)],
                message: Message(head: ByteBuffer(string: "head"), rest: spooled)
            ))
        let beside = try await storage.audit()
        #expect(beside.isClean && beside.findings.isEmpty, "\(beside.findings)")
        #expect(beside.running == beside.ledger)
        #expect(beside.ledger == storage.ledger())
        #expect(beside.envelopes == storage.count())
        #expect(beside.spooled == 1)
        let before = storage.ledger()
        storage.halt()
        for _ in 0..<2 {
            let inspector = try StorageInspector(directory: directory.path)
            let offline = try inspector.audit()
            #expect(offline.isClean && offline.findings.isEmpty, "\(offline.findings)")
            #expect(offline.ledger == before)
            #expect(inspector.ledger == before)
            #expect(offline.envelopes == beside.envelopes && offline.octets == beside.octets)
        }
    }

    private func spool(_ storage: JournaledStorage, _ octets: [UInt8]) async throws -> any SpooledBody {
        let writer = storage.beginSpool(QueueID(at: .now()))
        writer.append(ByteBuffer(bytes: octets)) { _ in }
        return try await withCheckedContinuation { continuation in
            writer.finish { continuation.resume(returning: $0) }
        }.get()
    }

    /// While mail comes and goes, nothing is taken for a fault.
    @Test func besideWorkIsClean() async throws {
        let storage = try JournaledStorage.scratch(directory)
        _ = try storage.recover()
        let worker = Task {
            var audits = 0
            while !Task.isCancelled { audits += try await fill(storage).count }
            return audits
        }
        for _ in 0..<15 {
            let audit = try await storage.audit()
            #expect(audit.isClean && audit.findings.isEmpty, "\(audit.findings.prefix(3))")
            #expect(audit.running == audit.ledger)
        }
        worker.cancel()
        _ = try await worker.value
        await storage.close()
    }

    @Test func whatIsWrongIsFound() async throws {
        let storage = try JournaledStorage.scratch(directory)
        _ = try storage.recover()
        let envelopes = try await fill(storage)
        try await storage.commit(QueueCommit(ended: [Ending(id: envelopes[29].id, delivered: 1)]))
        let body = try await spool(storage, [1, 2, 3])
        let large = makeEnvelope()
        try await storage.commit(
            QueueCommit(
                accepted: [.init(large, due: someDue)], message: Message(head: ByteBuffer(string: "head"), rest: body)))
        let path = storage.core.paths.spooled(body.reference.id)
        _ = try #require(FileManager.default.contents(atPath: path))
        try Data([1, 2, 4]).write(to: URL(fileURLWithPath: path))
        for audit in [try await storage.audit(), try await offline(storage)] {
            #expect(!audit.isClean)
            #expect(audit.ledger.unaccounted == 1)
            #expect(audit.ledger.mismatched == 1)
            #expect(audit.findings.filter(\.isFault).count == 3, "\(audit.findings)")
            #expect(audit.findings.contains { $0.id == large.id && $0.text.contains("checksum") })
        }
    }

    private func offline(_ storage: JournaledStorage) async throws -> StorageAudit {
        await storage.close()
        return try StorageInspector(directory: directory.path).audit()
    }

    @Test func countersThatWentWrongAreFound() async throws {
        let storage = try JournaledStorage.scratch(directory)
        _ = try storage.recover()
        _ = try await fill(storage)
        storage.core.index.withLock { $0.count(RecipientCount(1, .submitted)) }
        #expect(storage.ledger().unaccounted == 1)
        let audit = try await storage.audit()
        #expect(audit.ledger.isBalanced)
        #expect(!audit.isClean)
        await storage.close()
    }
}
