// One connection of the HTTP server: asks the service about each request, and writes its answer.

import NIOCore
import NIOHTTP1
import SlimtaMail
import SlimtaTLS
import Synchronization

/// A connection that was accepted. Where nobody serves it, as the server ended just then, it is closed when it is let go.
final class HTTPConnection: Sendable {
    private typealias Part = HTTPServerHandler.ResponsePart

    /// How long an answer that is on its way when the server ends may take.
    private static let lastAnswerTimeout = TimeAmount.seconds(5)

    private let channel: NIOAsyncChannel<HTTPServerRequestPart, HTTPServerHandler.ResponsePart>
    private let accepted: HTTPPeer
    private let admission: HTTPAdmission
    /// Of the handshake, when it is done.
    private let tls: NIOLoopBoundBox<TLSFacts?>
    private let abandonment = HTTPAbandonment()
    private let isServed = Atomic(false)

    /// Adds HTTP to the pipeline of `channel`, on its event loop.
    ///
    /// - Parameter tls: nil: in clear.
    init(
        on channel: any Channel, _ peer: HTTPPeer, _ admission: HTTPAdmission, _ limits: HTTPLimits,
        tls: TLSServerContext? = nil
    ) throws {
        let pipeline = channel.pipeline.syncOperations
        if let tls { try pipeline.addHandler(TLSHandler(server: tls, keepsWriting: true)) }
        let meter = HTTPMeter(limit: limits.head, closesHalf: tls == nil)
        try pipeline.addHandler(meter)
        var decoder = NIOHTTPDecoderLimitConfiguration()
        (decoder.maxHeaderFieldSize, decoder.maxHeaderListSize) = (limits.field, limits.head)
        decoder.maxHeaderFieldCount = limits.fields
        try pipeline.configureHTTPServerPipeline(
            withErrorHandling: false, withEncoderConfiguration: .init(), withDecoderLimitConfiguration: decoder)
        let facts = NIOLoopBoundBox<TLSFacts?>(nil, eventLoop: channel.eventLoop)
        let established = tls.map { _ in { (new: TLSFacts) in facts.value = new } }
        try pipeline.addHandler(HTTPServerHandler(limits, meter, established: established))
        self.channel = try NIOAsyncChannel(wrappingChannelSynchronously: channel)
        self.tls = facts
        accepted = peer
        self.admission = admission
        channel.closeFuture.whenComplete { [abandonment] _ in abandonment.gone() }
    }

    /// Where it is to be served.
    var executor: EventLoopExecutor { EventLoopExecutor(channel.channel.eventLoop) }

    /// Who is there, with what the handshake has come to. On the event loop.
    private var peer: HTTPPeer {
        guard let facts = tls.value else { return accepted }
        var connection = accepted.connection
        connection.tls = facts
        return HTTPPeer(connection: connection, process: accepted.process)
    }

    deinit {
        // NIO ends the process where a channel of this kind is let go without. An error says that it is closed already.
        guard !isServed.load(ordering: .relaxed) else { return }
        Task { [channel] in try? await channel.executeThenClose { _, _ in } }
    }

    /// Serves it to its end, on its event loop. When the task is cancelled, a request that has been read is still answered.
    func serve(_ service: any HTTPService, _ limits: HTTPLimits) async {
        isServed.store(true, ordering: .relaxed)
        let channel = channel.channel
        do {
            try await withTaskCancellationHandler {
                try await self.channel.executeThenClose { parts, _ in
                    let body = HTTPBody(parts.makeAsyncIterator(), channel, limit: limits.body)
                    var progress = Progress()
                    while let head = try await body.nextHead() {
                        let isLast = try await answer(head, body, service, limits, &progress)
                        if isLast { return }
                    }
                }
            } onCancel: {
                channel.eventLoop.scheduleTask(in: Self.lastAnswerTimeout) { channel.close(promise: nil) }
            }
        } catch {
            service.noticed(.broken(accepted, error))
        }
    }

    /// What a connection has come to: who asks and asks, and leads to nothing, is to let others in.
    private struct Progress {
        private var requests = 0
        private var errors = 0

        /// Counts an answer; whether that is enough.
        mutating func isEnough(_ method: HTTPMethod, _ status: Int, _ limits: HTTPLimits) -> Bool {
            if method == .POST, status < 300 { self = Progress() } else { requests += 1 }
            errors = status < 400 ? 0 : errors + 1
            return requests >= limits.commands || errors >= limits.errors
        }

        /// Whether the answer is to wait: ``HTTPLimits/pause``.
        func mustWait(_ limits: HTTPLimits) -> Bool {
            errors > limits.errors / 2 || requests > 0 && requests % 8 == 0
        }
    }

    /// Answers a request; whether the connection ends with that.
    private func answer(
        _ head: HTTPRequestHead, _ body: HTTPBody, _ service: any HTTPService, _ limits: HTTPLimits,
        _ progress: inout Progress
    ) async throws -> Bool {
        defer { abandonment.clear() }
        let (response, isRefused) = try await response(to: head, body, service, limits)
        defer { response.afterwards() }
        var (octets, next): (ByteBuffer?, (@Sendable () async throws -> ByteBuffer?)?) = (nil, nil)
        switch response.content {
        case .whole(let whole): octets = whole
        case .stream(let stream): next = stream
        }
        // Where HTTP/1.0 knows no chunks the end of the connection is the end of the answer (RFC 9112 section 6.3).
        let isToTheEnd = next != nil && head.version == .http1_0
        let isEnough = progress.isEnough(head.method, response.status, limits)
        if limits.pause > .zero, progress.mustWait(limits) { await pause(limits.pause) }
        let isLast =
            isRefused || isToTheEnd || !head.isKeepAlive || !body.isNearlyWhole
            // NIO's decoder takes what follows for another protocol.
            || head.method == .CONNECT || head.headers.contains(name: "upgrade")
            || isEnough
        var answer = HTTPResponseHead(
            version: isToTheEnd ? .http1_0 : .http1_1, status: .init(statusCode: response.status),
            headers: HTTPHeaders(response.fields))
        // RFC 9110 section 6.6.1.
        answer.headers.replaceOrAdd(name: "Date", value: Timestamp.now().httpDate)
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

    /// Lets others go first: nothing is read meanwhile. Ends with the connection.
    private func pause(_ time: TimeAmount) async {
        let turn = channel.channel.eventLoop.scheduleTask(in: time) {}
        abandonment.set { turn.cancel() }
        try? await turn.futureResult.get()
    }

    /// What is answered, and whether it is a refusal behind which nothing more can be read.
    private func response(
        to head: HTTPRequestHead, _ body: HTTPBody, _ service: any HTTPService, _ limits: HTTPLimits
    ) async throws -> (HTTPResponse, isRefused: Bool) {
        if case .refused(let response) = admission {
            service.noticed(.refused(accepted))
            return (response, true)
        }
        do {
            let framing = try HTTPFraming(head)
            body.begin(framing.length, awaitsContinue: framing.awaitsContinue)
            guard framing.length ?? 0 <= limits.body else { throw HTTPBody.TooLarge() }
            return (
                try await service.respond(
                    to: HTTPRequest(head, length: framing.length, peer: peer, channel: channel.channel, abandonment),
                    body: body),
                false
            )
        } catch let refusal as HTTPRefusal {
            service.noticed(.malformed(accepted, refusal.status, refusal.text))
            return (.error(refusal.status, refusal.text), true)
        } catch is HTTPBody.TooLarge {
            return (.error(413, "more than \(limits.body) octets"), true)
        }
    }
}
