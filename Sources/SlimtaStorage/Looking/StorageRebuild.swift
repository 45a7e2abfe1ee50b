// Makes a queue from whatever sealed files and segments of the journal are left, when `super`, which says what counts, is
// lost or does not fit any more. For `slimtad queue rebuild`; no daemon runs meanwhile.
//
// Everything is read as at a start, with a `super` made up from the names and labels of the files. What is found becomes a
// checkpoint: sealed files that are whole stay, everything else is written to new ones. Writing `super` is the commit
// point; before it nothing old is touched, so that a rebuild that was interrupted can be made again.

import SlimtaMail
package import SlimtaQueue
import SlimtaRecords
import Synchronization

/// What a rebuild has made.
package struct StorageRebuild: Sendable {
    /// Envelopes that are queued now.
    package private(set) var envelopes = 0
    /// Sealed files and segments of the journal that were read.
    package private(set) var generations = 0
    /// Segments of the journal that were read.
    package private(set) var segments = 0
    /// Where all that is not part of the new queue was moved to.
    package private(set) var aside: String

    /// Rebuilds the queue in `directory`. Newest wins; where it is not known whether a message was delivered, it is queued.
    ///
    /// `owner` is who the directory is to belong to, nil: who we are. `report` is told of all that is unreadable. Throws
    /// `inUse` while a daemon has the lock, and `damaged` if there is nothing to make a queue from.
    package static func run(
        directory: String, owner: (uid: UInt32, gid: UInt32)?, report: @escaping @Sendable (StorageEvent) -> Void
    ) throws(StorageOpenError) -> StorageRebuild {
        do {
            // A directory that is missing is not to be made.
            _ = try LinuxFileSystem().list(directory)
            let lock = try StateLock.take(directory, owner: owner)
            defer { withExtendedLifetime(lock) {} }
            return try run(LinuxFileSystem(), directory: directory, options: StorageOptions(), report: report)
        } catch {
            throw StorageOpenError(error)
        }
    }

    static func run(
        _ fileSystem: any FileSystem, directory: String, options: StorageOptions,
        report: @escaping @Sendable (StorageEvent) -> Void
    ) throws -> StorageRebuild {
        let core = StorageCore(fileSystem, directory: directory, options: options, report: report)
        let paths = core.paths
        for path in [paths.journal, paths.queue, paths.spool, paths.receiving, paths.quarantine] {
            try fileSystem.makeDirectory(path)
        }
        let found = try RebuildSources(core)
        let recovery = Recovery(core, isReadOnly: true)
        try recovery.run(rebuilding: found.superblock)
        Self.readAll(core)
        let last = recovery.segments.last?.number ?? found.superblock.firstSegment
        let plan = CheckpointPlan(
            core, recovery.superblock, needsBase: true, upTo: max(last, found.lastSegment),
            givesUpMissing: true)
        var next = try plan.build(checkpointed: recovery.expected - 1)
        next.ledger = core.index.withLock { $0.countedAnew() }
        // Who rebuilds a queue knows what was lost.
        next.forgetLosses()
        // There is always a segment that counts.
        let segment = try Housekeeper(core, free: []).makeSegment(next.firstSegment)
        var rebuild = StorageRebuild(aside: "\(paths.quarantine)/rebuild-\(Timestamp.now().milliseconds)")
        try fileSystem.makeDirectory(rebuild.aside)
        if let old = found.octets { try fileSystem.keep(old, "super", in: rebuild.aside) }
        try fileSystem.writeNew(next, in: paths)
        rebuild.envelopes = core.index.withLock { $0.count }
        rebuild.generations = found.files
        rebuild.segments = recovery.segments.count
        try rebuild.moveAside(core, next, except: Segment.name(segment.number))
        return rebuild
    }

    /// Reads all contents: what is damaged is left behind, rather than found when it is to be sent.
    private static func readAll(_ core: StorageCore) {
        let reader = ContentReader(core, windowSize: 1 << 20)
        for slot in 0..<core.index.withLock({ $0.slots }) {
            let found = core.index.withLock { index in index.entry(at: slot).map { ($0, index.body($0)) } }
            guard let (entry, body) = found, !entry.envelope.isJournal else { continue }
            // What this finds is kept with the file, and told when the rest is moved.
            _ = try? reader.withEnvelope(entry) { $0.count }
            _ = try? reader.withBody(entry, body) { $0.count }
        }
    }

    private func moveAside(
        _ core: StorageCore, _ superblock: Superblock, except segment: String
    ) throws(DiskError) {
        let listed = Set(superblock.generations.map(\.name))
        for (directory, names) in [
            (core.paths.queue, try core.fileSystem.list(core.paths.queue).filter { !listed.contains($0) }),
            (core.paths.journal, try core.fileSystem.list(core.paths.journal).filter { $0 != segment }),
        ] {
            for name in names { try core.fileSystem.rename("\(directory)/\(name)", to: "\(aside)/\(name)") }
            try core.fileSystem.syncDirectory(aside)
            try core.fileSystem.syncDirectory(directory)
        }
        // The next start would delete the rest of a message whose envelope is lost.
        let used = core.index.withLock { $0.spooled }
        for directory in try core.fileSystem.list(core.paths.spool) where directory.utf8.count == 2 {
            for name in try core.fileSystem.list("\(core.paths.spool)/\(directory)") {
                guard let id = QueueID(name), !used.contains(id) else { continue }
                try core.fileSystem.rename("\(core.paths.spool)/\(directory)/\(name)", to: "\(aside)/\(name)")
            }
        }
    }
}

