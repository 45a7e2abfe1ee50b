// The client of policy servers on real sockets: servers that answer, and every way in which one does not.

import Logging
import NIOCore
import NIOPosix
import SlimtaMail
import SlimtaRules
import Synchronization
import TestKit
import Testing

@testable import SlimtaEdge

/// What the server of these tests does with a request.
private enum Deed: Sendable {
    case answer(String)
    /// The answer in pieces, octet by octet.
    case octets(String)
    case hang
    case close
    case endless
}

/// A policy server on 127.0.0.1 or a UNIX socket that does as it is told.
private final class PolicyServer: Sendable {
    struct Asked: Sendable {
        let connection: Int
        let text: String
    }
    private struct State: Sendable {
        var asked: [Asked] = []
        var connections = 0
        var channels: [any Channel] = []
    }
    private let state = Mutex(State())
    private let deed: @Sendable (Int, Int) -> Deed
    private let listener: Mutex<(any Channel)?> = Mutex(nil)

    /// `deed` gets the number of the connection and of the request, both from 1.
    init(_ deed: @escaping @Sendable (_ connection: Int, _ request: Int) -> Deed) { self.deed = deed }

    func start(at path: String? = nil, port: Int = 0) async throws -> SocketAddress {
        let bootstrap = ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton.next())
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let number = self.state.withLock { state in
                        state.connections += 1
                        state.channels.append(channel)
                        return state.connections
                    }
                    try channel.pipeline.syncOperations.addHandler(Handler(number, self))
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

    var asked: [Asked] { state.withLock { $0.asked } }
    var connections: Int { state.withLock { $0.connections } }

    /// Closes the connections there are.
    func drop() async {
        for channel in state.withLock({ $0.channels }) { try? await channel.close() }
    }

    func stop() async {
        try? await listener.withLock { $0 }?.close()
        await drop()
    }

    private final class Handler: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        typealias OutboundOut = ByteBuffer

        private let number: Int
        private let server: PolicyServer
        private var text = ""

        init(_ number: Int, _ server: PolicyServer) { (self.number, self.server) = (number, server) }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            text += String(buffer: unwrapInboundIn(data))
            // As several servers do it: what ends a read ends a request.
            guard text.hasSuffix("\n\n") else { return }
            let asked = Asked(connection: number, text: text)
            text = ""
            let request = server.state.withLock { state in
                state.asked.append(asked)
                return state.asked.count
            }
            switch server.deed(number, request) {
            case .answer(let answer): context.writeAndFlush(wrapOutboundOut(ByteBuffer(string: answer)), promise: nil)
            case .octets(let answer):
                for octet in answer.utf8 {
                    context.writeAndFlush(wrapOutboundOut(ByteBuffer(integer: octet)), promise: nil)
                }
            case .hang: break
            case .close: context.close(promise: nil)
            case .endless: endless(context)
            }
        }

        private func endless(_ context: ChannelHandlerContext) {
            let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
            context.writeAndFlush(wrapOutboundOut(ByteBuffer(repeating: UInt8(ascii: "x"), count: 4096)))
                .whenSuccess { bound.value.0.endless(bound.value.1) }
        }

        func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
    }
}

private final class Flag: Sendable {
    private let value = Atomic(false)
    func set() { value.store(true, ordering: .relaxed) }
    var isSet: Bool { value.load(ordering: .relaxed) }
}

@Suite struct PolicyServiceClientTests {
    /// A client with shorter pauses than in service; what is to be seen here does not depend on them.
    private static func client(
        _ addresses: [SocketAddress], timeout: Duration = .seconds(20), onFailure: PolicyOnFailure = .tempfail,
        log: KeptLog = KeptLog(), _ change: (inout PolicyServiceMachine.Limits) -> Void = { _ in }
    ) -> PolicyServiceClient {
        var limits = PolicyServiceMachine.Limits()
        limits.timeout = TimeAmount(timeout)
        limits.pause = .milliseconds(1)
        change(&limits)
        return PolicyServiceClient(
            .init(name: "grey", addresses: addresses, timeout: timeout, onFailure: onFailure, context: "one"), limits,
            loop: MultiThreadedEventLoopGroup.singleton.next(), logger: Logger(label: "test") { _ in log })
    }

    private static func request(_ ehlo: String = "client.example") throws -> PolicyRequest {
        var facts = Facts(client: .unix, edge: "e", now: LocalTime(.now(), offset: 0))
        facts.ehlo = ehlo
        return try #require(PolicyRequest(facts, at: .rcpt, in: PolicySession(id: 1, server: .unix)))
    }

    private static func ask(
        _ client: PolicyServiceClient, _ ehlo: String = "client.example", session: UInt64 = 1
    ) async throws -> PolicyAnswer {
        let request = try request(ehlo)
        return await withCheckedContinuation { continuation in
            client.ask(request, session: session) { continuation.resume(returning: $0) }
        }
    }

    private static let failure = PolicyOnFailure.tempfail.answer

