// The connections of an HTTPClient: makes them, keeps them, and holds the limits. Which connection does what is decided in
// PooledConnections; what follows from that is done here. Each connection has an HTTPClientHandler.

import NIOCore
import NIOHTTP1
import NIOPosix
import SlimtaTLS
import Synchronization

/// A connection, for those who are not on its event loop.
struct HTTPClientConnection: HTTPBodyReceiver {
    let eventLoop: any EventLoop
    let handler: NIOLoopBound<HTTPClientHandler>

    func start(_ call: HTTPCall) { eventLoop.execute { handler.value.start(call) } }

    func retire() { eventLoop.execute { handler.value.retire() } }

    func end(_ call: HTTPCall, _ reason: HTTPClientPool.Reason) {
        eventLoop.execute { handler.value.end(call, reason) }
    }

    func send(_ part: ByteBuffer, of call: HTTPCall) async -> Bool {
        await withCheckedContinuation { reply in
            eventLoop.execute { handler.value.send(part, of: call, reply: reply) }
        }
    }

    func endBody(with last: ByteBuffer, of call: HTTPCall) {
        eventLoop.execute { handler.value.endBody(with: last, of: call) }
    }

    func failBody(_ why: String, of call: HTTPCall) { eventLoop.execute { handler.value.failBody(why, of: call) } }
}

/// Shared by all who ask.
final class HTTPClientPool: Sendable {
    typealias Connections = PooledConnections<HTTPCall, HTTPClientConnection>
    typealias ConnectionID = Connections.ID

    /// Why a caller no longer waits.
    enum Reason {
        /// The time for the request is over: if it has been sent, that is none.
        case requestTimedOut
        case cancelled

        var error: HTTPClientError {
            switch self {
            case .requestTimedOut: .timedOut(.connecting)
            case .cancelled: .cancelled
            }
        }
    }

    let limits: HTTPConnectionLimits
    private let group: any EventLoopGroup
    /// Which connection does what; handlers tell it how things went.
    let connections: Connections

    init(_ limits: HTTPConnectionLimits, group: any EventLoopGroup) {
        self.limits = limits
        self.group = group
        connections = Connections(.init(total: limits.total, perDestination: limits.perOrigin))
    }

    /// Whether connections are kept at all.
    var isKeeping: Bool { limits.idleTimeout > .zero }

    // MARK: For callers

    /// Has the call done as soon as a connection is free for it; ``HTTPCall/next()`` says what comes of it.
    func submit(_ call: HTTPCall) { submit(call, isRepeated: false) }

    /// The caller no longer waits: the call ends soon, however it ends.
    func end(_ call: HTTPCall, _ reason: Reason) {
        switch connections.withdraw(call) {
        case .at(let connection): connection.end(call, reason)
        case .waiting, .nowhere: call.tell(.ended(.failure(reason.error)))
        }
    }

    /// No more calls; idle connections are closed. Returns when all are.
    func shutDown() async {
        let (waiting, idle) = connections.shutDown()
        for call in waiting { call.tell(.ended(.failure(.cancelled))) }
        for connection in idle { connection.retire() }
        await connections.drain()
    }

    // MARK: For handlers, on their event loops

    /// The connection could not be opened; ``closed(_:)`` follows.
    func failed(_ id: ConnectionID, _ call: HTTPCall, _ error: HTTPClientError) {
        let (failed, step) = connections.failed(id, call)
        for call in failed { call.tell(.ended(.failure(error))) }
        perform(step)
    }

    /// The connection was dead: the call is to be done by another.
    func repeated(_ call: HTTPCall) { submit(call, isRepeated: true) }

    /// The connection is closed.
    func closed(_ id: ConnectionID) { connections.closed(id, perform: perform) }

    // MARK: Actions

    private func submit(_ call: HTTPCall, isRepeated: Bool) {
        if let step = connections.submit(call, isRepeated: isRepeated) {
            perform(step)
        } else {
            call.tell(.ended(.failure(.cancelled)))
        }
    }

    private func perform(_ step: Connections.Step) {
        switch step {
        case .none: break
        case .start(let connection, let call): connection.start(call)
        case .again(let call): repeated(call)
        case .connect(let id, let call):
            connect(id, call, on: group.next(), call.origin.addresses[...], failures: [])
        case .retire(let connection): connection.retire()
        }
    }

    private func connect(
        _ id: ConnectionID, _ call: HTTPCall, on eventLoop: any EventLoop, _ addresses: ArraySlice<SocketAddress>,
        failures: [String]
    ) {
        // Others may wait for the connection, though this call does so no more.
        let isWanted = !call.isOver || !connections.isShutDown
        guard isWanted, let address = addresses.first else {
            // Not at once: this leads to the next connection, and that may fail as quickly.
            return eventLoop.execute {
                self.failed(id, call, .cannotConnect(failures))
                self.closed(id)
            }
        }
        ClientBootstrap(group: eventLoop)
            .connectTimeout(call.limits.connectTimeout)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try self.configure(channel, id, call) }
            }
            .connect(to: address)
            .whenFailure { error in
                let failures = failures + ["\(address): \(error.connectionReason)"]
                self.connect(id, call, on: eventLoop, addresses.dropFirst(), failures: failures)
            }
    }

    private func configure(_ channel: any Channel, _ id: ConnectionID, _ call: HTTPCall) throws {
        let pipeline = channel.pipeline.syncOperations
        if let tls = call.origin.tls {
            let verification = tls.verifies ? TLSVerification.system(host: call.origin.host) : .none
            try pipeline.addHandler(TLSHandler(client: tls, serverName: call.origin.host, verification: verification))
        }
        let meter = HTTPClientMeter()
        var encoder = HTTPRequestEncoder.Configuration()
        encoder.automaticallySetFramingHeaders = false
        var decoder = NIOHTTPDecoderLimitConfiguration()
        (decoder.maxHeaderFieldSize, decoder.maxHeaderListSize) = (call.limits.head, call.limits.head)
        try pipeline.addHandlers([
            meter, HTTPRequestEncoder(configuration: encoder),
            ByteToMessageHandler(HTTPResponseDecoder(limitConfiguration: decoder)),
            HTTPClientHandler(id, call, meter: meter, pool: self),
        ])
    }
}
