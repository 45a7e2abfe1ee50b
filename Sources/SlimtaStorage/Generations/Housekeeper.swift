// The storage's odd jobs, on one thread: segments are made before the writer wants them, files that nobody needs are
// deleted slowly, free space is watched.

import CLinux
import SlimtaMail
import SlimtaThreads
import Synchronization

/// Makes segments, deletes files, watches the disk.
final class Housekeeper: Sendable {
    struct State {
        /// Files to be deleted.
        var unneeded: [String] = []
        /// Files that could not be deleted, to be tried again at `retry` (monotonic milliseconds); each is told once.
        var stuck: Set<String> = []
        var told: Set<String> = []
        var retry: Int64 = 0
        /// Segments' files that can be used again.
        var free: [String] = []
        /// journal/ was made again, and its name is not known to be durable.
        var hasNewDirectory = false
        var isStopped = false
        /// How many of them are kept: as many as a journal without deliveries uses until its checkpoint, since a new one
        /// has to be filled with zeros; on a full disk only what draining the queue needs.
        var freeLimit: Int
        /// The fewest that there were since `since` (monotonic milliseconds): so many are not needed.
        var leastFree: Int
        var since = monotonicMilliseconds()
        /// The checkpoint had to give the reserve up.
        var wantsReserve = false
    }

    let core: StorageCore
    let state: Mutex<State>
    let wake = Event()

    /// Deleting a large file at once makes a disk with online discard stand still: it is shrunk in steps first.
    private static let shrinkStep = 4 << 20

    init(_ core: StorageCore, free: [String]) {
        self.core = core
        state = Mutex(State(free: free, freeLimit: core.options.checkpointThreshold, leastFree: free.count))
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
        do throws(DiskError) {
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
        do throws(DiskError) {
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
        if isGone {
            state.withLock { $0.wantsReserve = true }
            // Some file systems have no use for its room before it is gone for good.
            try? core.fileSystem.syncDirectory(core.paths.root)
        }
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
            giveBack()
            deleteStuck()
            // While the queue is quiet nothing uses space up, so nobody looks.
            let isActive = journal.state.withLock { state in
                state.isFull || state.makingFailed != nil || state.dirtySince != nil || !state.waiting.isEmpty
            }
            wake.wait(isActive ? .seconds(1) : pause())
            watchSpace(journal)
            watchJournal(journal)
            if state.withLock({ $0.wantsReserve }) { restoreReserve() }
        }
    }

    /// A free segment to be used again.
    func takeFree() -> String? {
        state.withLock { state in
            defer { state.leastFree = min(state.leastFree, state.free.count) }
            return state.free.popLast()
        }
    }

    /// Deletes the free segments that were not needed in a quiet hour.
    private func giveBack() {
        let now = monotonicMilliseconds()
        let surplus = state.withLock { state -> [String] in
            guard state.since + core.options.quietTime.milliseconds <= now else { return [] }
            let surplus = Array(state.free.prefix(state.leastFree))
            state.free.removeFirst(surplus.count)
            (state.leastFree, state.since) = (state.free.count, now)
            return surplus
        }
        delete(surplus)
    }

    /// How long there is nothing to do while the queue is quiet; nil: without end.
    private func pause() -> Duration? {
        state.withLock { state in
            let now = monotonicMilliseconds()
            if !state.unneeded.isEmpty { return .zero }
            if !state.stuck.isEmpty { return .milliseconds(max(1, state.retry - now)) }
            if state.free.isEmpty { return nil }
            return .milliseconds(max(1, state.since + core.options.quietTime.milliseconds - now))
        }
    }

    /// Looks whether the file that is being written still has its name: without one it is gone with the process.
    private func watchJournal(_ journal: Journal) {
        let path = journal.state.withLock { $0.current.file.path }
        do throws(DiskError) {
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
        // What the reserve needs is not for new mail.
        let owed = state.withLock { $0.wantsReserve ? UInt64(core.options.reserveSize) : 0 }
        let lacks = core.options.lacks((space.octets > owed ? space.octets - owed : 0, space.inodes))
        let isFull = lacks != nil
        core.room.store(isFull ? 0 : Int(clamping: space.octets), ordering: .relaxed)
        let hasChanged = journal.state.withLock { state in
            (state.freeOctets, state.freeInodes) = (space.octets, space.inodes)
            defer { state.isFull = isFull }
            return state.isFull != isFull
        }
        guard hasChanged else { return }
        let surplus = state.withLock { state -> [String] in
            state.freeLimit = isFull ? min(2, core.options.checkpointThreshold) : core.options.checkpointThreshold
            let surplus = state.free.dropFirst(state.freeLimit)
            state.free.removeLast(surplus.count)
            state.leastFree = min(state.leastFree, state.free.count)
            return Array(surplus)
        }
        delete(surplus)
        core.report(
            lacks.map {
                .diskFull(lacks: $0, freeOctets: space.octets, freeInodes: space.inodes)
            } ?? .diskRoom(freeOctets: space.octets, freeInodes: space.inodes))
        if isFull { journal.checkpointer.signal() }
    }

    private func restoreReserve() {
        state.withLock { $0.wantsReserve = false }
        if core.options.reserveSize == 0 { return }
        do throws(DiskError) {
            if let there = try core.fileSystem.openIfPresent(core.paths.reserve) {
                core.fileSystem.close(there)
                return
            }
            let space = try core.fileSystem.space(core.paths.root)
            guard space.octets >= core.options.minimumFree + UInt64(core.options.reserveSize) else {
                state.withLock { $0.wantsReserve = true }
                return
            }
            try fill(core.paths.reserve, core.options.reserveSize)
        } catch {
            if !error.exists { state.withLock { $0.wantsReserve = true } }
        }
    }

    /// Deletes one file; whether there was one.
    func deleteNext() -> Bool {
        guard let path = state.withLock({ $0.unneeded.popLast() }) else { return false }
        do throws(DiskError) {
            // Without a descriptor for that it is deleted at once.
            try? shrink(path)
            try core.fileSystem.remove(path)
            state.withLock { _ = $0.told.remove(path) }
        } catch {
            if error.isMissing { return true }
            let isNews = state.withLock { state in
                if state.stuck.isEmpty {
                    state.retry = monotonicMilliseconds() + core.options.retryInterval.milliseconds
                }
                state.stuck.insert(path)
                return state.told.insert(path).inserted
            }
            if isNews { core.report(.leftover(error.description)) }
        }
        return true
    }

    /// Tries again to delete what could not be deleted.
    private func deleteStuck() {
        state.withLock { state in
            guard !state.stuck.isEmpty, state.retry <= monotonicMilliseconds() else { return }
            state.unneeded += state.stuck
            state.stuck = []
        }
    }

    private func shrink(_ path: String) throws(DiskError) {
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
