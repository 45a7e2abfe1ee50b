// The HTTP edge: messages that are posted. The composition root makes one for each `[[edge]]` that speaks HTTP, gives it
// sockets, reloads its settings, and drains it.

package import Logging
package import NIOCore
internal import SlimtaMail
package import SlimtaNet
package import SlimtaQueue
internal import SlimtaTLS
import Synchronization

/// An edge that speaks HTTP: each connection is served by `HTTPServer`, each request answered by the resource of its path.
package final class HTTPEdge: Edge {
    private let connections: EdgeConnections<HTTPSessions>
    private let shared: HTTPSessions

    /// - Parameters:
    ///   - limiter: is asked for each connection; all edges share it.
    ///   - group: its event loops serve the connections, each one loop.
    package init(
        settings: HTTPEdgeSettings, limiter: ConnectionLimiter, submissions: any Submissions & SubmissionStates,
        group: any EventLoopGroup, logger: Logger
    ) {
        let log = SessionLog(logger)
        shared = HTTPSessions(
            settings, limiter: limiter, submissions: submissions, log: log, eventLoop: group.any())
        connections = EdgeConnections(shared, settings, limiter: limiter, group: group, log: log)
    }

    /// Takes effect for requests that come from now on; what concerns a connection itself for those that begin then.
    package func setSettings(_ settings: HTTPEdgeSettings) {
        shared.settings.withLock { $0 = settings }
        connections.settings = settings
    }

    /// Each connection is served on one of the event loops. Throws what the system says if the socket cannot be used.
    package func accept(on socket: ListeningSocket, address: String) async throws {
        try await connections.accept(on: socket, address: address)
    }

    /// Closes the sockets that ``accept(on:address:)`` was given for `address`; there may be none.
    package func stopAccepting(on address: String) async { await connections.stopAccepting(on: address) }

    /// Connections without a request end now, the others behind the answer to theirs.
    package func drain() async { await connections.drain() }

    /// Connections that are being turned away are among them.
    package var sessionCount: Int { connections.count }

    /// Closes all connections, in the middle of whatever they do.
    package func closeSessions() async { await connections.closeSessions() }
}

/// HTTP on the connections of an edge: what they share.
final class HTTPSessions: EdgeProtocol, HTTPService {
    let settings: Mutex<HTTPEdgeSettings>
    private let limiter: ConnectionLimiter
    private let submissions: any Submissions & SubmissionStates
    private let keys: SubmissionKeys
    private let inProgress = SubmissionsInProgress()
    private let log: SessionLog
    /// Where what was left out of the log is summed up.
    private let eventLoop: any EventLoop
    /// How many that are one too many are being told so.
    private let turnedAway = Mutex(0)

    /// Who is told, at most so many at a time; the others are closed at once.
    private static let turnedAwayLimit = 16

    init(
        _ settings: HTTPEdgeSettings, limiter: ConnectionLimiter, submissions: any Submissions & SubmissionStates,
        log: SessionLog, eventLoop: any EventLoop
    ) {
        self.limiter = limiter
        self.eventLoop = eventLoop
        self.settings = Mutex(settings)
        self.submissions = submissions
        keys = SubmissionKeys(submissions)
        self.log = log
    }

    // MARK: Connections

    func serve(
        _ connection: ConnectionFacts, on channel: any Channel, _ settings: HTTPEdgeSettings
    ) throws -> EventLoopFuture<Void> {
        HTTPPeer.of(connection, on: channel).flatMapThrowing { peer in
            guard self.admit(peer, on: channel, settings) else {
                return try self.turnAway(on: channel, settings, .tooManyConnections)
            }
            try HTTPServer.serve(channel, peer, self, settings.limits, tls: settings.tls)
        }
    }

    /// Where the kernel says whose a connection is, a user may have as many as an address: else one could take them all.
    private func admit(_ peer: HTTPPeer, on channel: any Channel, _ settings: HTTPEdgeSettings) -> Bool {
        guard case .process = settings.authenticator, let process = peer.process else { return true }
        let source = ConnectionLimiter.Source(user: process.uid)
        guard limiter.admit(source) else {
            log.log(
                .info, "too many connections",
                ["client": "\(peer.connection.peer)", "edge": "\(settings.name)", "user": "\(process.uid)"],
                source: source, on: channel.eventLoop)
            return false
        }
        channel.closeFuture.whenComplete { _ in self.limiter.dismiss(source) }
        return true
    }

