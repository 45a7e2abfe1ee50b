// One connection of an HTTPClient, behind NIO's HTTP/1.1 in its channel: feeds an HTTPExchange for each request and does what
// it says. Made by HTTPClientPool, which it tells how things went.

import NIOCore
import NIOHTTP1
import SlimtaMail
import SlimtaTLS

/// Lives on its channel's event loop.
///
/// A write can fail at once, and then calls back into here before it returns. So whatever a write needs to be true is
/// made true before it, and it comes last.
final class HTTPClientHandler: ChannelInboundHandler {
    typealias InboundIn = HTTPClientResponsePart
    typealias OutboundOut = HTTPClientRequestPart

    private let id: HTTPClientPool.ConnectionID
    let pool: HTTPClientPool
    let meter: HTTPClientMeter
    var context: ChannelHandlerContext?
    /// What is being done, or is to be done when the connection is open.
    var call: HTTPCall?
    /// nil: nothing is being asked.
    var exchange: HTTPExchange?
    var answer: HTTPAnswer?
    /// What the exchange came to; it counts when all that came with it has been looked at.
    private var answered: HTTPExchange.Action?
    /// Whether it can be asked: not before TLS is there, and not when it is closed or about to be.
    private var isOpen = false
    var isReused = false
    private var tls: TLSDescription?
    /// The connection is given no more requests after that.
    private var lifeEnd = NIODeadline.distantFuture

    /// Who sends the rest of the body, and waits for room.
    var sender: CheckedContinuation<Bool, Never>?
    /// How fast the request goes out; nil: it does not.
    var transfer: TransferWatch?
    /// Octets of it that the system has not taken yet.
    var unsent = 0
    /// Whether more of its body is still to come from the caller.
    var awaitsBody = false
    private var timer = SessionTimer()

    /// `call` is the first one.
    init(_ id: HTTPClientPool.ConnectionID, _ call: HTTPCall, meter: HTTPClientMeter, pool: HTTPClientPool) {
        self.id = id
        self.call = call
        self.meter = meter
        self.pool = pool
    }

    // MARK: For the pool

    /// Does the call, now that the last one is done.
    func start(_ call: HTTPCall) {
        guard context != nil, isOpen, self.call == nil else { return pool.repeated(call) }
        self.call = call
        begin()
    }

    /// Closes: only when idle.
    func retire() { close() }

    /// Nobody waits for the call any more.
    func end(_ call: HTTPCall, _ reason: HTTPClientPool.Reason) {
        guard self.call === call else { return }
        if exchange == nil {
            call.tell(.ended(.failure(reason.error)))
        } else if reason == .cancelled {
            perform(exchange?.received(.cancelled))
        }
    }

    // MARK: Beginning and end of the connection

    func handlerAdded(context: ChannelHandlerContext) { self.context = context }

    func handlerRemoved(context: ChannelHandlerContext) {
        self.context = nil
        timer.cancel()
    }

    func channelActive(context: ChannelHandlerContext) {
        lifeEnd = .now() + pool.limits.lifetime
        pool.connections.connected(id, connection(context))
        if let call, call.origin.tls != nil {
            setDeadline(.now() + call.limits.connectTimeout)
        } else {
            opened()
        }
        context.fireChannelActive()
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        switch event {
        case TLSHandler.Event.established(let facts):
            tls = facts.session
            opened()
        // A body that ends with the connection has not ended if the connection was cut.
        case TLSHandler.Event.truncated:
            settle(mayKeep: false)
            lost(.endedEarly)
        default: break
        }
        context.fireUserInboundEventTriggered(event)
    }

    func channelInactive(context: ChannelHandlerContext) {
        // A call may be on its way to us, and come before the handler is removed: another connection is to do it.
        isOpen = false
        settle(mayKeep: false)
        lost(.endedEarly)
        pool.closed(id)
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        settle(mayKeep: false)
        let reason: HTTPClientError =
            switch error {
            case let error as HTTPClientError: error
            case let error as TLSError: .tls(error)
            case HTTPParserError.invalidEOFState: .endedEarly
            case HTTPParserError.headerOverflow: .tooLarge
            case let error as HTTPParserError: .malformed("\(error)")
            default: .endedEarly
            }
        lost(reason)
    }

