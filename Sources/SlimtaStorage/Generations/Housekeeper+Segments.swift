// How segments of the journal are made: ahead of need by the housekeeper's thread, and the first one at a start, also on a
// disk that is full.

import CLinux
import SlimtaMail
import SlimtaRecords
import SlimtaThreads
import Synchronization

extension Housekeeper {
    /// Octets of the smallest segment: what a full disk has to have for a queue that drains.
    private static let leastSize = 4 * OutputBuffer.page

    /// The segment that a start goes on with.
    ///
    /// On a disk without room for it, it takes the place of one that was never used, or of files that nobody needs; it is
    /// a small one if need be; and in the end the reserve is given up for it. A queue that filled the disk has to drain.
    func makeFirstSegment(_ recovery: Recovery) throws(DiskError) -> Segment {
        let (number, previous) = (recovery.nextSegment, recovery.segments.last?.number ?? 0)
        do throws(DiskError) { return try makeSegment(number, after: previous, mayBeSmall: true) } catch {
            guard error.isFull else { throw error }
        }
        // There is always a segment that counts.
        if let last = recovery.emptySegments.last, recovery.emptySegments.count > 1 || !recovery.segments.isEmpty {
            recovery.emptySegments.removeLast()
            _ = core.catalog.withLock { $0.segments.removeValue(forKey: last.number) }
            recycle(last)
            try core.fileSystem.syncDirectory(core.paths.journal)
        }
        delete(recovery.unneededFiles)
        while deleteNext() {}
        do throws(DiskError) { return try makeSegment(number, after: previous, mayBeSmall: true) } catch {
            guard error.isFull, giveReserveUp() else { throw error }
        }
        return try makeSegment(number, after: previous, mayBeSmall: true)
    }

    /// Makes the segment that the journal goes on with, if it has none, or one that a full disk made small.
    func makeSegment(_ journal: Journal) -> Bool {
        let limit = core.options.segmentLimit
        let full = core.options.segmentSize
        let hasRoom = UInt64(core.room.load(ordering: .relaxed)) > UInt64(full) + core.options.minimumFree
        let wanted = journal.state.withLock { state -> (number: UInt64, previous: UInt64, mayBeSmall: Bool)? in
            if state.isStopped { return nil }
            if let ready = state.ready {
                return ready.size < full && hasRoom ? (state.nextSegment, state.current.number, false) : nil
            }
            let isNeeded =
                switch state.phase {
                case .running: state.wantsRotation
                case .broken: true
                }
            guard isNeeded || state.closed.count + 2 <= limit else { return nil }
            // No other segment becomes the current one while there is none that is ready.
            return (state.nextSegment, state.current.number, state.isFull)
        }
        guard let (number, previous, mayBeSmall) = wanted else { return false }
        do throws(DiskError) {
            let segment = try makeSegment(number, after: previous, mayBeSmall: mayBeSmall)
            let small = journal.state.withLock { state in
                defer { state.ready = segment }
                state.nextSegment = number + 1
                state.makingFailed = nil
                return state.ready
            }
            if let small { recycle(small) }
            journal.wake.signal()
            return true
        } catch {
            // A directory of ours that was removed is made again; that of the queue itself may be a mount that is away.
            // No segment is made in it before its name is durable.
            if error.isMissing, (try? core.fileSystem.makeDirectory(core.paths.journal)) != nil {
                state.withLock { $0.hasNewDirectory = true }
            }
            if journal.state.withLock({ $0.ready != nil }) { return false }
            // Without a segment nothing can be recorded, and the queue does not drain.
            if error.isFull, mayBeSmall, isNeededToDrain(journal), giveReserveUp() { return true }
            // Who waits is told once: the writer asks again when it is time, and answering each time would go round in circles.
            let isNews = journal.state.withLock { state in
                defer { state.makingFailed = error }
                return state.makingFailed == nil
            }
            if isNews { journal.wake.signal() }
            return false
        }
    }

    private func isNeededToDrain(_ journal: Journal) -> Bool {
        journal.state.withLock { state in
            switch state.phase {
            case .broken: true
            case .running: state.waiting.contains { $0.isPrivileged }
            }
        }
    }

