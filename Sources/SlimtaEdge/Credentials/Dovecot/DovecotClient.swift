// The connection to Dovecot's authentication service: carries lines, answers and times between the exchanges of all sessions and
// DovecotMachine, which decides. The back end `dovecot` has one.

package import Logging
package import NIOCore
internal import NIOPosix
internal import SlimtaMail
internal import SlimtaNet
internal import SlimtaSASL
internal import Synchronization

/// Asks Dovecot, over one connection for all. Safe to call from any thread.
package final class DovecotClient: Sendable {
    typealias Machine = DovecotMachine

    private struct State: Sendable {
        var machine: Machine
        /// Who waits for the answer.
        var waiting: [Machine.ID: @Sendable (DovecotAnswer) -> Void] = [:]
        /// The connection, as soon as it is there.
        var channel: (id: Machine.ConnectionID, channel: any Channel)?
        var timer = SessionTimer()
        /// Gets what the first try to connect comes to.
        var first: EventLoopPromise<Set<String>>?
    }

    /// Why Dovecot cannot be asked.
    package struct Unreachable: Error, CustomStringConvertible {
        package let description: String
    }

    private let addresses: [SocketAddress]
    private let logger: Logger
    /// Everything but asking happens here, one after the other.
    private let loop: any EventLoop
    private let state: Mutex<State>

    /// A client that is to be started.
    ///
    /// - Parameters:
    ///   - addresses: where Dovecot listens: tried in this order, until one can be connected to. At least one.
    ///   - group: the connection lives on one of its loops.
    package convenience init(_ addresses: [SocketAddress], group: any EventLoopGroup, logger: Logger) {
        self.init(addresses, Machine.Limits(), loop: group.next(), logger: logger)
    }

    init(_ addresses: [SocketAddress], _ limits: Machine.Limits, loop: any EventLoop, logger: Logger) {
        self.addresses = addresses
        self.loop = loop
        self.logger = logger
        state = Mutex(State(machine: Machine(limits)))
    }

    /// Connects, and again whenever the connection is lost, until ``close()``.
    package func start() { onLoop { client in client.happened { $0.started($1) } } }

    /// Closes the connection. Exchanges that wait for Dovecot get the answer that it cannot be found out.
    package func close() async {
        let channel = try? await loop.submit {
            let channel = self.state.withLock { $0.channel?.channel }
            self.happened { machine, _ in machine.stopped() }
            self.state.withLock { $0.timer.cancel() }
            return channel
        }.get()
        try? await channel?.closeFuture.get()
    }

    /// What a Dovecot offers, for `slimtad check`: asks it, and waits up to 20 s. Not to be called on an event loop.
    package static func offer(at address: SocketAddress) -> Result<Set<String>, Unreachable> {
        let group = MultiThreadedEventLoopGroup.singleton
        let client = DovecotClient(
            [address], group: group, logger: Logger(label: "check") { _ in SwiftLogNoOpLogHandler() })
        let first = client.loop.makePromise(of: Set<String>.self)
        client.state.withLock { $0.first = first }
        client.start()
        let offer = Result { try first.futureResult.wait() }
        client.onLoop { client in client.happened { machine, _ in machine.stopped() } }
        return offer.mapError { error in error as? Unreachable ?? Unreachable(description: "\(error)") }
    }

    /// What Dovecot offers, or offered last; nil: it has not been there so far.
    var mechanisms: Set<String>? { state.withLock { $0.machine.mechanisms } }

    /// Why Dovecot cannot be asked; nil: it can.
    var complaint: String? { state.withLock { $0.machine.complaint } }

    // MARK: Exchanges

    /// Begins an exchange: its number, which is for ``respond(_:_:)`` if the answer is a challenge. Cancelled, the exchange is
    /// over.
    func begin(_ request: DovecotRequest) async -> (Machine.ID, DovecotAnswer) {
        let id = state.withLock { $0.machine.nextID() }
        return (id, await answer(to: id) { $0.began(id, request, $1) })
    }

    /// What follows from the client's response. Cancelled, the exchange is over.
    func respond(_ id: Machine.ID, _ response: SecretOctets) async -> DovecotAnswer {
        await answer(to: id) { $0.responded(id, response, $1) }
    }

    /// Nobody goes on with the exchange.
    func abandon(_ id: Machine.ID) {
        onLoop { client in
            let waiting = client.state.withLock { $0.waiting.removeValue(forKey: id) }
            client.happened { machine, _ in machine.abandoned(id) }
            waiting?(.unavailable("the client is gone"))
        }
    }

    private func answer(
        to id: Machine.ID, _ event: @escaping @Sendable (inout Machine, NIODeadline) -> [Machine.Action]
    ) async -> DovecotAnswer {
        let isCancelled = Flag()
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                onLoop { client in
                    client.state.withLock { $0.waiting[id] = { continuation.resume(returning: $0) } }
                    client.happened(event)
                    // It may have been before there was anything to abandon.
                    if isCancelled.isSet { client.abandon(id) }
                }
            }
        } onCancel: {
            isCancelled.set()
            abandon(id)
        }
    }

    private func onLoop(_ body: @escaping @Sendable (DovecotClient) -> Void) {
        if loop.inEventLoop { return body(self) }
        loop.execute { body(self) }
    }

    // MARK: The connection

    /// On the loop, as all that follows: of ``DovecotHandler``.
    func connected(_ id: Machine.ConnectionID, _ channel: any Channel) {
        let isInTime = state.withLock { state in
            guard state.machine.isConnecting(id) else { return false }
            state.channel = (id, channel)
            return true
        }
        guard isInTime else { return channel.close(promise: nil) }
        // Dovecot tells its clients apart by it. Ours may have several connections: of the configuration before, too.
        happened { $0.connected(id, as: .random(in: 1...UInt32(Int32.max)), $1) }
    }

    /// Dovecot has said something.
    func received(_ id: Machine.ConnectionID, _ message: DovecotMessage) { happened { $0.received(id, message, $1) } }

    /// Nothing more can be said on the connection.
    func failed(_ id: Machine.ConnectionID, _ reason: String) { happened { $0.failed(id, reason, $1) } }

    private func connect(_ id: Machine.ConnectionID, _ addresses: ArraySlice<SocketAddress>, _ reason: String) {
        guard let address = addresses.first else { return failed(id, reason) }
        ClientBootstrap(group: loop)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(DovecotHandler(id, self))
                }
            }
            .connect(to: address)
            .whenFailure { self.connect(id, addresses.dropFirst(), "cannot connect: \($0.connectionReason)") }
    }

    // MARK: Actions

    private func happened(_ event: (inout Machine, NIODeadline) -> [Machine.Action]) {
        for action in state.withLock({ event(&$0.machine, loop.now) }) { perform(action) }
        armTimer()
    }

    private func perform(_ action: Machine.Action) {
        switch action {
        case .connect(let id): connect(id, addresses[...], "no address")
        case .send(let id, let lines):
            guard let channel = state.withLock({ $0.channel }), channel.id == id else { return }
            channel.channel.writeAndFlush(ByteBuffer(bytes: lines), promise: nil)
        case .close(let id):
            let channel = state.withLock { state in
                defer { if state.channel?.id == id { state.channel = nil } }
                return state.channel
            }
            if let channel, channel.id == id { channel.channel.close(promise: nil) }
        case .answer(let id, let answer): state.withLock { $0.waiting.removeValue(forKey: id) }?(answer)
        case .tellReady:
            let names = mechanisms ?? []
            takeFirst()?.succeed(names)
            logger.info(
                "connected to Dovecot", metadata: ["mechanisms": "\(names.sorted().joined(separator: " ").visible)"])
        case .tellLost(let reason):
            takeFirst()?.fail(Unreachable(description: reason))
            logger.warning("no connection to Dovecot", metadata: ["error": "\(reason.visible)"])
        }
    }

    private func takeFirst() -> EventLoopPromise<Set<String>>? {
        state.withLock { state in
            defer { state.first = nil }
            return state.first
        }
    }

    // MARK: Time

    private func armTimer() {
        state.withLock { state in
            state.timer.set(state.machine.nextDue ?? .distantFuture, on: loop) { self.timerFired() }
        }
    }

    private func timerFired() {
        let isDue = state.withLock { $0.timer.hasPassed(on: loop) { self.timerFired() } }
        if isDue { happened { $0.timePassed($1) } }
    }
}

/// Set once, from any thread.
private final class Flag: Sendable {
    private let value = Atomic(false)

    var isSet: Bool { value.load(ordering: .acquiring) }

    func set() { value.store(true, ordering: .releasing) }
}
