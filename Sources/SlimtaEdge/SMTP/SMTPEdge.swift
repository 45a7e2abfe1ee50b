// The SMTP edge: listens, and makes a session of each connection. The composition root makes one for each `[[edge]]` of
// type "smtp", gives it sockets, reloads its settings, and drains it.

package import Logging
package import NIOCore
internal import NIOPosix
internal import SlimtaMail
package import SlimtaNet
package import SlimtaQueue
internal import SlimtaSMTP
internal import SlimtaTLS
import Synchronization

/// An edge of type "smtp". Its sessions end with their transactions when it drains.
package final class SMTPEdge: Edge {
    private struct State {
        var settings: SMTPEdgeSettings
        /// By the address as configured.
        var listeners: [String: [any Channel]] = [:]
        /// All connections, also those whose client is not known yet.
        var sessions: [ObjectIdentifier: any Channel] = [:]
        var isDraining = false
    }

    /// After no file was left for a connection: long enough to cost nothing, short enough to be no outage.
    private static let acceptPause = TimeAmount.seconds(1)

    private let state: Mutex<State>
    private let limiter: ConnectionLimiter
    private let submissions: any Submissions
    private let group: any EventLoopGroup
    private let sessionLog: SessionLog

    /// - Parameters:
    ///   - limiter: is asked for each connection; all edges share it.
    ///   - group: its event loops serve the sessions, each connection one loop.
    package init(
        settings: SMTPEdgeSettings, limiter: ConnectionLimiter, submissions: any Submissions,
        group: any EventLoopGroup, logger: Logger
    ) {
        state = Mutex(State(settings: settings))
        self.limiter = limiter
        self.submissions = submissions
        self.group = group
        sessionLog = SessionLog(logger)
    }

    /// Takes effect for sessions that begin from now on.
    package func setSettings(_ settings: SMTPEdgeSettings) { state.withLock { $0.settings = settings } }

    /// Each connection is a session on one of the event loops. Throws what the system says if the socket cannot be used.
    package func accept(on socket: ListeningSocket, address: String) async throws {
        let listener = try await ServerBootstrap(group: group)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try self.accepted(channel) }
            }
            .serverChannelInitializer { [sessionLog] channel in
                channel.eventLoop.makeCompletedFuture {
                    // What cannot be accepted stays readable: without a pause it would be tried without end.
                    let pause = AcceptBackoffHandler(shouldForwardIOErrorCaught: false) { error in
                        sessionLog.log(
                            .warning, "cannot accept connections for a moment",
                            ["address": "\(address)", "error": "\(error)"], source: nil, on: channel.eventLoop)
                        return Self.acceptPause
                    }
                    try channel.pipeline.syncOperations.addHandler(pause)
                }
            }
            .childChannelOption(.socketOption(.so_keepalive), value: 1)
            // A client that closes its side behind QUIT or the final dot gets its reply.
            .childChannelOption(.allowRemoteHalfClosure, value: true)
            // A session costs little until it has a message: few octets are read at a time, and few replies wait for a
            // client that does not read them, here and in the kernel.
            .childChannelOption(.recvAllocator, value: Self.allocatorForCommands)
            .childChannelOption(.maxMessagesPerRead, value: 1)
            .childChannelOption(.writeBufferWaterMark, value: .init(low: 1024, high: 4096))
            .childChannelOption(.socketOption(.so_sndbuf), value: 16 * 1024)
            .withBoundSocket(socket.descriptor)
            .get()
        state.withLock { $0.listeners[address, default: []].append(listener) }
    }

    private static let allocatorForCommands = AdaptiveRecvByteBufferAllocator(
        minimum: 1024, initial: 1024, maximum: 4096)
    /// A record of TLS has no more than that.
    static let allocatorForMessages = AdaptiveRecvByteBufferAllocator(minimum: 4096, initial: 16384, maximum: 16384)

    /// Closes the sockets that ``accept(on:address:)`` was given for `address`; there may be none.
    package func stopAccepting(on address: String) async {
        let listeners = state.withLock { $0.listeners.removeValue(forKey: address) } ?? []
        for listener in listeners { try? await listener.close() }
    }

    /// What holds for each connection whoever the client is: it is there for ``drain()`` and ``closeSessions()``. The
    /// settings are those of this moment. What tells the client's address goes between this and ``serve(_:on:_:)``.
    private func accepted(_ channel: any Channel) throws {
        let id = ObjectIdentifier(channel)
        let (settings, isDraining) = state.withLock { state in
            state.sessions[id] = channel
            return (state.settings, state.isDraining)
        }
        channel.closeFuture.whenComplete { _ in self.state.withLock { _ = $0.sessions.removeValue(forKey: id) } }
        let connection = ConnectionFacts(peer: channel.remoteAddress, local: channel.localAddress)
        try serve(connection, on: channel, settings)
        if isDraining { channel.pipeline.fireUserInboundEventTriggered(SMTPEdgeHandler.Event.drain) }
    }

    /// What depends on who the client is: whether there is room for it, whether it is trusted, and its session.
    private func serve(_ connection: ConnectionFacts, on channel: any Channel, _ settings: SMTPEdgeSettings) throws {
        let source = ConnectionLimiter.Source(connection.peer)
        guard limiter.enter(source) else {
            sessionLog.log(
                .info, "too many connections", ["client": "\(connection.peer)", "edge": "\(settings.name)"],
                source: source, on: channel.eventLoop)
            return try channel.pipeline.syncOperations.addHandler(
                TurnAway(saying: settings.server.tls == .immediate ? nil : settings.server.hostname))
        }
        channel.closeFuture.whenComplete { _ in self.limiter.leave(source) }
        if connection.peer.address != nil {
            // Replies are written whole: nothing is gained by waiting for more.
            channel.setOption(.tcpOption(.tcp_nodelay), value: 1).whenFailure { _ in }
        }
        if settings.server.tls == .immediate, let tls = settings.tls {
            try channel.pipeline.syncOperations.addHandler(TLSHandler(server: tls, keepsWriting: true))
        }
        let handler = SMTPEdgeHandler(
            settings: settings, submissions: submissions, connection: connection, log: sessionLog)
        try channel.pipeline.syncOperations.addHandler(handler)
    }

    /// Sessions between transactions get 421 4.3.2 now, the others behind the reply to theirs (RFC 5321 section 3.8).
    package func drain() async {
        let (listeners, sessions) = state.withLock { state in
            state.isDraining = true
            defer { state.listeners = [:] }
            return (state.listeners.values.joined(), Array(state.sessions.values))
        }
        for listener in listeners { try? await listener.close() }
        for session in sessions { session.pipeline.fireUserInboundEventTriggered(SMTPEdgeHandler.Event.drain) }
    }

    /// Connections that are being turned away are among them.
    package var sessionCount: Int { state.withLock { $0.sessions.count } }

    /// Closes all connections, in the middle of whatever they do.
    package func closeSessions() async {
        // All at once: one whose peer does not read takes its time.
        let closings = state.withLock { Array($0.sessions.values) }.map { $0.close() }
        for closing in closings { try? await closing.get() }
    }
}

/// The whole session of a connection that is one too many.
private final class TurnAway: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    /// Our name; nil where TLS comes first, and a reply could not be read.
    private let hostname: String?

    init(saying hostname: String?) { self.hostname = hostname }

    func channelActive(context: ChannelHandlerContext) {
        guard let hostname else { return context.close(promise: nil) }
        let reply = ByteBuffer(string: "421 4.7.0 \(hostname) Too many connections\r\n")
        context.writeAndFlush(wrapOutboundOut(reply)).assumeIsolated().whenComplete { _ in context.close(promise: nil) }
    }
}
