// Who is at the other end of a connection, for whoever answers over HTTP: addresses, and of a UNIX socket what the kernel
// says.

package import NIOCore
package import SlimtaMail

/// Who is at the other end of a connection.
package struct HTTPPeer: Sendable {
    /// A process at the other end of a UNIX socket: as the kernel says, not as the client does.
    package struct Process: Hashable, Sendable {
        /// The effective user when it connected.
        package var uid: UInt32
        /// It may have ended since, and the number be another's.
        package var pid: Int32
        /// The groups that it has: with more than 64 only its own, and the superuser's only as its own.
        package var groups: [UInt32]

        /// One that is known otherwise than from a socket: in tests.
        package init(uid: UInt32, pid: Int32, groups: [UInt32] = []) {
            self.uid = uid
            self.pid = pid
            self.groups = groups
        }
    }

    /// Addresses of both ends, and TLS when it is there.
    package let connection: ConnectionFacts
    /// Who has the other end of a UNIX socket; nil for a TCP connection.
    package let process: Process?

    /// Who was accepted by somebody else than the server.
    package init(connection: ConnectionFacts, process: Process?) {
        self.connection = connection
        self.process = process
    }

    /// Who has the other end of `channel`, of which `connection` tells the addresses. Fails if it is gone already.
    package static func of(_ connection: ConnectionFacts, on channel: any Channel) -> EventLoopFuture<HTTPPeer> {
        guard connection.local == .unix else {
            return channel.eventLoop.makeSucceededFuture(HTTPPeer(connection: connection, process: nil))
        }
        return process(channel).map { HTTPPeer(connection: connection, process: $0) }
    }

    /// `struct ucred` of the kernel.
    private struct Credentials: Sendable {
        var pid: Int32
        var uid: UInt32
        var gid: UInt32
    }

    /// SO_PEERCRED and SO_PEERGROUPS, which Swift's Glibc does not show.
    private static let (credentials, groups) = (
        NIOBSDSocket.Option(rawValue: 17), NIOBSDSocket.Option(rawValue: 59)
    )

    /// Asks the kernel.
    private static func process(_ channel: any Channel) -> EventLoopFuture<Process> {
        guard let options = channel as? any SocketOptionProvider else {
            preconditionFailure("a socket has socket options")
        }
        let found: EventLoopFuture<Credentials> = options.unsafeGetSocketOption(level: .socket, name: credentials)
        // With more groups than fit there is an error, and none of them counts; with fewer the rest is 0.
        let groups: EventLoopFuture<SIMD64<UInt32>> = options.unsafeGetSocketOption(level: .socket, name: groups)
        return found.and(groups.recover { _ in SIMD64() }).map { found, groups in
            Process(
                uid: found.uid, pid: found.pid,
                groups: [found.gid] + groups.indices.map { groups[$0] }.filter { $0 != 0 })
        }
    }
}
