// What all edges over sockets have in common before a protocol is spoken: listening, who the client is behind a proxy, how
// many there may be, and how all of them end. SMTPEdge and HTTPEdge have one each, and say what is spoken.

import Logging
internal import NIOCore
internal import NIOPosix
internal import SlimtaMail
internal import SlimtaNet
internal import SlimtaSMTP
internal import SlimtaTLS
import Synchronization

/// What an edge is like as far as its connections are concerned.
protocol EdgeConnectionSettings: Sendable {
    /// The edge's name, for logs.
    var name: String { get }
    /// Who connects from these networks must begin with a PROXY header; from others none is read.
    var proxies: [NetworkRange] { get }
    /// How long that header may take.
    var handshakeTimeout: TimeAmount { get }

    /// What a client is told that is not to be served for what it did before; nil: it is served.
    func turnsAway(_ client: ConnectionFacts.Endpoint) -> Reply?
}

/// What an edge speaks. All is called on the connection's event loop.
protocol EdgeProtocol: Sendable {
    associatedtype Settings: EdgeConnectionSettings

    /// Adds what speaks with a client for whom there is room. Completed at once but for a UNIX socket.
    func serve(
        _ connection: ConnectionFacts, on channel: any Channel, _ settings: Settings
    ) throws -> EventLoopFuture<Void>

    /// Sends away a client that is not served.
    ///
    /// - Parameter reply: 421 and why; nil: nothing may be said.
    func turnAway(on channel: any Channel, _ settings: Settings, _ reply: Reply?) throws

    /// What the client is at is the last that is done.
    func drain(_ channel: any Channel)
}

/// The connections of one edge.
final class EdgeConnections<Spoken: EdgeProtocol>: Sendable {
    private struct State {
        var settings: Spoken.Settings
        /// By the address as configured.
        var listeners: [String: [any Channel]] = [:]
        /// All connections, also those whose client is not known yet.
        var sessions: [ObjectIdentifier: any Channel] = [:]
        var isDraining = false
    }

    private let state: Mutex<State>
    private let spoken: Spoken
    private let limiter: ConnectionLimiter
    private let group: any EventLoopGroup
    private let sessionLog: SessionLog

    init(
        _ spoken: Spoken, _ settings: Spoken.Settings, limiter: ConnectionLimiter, group: any EventLoopGroup,
        log: SessionLog
    ) {
        state = Mutex(State(settings: settings))
        self.spoken = spoken
        self.limiter = limiter
        self.group = group
        sessionLog = log
    }

    /// What holds for connections that begin from now on.
    var settings: Spoken.Settings {
        get { state.withLock { $0.settings } }
        set { state.withLock { $0.settings = newValue } }
    }

    /// As ``Edge/accept(on:address:)``. Throws what the system says if the socket cannot be used.
    func accept(on socket: ListeningSocket, address: String) async throws {
        let listener = try await ServerBootstrap(group: group)
            .childChannelInitializer { channel in
                do { return try self.accepted(channel) } catch { return channel.eventLoop.makeFailedFuture(error) }
            }
            .serverChannelInitializer { [sessionLog] channel in
                channel.eventLoop.makeCompletedFuture {
                    // What cannot be accepted stays readable: without a pause it would be tried without end.
                    let pause = AcceptBackoffHandler(shouldForwardIOErrorCaught: false) { error in
                        sessionLog.log(
                            .warning, "cannot accept connections for a moment",
                            ["address": "\(address)", "error": "\(error.connectionReason)"], source: nil,
                            on: channel.eventLoop)
                        return acceptPause
                    }
                    try channel.pipeline.syncOperations.addHandler(pause)
                }
            }
            .childChannelOption(.socketOption(.so_keepalive), value: 1)
            // A client that closes its side behind what it has asked for gets its reply.
            .childChannelOption(.allowRemoteHalfClosure, value: true)
            // A session costs little until it has a message: few octets are read at a time, and few replies wait for a
            // client that does not read them, here and in the kernel.
            .childChannelOption(.recvAllocator, value: allocatorForCommands)
            .childChannelOption(.maxMessagesPerRead, value: 1)
            .childChannelOption(.writeBufferWaterMark, value: .init(low: 1024, high: 4096))
            .childChannelOption(.socketOption(.so_sndbuf), value: 16 * 1024)
            .withBoundSocket(socket.descriptor)
            .get()
        state.withLock { $0.listeners[address, default: []].append(listener) }
    }

    /// Closes the sockets that ``accept(on:address:)`` was given for `address`; there may be none.
    func stopAccepting(on address: String) async {
        await close(state.withLock { $0.listeners.removeValue(forKey: address) } ?? [])
    }

    /// Nobody who has been accepted is lost by it: a connection is handed from its listener's loop to one of its own and
    /// back before it begins, and whose listener is closed by then NIO closes without a word.
    private func close(_ listeners: [any Channel]) async {
        for listener in listeners { try? await listener.setOption(.autoRead, value: false).get() }
        for loop in group.makeIterator() { try? await loop.submit {}.get() }
        for listener in listeners {
            try? await listener.eventLoop.submit {}.get()
            try? await listener.close()
        }
    }