    func turnAway(on channel: any Channel, _ settings: HTTPEdgeSettings, _ reply: Reply?) throws {
        let mayBeTold = turnedAway.withLock { count in
            guard reply != nil, settings.tls == nil, count < Self.turnedAwayLimit else { return false }
            count += 1
            return true
        }
        if mayBeTold { channel.closeFuture.whenComplete { _ in self.turnedAway.withLock { $0 -= 1 } } }
        try channel.pipeline.syncOperations.addHandler(HTTPTurnAway(saying: mayBeTold ? reply : nil))
    }

    func drain(_ channel: any Channel) {
        HTTPServer.drain(channel)
        inProgress.endDelays()
    }

    // MARK: Requests

    func respond(to request: HTTPRequest, body: HTTPBody) async throws -> HTTPResponse {
        let exchange = HTTPExchange(
            request, settings: settings.withLock { $0 }, submissions: submissions, keys: keys,
            inProgress: inProgress, log: log)
        guard let path = HTTPTarget(request.target)?.path else {
            return exchange.turnDown(400, "the request's target cannot be read")
        }
        guard let resource = exchange.settings.resources.first(where: { $0.answers(path) }) else {
            return exchange.turnDown(404, "nothing is at this path")
        }
        return try await resource.respond(to: exchange, body: body)
    }

    func noticed(_ event: HTTPServerEvent) {
        switch event {
        case .tooMany, .refused: break  // Connections are counted, and turned away, before there is HTTP.
        case .malformed(let peer, let status, let reason):
            lines(peer).log(
                .info, "HTTP request refused", ["status": "\(status)", "reason": "\(reason)"], login: nil,
                on: eventLoop)
        case .broken(let peer?, let error):
            // Who goes away in the middle is most often nobody's fault.
            let isGone =
                error is IOError || error is ChannelError || error is HTTPBody.Broken
                || (error as? TLSError)?.code == .closed
            lines(peer).log(
                isGone ? .debug : .info, "connection failed", ["error": "\(error.connectionReason)"], login: nil,
                on: eventLoop)
        case .broken(nil, _): break
        }
    }

    private func lines(_ peer: HTTPPeer) -> SessionLines {
        SessionLines(log, edge: settings.withLock { $0.name }, peer.connection)
    }
}

/// The whole session of a client that is turned away: told so, whatever it asks, and read for a moment, so that it
/// sees the answer (RFC 9112 section 9.6).
private final class HTTPTurnAway: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private static let patience = TimeAmount.seconds(2)

    private static func answer(_ reply: Reply) -> String {
        "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n"
            + "Retry-After: \(HTTPReply.retryAfter)\r\n\(HTTPReply.fieldName): \(HTTPReply.field(reply))\r\n\r\n"
    }

    /// nil: nothing is said.
    private let reply: Reply?
    private var deadline: Scheduled<Void>?

    init(saying reply: Reply?) { self.reply = reply }

    /// Behind a proxy's header the channel is active already.
    func handlerAdded(context: ChannelHandlerContext) {
        if context.channel.isActive { turnAway(context) }
    }

    func channelActive(context: ChannelHandlerContext) { turnAway(context) }

    private func turnAway(_ context: ChannelHandlerContext) {
        guard deadline == nil else { return }
        guard let reply else { return context.close(promise: nil) }
        deadline = context.eventLoop.assumeIsolated().scheduleTask(in: Self.patience) { context.close(promise: nil) }
        context.writeAndFlush(wrapOutboundOut(ByteBuffer(string: Self.answer(reply))), promise: nil)
        context.close(mode: .output, promise: nil)
    }

    /// Nothing of it is for anybody.
    func channelRead(context: ChannelHandlerContext, data: NIOAny) {}

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case ChannelEvent.inputClosed = event { context.close(promise: nil) }
    }

    func channelInactive(context: ChannelHandlerContext) {
        deadline?.cancel()
        context.fireChannelInactive()
    }
}
