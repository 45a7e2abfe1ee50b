// The connection to Dovecot on real sockets: one that answers, and every way in which one does not, or lies.

import Logging
import NIOCore
import NIOPosix
import SlimtaSASL
import Synchronization
import TestKit
import Testing

@testable import SlimtaEdge

/// A Dovecot that says what it is told, on 127.0.0.1 or a UNIX socket.
final class DovecotServer: Sendable {
    enum Deed: Sendable {
        case say(String)
        case close
        case endless
    }

    static let greeting =
        "VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nMECH\tSCRAM-SHA-256\tmutual-auth\nSPID\t1\nCUID\t1\nCOOKIE\tsecret\nDONE\n"

    private struct State: Sendable {
        var lines: [String] = []
        var channels: [any Channel] = []
        var connections = 0
    }

    private let state = Mutex(State())
    private let listener: Mutex<(any Channel)?> = Mutex(nil)
    private let deed: @Sendable (_ line: [String]) -> [Deed]

    /// `deed` gets the words of each line; for "CPID", the last of a client's greeting, it greets.
    init(_ deed: @escaping @Sendable (_ line: [String]) -> [Deed]) { self.deed = deed }

    /// Greets rightly; `deed` is asked about the other lines.
    static func greeting(_ deed: @escaping @Sendable (_ line: [String]) -> [Deed]) -> DovecotServer {
        DovecotServer { $0[0] == "CPID" ? [.say(greeting)] : $0[0] == "VERSION" ? [] : deed($0) }
    }

    func start(at path: String? = nil, port: Int = 0) async throws -> SocketAddress {
        let bootstrap = ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton.next())
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    self.state.withLock { state in
                        state.channels.append(channel)
                        state.connections += 1
                    }
                    try channel.pipeline.syncOperations.addHandler(Handler(self))
                }
            }
        let channel =
            if let path {
                try await bootstrap.bind(unixDomainSocketPath: path, cleanupExistingSocketFile: true).get()
            } else {
                try await bootstrap.bind(host: "127.0.0.1", port: port).get()
            }
        listener.withLock { $0 = channel }
        return try #require(channel.localAddress)
    }

    /// What has come, a line each.
    var lines: [String] { state.withLock { $0.lines } }
    var connections: Int { state.withLock { $0.connections } }

    func stop() async {
        try? await listener.withLock { $0 }?.close()
        for channel in state.withLock({ $0.channels }) { try? await channel.close() }
    }

    private final class Handler: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer

        private let server: DovecotServer
        private var text = ""

        init(_ server: DovecotServer) { self.server = server }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            text += String(buffer: unwrapInboundIn(data))
            while let end = text.firstIndex(of: "\n") {
                let line = String(text[..<end])
                text = String(text[text.index(after: end)...])
                server.state.withLock { $0.lines.append(line) }
                for deed in server.deed(line.split(separator: "\t", omittingEmptySubsequences: false).map(String.init))
                {
                    switch deed {
                    case .say(let text): context.writeAndFlush(NIOAny(ByteBuffer(string: text)), promise: nil)
                    case .close: context.close(promise: nil)
                    case .endless: endless(context)
                    }
                }
            }
        }

        private func endless(_ context: ChannelHandlerContext) {
            let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
            context.eventLoop.assumeIsolated().execute {
                context.writeAndFlush(NIOAny(ByteBuffer(repeating: UInt8(ascii: "x"), count: 4096)))
                    .whenSuccess { bound.value.0.endless(bound.value.1) }
            }
        }

        func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
    }
}

@Suite struct DovecotClientTests {
    private static func client(
        _ addresses: [SocketAddress], log: KeptLog = KeptLog(),
        _ change: (inout DovecotMachine.Limits) -> Void = { _ in }
    ) -> DovecotClient {
        var limits = DovecotMachine.Limits()
        limits.pauses = [.milliseconds(5)]
        change(&limits)
        let client = DovecotClient(
            addresses, limits, loop: MultiThreadedEventLoopGroup.singleton.next(),
            logger: Logger(label: "test") { _ in log })
        client.start()
        return client
    }

    private static func request(_ mechanism: String = "PLAIN") -> DovecotRequest {
        DovecotRequest(mechanism: mechanism, parameters: [("secured", nil)], initialResponse: SecretOctets([0, 97]))
    }

