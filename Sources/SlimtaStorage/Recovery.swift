// The start: what `super` lists, the sealed states, the journal; then it is known what is queued. Reads states, never
// contents. Called by JournaledStorage.recover and, without changing anything, by the inspector.

import NIOCore
import SlimtaMail
import SlimtaQueue
import Synchronization

/// What is read at a start. Belongs to one thread.
final class Recovery {
    private struct Summary {
        var received: Int64
        var due: Int64
        var attempts: UInt32
        var domains: UInt32
        var firstPending: UInt32?
        var isHeld: Bool
    }

    let core: StorageCore
    /// Nothing is changed on disk: for the inspector.
    let isReadOnly: Bool

    private(set) var superblock = Superblock()
    /// The segments that count, oldest first.
    private(set) var segments: [Segment] = []
    /// Segments that were made ready and never used.
    private(set) var emptySegments: [Segment] = []
    private(set) var freeFiles: [String] = []
    private(set) var unneededFiles: [String] = []
    /// The next frame's number, had nothing been lost.
    private(set) var expected: UInt64 = 1
    /// Numbers that are missing and were never acknowledged.
    private(set) var torn: [ClosedRange<UInt64>] = []
    private(set) var nextSegment: UInt64 = 1
    /// Whether everything that was acknowledged was found.
    private(set) var isComplete = true
    /// Envelopes are queued whose states are not in any sealed file.
    private(set) var hasResurrected = false
    /// Frames of the journal that count.
    private(set) var frames = 0

    private var summaries: [Summary] = []
    private var domainLists: [[DomainRun]] = []
    private var domainNumbers: [[DomainRun]: UInt32] = [:]
    private var bodySlots: [QueueID: UInt32] = [:]
    private var mayDelete = false
    private var isNew = false

    init(_ core: StorageCore, isReadOnly: Bool = false) {
        self.core = core
        self.isReadOnly = isReadOnly
    }

    /// Reads all that tells what is queued. `withJournal` is false beside a running daemon: as of its last checkpoint.
    func run(withJournal: Bool = true) throws {
        if !isReadOnly { try makeDirectories() }
        try readSuperblock()
        if isReadOnly && isNew { return }
        try listFiles(withJournal)
        try readStates()
        if withJournal { try readJournal() }
        bodySlots = [:]
        if !isReadOnly, isComplete, mayDelete { try findUnneededSpool() }
    }

    /// Calls `visit` for every queued envelope.
    func forEach(_ visit: (QueuedSummary) -> Void) {
        let slots = core.index.withLock { $0.slots }
        for slot in 0..<slots {
            guard let id = core.index.withLock({ $0.entry(at: slot)?.id }) else { continue }
            let summary = summaries[Int(slot)]
            visit(
                QueuedSummary(
                    id: id, received: Timestamp(milliseconds: summary.received),
                    due: Timestamp(milliseconds: summary.due), attempts: summary.attempts, isHeld: summary.isHeld,
                    destination: destination(summary)))
        }
    }

    // MARK: super and files

    private func makeDirectories() throws(SystemError) {
        let paths = core.paths
        for path in [paths.journal, paths.queue, paths.spool, paths.receiving, paths.quarantine] {
            try core.fileSystem.makeDirectory(path)
        }
        try core.fileSystem.syncDirectory(paths.spool)
        try core.fileSystem.syncDirectory(paths.root)
    }

    private func readSuperblock() throws {
        let path = core.paths.superblock
        guard let file = try core.fileSystem.openIfPresent(path) else { return try begin() }
        defer { core.fileSystem.close(file) }
        let octets = try core.fileSystem.read(file, count: 2 * Superblock.slotSize, at: 0)
        var readings: [Superblock] = []
        var newer: UInt32?
        octets.withUnsafeBytes { octets in
            for start in [0, Superblock.slotSize] {
                let slot = octets.dropFirst(start).prefix(Superblock.slotSize)
                switch Superblock.decode(UnsafeRawBufferPointer(rebasing: slot)) {
                case .superblock(let found): readings.append(found)
                case .newer(let version): newer = version
                case .unreadable: break
                }
            }
        }
        if let newer { throw StorageOpenError.newerFormat("\(path): format \(newer), this version knows 1") }
        guard let best = readings.max(by: { $0.sequence < $1.sequence }) else {
            throw StorageOpenError.damaged("\(path): both copies are unreadable")
        }
        superblock = best
        mayDelete = readings.count == 2
        if readings.count == 2, readings[0] == readings[1] { return }
        core.report(
            .superblockRepaired(
                readings.count == 2 ? "\(path): a checkpoint was interrupted" : "\(path): one copy was unreadable"))
        if !isReadOnly { try core.fileSystem.writeNew(best, in: core.paths) }
    }

