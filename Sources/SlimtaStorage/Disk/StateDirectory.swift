// The state directory itself: whose it is, and who uses it. May run as root; touches nothing but the directory and the
// lock.

import CLinux
import Glibc
package import SlimtaQueue
import SlimtaThreads

/// The lock on a state directory, held while this object lives.
package final class StateLock: Sendable {
    private let descriptor: Int32

    private init(_ descriptor: Int32) { self.descriptor = descriptor }
    deinit {
        // Unlocked, not only closed: a child that is just being made may have the descriptor until its exec.
        _ = slimta_unlock(descriptor)
        _ = slimta_close(descriptor)
    }

    /// Makes the directory if it is missing, refuses one that is not what we trust, and takes the lock.
    package static func take(
        _ directory: String, owner: (uid: UInt32, gid: UInt32)?
    ) throws(StorageOpenError) -> StateLock {
        let made = slimta_mkdir(directory)
        if made < 0, made != -17 { throw .system("mkdir \(directory): \(systemErrorText(-made))") }  // EEXIST
        // All checks are made on this descriptor: what the name refers to may change, the directory behind it not.
        let root = slimta_open(directory, Int32(SLIMTA_OPEN_DIRECTORY))
        if root < 0 {
            // ELOOP, ENOTDIR: a symbolic link, or no directory.
            if root == -40 || root == -20 { throw .unsafe("\(directory) is not a directory of its own") }
            throw .system("open \(directory): \(systemErrorText(-root))")
        }
        defer { _ = slimta_close(root) }
        if made == 0, slimta_fchmod(root, 0o700) < 0 { throw .system("chmod \(directory)") }
        if made == 0, let owner, slimta_fchown(root, owner.uid, owner.gid) < 0 {
            throw .system("chown \(directory)")
        }
        try check(root, directory, owner)
        return try lock(directory, owner)
    }

    /// Takes the lock for reading; nil while a daemon runs.
    static func share(_ directory: String) throws(StorageOpenError) -> StateLock? {
        let descriptor = slimta_open("\(directory)/lock", 0)
        if descriptor == -2 { return nil }  // ENOENT
        if descriptor < 0 { throw .system("open \(directory)/lock: \(systemErrorText(-descriptor))") }
        if slimta_flock(descriptor, 0) < 0 {
            _ = slimta_close(descriptor)
            return nil
        }
        return StateLock(descriptor)
    }

    private static func check(
        _ root: Int32, _ directory: String, _ owner: (uid: UInt32, gid: UInt32)?
    ) throws(StorageOpenError) {
        var info = slimta_file_info()
        guard slimta_fstat(root, &info) == 0 else { throw .system("stat \(directory)") }
        let expected = owner?.uid ?? slimta_effective_uid()
        guard info.uid == expected else {
            throw .unsafe("\(directory) belongs to user \(info.uid), not \(expected)")
        }
        // What others could write into may be no queue of ours; what they could only read is closed to them.
        guard info.mode & 0o022 == 0 else {
            throw .unsafe("\(directory) can be written by others (mode \(String(info.mode & 0o7777, radix: 8)))")
        }
        if info.mode & 0o055 != 0, slimta_fchmod(root, 0o700) < 0 { throw .system("chmod \(directory)") }
    }

    private static func lock(
        _ directory: String, _ owner: (uid: UInt32, gid: UInt32)?
    ) throws(StorageOpenError) -> StateLock {
        let path = "\(directory)/lock"
        let options = SLIMTA_OPEN_WRITE | SLIMTA_OPEN_CREATE | SLIMTA_OPEN_REUSE
        let descriptor = slimta_open(path, Int32(options))
        if descriptor == -40 { throw .unsafe("\(path) is a symbolic link") }  // ELOOP
        if descriptor < 0 { throw .system("open \(path): \(systemErrorText(-descriptor))") }
        do throws(StorageOpenError) {
            try own(descriptor, path, owner)
        } catch {
            _ = slimta_close(descriptor)
            throw error
        }
        if !isTakenAlone(descriptor) {
            var text = [UInt8](repeating: 0, count: 32)
            let count = slimta_pread(descriptor, &text, text.count, 0)
            _ = slimta_close(descriptor)
            let digits = text.prefix(max(0, Int(count))).prefix { (0x30...0x39).contains($0) }
            throw .inUse(processID: Int32(String(decoding: digits, as: UTF8.self)))
        }
        let lock = StateLock(descriptor)
        lock.name()
        return lock
    }

    /// Who only looks (status, list and audit without a daemon) has the lock for a moment: a start waits for that, ten
    /// seconds at most. Whoever has it alone is a daemon, or changes files: nobody waits for that.
    private static func isTakenAlone(_ descriptor: Int32) -> Bool {
        for _ in 0..<200 {
            if slimta_flock(descriptor, 1) == 0 { return true }
            guard slimta_flock(descriptor, 0) == 0 else { return false }
            _ = slimta_unlock(descriptor)
            usleep(50_000)
        }
        return false
    }

    /// Makes the file `owner`'s, who may have put anything into the directory: also another name of a file that is none of
    /// the queue's and that root must not give away, nor change.
    private static func own(
        _ descriptor: Int32, _ path: String, _ owner: (uid: UInt32, gid: UInt32)?
    ) throws(StorageOpenError) {
        var info = slimta_file_info()
        guard slimta_fstat(descriptor, &info) == 0 else { throw .system("stat \(path)") }
        guard info.links == 1 else { throw .unsafe("\(path) has \(info.links) names: it is no file of its own") }
        let trusted = [slimta_effective_uid(), owner?.uid ?? slimta_effective_uid()]
        guard trusted.contains(info.uid) else {
            throw .unsafe("\(path) belongs to user \(info.uid), not \(trusted[1])")
        }
        if info.mode & 0o7777 != 0o600, slimta_fchmod(descriptor, 0o600) < 0 { throw .system("chmod \(path)") }
        if let owner, slimta_fchown(descriptor, owner.uid, owner.gid) < 0 { throw .system("chown \(path)") }
    }

    /// Writes down who has the lock. To be done again by whoever forks.
    package func name() {
        let text = Array("\(slimta_process_id())\n".utf8)
        _ = slimta_ftruncate(descriptor, 0)
        _ = slimta_pwrite(descriptor, text, text.count, 0)
    }
}
