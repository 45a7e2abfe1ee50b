// The pid file of --pid-file: for init scripts. Made by the composition root after the double fork, while still root.

import CLinux
import Glibc
import Synchronization

/// A file with the process's id, locked as long as the process lives.
///
/// The lock tells a running daemon from a stale file. A symbolic link, a second hard link, or a file of another user
/// is refused: in a directory that others may write to, those are how a pid file becomes a weapon.
package final class PIDFile: Sendable {
    private let path: String
    /// -1 once removed.
    private let descriptor: Atomic<Int32>

    /// Makes or takes over the file. Throws `.locked` if another process holds it, `.invalid` if it is not a plain
    /// file of ours, `.cannotCreate` otherwise.
    package init(_ path: String) throws(SystemError) {
        self.path = path
        while true {
            let file = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0o644)
            guard file >= 0 else {
                throw SystemError(
                    "cannot create pid file \(path)", number: errno, code: errno == ELOOP ? .invalid : .cannotCreate)
            }
            do throws(SystemError) {
                if try Self.claim(file, path) {
                    descriptor = Atomic(file)
                    return
                }
            } catch {
                close(file)
                throw error
            }
            close(file)  // the one before us removed it between our open and our lock: again
        }
    }

    deinit {
        let file = descriptor.load(ordering: .relaxed)
        if file >= 0 { close(file) }
    }

    /// Removes the file, or empties it where the directory is no longer ours to write to, and unlocks it.
    package func remove() {
        let file = descriptor.exchange(-1, ordering: .acquiringAndReleasing)
        guard file >= 0 else { return }
        if unlink(path) != 0 { ftruncate(file, 0) }
        close(file)
    }

    /// Checks, locks and fills `file`; false if `path` no longer names it.
    private static func claim(_ file: Int32, _ path: String) throws(SystemError) -> Bool {
        var status = stat()
        guard fstat(file, &status) == 0 else { throw SystemError("cannot examine pid file \(path)", number: errno) }
        guard status.st_mode & S_IFMT == S_IFREG, status.st_uid == geteuid() || status.st_uid == 0 else {
            throw SystemError(.invalid, "pid file \(path) is not a plain file of ours")
        }
        let error = linux_lock_file(file)
        guard error == 0 else {
            throw error == EWOULDBLOCK
                ? SystemError(.locked, "pid file \(path) is locked: slimtad is already running")
                : SystemError("cannot lock pid file \(path)", number: error)
        }
        var now = stat()
        guard lstat(path, &now) == 0, now.st_ino == status.st_ino, now.st_dev == status.st_dev else { return false }
        guard now.st_nlink == 1 else { throw SystemError(.invalid, "pid file \(path) has a second name") }

        let text = Array("\(getpid())\n".utf8)
        guard ftruncate(file, 0) == 0, fchmod(file, 0o644) == 0, pwrite(file, text, text.count, 0) == text.count else {
            throw SystemError("cannot write pid file \(path)", number: errno, code: .cannotCreate)
        }
        return true
    }
}
