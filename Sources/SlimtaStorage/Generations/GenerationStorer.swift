// Gives values to GDBM on a thread of its own. Each store is three writes of a block for GDBM: what is to be stored next is
// read and checked meanwhile. Used by GenerationBuilder alone, for files that have more than a few values.

import CGDBM
import SlimtaRecords
import SlimtaThreads
import Synchronization

/// Stores values in a GDBM file that is being built.
///
/// `@unchecked Sendable`: the handle is the thread's until `finish` or `abandon` has returned; the rest is behind a lock.
final class GenerationStorer: @unchecked Sendable {
    /// Values with their keys.
    ///
    /// `@unchecked Sendable`: who fills them and who stores them have them by turns, handed over under the storer's lock.
    final class Values: @unchecked Sendable {
        private let buffer = OutputBuffer(capacity: 64 << 10)
        private var keys: [(key: InlineKey, end: Int)] = []

        var octets: Int { buffer.count }

        func append(_ key: InlineKey, _ value: OutputBuffer) {
            buffer.append(value.octets)
            withExtendedLifetime(value) {}
            keys.append((key, buffer.count))
        }

        func removeAll() {
            buffer.removeAll()
            keys.removeAll(keepingCapacity: true)
        }

        /// Stores all of them; `path` is for messages.
        func store(in handle: GDBM_FILE, _ path: String) throws(FileFailure) {
            var start = 0
            for (key, end) in keys {
                let result = key.withOctets {
                    slimta_gdbm_insert(
                        handle, $0.baseAddress, Int32($0.count), buffer.base + start, Int32(end - start))
                }
                try FileFailure.check(result, "store", path)
                start = end
            }
        }
    }

    private struct State {
        /// To be stored next.
        var waiting: Values?
        /// To be filled again.
        var emptied: Values?
        var failure: FileFailure?
        var isEnding = false
    }

    private let handle: GDBM_FILE
    private let path: String
    private let fileSystem: any FileSystem
    private let state = Mutex(State())
    /// Tells the thread that there is something to do.
    private let work = Event()
    /// Tells who fills that there is room.
    private let room = Event()
    private let thread = Mutex<Thread?>(nil)

    /// After this many octets the disk is made to write: the sync at the end has little to do then, and the journal's
    /// syncs never wait behind all of it. GDBM writes the same blocks over and over: more often is more to write.
    private static let writeBehind = 4 << 20

    /// Starts the thread. `path` is for messages.
    init(_ handle: GDBM_FILE, _ path: String, _ fileSystem: any FileSystem) throws(DiskError) {
        (self.handle, self.path, self.fileSystem) = (handle, path, fileSystem)
        do throws(ThreadError) {
            let thread = try Thread("storage-build") { self.run() }
            self.thread.withLock { $0 = thread }
        } catch {
            throw DiskError(error)
        }
    }

    /// Has `values` stored, some time; returns others to be filled. Throws what storing earlier ones came to.
    func store(_ values: Values) throws(FileFailure) -> Values {
        while true {
            let (next, failure) = state.withLock { state -> (Values?, FileFailure?) in
                if state.failure != nil || state.waiting != nil { return (nil, state.failure) }
                state.waiting = values
                defer { state.emptied = nil }
                return (state.emptied ?? Values(), nil)
            }
            if let failure { throw failure }
            guard let next else {
                room.wait()
                continue
            }
            work.signal()
            return next
        }
    }

    /// Returns when all is stored and the thread has ended.
    func finish() throws(FileFailure) {
        end()
        if let failure = state.withLock({ $0.failure }) { throw failure }
    }

    /// Stores nothing more; returns when the thread has ended.
    func abandon() {
        state.withLock { state in
            state.waiting = nil
            if state.failure == nil { state.failure = .retired }
        }
        end()
    }

    private func end() {
        state.withLock { $0.isEnding = true }
        work.signal()
        let thread = thread.withLock { thread in
            defer { thread = nil }
            return thread
        }
        thread?.join()
    }

    /// The thread.
    private func run() {
        var behind = 0
        while true {
            let (values, isEnding) = state.withLock { state in
                defer { state.waiting = nil }
                return (state.waiting, state.isEnding)
            }
            guard let values else {
                if isEnding { return }
                work.wait()
                continue
            }
            room.signal()
            do throws(FileFailure) {
                if let failure = state.withLock({ $0.failure }) { throw failure }
                try values.store(in: handle, path)
                behind += values.octets
                if behind >= Self.writeBehind {
                    behind = 0
                    fileSystem.writeBehind(gdbm_fdesc(handle), from: 0, count: 0)
                }
            } catch {
                state.withLock { if $0.failure == nil { $0.failure = error } }
            }
            values.removeAll()
            state.withLock { $0.emptied = values }
            room.signal()
        }
    }
}
