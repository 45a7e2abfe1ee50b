// Makes the GDBM file of a large list, for `slimtad map`: entries in, a file that is whole and on the disk out. Its name and
// its rights are given to it by the command, which renames it to where the old one was.

import CGDBM
import CLinux
import Glibc
import SlimtaThreads

/// A GDBM file in the making. What becomes of the file of one that was not sealed is its caller's matter.
package final class MapFileBuilder {
    /// The longest entry, in octets: longer than any address, name or network, A-labels too.
    package static let longestEntry = 4096

    private let path: String
    private var handle: GDBM_FILE?
    /// How many entries there are by now.
    package private(set) var count = 0

    /// Begins the file `path`, which must not be there, and is 0600.
    package init(_ path: String) throws(MapFileError) {
        self.path = path
        let descriptor = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else { throw MapFileError("cannot create \(path): \(systemErrorText(errno))") }
        var result = slimta_gdbm_result()
        handle = slimta_gdbm_create(descriptor, path, 4096, &result)
        try MapFileError.check(result, path)
    }

    deinit { if let handle { _ = slimta_gdbm_close(handle) } }

    /// Adds an entry of 1 to ``longestEntry`` octets; false: it is there already.
    package func add(_ entry: [UInt8]) throws(MapFileError) -> Bool {
        guard let handle, !entry.isEmpty, entry.count <= Self.longestEntry, entry[0] != 0 else {
            throw MapFileError("\(path): an entry has 1 to \(Self.longestEntry) octets")
        }
        let result = Self.insert(handle, entry, [])
        if result.error == Int32(GDBM_CANNOT_REPLACE) { return false }
        try MapFileError.check(result, path)
        count += 1
        return true
    }

    /// Writes the label, with a note for whoever asks the entries, and has all of it on the disk.
    package func seal(note: [UInt8]) throws(MapFileError) {
        guard let handle else { return }
        // Its size and its checksum are known when GDBM has finished: they are written into their place then.
        var label = MapLabel(size: 0, count: UInt64(count), checksum: 0, note: note)
        try MapFileError.check(Self.insert(handle, MapLabel.key, label.octets), path)
        try MapFileError.check(slimta_gdbm_sync(handle), path)
        self.handle = nil
        try MapFileError.check(slimta_gdbm_close(handle), path)

        let descriptor = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW)
        guard descriptor >= 0 else { throw MapFileError("cannot open \(path): \(systemErrorText(errno))") }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw failure() }
        label.size = Int64(status.st_size)
        guard let (_, place) = try MapChecksum.label(descriptor, path) else {
            throw MapFileError("\(path): GDBM has not written what it was given")
        }
        try write(label, descriptor, at: place)
        label.checksum = try MapChecksum.of(descriptor, path, label: place)
        try write(label, descriptor, at: place)
        guard fsync(descriptor) == 0 else { throw failure() }
    }

    private func write(_ label: MapLabel, _ descriptor: Int32, at place: Int) throws(MapFileError) {
        let octets = label.octets
        guard slimta_pwrite(descriptor, octets, octets.count, Int64(place)) == octets.count else { throw failure() }
    }

    private func failure() -> MapFileError { MapFileError("cannot write \(path): \(systemErrorText(errno))") }

    private static func insert(_ handle: GDBM_FILE, _ key: [UInt8], _ value: [UInt8]) -> slimta_gdbm_result {
        key.withUnsafeBytes { key in
            value.withUnsafeBytes { value in
                slimta_gdbm_insert(
                    handle, key.baseAddress, Int32(key.count), value.baseAddress, Int32(value.count))
            }
        }
    }
}

/// The record of a map that no entry is: what the file is, and by what it is known to be whole.
///
/// The magic word, a version (1 octet), then little-endian: the file's size (8), the entries' number (8), the checksum (4);
/// the note is the rest.
struct MapLabel {
    static let key = Array("\0slimtad map".utf8)
    static let version: UInt8 = 1
    /// Not text: no entry has it.
    static let magic: [UInt8] = [0, 0xFF] + Array("slimtad map".utf8) + [0xFE, 0, 0x0A]

