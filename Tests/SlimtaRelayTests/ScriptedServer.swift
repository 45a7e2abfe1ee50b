// A server that follows a script, for what no real server does: hostile dialogs and TLS that fails.

import Glibc
import NIOCore
import NIOPosix
import SlimtaMail
import SlimtaTLS
import Synchronization

/// Listens on a loopback address; connection n follows script n, the last one all that come later.
final class ScriptedServer: Sendable {
    enum Step: Sendable {
        /// Sends the text as it is.
        case send(String)
        /// Waits for a line that begins like this; anything else is noted as a fault and ends the connection.
        case expect(String)
        /// Waits for the end of a message.
        case expectContent
        /// TLS from here on.
        case startTLS(TLSServerContext)
        case close
        /// Does nothing for a while; `longestGap` says for how long.
        case pause(TimeAmount)
        /// From here on reads so many octets once in such a time, and `longestGap` says how well it kept to that.
        case readSlowly(octets: Int, each: TimeAmount)
        /// Ends the connection with a TCP reset.
        case reset
        /// From here on every command gets a friendly answer, as from any server without extensions.
        case serve([String])
    }

    final class Log: Sendable {
        struct State {
            var connections = 0
            var open = 0
            var mostOpen = 0
            var lines: [String] = []
            var contents: [String] = []
            var faults: [String] = []
            var peers: [String] = []
            var serverNames: [String?] = []
            var longestGap = TimeAmount.zero
        }

        let state = Mutex(State())
    }

    let address: SocketAddress
    let log = Log()
    private let channel: any Channel

    var port: Int { address.port! }
    /// The lines of all connections, in the order of their arrival.
    var lines: [String] { log.state.withLock { $0.lines } }
    var contents: [String] { log.state.withLock { $0.contents } }
    var faults: [String] { log.state.withLock { $0.faults } }
    var connections: Int { log.state.withLock { $0.connections } }
    /// Where the connections came from.
    var peers: [String] { log.state.withLock { $0.peers } }
    /// The names that clients asked for (SNI), one for each handshake.
    var serverNames: [String?] { log.state.withLock { $0.serverNames } }
    var mostOpen: Int { log.state.withLock { $0.mostOpen } }
    /// The longest pause, and time from one turn of a slow reader to the next: on a loaded machine more than the script says.
    var longestGap: TimeAmount { log.state.withLock { $0.longestGap } }

    convenience init(at ip: String = "127.0.0.1", port: Int = 0, _ scripts: [Step]...) async throws {
        try await self.init(at: ip, port: port, all: scripts)
    }

    convenience init(at ip: String = "127.0.0.1", port: Int = 0, all scripts: [[Step]]) async throws {
        try await self.init(on: try SocketAddress(ipAddress: ip, port: port), all: scripts)
    }

