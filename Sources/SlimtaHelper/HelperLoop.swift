// The loop of a helper: a process with rights that the daemon has not, which does one thing for it. One thread, one poll. What
// that thing is, its connections know: commands for pipes (SlimtaPipe), questions to PAM (SlimtaPAM).

internal import CLinux
package import Glibc

/// One connection of a helper: a request, what is done for it, its answer. Called by ``HelperLoop`` alone.
package protocol HelperConnection: AnyObject {
    /// What is waited for. A negative descriptor is not looked at.
    var polled: [pollfd] { get }
    /// When time is over for something, by ``HelperLoop/now``; nil: never.
    var nextDue: Int64? { get }
    /// Nothing is left of it.
    var isOver: Bool { get }

    /// Looks at what ``polled`` has come to, and at the time.
    func serve(_ entries: [pollfd], _ now: Int64)

    /// Nobody waits for it any more.
    func abandon(_ now: Int64)
}

/// Accepts connections over a UNIX socket, and serves them until the daemon is gone.
package final class HelperLoop {
    private let listener: Int32
    private let lifeline: Int32?
    private let limit: Int
    private let mayAsk: (UInt32) -> Bool
    private let connect: (Int32, Int64) -> any HelperConnection
    private var connections: [any HelperConnection] = []
    /// Nobody asks any more: what runs is ended, then this is over.
    private var isEnding = false

    /// - Parameters:
    ///   - listener: a UNIX socket that listens, with non-blocking calls.
    ///   - lifeline: a pipe whose other end the daemon has: when that is gone, so are we. nil: somebody else ends us.
    ///   - limit: the most connections at once, of which each takes four descriptors; the others wait in the socket's queue.
    ///   - mayAsk: whether a user, by number, may ask at all.
    ///   - connect: what serves a connection that was accepted now; it closes the descriptor.
    package init(
        listener: Int32, lifeline: Int32?, limit: Int, mayAsk: @escaping (UInt32) -> Bool,
        connect: @escaping (_ socket: Int32, _ now: Int64) -> any HelperConnection
    ) {
        (self.listener, self.lifeline, self.limit) = (listener, lifeline, limit)
        (self.mayAsk, self.connect) = (mayAsk, connect)
    }

    /// Serves until the daemon is gone and nothing runs any more.
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
            let counts = connections.map { connection in
                let own = connection.polled
                polled += own
                return own.count
            }
            let due = connections.compactMap(\.nextDue).min()
            let wait = due.map { Int32(clamping: max(0, $0 - now)) } ?? -1
            guard poll(&polled, nfds_t(polled.count), wait) >= 0 || errno == EINTR else { return }
            var rest = polled[first...]
            for (connection, count) in zip(connections, counts) {
                connection.serve(Array(rest.prefix(count)), Self.now)
                rest = rest.dropFirst(count)
            }
            if watchesLifeline, polled[0].revents != 0 { end() }
            if accepts, polled[first - 1].revents != 0 { accept() }
            connections.removeAll(where: \.isOver)
        }
    }

    /// Milliseconds of a clock that only goes forward.
    package static var now: Int64 { slimta_monotonic_nanoseconds() / 1_000_000 }

    private func accept() {
        var uid: uid_t = 0
        let socket = linux_accept(listener, &uid)
        guard socket >= 0 else { return }
        guard mayAsk(uid) else {
            close(socket)
            return
        }
        connections.append(connect(socket, Self.now))
    }

    private func end() {
        isEnding = true
        for connection in connections { connection.abandon(Self.now) }
    }
}