    /// No `super`: a new queue, unless there is something that it should list.
    private func begin() throws {
        let found =
            ((try? core.fileSystem.list(core.paths.journal)) ?? []).filter { $0.hasSuffix(".wal") }
            + ((try? core.fileSystem.list(core.paths.queue)) ?? []).filter { $0.hasSuffix(".gdbm") }
        guard found.isEmpty else {
            throw StorageOpenError.damaged("\(core.paths.superblock) is missing, but there is a queue beside it")
        }
        (mayDelete, isNew) = (true, true)
        if !isReadOnly { try core.fileSystem.writeNew(superblock, in: core.paths) }
    }

    private func listFiles(_ withJournal: Bool) throws {
        let paths = core.paths
        if !isReadOnly { unneededFiles += try core.fileSystem.list(paths.receiving).map { "\(paths.receiving)/\($0)" } }
        let listed = Set(superblock.generations.map(\.name))
        let found = Set(try core.fileSystem.list(paths.queue))
        for name in found where !listed.contains(name) {
            // A name is not used again while its file waits to be deleted.
            if let number = name.split(separator: "-").last?.prefix(8), let number = UInt32(number) {
                superblock.nextGeneration = max(superblock.nextGeneration, number + 1)
            }
            if name.hasSuffix(".tmp") || mayDelete && name.hasSuffix(".gdbm") {
                unneededFiles.append("\(paths.queue)/\(name)")
            }
        }
        for info in superblock.generations {
            if !found.contains(info.name) {
                lost("\(paths.queue)/\(info.name)", "the file is missing")
            }
            let generation = Generation(info, in: paths.queue, core.fileSystem)
            core.catalog.withLock { $0.generations[info.number] = generation }
        }
        guard withJournal else { return }
        var numbers: [UInt64] = []
        for name in try core.fileSystem.list(paths.journal) {
            let path = "\(paths.journal)/\(name)"
            if let number = UInt64(name.prefix(16)) { nextSegment = max(nextSegment, number + 1) }
            if let number = Segment.number(name) {
                if number >= superblock.firstSegment {
                    numbers.append(number)
                } else if mayDelete {
                    unneededFiles.append(path)
                }
            } else if name.hasSuffix(".free") {
                freeFiles.append(path)
            } else if name.hasSuffix(".tmp") {
                unneededFiles.append(path)
            }
        }
        nextSegment = max(nextSegment, superblock.firstSegment)
        for number in numbers.sorted() {
            if let segment = try openSegment(number) { segments.append(segment) }
        }
        if segments.isEmpty, superblock.sequence > 1 {
            lost(paths.segment(superblock.firstSegment), "the journal is missing")
        }
    }

    private func openSegment(_ number: UInt64) throws -> Segment? {
        let path = core.paths.segment(number)
        let file = try core.fileSystem.open(path, isReadOnly ? .read : .direct)
        do {
            if !isReadOnly {
                // What the page cache believes of a write that failed is not believed here.
                try core.fileSystem.syncData(file)
                core.fileSystem.dropCache(file)
            }
            let size = try core.fileSystem.size(file)
            let page = AlignedMemory(SegmentHeader.space)
            defer { withExtendedLifetime(page) {} }
            let count = try core.fileSystem.read(
                file, into: UnsafeMutableRawBufferPointer(start: page.base, count: SegmentHeader.space), at: 0)
            switch SegmentHeader.decode(UnsafeRawBufferPointer(start: page.base, count: count)) {
            case .header(let header) where header.number == number:
                let segment = Segment(header: header, file: file, size: size, fileSystem: core.fileSystem)
                core.catalog.withLock { $0.segments[number] = segment }
                return segment
            case .newer(let version):
                throw StorageOpenError.newerFormat("\(path): format \(version), this version knows 1")
            case .header(let header) where header.number > number:
                // It was being made another segment, and its new name did not come through.
                core.fileSystem.close(file)
                freeFiles.append(path)
                return nil
            case .header, .unreadable: break
            }
            core.fileSystem.close(file)
        } catch {
            core.fileSystem.close(file)
            throw error
        }
        let aside = "\(core.paths.quarantine)/\(Segment.name(number))"
        if !isReadOnly { try? core.fileSystem.rename(path, to: aside) }
        lost(path, "the segment's header is unreadable", quarantine: aside)
        return nil
    }

