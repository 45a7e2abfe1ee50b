// Between HTTP and the control server: keeps a connection's octets and times within limits. One for each connection of
// the control socket.

import NIOCore
import NIOHTTP1

/// Counts what a client sends before the HTTP decoder keeps it, and ends a connection that sends too much.
final class ControlMeter: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = ByteBuffer

    private let limit: Int
    /// Since the last answer.
    private var octets = 0

    init(limit: Int) { self.limit = limit }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        octets += unwrapInboundIn(data).readableBytes
        guard octets <= limit else { return context.close(promise: nil) }
        context.fireChannelRead(data)
    }

    /// A request has been answered: the next one may be as large.
    func answered() { octets = 0 }
}

/// Ends connections that take too long to ask or to listen.
final class ControlHandler: ChannelDuplexHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias InboundOut = HTTPServerRequestPart
    typealias ResponsePart = HTTPPart<HTTPResponseHead, ByteBuffer>
    typealias OutboundIn = ResponsePart
    typealias OutboundOut = HTTPServerResponsePart

    private let limits: ControlServer.Limits
    private let meter: ControlMeter
    private var deadline: Scheduled<Void>?

    init(_ limits: ControlServer.Limits, _ meter: ControlMeter) {
        self.limits = limits
        self.meter = meter
    }

    func handlerAdded(context: ChannelHandlerContext) { expect(within: limits.requestTimeout, context) }

    func channelInactive(context: ChannelHandlerContext) {
        deadline?.cancel()
        context.fireChannelInactive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head, .body: break
        case .end: deadline?.cancel()
        }
        context.fireChannelRead(data)
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        switch unwrapOutboundIn(data) {
        case .head(let head): context.write(wrapOutboundOut(.head(head)), promise: promise)
        case .body(let octets): context.write(wrapOutboundOut(.body(.byteBuffer(octets))), promise: promise)
        case .end(let trailer):
            // Before it is passed on: a request that waited for it comes in at once.
            meter.answered()
            expect(within: limits.requestTimeout, context)
            context.write(wrapOutboundOut(.end(trailer)), promise: promise)
        }
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        if context.channel.isWritable { deadline?.cancel() } else { expect(within: limits.answerTimeout, context) }
        context.fireChannelWritabilityChanged()
    }

    private func expect(within time: TimeAmount, _ context: ChannelHandlerContext) {
        deadline?.cancel()
        deadline = context.eventLoop.assumeIsolated().scheduleTask(in: time) { context.close(promise: nil) }
    }
}
