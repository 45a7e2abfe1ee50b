// One checkpoint: what it takes up, the files that it builds, and what the index is told when it counts.
// Checkpointer makes one each time.

import SlimtaMail
import SlimtaQueue
import SlimtaRecords
import Synchronization

/// One checkpoint. Belongs to the checkpoint's thread.
final class CheckpointPlan {
    /// An envelope that gets a new record of its state, and of its contents if it `moves`.
    private struct Item {
        var slot: UInt32
        var entry: IndexEntry
        var body: IndexBody?
        var moves: Bool
        /// Its state was stored with its contents.
        var isSettled = false
    }

    private let core: StorageCore
    private let upTo: UInt64
    private let old: Superblock
    private let wantsBase: Bool
    private let givesUpMissing: Bool
    private var items: [Item] = []
    private var buried: Set<QueueID> = []
    private var receipts = ReceiptTable.Changes()
    /// Slots whose state is copied as it is to a new base.
    private var moved: [(slot: UInt32, id: QueueID)] = []
    private var contents: GenerationInfo?
    private var states: GenerationInfo?
    private let value = OutputBuffer(capacity: 64 << 10)

    /// The files that were built.
    private(set) var built: [GenerationInfo] = []
    private static let chunk = 1024

    /// Takes up what segments up to `upTo` have. `superblock` is the one that counts now; with `needsBase` the states of
    /// all envelopes are written anew. `givesUpMissing`: what was in a file that is gone is lost; otherwise it stays in the
    /// queue, since the file may come back.
    init(_ core: StorageCore, _ superblock: Superblock, needsBase: Bool, upTo: UInt64, givesUpMissing: Bool = false) {
        self.core = core
        self.givesUpMissing = givesUpMissing
        self.upTo = upTo
        old = superblock
        let metas = superblock.metas
        let deltas = metas.dropFirst()
        wantsBase =
            needsBase || metas.isEmpty || deltas.count >= core.options.deltaLimit
            || deltas.reduce(0) { $0 + $1.told } > (metas.first?.told ?? 0) / 2 + 64
        collect()
    }

    // MARK: what is taken up

    private func collect() {
        let touched = core.index.withLock { index in
            index.checkpointing = upTo
            buried = index.tombstones
            // What later segments tell of them as well does no harm: to be told twice is to be told once.
            receipts = index.receipts.changes(all: wantsBase, at: .now())
            return index.touched(upTo: upTo)
        }
        for start in stride(from: 0, to: touched.count, by: Self.chunk) {
            core.index.withLock { index in
                for slot in touched[start..<min(start + Self.chunk, touched.count)] {
                    guard let entry = index.entry(at: slot) else { continue }
                    if entry.envelope.isJournal {
                        guard entry.envelope.segment <= upTo else { continue }
                        items.append(Item(slot: slot, entry: entry, body: index.body(entry), moves: true))
                    } else if entry.state.isJournal, entry.state.segment <= upTo {
                        // A newer state in a segment that stays is found there.
                        items.append(Item(slot: slot, entry: entry, body: index.body(entry), moves: false))
                    }
                }
            }
        }
        let victims = victims()
        if !victims.isEmpty { collectVictims(victims) }
        items.sort { a, b in a.entry.envelope < b.entry.envelope }
    }

    /// The files with contents that are rewritten: mostly dead ones, damaged ones, and the smallest if there are too many.
    private func victims() -> Set<UInt32> {
        // If it cannot be listed, none is rewritten this time; a rebuild reads each, and that decides.
        let names = Set((try? core.fileSystem.list(core.paths.queue)) ?? [])
        let candidates = old.contents.filter { givesUpMissing || names.contains($0.name) }
        let live = core.index.withLock { index in candidates.map { ($0, index.live[$0.number] ?? 0) } }
        let bad = candidates.filter { !names.contains($0.name) || core.generation($0.number)?.isDamaged ?? false }
        var victims = Set(bad.map(\.number))
        for (info, count) in live
        where count > 0 && UInt64(count) * 100 < info.envelopes * UInt64(core.options.compactionPercentage) {
            victims.insert(info.number)
        }
        let excess = old.contents.count + 1 - core.options.generationLimit
        if excess > 0 {
            // Two for one: then there is one less.
            let smallest = live.filter { $0.1 > 0 }.sorted { $0.1 < $1.1 }
            victims.formUnion(smallest.prefix(excess + 1).map(\.0.number))
        }
        return victims
    }

