// A connection to the HTTP edge in memory, on one thread and with a clock of its own: the edge's resources, sessions and
// channel handlers are those of the daemon, what is a socket there is ``Wire`` here, and the queue keeps what it gets.

import Logging
import NIOCore
import NIOEmbedded
import NIOHTTP1
import SlimtaMail
import SlimtaSASL
import SlimtaSMTP
import Synchronization

@testable import SlimtaEdge
@testable import SlimtaNet
@testable import SlimtaQueue

/// Runs a client that sends an input, and does with its end of the connection what the input's first octet says.
final class HTTPEdgeSession {
    /// What the client does behind its last octet.
    enum Ending: UInt8 {
        case waits, closesItsSide, vanishes
        /// It waits, and the daemon stops.
        case isDrained
        /// It has not read a single octet.
        case readsNothing
    }

    static let messageLimit = 2000

    let ending: Ending
    let storage: RecordingQueue
    private let cuts: Bool
    private let loop = EmbeddedEventLoop()
    private let channel: EmbeddedChannel
    private let wire: Wire
    private let tap = Tap()
    private let sessions: HTTPSessions

    /// What was answered.
    var answered: [UInt8] { Array(wire.written.readableBytesView) }
    /// As the edge understood them; the last one may not be whole.
    var understood: [StrictRequest] { tap.requests }

    /// Of `mode` bits 0 to 2 are the ending, 3 cuts the input, 4 has the queue take its time, 5 wants a login, and without 6 it
    /// refuses every second message.
    init(mode: UInt8) throws {
        ending = Ending(rawValue: mode & 7) ?? .closesItsSide
        cuts = mode & 8 != 0
        let wantsLogin = mode & 32 != 0
        storage = RecordingQueue(on: loop, isSlow: mode & 16 != 0, refuses: mode & 64 == 0)
        let submission = SubmissionSettings(
            name: "http", hostname: "mx.example.org",
            rules: TransactionRules(
                authentication: wantsLogin ? .required : .none, messageSize: Self.messageLimit, recipients: 20),
            trust: ClientTrust(networks: [], allowsThisMachine: !wantsLogin),
            credentials: wantsLogin
                ? BackEnds(
                    [AnyPassword()], mechanisms: [.plain], binding: .off,
                    context: SASLContext(listed: [], inventing: SecretOctets([1]), hostname: "x")) : nil)
        var settings = HTTPEdgeSettings(
            submission, tls: nil, authenticator: wantsLogin ? .credentials : .none,
            resources: [
                JSONResource(version: "1", messageSize: Self.messageLimit), SendmailResource(),
                MessageResource(path: "/"),
            ])
        settings.serverNames = ["x"]
        // Each request of an input is to be answered.
        (settings.commands, settings.errors) = (.max, .max)
        sessions = HTTPSessions(
            settings, limiter: ConnectionLimiter(.init(total: 1, perAddress: 1)), submissions: storage,
            log: SessionLog(Logger(label: "") { _ in Discarding() }), eventLoop: loop)
        wire = Wire(isReading: ending != .readsNothing)
        channel = EmbeddedChannel(handler: wire, loop: loop)
        let client = try SocketAddress(ipAddress: "127.0.0.1", port: 1)
        _ = try sessions.serve(ConnectionFacts(peer: client, local: client), on: channel, settings)
        let pipeline = channel.pipeline.syncOperations
        try pipeline.addHandler(tap, position: .before(pipeline.handler(type: HTTPServerHandler.self)))
        channel.connect(to: client, promise: nil)
    }

    /// Runs it to its end.
    func run(_ input: ArraySlice<UInt8>) throws {
        channel.pipeline.read()
        loop.run()
        var rest = input
        var hash = input.reduce(UInt64(14_695_981_039_346_656_037)) { ($0 ^ UInt64($1)) &* 1_099_511_628_211 }
        while !rest.isEmpty, try isWanted() {
            hash = hash &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            // A socket gives no more at a time.
            let count = cuts ? 1 + Int(hash >> 33) % max(1, input.count / 4) : 4096
            wire.wantsOctets = false
            channel.pipeline.fireChannelRead(ByteBuffer(bytes: rest.prefix(count)))
            channel.pipeline.fireChannelReadComplete()
            channel.pipeline.read()
            loop.run()
            rest = rest.dropFirst(count)
        }
        switch ending {
        case .waits, .readsNothing: break
        case .closesItsSide: if try isWanted() { wire.clientCloses() }
        case .vanishes: wire.close()
        case .isDrained: sessions.drain(channel)
        }
        // No client is waited for that long.
        for _ in 0..<30 where channel.isActive { loop.advanceTime(by: .minutes(1)) }
        try hold(!channel.isActive, "the connection does not end")
        loop.advanceTime(by: .minutes(5))
        _ = try? channel.finish(acceptAlreadyClosed: true)
        try hold(storage.openCount == 0, "a message that was neither submitted nor let go")
    }

    /// Whether more is read. What is answered later is waited for, and a client that is not listened to does not wait for ever.
    private func isWanted() throws -> Bool {
        for _ in 0..<600 where channel.isActive && !wire.wantsOctets { loop.advanceTime(by: .seconds(1)) }
        try hold(!channel.isActive || wire.wantsOctets, "nothing more is read, and nothing ends it")
        return channel.isActive
    }
}

