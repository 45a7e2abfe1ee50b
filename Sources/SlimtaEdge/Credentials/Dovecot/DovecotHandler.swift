// The connection to Dovecot: passes on what each line means. DovecotClient puts one into each channel.

import NIOCore
internal import SlimtaNet

/// Reads lines, and tells its client what they say and what the connection comes to.
final class DovecotHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let id: DovecotMachine.ConnectionID
    private let client: DovecotClient
    private var reader = DovecotLineReader()
    /// Nothing that comes means anything any more.
    private var isOver = false

    init(_ id: DovecotMachine.ConnectionID, _ client: DovecotClient) {
        self.id = id
        self.client = client
    }

    func channelActive(context: ChannelHandlerContext) {
        client.connected(id, context.channel)
        context.fireChannelActive()
    }

    func channelInactive(context: ChannelHandlerContext) {
        end("it closed the connection")
        context.fireChannelInactive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var octets = unwrapInboundIn(data)
        do {
            while !isOver, let line = try reader.read(&octets) { client.received(id, try DovecotMessage(line)) }
        } catch {
            end("\(error)")
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        end(error.connectionReason)
        context.close(promise: nil)
    }

    private func end(_ reason: String) {
        guard !isOver else { return }
        isOver = true
        client.failed(id, reason)
    }
}
