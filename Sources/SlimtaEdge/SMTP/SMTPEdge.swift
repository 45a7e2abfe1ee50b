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
    /// settings are those of this moment.
    private func accepted(_ channel: any Channel) throws {
        let id = ObjectIdentifier(channel)
        let (settings, isDraining) = state.withLock { state in
            state.sessions[id] = channel
            return (state.settings, state.isDraining)
        }
        channel.closeFuture.whenComplete { _ in self.state.withLock { _ = $0.sessions.removeValue(forKey: id) } }
        let connection = ConnectionFacts(peer: channel.remoteAddress, local: channel.localAddress)
        if let proxy = connection.peer.address, settings.proxies.contains(where: { $0.contains(proxy) }) {
            try awaitHeader(connection, from: proxy, on: channel, settings)
        } else {
            let source = ConnectionLimiter.Source(connection.peer)
            if limiter.enter(source) {
                channel.closeFuture.whenComplete { _ in self.limiter.leave(source) }
                try serve(connection, on: channel, settings)
            } else {
                try turnAway(connection, on: channel, settings)
            }
        }
        if isDraining { Self.drain(channel) }
    }

    /// What comes from a proxy is nobody's until the header says who the client is: then that one is counted and served.
    private func awaitHeader(
        _ connection: ConnectionFacts, from proxy: IPAddress, on channel: any Channel, _ settings: SMTPEdgeSettings
    ) throws {
        guard limiter.enter(behind: proxy) else {
            // Whoever the client is: before the header nothing may be said to it.
            return try turnAway(connection, on: channel, settings, inSilence: true)
        }
        let client = NIOLoopBoundBox<ConnectionLimiter.Source?>(nil, eventLoop: channel.eventLoop)
        channel.closeFuture.whenComplete { _ in self.limiter.leave(client.value, behind: proxy) }
        let handler = ProxyHandler(timeout: settings.handshakeTimeout) { outcome in
            guard case .header(let header) = outcome else {
                return self.log(outcome, connection, on: channel, settings)
            }
            let connection = header.facts(of: connection)
            let source = ConnectionLimiter.Source(connection.peer)
            do {
                guard self.limiter.admit(source) else {
                    return try self.turnAway(connection, on: channel, settings)
                }
                client.value = source
                try self.serve(connection, on: channel, settings)
            } catch {
                channel.close(promise: nil)
            }
        }
        try channel.pipeline.syncOperations.addHandler(handler)
    }

    /// A proxy's connection has ended without a header. Proxies look whether we are there by connecting and going away,
    /// some without the header: that is nothing to tell.
    private func log(
        _ outcome: ProxyHandler.Outcome, _ connection: ConnectionFacts, on channel: any Channel,
        _ settings: SMTPEdgeSettings
    ) {
        let source = ConnectionLimiter.Source(connection.peer)
        var fields: Logger.Metadata = ["proxy": "\(connection.peer)", "edge": "\(settings.name)"]
        switch outcome {
        case .header: return
        case .malformed(let error):
            fields["error"] = "\(error)"
            sessionLog.log(.info, "no valid PROXY header", fields, source: source, on: channel.eventLoop)
        case .none(let reason, let hasBegun):
            fields["reason"] = "\(reason)"
            sessionLog.log(
                hasBegun ? .info : .debug, "no PROXY header", fields, source: source, on: channel.eventLoop)
        }
    }

    /// There is no room for the client.
    private func turnAway(
        _ connection: ConnectionFacts, on channel: any Channel, _ settings: SMTPEdgeSettings, inSilence: Bool = false
    ) throws {
        var fields: Logger.Metadata = ["client": "\(connection.peer)", "edge": "\(settings.name)"]
        if let proxy = connection.proxy { fields["proxy"] = "\(proxy.endpoint)" }
        sessionLog.log(
            .info, "too many connections", fields, source: ConnectionLimiter.Source(connection.peer),
            on: channel.eventLoop)
        let isSilent = inSilence || settings.server.tls == .immediate
        try channel.pipeline.syncOperations.addHandler(TurnAway(saying: isSilent ? nil : settings.server.hostname))
    }

    /// What depends on who the client is, for which there is room: whether it is trusted, and its session.
    private func serve(_ connection: ConnectionFacts, on channel: any Channel, _ settings: SMTPEdgeSettings) throws {
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
        for session in sessions { Self.drain(session) }
    }

    /// Tells whichever handlers are there: either that of the session, or the one that waits for a proxy's header.
    private static func drain(_ channel: any Channel) {
        channel.pipeline.fireUserInboundEventTriggered(ProxyHandler.Event.stop)
        channel.pipeline.fireUserInboundEventTriggered(SMTPEdgeHandler.Event.drain)
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

    /// Behind a proxy's header the channel is active already.
    func handlerAdded(context: ChannelHandlerContext) {
        if context.channel.isActive { turnAway(context) }
    }

    func channelActive(context: ChannelHandlerContext) { turnAway(context) }

    private func turnAway(_ context: ChannelHandlerContext) {
        guard let hostname else { return context.close(promise: nil) }
        let reply = ByteBuffer(string: "421 4.7.0 \(hostname) Too many connections\r\n")
        context.writeAndFlush(wrapOutboundOut(reply)).assumeIsolated().whenComplete { _ in context.close(promise: nil) }
    }
}
