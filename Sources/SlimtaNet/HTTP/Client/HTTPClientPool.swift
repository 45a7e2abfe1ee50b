// The connections of an HTTPClient: makes them, keeps them, and holds the limits. Which connection does what is decided by
// ConnectionPoolMachine, under a lock; what follows from that is done outside. Each connection has an HTTPClientHandler.

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
    typealias ConnectionID = UInt64
    private typealias Machine = ConnectionPoolMachine<HTTPClientKey, HTTPCall>

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

    private struct State {
        var machine: Machine
        /// Those that are connected.
        var connections: [ConnectionID: HTTPClientConnection] = [:]
        /// Which connection does a call, or is to be made for it.
        var assigned: [ObjectIdentifier: ConnectionID] = [:]
        /// Who waits for the last connection to be closed.
        var drained: [CheckedContinuation<Void, Never>] = []

        /// Writes down who does what, in the same breath in which it was decided.
        mutating func note(_ action: Machine.Action) -> Machine.Action {
            switch action {
            case .start(let id, let call), .connect(let id, let call): assigned[ObjectIdentifier(call)] = id
            case .none, .retire: break
            }
            return action
        }
    }

    let limits: HTTPConnectionLimits
    private let group: any EventLoopGroup
    private let state: Mutex<State>

    init(_ limits: HTTPConnectionLimits, group: any EventLoopGroup) {
        self.limits = limits
        self.group = group
        state = Mutex(State(machine: Machine(.init(total: limits.total, perDestination: limits.perOrigin))))
    }

    /// Whether connections are kept at all.
    var isKeeping: Bool { limits.idleTimeout > .zero }

    /// How many connections there are, in any phase.
    var openCount: Int { state.withLock { $0.machine.openCount } }

    // MARK: For callers

    /// Has the call done as soon as a connection is free for it; ``HTTPCall/next()`` says what comes of it.
    func submit(_ call: HTTPCall) { submit(call, isRepeated: false) }

    /// The caller no longer waits: the call ends soon, however it ends.
    func end(_ call: HTTPCall, _ reason: Reason) {
        let connection: HTTPClientConnection? = state.withLock { state in
            guard let id = state.assigned[ObjectIdentifier(call)] else {
                _ = state.machine.withdraw(for: call.key) { $0 === call }
                return nil
            }
            // One that is still being made finds out when it is there.
            return state.connections[id]
        }
        if let connection { connection.end(call, reason) } else { call.tell(.ended(.failure(reason.error))) }
    }

    /// No more calls; idle connections are closed. Returns when all are.
    func shutDown() async {
        let (waiting, idle) = state.withLock { state in
            let (waiting, idle) = state.machine.shutDown()
            return (waiting, idle.compactMap { state.connections[$0] })
        }
        for call in waiting { call.tell(.ended(.failure(.cancelled))) }
        for connection in idle { connection.retire() }
        await withCheckedContinuation { continuation in
            let isDrained = state.withLock { state in
                if state.machine.openCount > 0 { state.drained.append(continuation) }
                return state.machine.openCount == 0
            }
            if isDrained { continuation.resume() }
        }
    }

    // MARK: For handlers, on their event loops

    /// A new connection is there.
    func connected(_ id: ConnectionID, _ connection: HTTPClientConnection) {
        state.withLock { $0.connections[id] = connection }
    }

    /// It can be asked.
    func opened(_ id: ConnectionID) { state.withLock { $0.machine.opened(id) } }

    /// The connection could not be opened; ``closed(_:)`` follows.
    func failed(_ id: ConnectionID, _ call: HTTPCall, _ error: HTTPClientError) {
        let (failed, action) = state.withLock { state in
            state.assigned[ObjectIdentifier(call)] = nil
            let result = state.machine.failed(id, work: call)
            return (result.failed, state.note(result.action))
        }
        for call in failed { call.tell(.ended(.failure(error))) }
        perform(action)
    }

    /// The connection was dead: the call is to be done by another.
    func repeated(_ call: HTTPCall) { submit(call, isRepeated: true) }

    /// What a connection does next.
    enum Next {
        case idle
        case start(HTTPCall)
        case retire
    }

    /// The call is done, and the connection may be used again, unless it `isOld`.
    func released(_ id: ConnectionID, from call: HTTPCall, isOld: Bool) -> Next {
        state.withLock { state in
            state.assigned[ObjectIdentifier(call)] = nil
            switch state.note(state.machine.released(id, isOld: isOld)) {
            case .start(_, let next): return .start(next)
            case .retire: return .retire
            case .none, .connect: return .idle
            }
        }
    }

    /// Whether a connection that has been idle for long enough is to be closed, and not just about to be used.
    func expires(_ id: ConnectionID) -> Bool {
        state.withLock { state in
            if case .retire = state.machine.expired(id) { true } else { false }
        }
    }

    /// The call is no longer the connection's, which is about to close.
    func abandoned(_ call: HTTPCall) { state.withLock { $0.assigned[ObjectIdentifier(call)] = nil } }

    /// The connection is closed.
    func closed(_ id: ConnectionID) {
        let (action, drained) = state.withLock { state in
            state.connections[id] = nil
            let action = state.note(state.machine.closed(id))
            guard state.machine.openCount == 0 else { return (action, [CheckedContinuation<Void, Never>]()) }
            defer { state.drained = [] }
            return (action, state.drained)
        }
        perform(action)
        for continuation in drained { continuation.resume() }
    }

    // MARK: Actions

    private func submit(_ call: HTTPCall, isRepeated: Bool) {
        let action = state.withLock { state -> Machine.Action? in
            state.assigned[ObjectIdentifier(call)] = nil
            guard !state.machine.isShutDown, !call.isOver else { return nil }
            return state.note(state.machine.submit(call, for: call.key, isRepeated: isRepeated))
        }
        if let action { perform(action) } else { call.tell(.ended(.failure(.cancelled))) }
    }

    private func perform(_ action: Machine.Action) {
        switch action {
        case .none: break
        case .start(let id, let call):
            guard let connection = state.withLock({ $0.connections[id] }) else {
                // It was closed since: that was told to the machine, or will be.
                return repeated(call)
            }
            connection.start(call)
        case .connect(let id, let call):
            connect(id, call, on: group.next(), call.origin.addresses[...], failures: [])
        case .retire(let id): state.withLock { $0.connections[id] }?.retire()
        }
    }

    private func connect(
        _ id: ConnectionID, _ call: HTTPCall, on eventLoop: any EventLoop, _ addresses: ArraySlice<SocketAddress>,
        failures: [String]
    ) {
        // Others may wait for the connection, though this call does so no more.
        let isWanted = !call.isOver || !state.withLock(\.machine.isShutDown)
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
                let failures = failures + ["\(address): \(error)"]
                self.connect(id, call, on: eventLoop, addresses.dropFirst(), failures: failures)
            }
    }

    private func configure(_ channel: any Channel, _ id: ConnectionID, _ call: HTTPCall) throws {
        let pipeline = channel.pipeline.syncOperations
        if let tls = call.origin.tls {
            let verification = TLSVerification.system(host: call.origin.host)
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
