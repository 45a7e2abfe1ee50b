// Replacing files with care: `slimtad passwd` writes the users file with it, `slimtad map` gives its files their names.

import Glibc
import Synchronization

extension SecureFile {
    /// Held while a file is replaced: the name of the new one until then is this process's, and one thread's.
    private static let replacing = Mutex(())

    /// Replaces the file `path`, or makes it: whoever reads it sees the old content or the new one, also after a crash.
    ///
    /// An old file's owner and mode are kept. A new one is 0600; or 0640 and `group`'s, where a group is named.
    ///
    /// - Parameter isStillWanted: asked last of all; if not, nothing is changed, and `.invalid` thrown.
    package static func replace(
        _ path: String, with content: [UInt8], group: String? = nil, if isStillWanted: () -> Bool = { true }
    ) throws(SystemError) {
        try replacing.withLock { _ throws(SystemError) in
            try replaceAlone(path, with: content, group: group, if: isStillWanted)
        }
    }

    private static func replaceAlone(
        _ path: String, with content: [UInt8], group: String?, if isStillWanted: () -> Bool
    ) throws(SystemError) {
        var status = stat()
        let isThere = stat(path, &status) == 0
        // A link's target is replaced, not the link.
        let target = isThere ? realPath(path) ?? path : path
        let temporary = "\(target).new-\(getpid())"
        let file = openNew(temporary)
        guard file >= 0 else { throw SystemError("cannot create \(temporary)", number: errno, code: .cannotCreate) }
        do throws(SystemError) {
            defer { close(file) }
            if isThere {
                try check(fchown(file, status.st_uid, status.st_gid), temporary)
                try check(fchmod(file, status.st_mode & 0o777), temporary)
            } else if let group, let entry = getgrnam(group) {
                try check(fchown(file, geteuid(), entry.pointee.gr_gid), temporary)
                try check(fchmod(file, 0o640), temporary)
            }
            var offset = 0
            while offset < content.count {
                let written = content[offset...].withUnsafeBytes { write(file, $0.baseAddress, $0.count) }
                if written < 0, errno == EINTR { continue }
                guard written > 0 else { throw SystemError("cannot write \(temporary)", number: errno) }
                offset += written
            }
            try check(fsync(file), temporary)
            guard isStillWanted() else { throw SystemError(.invalid, "\(path) was changed meanwhile; try again") }
            try check(rename(temporary, target), target)
        } catch {
            unlink(temporary)
            throw error
        }
        try syncParent(of: target)
    }

    /// Makes a file that nobody else has; negative: errno says why not.
    private static func openNew(_ path: String) -> Int32 {
        let flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW
        let file = open(path, flags, 0o600)
        guard file < 0, errno == EEXIST else { return file }
        // A power cut has left it: in a container each start has the same process id.
        var status = stat()
        guard lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG, status.st_uid == geteuid() else {
            errno = EEXIST
            return -1
        }
        unlink(path)
        return open(path, flags, 0o600)
    }

    /// Gives the whole file `temporary`, which is in the same folder, the name `path`, of a file that may be there: whoever
    /// opens that sees the old one or the new one, also after a crash. If this throws, `temporary` is gone.
    ///
    /// Its owner and mode become those of the old file; those of `model` where there is no old one.
    package static func replace(_ path: String, byRenaming temporary: String, model: String) throws(SystemError) {
        var status = stat()
        do throws(SystemError) {
            if stat(path, &status) != 0 { try check(stat(model, &status), model) }
            let file = open(temporary, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
            try check(file >= 0 ? 0 : -1, temporary)
            defer { close(file) }
            try check(fchown(file, status.st_uid, status.st_gid), temporary)
            try check(fchmod(file, status.st_mode & 0o777), temporary)
            try check(fsync(file), temporary)
            try check(rename(temporary, path), path)
        } catch {
            unlink(temporary)
            throw error
        }
        try syncParent(of: path)
    }

    /// Makes a file's name durable.
    private static func syncParent(of path: String) throws(SystemError) {
        let parent = path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "."
        let directory = open(parent.isEmpty ? "/" : parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard directory >= 0 else { throw SystemError("cannot open \(parent)", number: errno) }
        defer { close(directory) }
        try check(fsync(directory), parent)
    }

    /// Where the links of a path lead; itself, if nothing is there.
    package static func target(of path: String) -> String { realPath(path) ?? path }

    private static func check(_ result: Int32, _ path: String) throws(SystemError) {
        guard result == 0 else { throw SystemError("cannot write \(path)", number: errno) }
    }

    private static func realPath(_ path: String) -> String? {
        guard let resolved = realpath(path, nil) else { return nil }
        defer { free(resolved) }
        return String(cString: resolved)
    }
}
