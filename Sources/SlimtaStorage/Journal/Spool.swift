// Large messages: what does not stay in memory goes to a file while it arrives, and is read from it when it is sent.
// JournaledStorage gives a writer to whoever collects a message, and the rest of a stored message to whoever sends it.

import CLinux
import NIOCore
import SlimtaMail
import SlimtaQueue
import SlimtaRecords
import SlimtaThreads
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
final class StoredSpool: SpooledBody {
    let reference: SpoolReference
    private let storage: SpoolStorage
    /// The envelope that it was read with.
    private let owner: QueueID

    init(reference: SpoolReference, storage: SpoolStorage, of owner: QueueID) {
        self.reference = reference
        self.storage = storage
        self.owner = owner
    }

    func makeReader() -> any SpoolReader { FileSpoolReader(reference, storage, of: owner) }
}

/// What readers and writers of the spool need.
struct SpoolStorage: Sendable {
    let core: StorageCore
    let pool: BlockingPool
    /// Deletes files, some time.
    let delete: @Sendable ([String]) -> Void
    /// Damage is told to who reads, and nothing is moved aside.
    var isReadOnly = false
}

extension SpoolStorage {
    private enum Finding {
        case damaged(String)
        case whole
        case failed(DiskError)
    }

    /// A file of the spool is not what was stored, says `text`: it is read again, and if that does not mend it, the
    /// operator is told and it is moved aside. What the reader is to be told.
    func damaged(_ reference: SpoolReference, of owner: QueueID, _ text: String) -> StorageError {
        if isReadOnly { return .damaged(text) }
        let finding: String
        switch readAgain(reference) {
        case .damaged(let text): finding = text
        case .whole: return .failed("\(text); when it was read again it was whole")
        case .failed(let error): return .failed(error.description)
        }
        let paths = core.paths
        var aside: String? = "\(paths.quarantine)/\(reference.id)-spool-\(Timestamp.now().milliseconds)"
        do throws(DiskError) {
            try core.fileSystem.rename(paths.spooled(reference.id), to: aside!)
            try core.fileSystem.syncDirectory(paths.quarantine)
        } catch {
            aside = nil
        }
        let envelope = try? ContentReader(core, windowSize: 32 << 10, isReadOnly: true).envelope(owner).envelope
        core.report(
            .damaged(
                what: paths.spooled(reference.id), id: owner,
                description: finding + (envelope.map { ": \($0.summary)" } ?? ""), quarantine: aside))
        return .damaged(finding)
    }

    /// Past what memory has of it: a fault of the memory or of a cable may have passed.
    private func readAgain(_ reference: SpoolReference) -> Finding {
        let path = core.paths.spooled(reference.id)
        do throws(DiskError) {
            let file = try core.fileSystem.open(path, .read)
            defer { core.fileSystem.close(file) }
            core.fileSystem.dropCache(file)
            let size = try core.fileSystem.size(file)
            guard size == reference.length else { return .damaged("\(path): \(size) octets, not \(reference.length)") }
            var crc: UInt32 = 0
            for offset in stride(from: 0, to: size, by: 256 << 10) {
                let octets = try core.fileSystem.read(file, count: min(256 << 10, size - offset), at: offset)
                crc = octets.withUnsafeBytes { crc32c(crc, $0) }
            }
            return crc == reference.crc32c ? .whole : .damaged("\(path): the checksum is wrong")
        } catch {
            // Without the whole spool it is a mount that is away, and may come back.
            guard error.isMissing, (try? core.fileSystem.list(core.paths.spool)) != nil else { return .failed(error) }
            return .damaged(error.description)
        }
    }
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
    private let owner: QueueID
    private let state = Mutex(State())

    /// `owner`: the envelope that it is read for; nil: the first that had it.
    init(_ reference: SpoolReference, _ storage: SpoolStorage, of owner: QueueID? = nil) {
        self.reference = reference
        self.storage = storage
        self.owner = owner ?? reference.id
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
        let result = readNext(limit)
        guard case .failure(.damaged(let text)) = result else { return result }
        return .failure(storage.damaged(reference, of: owner, text))
    }

