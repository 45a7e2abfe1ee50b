// A milter on 127.0.0.1 that answers as it is told, and a session with one or several of them.

import Logging
import NIOCore
import NIOPosix
import SlimtaMail
import SlimtaMilter
import SlimtaQueue
import Synchronization
import Testing

@testable import SlimtaEdge

/// Answers each event that wants an answer with `c`, unless its script says something else.
final class ScriptedMilter: Sendable {
    enum Deed: Sendable {
        /// A packet: its letter, and what is behind it.
        case say(String, [UInt8] = [])
        /// Several of them.
        case sayAll([(String, [UInt8])])
        /// These octets, which need be no packets.
        case octets([UInt8])
        case hang
        case close
        /// What is usual.
        case usual
    }

    /// Of the connection's number, from 1, the letter and the data of a packet.
    typealias Script = @Sendable (Int, Character, ByteBuffer) -> Deed

    private struct State: Sendable {
        var seen: [String] = []
        var connections = 0
        var channels: [any Channel] = []
        var body: [Int: ByteBuffer] = [:]
    }

    private let state = Mutex(State())
    private let bits: UInt32
    private let script: Script
    private let listener = Mutex<(any Channel)?>(nil)

    /// - Parameter bits: of the protocol, as negotiated.
    init(bits: UInt32 = 0, _ script: @escaping Script = { _, _, _ in .usual }) {
        self.bits = bits
        self.script = script
    }

    func start(port: Int = 0) async throws -> SocketAddress {
        let channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton.next())
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
            .bind(host: "127.0.0.1", port: port).get()
        listener.withLock { $0 = channel }
        return try #require(channel.localAddress)
    }

    func stop() async {
        try? await listener.withLock { $0 }?.close()
        for channel in state.withLock({ $0.channels }) { try? await channel.close() }
    }

    /// The letters of what has come but for macros, of one connection.
    func letters(_ connection: Int = 1) -> String {
        state.withLock { state in
            state.seen.filter { $0.hasPrefix("\(connection) ") }.map { String($0.dropFirst(2).prefix(1)) }
        }.filter { $0 != "D" }.joined()
    }

    /// What has come, as texts: the connection, the letter, and the data with commas for NUL.
    var seen: [String] { state.withLock { $0.seen } }
    var connections: Int { state.withLock { $0.connections } }
    /// The body that has come on a connection.
    func body(_ connection: Int = 1) -> ByteBuffer { state.withLock { $0.body[connection] ?? ByteBuffer() } }

    /// Waits until it has seen that.
    func until(_ letters: String, _ connection: Int = 1) async throws {
        for _ in 0..<2000 where self.letters(connection) != letters { try await Task.sleep(for: .milliseconds(5)) }
        #expect(self.letters(connection) == letters)
    }

    private final class Handler: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        typealias OutboundOut = ByteBuffer

        private let number: Int
        private let milter: ScriptedMilter
        private var unread = ByteBuffer()

        init(_ number: Int, _ milter: ScriptedMilter) { (self.number, self.milter) = (number, milter) }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            unread.writeImmutableBuffer(unwrapInboundIn(data))
            while let length = unread.getInteger(at: unread.readerIndex, as: UInt32.self),
                unread.readableBytes >= 4 + Int(length)
            {
                unread.moveReaderIndex(forwardBy: 4)
                guard var packet = unread.readSlice(length: Int(length)), let octet = packet.readInteger(as: UInt8.self)
                else { return }
                took(Character(Unicode.Scalar(octet)), packet, context)
            }
        }

        private func took(_ letter: Character, _ data: ByteBuffer, _ context: ChannelHandlerContext) {
            let text = letter == "B" ? "" : String(buffer: data).replacing("\0", with: ",")
            milter.state.withLock { state in
                if letter == "B" { state.body[number, default: ByteBuffer()].writeImmutableBuffer(data) }
                state.seen.append("\(number) \(letter)\(text)")
            }
            switch milter.script(number, letter, data) {
            case .say(let letter, let data): write([(letter, data)], context)
            case .sayAll(let packets): write(packets, context)
            case .octets(let octets): context.writeAndFlush(wrapOutboundOut(ByteBuffer(bytes: octets)), promise: nil)
            case .hang: break
            case .close: context.close(promise: nil)
            case .usual:
                switch letter {
                case "O":
                    let bits = (0..<4).map { UInt8(truncatingIfNeeded: milter.bits >> (24 - 8 * UInt32($0))) }
                    write([("O", [0, 0, 0, 6, 0, 0, 1, 0xFF] + bits)], context)
                case "D", "A", "Q", "K": break
                // As it has said.
                case "B" where milter.bits & 0x0008_0000 != 0: break
                default: write([("c", [])], context)
                }
            }
        }

        private func write(_ packets: [(String, [UInt8])], _ context: ChannelHandlerContext) {
            var out = ByteBuffer()
            for (letter, data) in packets {
                out.writeInteger(UInt32(data.count + 1))
                out.writeString(letter)
                out.writeBytes(data)
            }
            context.writeAndFlush(wrapOutboundOut(out), promise: nil)
        }

        func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
    }
}

