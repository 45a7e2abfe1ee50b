// Proves the ledger's balance from what is on disk: `super`, the sealed states, the journal, and every content, read with
// its checksum. For `slimtad audit`, beside a running daemon and without one.

import NIOCore
import SlimtaMail
import SlimtaQueue
import SlimtaRecords
import SlimtaThreads
import Synchronization

extension StorageAudit {
    /// What was told while the directory was read.
    mutating func add(_ event: StorageEvent) {
        switch event {
        case .damaged(let what, let id, let description, _): add("\(what): \(description)", id)
        case .missing(let what, let description): add("\(what): \(description)")
        case .resurrected(let id): add("its state is damaged: it is queued as it was accepted", id)
        case .superblockRepaired(let what): add(what, isFault: false)
        case .tornTail(let segment, let offset, _):
            add("journal segment \(segment) ends at \(offset) in a write that was not acknowledged", isFault: false)
        case .leftover(let what): add(what, isFault: false)
        case .journalFailed(let what), .checkpointFailed(let what): add(what)
        case .journalRecovered, .diskFull, .diskRoom, .receiptsForgotten: break
        }
    }
}

/// Makes an audit. Belongs to one thread at a time.
///
/// The directory is read into a core of its own, so that nothing that the daemon believes has a part in it.
final class Auditor {
    private let core: StorageCore
    private let recovery: Recovery
    private(set) var audit: StorageAudit

    /// Events of the reading, until they become findings.
    private final class Events: Sendable {
        let all = Mutex<[StorageEvent]>([])
    }

    /// Reads what is queued, up to frame `limit` of the journal; nil: all of it.
    init(_ fileSystem: any FileSystem, directory: String, options: StorageOptions, upTo limit: UInt64?) throws {
        let events = Events()
        core = StorageCore(fileSystem, directory: directory, options: options) { event in
            events.all.withLock { $0.append(event) }
        }
        recovery = Recovery(core, isReadOnly: true)
        audit = StorageAudit(ledger: Ledger(since: Timestamp(milliseconds: 0)))
        try recovery.run(upTo: limit)
        audit.ledger = core.index.withLock { $0.balance }
        for event in events.all.withLock({ $0 }) { audit.add(event) }
        for loss in recovery.superblock.losses where !audit.findings.contains(where: { $0.text == loss }) {
            audit.add(loss)
        }
        if audit.ledger.unaccounted != 0 { audit.add("\(audit.ledger.unaccounted) recipients are not accounted for") }
        if audit.ledger.mismatched > 0 {
            audit.add("\(audit.ledger.mismatched) removals did not say how each recipient ended")
        }
        if let limit, recovery.expected <= limit {
            audit.add("records \(recovery.expected) to \(limit) of the journal are unreadable")
        }
    }

    /// What the running daemon counted when it was at the same frame.
    func compare(_ running: Ledger) {
        audit.running = running
        if running != audit.ledger { audit.add("the daemon's counters say something else: \(running.total)") }
    }

    /// Reads the contents of all that is queued. `current` is where the daemon has it now; nil: no daemon runs.
    func readContents(_ current: StorageCore? = nil) {
        let reader = ContentReader(current ?? core, windowSize: 64 << 10, isReadOnly: true)
        let stride: UInt32 = 1024
        for start in Swift.stride(from: 0, to: core.index.withLock { $0.slots }, by: Int(stride)) {
            let entries = core.index.withLock { index in
                (start..<min(start + stride, index.slots)).compactMap { index.entry(at: $0) }
            }
            for place in reader.readingOrder(entries.map(\.id)) { check(entries[place], reader) }
        }
    }

    private func check(_ expected: IndexEntry, _ reader: ContentReader) {
        let id = expected.id
        for isLast in [false, false, false, true] {
            // It may have left the queue since, or be somewhere else now.
            let found = reader.core.index.withLock { index in
                index.entry(id).map { ($0, index.body($0), index.fates($0)) }
            }
            guard let (entry, body, fates) = found else { return }
            do {
                let (envelope, _) = try reader.withEnvelope(entry) { try EnvelopeCodec.decode($0) }
                let head = try reader.withBody(entry, body) { $0.count }
                let state = try reader.withState(entry) { try StateCodec.decode($0) }
                let isStill = reader.core.index.withLock { $0.entry(id).map { $0.state == entry.state } ?? false }
                if !isStill, !isLast { continue }
                audit.envelopes += 1
                audit.octets += Int64(head)
                if RecipientCount(envelope) != entry.recipients {
                    audit.add("it has \(envelope.recipients.count) recipients, the index \(entry.recipients.count)", id)
                }
                if let state, Fates(state) != fates || state.recipients.count != envelope.recipients.count {
                    audit.add("its state says something else than the index", id)
                }
                if let spool = body?.spool { read(spool, id, reader.core) }
                return
            } catch {
                let failure = FileFailure(error)
                if case .retired = failure, !isLast { continue }
                let now = reader.core.index.withLock { $0.entry(id) }
                guard let now else { return }
                let hasMoved = now.envelope != entry.envelope || now.state != entry.state || now.meta != entry.meta
                if hasMoved, !isLast { continue }
                audit.add("its records are unreadable: \(failure)", id)
                return
            }
        }
    }

    private func read(_ reference: SpoolReference, _ id: QueueID, _ core: StorageCore) {
        let storage = SpoolStorage(
            core: core, pool: BlockingPool("storage-io"), delete: { _ in }, isReadOnly: true)
        let reader = FileSpoolReader(reference, storage, of: id)
        while true {
            switch reader.read(256 << 10) {
            case .success(let octets?): audit.octets += Int64(octets.readableBytes)
            case .success(nil):
                audit.spooled += 1
                return
            case .failure(let error):
                if core.index.withLock({ $0.entry(id) }) == nil { return }
                audit.add("the rest of its message is unreadable: \(error)", id)
                return
            }
        }
    }

    /// Looks for files that no record leads to. Only while no daemon runs: one makes such files all the time.
    func listFiles() {
        let used = core.index.withLock { $0.spooled }
        let spool = core.paths.spool
        for directory in (try? core.fileSystem.list(spool)) ?? [] where directory.utf8.count == 2 {
            for name in (try? core.fileSystem.list("\(spool)/\(directory)")) ?? []
            where !(QueueID(name).map { used.contains($0) } ?? false) {
                audit.add("\(spool)/\(directory)/\(name) belongs to no envelope", isFault: false)
            }
        }
        let listed = Set(recovery.superblock.generations.map(\.name))
        for name in (try? core.fileSystem.list(core.paths.queue)) ?? [] where !listed.contains(name) {
            audit.add("\(core.paths.queue)/\(name) is not in use", isFault: false)
        }
    }

    /// Tells what was moved aside.
    func listQuarantine() {
        for name in ((try? core.fileSystem.list(core.paths.quarantine)) ?? []).sorted() {
            audit.add("\(core.paths.quarantine)/\(name) was moved aside", isFault: false)
        }
    }
}
