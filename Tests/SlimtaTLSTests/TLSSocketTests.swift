// The handler on real sockets: much data, many connections, and the openssl command at the other end.

import Foundation
import NIOCore
import NIOPosix
import SlimtaMail
import TestKit
import Testing

@testable import SlimtaTLS

@Suite struct TLSSocketTests {
    @Test(arguments: Version.allCases)
    func muchData(version: Version) async throws {
        let server = try await EchoServer(Fixture.server())
        var random = SeededGenerator(seed: 6)
        var bytes = random.bytes(100_000)
        for _ in 0..<6 { bytes.writeImmutableBuffer(bytes) }
        let (info, heard) = try await talk(
            to: server.port, Fixture.opportunistic(newest: version), words: bytes, expected: bytes.readableBytes)
        #expect(info.session.version == version.rawValue)
        #expect(heard == bytes)
        let entries = try await server.log.wait(2)
        #expect(entries.count == 2)
        #expect(entries.last == .inactive)
        try await server.close()
    }

    @Test func verified() async throws {
        let server = try await EchoServer(Fixture.server())
        let client = try TLSClientContext(verifies: true, trustFile: Fixture.authority.certificateFile)
        let (info, _) = try await talk(
            to: server.port, client, words: ByteBuffer(string: "x"), expected: 1,
            verification: .system(host: "mx.example.com"))
        #expect(info.isPeerVerified)
        await #expect(throws: TLSError.self) {
            try await talk(
                to: server.port, client, words: ByteBuffer(string: "x"), expected: 1,
                verification: .system(host: "other.example.com"))
        }
        try await server.close()
    }

    @Test func manyConnections() async throws {
        let server = try await EchoServer(Fixture.server())
        let client = try Fixture.opportunistic()
        let count = 300
        try await withThrowingTaskGroup(of: Void.self) { group in
            for index in 0..<count {
                group.addTask {
                    let words = ByteBuffer(string: "connection \(index)")
                    let (_, heard) = try await talk(
                        to: server.port, client, words: words, expected: words.readableBytes)
                    #expect(heard == words)
                }
            }
            try await group.waitForAll()
        }
        let entries = try await server.log.wait(2 * count)
        #expect(entries.count { $0 == .inactive } == count)
        #expect(entries.count == 2 * count)
        try await server.close()
    }

    /// A TCP end without close_notify is told, one with it is not.
    @Test func truncatedByTheKernel() async throws {
        let server = try await EchoServer(Fixture.server())
        let client = try Fixture.opportunistic()
        let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandlers([
                        TLSHandler(client: client, serverName: nil, verification: .none), Hangup(),
                    ])
                }
            }
            .connect(host: "127.0.0.1", port: server.port).get()
        try await channel.closeFuture.get()
        let entries = try await server.log.wait(3)
        #expect(entries.dropFirst() == [.truncated, .inactive])
        try await server.close()
    }

    /// Closes the socket behind TLS's back once there is something to read.
    private final class Hangup: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        typealias OutboundOut = ByteBuffer

        func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
            guard case TLSHandler.Event.established = event else { return }
            context.writeAndFlush(wrapOutboundOut(ByteBuffer(string: "x")), promise: nil)
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            let tls = try! context.pipeline.syncOperations.context(handlerType: TLSHandler.self)
            tls.close(promise: nil)
        }
    }
}