    /// Where the checksum is in ``octets``, which counts as zero in what it is of.
    static let checksumPlace = magic.count + 17

    var version = MapLabel.version
    var size: Int64
    var count: UInt64
    var checksum: UInt32
    var note: [UInt8]

    init(size: Int64, count: UInt64, checksum: UInt32, note: [UInt8]) {
        self.size = size
        self.count = count
        self.checksum = checksum
        self.note = note
    }

    /// nil: this is no label.
    init?(_ octets: [UInt8]) {
        guard octets.starts(with: Self.magic), octets.count >= Self.checksumPlace + 4 else { return nil }
        func number(_ place: Int, _ count: Int) -> UInt64 {
            octets[place..<place + count].reversed().reduce(0) { $0 << 8 | UInt64($1) }
        }
        let start = Self.magic.count
        version = octets[start]
        size = Int64(truncatingIfNeeded: number(start + 1, 8))
        count = number(start + 9, 8)
        checksum = UInt32(number(start + 17, 4))
        note = Array(octets[(start + 21)...])
        guard count <= UInt64(Int.max) else { return nil }
    }

    var octets: [UInt8] {
        func octets(_ number: UInt64, _ count: Int) -> [UInt8] {
            (0..<count).map { UInt8(truncatingIfNeeded: number >> (8 * UInt64($0))) }
        }
        return Self.magic + [version] + octets(UInt64(bitPattern: size), 8) + octets(count, 8)
            + octets(UInt64(checksum), 4) + note
    }
}

/// CRC-32C of a whole file, the octets of its checksum counted as zero.
enum MapChecksum {
    private static let window = 1 << 20

    /// Of the open file, whose label begins at `place`.
    static func of(_ descriptor: Int32, _ path: String, label place: Int) throws(MapFileError) -> UInt32 {
        var sum: UInt32 = 0
        try read(descriptor, path) { octets, offset in
            for index in 0..<4 {
                let position = place + MapLabel.checksumPlace + index - offset
                if octets.indices.contains(position) { octets[position] = 0 }
            }
            sum = slimta_crc32c(sum, octets.baseAddress, octets.count)
            return true
        }
        return sum
    }

    /// The label of the open file, but for its note, and where it begins; nil: there is none. No entry looks like one.
    static func label(_ descriptor: Int32, _ path: String) throws(MapFileError) -> (MapLabel, place: Int)? {
        let magic = MapLabel.magic
        let size = MapLabel.checksumPlace + 4
        var found: (MapLabel, place: Int)?
        // The last octets of the window before, where a label may have begun.
        var tail: [UInt8] = []
        try read(descriptor, path) { octets, offset in
            let all = tail + octets
            let start = offset - tail.count
            var position = 0
            while position + size <= all.count {
                let next = all[position...].withUnsafeBytes { slimta_find($0.baseAddress, $0.count, magic) }
                guard next >= 0, position + Int(next) + size <= all.count else { break }
                position += Int(next)
                if let label = MapLabel(Array(all[position..<position + size])) {
                    found = (label, start + position)
                    return false
                }
                position += 1
            }
            tail = Array(all.suffix(size - 1))
            return true
        }
        return found
    }

    /// Reads the file by windows, as long as `body` wants more.
    private static func read(
        _ descriptor: Int32, _ path: String, _ body: (UnsafeMutableBufferPointer<UInt8>, Int) -> Bool
    ) throws(MapFileError) {
        var buffer = [UInt8](repeating: 0, count: window)
        var offset = 0
        while true {
            var (got, goesOn) = (Int64(0), false)
            buffer.withUnsafeMutableBufferPointer { octets in
                got = slimta_pread(descriptor, octets.baseAddress, octets.count, Int64(offset))
                guard got > 0 else { return }
                goesOn = body(UnsafeMutableBufferPointer(rebasing: octets.prefix(Int(got))), offset)
            }
            guard got >= 0 else {
                throw MapFileError("cannot read \(path): \(systemErrorText(-Int32(truncatingIfNeeded: got)))")
            }
            guard goesOn else { return }
            offset += Int(got)
        }
    }
}
