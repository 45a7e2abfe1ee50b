// Real sockets on loopback with the handler, for the tests that need a kernel or another program in between.

import NIOCore
import NIOPosix
import SlimtaMail
import Synchronization

@testable import SlimtaTLS

/// Sends back what it gets, closes after "BYE", and tells how a connection went.
final class Echo: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let log: Log
    private let greeting: String?
    private var isLeaving = false

    init(log: Log, greeting: String?) {
        self.log = log
        self.greeting = greeting
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        switch event {
        case TLSHandler.Event.established(let info):
            log.add(.established(info))
            if let greeting {
                context.writeAndFlush(wrapOutboundOut(ByteBuffer(string: greeting)), promise: nil)
            }
        case TLSHandler.Event.truncated: log.add(.truncated)
        default: context.fireUserInboundEventTriggered(event)
        }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        isLeaving = unwrapInboundIn(data).readableBytesView.suffix(4).elementsEqual("BYE\n".utf8)
        context.write(data, promise: nil)
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        context.flush()
        if isLeaving { context.close(promise: nil) }
    }

    /// What cannot be written is not read: as an edge does it.
    func channelWritabilityChanged(context: ChannelHandlerContext) {
        try? context.channel.syncOptions?.setOption(ChannelOptions.autoRead, value: context.channel.isWritable)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { log.add(.error("\(error)")) }

    func channelInactive(context: ChannelHandlerContext) { log.add(.inactive) }
}

/// What happened on all connections of a listener.
final class Log: Sendable {
    enum Entry: Hashable, Sendable {
        case established(TLSFacts)
        case truncated
        case error(String)
        case inactive
    }

    private let entriesBox = Mutex<[Entry]>([])

    var entries: [Entry] { entriesBox.withLock { $0 } }

    func add(_ entry: Entry) { entriesBox.withLock { $0.append(entry) } }

    /// The entries as soon as there are `count`, or what there is after ten seconds.
    func wait(_ count: Int) async throws -> [Entry] {
        for _ in 0..<1000 where entries.count < count { try await Task.sleep(for: .milliseconds(10)) }
        return entries
    }
}

/// A listener on 127.0.0.1 that speaks TLS and echoes.
struct EchoServer {
    let log = Log()
    let port: Int
    private let channel: any Channel

    init(_ context: TLSServerContext, greeting: String? = nil) async throws {
        let log = log
        channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .serverChannelOption(.backlog, value: 1024)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandlers([
                        TLSHandler(server: context), Echo(log: log, greeting: greeting),
                    ])
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        port = channel.localAddress!.port!
    }

    func close() async throws { try await channel.close() }
}

/// Sends what it is given once established, and keeps what it gets, until there is as much as expected.
final class Talker: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let words: ByteBuffer
    private let expected: Int
    private let done: EventLoopPromise<(TLSFacts, ByteBuffer)>
    private var info: TLSFacts?
    private var heard = ByteBuffer()

    init(words: ByteBuffer, expected: Int, done: EventLoopPromise<(TLSFacts, ByteBuffer)>) {
        self.words = words
        self.expected = expected
        self.done = done
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case TLSHandler.Event.established(let info) = event {
            self.info = info
            context.writeAndFlush(wrapOutboundOut(words), promise: nil)
        }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var buffer = unwrapInboundIn(data)
        heard.writeBuffer(&buffer)
        if heard.readableBytes >= expected, let info {
            done.succeed((info, heard))
            context.close(promise: nil)
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { done.fail(error) }

    func channelInactive(context: ChannelHandlerContext) { done.fail(ChannelError.eof) }
}

/// Connects, says `words`, and gives what was agreed and heard when that is `expected` octets.
func talk(
    to port: Int, _ client: TLSClientContext, words: ByteBuffer, expected: Int, verification: TLSVerification = .none
) async throws -> (TLSFacts, ByteBuffer) {
    let loop = MultiThreadedEventLoopGroup.singleton.next()
    let done = loop.makePromise(of: (TLSFacts, ByteBuffer).self)
    let connected = ClientBootstrap(group: loop)
        .channelInitializer { channel in
            channel.eventLoop.makeCompletedFuture {
                try channel.pipeline.syncOperations.addHandlers([
                    TLSHandler(client: client, serverName: "mx.example.com", verification: verification),
                    Talker(words: words, expected: expected, done: done),
                ])
            }
        }
        .connect(host: "127.0.0.1", port: port)
    // A channel that never was active does not tell its handlers.
    connected.whenFailure { done.fail($0) }
    let result = try await done.futureResult.get()
    try await connected.get().closeFuture.get()
    return result
}
