// The helper that runs commands for a daemon that may not: one thread, one loop. `slimtad pipe-helper` is nothing else. It has
// root's rights to become another user where it was given them; the daemon has none, and asks over a UNIX socket.

internal import CLinux
internal import Glibc

/// Accepts connections, each with one request, and runs a command for each that is permitted.
///
/// The helper is the one who decides: it runs what slimta.conf says and nothing else, however the daemon asks.
package final class PipeHelper {
    private let listener: Int32
    private let lifeline: Int32?
    private let limit: Int
    private let mayAsk: (UInt32) -> Bool
    private let judge: (PipeRequest.Pipe) -> PipeVerdict
    private var connections: [PipeConnection] = []
    /// Nobody asks any more: what runs is ended, then this is over.
    private var isEnding = false

    /// - Parameters:
    ///   - listener: a UNIX socket that listens, with non-blocking calls.
    ///   - lifeline: a pipe whose other end the daemon has: when that is gone, so are we. nil: somebody else ends us.
    ///   - limit: the most commands at once, of which each takes four descriptors; the others wait in the socket's queue.
    ///   - mayAsk: whether a user, by number, may ask at all.
    ///   - judge: what becomes of a request.
    package init(
        listener: Int32, lifeline: Int32?, limit: Int, mayAsk: @escaping (UInt32) -> Bool,
        judge: @escaping (PipeRequest.Pipe) -> PipeVerdict
    ) {
        (self.listener, self.lifeline, self.limit) = (listener, lifeline, limit)
        (self.mayAsk, self.judge) = (mayAsk, judge)
    }

    /// Serves until the daemon is gone and no command runs any more.
    package func run() {
        // Whoever reads what we say may be gone before us.
        signal(SIGPIPE, SIG_IGN)
        while !isEnding || !connections.isEmpty {
            let now = Self.now
            var polled: [pollfd] = []
            let watchesLifeline = !isEnding && lifeline != nil
            if watchesLifeline, let lifeline { polled.append(pollfd(fd: lifeline, events: Int16(POLLIN), revents: 0)) }
            let accepts = !isEnding && connections.count < limit
            if accepts { polled.append(pollfd(fd: listener, events: Int16(POLLIN), revents: 0)) }
            let first = polled.count
            for connection in connections { polled += connection.polled }
            let due = connections.compactMap(\.nextDue).min()
            let wait = due.map { Int32(clamping: max(0, $0 - now)) } ?? -1
            guard poll(&polled, nfds_t(polled.count), wait) >= 0 || errno == EINTR else { return }
            serve(polled[first...])
            if watchesLifeline, polled[0].revents != 0 { end() }
            if accepts, polled[first - 1].revents != 0 { accept() }
            connections.removeAll(where: \.isOver)
        }
    }

    static var now: Int64 { slimta_monotonic_nanoseconds() / 1_000_000 }

    private func serve(_ polled: ArraySlice<pollfd>) {
        var rest = polled
        for connection in connections {
            let own = rest.prefix(connection.polledCount)
            rest = rest.dropFirst(own.count)
            connection.serve(Array(own), Self.now, judge)
        }
    }

    private func accept() {
        var uid: uid_t = 0
        let socket = linux_accept(listener, &uid)
        guard socket >= 0 else { return }
        guard mayAsk(uid) else {
            close(socket)
            return
        }
        connections.append(PipeConnection(socket, Self.now))
    }

    private func end() {
        isEnding = true
        for connection in connections { connection.abandon(Self.now) }
    }
}
