// The part of the start that reads the sealed files with states.

import NIOCore
import SlimtaMail
import SlimtaQueue
import SlimtaRecords
import Synchronization

extension Recovery {
    /// What the files of states told, all together.
    private struct StatesFound {
        /// Envelopes that have left.
        var buried: Set<QueueID> = []
        /// Envelopes whose states are unreadable.
        var suspects: Set<QueueID> = []
        /// There are others, and nobody knows which.
        var isAnyLost = false
    }

    /// What of one file cannot be read.
    private struct UnreadableStates {
        var states: Set<QueueID> = []
        var ends: Set<QueueID> = []
        /// Where one of them was moved to.
        var kept: String?

        var count: UInt64 { UInt64(states.count + ends.count) }

        /// Notes a record by its kind and id; whether it is one of states at all.
        mutating func note(_ kind: ValueKind, _ id: QueueID) -> Bool {
            switch kind {
            case .meta: states.insert(id)
            case .tombstone: ends.insert(id)
            case .envelope, .body, .receipt, .forgotten, .label: return false
            }
            return true
        }
    }

    func readStates() throws {
        var found = StatesFound()
        for info in superblock.metas { try readStates(info, &found) }
        if !found.suspects.isEmpty {
            try resurrect(found.suspects, except: found.buried)
            // Some are not there under the id that their damaged record says: then that is what is damaged.
            found.isAnyLost =
                found.isAnyLost
                || found.suspects.contains { id in
                    !found.buried.contains(id) && core.index.withLock { $0.slot(of: id) } == nil
                }
        }
        if found.isAnyLost { try resurrect(nil, except: found.buried) }
        core.index.withLock { index in
            index.forgetTombstones()
            index.receipts.forgetChanges()
        }
    }

    /// Reads one file of states.
    private func readStates(_ info: GenerationInfo, _ all: inout StatesFound) throws {
        let path = "\(core.paths.queue)/\(info.name)"
        guard let file = try core.fileSystem.openIfPresent(path) else {
            all.isAnyLost = true
            hasDamagedStates = true
            return
        }
        defer { core.fileSystem.close(file) }
        var found: UInt64 = 0
        var receipts: UInt64 = 0
        var unreadable = UnreadableStates()
        try ValueScan.run(
            core.fileSystem, file, salt: info.salt,
            value: { value, _ in
                switch ValueKind(rawValue: value.kind) {
                case .meta:
                    try self.takeMeta(value, info.number)
                    all.buried.remove(value.id)
                    found += 1
                case .tombstone:
                    _ = self.core.index.withLock { $0.remove(value.id) }
                    all.buried.insert(value.id)
                    found += 1
                case .receipt:
                    let record = try ReceiptRecord(value.payload)
                    self.core.index.withLock { $0.receipts.insert(record, at: nil) }
                    receipts += 1
                case .forgotten:
                    var cursor = InputCursor(value.payload)
                    guard let key = try cursor.field()?.digest() else { throw FormatError("forgotten receipt") }
                    self.core.index.withLock { $0.receipts.forget(key) }
                    receipts += 1
                case .envelope, .body, .label, nil: break
                }
            },
            unreadable: { claim, offset in
                guard unreadable.note(claim.kind, claim.id), !self.isReadOnly else { return }
                unreadable.kept = self.keep(file, at: offset, "\(claim.id)-\(claim.kind)") ?? unreadable.kept
            })
        if receipts < info.receipts { tell(path, missing: info.receipts - receipts, of: info) }
        if found < info.records { tell(info, path, missing: info.records - found, unreadable, &all) }
    }

    /// Receipts that cannot be read cost no mail.
    private func tell(_ path: String, missing: UInt64, of info: GenerationInfo) {
        core.generation(info.number)?.markDamaged()
        hasDamagedStates = true
        core.report(
            .damaged(
                what: path, id: nil,
                description:
                    "\(missing) of \(info.receipts) receipts are unreadable: what is submitted again with one of "
                    + "their keys is taken again", quarantine: nil))
    }

