// The SMTP edge: makes a session of each connection. The composition root makes one for each `[[edge]]` of type "smtp", gives
// it sockets, reloads its settings, and drains it.

package import Logging
package import NIOCore
internal import SlimtaMail
package import SlimtaNet
package import SlimtaQueue
internal import SlimtaSMTP
internal import SlimtaTLS

/// An edge of type "smtp". Its sessions end with their transactions when it drains.
package final class SMTPEdge: Edge {
    private let connections: EdgeConnections<SMTPSessions>

    /// - Parameters:
    ///   - limiter: is asked for each connection; all edges share it.
    ///   - group: its event loops serve the sessions, each connection one loop.
    package init(
        settings: SMTPEdgeSettings, limiter: ConnectionLimiter, submissions: any Submissions,
        group: any EventLoopGroup, logger: Logger
    ) {
        let log = SessionLog(logger)
        connections = EdgeConnections(
            SMTPSessions(submissions: submissions, log: log), settings, limiter: limiter, group: group, log: log)
    }

    /// Takes effect for sessions that begin from now on.
    package func setSettings(_ settings: SMTPEdgeSettings) { connections.settings = settings }

    /// Each connection is a session on one of the event loops. Throws what the system says if the socket cannot be used.
    package func accept(on socket: ListeningSocket, address: String) async throws {
        try await connections.accept(on: socket, address: address)
    }

    /// Closes the sockets that ``accept(on:address:)`` was given for `address`; there may be none.
    package func stopAccepting(on address: String) async { await connections.stopAccepting(on: address) }

    /// Sessions between transactions get 421 4.3.2 now, the others behind the reply to theirs (RFC 5321 section 3.8).
    package func drain() async { await connections.drain() }

    /// Connections that are being turned away are among them.
    package var sessionCount: Int { connections.count }

    /// Closes all connections, in the middle of whatever they do.
    package func closeSessions() async { await connections.closeSessions() }
}

extension SMTPEdgeSettings: EdgeConnectionSettings {
    func turnsAway(_ client: ConnectionFacts.Endpoint) -> Reply? {
        credentials?.turnsAway(client, isTrusted: trust.allows(client))
    }
}

/// SMTP on the connections of an edge.
private struct SMTPSessions: EdgeProtocol {
    let submissions: any Submissions
    let log: SessionLog

    func serve(
        _ connection: ConnectionFacts, on channel: any Channel, _ settings: SMTPEdgeSettings
    ) throws -> EventLoopFuture<Void> {
        if settings.server.tls == .immediate, let tls = settings.tls {
            try channel.pipeline.syncOperations.addHandler(TLSHandler(server: tls, keepsWriting: true))
        }
        let handler = SMTPEdgeHandler(settings: settings, submissions: submissions, connection: connection, log: log)
        try channel.pipeline.syncOperations.addHandler(handler)
        return channel.eventLoop.makeSucceededVoidFuture()
    }

    func turnAway(on channel: any Channel, _ settings: SMTPEdgeSettings, _ reply: Reply?) throws {
        let text = reply.map { Reply($0.code, $0.status, "\(settings.server.hostname) \($0.text)") }
        try channel.pipeline.syncOperations.addHandler(TurnAway(saying: settings.server.tls == .immediate ? nil : text))
    }

    func drain(_ channel: any Channel) {
        channel.pipeline.fireUserInboundEventTriggered(SMTPEdgeHandler.Event.drain)
    }
}

/// The whole session of a client that is turned away.
private final class TurnAway: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    /// nil: TLS comes first, and it could not be read.
    private let reply: Reply?

    init(saying reply: Reply?) { self.reply = reply }

    /// Behind a proxy's header the channel is active already.
    func handlerAdded(context: ChannelHandlerContext) {
        if context.channel.isActive { turnAway(context) }
    }

    func channelActive(context: ChannelHandlerContext) { turnAway(context) }

    private func turnAway(_ context: ChannelHandlerContext) {
        guard let reply else { return context.close(promise: nil) }
        context.writeAndFlush(wrapOutboundOut(ByteBuffer(string: "\(reply)\r\n"))).assumeIsolated().whenComplete { _ in
            context.close(promise: nil)
        }
    }
}
