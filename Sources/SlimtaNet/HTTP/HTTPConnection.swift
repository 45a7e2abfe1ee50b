// One connection of the HTTP server: asks the service about each request, and writes its answer.

import NIOCore
import NIOHTTP1
import Synchronization

/// A connection that was accepted. Where nobody serves it, as the server ended just then, it is closed when it is let go.
final class HTTPConnection: Sendable {
    private typealias Part = HTTPServerHandler.ResponsePart

    /// How long an answer that is on its way when the server ends may take.
    private static let lastAnswerTimeout = TimeAmount.seconds(5)

    let channel: NIOAsyncChannel<HTTPServerRequestPart, HTTPServerHandler.ResponsePart>
    let peer: HTTPPeer
    let admission: HTTPAdmission
    private let isServed = Atomic(false)

    init(
        channel: NIOAsyncChannel<HTTPServerRequestPart, HTTPServerHandler.ResponsePart>, peer: HTTPPeer,
        admission: HTTPAdmission
    ) {
        self.channel = channel
        self.peer = peer
        self.admission = admission
    }

    deinit {
        // NIO ends the process where a channel of this kind is let go without. An error says that it is closed already.
        guard !isServed.load(ordering: .relaxed) else { return }
        Task { [channel] in try? await channel.executeThenClose { _, _ in } }
    }

    /// Serves it to its end. When the task is cancelled, a request that has been read is still answered.
    func serve(_ service: any HTTPService, _ limits: HTTPLimits) async {
        isServed.store(true, ordering: .relaxed)
        let channel = channel.channel
        do {
            try await withTaskCancellationHandler {
                try await self.channel.executeThenClose { parts, _ in
                    let body = HTTPBody(parts.makeAsyncIterator(), channel, limit: limits.body)
                    while let head = try await body.nextHead() {
                        let isLast = try await answer(head, body, service, limits)
                        if isLast { return }
                    }
                }
            } onCancel: {
                channel.eventLoop.scheduleTask(in: Self.lastAnswerTimeout) { channel.close(promise: nil) }
            }
        } catch {
            service.noticed(.broken(peer, error))
        }
    }

    /// Answers a request; whether the connection ends with that.
    private func answer(
        _ head: HTTPRequestHead, _ body: HTTPBody, _ service: any HTTPService, _ limits: HTTPLimits
    ) async throws -> Bool {
        let (response, isRefused) = try await response(to: head, body, service, limits)
        defer { response.afterwards() }
        var (octets, next): (ByteBuffer?, (@Sendable () async throws -> ByteBuffer?)?) = (nil, nil)
        switch response.content {
        case .whole(let whole): octets = whole
        case .stream(let stream): next = stream
        }
        // Where HTTP/1.0 knows no chunks the end of the connection is the end of the answer (RFC 9112 section 6.3).
        let isToTheEnd = next != nil && head.version == .http1_0
        let isLast =
            isRefused || isToTheEnd || !head.isKeepAlive || !body.isNearlyWhole
            // NIO's decoder takes what follows for another protocol.
            || head.method == .CONNECT || head.headers.contains(name: "upgrade")
        var answer = HTTPResponseHead(
            version: isToTheEnd ? .http1_0 : .http1_1, status: .init(statusCode: response.status),
            headers: HTTPHeaders(response.fields))
        if isLast { answer.headers.replaceOrAdd(name: "Connection", value: "close") }
        if let octets {
            answer.headers.replaceOrAdd(name: "Content-Length", value: "\(octets.readableBytes)")
        } else if !isToTheEnd {
            answer.headers.replaceOrAdd(name: "Transfer-Encoding", value: "chunked")
        }
        let channel = channel.channel
        channel.write(Part.head(answer), promise: nil)
        if head.method != .HEAD {
            if let octets { channel.write(Part.body(octets), promise: nil) }
            // Piece by piece: each is waited for until the kernel has it.
            while let octets = try await next?() { try await channel.writeAndFlush(Part.body(octets)).get() }
        }
        try await channel.writeAndFlush(Part.end(nil)).get()
        if !isLast { try await body.discard() }
        return isLast
    }

    /// What is answered, and whether it is a refusal behind which nothing more can be read.
    private func response(
        to head: HTTPRequestHead, _ body: HTTPBody, _ service: any HTTPService, _ limits: HTTPLimits
    ) async throws -> (HTTPResponse, isRefused: Bool) {
        if case .refused(let response) = admission {
            service.noticed(.refused(peer))
            return (response, true)
        }
        do {
            let framing = try HTTPFraming(head)
            body.begin(framing.length, awaitsContinue: framing.awaitsContinue)
            guard framing.length ?? 0 <= limits.body else { throw HTTPBody.TooLarge() }
            return (
                try await service.respond(to: HTTPRequest(head, length: framing.length, peer: peer), body: body), false
            )
        } catch let refusal as HTTPRefusal {
            return (.error(refusal.status, refusal.text), true)
        } catch is HTTPBody.TooLarge {
            return (.error(413, "more than \(limits.body) octets"), true)
        }
    }
}