    @Test func connectionsAreKept() async throws {
        let server = PolicyServer { _, request in .answer("action=\(request) x\n\n") }
        let client = Self.client([try await server.start()])
        for number in 1...20 {
            #expect(try await Self.ask(client, "host\(number)") == PolicyAnswer("\(number) x"))
        }
        #expect(server.connections == 1)
        // One request is one write: this server reads it so.
        let fifth = try #require(server.asked.dropFirst(4).first).text
        #expect(fifth.contains("\nhelo_name=host5\n") && fifth.hasSuffix("\npolicy_context=one\n\n"))
        await client.close()
        await server.stop()
    }

    @Test func unixSocket() async throws {
        let path = "/tmp/slimtad-policy-\(UInt32.random(in: 0 ..< .max))"
        let server = PolicyServer { _, _ in .octets("action=REJECT no\r\n\r\n") }
        let log = KeptLog()
        let client = Self.client([try await server.start(at: path)], log: log)
        #expect(try await Self.ask(client) == PolicyAnswer("REJECT no"))
        #expect(try await Self.ask(client) == PolicyAnswer("REJECT no"))
        await client.close()
        await server.stop()
        #expect(server.connections == 1)
        #expect(log.all.count { $0.message.contains("policy service ends its lines with CRLF") } == 1)
    }

    @Test func manyAtOnce() async throws {
        let server = PolicyServer { _, _ in .answer("action=DUNNO\n\n") }
        let client = Self.client([try await server.start()]) { ($0.connections, $0.idle) = (4, 2) }
        let answers = try await withThrowingTaskGroup(of: PolicyAnswer.self) { group in
            for number in 0..<200 {
                group.addTask { try await Self.ask(client, "host\(number)", session: UInt64(number)) }
            }
            return try await group.reduce(into: []) { $0.append($1) }
        }
        #expect(answers == Array(repeating: PolicyAnswer("DUNNO"), count: 200))
        #expect(server.asked.count == 200)
        await client.close()
        await server.stop()
    }

