// What a server sends that is no content, counted in front of NIO's decoder. One for each connection of an HTTPClient.

import NIOCore

/// NIO's decoder has limits for fields alone: a status line, blank lines, informational answers and the framing of chunks
/// could go on for ever. And of what comes unasked it tells nothing before it is a whole head.
final class HTTPClientMeter: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = ByteBuffer

    /// Octets that an octet of content pays for: as many as the shortest chunk has.
    private static let worth = 8

    private var limit = 0
    private var octets = 0

    /// Whether anything has come since ``begin(limit:)``.
    var hasOctets: Bool { octets > 0 }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        octets += unwrapInboundIn(data).readableBytes
        // First it is decoded: what of it is content counts otherwise.
        context.fireChannelRead(data)
        if octets > limit { context.fireErrorCaught(HTTPClientError.tooLarge) }
    }

    /// A request is made: its answer may have so many octets besides its content.
    func begin(limit: Int) { (self.limit, octets) = (limit, 0) }

    /// Nothing may come.
    func end() { (limit, octets) = (0, 0) }

    /// Content that was counted with the rest.
    func content(_ count: Int) { octets = max(0, octets - count * Self.worth) }
}
