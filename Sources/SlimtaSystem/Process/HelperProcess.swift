// A second slimtad beside this one, which keeps the rights that this one gives up: `slimtad run` starts it in the phase
// bindListeners, before there is any thread.

import CLinux
import Glibc

/// A process of ours that serves a socket for as long as this process lives.
package struct HelperProcess: Sendable {
    /// What its standard input is: it ends when the last copy of this is closed, however that comes.
    private let lifeline: Int32
    private let pid: Int32

    /// The descriptor under which it finds its socket.
    package static let socket: Int32 = 3

    /// Starts this program again with these arguments: in a session of its own, with a socket that listens, and with the
    /// rights that we have. `socket` stays the caller's.
    package init(_ arguments: [String], socket: Int32) throws(SystemError) {
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else { throw SystemError("cannot make a pipe", number: errno) }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        var words = (["slimtad"] + arguments).map { strdup($0) } + [nil]
        defer { for text in words { free(text) } }
        var command = linux_command()
        command.files = (ends[0], STDERR_FILENO, STDERR_FILENO, socket)
        command.keeps_privileges = true
        var pid: Int32 = 0
        var step: Int32 = 0
        let error = "/proc/self/exe".withCString { path in
            words.withUnsafeMutableBufferPointer { words in
                command.path = path
                command.arguments = UnsafePointer(words.baseAddress)
                command.environment = UnsafePointer(environ)
                return linux_start_command(&command, &pid, &step)
            }
        }
        close(ends[0])
        (lifeline, self.pid) = (ends[1], pid)
        guard error == 0 else {
            close(lifeline)
            throw SystemError("cannot start another slimtad", number: error)
        }
    }

    /// Whether it has ended. That is told once, and nothing is left of it then.
    package func hasEnded() -> Bool {
        var status: Int32 = 0
        guard waitpid(pid, &status, WNOHANG) == pid else { return false }
        close(lifeline)
        return true
    }
}