    func connection(_ context: ChannelHandlerContext) -> HTTPClientConnection {
        HTTPClientConnection(eventLoop: context.eventLoop, handler: .init(self, eventLoop: context.eventLoop))
    }

    private func opened() {
        isOpen = true
        pool.connections.opened(id)
        begin()
    }

    /// The connection is of no use any more.
    private func lost(_ reason: HTTPClientError) {
        guard let call else { return close() }
        if meter.hasOctets { _ = exchange?.received(.octets) }
        if exchange != nil { return perform(exchange?.received(.lost(reason))) }
        // It was never open.
        self.call = nil
        pool.failed(id, call, reason)
        close()
    }

    private func close() {
        isOpen = false
        context?.close(promise: nil)
    }

    // MARK: The answer

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        if context.channel.isWritable { letSenderGoOn() }
        context.fireChannelWritabilityChanged()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head(let head):
            answer = HTTPAnswer(head)
            perform(exchange?.received(.head(head)))
        case .body(var octets):
            meter.content(octets.readableBytes)
            perform(exchange?.received(.body(octets.readableBytes)))
            if exchange != nil { answer?.body.writeBuffer(&octets) }
        case .end: perform(exchange?.received(.end))
        }
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        settle()
        context.fireChannelReadComplete()
    }

    func perform(_ action: HTTPExchange.Action?) {
        guard let action, let call else { return }
        switch action {
        case .none: break
        case .stopSending:
            stopSending()
            setDeadline(min(.now() + call.limits.answerTimeout, call.end))
        case .hurry: setDeadline(min(timer.deadline, .now() + call.limits.cancelledTimeout))
        case .answered: answered = action
        case .stale:
            finish()
            pool.connections.abandoned(call)
            close()
            if call.mayRepeat() { pool.repeated(call) } else { call.tell(.ended(.failure(.endedEarly))) }
        case .failed(let error):
            finish()
            pool.connections.abandoned(call)
            close()
            call.tell(.ended(.failure(error)))
        }
    }

    /// The answer is whole, and nothing has come behind it.
    private func settle(mayKeep: Bool = true) {
        guard case .answered(let isKept) = answered, let call, var answer else { return }
        answer.isEarly = exchange?.isEarly ?? false
        answer.tls = tls
        finish()
        if isKept, mayKeep, pool.isKeeping {
            released(call)
        } else {
            pool.connections.abandoned(call)
            close()
        }
        call.tell(.ended(.success(answer)))
    }

    private func finish() {
        stopSending()
        call = nil
        exchange = nil
        answer = nil
        answered = nil
        meter.end()
    }

    /// The connection is as good as new: the next call, if there is one.
    func released(_ call: HTTPCall) {
        self.call = nil
        switch pool.connections.released(id, from: call, isOld: !pool.isKeeping || .now() >= lifeEnd) {
        case .idle: setDeadline(.now() + pool.limits.idleTimeout)
        case .start(let next):
            self.call = next
            begin()
        case .retire: close()
        }
    }

    // MARK: Deadlines

    /// The request moves, and its deadline with it. While the next part of the body is still to come from us, the server
    /// keeps nobody waiting.
    func moveDeadline() {
        guard let transfer, let call else { return }
        setDeadline(unsent == 0 && awaitsBody ? call.requestEnd : min(transfer.deadline, call.requestEnd))
    }

    func setDeadline(_ deadline: NIODeadline) {
        guard let context else { return }
        timer.set(deadline, on: context.eventLoop) { self.timerFired() }
    }

    private func timerFired() {
        guard let context, timer.hasPassed(on: context.eventLoop, fired: { self.timerFired() }) else { return }
        if exchange != nil {
            perform(exchange?.received(.timedOut))
        } else if call != nil {
            lost(.timedOut(.connecting))
        } else if pool.connections.expires(id) {
            close()
        }
    }
}
