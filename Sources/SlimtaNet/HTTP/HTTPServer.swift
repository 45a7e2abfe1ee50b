// HTTP/1.1 for whoever serves something: sockets, limits, times and who is at the other end are the server's, what is
// answered is the service's. The control socket is one.
//
// Every connection is a task that asks the service about one request after another (HTTPConnection); octets and times
// are watched in the channel (HTTPHandlers).

package import NIOCore
import NIOHTTP1
import NIOPosix
import SlimtaMail
import Synchronization

/// An HTTP server.
package final class HTTPServer: Sendable {
    private let service: any HTTPService
    private let access: any HTTPAccess
    private let limits: HTTPLimits
    private let group: any EventLoopGroup
    /// Connections of those who were admitted, and of all others.
    private let connections = Mutex((admitted: 0, refused: 0))

    /// A server that listens nowhere yet. `limits` are for all sockets that it is run on together.
    package init(
        service: any HTTPService, access: any HTTPAccess, limits: HTTPLimits, group: any EventLoopGroup
    ) {
        self.service = service
        self.access = access
        self.limits = limits
        self.group = group
    }

    /// Serves `socket`, which is closed in the end, until the task is cancelled: requests that have been read are still
    /// answered, within seconds. Can be called for several sockets; the limits are for all of them. Throws what the
    /// socket's event loop says when it cannot go on.
    package func run(on socket: ListeningSocket) async throws {
        let open = OpenChannels()
        // Also those that were accepted when nobody took them any more.
        defer { open.close() }
        let listener = try await ServerBootstrap(group: group)
            .bind(socket.descriptor) { channel in
                open.add(channel)
                return self.accepted(channel)
            }
        try await listener.executeThenClose { connections in
            try await withThrowingDiscardingTaskGroup { tasks in
                for try await connection in connections {
                    guard let connection else { continue }
                    tasks.addTask { await connection.serve(self.service, self.limits) }
                }
            }
        }
    }

    /// Finds out who it is. nil: it is one too many, and is closed.
    private func accepted(_ channel: any Channel) -> EventLoopFuture<HTTPConnection?> {
        let facts = ConnectionFacts(peer: channel.remoteAddress, local: channel.localAddress)
        let process: EventLoopFuture<HTTPPeer.Process?> =
            facts.local == .unix ? Self.process(channel).map { $0 } : channel.eventLoop.makeSucceededFuture(nil)
        let connection = process.flatMapThrowing { process -> HTTPConnection? in
            let peer = HTTPPeer(connection: facts, process: process)
            let admission = self.access.admit(peer)
            guard self.enter(admission) else {
                self.service.noticed(.tooMany(limit: self.limit(admission)))
                channel.close(promise: nil)
                return nil
            }
            channel.closeFuture.whenComplete { _ in self.leave(admission) }
            return HTTPConnection(channel: try self.configured(channel), peer: peer, admission: admission)
        }
        // An error here would end the listener: one client that is gone already must not take the socket away.
        return connection.flatMapError { error in
            self.service.noticed(.broken(nil, error))
            return channel.close().recover { _ in }.map { nil }
        }
    }

    private func configured(
        _ channel: any Channel
    ) throws -> NIOAsyncChannel<HTTPServerRequestPart, HTTPServerHandler.ResponsePart> {
        let pipeline = channel.pipeline.syncOperations
        let meter = HTTPMeter(limit: limits.head)
        try pipeline.addHandler(meter)
        var decoder = NIOHTTPDecoderLimitConfiguration()
        (decoder.maxHeaderFieldSize, decoder.maxHeaderListSize) = (limits.head, limits.head)
        try pipeline.configureHTTPServerPipeline(
            withErrorHandling: false, withEncoderConfiguration: .init(), withDecoderLimitConfiguration: decoder)
        try pipeline.addHandler(HTTPServerHandler(limits, meter))
        return try NIOAsyncChannel(wrappingChannelSynchronously: channel)
    }

    // MARK: counting

    private func limit(_ admission: HTTPAdmission) -> Int {
        switch admission {
        case .admitted: limits.connections
        case .refused: limits.refusals
        }
    }

    /// Counts a connection; false, and not counted, if there are too many of its kind.
    private func enter(_ admission: HTTPAdmission) -> Bool {
        connections.withLock { count in
            switch admission {
            case .admitted:
                guard count.admitted < limits.connections else { return false }
                count.admitted += 1
            case .refused:
                guard count.refused < limits.refusals else { return false }
                count.refused += 1
            }
            return true
        }
    }

    private func leave(_ admission: HTTPAdmission) {
        connections.withLock { count in
            switch admission {
            case .admitted: count.admitted -= 1
            case .refused: count.refused -= 1
            }
        }
    }

    // MARK: who it is

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

    /// Asks the kernel who has the other end of a UNIX socket.
    private static func process(_ channel: any Channel) -> EventLoopFuture<HTTPPeer.Process> {
        guard let options = channel as? any SocketOptionProvider else {
            preconditionFailure("a socket has socket options")
        }
        let found: EventLoopFuture<Credentials> = options.unsafeGetSocketOption(level: .socket, name: credentials)
        // With more groups than fit there is an error, and none of them counts; with fewer the rest is 0.
        let groups: EventLoopFuture<SIMD64<UInt32>> = options.unsafeGetSocketOption(level: .socket, name: groups)
        return found.and(groups.recover { _ in SIMD64() }).map { found, groups in
            HTTPPeer.Process(
                uid: found.uid, pid: found.pid,
                groups: [found.gid] + groups.indices.map { groups[$0] }.filter { $0 != 0 })
        }
    }
}

/// The channels of a listening socket: none outlives it.
private final class OpenChannels: Sendable {
    /// nil: closed.
    private let channels = Mutex<[ObjectIdentifier: any Channel]?>([:])

    func add(_ channel: any Channel) {
        let isOpen = channels.withLock { channels in
            channels?[ObjectIdentifier(channel)] = channel
            return channels != nil
        }
        guard isOpen else { return channel.close(promise: nil) }
        channel.closeFuture.whenComplete { [self] _ in
            channels.withLock { $0?[ObjectIdentifier(channel)] = nil }
        }
    }

    func close() {
        let left = channels.withLock { channels in
            defer { channels = nil }
            return channels ?? [:]
        }
        for channel in left.values { channel.close(promise: nil) }
    }
}