    private func readNext(_ limit: Int) -> Result<ByteBuffer?, StorageError> {
        let fileSystem = storage.core.fileSystem
        let path = storage.core.paths.spooled(reference.id)
        return state.withLock { state in
            do throws(DiskError) {
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
                let octets = try fileSystem.read(file, buffer: count, at: state.offset)
                guard octets.readableBytes == count else { return .failure(.damaged("\(path): it ends early")) }
                state.offset += count
                state.crc = octets.withUnsafeReadableBytes { crc32c(state.crc, $0) }
                // Nothing of the last piece is given away before the whole has turned out to be right.
                if state.offset == reference.length, state.crc != reference.crc32c {
                    return .failure(.damaged("\(path): the checksum is wrong"))
                }
                return .success(octets)
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
        var output: SpoolOutput?
        var failure: StorageError?
        var isOver = false
        /// What `finish` gave away, held weakly: it lives as long as somebody may commit it.
        weak var finished: SpoolFile?
    }

    private let id: QueueID
    private let storage: SpoolStorage
    private let state = Mutex(State())

    init(_ id: QueueID, _ storage: SpoolStorage) {
        self.id = id
        self.storage = storage
    }

    private var temporary: String { "\(storage.core.paths.receiving)/\(id)" }

    deinit {
        let (output, isOver) = state.withLock { ($0.output, $0.isOver) }
        guard let output, !isOver else { return }
        output.close()
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
        if let failure = state.withLock({ $0.failure ?? ($0.isOver ? .closed : nil) }) { return failure }
        do throws(DiskError) {
            try open().append(bytes)
            return nil
        } catch {
            return failed(error)
        }
    }

    /// The file, which is made by the first octets.
    private func open() throws(DiskError) -> SpoolOutput {
        if let output = state.withLock({ $0.output }) { return output }
        let space = try storage.core.fileSystem.space(storage.core.paths.root)
        if storage.core.options.lacks(space) != nil {
            throw DiskError(call: "write", path: temporary, code: 28)  // ENOSPC
        }
        let output = try SpoolOutput(temporary, storage.core.fileSystem)
        state.withLock { $0.output = output }
        return output
    }

    private func complete() -> Result<any SpooledBody, StorageError> {
        let fileSystem = storage.core.fileSystem
        let paths = storage.core.paths
        if let failure = state.withLock({ $0.failure ?? ($0.isOver ? .closed : nil) }) { return .failure(failure) }
        let output: SpoolOutput
        do throws(DiskError) {
            // A rest without octets is a file all the same.
            output = try open()
            try output.finish()
            let directory = paths.spoolDirectory(id)
            try fileSystem.makeDirectory(directory)
            try fileSystem.rename(temporary, to: paths.spooled(id))
            try fileSystem.syncDirectory(directory)
            try fileSystem.syncDirectory(paths.spool)
        } catch {
            storage.delete([paths.spooled(id)])
            return .failure(failed(error))
        }
        output.close()
        let reference = SpoolReference(id: id, length: Int64(output.length), crc32c: output.crc)
        let finished = SpoolFile(reference, storage)
        state.withLock { state in
            state.output = nil
            state.isOver = true
            state.finished = finished
        }
        return .success(finished)
    }

    /// Remembers the failure: nothing is written behind a gap.
    private func failed(_ error: DiskError) -> StorageError {
        let failure: StorageError = error.isFull ? .full : .failed(error.description)
        state.withLock { $0.failure = failure }
        return failure
    }

    private func end() {
        let (output, isOver, finished) = state.withLock { state in
            defer { state.isOver = true }
            return (state.output, state.isOver, state.finished)
        }
        if let finished { finished.abandon() }
        guard let output, !isOver else { return }
        output.close()
        storage.delete([temporary])
    }
}

/// The file of a writer: whole chunks go past the page cache, which costs a copy and memory and would give up for them
/// what is needed there; what is behind the last whole chunk goes through it.
///
/// `@unchecked Sendable`: the one thread that runs the writer's jobs has it.
private final class SpoolOutput: @unchecked Sendable {
    /// A multiple of the page; what a transaction with a large message needs of memory.
    private static let chunk = 256 << 10

    private let fileSystem: any FileSystem
    private let file: File
    private var direct: File?
    private let buffer = OutputBuffer()
    private var written = 0
    private(set) var crc: UInt32 = 0

    /// Makes the file, which must not be there.
    init(_ path: String, _ fileSystem: any FileSystem) throws(DiskError) {
        self.fileSystem = fileSystem
        file = try fileSystem.open(path, .create)
    }

    var length: Int { written + buffer.count }

    func append(_ bytes: ByteBuffer) throws(DiskError) {
        bytes.withUnsafeReadableBytes { crc = crc32c(crc, $0) }
        var rest = bytes
        while rest.readableBytes > 0 {
            let count = min(rest.readableBytes, Self.chunk - buffer.count)
            rest.readWithUnsafeReadableBytes { octets in
                buffer.append(UnsafeRawBufferPointer(rebasing: octets.prefix(count)))
                return count
            }
            if buffer.count == Self.chunk { try writeChunk() }
        }
    }

    private func writeChunk() throws(DiskError) {
        if direct == nil { direct = try fileSystem.open(file.path, .direct) }
        guard let direct else { return }
        try fileSystem.write(direct, buffer, at: written)
        written += buffer.count
        buffer.removeAll()
    }

    /// Writes the rest and makes all of it durable, but not the name.
    func finish() throws(DiskError) {
        try fileSystem.write(file, buffer, at: written)
        try fileSystem.sync(file)
    }

    func close() {
        fileSystem.close(file)
        if let direct { fileSystem.close(direct) }
        direct = nil
    }
}
