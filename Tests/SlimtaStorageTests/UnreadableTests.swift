// Messages that cannot be read back: the operator is told with id and envelope, what is left is moved aside, and whose they
// are can still be told, so that their senders hear of it.

import NIOCore
import SlimtaMail
import SlimtaQueue
import StorageKit
import Synchronization
import Testing

@testable import SlimtaStorage

@Suite struct UnreadableTests: OnSimulatedDisk {
    let disk = SimulatedDisk()
    let events = Events()

    /// What was reported as damage, with an id.
    private var damage: [(id: QueueID, what: String, description: String, quarantine: String?)] {
        events.all.compactMap {
            if case .damaged(let what, let id?, let text, let quarantine) = $0 {
                (id, what, text, quarantine)
            } else {
                nil
            }
        }
    }

    private let octets = (0..<600_000).map { UInt8(truncatingIfNeeded: $0 &* 7) }

    /// A large message for two; its envelopes, and the path of its file.
    private func spooled(_ storage: JournaledStorage) async throws -> (envelopes: [Envelope], path: String) {
        let id = QueueID(at: .now())
        let writer = storage.beginSpool(id)
        writer.append(ByteBuffer(bytes: octets)) { _ in }
        let body = try await withCheckedContinuation { continuation in
            writer.finish { continuation.resume(returning: $0) }
        }.get()
        let envelopes = [makeEnvelope(id), makeEnvelope(to: ["c@example.net"])]
        try await storage.commit(
            QueueCommit(
                accepted: envelopes.map { .init($0, due: someDue) },
                message: Message(head: ByteBuffer(string: "head"), rest: body)))
        return (envelopes, storage.core.paths.spooled(id))
    }

    private func failure(_ storage: JournaledStorage, _ id: QueueID) async -> StorageError? {
        do {
            let reader = try await storage.load(id).message.rest?.makeReader()
            while try await reader?.next(100_000) != nil {}
            return nil
        } catch {
            return error as? StorageError
        }
    }

