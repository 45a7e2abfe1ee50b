// A client on a real socket that reads line by line, and holds no thread while it waits. Tests of edges and of the whole
// daemon talk to them with it.

import NIOCore
import NIOPosix
import Synchronization

/// A connection to a server that speaks in lines.
package final class LineClient: Sendable {
    private let channel: any Channel
    private let lines: LineCollector

    /// Connects to 127.0.0.1.
    package convenience init(port: Int) async throws {
        try await self.init { try await $0.connect(host: "127.0.0.1", port: port).get() }
    }

    /// Connects to a UNIX socket.
    package convenience init(path: String) async throws {
        try await self.init { try await $0.connect(unixDomainSocketPath: path).get() }
    }

    private init(_ connect: (ClientBootstrap) async throws -> any Channel) async throws {
        let lines = LineCollector()
        self.lines = lines
        channel = try await connect(
            ClientBootstrap(group: .singletonMultiThreadedEventLoopGroup)
                .channelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try channel.pipeline.syncOperations.addHandler(lines.handler)
                    }
                })
    }

    deinit { channel.close(promise: nil) }

    package func send(_ text: String) async throws { try await channel.writeAndFlush(ByteBuffer(string: text)) }

    /// The next line without its end; nil: the server has closed.
    package func line() async -> String? { await lines.next() }

    /// The last line of the next reply, which may have several (RFC 5321 section 4.2.1); nil: the server has closed.
    package func reply() async -> String? {
        while let line = await line() { if line.dropFirst(3).first != "-" { return line } }
        return nil
    }

    /// Sends a command, and returns the last line of its reply.
    package func ask(_ command: String) async throws -> String? {
        try await send(command + "\r\n")
        return await reply()
    }
}

/// What has come and nobody has asked for yet.
private final class LineCollector: Sendable {
    private let stream: AsyncStream<String>
    private let continuation: AsyncStream<String>.Continuation

    init() { (stream, continuation) = AsyncStream.makeStream(of: String.self) }

    var handler: LineHandler { LineHandler(continuation) }

    func next() async -> String? {
        for await line in stream { return line }
        return nil
    }
}

private final class LineHandler: ChannelInboundHandler, Sendable {
    typealias InboundIn = ByteBuffer

    private let continuation: AsyncStream<String>.Continuation
    private let rest = Mutex("")

    init(_ continuation: AsyncStream<String>.Continuation) { self.continuation = continuation }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        rest.withLock { rest in
            rest += String(buffer: unwrapInboundIn(data))
            while let end = rest.firstIndex(of: "\r\n") {
                continuation.yield(String(rest[..<end]))
                rest = String(rest[rest.index(after: end)...])
            }
        }
    }

    func channelInactive(context: ChannelHandlerContext) { continuation.finish() }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
}
