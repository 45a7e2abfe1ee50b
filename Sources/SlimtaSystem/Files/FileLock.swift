// One process at a time changes a file that is replaced by renaming: `slimtad passwd` holds it from reading to renaming,
// `slimtad map` while it makes one.

import Glibc

/// A lock on a file, or on its folder while there is no such file. Other programs' locks by flock(2) count too.
///
/// A lock is on an inode, and renaming gives the name to another one: so whoever has waited looks whether he has the right
/// one.
package final class FileLock: Sendable {
    private let descriptor: Int32

    /// Locks the file `path`, and waits for whoever has it; `waiting` is called before that.
    package convenience init(_ path: String, waiting: () -> Void = {}) throws(SystemError) {
        // Who may wait gets it.
        self.init(
            try Self.take(path) {
                waiting()
                return true
            }!)
    }

    /// Locks the file `path`, if nobody has it; nil: somebody has.
    package static func ifFree(_ path: String) throws(SystemError) -> FileLock? {
        try take(path) { false }.map { FileLock($0) }
    }

    private init(_ descriptor: Int32) { self.descriptor = descriptor }

    /// nil: somebody has it, and `mayWait`, which is asked once, says no.
    private static func take(_ path: String, _ mayWait: () -> Bool) throws(SystemError) -> Int32? {
        var isTold = false
        while true {
            let (descriptor, isFolder) = try Self.open(path)
            while flock(descriptor, isTold ? LOCK_EX : LOCK_EX | LOCK_NB) != 0 {
                let number = errno
                if number == EWOULDBLOCK {
                    isTold = true
                    guard mayWait() else {
                        close(descriptor)
                        return nil
                    }
                } else if number != EINTR {
                    close(descriptor)
                    throw SystemError("cannot lock \(path)", number: number)
                }
            }
            if Self.isLocked(descriptor, path, isFolder: isFolder) { return descriptor }
            close(descriptor)
        }
    }

    private static func open(_ path: String) throws(SystemError) -> (descriptor: Int32, isFolder: Bool) {
        let file = Glibc.open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)
        if file >= 0 { return (file, false) }
        guard errno == ENOENT else { throw SystemError("cannot read \(path)", number: errno) }
        let parent = path.lastIndex(of: "/").map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
        let folder = Glibc.open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard folder >= 0 else { throw SystemError("cannot open \(parent)", number: errno) }
        return (folder, true)
    }

    private static func isLocked(_ descriptor: Int32, _ path: String, isFolder: Bool) -> Bool {
        var named = stat()
        let isThere = stat(path, &named) == 0
        if isFolder { return !isThere }
        var locked = stat()
        return isThere && fstat(descriptor, &locked) == 0 && named.st_dev == locked.st_dev
            && named.st_ino == locked.st_ino
    }

    deinit { close(descriptor) }
}