    /// What holds for each connection whoever the client is: it is there for ``drain()`` and ``closeSessions()``. The
    /// settings are those of this moment.
    private func accepted(_ channel: any Channel) throws -> EventLoopFuture<Void> {
        let id = ObjectIdentifier(channel)
        let (settings, isDraining) = state.withLock { state in
            state.sessions[id] = channel
            return (state.settings, state.isDraining)
        }
        channel.closeFuture.whenComplete { _ in self.state.withLock { _ = $0.sessions.removeValue(forKey: id) } }
        let connection = ConnectionFacts(peer: channel.remoteAddress, local: channel.localAddress)
        var ready = channel.eventLoop.makeSucceededVoidFuture()
        if let proxy = connection.peer.address, settings.proxies.contains(where: { $0.contains(proxy) }) {
            try awaitHeader(connection, from: proxy, on: channel, settings)
        } else {
            let source = ConnectionLimiter.Source(connection.peer)
            if let reply = settings.turnsAway(connection.peer) {
                try turnAway(connection, on: channel, settings, reply)
            } else if limiter.enter(source) {
                channel.closeFuture.whenComplete { _ in self.limiter.leave(source) }
                ready = try serve(connection, on: channel, settings)
            } else {
                try turnAway(connection, on: channel, settings)
            }
        }
        return isDraining ? ready.map { self.drain(channel) } : ready
    }

    /// What comes from a proxy is nobody's until the header says who the client is: then that one is counted and served.
    private func awaitHeader(
        _ connection: ConnectionFacts, from proxy: IPAddress, on channel: any Channel, _ settings: Spoken.Settings
    ) throws {
        guard limiter.enter(behind: proxy) else {
            // Whoever the client is: before the header nothing may be said to it.
            return try turnAway(connection, on: channel, settings, nil)
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
                if let reply = settings.turnsAway(connection.peer) {
                    return try self.turnAway(connection, on: channel, settings, reply)
                }
                guard self.limiter.admit(source) else {
                    return try self.turnAway(connection, on: channel, settings)
                }
                client.value = source
                _ = try self.serve(connection, on: channel, settings)
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
        _ settings: Spoken.Settings
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

    /// There is no room for the client, or it has guessed too much.
    private func turnAway(
        _ connection: ConnectionFacts, on channel: any Channel, _ settings: Spoken.Settings,
        _ reply: Reply? = .tooManyConnections
    ) throws {
        var fields: Logger.Metadata = ["client": "\(connection.peer)", "edge": "\(settings.name)"]
        if let proxy = connection.proxy { fields["proxy"] = "\(proxy.endpoint)" }
        // The notice that a client is turned away for its guesses has been in the log; each of its connections need not be.
        let source = ConnectionLimiter.Source(connection.peer)
        if reply == .tooManyFailedLogins {
            sessionLog.log(.debug, "guesser turned away", fields, source: source, on: channel.eventLoop)
        } else {
            sessionLog.log(.info, "too many connections", fields, source: source, on: channel.eventLoop)
        }
        try spoken.turnAway(on: channel, settings, reply)
    }

    private func serve(
        _ connection: ConnectionFacts, on channel: any Channel, _ settings: Spoken.Settings
    ) throws -> EventLoopFuture<Void> {
        if connection.peer.address != nil {
            // Replies are written whole: nothing is gained by waiting for more.
            channel.setOption(.tcpOption(.tcp_nodelay), value: 1).whenFailure { _ in }
        }
        return try spoken.serve(connection, on: channel, settings)
    }

    /// As ``Edge/drain()``.
    func drain() async {
        let (listeners, sessions) = state.withLock { state in
            state.isDraining = true
            defer { state.listeners = [:] }
            return (Array(state.listeners.values.joined()), Array(state.sessions.values))
        }
        for session in sessions { drain(session) }
        await close(listeners)
    }

    /// Tells whichever handlers are there: either those of the session, or the one that waits for a proxy's header.
    private func drain(_ channel: any Channel) {
        channel.pipeline.fireUserInboundEventTriggered(ProxyHandler.Event.stop)
        spoken.drain(channel)
    }

    /// Connections that are being turned away are among them.
    var count: Int { state.withLock { $0.sessions.count } }

    /// Closes all connections, in the middle of whatever they do.
    func closeSessions() async {
        // All at once: one whose peer does not read takes its time.
        let closings = state.withLock { Array($0.sessions.values) }.map { $0.close() }
        for closing in closings { try? await closing.get() }
    }
}

/// How long a client that has said much that led to nothing waits for its next turn: however many such clients there
/// are, they leave time for the others.
let idlePauseTime = TimeAmount.milliseconds(250)

/// After no file was left for a connection: long enough to cost nothing, short enough to be no outage.
private let acceptPause = TimeAmount.seconds(1)

private let allocatorForCommands = AdaptiveRecvByteBufferAllocator(minimum: 1024, initial: 1024, maximum: 4096)

/// A record of TLS has no more than that.
private let allocatorForMessages = AdaptiveRecvByteBufferAllocator(minimum: 4096, initial: 16384, maximum: 16384)

extension Channel {
    /// As much as a message needs is read at once from now on.
    func readMuch() {
        try? syncOptions?.setOption(.recvAllocator, value: allocatorForMessages)
        try? syncOptions?.setOption(.maxMessagesPerRead, value: 4)
    }
}
