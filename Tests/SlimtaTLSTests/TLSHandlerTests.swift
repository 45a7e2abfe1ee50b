// Two handlers joined in memory: handshake, data, and every way in which a connection ends.

import NIOCore
import NIOEmbedded
import SlimtaMail
import TestKit
import Testing

@testable import SlimtaTLS

@Suite struct TLSHandlerTests {
    @Test(arguments: Version.allCases, Cut.allCases)
    func handshake(version: Version, cut: Cut) throws {
        let pair = try Pair(
            server: Fixture.server(), client: Fixture.opportunistic(newest: version), serverName: "mx.example.com",
            cut: cut)
        try pair.run()
        for end in [pair.server, pair.client] {
            #expect(end.recorder.entries == [.established])
            #expect(end.recorder.info?.session.version == version.rawValue)
            #expect(end.recorder.info?.session.cipher.contains("AES") == true)
            #expect(end.recorder.info?.serverName == "mx.example.com")
            #expect(end.recorder.info?.isPeerVerified == false)
            #expect(end.channel.isActive)
        }
    }

    @Test func minimumVersion() throws {
        let pair = try Pair(
            server: Fixture.server(minimum: .v1_3), client: Fixture.opportunistic(newest: .tls12))
        try pair.run()
        #expect(pair.server.recorder.entries == [.error(.handshake), .inactive])
        #expect(pair.client.recorder.entries == [.error(.handshake), .inactive])
        #expect(pair.client.recorder.error?.message.contains("alert protocol version") == true)
    }

    /// A server name is told if there is one and it is no address.
    @Test(arguments: [(nil, nil), ("mx.example.com", "mx.example.com"), ("192.0.2.1", nil), ("2001:db8::1", nil)])
    func serverName(given: String?, told: String?) throws {
        let pair = try Pair(server: Fixture.server(), client: Fixture.opportunistic(), serverName: given)
        try pair.run()
        #expect(pair.server.recorder.entries == [.established])
        #expect(pair.server.recorder.info?.serverName == told)
    }

    @Test func unprintableServerNameIsNotShown() throws {
        let pair = try Pair(server: Fixture.server(), client: Fixture.opportunistic(), serverName: "mx\u{1B}[2J\r\n")
        try pair.run()
        #expect(pair.server.recorder.info != nil)
        #expect(pair.server.recorder.info?.serverName == nil)
    }

    // MARK: Data

    @Test(arguments: Version.allCases, Cut.allCases)
    func data(version: Version, cut: Cut) throws {
        let pair = try Pair(cut: cut, newest: version)
        var random = SeededGenerator(seed: 2)
        for size in [1, 2, 100, 1000, 16_383, 16_384, 16_385, 65_535, 65_536, 65_537, 200_000] {
            if case .octets = cut, size > 20_000 { continue }
            for (from, to) in [(pair.client, pair.server), (pair.server, pair.client)] {
                let before = to.recorder.data.readableBytes
                let bytes = random.bytes(size)
                try from.channel.writeOutbound(bytes)
                try pair.run()
                #expect(to.recorder.data.getSlice(at: before, length: size) == bytes)
                #expect(to.recorder.data.readableBytes == before + size)
            }
        }
        #expect(pair.server.recorder.entries == [.established, .data])
        #expect(pair.client.recorder.entries == [.established, .data])
    }

    /// What is written before the handshake is done goes out when it is, in order; what was not flushed does not.
    @Test func dataBeforeTheHandshake() throws {
        let pair = try Pair(server: Fixture.server(), client: Fixture.opportunistic())
        let written = pair.client.channel.eventLoop.makePromise(of: Void.self)
        pair.client.channel.write(ByteBuffer(string: "one "), promise: written)
        pair.client.channel.writeAndFlush(ByteBuffer(string: "two "), promise: nil)
        pair.client.channel.write(ByteBuffer(string: "three"), promise: nil)
        try pair.run()
        #expect(String(buffer: pair.server.recorder.data) == "one two ")
        try written.futureResult.wait()
        pair.client.channel.flush()
        try pair.run()
        #expect(String(buffer: pair.server.recorder.data) == "one two three")
    }