    /// Begins until there is a connection: what it comes to then.
    private static func begin(
        _ client: DovecotClient, _ request: DovecotRequest = request()
    ) async throws -> (DovecotMachine.ID, DovecotAnswer) {
        try await eventually("a connection to Dovecot") { client.mechanisms != nil }
        while true {
            let (id, answer) = await client.begin(request)
            if answer != .unavailable("there is no connection to Dovecot") { return (id, answer) }
            try await Task.sleep(for: .milliseconds(2))
        }
    }

    @Test func oneConnectionForAll() async throws {
        // The later is answered before the earlier.
        let server = DovecotServer.greeting { line in
            guard let id = Int(line[1]) else { return [.close] }
            return id % 2 == 0 ? [.say("OK\t\(id)\tuser=u\(id)\nOK\t\(id - 1)\tuser=u\(id - 1)\n")] : []
        }
        let client = Self.client([try await server.start()])
        try await eventually("a connection to Dovecot") { client.mechanisms != nil }
        #expect(client.mechanisms == ["PLAIN", "SCRAM-SHA-256"])
        let logins = await withTaskGroup(of: Bool.self) { group in
            for _ in 0..<200 {
                group.addTask {
                    let (id, answer) = await client.begin(Self.request())
                    return answer == .right(login: "u\(id)", senders: nil)
                }
            }
            return await group.reduce(into: []) { $0.append($1) }
        }
        #expect(logins == Array(repeating: true, count: 200))
        #expect(server.connections == 1)
        let lines = Array(server.lines.prefix(3))
        try #require(lines.count == 3)
        #expect(lines[0] == "VERSION\t1\t2" && lines[1].hasPrefix("CPID\t"))
        #expect(lines[2].hasSuffix("\tPLAIN\tservice=smtp\tsecured\tresp=AGE="))
        await client.close()
        await server.stop()
    }