    private func collectVictims(_ victims: Set<UInt32>) {
        // An envelope in one of them may be here already, for its state.
        var known: [UInt32: Int] = [:]
        for (place, item) in items.enumerated() where !item.moves { known[item.slot] = place }
        forEachEntry { slot, entry, body in
            guard !entry.envelope.isJournal, victims.contains(entry.envelope.generation) else { return }
            if let place = known[slot] {
                if items[place].entry.id == entry.id { items[place].moves = true }
            } else {
                items.append(Item(slot: slot, entry: entry, body: body, moves: true))
            }
        }
    }

    private func forEachEntry(_ visit: (UInt32, IndexEntry, IndexBody?) -> Void) {
        var slot: UInt32 = 0
        let end = core.index.withLock { $0.slots }
        while slot < end {
            let next = min(slot + UInt32(Self.chunk), end)
            core.index.withLock { index in
                for slot in slot..<next {
                    if let entry = index.entry(at: slot) { visit(slot, entry, index.body(entry)) }
                }
            }
            slot = next
        }
    }

    // MARK: what is built

    /// Builds the files; returns the `super` that makes them count.
    func build(checkpointed: UInt64) throws -> Superblock {
        var builder: GenerationBuilder?
        do {
            builder = try beginStates()
            try buildContents(builder)
            if let builder { try buildStates(builder) }
        } catch {
            builder?.discard()
            for info in built { try? core.fileSystem.removeIfPresent("\(core.paths.queue)/\(info.name)") }
            throw error
        }
        if !built.isEmpty { try core.fileSystem.syncDirectory(core.paths.queue) }
        var next = old
        next.sequence += 1
        next.firstSegment = upTo + 1
        next.checkpointed = max(old.checkpointed, checkpointed)
        next.nextGeneration += 2
        let sources = items.lazy.filter { $0.moves && !$0.entry.envelope.isJournal }
        let leaving = Set(sources.map(\.entry.envelope.generation))
        let live = core.index.withLock { $0.live }
        next.generations.removeAll { info in
            guard info.kind == .contents else { return wantsBase && states != nil }
            return leaving.contains(info.number) || (live[info.number] ?? 0) == 0
        }
        if let contents { next.generations.append(contents) }
        if let states { next.generations.append(states) }
        return next
    }

    private func buildContents(_ states: GenerationBuilder?) throws {
        guard items.contains(where: \.moves) else { return }
        let builder = try GenerationBuilder(
            .contents, number: old.nextGeneration, in: core.paths.queue, core.fileSystem)
        do {
            let reader = ContentReader(core, windowSize: 1 << 20)
            var bodies: Set<QueueID> = []
            var unreadable: Set<UInt32> = []
            for place in items.indices where items[place].moves {
                let item = items[place]
                do {
                    try store(item, in: builder, reader, &bodies)
                    // Most were never tried: their record, which is at hand, says all.
                    if let states, item.entry.envelope.isJournal, item.entry.state == .none, item.entry.meta == 0 {
                        try storeState(item, in: states, reader, reader)
                        items[place].isSettled = true
                    }
                } catch {
                    try pass(over: item, error)
                    unreadable.insert(item.slot)
                }
            }
            // They have left the queue: a sealed state of theirs is not to bring them back.
            for item in items where unreadable.contains(item.slot) { buried.insert(item.entry.id) }
            items.removeAll { unreadable.contains($0.slot) }
            if builder.info.records == 0 {
                builder.discard()
                return
            }
            try builder.seal()
        } catch {
            builder.discard()
            throw error
        }
        contents = builder.info
        built.append(builder.info)
    }

    private func store(
        _ item: Item, in builder: GenerationBuilder, _ reader: ContentReader, _ bodies: inout Set<QueueID>
    ) throws {
        let id = item.entry.id
        // The body first: an envelope without one is not to be.
        let bodyID = item.body?.id ?? id
        if item.body == nil || !bodies.contains(bodyID) {
            value.removeAll()
            StoredValue.begin(.body, bodyID, into: value)
            try reader.withBody(item.entry, item.body) { value.append($0) }
            StoredValue.end(salt: builder.info.salt, in: value)
            try builder.store(.body, bodyID, value)
            if item.body != nil { bodies.insert(bodyID) }
        }
        value.removeAll()
        StoredValue.begin(.envelope, id, into: value)
        try reader.withEnvelope(item.entry) { octets in
            _ = try EnvelopeCodec.outline(octets)
            value.append(octets)
        }
        if item.entry.envelope.isJournal { EnvelopeCodec.appendBody(item.body, into: value) }
        StoredValue.end(salt: builder.info.salt, in: value)
        try builder.store(.envelope, id, value)
    }

