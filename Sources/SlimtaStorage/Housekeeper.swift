// The storage's odd jobs, on one thread: segments are made before the writer wants them, files that nobody needs are
// deleted slowly, free space is watched.

import CLinux
import SlimtaMail
import Synchronization

/// Makes segments, deletes files, watches the disk.
final class Housekeeper: Sendable {
    private struct State {
        /// Files to be deleted.
        var unneeded: [String] = []
        /// Segments' files that can be used again.
        var free: [String] = []
        /// journal/ was made again, and its name is not known to be durable.
        var hasNewDirectory = false
        var isStopped = false
        /// How many of them are kept: as many as a journal without deliveries uses until its checkpoint, since a new one
        /// has to be filled with zeros; on a full disk only what draining the queue needs.
        var freeLimit: Int
        /// The checkpoint had to give the reserve up.
        var wantsReserve = false
    }

    private let core: StorageCore
    private let state: Mutex<State>
    let wake = Event()

    /// Deleting a large file at once makes a disk with online discard stand still: it is shrunk in steps first.
    private static let shrinkStep = 4 << 20

    init(_ core: StorageCore, free: [String]) {
        self.core = core
        state = Mutex(State(free: free, freeLimit: core.options.checkpointThreshold))
    }

    /// Lets the thread end.
    func stop() {
        state.withLock { $0.isStopped = true }
        wake.signal()
    }

    /// Has files deleted.
    func delete(_ paths: [String]) {
        if paths.isEmpty { return }
        state.withLock { $0.unneeded += paths }
        wake.signal()
    }

    /// Has the file of a segment used again that no `super` lists any more.
    func recycle(_ segment: Segment) {
        let free = "\(core.paths.journal)/\(Segment.name(segment.number).dropLast(4)).free"
        let isWanted = state.withLock { !segment.isPoisoned && $0.free.count < $0.freeLimit }
        do throws(SystemError) {
            guard isWanted, segment.size == core.options.segmentSize else {
                delete([segment.file.path])
                return
            }
            try core.fileSystem.rename(segment.file.path, to: free)
            state.withLock { $0.free.append(free) }
            wake.signal()
        } catch {
            core.report(.leftover(error.description))
        }
    }

    /// Moves a damaged sealed file to the quarantine; false if that does not work.
    func setAside(_ name: String) -> Bool {
        let (from, to) = ("\(core.paths.queue)/\(name)", "\(core.paths.quarantine)/\(name)")
        do throws(SystemError) {
            try core.fileSystem.rename(from, to: to)
            try core.fileSystem.syncDirectory(core.paths.quarantine)
            return true
        } catch {
            return error.isMissing
        }
    }

    /// Gives the reserve up, for a checkpoint on a full disk; whether there was one.
    func giveReserveUp() -> Bool {
        let isGone = (try? core.fileSystem.remove(core.paths.reserve)) != nil
        if isGone { state.withLock { $0.wantsReserve = true } }
        return isGone
    }

    /// The thread.
    func run(_ journal: Journal) {
        watchSpace(journal)
        restoreReserve()
        while !state.withLock({ $0.isStopped }) {
            let hasMade = makeSegment(journal)
            let hasDeleted = deleteNext()
            if hasMade || hasDeleted { continue }
            // While the queue is quiet nothing uses space up, so nobody looks.
            let isActive = journal.state.withLock { state in
                state.isFull || state.makingFailed != nil || state.dirtySince != nil || !state.waiting.isEmpty
            }
            wake.wait(isActive ? .seconds(1) : nil)
            watchSpace(journal)
            watchJournal(journal)
            if state.withLock({ $0.wantsReserve }) { restoreReserve() }
        }
    }