    /// Makes a segment, durable with its name. `previous`: see ``SegmentHeader``; `mayBeSmall`: if there is no room for a
    /// whole one, or new mail is refused soon, a small one will do.
    func makeSegment(
        _ number: UInt64, after previous: UInt64 = 0, mayBeSmall: Bool = false
    ) throws(DiskError) -> Segment {
        if state.withLock({ $0.hasNewDirectory }) {
            try core.fileSystem.syncDirectory(core.paths.root)
            state.withLock { $0.hasNewDirectory = false }
        }
        let header = SegmentHeader(number: number, salt: slimta_random(), previous: previous)
        let path = core.paths.segment(number)
        while let free = takeFree() {
            // Its old content needs no zeros: it was written with another salt.
            guard let file = try? open(free, header) else {
                delete([free])
                continue
            }
            guard (try? core.fileSystem.size(file)) == core.options.segmentSize else {
                // A full disk made it small.
                core.fileSystem.close(file)
                delete([free])
                continue
            }
            return try segment(header, file, size: core.options.segmentSize)
        }
        let temporary = "\(path).tmp"
        try core.fileSystem.removeIfPresent(temporary)
        let size = try fill(temporary, mayBeSmall: mayBeSmall)
        return try segment(header, open(temporary, header), size: size)
    }

    /// Gives a file that has its header the name of a segment, durably.
    private func segment(_ header: SegmentHeader, _ file: File, size: Int) throws(DiskError) -> Segment {
        let path = core.paths.segment(header.number)
        do throws(DiskError) {
            try core.fileSystem.rename(file.path, to: path)
            try core.fileSystem.syncDirectory(core.paths.journal)
        } catch {
            core.fileSystem.close(file)
            throw error
        }
        return Segment(
            header: header, file: File(descriptor: file.descriptor, path: path), size: size,
            fileSystem: core.fileSystem)
    }

    /// Fills a new file with as many zeros as there is room for; how many.
    private func fill(_ path: String, mayBeSmall: Bool) throws(DiskError) -> Int {
        let full = core.options.segmentSize
        var sizes = [full]
        if mayBeSmall {
            let space = try core.fileSystem.space(core.paths.root).octets
            for size in [full / 8, full / 64].map({ max($0 / OutputBuffer.page * OutputBuffer.page, Self.leastSize) })
            where size < sizes[sizes.count - 1] { sizes.append(size) }
            // What is left has to do for new mail, or for what drains the queue.
            while sizes.count > 1, space < UInt64(sizes[0]) + (sizes[0] == full ? core.options.minimumFree : 0) {
                sizes.removeFirst()
            }
        }
        for size in sizes.dropLast() {
            do throws(DiskError) {
                try fill(path, size)
                return size
            } catch {
                guard error.isFull else { throw error }
            }
        }
        try fill(path, sizes[sizes.count - 1])
        return sizes[sizes.count - 1]
    }

    /// Opens a file that becomes a segment and writes the header, durably; past the page cache if that works.
    private func open(_ path: String, _ header: SegmentHeader) throws(DiskError) -> File {
        do throws(DiskError) {
            return try open(path, header, .direct)
        } catch {
            guard error.code == 22 else { throw error }  // EINVAL: it can be opened so, and not be written
            return try open(path, header, .write)
        }
    }

    private func open(_ path: String, _ header: SegmentHeader, _ mode: OpenMode) throws(DiskError) -> File {
        let file = try core.fileSystem.open(path, mode)
        do throws(DiskError) {
            try core.fileSystem.write(file, header.encode(), at: 0)
            try core.fileSystem.sync(file)
        } catch {
            core.fileSystem.close(file)
            throw error
        }
        return file
    }

    /// A new file of zeros, durable but for its name. Overwriting what was written once needs no metadata to be synced.
    func fill(_ path: String, _ size: Int) throws(DiskError) {
        core.fileSystem.close(try core.fileSystem.open(path, .create))
        do throws(DiskError) {
            do throws(DiskError) {
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

    private func fill(_ path: String, _ size: Int, _ mode: OpenMode) throws(DiskError) {
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
}