    @Test func anExchange() async throws {
        let server = DovecotServer.greeting { line in
            switch (line[0], line.last) {
            case ("AUTH", _): [.say("CONT\t\(line[1])\tcj14\n")]
            case ("CONT", "Yz1i"): [.say("CONT\t\(line[1])\tdj0=\n")]
            case ("CONT", ""): [.say("OK\t\(line[1])\tuser=a@b.example\tsenders=a@b.example,@c.example\n")]
            default: [.close]
            }
        }
        let path = "/tmp/slimtad-dovecot-\(UInt32.random(in: 0 ..< .max))"
        let client = Self.client([try await server.start(at: path)])
        let (id, challenge) = try await Self.begin(client, Self.request("SCRAM-SHA-256"))
        #expect(challenge == .challenge(Array("r=x".utf8)))
        #expect(await client.respond(id, SecretOctets("c=b".utf8)) == .challenge(Array("v=".utf8)))
        #expect(
            await client.respond(id, SecretOctets([]))
                == .right(login: "a@b.example", senders: ["a@b.example", "@c.example"]))
        await client.close()
        await server.stop()
    }

    /// Lies of a Dovecot that is none, in its greeting: it is told once, and tried again.
    @Test(arguments: [
        "220 smtp.example.com ESMTP\r\n(close)", "VERSION\t2\t0\n", "DONE\n", "VERSION\t1\t2\nOK\t1\tuser=root\nDONE\n",
        "(close)", "(endless)", "VERSION\t1\nDONE\n", "VERSION\t1\t2\n(close)",
    ])
    func lyingGreetings(_ text: String) async throws {
        let server = DovecotServer { line in
            guard line[0] == "CPID" else { return [] }
            let words = text.replacing("(close)", with: "").replacing("(endless)", with: "")
            return [.say(words)] + (text.hasSuffix("(close)") ? [.close] : text == "(endless)" ? [.endless] : [])
        }
        let log = KeptLog()
        let client = Self.client([try await server.start()], log: log)
        try await eventually("more tries") { server.connections > 2 }
        #expect(client.mechanisms == nil)
        #expect(await client.begin(Self.request()).1 == .unavailable("there is no connection to Dovecot"))
        #expect(log.all.count { $0.message.contains("no connection to Dovecot") } == 1)
        await client.close()
        await server.stop()
    }

    /// What it answers, and what comes of it; `#` is the number of the exchange.
    @Test(arguments: [
        ("OK\t99\tuser=root\nOK\t#\tuser=a\n", DovecotAnswer.right(login: "a", senders: nil)),
        ("FAIL\t99\nCONT\t99\t\nNEW\t#\nFAIL\t#\tuser=a\n", .wrong),
        ("OK\t#\tuser=a\tnologin\treason=Closed\n", .refused("Closed")),
        ("FAIL\t#\tcode=temp_fail\n", .unavailable("Dovecot cannot say now")),
        ("OK\tx\tuser=root\n", lost("it sent a OK line that cannot be read")),
        ("CONT\t#\t!\n", lost("it sent a CONT line that cannot be read")),
        ("(close)", lost("it closed the connection")),
        ("OK\t#\tuser=a(close)", lost("it closed the connection")),
        ("(endless)", lost("it sent a line of more than 16384 octets")),
    ])
    func lyingAnswers(_ text: String, _ answer: DovecotAnswer) async throws {
        let server = DovecotServer.greeting { line in
            guard line[0] == "AUTH" else { return [] }
            let words = text.replacing("#", with: line[1]).replacing("(close)", with: "").replacing(
                "(endless)", with: "")
            return [.say(words)] + (text.hasSuffix("(close)") ? [.close] : text == "(endless)" ? [.endless] : [])
        }
        let log = KeptLog()
        let client = Self.client([try await server.start()], log: log)
        #expect(try await Self.begin(client).1 == answer)
        // It goes on, on the same connection or on another.
        #expect(try await Self.begin(client).1 == answer)
        #expect(!log.all.contains { "\($0)".contains("secret") })
        await client.close()
        await server.stop()
    }

    private static func lost(_ reason: String) -> DovecotAnswer {
        .unavailable("the connection to Dovecot was lost: \(reason)")
    }

    /// Who no longer waits takes the exchange back.
    @Test func cancelled() async throws {
        let server = DovecotServer.greeting { line in line[0] == "AUTH" ? [.say("CONT\t\(line[1])\t\n")] : [] }
        let client = Self.client([try await server.start()])
        let (id, _) = try await Self.begin(client)
        let task = Task { await client.respond(id, SecretOctets([1])) }
        try await eventually("the response") { server.lines.contains("CONT\t\(id)\tAQ==") }
        task.cancel()
        #expect(await task.value == .unavailable("the client is gone"))
        try await eventually("CANCEL") { server.lines.contains("CANCEL\t\(id)") }
        // Before it began, too.
        let early = Task {
            try? await Task.sleep(for: .seconds(60))
            return await client.begin(Self.request()).1
        }
        early.cancel()
        #expect(await early.value == .unavailable("the client is gone"))
        await client.close()
        await server.stop()
    }

    /// Silence ends the exchange, and the connection.
    @Test func silence() async throws {
        let server = DovecotServer.greeting { _ in [] }
        let client = Self.client([try await server.start()]) { $0.answer = .milliseconds(50) }
        #expect(try await Self.begin(client).1 == .unavailable("Dovecot has not answered in time"))
        try await eventually("another connection") { server.connections > 1 }
        await client.close()
        await server.stop()
    }

    @Test func aDovecotThatIsStartedAnew() async throws {
        let log = KeptLog()
        let server = DovecotServer.greeting { [.say("OK\t\($0[1])\tuser=a\n")] }
        let address = try await server.start()
        let client = Self.client([address], log: log)
        #expect(try await Self.begin(client).1 == .right(login: "a", senders: nil))
        await server.stop()
        try await eventually("the loss") { log.all.contains { $0.message.contains("no connection to Dovecot") } }
        #expect(client.mechanisms != nil)
        let next = DovecotServer.greeting { [.say("OK\t\($0[1])\tuser=b\n")] }
        _ = try await next.start(port: #require(address.port))
        #expect(try await Self.begin(client).1 == .right(login: "b", senders: nil))
        await client.close()
        #expect(await client.begin(Self.request()).1 == .unavailable("there is no connection to Dovecot"))
        await next.stop()
    }

    /// The second address is tried if nobody is at the first.
    @Test func severalAddresses() async throws {
        let server = DovecotServer.greeting { [.say("OK\t\($0[1])\tuser=a\n")] }
        let nowhere = try SocketAddress(unixDomainSocketPath: "/tmp/slimtad-dovecot-nowhere")
        let client = Self.client([nowhere, try await server.start()])
        #expect(try await Self.begin(client).1 == .right(login: "a", senders: nil))
        await client.close()
        await server.stop()
    }
}

/// Waits until `condition` holds; a test that waits in vain fails.
private func eventually(_ what: Comment, _ condition: () -> Bool) async throws {
    for _ in 0..<4000 {
        if condition() { return }
        try await Task.sleep(for: .milliseconds(5))
    }
    Issue.record(what)
}