/// What is left of a queue, as a `super` that lists it.
private struct RebuildSources {
    /// The old file, both slots.
    var octets: [UInt8]?
    var superblock = Superblock()
    var lastSegment: UInt64 = 0
    /// Sealed files that can be read.
    var files = 0

    init(_ core: StorageCore) throws {
        let fileSystem = core.fileSystem
        if let file = try fileSystem.openIfPresent(core.paths.superblock) {
            defer { fileSystem.close(file) }
            octets = try fileSystem.read(file, count: 2 * Superblock.slotSize, at: 0)
        }
        let old = try Superblock.read(octets ?? [], core.paths.superblock).max { $0.sequence < $1.sequence }
        let segments = try fileSystem.list(core.paths.journal).compactMap { Segment.number($0) }
        let names = try fileSystem.list(core.paths.queue).filter { $0.hasSuffix(".gdbm") }
        guard octets != nil || !segments.isEmpty || !names.isEmpty else {
            throw StorageOpenError.damaged("\(core.paths.root): there is no queue, nor anything left of one")
        }
        var found: [GenerationInfo] = []
        for name in names {
            guard let info = try Self.label(name, core, old) else { continue }
            // What `super` does not list any more waits to be deleted.
            let isOld = old.map { old in
                info.number < old.nextGeneration && !old.generations.contains { $0.number == info.number }
            }
            if !(isOld ?? false) { found.append(info) }
        }
        files = found.count
        take(found, old)
        lastSegment = segments.max() ?? 0
        if let old {
            superblock.sequence = old.sequence
            lastSegment = max(lastSegment, old.firstSegment)
            if !segments.contains(old.firstSegment), !segments.isEmpty {
                core.report(
                    .damaged(
                        what: core.paths.segment(old.firstSegment), id: nil, description: "the file is missing",
                        quarantine: nil))
            }
        }
        superblock.firstSegment = segments.min() ?? lastSegment + 1
        let numbers = (found + (old?.generations ?? [])).map(\.number)
        superblock.nextGeneration = max(old?.nextGeneration ?? 1, (numbers.max() ?? 0) + 1)
    }