    /// Looks whether the file that is being written still has its name: without one it is gone with the process.
    private func watchJournal(_ journal: Journal) {
        let path = journal.state.withLock { $0.current.file.path }
        do throws(SystemError) {
            core.fileSystem.close(try core.fileSystem.open(path, .read))
        } catch {
            guard error.isMissing else { return }
            let isCurrent = journal.state.withLock { state in
                guard state.current.file.path == path, case .running = state.phase else { return false }
                state.vanished = error
                // That one is likely to be gone too.
                state.ready = nil
                return true
            }
            if isCurrent { journal.wake.signal() }
        }
    }

    /// Looks how much room there is.
    func watchSpace(_ journal: Journal) {
        guard let space = try? core.fileSystem.space(core.paths.root) else { return }
        let isFull = space.octets < core.options.minimumFree || space.inodes < 64
        let hasChanged = journal.state.withLock { state in
            state.freeOctets = space.octets
            defer { state.isFull = isFull }
            return state.isFull != isFull
        }
        guard hasChanged else { return }
        let surplus = state.withLock { state -> [String] in
            state.freeLimit = isFull ? min(2, core.options.checkpointThreshold) : core.options.checkpointThreshold
            let surplus = state.free.dropFirst(state.freeLimit)
            state.free.removeLast(surplus.count)
            return Array(surplus)
        }
        delete(surplus)
        core.report(isFull ? .diskFull(freeOctets: space.octets) : .diskRoom(freeOctets: space.octets))
        if isFull { journal.checkpointer.signal() }
    }

    /// Makes the segment that the journal goes on with, if it has none.
    private func makeSegment(_ journal: Journal) -> Bool {
        let limit = core.options.segmentLimit
        let number = journal.state.withLock { state -> UInt64? in
            guard state.ready == nil, !state.isStopped else { return nil }
            let isNeeded =
                switch state.phase {
                case .running: state.wantsRotation
                case .broken: true
                }
            return isNeeded || state.closed.count + 2 <= limit ? state.nextSegment : nil
        }
        guard let number else { return false }
        do throws(SystemError) {
            let segment = try makeSegment(number)
            journal.state.withLock { state in
                state.ready = segment
                state.nextSegment = number + 1
                state.makingFailed = nil
            }
            journal.wake.signal()
            return true
        } catch {
            // A directory of ours that was removed is made again; that of the queue itself may be a mount that is away.
            // No segment is made in it before its name is durable.
            if error.isMissing, (try? core.fileSystem.makeDirectory(core.paths.journal)) != nil {
                state.withLock { $0.hasNewDirectory = true }
            }
            // Who waits is told once: the writer asks again when it is time, and answering each time would go round in circles.
            let isNews = journal.state.withLock { state in
                defer { state.makingFailed = error }
                return state.makingFailed == nil
            }
            if isNews { journal.wake.signal() }
            return false
        }
    }

    /// Makes a segment, durable with its name.
    func makeSegment(_ number: UInt64) throws(SystemError) -> Segment {
        if state.withLock({ $0.hasNewDirectory }) {
            try core.fileSystem.syncDirectory(core.paths.root)
            state.withLock { $0.hasNewDirectory = false }
        }
        let header = SegmentHeader(number: number, salt: slimta_random())
        let path = core.paths.segment(number)
        while let free = state.withLock({ $0.free.popLast() }) {
            // Its old content needs no zeros: it was written with another salt.
            guard let file = try? open(free, header) else {
                delete([free])
                continue
            }
            do throws(SystemError) {
                try core.fileSystem.rename(free, to: path)
                try core.fileSystem.syncDirectory(core.paths.journal)
            } catch {
                core.fileSystem.close(file)
                throw error
            }
            return Segment(
                header: header, file: File(descriptor: file.descriptor, path: path), size: core.options.segmentSize,
                fileSystem: core.fileSystem)
        }
        let temporary = "\(path).tmp"
        try core.fileSystem.removeIfPresent(temporary)
        try fill(temporary, core.options.segmentSize)
        let file = try open(temporary, header)
        do throws(SystemError) {
            try core.fileSystem.rename(temporary, to: path)
            try core.fileSystem.syncDirectory(core.paths.journal)
        } catch {
            core.fileSystem.close(file)
            throw error
        }
        return Segment(
            header: header, file: File(descriptor: file.descriptor, path: path), size: core.options.segmentSize,
            fileSystem: core.fileSystem)
    }

