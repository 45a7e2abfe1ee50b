// The control socket: HTTP/1.1 over a UNIX socket, for those who may control the daemon. The composition root gives it
// the socket and a service, and runs it; what the requests mean is the service's.

package import Logging
package import NIOCore
import NIOHTTP1
import NIOPosix
import SlimtaNet
import Synchronization

/// Serves the control socket.
package final class ControlServer: Sendable {
    /// Who may ask: root, these users, and whoever has this group.
    package struct Access: Hashable, Sendable {
        package var users: Set<UInt32>
        package var group: UInt32?

        package init(users: Set<UInt32>, group: UInt32?) {
            self.users = users
            self.group = group
        }

        /// Whether a peer may. `groups` are those of its process.
        func allows(uid: UInt32, groups: [UInt32]) -> Bool {
            uid == 0 || users.contains(uid) || group.map(groups.contains) ?? false
        }
    }

    /// What a client may take. The control socket must not be a way to harm the daemon.
    package struct Limits: Hashable, Sendable {
        package var connections = 32
        /// Of those who may not ask, and are told so: counted by themselves, so that they keep nobody out.
        package var strangers = 4
        /// Octets of a request: line, header and body; and of requests that are sent before the one before is answered.
        package var request = 64 << 10
        /// From the beginning of a connection, or the last answer, to a whole request.
        package var requestTimeout = TimeAmount.seconds(30)
        /// How long a client may read nothing of an answer.
        package var answerTimeout = TimeAmount.seconds(30)

        package init() {}
    }

    private struct Connection: Sendable {
        let channel: NIOAsyncChannel<HTTPServerRequestPart, ControlHandler.ResponsePart>
        let peer: ControlPeer
        let isAllowed: Bool
    }

    private let service: any ControlService
    private let access: Access
    private let limits: Limits
    private let group: any EventLoopGroup
    private let logger: Logger
    /// Connections of those who may ask, and of all others.
    private let connections = Mutex((allowed: 0, strangers: 0))

    package init(
        service: any ControlService, access: Access, limits: Limits = Limits(), group: any EventLoopGroup,
        logger: Logger
    ) {
        self.service = service
        self.access = access
        self.limits = limits
        self.group = group
        self.logger = logger
    }

    /// Serves `descriptor`, a UNIX socket that is bound and listens, until the task is cancelled; then closes it.
    package func run(on descriptor: CInt) async {
        do {
            try await listen(on: descriptor)
        } catch is CancellationError {
            // The end.
        } catch {
            logger.error("the control socket failed", metadata: ["error": "\(error)"])
        }
    }

    private func listen(on descriptor: CInt) async throws {
        let listener = try await ServerBootstrap(group: group)
            .bind(descriptor) { channel in self.accepted(channel) }
        try await listener.executeThenClose { connections in
            try await withThrowingDiscardingTaskGroup { tasks in
                for try await connection in connections {
                    guard let connection else { continue }
                    tasks.addTask { await self.serve(connection) }
                }
            }
        }
    }

    // MARK: a connection

    /// Asks the kernel who it is. nil: it is one too many, and is closed.
    private func accepted(_ channel: any Channel) -> EventLoopFuture<Connection?> {
        guard let options = channel as? any SocketOptionProvider else {
            preconditionFailure("a socket has socket options")
        }
        let credentials: EventLoopFuture<PeerCredentials> = options.unsafeGetSocketOption(
            level: .socket, name: PeerCredentials.option)
        // With more groups than fit there is an error, and none of them counts.
        let groups: EventLoopFuture<SIMD64<UInt32>> = options.unsafeGetSocketOption(
            level: .socket, name: PeerCredentials.groupsOption)
        let connection = credentials.and(groups.recover { _ in SIMD64() }).flatMapThrowing {
            (credentials, groups) -> Connection? in
            let groups = [credentials.gid] + groups.indices.map { groups[$0] }
            let isAllowed = self.access.allows(uid: credentials.uid, groups: groups)
            guard self.enter(isAllowed) else {
                self.logger.warning(
                    "too many connections to the control socket",
                    metadata: ["limit": "\(isAllowed ? self.limits.connections : self.limits.strangers)"])
                channel.close(promise: nil)
                return nil
            }
            channel.closeFuture.whenComplete { _ in self.leave(isAllowed) }
            let meter = ControlMeter(limit: self.limits.request)
            try channel.pipeline.syncOperations.addHandler(meter)
            try channel.pipeline.syncOperations.configureHTTPServerPipeline(
                withEncoderConfiguration: .init(), withDecoderLimitConfiguration: self.decoderLimits)
            try channel.pipeline.syncOperations.addHandler(ControlHandler(self.limits, meter))
            return Connection(
                channel: try NIOAsyncChannel(wrappingChannelSynchronously: channel),
                peer: ControlPeer(uid: credentials.uid, pid: credentials.pid), isAllowed: isAllowed)
        }
        // An error here would end the listener: one client that is gone already must not take the socket away.
        return connection.flatMapError { error in
            self.logger.debug("control connection ended", metadata: ["error": "\(error)"])
            return channel.close().recover { _ in }.map { nil }
        }
    }

    /// Counts a connection; false, and not counted, if there are too many of its kind.
    private func enter(_ isAllowed: Bool) -> Bool {
        connections.withLock { count in
            if isAllowed {
                guard count.allowed < limits.connections else { return false }
                count.allowed += 1
            } else {
                guard count.strangers < limits.strangers else { return false }
                count.strangers += 1
            }
            return true
        }
    }

    private func leave(_ isAllowed: Bool) {
        connections.withLock { if isAllowed { $0.allowed -= 1 } else { $0.strangers -= 1 } }
    }

    private var decoderLimits: NIOHTTPDecoderLimitConfiguration {
        var decoder = NIOHTTPDecoderLimitConfiguration()
        decoder.maxHeaderFieldSize = limits.request
        return decoder
    }

    private func serve(_ connection: Connection) async {
        do {
            try await connection.channel.executeThenClose { parts, writer in
                var head: HTTPRequestHead?
                for try await part in parts {
                    switch part {
                    case .head(let request): head = request
                    case .body: break  // counted by the meter, and of no use
                    case .end:
                        guard let request = head else { return }
                        let isLast = try await self.answer(request, connection, writer)
                        if isLast { return }
                    }
                }
            }
        } catch {
            // A client that went away, or sent what is not HTTP: its own affair.
            logger.debug(
                "control connection ended", metadata: ["uid": "\(connection.peer.uid)", "error": "\(error)"])
        }
    }

    /// Answers a request; whether the connection ends with that.
    private func answer(
        _ head: HTTPRequestHead, _ connection: Connection,
        _ writer: NIOAsyncChannelOutboundWriter<ControlHandler.ResponsePart>
    ) async throws -> Bool {
        let response = await response(to: head, connection)
        defer { response.afterwards() }
        let isLast = !head.isKeepAlive || !connection.isAllowed
        var headers = HTTPHeaders()
        if isLast { headers.add(name: "Connection", value: "close") }
        let status = HTTPResponseStatus(statusCode: response.status)
        switch response.content {
        case .json(let json):
            var octets: [UInt8] = []
            json.write(to: &octets)
            octets.append(UInt8(ascii: "\n"))
            headers.add(name: "Content-Type", value: "application/json")
            headers.add(name: "Content-Length", value: "\(octets.count)")
            try await writer.write(.head(HTTPResponseHead(version: .http1_1, status: status, headers: headers)))
            try await writer.write(.body(ByteBuffer(bytes: octets)))
        case .octets(let type, let next):
            headers.add(name: "Content-Type", value: type)
            headers.add(name: "Transfer-Encoding", value: "chunked")
            try await writer.write(.head(HTTPResponseHead(version: .http1_1, status: status, headers: headers)))
            while let octets = try await next() { try await writer.write(.body(octets)) }
        }
        try await writer.write(.end(nil))
        return isLast
    }

    private func response(to head: HTTPRequestHead, _ connection: Connection) async -> ControlResponse {
        guard connection.isAllowed else {
            logger.warning(
                "control refused", metadata: ["uid": "\(connection.peer.uid)", "pid": "\(connection.peer.pid)"])
            return .error(403, "only root, the service's user and members of the group slimtad-admin may do this")
        }
        guard let method = ControlRequest.Method(rawValue: head.method.rawValue) else {
            return .error(405, "the method is GET to look and POST to change something")
        }
        guard let request = ControlRequest(method: method, target: head.uri, peer: connection.peer) else {
            return .error(400, "the request's target cannot be read")
        }
        return await service.respond(to: request)
    }
}

/// `struct ucred` of the kernel.
private struct PeerCredentials: Sendable {
    var pid: Int32
    var uid: UInt32
    var gid: UInt32

    /// SO_PEERCRED and SO_PEERGROUPS, which Swift's Glibc does not show.
    static let option = NIOBSDSocket.Option(rawValue: 17)
    static let groupsOption = NIOBSDSocket.Option(rawValue: 59)
}
