// One SMTP session on a channel in memory: the edge's driver with a storage that takes everything, its log kept.

import Logging
import NIOCore
import NIOEmbedded
import SlimtaMail
import SlimtaNet
import SlimtaQueue
import SlimtaSASL
import SlimtaSMTP
import Synchronization
import Testing

@testable import SlimtaEdge

/// A session without TLS, and with AUTH if it has credentials; and what it wrote.
final class SessionFixture {
    let channel = EmbeddedChannel()
    let log = KeptLog()
    let storage = AcceptingStorage()

    init(
        commands: Int = 100, transfer: TransferWatch.Limits = .init(leastRate: 1024, stallTimeout: .minutes(3)),
        dataTimeout: TimeAmount? = nil, credentials: HeldCredentials? = nil, stages: SMTPStages = [],
        greeting: Reply? = nil, greetDelay: TimeAmount = .zero, proxy: ProxyFacts? = nil,
        gate: Gate? = nil
    ) throws {
        var server = SMTPServerConfiguration(
            hostname: "mx.example.org", greeting: greeting, tls: .none,
            authentication: credentials == nil ? .none : .optional,
            allowsPlaintextAuthentication: true, commands: commands)
        server.stages = stages
        var settings = SMTPEdgeSettings(
            name: "test", server: server, tls: nil, credentials: credentials,
            trust: ClientTrust(networks: [try #require(NetworkRange("192.0.2.0/24"))], allowsThisMachine: false),
            transfer: transfer, dataTimeout: dataTimeout)
        settings.greetDelay = greetDelay
        if gate != nil { settings.gate = gate }
        let client = try SocketAddress(ipAddress: "192.0.2.1", port: 25)
        var connection = ConnectionFacts(peer: client, local: nil)
        if let proxy { connection = ConnectionFacts(peer: connection.peer, local: connection.local, proxy: proxy) }
        let log = log
        let logger = Logger(label: "test") { _ in log }
        try channel.pipeline.syncOperations.addHandler(HalfClosing())
        try channel.pipeline.syncOperations.addHandler(
            SMTPEdgeHandler(
                settings: settings, submissions: storage,
                connection: connection, log: SessionLog(logger)))
        channel.connect(to: client, promise: nil)
        guard greetDelay == .zero, greeting == nil, gate?.stages.contains(.connect) != true else { return }
        #expect(try replies() == ["220 mx.example.org ESMTP Mail Gateway"])
    }

    func send(_ text: String) throws { try channel.writeInbound(ByteBuffer(string: text)) }

    /// The codes and texts that were written since the last call.
    func replies() throws -> [String] {
        channel.embeddedEventLoop.run()
        var text = ""
        while let next = try channel.readOutbound(as: ByteBuffer.self) { text += String(buffer: next) }
        return text.split(separator: "\r\n").map(String.init)
    }

    func advance(_ time: TimeAmount) { channel.embeddedEventLoop.advanceTime(by: time) }

    /// As far as DATA.
    func beginMessage() throws {
        try send("EHLO c\r\nMAIL FROM:<a@x.org>\r\nRCPT TO:<b@y.org>\r\nDATA\r\n")
        #expect(try replies().last?.hasPrefix("354") == true)
    }
}

/// Keeps the connection until both sides have closed, as a socket does: EmbeddedChannel ends whatever is closed.
private final class HalfClosing: ChannelDuplexHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundIn = ByteBuffer

    private var isInputClosed = false

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case ChannelEvent.inputClosed = event { isInputClosed = true }
        context.fireUserInboundEventTriggered(event)
    }

    func close(context: ChannelHandlerContext, mode: CloseMode, promise: EventLoopPromise<Void>?) {
        if mode == .output, !isInputClosed { promise?.succeed() } else { context.close(promise: promise) }
    }
}

/// Takes each message, when it is told to.
final class AcceptingStorage: Submissions {
    private struct State: Sendable {
        var isSlow = false
        var waiting: [@Sendable (Reply) -> Void] = []
        var isFar = false
        var asking: [@Sendable (Reply?) -> Void] = []
        var count = 0
        var full: Reply?
        var reply = Reply(250, .init(2, 6, 0), "Message queued")
        var terms: [SubmissionTerms] = []
        var receipts: [Receipt.Digest: Receipt] = [:]
    }

    private let state = Mutex(State())

    /// Whether answers wait for ``answer()``.
    var isSlow: Bool {
        get { state.withLock { $0.isSlow } }
        set { state.withLock { $0.isSlow = newValue } }
    }

    var count: Int { state.withLock { $0.count } }
    /// Of each message.
    var terms: [SubmissionTerms] { state.withLock { $0.terms } }

    /// Whether somebody else has to be asked for room: ``answerRoom(_:)`` is that one's answer.
    var isFar: Bool {
        get { state.withLock { $0.isFar } }
        set { state.withLock { $0.isFar = newValue } }
    }

    /// How many sessions wait for an answer.
    var askingCount: Int { state.withLock { $0.asking.count } }

    func refusal(size: Int?, completion: @escaping @Sendable (Reply?) -> Void) {
        let isFar = state.withLock { state in
            if state.isFar { state.asking.append(completion) }
            return state.isFar
        }
        if !isFar { completion(full) }
    }

