// In front of NIO's HTTP/1.1 in the channel of a server's connection: counts octets, and knows when the socket is read.
// HTTPConnection puts one there, and HTTPServerHandler behind it tells it how far the requests are.

import NIOCore

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
    /// Whether one direction can be closed alone: with TLS it cannot.
    private let closesHalf: Bool
    /// Since the last request; while lingering, since then.
    private var octets = 0
    /// Half-closed; until when.
    private var lingering: Scheduled<Void>?
    /// Whether the client may still be sending what is not read any more.
    var isUnread = false
    /// The client has closed its side: nothing more comes.
    private var isInputClosed = false
    /// Since when the socket is not read. NIO keeps requests that were sent ahead, and passes them on with an end of a read
    /// of their own while the socket is read: nobody behind it can tell.
    private var heldSince: NIODeadline?
    private var held = TimeAmount.zero

    init(limit: Int, closesHalf: Bool = true) {
        self.limit = limit
        self.closesHalf = closesHalf
    }

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
        heldSince = context.eventLoop.now
        context.fireChannelReadComplete()
        if lingering != nil { context.read() }
    }

    func read(context: ChannelHandlerContext) {
        held = timeHeld(at: context.eventLoop.now)
        heldSince = nil
        context.read()
    }

    /// For how long the socket was not read, since this was asked last.
    func timeHeld(at now: NIODeadline) -> TimeAmount {
        defer { held = .zero }
        guard let heldSince else { return held }
        self.heldSince = now
        return held + (now - heldSince)
    }

    func channelInactive(context: ChannelHandlerContext) {
        lingering?.cancel()
        context.fireChannelInactive()
    }

    func close(context: ChannelHandlerContext, mode: CloseMode, promise: EventLoopPromise<Void>?) {
        guard isUnread, !isInputClosed, mode == .all else { return context.close(mode: mode, promise: promise) }
        context.channel.closeFuture.cascade(to: promise)
        guard lingering == nil else { return }
        octets = 0
        lingering = context.eventLoop.assumeIsolated().scheduleTask(in: Self.patience) { context.close(promise: nil) }
        if closesHalf { context.close(mode: .output, promise: nil) }
        context.read()
    }

    /// While lingering: the client has seen why it need not go on.
    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case ChannelEvent.inputClosed = event {
            isInputClosed = true
            if lingering != nil { return context.close(promise: nil) }
        }
        context.fireUserInboundEventTriggered(event)
    }

    /// Content that was counted with the rest.
    func content(_ count: Int) { octets = max(0, octets - count * Self.worth) }

    /// A request has been read and answered: the next one may be as large.
    func answered() { octets = 0 }
}
