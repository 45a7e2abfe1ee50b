// A file on its way into a maildir (https://cr.yp.to/proto/maildir.html). Blocks: MaildirRelay uses it on a thread pool.

import Glibc
import NIOCore
import Synchronization

/// What of the disk went wrong, with the system's word for it.
struct MaildirError: Error, CustomStringConvertible {
    let description: String
    /// Whether there was no room.
    let isFull: Bool

    /// - Parameter error: errno, if the system said no.
    init(_ operation: String, _ what: String, error: Int32?) {
        description = error.map { "\(operation) \(what): \(String(cString: strerror($0)))" } ?? "\(operation): \(what)"
        isFull = error == ENOSPC || error == EDQUOT
    }
}

/// Written in tmp, then published in new. Dropped before that, it is deleted.
final class MaildirFile: Sendable {
    private static let counter = Atomic<UInt64>(0)

    private let directory: String
    private let name: String
    private let descriptor: CInt

    /// Creates the file in `path`/tmp, and the maildir if it is missing.
    init(in path: String, hostname: String) throws(MaildirError) {
        directory = path
        try Self.make(path)
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        let number = Self.counter.wrappingAdd(1, ordering: .relaxed).newValue
        let host =
            hostname.utf8.allSatisfy { $0 != UInt8(ascii: "/") && $0 != UInt8(ascii: ":") } ? hostname : "localhost"
        name = "\(time.tv_sec).M\(time.tv_nsec / 1000)P\(getpid())Q\(number).\(host)"
        let file = "\(path)/tmp/\(name)"
        let opened = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
        if opened < 0 { throw MaildirError("open", file, error: errno) }
        descriptor = opened
    }

    /// Makes what is missing of the maildir, durably.
    private static func make(_ path: String) throws(MaildirError) {
        var isNew = false
        for directory in [path, path + "/tmp", path + "/new", path + "/cur"] {
            if mkdir(directory, 0o700) == 0 {
                isNew = true
            } else if errno != EEXIST {
                throw MaildirError("mkdir", directory, error: errno)
            }
        }
        if isNew {
            try sync(path)
            try sync(path + "/..")
        }
    }

    private static func sync(_ directory: String) throws(MaildirError) {
        let descriptor = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        if descriptor < 0 { throw MaildirError("open", directory, error: errno) }
        defer { close(descriptor) }
        if fsync(descriptor) != 0 { throw MaildirError("fsync", directory, error: errno) }
    }

    deinit {
        close(descriptor)
        discard()
    }

    /// Deletes the file in tmp.
    func discard() { unlink("\(directory)/tmp/\(name)") }

    func write(_ bytes: ByteBuffer) throws(MaildirError) {
        let error = bytes.withUnsafeReadableBytes { writeAll($0, to: descriptor) }
        if let error { throw MaildirError("write", name, error: error) }
    }

    func write(_ bytes: [UInt8]) throws(MaildirError) {
        let error = bytes.withUnsafeBytes { writeAll($0, to: descriptor) }
        if let error { throw MaildirError("write", name, error: error) }
    }

    /// Makes the file durable and puts it into new; its name is durable when this returns.
    func publish() throws(MaildirError) {
        if fsync(descriptor) != 0 { throw MaildirError("fsync", name, error: errno) }
        // Never over another file. The name in tmp goes with this object.
        if link("\(directory)/tmp/\(name)", "\(directory)/new/\(name)") != 0 {
            throw MaildirError("link", name, error: errno)
        }
        try Self.sync("\(directory)/new")
    }
}