    @Test(arguments: ["checksum", "truncated", "longer", "gone"]) func damageInTheSpool(_ kind: String) async throws {
        let storage = try storage()
        let (envelopes, path) = try await spooled(storage)
        #expect(await failure(storage, envelopes[1].id) == nil)
        switch kind {
        case "checksum": disk.damage(path) { $0[300_000] ^= 1 }
        case "truncated": disk.damage(path) { $0.removeLast() }
        case "longer": disk.damage(path) { $0.append(1) }
        default: try disk.remove(path)
        }
        let left = disk.content(path)
        guard case .damaged = await failure(storage, envelopes[1].id) else { return #expect(Bool(false), "\(kind)") }
        #expect(damage.map(\.id) == [envelopes[1].id])
        #expect(damage[0].what == path && damage[0].description.contains("from a@example.com to c@example.net"))
        if let left {
            #expect(disk.content(try #require(damage[0].quarantine)) == left)
            #expect(disk.content(path) == nil)
        }
        // The other one's is gone with it, and it is told of that one too.
        guard case .damaged = await failure(storage, envelopes[0].id) else { return #expect(Bool(false), "\(kind)") }
        #expect(damage.map(\.id) == [envelopes[1].id, envelopes[0].id])
        await storage.close()
    }

    /// What passes is no damage: the file stays where it is.
    @Test func aDiskThatCannotReadTheSpoolIsNoDamage() async throws {
        let storage = try storage()
        let (envelopes, path) = try await spooled(storage)
        disk.fault.withLock { $0 = { call, path in call == "read" && path.hasPrefix("/q/spool") ? 5 : nil } }
        guard case .failed = await failure(storage, envelopes[0].id) else { return #expect(Bool(false)) }
        // Wrong in memory once, and right when it is read again.
        let reads = Mutex(0)
        disk.fault.withLock { [disk] in
            $0 = { call, path in
                guard call == "read", path.hasPrefix("/q/spool") else { return nil }
                let read = reads.withLock { reads in
                    reads += 1
                    return reads
                }
                if read <= 2 { disk.damage(path) { $0[1] ^= 1 } }
                return nil
            }
        }
        guard case .failed = await failure(storage, envelopes[0].id) else { return #expect(Bool(false)) }
        disk.fault.withLock { $0 = nil }
        #expect(damage.isEmpty)
        #expect(disk.content(path) != nil)
        await storage.close()
    }

    /// Nobody who only looks moves anything.
    @Test func anAuditMovesNothing() async throws {
        let storage = try storage()
        let (_, path) = try await spooled(storage)
        disk.damage(path) { $0[5] ^= 1 }
        #expect(try await storage.audit().isClean == false)
        #expect(damage.isEmpty)
        #expect(disk.content(path) != nil)
        await storage.close()
    }

    /// The frame is the unit of the checksum: of what is around the damage most can be told.
    @Test func aMessageInTheJournal() async throws {
        let storage = try storage()
        let envelope = try await storage.accept(makeEnvelope(), String(repeating: "text ", count: 500))
        let (segment, offset) = storage.core.index.withLock { index in
            let place = index.entry(envelope.id)!.envelope
            return (place.segment, place.offset)
        }
        disk.damage("/q/journal/\(Segment.name(segment))") { $0[offset + 2000] ^= 1 }
        guard case .damaged = await failure(storage, envelope.id) else { return #expect(Bool(false)) }
        #expect(damage.map(\.id) == [envelope.id])
        let remains = try #require(await storage.remains(of: envelope.id))
        #expect(remains.envelope == envelope && remains.isRemains && remains.state.pending == [0])
        // A checkpoint leaves it behind, and still its sender can be told.
        try await storage.checkpoint()
        #expect(storage.ledger().submitted.lost == 1)
        guard case .damaged = await failure(storage, envelope.id) else { return #expect(Bool(false)) }
        #expect(await storage.remains(of: envelope.id)?.envelope == envelope)
        let bounce = makeEnvelope(sender: nil)
        try await storage.commit(
            QueueCommit(
                accepted: [.init(bounce, due: someDue)], message: makeMessage("bounce"),
                ended: [Ending(id: envelope.id, bounced: 1)]))
        #expect(storage.ledger().isBalanced)
        storage.halt()
        let again = try self.storage()
        #expect(again.ledger().isBalanced)
        #expect(again.count() == 1)
        await again.close()
    }

    @Test func aMessageInASealedFile() async throws {
        let storage = try storage()
        let text = String(repeating: "text ", count: 500)
        let envelope = try await storage.accept(makeEnvelope(), text)
        await storage.close()
        let path = try #require(try disk.list("/q/queue").first { $0.hasPrefix("env-") }.map { "/q/queue/\($0)" })
        disk.damage(path) { octets in octets[octets.firstRange(of: Array("text text".utf8))!.lowerBound + 100] ^= 1 }
        let again = try self.storage()
        guard case .damaged = await failure(again, envelope.id) else { return #expect(Bool(false)) }
        #expect(damage.map(\.id) == [envelope.id])
        #expect(await again.remains(of: envelope.id)?.envelope == envelope)
        await again.close()
    }

    /// It is delivered: who had it already may get it again, and that is told.
    @Test func onlyTheStateIsDamaged() async throws {
        let storage = try storage()
        let envelope = try await storage.accept(makeEnvelope(to: ["b@example.org", "c@example.org"]))
        var state = EnvelopeState(of: envelope, due: someDue)
        state.recipients[0].fate = .delivered
        state.recipients[1].reply = "450 4.2.1 later"
        try await storage.commit(QueueCommit(states: [state]))
        let (segment, offset) = storage.core.index.withLock { index in
            let place = index.entry(envelope.id)!.state
            return (place.segment, place.offset)
        }
        disk.damage("/q/journal/\(Segment.name(segment))") { $0[offset + 60] ^= 1 }
        let stored = try await storage.load(envelope.id)
        #expect(stored.envelope == envelope && stored.state.pending == [0, 1])
        #expect(events.all.contains(.resurrected(envelope.id)))
        try await storage.commit(QueueCommit(ended: [Ending(id: envelope.id, bounced: 2)]))
        #expect(storage.ledger().isBalanced, "\(storage.ledger())")
        await storage.close()
    }
}
