// Around NIO's HTTP/1.1 in the channel of a server's connection: HTTPMeter in front of it counts octets, HTTPServerHandler
// behind it watches times. One pair for each connection, made by HTTPServer.

import NIOCore
import NIOHTTP1

/// Counts what a client sends that is no content, and ends a connection that sends too much of it: heads, the framing of
/// chunks, trailers, and requests that are sent before their turn. First in the pipeline.
///
/// A connection on which more of a request comes than was read is not closed at once: the kernel would answer what comes
/// with a reset, and the client would lose the answer that tells it why. It is half-closed, and what comes is forgotten
/// for a while (RFC 9112 section 9.6).
final class HTTPMeter: ChannelDuplexHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = ByteBuffer
    typealias OutboundIn = IOData
    typealias OutboundOut = IOData

    /// What is read and forgotten behind an answer that came early, and for how long.
    private static let forgotten = 1 << 20
    private static let patience = TimeAmount.seconds(2)
    /// Octets that an octet of content pays for: as many as the shortest chunk has.
    private static let worth = 8

    private let limit: Int
    /// Since the last request; while lingering, since then.
    private var octets = 0
    /// Half-closed; until when.
    private var lingering: Scheduled<Void>?
    /// Whether the client may still be sending what is not read any more.
    var isUnread = false

    init(limit: Int) { self.limit = limit }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        octets += unwrapInboundIn(data).readableBytes
        guard lingering == nil else {
            if octets > Self.forgotten { context.close(promise: nil) }
            return
        }
        // First it is decoded: what of it is content counts otherwise.
        context.fireChannelRead(data)
        if octets > limit { context.close(promise: nil) }
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        context.fireChannelReadComplete()
        if lingering != nil { context.read() }
    }

    func channelInactive(context: ChannelHandlerContext) {
        lingering?.cancel()
        context.fireChannelInactive()
    }

    func close(context: ChannelHandlerContext, mode: CloseMode, promise: EventLoopPromise<Void>?) {
        guard isUnread, mode == .all else { return context.close(mode: mode, promise: promise) }
        context.channel.closeFuture.cascade(to: promise)
        guard lingering == nil else { return }
        octets = 0
        lingering = context.eventLoop.assumeIsolated().scheduleTask(in: Self.patience) { context.close(promise: nil) }
        context.close(mode: .output, promise: nil)
        context.read()
    }

    /// Content that was counted with the rest.
    func content(_ count: Int) { octets = max(0, octets - count * Self.worth) }

    /// A request has been read and answered: the next one may be as large.
    func answered() { octets = 0 }
}

/// Ends connections that take too long to ask or to listen, and tells the meter how far they are. Last in the pipeline.
final class HTTPServerHandler: ChannelDuplexHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias InboundOut = HTTPServerRequestPart
    typealias ResponsePart = HTTPPart<HTTPResponseHead, ByteBuffer>
    typealias OutboundIn = ResponsePart
    typealias OutboundOut = HTTPServerResponsePart

    private let limits: HTTPLimits
    private let meter: HTTPMeter
    private var isWhole = true
    private var isAnswered = true
    private var hasBegunToAnswer = false
    /// The answer that is being written is the last one.
    private var isLast = false
    /// Nothing more is answered: the last answer was given, or what came was no HTTP.
    private var isEnded = false
    /// Of the head or body that is awaited.
    private var asking: Scheduled<Void>?
    /// Of a client that reads nothing.
    private var listening: Scheduled<Void>?

    init(_ limits: HTTPLimits, _ meter: HTTPMeter) {
        self.limits = limits
        self.meter = meter
    }

    func handlerAdded(context: ChannelHandlerContext) { expect(within: limits.headTimeout, context) }

    func channelInactive(context: ChannelHandlerContext) {
        asking?.cancel()
        listening?.cancel()
        context.fireChannelInactive()
    }

    /// What is not HTTP is answered with 400, even in the middle of a body, and before the service may answer.
    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        if error is HTTPParserError {
            if !isEnded, isAnswered == isWhole, !hasBegunToAnswer {
                let fields = HTTPHeaders([("Connection", "close"), ("Content-Length", "0")])
                let head = HTTPResponseHead(version: .http1_1, status: .badRequest, headers: fields)
                context.write(wrapOutboundOut(.head(head)), promise: nil)
                context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
            }
            isEnded = true
            meter.isUnread = true
            context.close(promise: nil)
        }
        context.fireErrorCaught(error)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head:
            (isWhole, isAnswered) = (false, false)
            expect(within: limits.bodyTimeout, context)
        case .body(let octets): meter.content(octets.readableBytes)
        case .end:
            isWhole = true
            meter.isUnread = false
            asking?.cancel()
            if isAnswered { expectNext(context) }
        }
        context.fireChannelRead(data)
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        guard !isEnded else {
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
        case .head(let head):
            hasBegunToAnswer = head.status.code >= 200
            isLast = head.headers["connection"] == ["close"]
            context.write(wrapOutboundOut(.head(head)), promise: promise)
        case .body(let octets): context.write(wrapOutboundOut(.body(.byteBuffer(octets))), promise: promise)
        case .end(let trailer):
            // Before it is passed on: a request that waited for it comes in at once.
            (isAnswered, hasBegunToAnswer, isEnded) = (true, false, isLast)
            if isWhole { expectNext(context) } else { meter.isUnread = true }
            context.write(wrapOutboundOut(.end(trailer)), promise: promise)
        }
    }

    private func expectNext(_ context: ChannelHandlerContext) {
        meter.answered()
        expect(within: limits.headTimeout, context)
    }

    private func expect(within time: TimeAmount, _ context: ChannelHandlerContext) {
        asking?.cancel()
        asking = context.eventLoop.assumeIsolated().scheduleTask(in: time) { context.close(promise: nil) }
    }
}
