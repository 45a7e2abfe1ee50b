// The part of the start that reads the sealed files with states.

import NIOCore
import SlimtaMail
import SlimtaQueue
import Synchronization

extension Recovery {
    func readStates() throws {
        var buried: Set<QueueID> = []
        var suspects: Set<QueueID> = []
        var isAnyLost = false
        for info in superblock.metas {
            let path = "\(core.paths.queue)/\(info.name)"
            guard let file = try core.fileSystem.openIfPresent(path) else {
                isAnyLost = true
                hasDamagedStates = true
                continue
            }
            defer { core.fileSystem.close(file) }
            var found: UInt64 = 0
            var unreadable: Set<QueueID> = []
            var ends: Set<QueueID> = []
            var kept: String?
            try ValueScan.run(
                core.fileSystem, file, salt: info.salt,
                value: { value, _ in
                    switch ValueKind(rawValue: value.kind) {
                    case .meta:
                        try self.takeMeta(value, info.number)
                        buried.remove(value.id)
                        found += 1
                    case .tombstone:
                        _ = self.core.index.withLock { $0.remove(value.id) }
                        buried.insert(value.id)
                        found += 1
                    case .envelope, .body, .label, nil: break
                    }
                },
                unreadable: { claim, offset in
                    switch claim.kind {
                    case .meta: unreadable.insert(claim.id)
                    case .tombstone: ends.insert(claim.id)
                    case .envelope, .body, .label: return
                    }
                    if self.isReadOnly { return }
                    kept = self.keep(file, at: offset, "\(claim.id)-\(claim.kind)") ?? kept
                })
            guard found < info.records else { continue }
            core.generation(info.number)?.markDamaged()
            hasDamagedStates = true
            // What has lost even its beginning is still known by its key.
            if UInt64(unreadable.count + ends.count) < info.records - found {
                for key in core.generation(info.number)?.unreadableKeys(limit: info.records) ?? [] {
                    switch key.kind {
                    case .meta: unreadable.insert(key.id)
                    case .tombstone: ends.insert(key.id)
                    case .envelope, .body, .label: continue
                    }
                    if !isReadOnly { kept = core.quarantine(key.kind, key.id, of: info.number) ?? kept }
                }
            }
            lost(path, "\(info.records - found) of \(info.records) records are unreadable", quarantine: kept)
            for id in ends where core.index.withLock({ $0.slot(of: id) }) != nil {
                core.report(
                    .damaged(
                        what: path, id: id, description: "the record of its end is unreadable, it is queued again",
                        quarantine: kept))
            }
            suspects.formUnion(unreadable)
            if unreadable.count + ends.count < info.records - found { isAnyLost = true }
        }
        if !suspects.isEmpty {
            try resurrect(suspects, except: buried)
            // Some are not there under the id that their damaged record says: then that is what is damaged.
            isAnyLost =
                isAnyLost
                || suspects.contains { id in
                    !buried.contains(id) && core.index.withLock { $0.slot(of: id) } == nil
                }
        }
        if isAnyLost { try resurrect(nil, except: buried) }
        core.index.withLock { $0.forgetTombstones() }
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
