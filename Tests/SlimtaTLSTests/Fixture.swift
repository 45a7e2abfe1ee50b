// What the tests of SlimtaTLS share: certificates, contexts, and two handlers joined in memory.

import NIOCore
import NIOEmbedded
import SlimtaMail
import TestKit
import Testing

@testable import SlimtaTLS

/// Certificates for mx.example.com, made once.
enum Fixture {
    static let certificates = try! Certificates()
    static let authority = try! certificates.authority()
    static let trusted = try! certificates.issued("mx.example.com", "IP:192.0.2.1", by: authority)
    static let selfSigned = try! certificates.selfSigned("mx.example.com")

    static func server(
        _ pair: Certificates.Pair = trusted, minimum: TLSMinimum = .v1_2
    ) throws(TLSError) -> TLSServerContext {
        try TLSServerContext(certificatePEM: pair.certificatePEM, keyPEM: pair.keyPEM, minimum: minimum)
    }

    static func opportunistic(newest: Version = .tls13) throws(TLSError) -> TLSClientContext {
        let context = try TLSClientContext(minimum: .v1_2, verifies: false)
        newest.limit(context.context)
        return context
    }
}

/// The newest version that a context speaks: there is no setting for it but in tests.
enum Version: String, CaseIterable, CustomTestStringConvertible {
    case tls12 = "TLSv1.2"
    case tls13 = "TLSv1.3"

    var testDescription: String { rawValue }

    func limit(_ context: TLSContext) {
        let setMaximum: CInt = 124
        precondition(openSSLControl(context.pointer, setMaximum, self == .tls12 ? 0x0303 : 0x0304, nil) == 1)
    }
}

// COpenSSL is no business of tests: these are for what only a hostile peer does.
@_silgen_name("SSL_CTX_ctrl")
func openSSLControl(_ context: OpaquePointer, _ command: CInt, _ number: Int, _ pointer: UnsafeMutableRawPointer?)
    -> Int

@_silgen_name("SSL_key_update")
func openSSLKeyUpdate(_ ssl: OpaquePointer, _ type: CInt) -> CInt

/// The last handler of a channel: keeps all that it is told.
final class Recorder: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    enum Entry: Hashable {
        case established
        case truncated
        case error(TLSError.Code)
        case data
        case inputClosed
        case inactive
    }

    private(set) var entries: [Entry] = []
    private(set) var data = ByteBuffer()
    private(set) var largestRead = 0
    private(set) var info: TLSFacts?
    private(set) var error: TLSError?
    /// Called with each event, as a driver would be.
    var onEstablished: ((ChannelHandlerContext) -> Void)?
    var onRead: ((ChannelHandlerContext) -> Void)?

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        switch event {
        case TLSHandler.Event.established(let info):
            self.info = info
            entries.append(.established)
            onEstablished?(context)
        case TLSHandler.Event.truncated: entries.append(.truncated)
        case ChannelEvent.inputClosed: entries.append(.inputClosed)
        default: context.fireUserInboundEventTriggered(event)
        }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var buffer = unwrapInboundIn(data)
        largestRead = max(largestRead, buffer.readableBytes)
        self.data.writeBuffer(&buffer)
        if entries.last != .data { entries.append(.data) }
        onRead?(context)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        self.error = error as? TLSError
        entries.append(.error(self.error?.code ?? .configuration))
    }

    func channelInactive(context: ChannelHandlerContext) { entries.append(.inactive) }
}

/// One end: a channel in memory with the handler and a recorder.
struct End {
    let channel = EmbeddedChannel()
    let recorder = Recorder()

    init(_ handler: TLSHandler) throws {
        try channel.pipeline.syncOperations.addHandler(recorder)
        try channel.pipeline.syncOperations.addHandler(handler, position: .first)
        channel.connect(to: try SocketAddress(ipAddress: "192.0.2.1", port: 25), promise: nil)
    }

    /// What is to be sent, all in one.
    func sent() throws -> ByteBuffer {
        var all = ByteBuffer()
        while var next = try channel.readOutbound(as: ByteBuffer.self) { all.writeBuffer(&next) }
        return all
    }
}

/// How a stream is cut on its way.
enum Cut: CaseIterable {
    case whole
    case octets
    case random

    func callAsFunction(_ bytes: ByteBuffer, _ random: inout SeededGenerator) -> [ByteBuffer] {
        var (bytes, pieces) = (bytes, [ByteBuffer]())
        while bytes.readableBytes > 0 {
            let length =
                switch self {
                case .whole: bytes.readableBytes
                case .octets: 1
                case .random: Int.random(in: 1...min(bytes.readableBytes, 5000), using: &random)
                }
            pieces.append(bytes.readSlice(length: length)!)
        }
        return pieces
    }
}

extension SeededGenerator {
    mutating func bytes(_ count: Int) -> ByteBuffer {
        var buffer = ByteBuffer()
        buffer.writeBytes((0..<count).map { _ in UInt8.random(in: 0...255, using: &self) })
        return buffer
    }
}

/// Two ends and the wire between them.
final class Pair {
    let server: End
    let client: End
    var cut: Cut
    private var random = SeededGenerator(seed: 1)

    init(
        server: TLSServerContext, client: TLSClientContext, serverName: String? = nil,
        verification: TLSVerification = .none, cut: Cut = .whole
    ) throws {
        self.server = try End(TLSHandler(server: server))
        self.client = try End(TLSHandler(client: client, serverName: serverName, verification: verification))
        self.cut = cut
    }

    /// An established connection, as opportunistic TLS makes it.
    convenience init(cut: Cut = .whole, newest: Version = .tls13) throws {
        try self.init(server: Fixture.server(), client: Fixture.opportunistic(newest: newest), cut: cut)
        try run()
    }

    /// Carries octets until neither end has more to say.
    func run() throws {
        var isQuiet = false
        while !isQuiet {
            isQuiet = true
            for (from, to) in [(client, server), (server, client)] {
                for piece in cut(try from.sent(), &random) {
                    isQuiet = false
                    try to.channel.writeInbound(piece)
                }
            }
        }
    }
}
