// One connection to a policy server: passes answers on as they are whole. PolicyServiceClient puts one into each channel.

import NIOCore
internal import SlimtaNet
internal import SlimtaRules

/// Reads answers, and tells its client what the connection comes to.
final class PolicyServiceHandler: ChannelDuplexHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let id: PolicyServiceMachine.ConnectionID
    private let client: PolicyServiceClient
    private var parser = PolicyAnswerParser()
    /// Whether an answer is due.
    private var isAsked = false
    /// Nothing that comes means anything any more.
    private var isOver = false

    init(_ id: PolicyServiceMachine.ConnectionID, _ client: PolicyServiceClient) {
        self.id = id
        self.client = client
    }

    func channelActive(context: ChannelHandlerContext) {
        client.connected(id, context.channel)
        context.fireChannelActive()
    }

    func channelInactive(context: ChannelHandlerContext) {
        let whileAsked =
            parser.isWithinAnswer ? "it closed the connection within its answer" : "it closed the connection"
        end { $0.failed(id, whileAsked) }
        client.closed(id)
        context.fireChannelInactive()
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        isAsked = true
        context.write(data, promise: promise)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard !isOver else { return }
        var octets = unwrapInboundIn(data)
        guard isAsked else { return end { $0.failed(id, "it said something without being asked") } }
        switch parser.read(&octets) {
        case .more: break
        case .answer(let answer):
            isAsked = false
            let isInOrder = octets.readableBytes == 0
            if !isInOrder { isOver = true }
            client.answered(id, answer, isInOrder: isInOrder, hasCRLF: parser.hasSeenCRLF)
        case .malformed(let fault): end { $0.failed(id, "its answer has \(fault)") }
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        end { $0.failed(id, error.connectionReason) }
        context.close(promise: nil)
    }

    private func end(_ tell: (PolicyServiceClient) -> Void) {
        guard !isOver else { return }
        isOver = true
        tell(client)
    }
}