    init(on listener: SocketAddress, all scripts: [[Step]]) async throws {
        let log = log
        channel = try await ServerBootstrap(group: Fixture.group)
            .serverChannelOption(.backlog, value: 1000)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: listener.pathname == nil ? 1 : 0)
            // Of a size that stays, so that the sender sees what is read here.
            .serverChannelOption(.socketOption(.so_rcvbuf), value: 1 << 20)
            .childChannelInitializer { channel in
                let number = log.state.withLock { state in
                    state.connections += 1
                    state.open += 1
                    state.mostOpen = max(state.mostOpen, state.open)
                    state.peers.append(channel.remoteAddress?.ipAddress ?? "")
                    return state.connections
                }
                return channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(
                        Handler(scripts[min(number, scripts.count) - 1], log))
                }
            }
            .bind(to: listener).get()
        address = channel.localAddress!
    }

    func stop() async { try? await channel.close() }

    private final class Handler: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        typealias OutboundOut = ByteBuffer

        private var steps: ArraySlice<Step>
        private let log: Log
        private var input = ByteBuffer()
        /// What a slow reader may still read in this turn; nil: as much as comes.
        private var allowance: Int?
        private var lastTurn = NIODeadline.now()

        init(_ script: [Step], _ log: Log) {
            steps = script[...]
            self.log = log
        }

        func channelActive(context: ChannelHandlerContext) { run(context) }

        func channelInactive(context: ChannelHandlerContext) { log.state.withLock { $0.open -= 1 } }

        func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
            guard case TLSHandler.Event.established(let facts) = event else { return }
            log.state.withLock { $0.serverNames.append(facts.serverName) }
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            let octets = unwrapInboundIn(data)
            input.writeImmutableBuffer(octets)
            if let left = allowance {
                allowance = left - octets.readableBytes
                if left > octets.readableBytes { context.read() }
            }
            run(context)
        }

        func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }

        private func line() -> String? {
            guard let end = input.readableBytesView.firstIndex(of: UInt8(ascii: "\n")) else { return nil }
            let line = input.readString(length: end - input.readerIndex + 1)!
            let text = String(line.unicodeScalars.filter { $0 != "\r" && $0 != "\n" }.map(Character.init))
            log.state.withLock { $0.lines.append(text) }
            return text
        }

        /// Whether a whole message was there, and nothing behind it.
        private func content() -> Bool {
            let end = Array("\r\n.\r\n".utf8)
            let octets = input.readableBytesView
            guard octets.suffix(end.count).elementsEqual(end) || octets.elementsEqual(".\r\n".utf8) else {
                return false
            }
            let length = input.readableBytes
            let text = input.readString(length: length)!
            log.state.withLock { $0.contents.append(text) }
            return true
        }

        private func say(_ text: String, _ context: ChannelHandlerContext) {
            context.writeAndFlush(wrapOutboundOut(ByteBuffer(string: text)), promise: nil)
        }

        private func run(_ context: ChannelHandlerContext) {
            while let step = steps.first {
                switch step {
                case .send(let text): say(text, context)
                case .expect(let start):
                    guard let line = line() else { return }
                    if !line.hasPrefix(start) {
                        log.state.withLock { $0.faults.append("expected \(start), got \(line)") }
                        context.close(promise: nil)
                        return
                    }
                case .expectContent: if !content() { return }
                case .readSlowly(let octets, let time):
                    allowance = 0
                    lastTurn = .now()
                    context.channel.setOption(
                        .recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: 131_072)
                    ).whenComplete { _ in }
                    context.channel.setOption(.autoRead, value: false).whenComplete { _ in }
                    let loop = context.eventLoop.assumeIsolated()
                    loop.scheduleTask(in: time) { self.readSlowly(context, octets, time) }
                case .pause(let time):
                    let rest = steps.dropFirst()
                    steps = []
                    let began = NIODeadline.now()
                    context.eventLoop.assumeIsolated().scheduleTask(in: time) {
                        self.log.state.withLock { $0.longestGap = max($0.longestGap, .now() - began) }
                        self.steps = rest
                        self.run(context)
                    }
                    return
                case .startTLS(let tls):
                    try? context.pipeline.syncOperations.addHandler(TLSHandler(server: tls), position: .first)
                case .close:
                    context.close(promise: nil)
                    return
                case .reset:
                    (context.channel as? any SocketOptionProvider)?
                        .setSoLinger(linger(l_onoff: 1, l_linger: 0)).whenComplete { _ in }
                    context.close(promise: nil)
                    return
                case .serve(let extensions):
                    guard let line = line() else { return }
                    serve(line, extensions, context)
                    continue
                }
                steps = steps.dropFirst()
            }
        }

        /// A turn of a slow reader.
        private func readSlowly(_ context: ChannelHandlerContext, _ octets: Int, _ time: TimeAmount) {
            guard context.channel.isActive else { return }
            let gap = NIODeadline.now() - lastTurn
            lastTurn = .now()
            log.state.withLock { $0.longestGap = max($0.longestGap, gap) }
            let isIdle = (allowance ?? 0) <= 0
            allowance = octets
            // Else a read is under way that the last turn has begun.
            if isIdle { context.read() }
            context.eventLoop.assumeIsolated().scheduleTask(in: time) { self.readSlowly(context, octets, time) }
        }

        private func serve(_ line: String, _ extensions: [String], _ context: ChannelHandlerContext) {
            switch line.prefix(4) {
            case "EHLO":
                let lines = ["scripted.test"] + extensions
                say(lines.enumerated().map { "250\($0 == lines.count - 1 ? " " : "-")\($1)\r\n" }.joined(), context)
            case "DATA":
                say("354 go on\r\n", context)
                steps = [.expectContent, .send("250 2.0.0 taken\r\n")] + steps
            case "QUIT":
                say("221 bye\r\n", context)
                context.close(promise: nil)
            default: say("250 ok\r\n", context)
            }
        }
    }
}
