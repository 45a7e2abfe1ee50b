// `slimtad run --daemonize`: the double fork, and the pipe over which the daemon says that it is ready. Called by the
// composition root before any thread exists. The forks are in C (CLinux): between them no Swift may run.

import CLinux
import Glibc
import Synchronization

/// Makes the process a daemon.
package enum Daemonizer {
    /// Forks twice; returns in the daemon only, which has its own session, umask 077, / as its directory and
    /// /dev/null as standard input, output and error.
    ///
    /// The process that was started waits for the pipe's word: it exits with what that says (0 when ready), or with
    /// 69 if the daemon ends without a word. Throws `.failed` if it could not fork, or if there are already threads,
    /// which a fork would not copy.
    package static func daemonize() throws(SystemError) -> ReadinessPipe {
        let threads = linux_thread_count()
        guard threads <= 1 else {
            throw SystemError(.failed, "cannot become a daemon: there are already \(threads) threads")
        }
        return try fork()
    }

    /// The forks alone.
    static func fork() throws(SystemError) -> ReadinessPipe {
        var descriptor: Int32 = -1
        let error = linux_daemonize(&descriptor, ExitStatus.unavailable.rawValue)
        guard error == 0 else { throw SystemError("cannot become a daemon", number: error, code: .failed) }
        return ReadinessPipe(descriptor)
    }
}

/// Tells the process that was started how the daemon's start went. The first word counts, later ones are not sent.
package final class ReadinessPipe: Sendable {
    /// -1 once something was said.
    private let descriptor: Atomic<Int32>

    init(_ descriptor: Int32) { self.descriptor = Atomic(descriptor) }

    deinit { _ = take().map(close) }

    /// The daemon is ready: the waiting process exits 0.
    package func ready() { say([0]) }

    /// The daemon cannot start: the waiting process prints `message` and exits with `status`.
    package func failed(status: ExitStatus, message: String) {
        // A pipe takes up to PIPE_BUF octets in one piece.
        say([UInt8(truncatingIfNeeded: status.rawValue)] + Array(message.utf8.prefix(4000)))
    }

    private func say(_ bytes: [UInt8]) {
        guard let descriptor = take() else { return }
        while write(descriptor, bytes, bytes.count) < 0, errno == EINTR {}
        close(descriptor)
    }

    private func take() -> Int32? {
        let taken = descriptor.exchange(-1, ordering: .acquiringAndReleasing)
        return taken >= 0 ? taken : nil
    }
}
