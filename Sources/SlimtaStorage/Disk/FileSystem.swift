// The seam between the storage and the disk: every file operation of the storage goes through it, so that tests can put
// a disk under it that fails, fills up and loses power. The real one is LinuxFileSystem.
//
// It is an existential on purpose: a call costs nanoseconds, what it calls costs microseconds.

import NIOCore
import SlimtaRecords
import SlimtaThreads

/// A failed call: which, on what, and errno.
struct DiskError: Error, Hashable, CustomStringConvertible {
    var call: String
    var path: String
    var code: Int32

    /// No room on the device, or none for this user.
    var isFull: Bool { code == 28 || code == 122 }  // ENOSPC, EDQUOT
    /// There is no such file.
    var isMissing: Bool { code == 2 }  // ENOENT
    /// The name is taken.
    var exists: Bool { code == 17 }  // EEXIST

    var description: String { "\(call) \(path): \(systemErrorText(code))" }
}

extension DiskError {
    /// A thread that could not be started: to who waits for the disk there is no difference.
    init(_ error: ThreadError) { self.init(call: "start thread", path: error.name, code: error.code) }
}

/// An open file.
struct File: Hashable, Sendable {
    let descriptor: Int32
    /// For messages.
    let path: String
}

/// How a file is opened. All are opened with O_CLOEXEC and O_NOFOLLOW, new ones are 0600, only regular files pass.
enum OpenMode: Sendable {
    case read
    case write
    /// Must not exist.
    case create
    /// Read and write past the page cache, where the file system can do that: everything has to be aligned to 4096.
    case direct
}

/// What may be asked of a disk. Calls may be made from any thread; they block.
protocol FileSystem: Sendable {
    func open(_ path: String, _ mode: OpenMode) throws(DiskError) -> File
    func close(_ file: File)
    /// A descriptor of the system for GDBM, which closes it: a new, empty file to be written, or one to be read.
    func openForGDBM(_ path: String, create: Bool) throws(DiskError) -> Int32
    /// Reads until `buffer` is full or the file ends; the number of octets.
    func read(_ file: File, into buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws(DiskError) -> Int
    /// Writes all of `octets`.
    func write(_ file: File, _ octets: UnsafeRawBufferPointer, at offset: Int) throws(DiskError)
    /// Makes the content durable, and of its metadata what is needed to read it.
    func syncData(_ file: File) throws(DiskError)
    /// Makes content and metadata durable.
    func sync(_ file: File) throws(DiskError)
    /// Makes the names in a directory durable.
    func syncDirectory(_ path: String) throws(DiskError)
    /// Lets the disk begin early with what a later sync will wait for. Promises nothing.
    func writeBehind(_ descriptor: Int32, from offset: Int, count: Int)
    /// Forgets what the page cache believes of the file.
    func dropCache(_ file: File)
    func size(_ file: File) throws(DiskError) -> Int
    func truncate(_ file: File, to size: Int) throws(DiskError)
    func rename(_ from: String, to: String) throws(DiskError)
    func remove(_ path: String) throws(DiskError)
    /// Makes a directory, 0700; one that is there is fine.
    func makeDirectory(_ path: String) throws(DiskError)
    /// The names in a directory, in no order.
    func list(_ path: String) throws(DiskError) -> [String]
    func space(_ path: String) throws(DiskError) -> (octets: UInt64, inodes: UInt64)
}

extension FileSystem {
    /// Deletes a file that may be gone already.
    func removeIfPresent(_ path: String) throws(DiskError) {
        do { try remove(path) } catch { if !error.isMissing { throw error } }
    }

    /// Opens a file to be read; nil if there is none.
    func openIfPresent(_ path: String) throws(DiskError) -> File? {
        do {
            return try open(path, .read)
        } catch {
            if error.isMissing { return nil }
            throw error
        }
    }

    /// Writes a whole new file, replacing one of that name, durable with its name: `directory` is synced.
    func replace(_ name: String, in directory: String, with octets: [UInt8]) throws(DiskError) {
        let temporary = "\(directory)/\(name).tmp"
        try removeIfPresent(temporary)
        let file = try open(temporary, .create)
        do throws(DiskError) {
            try write(file, octets)
            try sync(file)
        } catch {
            close(file)
            throw error
        }
        close(file)
        try rename(temporary, to: "\(directory)/\(name)")
        try syncDirectory(directory)
    }

    /// Writes what `buffer` holds, or the first `count` octets of it.
    func write(_ file: File, _ buffer: OutputBuffer, count: Int? = nil, at offset: Int) throws(DiskError) {
        // The parameter is what keeps the memory while it is written.
        try write(file, UnsafeRawBufferPointer(rebasing: buffer.octets.prefix(count ?? buffer.count)), at: offset)
    }

    /// Writes `octets` at the beginning.
    func write(_ file: File, _ octets: [UInt8], at offset: Int = 0) throws(DiskError) {
        var failure: DiskError?
        octets.withUnsafeBytes { bytes in
            do throws(DiskError) { try write(file, bytes, at: offset) } catch { failure = error }
        }
        if let failure { throw failure }
    }

    /// Reads `count` octets into a buffer of their own, fewer at the end of the file.
    func read(_ file: File, buffer count: Int, at offset: Int) throws(DiskError) -> ByteBuffer {
        var failure: DiskError?
        var buffer = ByteBufferAllocator().buffer(capacity: count)
        buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: count) { octets in
            do throws(DiskError) {
                return try read(file, into: UnsafeMutableRawBufferPointer(rebasing: octets.prefix(count)), at: offset)
            } catch {
                failure = error
                return 0
            }
        }
        if let failure { throw failure }
        return buffer
    }

    /// Reads `count` octets, fewer at the end of the file.
    func read(_ file: File, count: Int, at offset: Int) throws(DiskError) -> [UInt8] {
        var failure: DiskError?
        let octets = [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
            do throws(DiskError) {
                filled = try read(file, into: UnsafeMutableRawBufferPointer(buffer), at: offset)
            } catch {
                failure = error
            }
        }
        if let failure { throw failure }
        return octets
    }
}
