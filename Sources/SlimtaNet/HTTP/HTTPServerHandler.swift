// Behind NIO's HTTP/1.1 in the channel of a server's connection: watches times, and does what HTTPServerExchange says
// comes next. HTTPConnection puts one there, beside an HTTPMeter.

import NIOCore
import NIOHTTP1
import SlimtaMail
import SlimtaTLS

/// Ends connections that take too long to ask or to listen, and tells the meter how far they are. Last in the pipeline.
final class HTTPServerHandler: ChannelDuplexHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias InboundOut = HTTPServerRequestPart
    typealias ResponsePart = HTTPPart<HTTPResponseHead, ByteBuffer>
    typealias OutboundIn = ResponsePart
    typealias OutboundOut = HTTPServerResponsePart

    /// Sent down the pipeline.
    enum Event: Sendable {
        /// The server stops: the request that has begun is the last one.
        case drain
    }

    /// How much is read at a time once there is a body, and how much of it is passed on at once. One read in a turn is
    /// enough: what is decoded of requests that are sent ahead takes many times as much memory.
    private static let pieceOfBody = 16384
    private static let allocatorForBodies = AdaptiveRecvByteBufferAllocator(
        minimum: 4096, initial: pieceOfBody, maximum: pieceOfBody)

    private let limits: HTTPLimits
    private let meter: HTTPMeter
    /// Called when a handshake is done; nil: there is none.
    private let established: ((TLSFacts) -> Void)?
    private var exchange = HTTPServerExchange()
    private var readsMuch = false
    /// Of a body, what came in the read that goes on.
    private var content = ByteBuffer()
    /// Of the head or body that is awaited.
    private var asking = SessionTimer()
    /// While a body comes in.
    private var transfer: TransferWatch?
    private var transferEnd: NIODeadline?
    /// Of a client that reads nothing.
    private var listening: Scheduled<Void>?

    init(_ limits: HTTPLimits, _ meter: HTTPMeter, established: ((TLSFacts) -> Void)? = nil) {
        self.limits = limits
        self.meter = meter
        self.established = established
    }

    func handlerAdded(context: ChannelHandlerContext) {
        expect(within: established == nil ? limits.headTimeout : limits.handshakeTimeout, context)
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        switch event {
        case TLSHandler.Event.established(let facts):
            established?(facts)
            expect(within: limits.headTimeout, context)
        case Event.drain:
            if exchange.drain() == .close { context.close(promise: nil) }
        default: break
        }
        context.fireUserInboundEventTriggered(event)
    }

    func channelInactive(context: ChannelHandlerContext) {
        asking.cancel()
        listening?.cancel()
        context.fireChannelInactive()
    }

    /// What is not HTTP is answered with 400, even in the middle of a body, and before the service may answer.
    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        if let error = error as? HTTPParserError {
            // Before it is answered: NIO has two errors for a wrong version, and the second comes in at once.
            if exchange.isMalformed() == .refuse {
                let fields = HTTPHeaders([("Connection", "close"), ("Content-Length", "0")])
                let isTooLarge = error == .headerOverflow
                let head = HTTPResponseHead(
                    version: .http1_1, status: isTooLarge ? .requestHeaderFieldsTooLarge : .badRequest, headers: fields)
                context.write(wrapOutboundOut(.head(head)), promise: nil)
                context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
            }
            meter.isUnread = true
            context.close(promise: nil)
        }
        context.fireErrorCaught(error)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard !exchange.isEnded else { return meter.isUnread = true }
        switch unwrapInboundIn(data) {
        case .head(let head):
            exchange.requestBegins()
            bodyBegins(head, context)
        case .body(let octets):
            meter.content(octets.readableBytes)
            excuse(at: context.eventLoop.now)
            transfer?.moved(octets.readableBytes, at: context.eventLoop.now)
            // To the service each piece is much more than a copy: chunks of an octet must not be pieces.
            if content.readableBytes == 0 { content = octets } else { content.writeImmutableBuffer(octets) }
            if content.readableBytes >= Self.pieceOfBody { passContent(context) }
            return
        case .end:
            passContent(context)
            meter.isUnread = false
            (transfer, transferEnd, asking.deadline) = (nil, nil, .distantFuture)
            follow(exchange.requestEnds(), context)
        }
        context.fireChannelRead(data)
    }

    private func passContent(_ context: ChannelHandlerContext) {
        guard content.readableBytes > 0 else { return }
        let piece = content
        content = ByteBuffer()
        context.fireChannelRead(wrapInboundOut(.body(piece)))
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        passContent(context)
        context.fireChannelReadComplete()
    }

    /// What is not read is not late: while the service does not want the body, its time does not pass.
    private func excuse(at now: NIODeadline) { transfer?.wasHeld(for: meter.timeHeld(at: now)) }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        guard !exchange.isEnded else {
            promise?.fail(ChannelError.ioOnClosedChannel)
            return
        }
        // Who answers waits for one piece at a time until the kernel has it.
        if let promise {
            listening = context.eventLoop.assumeIsolated().scheduleTask(in: limits.answerTimeout) {
                context.close(promise: nil)
            }
            promise.futureResult.assumeIsolated().whenComplete { _ in self.listening?.cancel() }
        }
        switch unwrapOutboundIn(data) {
        case .head(var head):
            if head.status.code < 200 {
                // The client begins to send now.
                transfer?.resumed(at: context.eventLoop.now)
            } else {
                if exchange.isDraining { head.headers.replaceOrAdd(name: "Connection", value: "close") }
                exchange.answerBegins(isLast: head.headers["connection"] == ["close"])
            }
            context.write(wrapOutboundOut(.head(head)), promise: promise)
        case .body(let octets): context.write(wrapOutboundOut(.body(.byteBuffer(octets))), promise: promise)
        case .end(let trailer):
            let isDraining = exchange.isDraining
            follow(exchange.answerEnds(), context)
            // Who answers may not know that this was the last one.
            if isDraining, let promise {
                promise.futureResult.assumeIsolated().whenComplete { _ in context.close(promise: nil) }
            }
            context.write(wrapOutboundOut(.end(trailer)), promise: promise)
        }
    }

    private func follow(_ next: HTTPServerExchange.Next, _ context: ChannelHandlerContext) {
        switch next {
        case .awaitHead:
            meter.answered()
            expect(within: limits.headTimeout, context)
        case .forgetRest: meter.isUnread = true
        case .close: context.close(promise: nil)
        case .goOn, .refuse: break
        }
    }

    private func expect(within time: TimeAmount, _ context: ChannelHandlerContext) {
        asking.set(context.eventLoop.now + time, on: context.eventLoop) { self.timeIsOver(context) }
    }

    private func bodyBegins(_ head: HTTPRequestHead, _ context: ChannelHandlerContext) {
        let now = context.eventLoop.now
        _ = meter.timeHeld(at: now)
        transfer = limits.transfer.map { TransferWatch($0, at: now) }
        transferEnd = limits.bodyTimeout.map { now + $0 }
        let deadline = min(transfer?.deadline ?? .distantFuture, transferEnd ?? .distantFuture)
        asking.set(deadline, on: context.eventLoop) { self.timeIsOver(context) }
        guard !readsMuch,
            head.headers.contains(name: "content-length") || head.headers.contains(name: "transfer-encoding")
        else { return }
        readsMuch = true
        try? context.channel.syncOptions?.setOption(.recvAllocator, value: Self.allocatorForBodies)
    }

    /// The deadline of a body is looked up when the timer fires.
    private func timeIsOver(_ context: ChannelHandlerContext) {
        excuse(at: context.eventLoop.now)
        if let transfer { asking.deadline = min(transfer.deadline, transferEnd ?? .distantFuture) }
        guard asking.hasPassed(on: context.eventLoop, fired: { self.timeIsOver(context) }) else { return }
        context.close(promise: nil)
    }
}