    /// A record that cannot be read does not stop the checkpoint, if it is the record's fault and not the disk's.
    private func pass(over item: Item, _ error: any Error) throws {
        var text: String
        switch FileFailure(error) {
        case .damaged(let description): text = description
        case .system(let failure) where failure.isMissing && givesUpMissing: text = failure.description
        case .system, .gdbm, .retired: throw error
        }
        // Its segment is used again, its file goes: what is left of it is kept, and it leaves the queue.
        var kept: String?
        if !item.entry.envelope.isJournal {
            kept = core.quarantineRecords(item.entry, item.body)
            let reader = ContentReader(core, windowSize: 4096)
            if let envelope = try? reader.withEnvelope(item.entry, { try EnvelopeCodec.decode($0).0 }) {
                text += ": \(envelope.summary)"
            }
        } else if let segment = core.segment(item.entry.envelope.segment) {
            let offset = item.entry.envelope.offset
            let octets = try? core.fileSystem.readAligned(
                segment, from: offset, to: min(offset + core.options.batchSize, segment.size))
            octets?.withOctets { octets in
                let size = FrameHeader(octets).map { min($0.frameSize, octets.count) } ?? OutputBuffer.page
                kept = core.quarantine("\(item.entry.id)", UnsafeRawBufferPointer(rebasing: octets.prefix(size)))
            }
        }
        // The queue still has to tell its sender.
        let fates = core.index.withLock { $0.fates(item.entry) }
        if let remains = ContentReader(core, windowSize: 4096).remains(item.entry, fates) {
            core.lostEnvelopes.withLock { $0[item.entry.id] = remains }
        }
        core.report(
            .damaged(what: "record of an envelope", id: item.entry.id, description: text, quarantine: kept))
        _ = core.index.withLock { $0.lose(item.entry.id) }
    }

    /// The file for states; nil if there is nothing to put into it.
    private func beginStates() throws -> GenerationBuilder? {
        if items.isEmpty && buried.isEmpty && receipts.isEmpty && !(wantsBase && !old.metas.isEmpty) { return nil }
        return try GenerationBuilder(
            wantsBase ? .base : .delta, number: old.nextGeneration + 1, in: core.paths.queue, core.fileSystem)
    }

    private func buildStates(_ builder: GenerationBuilder) throws {
        let constants = ContentReader(core, windowSize: 1 << 20)
        let states = ContentReader(core, windowSize: 1 << 20)
        // In the order of the journal, in which each window comes from the disk: messages that were tried again, or
        // changed by an operator, have their states in another order than their contents.
        items.sort { a, b in a.entry.readingPlace < b.entry.readingPlace }
        for item in items where !item.isSettled { try storeState(item, in: builder, constants, states) }
        if wantsBase {
            try copyStates(to: builder)
            try sweep(builder, constants, states)
        } else {
            for id in buried {
                value.removeAll()
                StoredValue.begin(.tombstone, id, into: value)
                StoredValue.end(salt: builder.info.salt, in: value)
                try builder.store(.tombstone, id, value)
            }
        }
        try storeReceipts(in: builder)
        try builder.seal()
        self.states = builder.info
        built.append(builder.info)
    }

    private func storeReceipts(in builder: GenerationBuilder) throws {
        for record in receipts.records {
            try store(.receipt, record.outline.key, in: builder) { record.octets.withUnsafeBytes(value.append) }
        }
        for key in receipts.forgotten {
            try store(.forgotten, key, in: builder) { value.field(RecordTag.forgotten, key) }
        }
    }

    private func store(
        _ kind: ValueKind, _ key: Receipt.Digest, in builder: GenerationBuilder, _ payload: () -> Void
    ) throws {
        let id = StoredValue.id(of: key)
        value.removeAll()
        StoredValue.begin(kind, id, into: value)
        payload()
        StoredValue.end(salt: builder.info.salt, in: value)
        try builder.store(kind, id, value)
    }

    private func storeState(
        _ item: Item, in builder: GenerationBuilder, _ constants: ContentReader, _ states: ContentReader
    ) throws {
        let entry = item.entry
        let generation = item.moves ? old.nextGeneration : entry.envelope.generation
        var record: MetaRecord
        var due: Timestamp?
        if !entry.envelope.isJournal, entry.meta != 0, let known = try? constants.withMeta(entry, { $0 }) {
            record = known
            record.generation = generation
        } else {
            let outline = try constants.withEnvelope(entry) { try EnvelopeCodec.outline($0) }
            due = outline.due
            record = MetaRecord(
                generation: generation, received: outline.received, domains: outline.domains,
                isNotice: outline.isNotice, body: item.body?.id, spool: item.body?.spool)
        }
        value.removeAll()
        StoredValue.begin(.meta, entry.id, into: value)
        let start = value.count
        do {
            let isStored = try states.withState(entry) { record.encode(state: $0, into: value) } != nil
            if !isStored { try encodeInitial(entry, record, due, constants) }
        } catch {
            guard case .damaged(let text) = FileFailure(error) else { throw error }
            let kept = entry.state.isJournal ? nil : core.quarantine(.meta, entry.id, of: entry.meta)
            core.report(.damaged(what: "state of an envelope", id: entry.id, description: text, quarantine: kept))
            value.truncate(to: start)
            var older = entry
            older.state = .none
            var isStored = false
            try? states.withState(older) { octets in
                record.encode(state: octets, into: value)
                isStored = true
            }
            if !isStored {
                value.truncate(to: start)
                try encodeInitial(entry, record, due, constants)
            }
        }
        StoredValue.end(salt: builder.info.salt, in: value)
        try builder.store(.meta, entry.id, value)
    }