    private func lost(_ what: String, _ description: String, quarantine: String? = nil) {
        isComplete = false
        core.report(.damaged(what: what, id: nil, description: description, quarantine: quarantine))
    }

    // MARK: sealed states

    private func readStates() throws {
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

    private func takeMeta(_ value: StoredValue, _ generation: UInt32) throws(FormatError) {
        let (record, stateOctets) = try MetaRecord.decode(value.payload)
        let state = try StateCodec.outline(stateOctets)
        var body = IndexEntry.noBody
        if let id = record.body { body = bodySlot(id, record.spool) }
        let slot = core.index.withLock { index in
            index.accept(value.id, at: .generation(record.generation), body: body, meta: generation)
            return index.slot(of: value.id)!
        }
        set(slot, received: record.received, state, record.domains)
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
                        index.accept(value.id, at: .generation(info.number), body: body)
                        return index.slot(of: value.id)!
                    }
                    self.set(slot, outline)
                    self.hasResurrected = true
                    self.core.report(.resurrected(value.id))
                }, unreadable: { _, _ in })
        }
    }

    // MARK: the journal

    private func readJournal() throws {
        var scan = JournalScan(core, segments, after: superblock.checkpointed)
        try scan.run { (type, payload, location) throws(FormatError) in
            switch type {
            case .accept, .state, .remove: try self.replay(payload, location)
            case .marker, .abort: break
            }
        }
        expected = scan.expected
        frames = scan.frames
        for gap in scan.gaps {
            if gap.first <= scan.durable {
                damaged(gap)
            } else {
                torn.append(gap.first...gap.last)
                report(gap.segment, gap.from, gap.to) { .tornTail(segment: $0, offset: $1, quarantine: $2) }
            }
        }
        if scan.gaps.isEmpty, scan.tail == nil {
            emptySegments = segments.filter { $0.end == SegmentHeader.space }
            segments.removeAll { $0.end == SegmentHeader.space }
        }
        if let (segment, offset) = scan.tail {
            report(segment, offset, segment.size) { .tornTail(segment: $0, offset: $1, quarantine: $2) }
        }
    }

    private func replay(_ payload: UnsafeRawBufferPointer, _ location: Location) throws(FormatError) {
        var envelopes: [EnvelopeOutline] = []
        var states: [StateOutline] = []
        var removals: [QueueID] = []
        var spool: SpoolReference?
        var cursor = InputCursor(payload)
        while let field = try cursor.field() {
            switch field.tag {
            case RecordTag.envelope: envelopes.append(try EnvelopeCodec.outline(field.value))
            case RecordTag.spool: spool = try SpoolCodec.decode(field)
            case RecordTag.state: states.append(try StateCodec.outline(field.value))
            case RecordTag.removal: removals.append(try RemovalCodec.decode(field).id)
            default: break
            }
        }
        var body = IndexEntry.noBody
        if let first = envelopes.first, envelopes.count > 1 || spool != nil {
            body = core.index.withLock { $0.addBody(first.id, spool: spool) }
        }
        for outline in envelopes {
            let slot = core.index.withLock { index in
                index.accept(outline.id, at: location, body: body)
                return index.slot(of: outline.id)!
            }
            set(slot, outline)
        }
        for state in states {
            let slot = core.index.withLock { index in
                index.setState(state.id, at: location)
                return index.slot(of: state.id)
            }
            guard let slot else { continue }
            summaries[Int(slot)].due = state.due.milliseconds
            summaries[Int(slot)].attempts = state.attempts
            summaries[Int(slot)].isHeld = state.isHeld
            summaries[Int(slot)].firstPending = state.firstPending
        }
        for id in removals { _ = core.index.withLock { $0.remove(id) } }
    }

    /// Acknowledged frames are unreadable: what can be read of them is told, and their octets are kept.
    private func damaged(_ gap: JournalGap) {
        isComplete = false
        var known: [(QueueID, String)] = []
        if let segment = gap.segment,
            let octets = try? core.fileSystem.readAligned(segment, from: gap.from, to: min(gap.to, gap.from + 1 << 20))
        {
            octets.withOctets { known = Self.legible($0) }
        }
        if known.isEmpty {
            report(gap.segment, gap.from, gap.to) {
                .damaged(
                    what: "journal segment \($0)", id: nil, description: "record \(gap.first) at \($1) is unreadable",
                    quarantine: $2)
            }
        }
        for (id, description) in known {
            report(gap.segment, gap.from, gap.to) {
                .damaged(what: "journal segment \($0)", id: id, description: description, quarantine: $2)
            }
        }
    }

    /// The envelopes that can still be read in the octets of a damaged frame.
    private static func legible(_ octets: UnsafeRawBufferPointer) -> [(QueueID, String)] {
        guard octets.count > FrameHeader.size else { return [] }
        var cursor = InputCursor(UnsafeRawBufferPointer(rebasing: octets.dropFirst(FrameHeader.size)))
        var known: [(QueueID, String)] = []
        while let field = try? cursor.field() {
            guard field.tag == RecordTag.envelope, let (envelope, _) = try? EnvelopeCodec.decode(field.value) else {
                continue
            }
            let recipients = envelope.recipients.map(\.text).joined(separator: ", ")
            known.append((envelope.id, "from \(envelope.senderText) to \(recipients)"))
        }
        return known
    }

    private func report(
        _ segment: Segment?, _ from: Int, _ to: Int, _ event: (UInt64, Int, String?) -> StorageEvent
    ) {
        var kept: String?
        if !isReadOnly, let segment,
            let octets = try? core.fileSystem.readAligned(segment, from: from, to: min(to, from + 1 << 20))
        {
            octets.withOctets { kept = core.quarantine("\(Segment.name(segment.number))-\(from)", $0) }
        }
        core.report(event(segment?.number ?? 0, from, kept))
    }

    // MARK: summaries

    private func set(_ slot: UInt32, _ outline: EnvelopeOutline) {
        let state = StateOutline(
            id: outline.id, due: outline.due, firstPending: outline.domains.isEmpty ? nil : 0)
        set(slot, received: outline.received, state, outline.domains)
    }

    private func set(_ slot: UInt32, received: Timestamp, _ state: StateOutline, _ domains: [DomainRun]) {
        let number: UInt32
        if let known = domainNumbers[domains] {
            number = known
        } else {
            number = UInt32(domainLists.count)
            domainLists.append(domains)
            domainNumbers[domains] = number
        }
        let summary = Summary(
            received: received.milliseconds, due: state.due.milliseconds, attempts: state.attempts, domains: number,
            firstPending: state.firstPending, isHeld: state.isHeld)
        if Int(slot) < summaries.count {
            summaries[Int(slot)] = summary
        } else {
            // Slots are given out in order.
            summaries.append(summary)
        }
    }

    private func destination(_ summary: Summary) -> String {
        guard var index = summary.firstPending else { return "" }
        for run in domainLists[Int(summary.domains)] {
            if index < run.count { return run.domain }
            index -= run.count
        }
        return ""
    }

    // MARK: spool

    /// Files of the spool that no envelope has: their commit never came.
    private func findUnneededSpool() throws {
        let used = core.index.withLock { $0.spooled }
        for directory in try core.fileSystem.list(core.paths.spool) where directory.utf8.count == 2 {
            for name in (try? core.fileSystem.list("\(core.paths.spool)/\(directory)")) ?? [] {
                guard let id = QueueID(name), !used.contains(id) else { continue }
                unneededFiles.append("\(core.paths.spool)/\(directory)/\(name)")
            }
        }
    }
}

