// The SMTP edge: listens, and makes a session of each connection. The composition root makes one for each `[[edge]]` of
// type "smtp", gives it sockets, reloads its settings, and drains it.

package import Logging
package import NIOCore
internal import NIOPosix
package import SlimtaMail
package import SlimtaQueue
package import SlimtaSMTP
package import SlimtaTLS
import Synchronization

/// What the sessions of an edge are like. A session keeps the settings that it began with.
package struct SMTPEdgeSettings: Sendable {
    /// The edge's name, for logs.
    package var name: String
    package var server: SMTPServerConfiguration
    /// nil: no TLS.
    package var tls: TLSServerContext?
    /// nil: no AUTH.
    package var credentials: (any CredentialBackend)?
    /// Who may send without AUTH.
    package var trust: ClientTrust
    package var commandTimeout: TimeAmount
    /// How slow the content of a message may come.
    package var transfer: TransferWatch.Limits
    /// For the whole content of a message, however fast it comes; nil: as long as it takes.
    package var dataTimeout: TimeAmount?
    package var handshakeTimeout: TimeAmount

    package init(
        name: String, server: SMTPServerConfiguration, tls: TLSServerContext?,
        credentials: (any CredentialBackend)?, trust: ClientTrust,
        commandTimeout: TimeAmount = .minutes(5),
        transfer: TransferWatch.Limits = .init(leastRate: 1024, stallTimeout: .minutes(3)),
        dataTimeout: TimeAmount? = nil, handshakeTimeout: TimeAmount = .seconds(30)
    ) {
        self.name = name
        self.server = server
        self.tls = tls
        self.credentials = credentials
        self.trust = trust
        self.commandTimeout = commandTimeout
        self.transfer = transfer
        self.dataTimeout = dataTimeout
        self.handshakeTimeout = handshakeTimeout
    }
}

/// What an edge hands messages to.
package protocol Submissions: Sendable {
    /// Asked at MAIL: the reply that says that nothing, or nothing of this size, can be taken now; nil if it can.
    func refusal(size: Int?) -> Reply?

    /// Begins the file of a large message.
    func beginSpool(_ id: QueueID) -> any SpoolWriter

    /// Applies policies, makes the message durable, and says what the client is told. `completion` is called once, on
    /// any thread.
    func submit(
        _ envelope: Envelope, _ message: Message, session: String, completion: @escaping @Sendable (Reply) -> Void)
}

extension Reply {
    /// What a client is told when the storage could not take its message.
    package init(storing error: StorageError) {
        switch error {
        case .full: self.init(452, .init(4, 3, 1), "Insufficient system storage")
        case .failed, .notFound, .damaged: self.init(451, .init(4, 3, 0), "Error queuing message")
        case .closed: self.init(421, .init(4, 3, 2), "Service shutting down")
        }
    }
}

/// An edge of type "smtp".
package final class SMTPEdge: Sendable {
    private struct State {
        var settings: SMTPEdgeSettings
        /// By the address as configured.
        var listeners: [String: [any Channel]] = [:]
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

    /// Accepts connections on `socket`, which is bound and listening; the edge owns it from now on.
    ///
    /// - Parameter address: the address as configured, for ``stopAccepting(on:)``.
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

    /// Accepts no more connections on one address; sessions go on.
    package func stopAccepting(on address: String) async {
        let listeners = state.withLock { $0.listeners.removeValue(forKey: address) } ?? []
        for listener in listeners { try? await listener.close() }
    }

    private func accepted(_ channel: any Channel) throws {
        let connection = ConnectionFacts(peer: channel.remoteAddress, local: channel.localAddress)
        let source = ConnectionLimiter.Source(connection.peer)
        let settings = state.withLock { $0.settings }
        guard limiter.enter(source) else {
            sessionLog.log(
                .info, "too many connections",
                ["client": "\(connection.peer)", "edge": "\(settings.name)"], source: source,
                on: channel.eventLoop)
            try channel.pipeline.syncOperations.addHandler(
                TurnAway(saying: settings.server.tls == .immediate ? nil : settings.server.hostname))
            return
        }
        let id = ObjectIdentifier(channel)
        let isDraining = state.withLock { state in
            state.sessions[id] = channel
            return state.isDraining
        }
        channel.closeFuture.whenComplete { _ in
            self.limiter.leave(source)
            self.state.withLock { _ = $0.sessions.removeValue(forKey: id) }
        }
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
        if isDraining { channel.pipeline.fireUserInboundEventTriggered(SMTPEdgeHandler.Event.drain) }
    }

    /// Accepts no more connections. Idle sessions end now, the others when their transaction has ended.
    package func drain() async {
        let (listeners, sessions) = state.withLock { state in
            state.isDraining = true
            defer { state.listeners = [:] }
            return (state.listeners.values.joined(), Array(state.sessions.values))
        }
        for listener in listeners { try? await listener.close() }
        for session in sessions { session.pipeline.fireUserInboundEventTriggered(SMTPEdgeHandler.Event.drain) }
    }

    /// How many sessions there are.
    package var sessionCount: Int { state.withLock { $0.sessions.count } }

    /// Ends all sessions now, and all at once: one whose peer does not read takes its time.
    package func closeSessions() async {
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
