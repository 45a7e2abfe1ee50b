// Around NIO's HTTP/1.1 in the channel of a client's connection: HTTPClientMeter in front of it counts octets,
// HTTPClientHandler behind it asks and collects the answer. One pair for each connection, made by HTTPCall.

import NIOCore
import NIOHTTP1
import SlimtaTLS

/// Counts what a server sends that is no content. NIO's decoder has limits for fields alone: a status line, blank lines,
/// informational answers and the framing of chunks could go on for ever.
final class HTTPClientMeter: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = ByteBuffer

    /// Octets that an octet of content pays for: as many as the shortest chunk has.
    private static let worth = 8

    private let limit: Int
    private var octets = 0

    init(limit: Int) { self.limit = limit }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        octets += unwrapInboundIn(data).readableBytes
        // First it is decoded: what of it is content counts otherwise.
        context.fireChannelRead(data)
        if octets > limit { context.fireErrorCaught(HTTPClientError.tooLarge) }
    }

    /// Content that was counted with the rest.
    func content(_ count: Int) { octets = max(0, octets - count * Self.worth) }
}

/// Sends the request as soon as there is a connection, and says once how it ended.
final class HTTPClientHandler: ChannelInboundHandler {
    typealias InboundIn = HTTPClientResponsePart
    typealias OutboundOut = HTTPClientRequestPart

    private let head: HTTPRequestHead
    private let body: ByteBuffer?
    private let limit: Int
    private let meter: HTTPClientMeter
    private let ended: (Result<HTTPAnswer, HTTPClientError>) -> Void
    private var answer: HTTPAnswer?
    private var isEnded = false

    /// - Parameters:
    ///   - limit: octets of the answer's body.
    ///   - ended: closes the channel.
    init(
        _ head: HTTPRequestHead, _ body: ByteBuffer?, limit: Int, meter: HTTPClientMeter,
        ended: @escaping (Result<HTTPAnswer, HTTPClientError>) -> Void
    ) {
        self.head = head
        self.body = body
        self.limit = limit
        self.meter = meter
        self.ended = ended
    }

    func channelActive(context: ChannelHandlerContext) {
        // With TLS it leaves when the handshake is done.
        context.write(wrapOutboundOut(.head(head)), promise: nil)
        if let body { context.write(wrapOutboundOut(.body(.byteBuffer(body))), promise: nil) }
        context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
        context.fireChannelActive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard !isEnded else { return }
        switch unwrapInboundIn(data) {
        case .head(let head):
            if let fault = Self.fault(of: head) { return end(.failure(.malformed(fault))) }
            answer = HTTPAnswer(head)
        case .body(var octets):
            meter.content(octets.readableBytes)
            let count = (answer?.body.readableBytes ?? 0) + octets.readableBytes
            guard count <= limit else { return end(.failure(.tooLarge)) }
            answer?.body.writeBuffer(&octets)
        case .end: if let answer { end(.success(answer)) }
        }
    }

    /// A body that ends with the connection has not ended if the connection was cut.
    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case TLSHandler.Event.truncated = event { end(.failure(.endedEarly)) }
        context.fireUserInboundEventTriggered(event)
    }

    func channelInactive(context: ChannelHandlerContext) {
        end(.failure(.endedEarly))
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        let reason: HTTPClientError =
            switch error {
            case let error as HTTPClientError: error
            case let error as TLSError: .tls(error)
            case HTTPParserError.invalidEOFState: .endedEarly
            case HTTPParserError.headerOverflow: .tooLarge
            case let error as HTTPParserError: .malformed("\(error)")
            default: .endedEarly
            }
        end(.failure(reason))
    }

    /// Why nobody knows where the answer ends (RFC 9112 section 6.3), beyond what NIO's decoder refuses.
    private static func fault(of head: HTTPResponseHead) -> String? {
        if head.status.code == 101 { return "101 to a request that asked for no other protocol" }
        let codings = head.headers["transfer-encoding"]
        guard !codings.isEmpty else { return nil }
        let isPlain = codings.count == 1 && codings[0].lowercased() == "chunked"
        guard isPlain, head.version == .http1_1, !head.headers.contains(name: "content-length") else {
            return "Transfer-Encoding is chunked, alone, and without Content-Length"
        }
        return nil
    }

    private func end(_ outcome: Result<HTTPAnswer, HTTPClientError>) {
        guard !isEnded else { return }
        isEnded = true
        ended(outcome)
    }
}