/// The text with NUL behind it, as packets have it.
func milterText(_ texts: String...) -> [UInt8] { texts.flatMap { Array($0.utf8) + [0] } }

/// A session with milters.
struct MilterFixture: Sendable {
    let loop: any EventLoop
    private let milters: NIOLoopBound<SessionMilters>

    /// A milter with short limits where they are to pass, and with long ones else.
    static func service(
        _ address: SocketAddress, name: String = "m", onFailure: MilterFailurePolicy = .tempfail,
        limit: Duration = .seconds(60), reuses: Bool = false, log: KeptLog = KeptLog()
    ) -> MilterService {
        MilterService(
            .init(
                session: .init(name: name, onFailure: onFailure, commandLimit: limit, contentLimit: limit),
                address: address, connectTimeout: .seconds(20), reuses: reuses),
            logger: Logger(label: "test") { _ in log })
    }

    init(
        _ services: MilterService..., limit: TimeAmount? = nil,
        loop: any EventLoop = MultiThreadedEventLoopGroup.singleton.next()
    ) async throws {
        let all = try #require(Milters(services, hostname: "mx.test", version: "test", limit: limit))
        self.loop = loop
        milters = try await loop.submit {
            NIOLoopBound(SessionMilters(all, session: "s", on: loop), eventLoop: loop)
        }.get()
    }

    /// The refusal, with the name of the milter before it.
    func ask(_ events: MilterEvent..., transaction: UInt64 = 1) async -> String? {
        await withCheckedContinuation { continuation in
            loop.execute {
                milters.value.ask(events.map { ($0, [:]) }, ofTransaction: transaction) { refusal in
                    continuation.resume(returning: refusal.map { "\($0.milter): \($0.reply)" })
                }
            }
        }
    }

    /// Tells of a recipient that somebody else has refused.
    func refused(_ event: MilterEvent) async {
        await withCheckedContinuation { continuation in
            loop.execute { milters.value.refused((event, [:])) { continuation.resume() } }
        }
    }

    /// As far as DATA; nobody says no.
    func begin(transaction: UInt64 = 1) async {
        #expect(await ask(.mail(path: "<a@x.test>", parameters: []), transaction: transaction) == nil)
        #expect(await ask(.recipient(path: "<b@y.test>", parameters: []), transaction: transaction) == nil)
        #expect(await ask(.data, transaction: transaction) == nil)
    }

    /// As far as EHLO.
    func greet() async {
        #expect(await ask(.connect(MilterClient(name: nil, address: .unknown))) == nil)
        #expect(await ask(.hello("c")) == nil)
    }

    func filter(transaction: UInt64 = 1) async throws -> any MessageFilter {
        try await loop.submit { milters.value.filter(ofTransaction: transaction) }.get().filter
    }

    func show(
        _ content: String = "Subject: x\r\n\r\ntext\r\n", rest: (any SpooledBody)? = nil, transaction: UInt64 = 1
    ) async throws -> FilterVerdict {
        try await filter(transaction: transaction).filter(
            FilteredMessage(
                id: QueueID(high: 1, low: 2), message: Message(head: ByteBuffer(string: content), rest: rest),
                sender: Mailbox(localPart: "a", domain: "x.test"),
                recipients: [Mailbox(localPart: "b", domain: "y.test")]))
    }

    func end() async throws { try await loop.submit { milters.value.end() }.get() }
}