extension FileSystem {
    /// Octets of a segment, which may have to be read in whole pages.
    func readAligned(_ segment: Segment, from: Int, to: Int) throws(SystemError) -> AlignedOctets {
        let start = from / OutputBuffer.page * OutputBuffer.page
        let end = min(roundedUp(max(to, from), to: OutputBuffer.page), segment.size)
        let memory = AlignedMemory(end - start)
        let count = try read(
            segment.file, into: UnsafeMutableRawBufferPointer(start: memory.base, count: end - start), at: start)
        return AlignedOctets(memory: memory, range: min(from - start, count)..<min(max(to, from) - start, count))
    }

    /// Writes a whole new `super`: at the very beginning, and when the old file is not believed any more.
    func writeNew(_ superblock: Superblock, in paths: StatePaths) throws(SystemError) {
        let slot = superblock.encode()
        var octets = [UInt8](repeating: 0, count: 2 * Superblock.slotSize)
        for start in [0, Superblock.slotSize] {
            octets.replaceSubrange(start..<(start + slot.count), with: slot.array)
        }
        try replace("super", in: paths.root, with: octets)
    }
}

/// Octets inside aligned memory.
struct AlignedOctets {
    let memory: AlignedMemory
    let range: Range<Int>

    func withOctets(_ body: (UnsafeRawBufferPointer) -> Void) {
        body(UnsafeRawBufferPointer(start: memory.base + range.lowerBound, count: range.count))
        withExtendedLifetime(memory) {}
    }
}