    func answerRoom(_ refusal: Reply?) {
        let asking = state.withLock { state in
            defer { state.asking = [] }
            return state.asking
        }
        for completion in asking { completion(refusal) }
    }

    /// What is said at MAIL, if nobody else has to be asked; nil: there is room.
    var full: Reply? {
        get { state.withLock { $0.full } }
        set { state.withLock { $0.full = newValue } }
    }

    /// What is said to a message.
    var reply: Reply {
        get { state.withLock { $0.reply } }
        set { state.withLock { $0.reply = newValue } }
    }

    func newID(at time: Timestamp) -> QueueID { QueueID(at: time) }

    func beginSpool(_ id: QueueID, behind head: ByteBuffer) -> any SpoolWriter {
        preconditionFailure("messages of tests are small")
    }

    func submit(
        _ envelope: Envelope, _ message: Message, terms: SubmissionTerms, receipt: Receipt?, session: String,
        completion: @escaping @Sendable (Reply) -> Void
    ) {
        let isSlow = state.withLock { state in
            if let receipt, state.reply.code == 250 { state.receipts[receipt.key] = receipt.of([envelope]) }
            state.count += 1
            state.terms.append(terms)
            if state.isSlow { state.waiting.append(completion) }
            return state.isSlow
        }
        if !isSlow { completion(reply) }
    }

    func receipt(for key: Receipt.Digest) async throws(StorageError) -> Receipt? {
        state.withLock { $0.receipts[key] }
    }

    func submission(_ id: QueueID, of owners: [Receipt.Owner]) async throws(StorageError) -> SubmissionState? { nil }

    func forget(_ keys: [Receipt.Digest], completion: @escaping @Sendable (StorageError?) -> Void) {
        state.withLock { state in for key in keys { state.receipts[key] = nil } }
        completion(nil)
    }

    func answer() {
        let waiting = state.withLock { state in
            defer { state.waiting = [] }
            return state.waiting
        }
        for completion in waiting { completion(reply) }
    }
}

/// Knows the user "u" with any password; "d" cannot be checked now. Answers when it is told to.
final class HeldCredentials: Authenticator, AuthenticationExchange {
    private struct State: Sendable {
        var isSlow = false
        var listed: [SASLMechanism] = [.plain, .login]
        var waiting: [@Sendable () -> Void] = []
        var server: SASLServer?
    }

    private let state = Mutex(State())

    /// Whether answers wait for ``answer()``.
    var isSlow: Bool {
        get { state.withLock { $0.isSlow } }
        set { state.withLock { $0.isSlow = newValue } }
    }

    /// Those that clients may use.
    var listed: [SASLMechanism] {
        get { state.withLock { $0.listed } }
        set { state.withLock { $0.listed = newValue } }
    }

    func mechanisms(on facts: AuthenticationFacts) -> [SASLMechanism] { listed }

    func exchange(on facts: AuthenticationFacts) -> any AuthenticationExchange { self }

    func abandon() {}

    func take(
        _ step: SMTPServerMachine.AuthenticationStep, completion: @escaping @Sendable (AuthenticationOutcome) -> Void
    ) {
        let result = outcome(of: step)
        let isSlow = state.withLock { state in
            if state.isSlow { state.waiting.append { completion(result) } }
            return state.isSlow
        }
        if !isSlow { completion(result) }
    }

    private func outcome(of step: SMTPServerMachine.AuthenticationStep) -> AuthenticationOutcome {
        let next: SASLStep? = state.withLock { state in
            switch step {
            case .begin(let mechanism, let response, _):
                let context = SASLContext(listed: [], inventing: SecretOctets([1]), hostname: "mx.example.org")
                var server = SASLServer.begin(mechanism, context: context)
                let next = server.received(response.map { Array($0) })
                state.server = server
                return next
            case .response(let response): return state.server?.received(Array(response))
            case .cancelled: return nil
            }
        }
        switch next {
        case .challenge(let challenge): return AuthenticationOutcome(.challenge(challenge))
        case .ask(.password(let credentials)):
            let login = credentials.login
            switch login {
            case "u": return AuthenticationOutcome(.right(.init(login: "u")), login: login)
            case "d": return AuthenticationOutcome(.unavailable, login: login, reason: "down")
            default: return AuthenticationOutcome(.wrong, login: login)
            }
        default: return AuthenticationOutcome(.malformed)
        }
    }

    func answer() {
        let waiting = state.withLock { state in
            defer { state.waiting = [] }
            return state.waiting
        }
        for completion in waiting { completion() }
    }
}

/// A log handler that keeps what it gets.
final class KeptLog: LogHandler {
    struct Line: Sendable {
        let message: String
        let fields: [String: String]
    }

    private let kept = Mutex<[Line]>([])
    private let level = Mutex(Logger.Level.info)

    var logLevel: Logger.Level {
        get { level.withLock { $0 } }
        set { level.withLock { $0 = newValue } }
    }
    var metadata: Logger.Metadata {
        get { [:] }
        set {}
    }
    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { nil }
        set {}
    }

    func log(event: LogEvent) {
        let fields = (event.metadata ?? [:]).mapValues { "\($0)" }
        kept.withLock { $0.append(Line(message: event.message.description, fields: fields)) }
    }

    var all: [Line] { kept.withLock { $0 } }

    func lines(_ message: String) -> [Line] { kept.withLock { $0.filter { $0.message == message } } }
}