    /// The first words of a driver leave together with the end of the handshake, whoever speaks first.
    @Test(arguments: Version.allCases)
    func firstWordsAreInOneWriteWithTheHandshake(version: Version) throws {
        let pair = try Pair(server: Fixture.server(), client: Fixture.opportunistic(newest: version))
        for end in [pair.server, pair.client] {
            end.recorder.onEstablished = { context in
                context.writeAndFlush(NIOAny(ByteBuffer(string: "hello")), promise: nil)
            }
        }
        var writes = 0
        var isQuiet = false
        while !isQuiet {
            isQuiet = true
            for (from, to) in [(pair.client, pair.server), (pair.server, pair.client)] {
                while let piece = try from.channel.readOutbound(as: ByteBuffer.self) {
                    writes += 1
                    isQuiet = false
                    try to.channel.writeInbound(piece)
                }
            }
        }
        #expect(String(buffer: pair.server.recorder.data) == "hello")
        #expect(String(buffer: pair.client.recorder.data) == "hello")
        // 1.3: hello; hello ... finished; finished + words; ticket + words. 1.2 ends with the server as well.
        #expect(writes == (version == .tls13 ? 4 : 5))
    }

    /// A client that does not wait gets the reply in one write with the ticket.
    @Test func replyIsInOneWriteWithTheTicket() throws {
        let pair = try Pair(server: Fixture.server(), client: Fixture.opportunistic())
        pair.client.recorder.onEstablished = { context in
            context.writeAndFlush(NIOAny(ByteBuffer(string: "EHLO")), promise: nil)
        }
        pair.server.recorder.onRead = { context in
            context.writeAndFlush(NIOAny(ByteBuffer(string: "250")), promise: nil)
        }
        try pair.server.channel.writeInbound(pair.client.sent())
        try pair.client.channel.writeInbound(pair.server.sent())
        // Finished and EHLO.
        try pair.server.channel.writeInbound(pair.client.sent())
        let write = try #require(try pair.server.channel.readOutbound(as: ByteBuffer.self))
        #expect(try pair.server.channel.readOutbound(as: ByteBuffer.self) == nil)
        try pair.client.channel.writeInbound(write)
        #expect(String(buffer: pair.client.recorder.data) == "250")
    }

