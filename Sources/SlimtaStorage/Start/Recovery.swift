// The start: what `super` lists, the sealed states, the journal; then it is known what is queued. Reads states, never
// contents. Called by JournaledStorage.recover and, without changing anything, by the inspector.

import NIOCore
import SlimtaMail
import SlimtaQueue
import SlimtaRecords
import Synchronization

/// What is read at a start. Belongs to one thread.
final class Recovery {
    let core: StorageCore
    /// Nothing is changed on disk: for the inspector.
    let isReadOnly: Bool

    var superblock = Superblock()
    /// The segments that count, oldest first.
    var segments: [Segment] = []
    /// Segments that were made ready and never used.
    var emptySegments: [Segment] = []
    private(set) var freeFiles: [String] = []
    private(set) var unneededFiles: [String] = []
    /// Segments that have to be there and are not.
    private(set) var missingSegments: [UInt64] = []
    /// The next frame's number, had nothing been lost.
    var expected: UInt64 = 1
    /// Numbers that are missing and were never acknowledged.
    var torn: [ClosedRange<UInt64>] = []
    private(set) var nextSegment: UInt64 = 1
    /// Whether everything that was acknowledged was found.
    var isComplete = true
    /// Records of sealed states are unreadable: all are to be written anew.
    var hasDamagedStates = false
    /// Frames of the journal that count.
    var frames = 0

    var summaries = RecoverySummaries()
    var bodySlots: [QueueID: UInt32] = [:]
    private var segmentNames: Set<String> = []
    /// The salts of files that are to be used again or deleted: each file once.
    private var spentSalts: Set<UInt64> = []
    private var mayDelete = false
    private var isNew = false
    /// `super` has a ledger: its version is not 1.
    private(set) var isCounted = true
    /// Nothing tells which frame the journal begins with.
    private(set) var isRebuilding = false
    /// `super` is not, in both copies, what was read.
    private var needsRepair = false
    /// Losses were found that `super` does not tell of.
    private var hasNewLosses = false

    init(_ core: StorageCore, isReadOnly: Bool = false) {
        self.core = core
        self.isReadOnly = isReadOnly
    }

    /// Reads all that tells what is queued. `withJournal` is false beside a running daemon: as of its last checkpoint.
    /// `limit`: beside one that is looked at while it works, up to this frame of the journal.
    func run(withJournal: Bool = true, upTo limit: UInt64? = nil) throws {
        if !isReadOnly { try makeDirectories() }
        try readSuperblock()
        if isReadOnly && isNew { return }
        try listFiles(withJournal)
        try readStates()
        beginLedger()
        if needsRepair, !isReadOnly { try repairSuperblock() }
        if withJournal { try readJournal(upTo: limit) }
        if !isComplete { core.index.withLock { $0.settleDamage() } }
        bodySlots = [:]
        if !isReadOnly, hasNewLosses {
            // Before anything changes: the next checkpoint leaves no trace of what is missing.
            superblock.sequence += 1
            try core.fileSystem.overwrite(superblock, in: core.paths)
        }
        // The rest of a message whose envelope is lost is kept until an operator has seen to it.
        if !isReadOnly, isComplete, mayDelete, superblock.losses.isEmpty { try findUnneededSpool() }
    }

    /// Reads what `found` lists, which was made from the files that are there: for a rebuild. Nothing is changed.
    func run(rebuilding found: Superblock) throws {
        (superblock, isCounted, isRebuilding) = (found, false, true)
        superblock.ledger = nil
        try listFiles(true)
        try readStates()
        listMissingContents()
        beginLedger()
        try readJournal(upTo: nil)
        bodySlots = [:]
    }

