// What the HTTP server makes of a connection's octets: requests, their bodies' ends, and what is refused.

import NIOCore
import NIOEmbedded
import NIOHTTP1
import SlimtaMail

@testable import SlimtaNet

extension FuzzTarget {
    /// Requests are the same however they come, and their bodies as long as they say; what is refused is the last.
    static let http = FuzzTarget(name: "http", maximumLength: 1500) { octets in
        let requests = try anyCut(octets) { chunks in
            let channel = EmbeddedChannel()
            var limits = HTTPLimits()
            limits.head = 1 << 20
            let meter = HTTPMeter(limit: limits.head)
            let service = AnsweringHandler()
            let pipeline = channel.pipeline.syncOperations
            try pipeline.addHandler(meter)
            try pipeline.configureHTTPServerPipeline(withErrorHandling: false)
            try pipeline.addHandler(HTTPServerHandler(limits, meter))
            try pipeline.addHandler(service)
            try channel.connect(to: SocketAddress(unixDomainSocketPath: "/x")).wait()
            for chunk in chunks where channel.isActive {
                channel.pipeline.fireChannelRead(chunk)
                channel.pipeline.fireChannelReadComplete()
                channel.embeddedEventLoop.run()
            }
            var answers = 0
            while let part = try channel.readOutbound(as: ByteBuffer.self) {
                answers += String(buffer: part).hasPrefix("HTTP/1.") ? 1 : 0
            }
            // One for each, and one at most for what is no HTTP.
            let whole = service.requests.count { $0.isWhole }
            try hold((whole...whole + 1).contains(answers), "\(answers) answers to \(whole) requests")
            _ = try? channel.finish(acceptAlreadyClosed: true)
            return service.requests
        }
        for request in requests { try request.check() }
        let text = String(decoding: octets, as: UTF8.self)
        if let target = HTTPTarget(text) {
            try same(HTTPTarget(target.description), target, "\(text) as a client writes it")
            try hold(target.description.utf8.allSatisfy { (33...126).contains($0) }, "\(target) in a request line")
        }
    }
}

/// A request as it was understood.
private struct UnderstoodRequest: Equatable {
    let method: String
    let target: String
    let fields: [String]
    let length: Int?
    let refusal: Int?
    var body: [UInt8] = []
    var isWhole = false

    /// RFC 9112 section 6.3.
    func check() throws {
        guard refusal == nil else { return }
        func values(_ name: String) -> [String] {
            fields.filter { $0.lowercased().hasPrefix(name + ": ") }.map { String($0.dropFirst(name.count + 2)) }
        }
        let (lengths, codings) = (values("content-length"), values("transfer-encoding"))
        try hold(lengths.isEmpty || codings.isEmpty, "\(self) has a length and chunks")
        try hold(lengths.count <= 1 && codings.count <= 1, "\(self) has two lengths")
        try hold(codings.allSatisfy { $0.lowercased() == "chunked" }, "\(self) has another coding")
        if codings.isEmpty {
            try same(length, lengths.first.map { Int($0) ?? -1 } ?? 0, "the length of \(self)")
            try hold(body.count <= length ?? 0, "\(self) has more of a body than it says")
            if isWhole { try same(body.count, length, "the body of \(self)") }
        } else {
            try same(length, nil, "the length of chunks")
        }
        try hold(values("host").count <= 1, "\(self) has two hosts")
        try hold(
            fields.allSatisfy { !$0.utf8.contains(13) && !$0.utf8.contains(10) && !$0.utf8.contains(0) }, "\(self)")
    }
}

/// In the place of the server's connection: reads, and answers each request when it is there.
private final class AnsweringHandler: ChannelInboundHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerHandler.ResponsePart

    private(set) var requests: [UnderstoodRequest] = []
    private var isRefused = false

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head(let head):
            guard !isRefused else { return }
            var (length, refusal): (Int?, Int?) = (nil, nil)
            do throws(HTTPRefusal) { length = try HTTPFraming(head).length } catch { refusal = error.status }
            requests.append(
                UnderstoodRequest(
                    method: head.method.rawValue, target: head.uri,
                    fields: head.headers.map { "\($0.name): \($0.value)" }, length: length, refusal: refusal))
            // Behind it nothing can be read.
            isRefused = refusal != nil || head.method == .CONNECT || head.headers.contains(name: "upgrade")
        case .body(let octets):
            if requests.isEmpty || isRefused { return }
            requests[requests.count - 1].body += octets.readableBytesView
        case .end:
            guard !isRefused, !requests.isEmpty else {
                context.close(promise: nil)
                return
            }
            requests[requests.count - 1].isWhole = true
            var head = HTTPResponseHead(version: .http1_1, status: .ok)
            head.headers.add(name: "Content-Length", value: "0")
            context.write(wrapOutboundOut(.head(head)), promise: nil)
            context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {}
}
