// A large list in a GDBM file that `slimtad map` has made: is an entry in it? Rules of the gate ask (slimtad/Start/Lists),
// on event loops. The list of entries is made of a text file by MapFileBuilder; what an entry may be, SlimtaRules knows.

import CGDBM
import CLinux
import Glibc
import SlimtaThreads
import Synchronization

/// Why a list in a GDBM file cannot be made or used. The text says what to do.
package struct MapFileError: Error, Hashable, Sendable, CustomStringConvertible {
    /// What is wrong, with the file's name.
    package var description: String

    /// Whoever makes or reads a list has found this.
    package init(_ description: String) { self.description = description }

    /// What GDBM said to a call; nothing if all was well.
    static func check(_ result: slimta_gdbm_result, _ path: String) throws(MapFileError) {
        guard result.error != 0 else { return }
        throw MapFileError(
            "\(path): \(String(cString: slimta_gdbm_text(result.error)))"
                + (result.system == 0 ? "" : " (\(systemErrorText(result.system)))"))
    }
}

/// A list in a GDBM file, open for reading. Whoever asks waits for a disk that the page cache does not spare him: one or two
/// reads, whatever the list's size.
///
/// The file is read whole at the beginning, to know that it is what was written; so its pages are in the cache. A file
/// that is replaced by renaming, as `slimtad map` does, stays what it was for whoever has it open. One that is written
/// over in place is told by its times and its size, and is not read any further.
package final class MapFile: Sendable {
    private struct State {
        var handle: GDBM_FILE?
        let descriptor: Int32
        let stamp: Stamp
    }

    /// What changes when a file is written to.
    private struct Stamp: Equatable {
        var size: Int64
        var modified: (Int, Int)

        static func == (a: Stamp, b: Stamp) -> Bool { a.size == b.size && a.modified == b.modified }

        init?(_ descriptor: Int32) {
            var status = stat()
            guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
            size = Int64(status.st_size)
            modified = (status.st_mtim.tv_sec, status.st_mtim.tv_nsec)
        }
    }

    /// GDBM's cache, in buckets of a block each.
    private static let cachedBuckets = 64

    /// Where the file is.
    package let path: String
    /// How many entries it has.
    package let count: Int
    /// What its maker noted beside the entries, for whoever asks them.
    package let note: [UInt8]
    private let state: Mutex<State>

    /// Whether a file that begins like this is a GDBM file, whoever has made it.
    package static func isGDBM(_ beginning: some Collection<UInt8>) -> Bool {
        // 0x13579acd to ...ad1, of either byte order: 32 and 64 bits, old and new.
        guard beginning.count >= 4 else { return false }
        var octets = Array(beginning.prefix(4))
        if octets[0] == 0x13 { octets.reverse() }
        return (0xCD...0xD1).contains(octets[0]) && octets[1...] == [0x9A, 0x57, 0x13]
    }

    /// Opens the file and reads all of it: one that is damaged, or that another program has made, is refused.
    package init(_ path: String) throws(MapFileError) {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)
        guard descriptor >= 0 else { throw MapFileError("cannot read \(path): \(systemErrorText(errno))") }
        var isOurs = false
        defer { if !isOurs { close(descriptor) } }
        guard let stamp = Stamp(descriptor) else { throw MapFileError("\(path) is not a regular file") }
        // Before GDBM looks at it, which believes what it reads.
        let label = try Self.prove(descriptor, stamp, path)
        // GDBM closes the one that it is given.
        let second = fcntl(descriptor, F_DUPFD_CLOEXEC, 3)
        guard second >= 0 else { throw MapFileError("cannot read \(path): \(systemErrorText(errno))") }
        var result = slimta_gdbm_result()
        guard let handle = slimta_gdbm_look(second, path, Self.cachedBuckets, &result) else {
            let reason = String(cString: slimta_gdbm_text(result.error))
            throw MapFileError("\(path) cannot be read by GDBM (\(reason))\(Self.advice)")
        }
        guard let octets = try? Self.fetch(handle, MapLabel.key, path), let found = MapLabel(octets) else {
            _ = slimta_gdbm_close(handle)
            throw MapFileError("\(path) is damaged\(Self.advice)")
        }
        count = Int(label.count)
        note = found.note
        self.path = path
        state = Mutex(State(handle: handle, descriptor: descriptor, stamp: stamp))
        isOurs = true
    }

    deinit {
        state.withLock { state in
            if let handle = state.handle { _ = slimta_gdbm_close(handle) }
            close(state.descriptor)
        }
    }

    private static let advice = ": make it again, with slimtad map"
    private static let wasChanged = "was written over while it was in use: reload slimtad, and make it with slimtad map"

    /// Reads all of the file: its label, if it is what was written.
    private static func prove(_ descriptor: Int32, _ stamp: Stamp, _ path: String) throws(MapFileError) -> MapLabel {
        guard let (label, place) = try MapChecksum.label(descriptor, path) else {
            throw MapFileError("\(path) was not made by slimtad map, or is damaged\(advice)")
        }
        guard label.version == MapLabel.version else {
            throw MapFileError("\(path) has version \(label.version) of the format\(advice)")
        }
        guard label.size == stamp.size, try MapChecksum.of(descriptor, path, label: place) == label.checksum else {
            throw MapFileError("\(path) is damaged\(advice)")
        }
        return label
    }

    /// Whether the list has this entry. Throws if the file cannot be read any more, or is not what it was.
    package func contains(_ key: [UInt8]) throws(MapFileError) -> Bool {
        try state.withLock { state throws(MapFileError) in
            guard let handle = state.handle, Stamp(state.descriptor) == state.stamp else {
                throw MapFileError("\(path) \(Self.wasChanged)")
            }
            return try Self.fetch(handle, key, path) != nil
        }
    }

    private static func fetch(_ handle: GDBM_FILE, _ key: [UInt8], _ path: String) throws(MapFileError) -> [UInt8]? {
        var (size, result) = (Int32(0), slimta_gdbm_result())
        let value = key.withUnsafeBytes { slimta_gdbm_fetch(handle, $0.baseAddress, Int32($0.count), &size, &result) }
        try MapFileError.check(result, path)
        guard let value else { return nil }
        defer { free(value) }
        return Array(UnsafeRawBufferPointer(start: value, count: Int(size)))
    }
}