    @Test func oneFlushIsOneWrite() throws {
        let pair = try Pair()
        var done = 0
        for index in 0..<50 {
            let promise = pair.server.channel.eventLoop.makePromise(of: Void.self)
            promise.futureResult.assumeIsolated().whenSuccess { done += 1 }
            pair.server.channel.write(ByteBuffer(string: "line \(index)\r\n"), promise: index % 2 == 0 ? promise : nil)
            if index % 2 == 1 { promise.succeed() }
        }
        #expect(try pair.server.channel.readOutbound(as: ByteBuffer.self) == nil)
        pair.server.channel.flush()
        let write = try #require(try pair.server.channel.readOutbound(as: ByteBuffer.self))
        #expect(try pair.server.channel.readOutbound(as: ByteBuffer.self) == nil)
        #expect(done == 50)
        try pair.client.channel.writeInbound(write)
        #expect(
            String(buffer: pair.client.recorder.data) == (0..<50).map { "line \($0)\r\n" }.joined())
    }

    /// A promise without octets is kept as well, and a large write becomes several buffers of bounded size.
    @Test func emptyAndLargeWrites() throws {
        let pair = try Pair()
        let empty = pair.client.channel.eventLoop.makePromise(of: Void.self)
        pair.client.channel.writeAndFlush(ByteBuffer(), promise: empty)
        try empty.futureResult.wait()
        #expect(try pair.client.sent().readableBytes == 0)

        var random = SeededGenerator(seed: 3)
        let bytes = random.bytes(1_000_000)
        try pair.client.channel.writeOutbound(bytes)
        var (largest, count) = (0, 0)
        while let piece = try pair.client.channel.readOutbound(as: ByteBuffer.self) {
            largest = max(largest, piece.storageCapacity)
            count += 1
            try pair.server.channel.writeInbound(piece)
        }
        #expect(pair.server.recorder.data == bytes)
        #expect(count == 16)
        #expect(largest <= 131_072)
    }

    /// Plaintext is not collected: a read of ciphertext gives what is in it, in pieces of about its size.
    @Test func plaintextIsHandedOnAsItComes() throws {
        let pair = try Pair()
        var random = SeededGenerator(seed: 4)
        let bytes = random.bytes(500_000)
        try pair.client.channel.writeOutbound(bytes)
        var stream = try pair.client.sent()
        var fed = 0
        while let piece = stream.readSlice(length: min(stream.readableBytes, 20_000)), piece.readableBytes > 0 {
            try pair.server.channel.writeInbound(piece)
            fed += piece.readableBytes
            // All but the record that is not complete yet.
            #expect(pair.server.recorder.data.readableBytes > fed - 16_384 - 5 - (fed / 16_384 + 1) * 22 - 1)
        }
        #expect(pair.server.recorder.data == bytes)
        #expect(pair.server.recorder.largestRead <= 32_768)
    }

    // MARK: The wish to read

    /// Counts what reaches the channel.
    private final class ReadCounter: ChannelOutboundHandler {
        typealias OutboundIn = ByteBuffer
        var count = 0

        func read(context: ChannelHandlerContext) {
            count += 1
            context.read()
        }
    }

    /// Without autoRead the handshake reads for itself, and for data the handler reads on until there is some, but not
    /// more.
    @Test(arguments: Version.allCases)
    func readsAsFarAsWanted(version: Version) throws {
        let counter = ReadCounter()
        let channel = EmbeddedChannel()
        let recorder = Recorder()
        try channel.syncOptions!.setOption(ChannelOptions.autoRead, value: false)
        try channel.pipeline.syncOperations.addHandlers([counter, recorder])
        channel.connect(to: try SocketAddress(ipAddress: "192.0.2.1", port: 25), promise: nil)
        #expect(counter.count == 0)
        // As with STARTTLS: the channel is active already.
        try channel.pipeline.syncOperations.addHandler(
            TLSHandler(server: Fixture.server()), position: .after(counter))
        #expect(counter.count == 1)

        let client = try End(
            TLSHandler(client: Fixture.opportunistic(newest: version), serverName: nil, verification: .none))
        var random = SeededGenerator(seed: 5)
        while recorder.info == nil || client.recorder.info == nil {
            for piece in Cut.octets(try client.sent(), &random) {
                let before = counter.count
                try channel.writeInbound(piece)
                #expect(counter.count == before + 1)
            }
            while let piece = try channel.readOutbound(as: ByteBuffer.self) { try client.channel.writeInbound(piece) }
        }

        try client.channel.writeOutbound(ByteBuffer(string: "EHLO"))
        let ehlo = try client.sent()
        var before = counter.count
        try channel.writeInbound(ehlo.getSlice(at: 0, length: 7)!)
        #expect(counter.count == before + 1)
        before = counter.count
        try channel.writeInbound(ehlo.getSlice(at: 7, length: ehlo.readableBytes - 7)!)
        #expect(String(buffer: recorder.data) == "EHLO")
        #expect(counter.count == before)
        channel.read()
        #expect(counter.count == before + 1)
    }

    // MARK: Ends

    @Test(arguments: Version.allCases)
    func close(version: Version) throws {
        let pair = try Pair(newest: version)
        try pair.client.channel.writeOutbound(ByteBuffer(string: "QUIT"))
        let closed = pair.client.channel.close()
        try closed.wait()
        #expect(!pair.client.channel.isActive)
        try pair.run()
        #expect(!pair.server.channel.isActive)
        #expect(pair.client.recorder.entries == [.established, .inactive])
        #expect(pair.server.recorder.entries == [.established, .data, .inactive])
    }

    @Test func truncated() throws {
        let pair = try Pair()
        try pair.client.channel.writeOutbound(ByteBuffer(string: "half a mess"))
        try pair.run()
        pair.server.channel.pipeline.fireChannelInactive()
        #expect(pair.server.recorder.entries == [.established, .data, .truncated, .inactive])
    }

    /// A record that is cut off is no data.
    @Test func truncatedInARecord() throws {
        let pair = try Pair()
        try pair.client.channel.writeOutbound(ByteBuffer(string: "half a message"))
        let record = try pair.client.sent()
        try pair.server.channel.writeInbound(record.getSlice(at: 0, length: record.readableBytes - 1)!)
        pair.server.channel.pipeline.fireChannelInactive()
        #expect(pair.server.recorder.entries == [.established, .truncated, .inactive])
    }

    @Test func halfClosed() throws {
        let pair = try Pair()
        pair.server.channel.pipeline.fireUserInboundEventTriggered(ChannelEvent.inputClosed)
        #expect(pair.server.recorder.entries == [.established, .truncated, .inputClosed, .inactive])
    }

    @Test(arguments: [0, 1])
    func closedInTheHandshake(steps: Int) throws {
        let pair = try Pair(server: Fixture.server(), client: Fixture.opportunistic())
        if steps == 1 { try pair.server.channel.writeInbound(try pair.client.sent()) }
        let written = pair.server.channel.writeAndFlush(ByteBuffer(string: "220"))
        pair.server.channel.pipeline.fireChannelInactive()
        #expect(pair.server.recorder.entries == [.error(.closed), .inactive])
        #expect(throws: TLSError.self) { try written.wait() }
    }

    @Test func closingInTheHandshake() throws {
        let pair = try Pair(server: Fixture.server(), client: Fixture.opportunistic())
        let written = pair.client.channel.writeAndFlush(ByteBuffer(string: "EHLO"))
        try pair.client.channel.close().wait()
        #expect(throws: ChannelError.ioOnClosedChannel) { try written.wait() }
        #expect(pair.client.recorder.entries == [.inactive])
    }

    /// close_notify is still in the channel: the channel is closed when it has left, or after five seconds.
    @Test(arguments: [true, false])
    func closeWaitsForTheLastOctets(leaves: Bool) throws {
        let gate = Gate()
        let pair = try Pair()
        try pair.server.channel.pipeline.syncOperations.addHandler(gate, position: .first)
        let written = pair.server.channel.writeAndFlush(ByteBuffer(string: "221 bye"))
        let (first, second) = (pair.server.channel.close(), pair.server.channel.close())
        #expect(gate.held.count == 2)
        #expect(pair.server.channel.isActive)
        // What comes now is of no interest.
        try pair.client.channel.writeOutbound(ByteBuffer(string: "more"))
        try pair.server.channel.writeInbound(try pair.client.sent())
        #expect(pair.server.recorder.entries == [.established])
        #expect(throws: ChannelError.ioOnClosedChannel) {
            try pair.server.channel.writeAndFlush(ByteBuffer(string: "late")).wait()
        }
        if leaves {
            gate.open()
            try written.wait()
            #expect(!pair.server.channel.isActive)
            try pair.run()
            #expect(pair.client.recorder.entries == [.established, .data, .inactive])
        } else {
            pair.server.channel.embeddedEventLoop.advanceTime(by: .milliseconds(4999))
            #expect(pair.server.channel.isActive)
            pair.server.channel.embeddedEventLoop.advanceTime(by: .milliseconds(1))
            #expect(!pair.server.channel.isActive)
            gate.fail()
        }
        try first.wait()
        try second.wait()
        #expect(pair.server.recorder.entries == [.established, .inactive])
    }

    /// A socket that takes nothing for a while.
    private final class Gate: ChannelOutboundHandler {
        typealias OutboundIn = ByteBuffer
        typealias OutboundOut = ByteBuffer
        var held: [(NIOAny, EventLoopPromise<Void>?)] = []
        private var context: ChannelHandlerContext?
        private var isOpen = false

        func handlerAdded(context: ChannelHandlerContext) { self.context = context }

        func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
            if isOpen { context.write(data, promise: promise) } else { held.append((data, promise)) }
        }

        func open() {
            isOpen = true
            let context = context!
            for (data, promise) in held { context.write(data, promise: promise) }
            held = []
            context.flush()
        }

        func fail() {
            for (_, promise) in held { promise?.fail(ChannelError.ioOnClosedChannel) }
            held = []
        }
    }

    @Test func halfCloseIsNotSupported() throws {
        let pair = try Pair()
        #expect(throws: ChannelError.operationUnsupported) { try pair.client.channel.close(mode: .output).wait() }
        #expect(pair.client.channel.isActive)
    }

    /// A driver that closes, writes or removes the handler from within is not in the way of the handler.
    @Test func closingFromWithin() throws {
        let pair = try Pair()
        pair.server.recorder.onRead = { context in
            context.writeAndFlush(NIOAny(ByteBuffer(string: "421 bye")), promise: nil)
            context.close(promise: nil)
        }
        try pair.client.channel.writeOutbound(ByteBuffer(repeating: 65, count: 100_000))
        try pair.run()
        #expect(pair.server.recorder.data.readableBytes < 100_000 + 1)
        #expect(pair.server.recorder.entries == [.established, .data, .inactive])
        #expect(String(buffer: pair.client.recorder.data) == "421 bye")
        #expect(pair.client.recorder.entries == [.established, .data, .inactive])
    }

    @Test func closingWhenEstablished() throws {
        let pair = try Pair(server: Fixture.server(), client: Fixture.opportunistic())
        pair.client.recorder.onEstablished = { $0.close(promise: nil) }
        try pair.run()
        #expect(pair.client.recorder.entries == [.established, .inactive])
        #expect(pair.server.recorder.entries == [.established, .inactive])
    }

    @Test func ending() throws {
        let handler = TLSHandler(server: try Fixture.server())
        let end = try End(handler)
        let written = end.channel.writeAndFlush(ByteBuffer(string: "220"))
        try end.channel.pipeline.syncOperations.removeHandler(handler).wait()
        #expect(throws: ChannelError.ioOnClosedChannel) { try written.wait() }
    }

    /// Every engine is gone with its channel.
    @Test func nothingIsLeft() throws {
        let server = try Fixture.server()
        let client = try Fixture.opportunistic()
        for round in 0..<1000 {
            weak var handler: TLSHandler?
            weak var engine: TLSEngine?
            do {
                let pair = try Pair(server: server, client: client)
                handler = try pair.server.channel.pipeline.syncOperations.handler(type: TLSHandler.self)
                engine = handler?.engine
                // Some end before the handshake, some in it, some after it.
                if round % 4 > 0 { try pair.server.channel.writeInbound(pair.client.sent()) }
                if round % 4 > 1 { try pair.run() }
                if round % 4 > 2 { try pair.client.channel.close().wait() }
                try pair.run()
                #expect(engine != nil)
                for end in [pair.server, pair.client] {
                    if end.channel.isActive { _ = try end.channel.finish() }
                    end.channel.embeddedEventLoop.run()
                }
            }
            try #require(handler == nil)
            try #require(engine == nil)
        }
    }

    // MARK: Hostile peers

    @Test(
        arguments: [
            "EHLO client.example.com\r\n", "GET / HTTP/1.1\r\nHost: mx.example.com\r\n\r\n",
            "220 mx.example.com ESMTP\r\n",
            "\u{16}\u{03}\u{01}\u{FF}\u{FF}garbage", "\0\0\0\0\0\0\0\0",
        ], [true, false])
    func garbageInsteadOfAHandshake(text: String, isServer: Bool) throws {
        let end =
            try isServer
            ? End(TLSHandler(server: Fixture.server()))
            : End(TLSHandler(client: Fixture.opportunistic(), serverName: nil, verification: .none))
        try end.channel.writeInbound(ByteBuffer(bytes: text.unicodeScalars.map { UInt8($0.value) }))
        #expect(end.recorder.entries == [.error(.handshake), .inactive])
        #expect(end.recorder.data.readableBytes == 0)
    }

    @Test(arguments: Version.allCases)
    func changedRecord(version: Version) throws {
        let pair = try Pair(newest: version)
        try pair.client.channel.writeOutbound(ByteBuffer(string: "first"))
        try pair.client.channel.writeOutbound(ByteBuffer(string: "second"))
        var stream = try pair.client.sent()
        let last = stream.writerIndex - 1
        stream.setInteger(stream.getInteger(at: last, as: UInt8.self)! ^ 1, at: last)
        try pair.server.channel.writeInbound(stream)
        // What came before it was good.
        #expect(String(buffer: pair.server.recorder.data) == "first")
        #expect(pair.server.recorder.entries == [.established, .data, .error(.record), .inactive])
        // The peer gets an alert.
        try pair.run()
        #expect(pair.client.recorder.entries == [.established, .error(.record), .inactive])
    }

    @Test func clearTextAfterTheHandshake() throws {
        let pair = try Pair()
        try pair.server.channel.writeInbound(ByteBuffer(string: "MAIL FROM:<>\r\n"))
        #expect(pair.server.recorder.entries == [.established, .error(.record), .inactive])
    }

    @Test func handshakeWithoutEnd() throws {
        // A record that promises a ClientHello of 16 MiB: OpenSSL has a limit, and nothing grows up to it here.
        let end = try End(TLSHandler(server: Fixture.server()))
        let record: [UInt8] =
            [0x16, 0x03, 0x01, 0x40, 0x00, 0x01, 0xFF, 0xFF, 0xFF] + Array(repeating: 0, count: 16_380)
        try end.channel.writeInbound(ByteBuffer(bytes: record))
        #expect(end.recorder.entries == [.error(.handshake), .inactive])
    }

    /// Updates of keys are answered as long as the peer reads the answers.
    @Test func keyUpdates() throws {
        let server = try End(TLSHandler(server: Fixture.server()))
        let client = TLSEngine(client: try Fixture.opportunistic(), serverName: nil, verification: .none)
        while server.recorder.info == nil {
            _ = try client.handshake()
            if let bytes = client.takeCiphertext() { try server.channel.writeInbound(bytes) }
            client.receive(try server.sent())
        }
        func update() throws {
            let requested: CInt = 1
            #expect(openSSLKeyUpdate(client.ssl, requested) == 1)
            try client.encrypt(ByteBuffer(string: "x").readableBytesView)
            try server.channel.writeInbound(try #require(client.takeCiphertext()))
        }
        for _ in 0..<100 { try update() }
        #expect(server.recorder.data.readableBytes == 100)
        #expect(try server.sent().readableBytes > 100 * 22)
        server.channel.isWritable = false
        for _ in 0..<16 { try update() }
        #expect(server.recorder.entries == [.established, .data])
        try update()
        #expect(server.recorder.entries == [.established, .data, .error(.record), .inactive])
    }
}