    /// What each fault comes to, the first time and for good; the first is Postfix's fail-*.json.
    @Test(arguments: [
        "(close)", "rubbish\n\n", "verdict=OK\n\n", "\n", "action=OK", "220 smtp.example.com ESMTP\r\n", "(endless)",
    ])
    func faults(_ answer: String) async throws {
        @Sendable func deed() -> Deed {
            switch answer {
            case "(close)": .close
            case "(endless)": .endless
            // Without its empty line it is no answer, and nothing else comes.
            case "action=OK": .hang
            default: .answer(answer)
            }
        }
        let once = PolicyServer { _, request in request == 1 ? deed() : .answer("action=OK\n\n") }
        let timeout = Duration.seconds(answer == "action=OK" ? 1 : 20)
        let first = Self.client([try await once.start()], timeout: timeout)
        #expect(try await Self.ask(first) == (answer == "action=OK" ? Self.failure : PolicyAnswer("OK")))
        await first.close()
        await once.stop()

        let always = PolicyServer { _, _ in deed() }
        let log = KeptLog()
        let second = Self.client([try await always.start()], timeout: timeout, log: log) { $0.failures = 2 }
        for session in UInt64(1)...2 { #expect(try await Self.ask(second, session: session) == Self.failure) }
        #expect(always.asked.count == (answer == "action=OK" ? 2 : 4))
        // The breaker is open: nobody is asked.
        #expect(try await Self.ask(second) == Self.failure)
        #expect(always.asked.count == (answer == "action=OK" ? 2 : 4))
        #expect(log.all.count { $0.message.contains("policy service gives no answer") } == 2)
        await second.close()
        await always.stop()
    }

    /// A server may close what is idle, and may be started anew.
    @Test func aServerThatIsStartedAnew() async throws {
        let server = PolicyServer { _, _ in .answer("action=OK\n\n") }
        let address = try await server.start()
        let client = Self.client([address])
        #expect(try await Self.ask(client) == PolicyAnswer("OK"))
        await server.drop()
        #expect(try await Self.ask(client) == PolicyAnswer("OK"))
        #expect(server.connections == 2)
        await server.stop()
        let next = PolicyServer { _, _ in .answer("action=DUNNO\n\n") }
        _ = try await next.start(port: #require(address.port))
        #expect(try await Self.ask(client) == PolicyAnswer("DUNNO"))
        await client.close()
        await next.stop()
    }

    /// It reads the request and is gone, as a server that is killed: the question is asked again.
    @Test func anIdleConnectionThatClosesWhenAsked() async throws {
        let server = PolicyServer { connection, request in request == 2 ? .close : .answer("action=OK\n\n") }
        let client = Self.client([try await server.start()]) { $0.pause = .minutes(1) }
        for _ in 1...2 { #expect(try await Self.ask(client) == PolicyAnswer("OK")) }
        #expect(server.asked.count == 3 && server.connections == 2)
        await client.close()
        await server.stop()
    }

    @Test func nobodyListens() async throws {
        let server = PolicyServer { _, _ in .answer("action=OK\n\n") }
        let address = try await server.start()
        await server.stop()
        let log = KeptLog()
        let client = Self.client([address], onFailure: .accept, log: log) { $0.breakTime = .milliseconds(1) }
        for _ in 1...5 { #expect(try await Self.ask(client) == PolicyOnFailure.accept.answer) }
        #expect(log.all.contains { $0.fields["error"] == "cannot connect: Connection refused" })
        // It comes back.
        let next = PolicyServer { _, _ in .answer("action=REJECT\n\n") }
        _ = try await next.start(port: #require(address.port))
        while try await Self.ask(client) != PolicyAnswer("REJECT") { try await Task.sleep(for: .milliseconds(2)) }
        #expect(log.all.count { $0.message.contains("policy service answers again") } == 1)
        await client.close()
        await next.stop()
    }

    /// "localhost" is two addresses.
    @Test func theNextAddress() async throws {
        let server = PolicyServer { _, _ in .answer("action=OK\n\n") }
        let address = try await server.start()
        let client = Self.client([try SocketAddress(ipAddress: "127.0.0.1", port: 1), address])
        #expect(try await Self.ask(client) == PolicyAnswer("OK"))
        await client.close()
        await server.stop()
    }

    @Test func moreThanOneAnswer() async throws {
        let server = PolicyServer { _, _ in .answer("action=OK\n\naction=REJECT\n\n") }
        let client = Self.client([try await server.start()])
        for _ in 1...3 { #expect(try await Self.ask(client) == PolicyAnswer("OK")) }
        #expect(server.connections == 3)
        await client.close()
        await server.stop()
    }

    @Test func whatIsNotKnownIsToldOnce() async throws {
        let log = KeptLog()
        let server = PolicyServer { _, request in
            .answer("action=\(["DISCARD a", "550", "", "DISCARD b", "FILTER x", "250"][request - 1])\n\n")
        }
        let client = Self.client([try await server.start()], log: log)
        for _ in 1...6 { _ = try await Self.ask(client) }
        #expect(log.all.count { $0.message.contains("what is not known, taken as DUNNO") } == 3)
        #expect(log.all.count { $0.message.contains("a number alone, taken as OK") } == 1)
        await client.close()
        await server.stop()
    }

    @Test func withdrawn() async throws {
        let server = PolicyServer { _, request in request == 1 ? .hang : .answer("action=OK\n\n") }
        let client = Self.client([try await server.start()]) { $0.connections = 1 }
        let isAnswered = Flag()
        let request = try Self.request()
        let question = client.ask(request, session: 1) { _ in isAnswered.set() }
        while server.asked.isEmpty { try await Task.sleep(for: .milliseconds(2)) }
        let next = client.ask(request, session: 2) { _ in isAnswered.set() }
        client.withdraw(next)
        client.withdraw(question)
        await client.close()
        #expect(!isAnswered.isSet)
        await server.stop()
    }

    @Test func closed() async throws {
        let server = PolicyServer { _, _ in .hang }
        let client = Self.client([try await server.start()])
        async let waiting = Self.ask(client)
        while server.asked.isEmpty { try await Task.sleep(for: .milliseconds(2)) }
        await client.close()
        #expect(try await waiting == Self.failure)
        #expect(try await Self.ask(client) == Self.failure)
        await server.stop()
    }

    // MARK: What was recorded with Postfix

    struct Recording: Decodable, Sendable {
        struct Step: Decodable, Sendable {
            let request: [[String]]?
            let answer: String?
        }
        let policy: [Step]
    }

    /// The answers that Postfix was given, and whether that made an answer of it. CRLF does for us.
    @Test(
        .enabled(if: SharedFiles.areThere, "../shared/vectors is not there"),
        arguments: [
            ("fail-close-after-request", false), ("fail-close-once", true), ("fail-crlf", true), ("fail-hang", false),
            ("fail-no-action", false), ("fail-rubbish", false), ("fail-two-attributes", true), ("plain", true),
        ])
    func recorded(_ name: String, _ isAnswered: Bool) async throws {
        let steps = try SharedFiles.vector(Recording.self, "policy-delegation/\(name).json").policy
        let answers = steps.filter { $0.request?.contains(["recipient", "one@mx.test"]) == true }.compactMap(\.answer)
        #expect(!answers.isEmpty)
        let server = PolicyServer { _, request in
            switch answers[min(request, answers.count) - 1] {
            case "(close)": .close
            case "(hang)": .hang
            case let text where text.contains("\n"): .answer(text)
            case let action: .answer("action=\(action)\n\n")
            }
        }
        let client = Self.client([try await server.start()], timeout: name == "fail-hang" ? .seconds(1) : .seconds(20))
        let answer = try await Self.ask(client)
        #expect((answer != Self.failure) == isAnswered)
        await client.close()
        await server.stop()
    }
}
