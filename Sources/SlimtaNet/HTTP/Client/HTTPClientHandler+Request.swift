// How a request goes out on a connection of an HTTPClient: in pieces that are counted, no faster than the system takes them.

import NIOCore
import NIOHTTP1

extension HTTPClientHandler {
    /// A body goes out in pieces of that many octets, so that it is seen how it moves.
    private static let piece = 16_384

    /// Does the call that there is.
    func begin() {
        guard let call, let context else { return }
        guard !call.isOver else { return released(call) }
        exchange = HTTPExchange(
            call.limits, method: call.head.method.rawValue, isReused: isReused, isIdempotent: call.isIdempotent)
        isReused = true
        answer = nil
        meter.begin(limit: call.limits.head)
        unsent = 0
        awaitsBody = call.stream != nil
        transfer = TransferWatch(call.limits.transfer, at: .now())
        moveDeadline()
        context.write(wrapOutboundOut(.head(call.head)), promise: nil)
        if let body = call.body { write(body, of: call, context) }
        if call.stream == nil { return finishRequest(call, context) }
        context.flush()
        if self.call === call {
            call.tell(.wantsBody(connection(context)))
        }
    }

    /// Sends a part of the body; true if more may come.
    func send(_ part: ByteBuffer, of call: HTTPCall, reply: CheckedContinuation<Bool, Never>) {
        guard isSending(call), let context else { return reply.resume(returning: false) }
        sender = reply
        write(part, of: call, context)
        context.flush()
        if self.context?.channel.isWritable ?? true { letSenderGoOn() }
    }

    /// The last octets and the end at once: an answer that is quick is none before the end.
    func endBody(with last: ByteBuffer, of call: HTTPCall) {
        guard isSending(call), let context else { return }
        awaitsBody = false
        write(last, of: call, context)
        if isSending(call) { finishRequest(call, context) }
    }

    /// The rest of it cannot be had. The connection ends before the request does, so nobody takes that for whole.
    func failBody(_ why: String, of call: HTTPCall) { if isSending(call) { perform(.failed(.noBody(why))) } }

    private func isSending(_ call: HTTPCall) -> Bool { self.call === call && transfer != nil }

    private func write(_ octets: ByteBuffer, of call: HTTPCall, _ context: ChannelHandlerContext) {
        // Until now it was our turn.
        if unsent == 0 { transfer?.resumed(at: .now()) }
        unsent += octets.readableBytes
        moveDeadline()
        var octets = octets
        while let piece = octets.readSlice(length: min(Self.piece, octets.readableBytes)), piece.readableBytes > 0 {
            let promise = context.eventLoop.makePromise(of: Void.self)
            let count = piece.readableBytes
            promise.futureResult.assumeIsolated().whenSuccess { self.left(count, of: call) }
            context.write(wrapOutboundOut(.body(.byteBuffer(piece))), promise: promise)
        }
    }

    /// So many octets of the body have left.
    private func left(_ count: Int, of call: HTTPCall) {
        guard isSending(call) else { return }
        unsent -= count
        transfer?.moved(count, at: .now())
        moveDeadline()
    }

    private func finishRequest(_ call: HTTPCall, _ context: ChannelHandlerContext) {
        let promise = context.eventLoop.makePromise(of: Void.self)
        promise.futureResult.assumeIsolated().whenSuccess {
            guard self.isSending(call) else { return }
            self.stopSending()
            self.setDeadline(min(.now() + call.limits.answerTimeout, call.end))
            self.perform(self.exchange?.received(.sent))
        }
        context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: promise)
    }

    /// There is room for more.
    func letSenderGoOn() {
        let sender = sender
        self.sender = nil
        sender?.resume(returning: true)
    }

    /// Nothing more of the request goes out.
    func stopSending() {
        transfer = nil
        sender?.resume(returning: false)
        sender = nil
    }
}