    /// Files that states tell of, and nothing else.
    private func listMissingContents() {
        let numbers = core.index.withLock { $0.live.filter { $0.value > 0 }.keys.sorted() }
        for number in numbers where core.generation(number) == nil {
            let info = GenerationInfo(kind: .contents, number: number, records: 0, salt: 0)
            superblock.generations.append(info)
            superblock.nextGeneration = max(superblock.nextGeneration, number + 1)
            let generation = Generation(info, in: core.paths.queue, core.fileSystem)
            core.catalog.withLock { $0.generations[number] = generation }
            missing(generation.path)
        }
    }

    /// Calls `visit` for every queued envelope; can be done once.
    func forEach(_ visit: (QueuedSummary) -> Void) {
        let slots = core.index.withLock { $0.slots }
        summaries.takeAll(slots, id: { slot in core.index.withLock { $0.entry(at: slot)?.id } }, visit)
    }

    // MARK: super and files

    private func makeDirectories() throws(DiskError) {
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
        let readings = try Superblock.read(octets, path)
        guard let best = readings.max(by: { $0.sequence < $1.sequence }) else {
            throw StorageOpenError.damaged("\(path): both copies are unreadable; slimtad queue rebuild makes a new one")
        }
        superblock = best
        isCounted = best.ledger != nil
        mayDelete = readings.count == 2
        if readings.count == 2, readings[0] == readings[1] { return }
        core.report(
            .superblockRepaired(
                readings.count == 2 ? "\(path): a checkpoint was interrupted" : "\(path): one copy was unreadable"))
        needsRepair = true
    }

    /// On a full disk it needs the room of the reserve.
    private func repairSuperblock() throws(DiskError) {
        do throws(DiskError) { try core.fileSystem.writeNew(superblock, in: core.paths) } catch {
            guard error.isFull, (try? core.fileSystem.remove(core.paths.reserve)) != nil else { throw error }
            try core.fileSystem.writeNew(superblock, in: core.paths)
        }
    }