    /// Lists contents, the newest base and all that changed since; and what should be there and is not.
    private mutating func take(_ found: [GenerationInfo], _ old: Superblock?) {
        let metas = found.filter { $0.kind != .contents }.sorted { $0.number < $1.number }
        let base = metas.last { $0.kind == .base }?.number ?? 0
        var listed = found.filter { $0.kind == .contents || $0.number >= base }
        let known = Set(found.map(\.number))
        listed += (old?.generations ?? []).filter { info in
            !known.contains(info.number) && (info.kind == .contents || info.number >= base)
        }
        // A file with contents is followed by one with their states.
        for info in found where info.kind == .contents && info.number > base {
            let states = info.number + 1
            guard !listed.contains(where: { $0.number == states }) else { continue }
            listed.append(GenerationInfo(kind: .delta, number: states, records: 1, salt: 0))
        }
        if base == 0, !listed.contains(where: { $0.kind == .base }), listed.contains(where: { $0.kind == .contents }) {
            listed.append(GenerationInfo(kind: .base, number: 0, records: 1, salt: 0))
        }
        superblock.generations = listed.sorted { $0.number < $1.number }
    }

    /// What a sealed file says that it is; nil if that cannot be read, nor `super` says it.
    private static func label(_ name: String, _ core: StorageCore, _ old: Superblock?) throws -> GenerationInfo? {
        let path = "\(core.paths.queue)/\(name)"
        let file = try core.fileSystem.open(path, .read)
        defer { core.fileSystem.close(file) }
        var claims = (old?.generations ?? []).filter { $0.name == name }
        try ValueScan.run(
            core.fileSystem, file, salt: 0,
            value: { value, _ in
                guard value.kind == ValueKind.label.rawValue else { return }
                var cursor = InputCursor(value.payload)
                guard let kind = GenerationInfo.Kind(rawValue: try cursor.number()) else { return }
                let info = GenerationInfo(
                    kind: kind, number: UInt32(truncatingIfNeeded: value.id.high), records: 0, salt: try cursor.number()
                )
                if info.name == name, claims.count < claimLimit { claims.append(info) }
            }, unreadable: { _, _ in })
        var best: (info: GenerationInfo, whole: UInt64)?
        for info in claims {
            let (counted, whole) = try count(info, core.fileSystem, file)
            if whole >= best?.whole ?? 0 { best = (counted, whole) }
        }
        if best == nil {
            core.report(.damaged(what: path, id: nil, description: "its label is unreadable", quarantine: nil))
        }
        return best?.info
    }

    /// A label needs no secret, so a message may have one in it. What it claims fits fewer values than the file's own.
    private static let claimLimit = 16

    /// Counts the records of a sealed file; what is not whole is to be missed.
    private static func count(
        _ info: GenerationInfo, _ fileSystem: any FileSystem, _ file: File
    ) throws -> (GenerationInfo, whole: UInt64) {
        var info = info
        (info.records, info.envelopes, info.receipts) = (0, 0, 0)
        var whole: UInt64 = 0
        try ValueScan.run(
            fileSystem, file, salt: info.salt,
            value: { value, _ in
                whole += 1
                info.count(ValueKind(rawValue: value.kind))
            },
            unreadable: { claim, _ in
                // An envelope that cannot be read is not counted as one: it is to be missed.
                info.count(claim.kind == .envelope ? .body : claim.kind)
            })
        return (info, whole)
    }
}

extension GenerationInfo {
    /// Counts a value of the file; nil: of a kind that a newer version knows.
    fileprivate mutating func count(_ kind: ValueKind?) {
        switch kind {
        case .receipt, .forgotten: receipts += 1
        case .envelope:
            records += 1
            envelopes += 1
        case .body, .meta, .tombstone: records += 1
        case .label, nil: break
        }
    }
}

extension FileSystem {
    /// Writes a new file, durable but for its directory.
    fileprivate func keep(_ octets: [UInt8], _ name: String, in directory: String) throws(DiskError) {
        let file = try open("\(directory)/\(name)", .create)
        defer { close(file) }
        try write(file, octets)
        try sync(file)
    }
}