/// In the place of the socket: gives what is asked for, and closes one direction.
private final class Wire: ChannelDuplexHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundIn = IOData

    private let isReading: Bool
    private var context: ChannelHandlerContext?
    private var closed = (input: false, output: false)
    var wantsOctets = false
    private(set) var written = ByteBuffer()
    private var unflushed: [EventLoopPromise<Void>] = []

    init(isReading: Bool) { self.isReading = isReading }

    func handlerAdded(context: ChannelHandlerContext) { self.context = context }
    func handlerRemoved(context: ChannelHandlerContext) {
        self.context = nil
        for promise in unflushed { promise.fail(ChannelError.ioOnClosedChannel) }
    }

    func read(context: ChannelHandlerContext) { wantsOctets = !closed.input }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        guard isReading else { return context.channel.closeFuture.cascade(to: promise) }
        guard !closed.output else {
            promise?.fail(ChannelError.outputClosed)
            return
        }
        if case .byteBuffer(let octets) = unwrapOutboundIn(data) { written.writeImmutableBuffer(octets) }
        if let promise { unflushed.append(promise) }
    }

    func flush(context: ChannelHandlerContext) {
        let promises = unflushed
        unflushed = []
        for promise in promises { promise.succeed(()) }
    }

    func close(context: ChannelHandlerContext, mode: CloseMode, promise: EventLoopPromise<Void>?) {
        guard mode == .output, !closed.input else { return context.close(promise: promise) }
        closed.output = true
        promise?.succeed(())
        context.fireUserInboundEventTriggered(ChannelEvent.outputClosed)
    }

    func clientCloses() {
        guard let context else { return }
        (closed.input, wantsOctets) = (true, false)
        if closed.output { return close() }
        context.fireUserInboundEventTriggered(ChannelEvent.inputClosed)
    }

    func close() { context?.close(promise: nil) }
}

/// Notes what the server's handlers are given.
private final class Tap: ChannelInboundHandler {
    typealias InboundIn = HTTPServerRequestPart

    private(set) var requests: [StrictRequest] = []

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head(let head): requests.append(StrictRequest(method: head.method.rawValue, target: head.uri))
        case .body(let octets): requests[requests.count - 1].body += octets.readableBytesView
        case .end: break
        }
        context.fireChannelRead(data)
    }
}

/// A queue that keeps what it takes in memory, and takes some time for it.
final class RecordingQueue: Submissions {
    private struct State {
        var count = 0
        var taken: [QueueID: [UInt8]] = [:]
        var receipts: [Receipt.Digest: Receipt] = [:]
    }

    private let state = Mutex(State())
    private let loop: EmbeddedEventLoop
    private let isSlow: Bool
    private let refuses: Bool
    private let open = Atomic(0)

    init(on loop: EmbeddedEventLoop, isSlow: Bool, refuses: Bool) {
        self.loop = loop
        self.isSlow = isSlow
        self.refuses = refuses
    }

    /// The content of each message, by its id.
    var taken: [QueueID: [UInt8]] { state.withLock { $0.taken } }
    /// Calls that have not been answered.
    var openCount: Int { open.load(ordering: .relaxed) }

    private func later<Value: Sendable>(_ completion: @escaping @Sendable (Value) -> Void, _ value: Value) {
        guard isSlow else { return completion(value) }
        open.add(1, ordering: .relaxed)
        loop.scheduleTask(in: .seconds(2)) {
            self.open.subtract(1, ordering: .relaxed)
            completion(value)
        }
    }

    func refusal(size: Int?, completion: @escaping @Sendable (Reply?) -> Void) { later(completion, nil) }

    func newID(at time: Timestamp) -> QueueID { QueueID(at: time) }

    func beginSpool(_ id: QueueID, behind head: ByteBuffer) -> any SpoolWriter {
        preconditionFailure("no input is that long")
    }

    func submit(
        _ envelope: Envelope, _ message: Message, terms: SubmissionTerms, receipt: Receipt?, session: String,
        completion: @escaping @Sendable (Reply) -> Void
    ) {
        let reply = state.withLock { state in
            state.count += 1
            if let receipt, state.receipts[receipt.key] != nil { return Reply.repeated }
            if refuses, state.count % 2 == 0 { return Reply(451, .init(4, 3, 0), "Error queuing message") }
            state.taken[envelope.id] = Array(message.head.readableBytesView)
            if let receipt { state.receipts[receipt.key] = receipt.of([envelope]) }
            return Reply(250, .init(2, 6, 0), "Message queued")
        }
        later(completion, reply)
    }

    func receipt(for key: Receipt.Digest) async throws(StorageError) -> Receipt? {
        state.withLock { $0.receipts[key] }
    }

    func submission(_ id: QueueID, of owners: [Receipt.Owner]) async throws(StorageError) -> SubmissionState? {
        let receipt = state.withLock { state in
            state.receipts.values.first { $0.id == id && owners.contains($0.owner) }
        }
        return receipt.map { SubmissionState(receipt: $0, recipients: []) }
    }

    func forget(_ keys: [Receipt.Digest], completion: @escaping @Sendable (StorageError?) -> Void) {
        state.withLock { state in for key in keys { state.receipts[key] = nil } }
        completion(nil)
    }
}

/// Knows the user "u" with any password.
private struct AnyPassword: CredentialBackEnd {
    let name = "any"
    let timeout = TimeAmount.seconds(1)

    func mechanisms(on facts: AuthenticationFacts) -> Set<SASLMechanism> { [.plain] }

    func check(_ credentials: Credentials, _ facts: AuthenticationFacts) async -> CredentialVerdict {
        credentials.login == "u" ? .right(AuthenticatedUser(login: "u")) : .wrong
    }
}

/// Has each line made, and forgets it.
private struct Discarding: LogHandler {
    var logLevel = Logger.Level.debug
    var metadata: Logger.Metadata = [:]

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) { _ = event.metadata?.description }
}