    /// No `super`: a new queue, unless there is something that it should list.
    private func begin() throws {
        let found =
            ((try? core.fileSystem.list(core.paths.journal)) ?? []).filter { $0.hasSuffix(".wal") }
            + ((try? core.fileSystem.list(core.paths.queue)) ?? []).filter { $0.hasSuffix(".gdbm") }
        guard found.isEmpty else {
            throw StorageOpenError.damaged(
                "\(core.paths.superblock) is missing, but there is a queue beside it; "
                    + "slimtad queue rebuild makes a new one")
        }
        (mayDelete, isNew) = (true, true)
        superblock.ledger = Ledger(since: .now())
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
            if !found.contains(info.name) { missing("\(paths.queue)/\(info.name)") }
            let generation = Generation(info, in: paths.queue, core.fileSystem)
            core.catalog.withLock { $0.generations[info.number] = generation }
        }
        guard withJournal else { return }
        var numbers: [UInt64] = []
        let names = try core.fileSystem.list(paths.journal)
        segmentNames = Set(names)
        for name in names {
            let path = "\(paths.journal)/\(name)"
            if let number = UInt64(name.prefix(16)) { nextSegment = max(nextSegment, number + 1) }
            if let number = Segment.number(name) {
                if number >= superblock.firstSegment {
                    numbers.append(number)
                } else if mayDelete, try !isOtherName(path) {
                    unneededFiles.append(path)
                }
            } else if name.hasSuffix(".free") {
                if try !isOtherName(path) { freeFiles.append(path) }
            } else if name.hasSuffix(".tmp") {
                unneededFiles.append(path)
            }
        }
        nextSegment = max(nextSegment, superblock.firstSegment)
        for number in numbers.sorted() {
            if let segment = try openSegment(number) { segments.append(segment) }
        }
        findMissingSegments(Set(numbers))
    }

    /// From the newest segment back, each says which one was before it; `present` are the names that are there.
    private func findMissingSegments(_ present: Set<UInt64>) {
        // `super` has its second sequence number when the first segment is durable.
        if segments.isEmpty, superblock.sequence > 1, !superblock.journalHadFailed {
            return missing(core.paths.journal, "all segments of the journal are missing")
        }
        var wanted = segments.last?.number ?? 0
        while wanted >= superblock.firstSegment, wanted > 0 {
            if let segment = segments.last(where: { $0.number == wanted }) {
                wanted = segment.header.previous < wanted ? segment.header.previous : 0
                continue
            }
            // Of one that is there and unreadable it has been told.
            if !present.contains(wanted) {
                missingSegments.append(wanted)
                missing(core.paths.segment(wanted))
            }
            wanted = segments.last { $0.number < wanted }?.number ?? 0
        }
    }

    /// Whether a file that is to be used again, or deleted, has another name too: a power cut may have left both names of
    /// one that was being renamed. Then only this name goes; what it leads to may be a segment that counts.
    private func isOtherName(_ path: String) throws -> Bool {
        // Beside a running daemon the file may have another name by now. Who only looks does nothing with it.
        if isReadOnly { return false }
        let file = try core.fileSystem.open(path, .read)
        defer { core.fileSystem.close(file) }
        let page = try core.fileSystem.read(file, count: SegmentHeader.space, at: 0)
        guard case .header(let header) = page.withUnsafeBytes({ SegmentHeader.decode($0) }) else { return false }
        let name = Segment.name(header.number)
        let isSegment = segmentNames.contains(name) && !path.hasSuffix("/\(name)")
        guard isSegment || !spentSalts.insert(header.salt).inserted else { return false }
        try core.fileSystem.remove(path)
        return true
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
                throw StorageOpenError.newerFormat(
                    "\(path): format \(version), this version knows \(SegmentHeader.version)")
            case .header(let header) where header.number > number:
                // It was being made another segment, and its new name did not come through.
                core.fileSystem.close(file)
                if try !isOtherName(path) { freeFiles.append(path) }
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

    func lost(_ what: String, _ description: String, quarantine: String? = nil) {
        isComplete = false
        note(loss: "\(what): \(description)")
        core.report(.damaged(what: what, id: nil, description: description, quarantine: quarantine))
    }

    /// A file that has to be there is not.
    private func missing(_ what: String, _ description: String = "the file is missing") {
        isComplete = false
        note(loss: "\(what): \(description)")
        core.report(.missing(what: what, description: description))
    }

    /// Mail is lost: that is told until an operator acknowledges it.
    func note(loss text: String) {
        if superblock.add(loss: text) { hasNewLosses = true }
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
    func readAligned(_ segment: Segment, from: Int, to: Int) throws(DiskError) -> AlignedOctets {
        let start = from / OutputBuffer.page * OutputBuffer.page
        let end = min(roundedUp(max(to, from), to: OutputBuffer.page), segment.size)
        let memory = AlignedMemory(end - start)
        let count = try read(
            segment.file, into: UnsafeMutableRawBufferPointer(start: memory.base, count: end - start), at: start)
        return AlignedOctets(memory: memory, range: min(from - start, count)..<min(max(to, from) - start, count))
    }

    /// Writes both slots of `super` in place, one after the other: that needs no room.
    func overwrite(_ superblock: Superblock, in paths: StatePaths) throws(DiskError) {
        let slot = superblock.encode()
        let file = try open(paths.superblock, .write)
        defer { close(file) }
        for start in [0, Superblock.slotSize] {
            try write(file, slot, at: start)
            try syncData(file)
        }
    }

    /// Writes a whole new `super`: at the very beginning, and when the old file is not believed any more.
    func writeNew(_ superblock: Superblock, in paths: StatePaths) throws(DiskError) {
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

extension StorageOpenError {
    /// What keeps a queue from being opened or looked at, whatever has thrown it.
    init(_ error: any Error) {
        switch error {
        case let error as StorageOpenError: self = error
        case let error as DiskError: self = .system(error.description)
        default: self = .damaged("\(FileFailure(error))")
        }
    }
}
