// How many files and connections the process may have, and who gets how many of them. Called at start and at reload.

import CLinux
import Glibc

/// The limit of open files (RLIMIT_NOFILE).
package enum FileLimits {
    /// Raises the soft limit to the hard one; returns what it is now.
    package static func raise() throws(SystemError) -> Int {
        var limit: UInt64 = 0
        let error = linux_raise_file_limit(&limit)
        guard error == 0 else { throw SystemError("cannot raise the limit of open files", number: error) }
        return Int(clamping: limit)
    }

    /// How many files the process has open.
    package static var openCount: Int {
        // Without the folder itself, which is open while it is read.
        FolderListing.names(in: "/proc/self/fd").map { $0.count - 1 } ?? 64
    }

    /// Whether `count` more can be opened now.
    package static func hasRoom(for count: Int) -> Bool {
        var made: [Int32] = []
        defer { for descriptor in made { close(descriptor) } }
        for _ in 0..<count {
            let descriptor = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0)
            guard descriptor >= 0 else { return false }
            made.append(descriptor)
        }
        return true
    }
}

/// How the open files that the process may have are shared out, so that no part takes what another cannot do without:
/// a connection that is one too many is turned away with a reply, a storage without a file to write to is a failure.
package struct FileBudget: Hashable, Sendable {
    /// RLIMIT_NOFILE.
    package let limit: Int

    /// A budget for so many files.
    package init(limit: Int) { self.limit = limit }

    /// Sockets of a resolver to servers.
    package var resolverSockets: Int { min(max(limit / 8, 8), 256) }
    /// Connections to the control socket.
    package var controlConnections: Int { min(max(limit / 16, 4), 32) }
    /// For the storage's files, and for what is open for a moment: files that a reload reads, connections on their way to
    /// a refusal.
    package var reserve: Int { min(max(limit / 8, 8), 64) }
    /// What a resolver has besides its sockets: pipes and events of two threads.
    package static let resolverFiles = 16

    /// What is wanted, and what there is of it.
    package struct Share: Hashable, Sendable {
        /// Connections of clients.
        package var connections: Int
        /// Connections of each relay, and attempts at once.
        package var relayConnections: Int

        /// Both numbers, one or more each.
        package init(connections: Int, relayConnections: Int) {
            self.connections = connections
            self.relayConnections = relayConnections
        }
    }

    /// What there can be of `wanted` where `inUse` files are open for good and `relays` relays have connections of
    /// their own. Each connection of a client and each attempt is counted with a second file, that of a large message, and a
    /// client's with `filters` connections more, to those who look on. nil: not even mail one by one.
    package func share(_ wanted: Share, inUse: Int, relays: Int, filters: Int = 0) -> Share? {
        let free = limit - inUse - resolverSockets - controlConnections - reserve
        let (relayCost, clientCost) = (relays + 1, filters + 2)
        guard free >= 2 * clientCost + relayCost else { return nil }
        if wanted.connections * clientCost + wanted.relayConnections * relayCost <= free { return wanted }
        let relayConnections = min(wanted.relayConnections, max(1, free / 4 / relayCost))
        return Share(
            connections: min(wanted.connections, (free - relayConnections * relayCost) / clientCost),
            relayConnections: relayConnections)
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
