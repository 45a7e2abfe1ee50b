// The storage of the queue: journal in front, sealed GDBM files behind. The queue's driver and the edges use it through
// QueueStorage; the composition root opens, recovers and closes it.

import NIOCore
package import SlimtaMail
package import SlimtaQueue
import SlimtaRecords
import SlimtaThreads
import Synchronization

/// Keeps the queue durable: what is committed survives kill and power cut.
///
/// `open` takes the directory, `start` reads it and starts the threads, `close` leaves everything in GDBM. A storage that
/// is dropped without `close` ends its threads; what was committed is in the journal.
package final class JournaledStorage: CheckpointedBackend, MovableBackend {
    private struct Running: Sendable {
        var journal: Journal
        var housekeeper: Housekeeper
        var checkpointer: Checkpointer
        var pool: BlockingPool
        var spool: SpoolStorage
        var threads: [Thread]
    }

    let core: StorageCore
    private let lock: Mutex<StateLock?>
    private let running = Mutex<Running?>(nil)

    /// Frame numbers that a torn tail may have used are not used again: no batch has as many frames.
    private static let numberGap: UInt64 = 1 << 20

    init(
        _ fileSystem: any FileSystem, directory: String, lock: StateLock?, options: StorageOptions,
        report: @escaping @Sendable (StorageEvent) -> Void
    ) {
        core = StorageCore(fileSystem, directory: directory, options: options, report: report)
        self.lock = Mutex(lock)
    }

    deinit { halt() }

    /// Takes the state directory: phase `openStorage`, which may run as root.
    ///
    /// Makes the directory (0700, of `owner`) if it is missing; refuses one that is a symbolic link, belongs to somebody
    /// else or can be written by others; takes `lock`. Touches nothing else, and starts no thread. `owner` nil: who we are.
    package static func open(
        directory: String, owner: (uid: UInt32, gid: UInt32)?, options: StorageOptions,
        report: @escaping @Sendable (StorageEvent) -> Void
    ) throws(StorageOpenError) -> JournaledStorage {
        let lock = try StateLock.take(directory, owner: owner)
        return JournaledStorage(
            LinuxFileSystem(), directory: directory, lock: lock, options: options, report: report)
    }

    /// Envelopes that are told of at once at the start.
    private static let acquiredAtOnce = 1024

    /// Reads what is queued, and begins to work: phase `recover`, after privileges are dropped, on the caller's thread. All
    /// is ours until we stop, so nothing is told later.
    package func start(_ events: @escaping @Sendable ([QueueEvent]) -> Void) async throws(StorageOpenError) {
        var found: [QueuedSummary] = []
        try recover { summary in
            found.append(summary)
            guard found.count == Self.acquiredAtOnce else { return }
            events([.acquired(found)])
            found.removeAll(keepingCapacity: true)
        }
        if !found.isEmpty { events([.acquired(found)]) }
    }

    /// As ``start(_:)``, for queues that are not large: all that is queued, in no order.
    package func recover() throws(StorageOpenError) -> [QueuedSummary] {
        var queued: [QueuedSummary] = []
        try recover { queued.append($0) }
        return queued
    }

    private func recover(_ visit: (QueuedSummary) -> Void) throws(StorageOpenError) {
        do {
            lock.withLock { $0?.name() }
            let recovery = Recovery(core)
            try recovery.run()
            try start(recovery)
            recovery.forEach(visit)
        } catch {
            throw StorageOpenError(error)
        }
    }

    /// The journal goes on in a new segment: nothing is ever written behind a tail.
    private func start(_ recovery: Recovery) throws {
        let housekeeper = Housekeeper(core, free: recovery.freeFiles)
        let segment = try housekeeper.makeFirstSegment(recovery)
        let number = recovery.expected + Self.numberGap
        let accepted = core.index.withLock { $0.ledger.accepted }
        // All that was found is durable: files were synced before they were read.
        try core.fileSystem.writeAbort(
            segment, recovery.torn + [recovery.expected...(number - 1)], number: number,
            durable: (recovery.torn.first?.lowerBound ?? recovery.expected) - 1, accepted: accepted)
        if recovery.superblock.sequence == 1 {
            // From now on a journal without a segment is one that went missing.
            recovery.superblock.sequence = 2
            try core.fileSystem.overwrite(recovery.superblock, in: core.paths)
        }
        core.catalog.withLock { $0.segments[segment.number] = segment }
        core.index.withLock { $0.applied = number }
        // Only now: there is always a segment that counts.
        for empty in recovery.emptySegments {
            _ = core.catalog.withLock { $0.segments.removeValue(forKey: empty.number) }
            housekeeper.recycle(empty)
        }
        let pool = BlockingPool("storage-io")
        let spool = SpoolStorage(core: core, pool: pool, delete: { housekeeper.delete($0) })
        let journal = Journal(
            core, next: number + 1, durable: number, current: segment,
            position: SegmentHeader.space + OutputBuffer.page, closed: recovery.segments,
            housekeeper: housekeeper.wake, checkpointer: Event(),
            discard: { [paths = core.paths] ids in housekeeper.delete(ids.map { paths.spooled($0) }) })
        // What the last run left in the journal is taken up at once.
        if recovery.frames > 0 { journal.state.withLock { $0.dirtySince = .min / 2 } }
        let checkpointer = Checkpointer(
            core, journal, housekeeper, recovery.superblock, needsBase: recovery.hasDamagedStates)
        housekeeper.delete(recovery.unneededFiles)
        housekeeper.watchSpace(journal)
        let threads: [Thread]
        do throws(ThreadError) {
            try pool.start(core.options.ioThreads)
            threads = [
                try Thread("storage-writer") { journal.run() },
                try Thread("storage-keeper") { housekeeper.run(journal) },
                try Thread("storage-check") { checkpointer.run() },
            ]
        } catch {
            throw DiskError(error)
        }
        running.withLock {
            $0 = Running(
                journal: journal, housekeeper: housekeeper, checkpointer: checkpointer, pool: pool, spool: spool,
                threads: threads)
        }
    }

    // MARK: QueueStorage

    /// A new id; it says nothing of a place, since there is one only. None is as those that FallbackStorage makes: they would
    /// say for good that the message is in no database.
    package func newID(at time: Timestamp, beside sibling: QueueID?) -> QueueID {
        var id = QueueID(at: time)
        while FallbackStorage.isLocal(id) { id = QueueID(at: time) }
        return id
    }

    /// Whether a message of `size` octets would be taken now, as the housekeeper last said.
    package func admission(of size: Int) -> Admission {
        let room = core.room.load(ordering: .relaxed)
        return room > 0 && room >= size ? .open : .full
    }

    /// Makes `commit` durable, then calls `completion`.
    ///
    /// Commits complete in the order in which they were made, but for one case: while the journal has no room for new
    /// envelopes, commits with states or endings pass those that wait.
    package func commit(
        _ commit: QueueCommit, completion: @escaping @Sendable (Result<Void, StorageError>) -> Void
    ) {
        guard let journal = running.withLock({ $0?.journal }) else {
            completion(.failure(.closed))
            return
        }
        journal.commit(commit, completion: completion)
    }

    /// Reads an envelope back, on a thread of the storage.
    package func load(_ id: QueueID) async throws(StorageError) -> StoredEnvelope {
        try await onPool { [core] spool in Self.load(id, core, spool) }
    }

    /// What can still be read of an envelope that `load` cannot read.
    package func remains(of id: QueueID) async -> StoredEnvelope? {
        try? await onPool { [core] _ in .success(ContentReader(core, windowSize: 32 << 10).remains(of: id)) }
    }

    /// Has `job` done by a thread of the storage.
    func onPool<Value: Sendable>(
        _ job: @escaping @Sendable (SpoolStorage) -> Result<Value, StorageError>
    ) async throws(StorageError) -> Value {
        guard let running = running.withLock({ $0 }) else { throw .closed }
        let result: Result<Value, StorageError> = await withCheckedContinuation { continuation in
            running.pool.run { continuation.resume(returning: job(running.spool)) }
        }
        return try result.get()
    }

    private static func load(
        _ id: QueueID, _ core: StorageCore, _ spool: SpoolStorage
    ) -> Result<StoredEnvelope, StorageError> {
        do throws(StorageError) {
            return .success(
                try ContentReader(core, windowSize: 32 << 10).load(id) {
                    StoredSpool(reference: $0, storage: spool, of: id)
                })
        } catch {
            return .failure(error)
        }
    }

    /// Begins the file of a large message.
    package func beginSpool(_ id: QueueID) -> any SpoolWriter {
        guard let running = running.withLock({ $0 }) else { return ClosedSpoolWriter() }
        return FileSpoolWriter(id, running.spool)
    }

    /// Never called: all is ours until we stop, and nothing is ever to be released.
    package func released(_ buckets: QueueBuckets) {}

    // MARK: operation

    /// Brings all that was committed up to now into GDBM.
    package func checkpoint() async throws(StorageError) {
        guard let checkpointer = running.withLock({ $0?.checkpointer }) else { throw .closed }
        let result = await withCheckedContinuation { continuation in
            checkpointer.request { continuation.resume(returning: $0) }
        }
        try result.get()
    }

    /// An operator knows what was lost: it is not told of any more, by `status` and `audit`. Returns what that was.
    package func acknowledgeLosses() async throws(StorageError) -> [String] {
        guard let checkpointer = running.withLock({ $0?.checkpointer }) else { throw .closed }
        // What is missing in segments that still count would be found again at the next start.
        try await checkpoint()
        let result: Result<[String], StorageError> = await withCheckedContinuation { continuation in
            checkpointer.inspect { isClosed in
                if isClosed { return continuation.resume(returning: .failure(.closed)) }
                do throws(DiskError) {
                    continuation.resume(returning: .success(try checkpointer.forgetLosses()))
                } catch {
                    continuation.resume(returning: .failure(.failed(error.description)))
                }
            }
        }
        return try result.get()
    }

    /// Calls `body` on the checkpoint's thread, with nil if the storage is closed.
    func inspect(_ body: @escaping @Sendable (StorageCore?) -> Void) {
        guard let checkpointer = running.withLock({ $0?.checkpointer }) else { return body(nil) }
        checkpointer.inspect { [core] isClosed in body(isClosed ? nil : core) }
    }

    /// Takes no more commits, finishes those that were made, brings everything into GDBM, ends the threads and gives the
    /// directory back. What cannot be brought into GDBM stays in the journal.
    package func close() async {
        guard let journal = running.withLock({ $0?.journal }) else {
            lock.withLock { $0 = nil }
            return
        }
        journal.state.withLock { $0.isClosing = true }
        journal.wake.signal()
        // Behind all commits that were made.
        await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
            journal.commit(QueueCommit()) { _ in continuation.resume() }
        }
        _ = try? await checkpoint()
        // Joining blocks, so it is done on a thread of its own.
        await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
            do throws(ThreadError) {
                try Thread.detached("storage-close") {
                    self.halt()
                    continuation.resume()
                }
            } catch {
                halt()
                continuation.resume()
            }
        }
    }

    /// Ends the threads as they are, without a checkpoint: what was committed is in the journal.
    func halt() {
        let running = self.running.withLock { running in
            defer { running = nil }
            return running
        }
        guard let running else {
            lock.withLock { $0 = nil }
            return
        }
        running.checkpointer.stop()
        running.journal.state.withLock { state in
            state.isClosing = true
            state.isStopped = true
        }
        running.journal.wake.signal()
        running.housekeeper.stop()
        for thread in running.threads { thread.join() }
        core.room.store(0, ordering: .relaxed)
        running.pool.stop()
        lock.withLock { $0 = nil }
    }

    /// Whether it was started, and not closed.
    var isRunning: Bool { running.withLock { $0 != nil } }

    /// Calls `body` with the journal, while it runs: for tests.
    func running<Result: Sendable>(_ body: (Journal) -> Result) -> Result? {
        running.withLock { $0?.journal }.map(body)
    }

    /// From memory.
    package func count() -> Int { core.index.withLock { $0.count } }

    /// The balance of all recipients that this queue ever accepted, up to what was committed last. From memory.
    package func ledger() -> Ledger { core.index.withLock { $0.balance } }

    /// What the storage is doing.
    package func status() -> StorageStatus {
        guard let running = running.withLock({ $0 }) else {
            var status = StorageStatus()
            status.failure = "closed"
            return status
        }
        var status = running.journal.status()
        let superblock = running.checkpointer.state.withLock { $0.superblock }
        status.generations = superblock.generations.count
        status.checkpoint = superblock.sequence
        status.losses = superblock.losses
        return status
    }
}

/// What `beginSpool` gives after `close`.
private final class ClosedSpoolWriter: SpoolWriter {
    func append(_ bytes: ByteBuffer, completion: @escaping @Sendable (StorageError?) -> Void) { completion(.closed) }
    func finish(completion: @escaping @Sendable (Result<any SpooledBody, StorageError>) -> Void) {
        completion(.failure(.closed))
    }
    func abandon() {}
}