    /// Opens a file that becomes a segment and writes the header, durably; past the page cache if that works.
    private func open(_ path: String, _ header: SegmentHeader) throws(SystemError) -> File {
        do throws(SystemError) {
            return try open(path, header, .direct)
        } catch {
            guard error.code == 22 else { throw error }  // EINVAL: it can be opened so, and not be written
            return try open(path, header, .write)
        }
    }

    private func open(_ path: String, _ header: SegmentHeader, _ mode: OpenMode) throws(SystemError) -> File {
        let file = try core.fileSystem.open(path, mode)
        do throws(SystemError) {
            guard try core.fileSystem.size(file) == core.options.segmentSize else {
                throw SystemError(call: "size", path: path, code: 27)  // EFBIG: of another configuration
            }
            try core.fileSystem.write(file, header.encode(), at: 0)
            try core.fileSystem.sync(file)
        } catch {
            core.fileSystem.close(file)
            throw error
        }
        return file
    }

    /// A new file of zeros, durable but for its name. Overwriting what was written once needs no metadata to be synced.
    private func fill(_ path: String, _ size: Int) throws(SystemError) {
        core.fileSystem.close(try core.fileSystem.open(path, .create))
        do throws(SystemError) {
            do throws(SystemError) {
                // Past the page cache: zeros are not worth a copy.
                try fill(path, size, .direct)
            } catch {
                guard error.code == 22 else { throw error }  // EINVAL: it can be opened so, and not be written
                try fill(path, size, .write)
            }
        } catch {
            try? core.fileSystem.removeIfPresent(path)
            throw error
        }
    }

    private func fill(_ path: String, _ size: Int, _ mode: OpenMode) throws(SystemError) {
        let file = try core.fileSystem.open(path, mode)
        defer { core.fileSystem.close(file) }
        let zeros = OutputBuffer(capacity: 1 << 20)
        zeros.append(UInt8(0))
        zeros.pad(to: min(1 << 20, size))
        var offset = 0
        while offset < size {
            let count = min(zeros.count, size - offset)
            try core.fileSystem.write(file, zeros, count: count, at: offset)
            core.fileSystem.writeBehind(file.descriptor, from: offset, count: count)
            offset += count
        }
        try core.fileSystem.sync(file)
        core.fileSystem.dropCache(file)
    }

    private func restoreReserve() {
        state.withLock { $0.wantsReserve = false }
        if core.options.reserveSize == 0 { return }
        do throws(SystemError) {
            let space = try core.fileSystem.space(core.paths.root)
            guard space.octets > core.options.minimumFree else {
                state.withLock { $0.wantsReserve = true }
                return
            }
            try fill(core.paths.reserve, core.options.reserveSize)
        } catch {
            if !error.exists { state.withLock { $0.wantsReserve = true } }
        }
    }

    /// Deletes one file; whether there was one.
    private func deleteNext() -> Bool {
        guard let path = state.withLock({ $0.unneeded.popLast() }) else { return false }
        do throws(SystemError) {
            try shrink(path)
            try core.fileSystem.remove(path)
        } catch {
            if !error.isMissing { core.report(.leftover(error.description)) }
        }
        return true
    }

    private func shrink(_ path: String) throws(SystemError) {
        let file = try core.fileSystem.open(path, .write)
        defer { core.fileSystem.close(file) }
        var size = try core.fileSystem.size(file)
        let pause = Event()
        while size > Self.shrinkStep {
            size -= Self.shrinkStep
            try core.fileSystem.truncate(file, to: size)
            pause.wait(.milliseconds(10))
        }
    }
}
