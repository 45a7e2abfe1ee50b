// Large messages: what does not stay in memory goes to a file while it arrives, and is read from it when it is sent.

import CLinux
import NIOCore
import SlimtaMail
import SlimtaQueue
import Synchronization

/// A finished file of the spool. Until a commit with it is durable it lives as long as this object.
final class SpoolFile: SpooledBody {
    private enum Owner {
        /// Nobody but who holds the object.
        case nobody
        /// A commit that is under way.
        case commit
        /// The queue.
        case queue
        /// It is gone.
        case deleted
    }

    let reference: SpoolReference
    private let storage: SpoolStorage
    private let owner = Mutex(Owner.nobody)

    init(_ reference: SpoolReference, _ storage: SpoolStorage) {
        self.reference = reference
        self.storage = storage
    }

    deinit { abandon() }

    func makeReader() -> any SpoolReader { FileSpoolReader(reference, storage) }

    /// A commit begins with it; false if it is gone.
    func claim() -> Bool {
        owner.withLock { owner in
            switch owner {
            case .nobody:
                owner = .commit
                return true
            case .commit, .queue: return true
            case .deleted: return false
            }
        }
    }

    /// The commit did not come through.
    func release() { owner.withLock { if $0 == .commit { $0 = .nobody } } }

    /// The commit is durable: from now on the queue's records say how long the file lives.
    func keep() { owner.withLock { $0 = .queue } }

    /// Deletes the file, unless a commit has it.
    func abandon() {
        let isOurs = owner.withLock { owner in
            guard owner == .nobody else { return false }
            owner = .deleted
            return true
        }
        if isOurs { storage.delete([storage.core.paths.spooled(reference.id)]) }
    }
}

/// A file of the spool that a record refers to.
struct StoredSpool: SpooledBody {
    let reference: SpoolReference
    let storage: SpoolStorage

    func makeReader() -> any SpoolReader { FileSpoolReader(reference, storage) }
}

/// What readers and writers of the spool need.
struct SpoolStorage: Sendable {
    let core: StorageCore
    let pool: BlockingPool
    /// Deletes files, some time.
    let delete: @Sendable ([String]) -> Void
}

/// Reads a file of the spool, on the storage's threads; checks at the end that it was all of it and unharmed.
final class FileSpoolReader: SpoolReader {
    private struct State {
        var file: File?
        var offset = 0
        var crc: UInt32 = 0
    }

    private let reference: SpoolReference
    private let storage: SpoolStorage
    private let state = Mutex(State())

    init(_ reference: SpoolReference, _ storage: SpoolStorage) {
        self.reference = reference
        self.storage = storage
    }

    deinit { if let file = state.withLock({ $0.file }) { storage.core.fileSystem.close(file) } }

    func next(_ limit: Int) async throws -> ByteBuffer? {
        let result: Result<ByteBuffer?, StorageError> = await withCheckedContinuation { continuation in
            storage.pool.run { continuation.resume(returning: self.read(limit)) }
        }
        return try result.get()
    }

    /// The next octets, on the caller's thread.
    func read(_ limit: Int) -> Result<ByteBuffer?, StorageError> {
        let fileSystem = storage.core.fileSystem
        let path = storage.core.paths.spooled(reference.id)
        return state.withLock { state in
            do throws(SystemError) {
                let file: File
                if let open = state.file {
                    file = open
                } else {
                    file = try fileSystem.open(path, .read)
                    state.file = file
                    let size = try fileSystem.size(file)
                    guard size == reference.length else {
                        return .failure(.damaged("\(path): \(size) octets, not \(reference.length)"))
                    }
                }
                let count = min(max(1, limit), Int(reference.length) - state.offset)
                if count == 0 {
                    return state.crc == reference.crc32c
                        ? .success(nil) : .failure(.damaged("\(path): the checksum is wrong"))
                }
                let octets = try fileSystem.read(file, count: count, at: state.offset)
                guard octets.count == count else { return .failure(.damaged("\(path): it ends early")) }
                state.offset += count
                state.crc = octets.withUnsafeBytes { crc32c(state.crc, $0) }
                // Nothing of the last piece is given away before the whole has turned out to be right.
                if state.offset == reference.length, state.crc != reference.crc32c {
                    return .failure(.damaged("\(path): the checksum is wrong"))
                }
                return .success(ByteBuffer(bytes: octets))
            } catch {
                return .failure(error.isMissing ? .damaged(error.description) : .failed(error.description))
            }
        }
    }
}

/// Writes a file of the spool, on the storage's threads, in order.
final class FileSpoolWriter: SpoolWriter {
    private enum Job {
        case append(ByteBuffer, @Sendable (StorageError?) -> Void)
        case finish(@Sendable (Result<any SpooledBody, StorageError>) -> Void)
        case abandon
    }