    /// The state of an envelope that is as it was accepted.
    private func encodeInitial(
        _ entry: IndexEntry, _ record: MetaRecord, _ due: Timestamp?, _ constants: ContentReader
    ) throws {
        let first = try due ?? constants.withEnvelope(entry) { try EnvelopeCodec.outline($0).due }
        let count = record.domains.reduce(0) { $0 + Int($1.count) }
        let state = OutputBuffer(capacity: 4096)
        StateCodec.encode(
            EnvelopeState(
                id: entry.id, due: first, recipients: Array(repeating: RecipientState(), count: count)),
            tag: RecordTag.state, into: state)
        // Without the tag and length that the field of the record has itself.
        withExtendedLifetime(state) {
            record.encode(state: UnsafeRawBufferPointer(rebasing: state.octets.dropFirst(5)), into: value)
        }
    }

    /// Copies to a new base what is still the truth in the old files, as it is.
    private func copyStates(to builder: GenerationBuilder) throws {
        let taken = Set(items.map(\.slot))
        for info in old.metas {
            guard let file = try core.fileSystem.openIfPresent("\(core.paths.queue)/\(info.name)") else { continue }
            defer { core.fileSystem.close(file) }
            try ValueScan.run(
                core.fileSystem, file, salt: info.salt,
                value: { stored, _ in
                    guard stored.kind == ValueKind.meta.rawValue else { return }
                    let slot = core.index.withLock { index -> UInt32? in
                        guard let slot = index.slot(of: stored.id), let entry = index.entry(at: slot),
                            entry.meta == info.number
                        else { return nil }
                        return slot
                    }
                    guard let slot, !taken.contains(slot) else { return }
                    value.removeAll()
                    StoredValue.begin(.meta, stored.id, into: value)
                    value.append(stored.payload)
                    StoredValue.end(salt: builder.info.salt, in: value)
                    try builder.store(.meta, stored.id, value)
                    moved.append((slot, stored.id))
                }, unreadable: { _, _ in })
        }
    }

    /// Writes the state of what is in sealed files and was not found in the old ones: their records are damaged.
    private func sweep(_ builder: GenerationBuilder, _ constants: ContentReader, _ states: ContentReader) throws {
        var done = Set(items.map(\.slot))
        done.formUnion(moved.map(\.slot))
        var missing: [Item] = []
        forEachEntry { slot, entry, body in
            if !entry.envelope.isJournal, !done.contains(slot) {
                missing.append(Item(slot: slot, entry: entry, body: body, moves: false))
            }
        }
        for item in missing {
            do {
                try storeState(item, in: builder, constants, states)
                items.append(item)
            } catch {
                guard case .damaged(let text) = FileFailure(error) else { throw error }
                // Neither its state nor its record can be read: it is only known that it was there.
                core.report(.damaged(what: "envelope", id: item.entry.id, description: text, quarantine: nil))
                _ = core.index.withLock { $0.lose(item.entry.id) }
            }
        }
    }

    // MARK: what the index is told

    /// The checkpoint counts.
    func apply() {
        let meta = states?.number ?? 0
        for start in stride(from: 0, to: items.count, by: Self.chunk) {
            core.index.withLock { index in
                for item in items[start..<min(start + Self.chunk, items.count)] {
                    index.checkpointed(
                        slot: item.slot, item.entry, contents: item.moves ? contents?.number ?? 0 : 0, meta: meta)
                }
            }
        }
        for start in stride(from: 0, to: moved.count, by: Self.chunk) {
            core.index.withLock { index in
                for (slot, id) in moved[start..<min(start + Self.chunk, moved.count)] {
                    index.moved(slot: slot, id, meta: meta)
                }
            }
        }
        core.index.withLock { index in
            index.recycled(upTo: upTo, buried: buried)
            index.receipts.checkpointed(receipts)
            index.checkpointing = nil
        }
    }
}
