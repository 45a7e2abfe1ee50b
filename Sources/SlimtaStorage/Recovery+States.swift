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
                continue
            }
            defer { core.fileSystem.close(file) }
            var found: UInt64 = 0
            var unreadable: Set<QueueID> = []
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
                unreadable: { claim, _ in if claim.kind == .meta { unreadable.insert(claim.id) } })
            guard found < info.records else { continue }
            lost(path, "\(info.records - found) of \(info.records) records are unreadable")
            suspects.formUnion(unreadable)
            if unreadable.count < info.records - found { isAnyLost = true }
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

    /// The ledger goes on where `super` has it.
    func beginLedger() {
        core.index.withLock { index in
            guard let ledger = superblock.ledger else {
                // Version 1 did not count: counting begins with what is queued now.
                var ledger = Ledger(since: .now())
                for kind in RecipientCount.Kind.allCases {
                    ledger[kind].accepted = UInt64(bitPattern: -index.pending[kind].unaccounted)
                }
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
                    self.hasResurrected = true
                    self.core.report(.resurrected(value.id))
                }, unreadable: { _, _ in })
        }
    }
}