    /// A file of states has fewer records than it should: tells what is known of those that are missing.
    private func tell(
        _ info: GenerationInfo, _ path: String, missing: UInt64, _ unreadable: UnreadableStates,
        _ all: inout StatesFound
    ) {
        var unreadable = unreadable
        core.generation(info.number)?.markDamaged()
        hasDamagedStates = true
        // What has lost even its beginning is still known by its key.
        if unreadable.count < missing {
            for key in core.generation(info.number)?.unreadableKeys(limit: info.records) ?? [] {
                guard unreadable.note(key.kind, key.id), !isReadOnly else { continue }
                unreadable.kept = core.quarantine(key.kind, key.id, of: info.number) ?? unreadable.kept
            }
        }
        lost(path, "\(missing) of \(info.records) records are unreadable", quarantine: unreadable.kept)
        for id in unreadable.ends where core.index.withLock({ $0.slot(of: id) }) != nil {
            core.report(
                .damaged(
                    what: path, id: id, description: "the record of its end is unreadable, it is queued again",
                    quarantine: unreadable.kept))
        }
        all.suspects.formUnion(unreadable.states)
        if unreadable.count < missing { all.isAnyLost = true }
    }

    /// Moves what is left of a record aside. A file that is full of them is moved aside itself, by the next checkpoint.
    private func keep(_ file: File, at offset: Int, _ name: String) -> String? {
        guard let octets = try? core.fileSystem.read(file, count: 4096, at: offset) else { return nil }
        return octets.withUnsafeBytes { core.quarantine(name, $0) }
    }

    /// The ledger goes on where `super` has it.
    func beginLedger() {
        core.index.withLock { index in
            guard let ledger = superblock.ledger else {
                // Version 1 did not count: counting begins with what is queued now.
                let ledger = index.countedAnew()
                index.begin(ledger)
                superblock.ledger = ledger
                return
            }
            index.begin(ledger)
        }
    }

    private func takeMeta(_ value: StoredValue, _ generation: UInt32) throws(FormatError) {
        let (record, stateOctets) = try MetaRecord.decode(value.payload)
        let state = try StateCodec.outline(stateOctets)
        var body = IndexEntry.noBody
        if let id = record.body { body = bodySlot(id, record.spool) }
        let recipients = RecipientCount(record.domains, isNotice: record.isNotice)
        let slot = core.index.withLock { index in
            index.accept(value.id, recipients, at: .generation(record.generation), body: body, meta: generation)
            let slot = index.slot(of: value.id)!
            index.settle(slot, state.fates)
            return slot
        }
        summaries.set(slot, received: record.received, state, record.domains)
    }

    private func bodySlot(_ id: QueueID, _ spool: SpoolReference?) -> UInt32 {
        let known = bodySlots[id]
        let slot = core.index.withLock { index in
            // It may have been freed since, and be another one's.
            if let known, index.bodies[Int(known)].id == id, index.bodies[Int(known)].count > 0 { return known }
            return index.addBody(id, spool: spool)
        }
        bodySlots[id] = slot
        return slot
    }

    /// States are lost, envelopes are not: they are queued as they were accepted. What was already delivered of them
    /// is delivered again. `ids` is nil if it is not even known whose states are lost.
    private func resurrect(_ ids: Set<QueueID>?, except buried: Set<QueueID>) throws {
        for info in superblock.contents {
            guard let file = try? core.fileSystem.open("\(core.paths.queue)/\(info.name)", .read) else { continue }
            defer { core.fileSystem.close(file) }
            try ValueScan.run(
                core.fileSystem, file, salt: info.salt,
                value: { value, _ in
                    guard value.kind == ValueKind.envelope.rawValue, ids?.contains(value.id) ?? true,
                        !buried.contains(value.id), self.core.index.withLock({ $0.slot(of: value.id) }) == nil,
                        let outline = try? EnvelopeCodec.outline(value.payload)
                    else { return }
                    let body = outline.body.map { self.bodySlot($0, outline.spool) } ?? IndexEntry.noBody
                    let slot = self.core.index.withLock { index in
                        index.accept(value.id, outline.recipients, at: .generation(info.number), body: body)
                        return index.slot(of: value.id)!
                    }
                    self.summaries.set(slot, received: outline.received, outline.initial, outline.domains)
                    self.core.report(.resurrected(value.id))
                }, unreadable: { _, _ in })
        }
    }
}
