// One request of HTTPClient on its way: the connection, the time, and who waits for the answer. HTTPClientHandler, in the
// channel, sends the request and reads what comes.

import NIOCore
import NIOHTTP1
import NIOPosix
import SlimtaTLS
import Synchronization

/// A request on its way. It ends once: with an answer, an error, the time or the task.
final class HTTPCall: Sendable {
    typealias Outcome = Result<HTTPAnswer, HTTPClientError>

    private struct State {
        var channel: (any Channel)?
        var waiting: CheckedContinuation<Outcome, Never>?
        var outcome: Outcome?
    }

    private let head: HTTPRequestHead
    private let body: ByteBuffer?
    private let origin: HTTPOrigin
    private let limits: HTTPClientLimits
    private let eventLoop: any EventLoop
    private let state = Mutex(State())

    init(
        _ head: HTTPRequestHead, _ body: ByteBuffer?, _ origin: HTTPOrigin, _ limits: HTTPClientLimits,
        on eventLoop: any EventLoop
    ) {
        self.head = head
        self.body = body
        self.origin = origin
        self.limits = limits
        self.eventLoop = eventLoop
    }

    /// Begins, and waits for the end.
    func outcome() async -> Outcome {
        let deadline = eventLoop.scheduleTask(in: limits.timeout) { self.end(.failure(.timedOut)) }
        defer { deadline.cancel() }
        return await withTaskCancellationHandler {
            connect(origin.addresses[...], failures: [])
            return await withCheckedContinuation { continuation in
                let outcome = state.withLock { state in
                    state.waiting = continuation
                    return state.outcome
                }
                if let outcome { continuation.resume(returning: outcome) }
            }
        } onCancel: {
            end(.failure(.cancelled))
        }
    }

    /// The first end counts; the connection is closed with it.
    func end(_ outcome: Outcome) {
        let ended = state.withLock { state in
            guard state.outcome == nil else { return State() }
            defer { state = State(outcome: outcome) }
            return state
        }
        ended.channel?.close(promise: nil)
        ended.waiting?.resume(returning: outcome)
    }

    private func connect(_ addresses: ArraySlice<SocketAddress>, failures: [String]) {
        guard let address = addresses.first else { return end(.failure(.cannotConnect(failures))) }
        ClientBootstrap(group: eventLoop)
            .connectTimeout(limits.connectTimeout)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    guard self.isGoing(on: channel) else { throw ChannelError.ioOnClosedChannel }
                    try self.configure(channel)
                }
            }
            .connect(to: address)
            .whenFailure { error in
                // One that has ended opens no further channel.
                guard self.state.withLock({ $0.outcome == nil }) else { return }
                self.connect(addresses.dropFirst(), failures: failures + ["\(address): \(error)"])
            }
    }

    /// Whether the channel is wanted; it is closed at the end then.
    private func isGoing(on channel: any Channel) -> Bool {
        state.withLock { state in
            guard state.outcome == nil else { return false }
            state.channel = channel
            return true
        }
    }

    private func configure(_ channel: any Channel) throws {
        let pipeline = channel.pipeline.syncOperations
        if let tls = origin.tls {
            let verification = TLSVerification.system(host: origin.host)
            try pipeline.addHandler(TLSHandler(client: tls, serverName: origin.host, verification: verification))
        }
        let meter = HTTPClientMeter(limit: limits.head)
        var encoder = HTTPRequestEncoder.Configuration()
        encoder.automaticallySetFramingHeaders = false
        var decoder = NIOHTTPDecoderLimitConfiguration()
        (decoder.maxHeaderFieldSize, decoder.maxHeaderListSize) = (limits.head, limits.head)
        try pipeline.addHandlers([
            meter, HTTPRequestEncoder(configuration: encoder),
            ByteToMessageHandler(HTTPResponseDecoder(limitConfiguration: decoder)),
            HTTPClientHandler(head, body, limit: limits.body, meter: meter, ended: end),
        ])
    }
}
