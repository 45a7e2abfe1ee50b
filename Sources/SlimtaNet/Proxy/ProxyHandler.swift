// The first handler of a connection from a proxy, for any kind of edge: waits for the PROXY header, and is gone when it
// is there. The edge adds the handlers of its protocol, TLS included, when it knows by the header who the client is.

package import NIOCore

/// Reads a PROXY header.
///
/// Nothing is said to the peer: whoever sends no header, or something else, is closed without a word. Is added before
/// the channel is active.
package final class ProxyHandler: ChannelInboundHandler, RemovableChannelHandler {
    /// Octets from the channel.
    package typealias InboundIn = ByteBuffer
    /// What is behind the header.
    package typealias InboundOut = ByteBuffer

    /// Sent down the pipeline by the edge.
    package enum Event: Sendable {
        /// The server stops: who has not said yet who it is for is closed. Means nothing once the header is there.
        case stop
    }

    /// What came of the wait.
    package enum Outcome: Equatable, Sendable {
        /// The header is there: what is behind it goes to the handlers that are added within the call.
        case header(ProxyHeader)
        /// The connection is being closed: these octets are no header.
        case malformed(ProxyHeader.Malformed)
        /// The connection is being closed without a whole header; `hasBegun`: a part of one was there.
        case none(Reason, hasBegun: Bool)

        /// Why there was no header.
        package enum Reason: String, Sendable {
            /// It did not come in time.
            case late
            /// The peer has closed, or the connection broke.
            case gone
            /// ``Event/stop``.
            case stopped
        }
    }

    private let timeout: TimeAmount
    /// nil: it has been called.
    private var completion: ((Outcome) -> Void)?
    private var octets = ByteBuffer()
    private var deadline: Scheduled<Void>?
    private var isStopped = false

    /// - Parameters:
    ///   - timeout: from the beginning of the connection to the end of the header.
    ///   - completion: called once, on the event loop.
    package init(timeout: TimeAmount, completion: @escaping (Outcome) -> Void) {
        self.timeout = timeout
        self.completion = completion
    }

    /// The time for the header begins.
    package func channelActive(context: ChannelHandlerContext) {
        context.fireChannelActive()
        guard !isStopped else { return end(.none(.stopped, hasBegun: false), context) }
        deadline = context.eventLoop.assumeIsolated().scheduleTask(in: timeout) {
            self.end(.none(.late, hasBegun: self.octets.readableBytes > 0), context)
        }
    }

    /// Adds to the header, or passes on what came behind it.
    package func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard completion != nil else { return context.fireChannelRead(data) }
        var read = unwrapInboundIn(data)
        octets.writeBuffer(&read)
        do throws(ProxyHeader.Malformed) {
            guard let header = try ProxyHeader.parse(&octets) else { return }
            finish(.header(header))
        } catch {
            return end(.malformed(error), context)
        }
        if octets.readableBytes > 0 { context.fireChannelRead(wrapInboundOut(octets)) }
        octets = ByteBuffer()
        context.pipeline.syncOperations.removeHandler(context: context, promise: nil)
    }

    /// The peer may close one direction alone: behind a header that is not whole nothing is worth an answer.
    package func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        guard completion != nil else { return context.fireUserInboundEventTriggered(event) }
        switch event {
        case ChannelEvent.inputClosed: end(.none(.gone, hasBegun: octets.readableBytes > 0), context)
        case Event.stop:
            isStopped = true
            if context.channel.isActive { end(.none(.stopped, hasBegun: octets.readableBytes > 0), context) }
        default: context.fireUserInboundEventTriggered(event)
        }
    }

    /// Gone before the header was there.
    package func channelInactive(context: ChannelHandlerContext) {
        finish(.none(.gone, hasBegun: octets.readableBytes > 0))
        context.fireChannelInactive()
    }

    /// A connection that breaks is one that is gone: proxies look in that way whether we are there.
    package func errorCaught(context: ChannelHandlerContext, error: any Error) {
        guard completion != nil else { return context.fireErrorCaught(error) }
        end(.none(.gone, hasBegun: octets.readableBytes > 0), context)
    }

    private func end(_ outcome: Outcome, _ context: ChannelHandlerContext) {
        finish(outcome)
        context.close(promise: nil)
    }

    private func finish(_ outcome: Outcome) {
        deadline?.cancel()
        deadline = nil
        guard let completion else { return }
        self.completion = nil
        completion(outcome)
    }
}
