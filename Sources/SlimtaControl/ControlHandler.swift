// Between HTTP and the control server: keeps a connection's octets and times within limits. One for each connection of
// the control socket.

import NIOCore
import NIOHTTP1

/// Counts what a request brings, and ends connections that take too long to ask or to listen.
final class ControlHandler: ChannelDuplexHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias InboundOut = HTTPServerRequestPart
    typealias ResponsePart = HTTPPart<HTTPResponseHead, ByteBuffer>
    typealias OutboundIn = ResponsePart
    typealias OutboundOut = HTTPServerResponsePart

    private let limits: ControlServer.Limits
    private var octets = 0
    private var deadline: Scheduled<Void>?

    init(_ limits: ControlServer.Limits) { self.limits = limits }

    func handlerAdded(context: ChannelHandlerContext) { expect(within: limits.requestTimeout, context) }

    func channelInactive(context: ChannelHandlerContext) {
        deadline?.cancel()
        context.fireChannelInactive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head(let head):
            octets = head.uri.utf8.count + head.headers.reduce(0) { $0 + $1.name.utf8.count + $1.value.utf8.count }
        case .body(let body): octets += body.readableBytes
        case .end: deadline?.cancel()
        }
        guard octets <= limits.request else { return context.close(promise: nil) }
        context.fireChannelRead(data)
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        switch unwrapOutboundIn(data) {
        case .head(let head): context.write(wrapOutboundOut(.head(head)), promise: promise)
        case .body(let octets): context.write(wrapOutboundOut(.body(.byteBuffer(octets))), promise: promise)
        case .end(let trailer):
            context.write(wrapOutboundOut(.end(trailer)), promise: promise)
            octets = 0
            expect(within: limits.requestTimeout, context)
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
