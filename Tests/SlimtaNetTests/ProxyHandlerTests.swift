// The handler that waits for a PROXY header, on a channel in memory.

import NIOCore
import NIOEmbedded
import SlimtaMail
import Testing

@testable import SlimtaNet

@Suite struct ProxyHandlerTests {
    private static let line = "PROXY TCP4 192.0.2.7 192.0.2.8 56324 587\r\n"

    /// What is behind the header goes to who was added for it, in order, and the handler is gone.
    @Test(arguments: ["", "EHLO c\r\n", "PROXY UNKNOWN\r\n"]) func theHeader(_ behind: String) throws {
        for isCut in [false, true] {
            let fixture = try Fixture()
            let text = Self.line + behind
            if isCut {
                for octet in text.utf8 { try fixture.send([octet]) }
            } else {
                try fixture.send(Array(text.utf8))
            }
            #expect(fixture.outcomes.count == 1 && fixture.text == behind)
            try fixture.send(Array("more".utf8))
            #expect(fixture.text == behind + "more")
            #expect(throws: (any Error).self) {
                try fixture.channel.pipeline.syncOperations.handler(type: ProxyHandler.self)
            }
            // Its time is no longer counted, and what the server says is for others.
            fixture.channel.embeddedEventLoop.advanceTime(by: .hours(1))
            fixture.channel.pipeline.fireUserInboundEventTriggered(ProxyHandler.Event.stop)
            #expect(fixture.channel.isActive && fixture.outcomes.count == 1)
        }
    }

    @Test func whatIsNoHeader() throws {
        let fixture = try Fixture()
        try fixture.send(Array("EHLO c\r\n".utf8))
        #expect(fixture.outcomes == [.malformed(.otherBeginning)] && !fixture.channel.isActive)
        #expect(fixture.text == "" && fixture.said == nil)
    }

    @Test(arguments: [false, true]) func late(hasBegun: Bool) throws {
        let fixture = try Fixture()
        // It is the whole header that has its time, not each octet.
        for octet in Self.line.utf8.prefix(hasBegun ? 29 : 0) {
            fixture.channel.embeddedEventLoop.advanceTime(by: .seconds(1))
            try fixture.send([octet])
        }
        fixture.channel.embeddedEventLoop.advanceTime(by: .milliseconds(hasBegun ? 999 : 29_999))
        #expect(fixture.channel.isActive && fixture.outcomes == [])
        fixture.channel.embeddedEventLoop.advanceTime(by: .milliseconds(1))
        #expect(fixture.outcomes == [.none(.late, hasBegun: hasBegun)] && !fixture.channel.isActive)
        #expect(fixture.said == nil)
    }

    @Test(arguments: [false, true], ["closed", "half closed", "broken", "stopped"])
    func ended(hasBegun: Bool, _ way: String) throws {
        let fixture = try Fixture()
        if hasBegun { try fixture.send(Array("PRO".utf8)) }
        switch way {
        case "closed": fixture.channel.close(promise: nil)
        case "half closed": fixture.channel.pipeline.fireUserInboundEventTriggered(ChannelEvent.inputClosed)
        case "broken": fixture.channel.pipeline.fireErrorCaught(IOError(errnoCode: 104, reason: "read"))
        default: fixture.channel.pipeline.fireUserInboundEventTriggered(ProxyHandler.Event.stop)
        }
        fixture.channel.embeddedEventLoop.run()
        #expect(!fixture.channel.isActive && fixture.said == nil)
        #expect(fixture.outcomes == [.none(way == "stopped" ? .stopped : .gone, hasBegun: hasBegun)])
        fixture.channel.embeddedEventLoop.advanceTime(by: .hours(1))
        #expect(fixture.outcomes.count == 1)
    }

    /// A connection that comes when the server stops already.
    @Test func stoppedBefore() throws {
        let fixture = try Fixture(isConnected: false)
        fixture.channel.pipeline.fireUserInboundEventTriggered(ProxyHandler.Event.stop)
        #expect(fixture.outcomes == [])
        try fixture.connect()
        #expect(fixture.outcomes == [.none(.stopped, hasBegun: false)] && !fixture.channel.isActive)
    }

    /// However much is sent, no more of it is kept than a header can have, and what one read had.
    @Test func endless() throws {
        let fixture = try Fixture()
        try fixture.send([0x0D, 0x0A, 0x0D, 0x0A, 0, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A, 0x21, 0x11, 0xFF, 0xFF])
        #expect(fixture.outcomes == [.malformed(.tooLong)] && !fixture.channel.isActive)
    }

    /// A channel with the handler, behind which a listener is added when the header is there.
    private final class Fixture {
        let channel = EmbeddedChannel()
        private(set) var outcomes: [ProxyHandler.Outcome] = []
        private let listener = Listener()

        init(isConnected: Bool = true) throws {
            let handler = ProxyHandler(timeout: .seconds(30)) { [unowned self] outcome in
                outcomes.append(outcome)
                if case .header = outcome { try? channel.pipeline.syncOperations.addHandler(listener) }
            }
            try channel.pipeline.syncOperations.addHandler(handler)
            if isConnected { try connect() }
        }

        func connect() throws {
            channel.connect(to: try SocketAddress(ipAddress: "10.0.0.1", port: 1), promise: nil)
            channel.embeddedEventLoop.run()
        }

        var text: String { listener.text }

        var said: ByteBuffer? { (try? channel.readOutbound(as: ByteBuffer.self)) ?? nil }

        func send(_ octets: [UInt8]) throws {
            guard channel.isActive else { return }
            channel.pipeline.fireChannelRead(ByteBuffer(bytes: octets))
            channel.pipeline.fireChannelReadComplete()
            channel.embeddedEventLoop.run()
        }
    }

    private final class Listener: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        private(set) var text = ""

        func channelRead(context: ChannelHandlerContext, data: NIOAny) { text += String(buffer: unwrapInboundIn(data)) }
    }
}
