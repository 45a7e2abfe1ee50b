// HTTP/1.1 for whoever serves something: sockets, limits, times and who is at the other end are the server's, what is
// answered is the service's. The control socket is one.
//
// Every connection is a task that asks the service about one request after another (HTTPConnection); octets and times
// are watched in the channel (HTTPMeter, HTTPServerHandler).

package import NIOCore
import NIOPosix
import SlimtaMail
package import SlimtaTLS
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
                    tasks.addTask(executorPreference: connection.executor) {
                        await connection.serve(self.service, self.limits)
                    }
                }
            }
        }
    }

    /// Serves a connection that somebody else has accepted, and answers for: an edge, which counts them and knows proxies. To
    /// be called on its event loop; returns at once.
    ///
    /// - Parameters:
    ///   - channel: with nothing in its pipeline that what it reads would have to pass.
    ///   - tls: nil: in clear.
    package static func serve(
        _ channel: any Channel, _ peer: HTTPPeer, _ service: any HTTPService, _ limits: HTTPLimits,
        tls: TLSServerContext?
    ) throws {
        let connection = try HTTPConnection(on: channel, peer, .admitted, limits, tls: tls)
        Task(executorPreference: connection.executor) { await connection.serve(service, limits) }
    }

    /// Has a connection end that ``serve(_:_:_:_:tls:)`` was given: when the request that has begun is answered, or now.
    package static func drain(_ channel: any Channel) {
        channel.pipeline.fireUserInboundEventTriggered(HTTPServerHandler.Event.drain)
    }

    /// Finds out who it is. nil: it is one too many, and is closed.
    private func accepted(_ channel: any Channel) -> EventLoopFuture<HTTPConnection?> {
        let facts = ConnectionFacts(peer: channel.remoteAddress, local: channel.localAddress)
        let connection = HTTPPeer.of(facts, on: channel).flatMapThrowing { peer -> HTTPConnection? in
            let admission = self.access.admit(peer)
            guard self.enter(admission) else {
                self.service.noticed(.tooMany(limit: self.limit(admission)))
                channel.close(promise: nil)
                return nil
            }
            channel.closeFuture.whenComplete { _ in self.leave(admission) }
            return try HTTPConnection(on: channel, peer, admission, self.limits)
        }
        // An error here would end the listener: one client that is gone already must not take the socket away.
        return connection.flatMapError { error in
            self.service.noticed(.broken(nil, error))
            return channel.close().recover { _ in }.map { nil }
        }
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
