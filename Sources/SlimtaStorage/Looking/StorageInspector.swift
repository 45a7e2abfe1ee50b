// Looks into a queue directory without changing it: for `slimtad queue list|show|count` when no daemon answers.

import NIOCore
package import SlimtaMail
package import SlimtaQueue
import SlimtaThreads
import Synchronization

/// What a queue directory says. Nothing in it is changed, nothing is repaired.
///
/// While no daemon runs, this is all that is queued, and none can start meanwhile. Beside a running daemon only the
/// sealed files are read: what was queued at its last checkpoint.
package final class StorageInspector {
    /// The number of the checkpoint that this shows; nil: everything, as of now.
    package let asOfCheckpoint: UInt64?
    /// All queued envelopes, oldest first.
    package let queued: [QueuedSummary]
    /// The balance of all recipients that this queue ever accepted; without a meaning `asOfCheckpoint`.
    package let ledger: Ledger
    /// Mail that was found to be lost, in words, and that no operator has acknowledged.
    package let losses: [String]
    let core: StorageCore
    private let lock: StateLock?

    /// Reads the directory. `report` is told of damage.
    package init(
        directory: String, report: @escaping @Sendable (StorageEvent) -> Void = { _ in }
    ) throws(StorageOpenError) {
        lock = try StateLock.share(directory)
        core = StorageCore(LinuxFileSystem(), directory: directory, options: StorageOptions(), report: report)
        let recovery = Recovery(core, isReadOnly: true)
        do {
            try recovery.run(withJournal: lock != nil)
        } catch {
            throw StorageOpenError(error)
        }
        asOfCheckpoint = lock == nil ? recovery.superblock.sequence : nil
        var found: [QueuedSummary] = []
        recovery.forEach { found.append($0) }
        queued = found.sorted { $0.id < $1.id }
        ledger = core.index.withLock { $0.balance }
        losses = recovery.superblock.losses
    }

    /// Proves the balance from what is on disk, on the caller's thread. Beside a running daemon only that can do it:
    /// then this throws `inUse`.
    package func audit() throws(StorageOpenError) -> StorageAudit {
        if lock == nil { throw .inUse(processID: nil) }
        do {
            let auditor = try Auditor(
                core.fileSystem, directory: core.paths.root, options: core.options, upTo: nil)
            auditor.readContents()
            auditor.listFiles()
            auditor.listQuarantine()
            return auditor.audit
        } catch {
            throw StorageOpenError(error)
        }
    }

    /// Reads an envelope, on the caller's thread. Its message can be read as long as the storage's files stay.
    package func load(_ id: QueueID) throws(StorageError) -> StoredEnvelope {
        let pool = BlockingPool("storage-io")
        // Nobody started it, so the caller's thread does the work.
        pool.stop()
        let spool = SpoolStorage(core: core, pool: pool, delete: { _ in }, isReadOnly: true)
        return try ContentReader(core, windowSize: 32 << 10, isReadOnly: true).load(id) {
            StoredSpool(reference: $0, storage: spool, of: id)
        }
    }

    /// Envelopes in the order of arrival, as ``JournaledStorage/page(after:count:)``, on the caller's thread.
    package func page(after place: QueueID?, count: Int) -> QueuedPage {
        let reader = ContentReader(core, windowSize: 32 << 10, isReadOnly: true)
        return QueueWalk(core: core).page(after: place, count: count, reader)
    }
}