    private struct State {
        var jobs: [Job] = []
        var isRunning = false
        /// What the thread that runs jobs needs; nobody else looks.
        var file: File?
        var length = 0
        var synced = 0
        var crc: UInt32 = 0
        var failure: StorageError?
        var isOver = false
        /// What `finish` gave away, held weakly: it lives as long as somebody may commit it.
        weak var finished: SpoolFile?
    }

    private static let writeBehind = 1 << 20

    private let id: QueueID
    private let storage: SpoolStorage
    private let state = Mutex(State())

    init(_ id: QueueID, _ storage: SpoolStorage) {
        self.id = id
        self.storage = storage
    }

    private var temporary: String { "\(storage.core.paths.receiving)/\(id)" }

    deinit {
        let (file, isOver) = state.withLock { ($0.file, $0.isOver) }
        guard let file, !isOver else { return }
        storage.core.fileSystem.close(file)
        storage.delete([temporary])
    }

    func append(_ bytes: ByteBuffer, completion: @escaping @Sendable (StorageError?) -> Void) {
        enqueue(.append(bytes, completion))
    }

    func finish(completion: @escaping @Sendable (Result<any SpooledBody, StorageError>) -> Void) {
        enqueue(.finish(completion))
    }

    func abandon() { enqueue(.abandon) }

    private func enqueue(_ job: Job) {
        let isFirst = state.withLock { state in
            state.jobs.append(job)
            defer { state.isRunning = true }
            return !state.isRunning
        }
        if isFirst { storage.pool.run { self.runJobs() } }
    }

    private func runJobs() {
        while true {
            let next = state.withLock { state -> Job? in
                if state.jobs.isEmpty {
                    state.isRunning = false
                    return nil
                }
                return state.jobs.removeFirst()
            }
            switch next {
            case .append(let bytes, let completion): completion(write(bytes))
            case .finish(let completion): completion(complete())
            case .abandon: end()
            case nil: return
            }
        }
    }

    private func write(_ bytes: ByteBuffer) -> StorageError? {
        let fileSystem = storage.core.fileSystem
        var (file, failure) = state.withLock { ($0.file, $0.failure) }
        var (length, synced, crc) = state.withLock { ($0.length, $0.synced, $0.crc) }
        if let failure { return failure }
        if state.withLock({ $0.isOver }) { return .closed }
        do throws(SystemError) {
            if file == nil {
                let space = try fileSystem.space(storage.core.paths.root)
                if space.octets < storage.core.options.minimumFree {
                    throw SystemError(call: "write", path: temporary, code: 28)  // ENOSPC
                }
                file = try fileSystem.open(temporary, .create)
                state.withLock { [file] in $0.file = file }
            }
            var problem: SystemError?
            bytes.withUnsafeReadableBytes { octets in
                do throws(SystemError) { try fileSystem.write(file!, octets, at: length) } catch { problem = error }
                crc = crc32c(crc, octets)
            }
            if let problem { throw problem }
            length += bytes.readableBytes
            if length - synced >= Self.writeBehind {
                fileSystem.writeBehind(file!.descriptor, from: synced, count: length - synced)
                synced = length
            }
            state.withLock { [length, synced, crc] in ($0.length, $0.synced, $0.crc) = (length, synced, crc) }
            return nil
        } catch {
            failure = error.isFull ? .full : .failed(error.description)
            state.withLock { [failure] in $0.failure = failure }
            return failure
        }
    }

    private func complete() -> Result<any SpooledBody, StorageError> {
        let fileSystem = storage.core.fileSystem
        let paths = storage.core.paths
        if let failure = state.withLock({ $0.failure }) { return .failure(failure) }
        // A rest without octets is a file all the same.
        if state.withLock({ $0.file == nil }), let failure = write(ByteBuffer()) { return .failure(failure) }
        let (file, length, crc, isOver) = state.withLock { ($0.file, $0.length, $0.crc, $0.isOver) }
        guard let file, !isOver else { return .failure(.closed) }
        do throws(SystemError) {
            try fileSystem.sync(file)
            let directory = paths.spoolDirectory(id)
            try fileSystem.makeDirectory(directory)
            try fileSystem.rename(temporary, to: paths.spooled(id))
            try fileSystem.syncDirectory(directory)
            try fileSystem.syncDirectory(paths.spool)
        } catch {
            let failure: StorageError = error.isFull ? .full : .failed(error.description)
            state.withLock { $0.failure = failure }
            storage.delete([paths.spooled(id)])
            return .failure(failure)
        }
        fileSystem.close(file)
        let finished = SpoolFile(SpoolReference(id: id, length: Int64(length), crc32c: crc), storage)
        state.withLock { state in
            state.isOver = true
            state.finished = finished
        }
        return .success(finished)
    }

    private func end() {
        let (file, isOver, finished) = state.withLock { state in
            defer { state.isOver = true }
            return (state.file, state.isOver, state.finished)
        }
        if let finished { finished.abandon() }
        guard let file, !isOver else { return }
        storage.core.fileSystem.close(file)
        storage.delete([temporary])
    }
}
