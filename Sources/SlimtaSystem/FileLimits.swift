// How many files and connections the process may have. Called once at start.

import CLinux

/// The limit of open files (RLIMIT_NOFILE).
package enum FileLimits {
    /// Raises the soft limit to the hard one; returns what it is now.
    package static func raise() throws(SystemError) -> Int {
        var limit: UInt64 = 0
        let error = linux_raise_file_limit(&limit)
        guard error == 0 else { throw SystemError("cannot raise the limit of open files", number: error) }
        return Int(clamping: limit)
    }
}

/// What a crash leaves behind.
package enum CoreFiles {
    /// No core file, of this process or its children, wherever it is started: keys and passwords are in memory.
    package static func forbid() throws(SystemError) {
        let error = linux_forbid_core()
        guard error == 0 else { throw SystemError("cannot forbid core files", number: error) }
    }
}
