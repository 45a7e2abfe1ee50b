// TLS in a channel: put first into the pipeline by an edge or a relay, at once or when STARTTLS was agreed. It moves
// octets between the channel and a TLSEngine, and knows nothing of what they mean.

package import NIOCore
package import SlimtaMail

/// Speaks TLS between a channel and the handlers behind it, for which everything stays as without.
///
/// It is added with `pipeline.syncOperations.addHandler(_, position: .first)`, before or after the channel is active,
/// and begins the handshake as soon as both are the case. What happens then:
///
/// - The handshake is done: ``Event/established(_:)``. What was written before goes out then; there is no bound for
///   it, so wait. A limit of time is the caller's business.
/// - The handshake fails: `errorCaught` with a ``TLSError``, the alert is sent, the channel is closed. It also fails if
///   the peer closes in the middle.
/// - The peer ends with close_notify: answered, and the channel is closed. With no other sign than `channelInactive`,
///   as without TLS. With `keepsWriting` that is `ChannelEvent.inputClosed` instead, what is written still goes out, and
///   the handlers behind close the channel when they are done.
/// - The connection ends without close_notify: ``Event/truncated``, then `channelInactive`. What came last may not be
///   all that was sent.
/// - Something that is no valid record comes: `errorCaught` with a ``TLSError``, and the channel is closed.
/// - `close`: what was flushed goes out, then close_notify, then the channel is closed, after five seconds at the
///   latest. The peer's close_notify is not waited for. To close one direction only is not supported.
///
/// Plaintext is handed on as soon as it is decrypted, at most as much of it at a time as the channel read of
/// ciphertext. All that is flushed at a time goes out in one write. Neither direction keeps anything that could be
/// handed on, so that the channel's writability and the wish to read count as they do without TLS. For the
/// handshake the handler reads on its own.
package final class TLSHandler: ChannelDuplexHandler, RemovableChannelHandler {
    /// Ciphertext from the channel.
    package typealias InboundIn = ByteBuffer
    /// Plaintext for the handlers behind.
    package typealias InboundOut = ByteBuffer
    /// Plaintext from the handlers behind.
    package typealias OutboundIn = ByteBuffer
    /// Ciphertext for the channel.
    package typealias OutboundOut = ByteBuffer

    /// What the handlers behind are told, as a user inbound event.
    package enum Event: Hashable, Sendable {
        /// The handshake is done.
        case established(TLSFacts)
        /// The connection ended without the peer having said that it would.
        case truncated
    }

    private enum State {
        /// Not added yet, or the channel is not active yet.
        case idle
        case handshaking
        case established
        /// close_notify is on its way; after that, or at the deadline, the channel is closed.
        case closing(deadline: Scheduled<Void>?)
        /// Nothing more comes from here.
        case closed
    }

    /// How long close_notify, and what was flushed before it, may take to leave.
    private static let closeTimeout = TimeAmount.seconds(5)
    /// How much plaintext becomes one buffer of ciphertext: four records, and below the size that malloc maps.
    private static let encryptedAtOnce = 65_536
    /// The least room that plaintext gets when a record has more of it than the last read had ciphertext.
    private static let leastRoom = 4096
    /// How many reads in a row may make OpenSSL answer (key updates) while the peer does not read answers.
    private static let unreadAnswersLimit = 16

    let engine: TLSEngine
    private var state = State.idle
    /// Written by the handlers behind and not yet encrypted.
    private var pending: [(plaintext: ByteBuffer, promise: EventLoopPromise<Void>?)] = []
    /// How many of `pending` were flushed.
    private var flushed = 0
    /// Whether the handlers behind want to read and have got nothing since; the wish may be older than this handler.
    private var wantsRead = true
    private var unreadAnswers = 0
    /// Of the first close; while `closing`.
    private var closePromise: EventLoopPromise<Void>?

    private let keepsWriting: Bool
    /// With `keepsWriting`: nothing more comes.
    private var isInputClosed = false

    private init(engine: TLSEngine, keepsWriting: Bool = false) {
        self.engine = engine
        self.keepsWriting = keepsWriting
    }

    /// The server's side of a connection.
    ///
    /// - Parameter keepsWriting: whether a peer that closes its side is still answered (RFC 8446 section 6.1); on a
    ///   channel that allows half-closure.
    package convenience init(server: TLSServerContext, keepsWriting: Bool = false) {
        self.init(engine: TLSEngine(server: server), keepsWriting: keepsWriting)
    }

    /// The client's side of a connection.
    ///
    /// `serverName` is told to the server (SNI), unless it is an IP address. `client` must have been made to verify if
    /// `verification` asks for it.
    package convenience init(client: TLSClientContext, serverName: String?, verification: TLSVerification) {
        self.init(engine: TLSEngine(client: client, serverName: serverName, verification: verification))
    }

    // MARK: The session, once it is established

    /// The data that binds a SASL exchange to this session (RFC 5056). Computed when asked for; on the event loop.
    ///
    /// - Returns: nil if this session cannot have it, or is not established.
    package func channelBinding(_ type: ChannelBinding) -> [UInt8]? {
        guard case .established = state else { return nil }
        return engine.channelBinding(type)
    }

    /// Who the peer's certificate is for; nil if it has none, or the session is not established. On the event loop.
    package var peerIdentity: CertificateIdentity? {
        guard case .established = state else { return nil }
        return engine.peerIdentity
    }

    /// What would stand against the server's certificate if this session had been made with `trusted`, for this name; nil:
    /// nothing would. For reports: the session is what it is. On the event loop, once the session is established.
    package func certificateError(for name: String, trusting trusted: TLSClientContext) -> TLSError? {
        engine.chainError(of: name, trusted)
    }

    // MARK: Beginning and end

    /// On a channel that is active already, as after STARTTLS (RFC 3207 section 4), the handshake begins here.
    package func handlerAdded(context: ChannelHandlerContext) {
        if context.channel.isActive { beginHandshake(context) }
    }

    /// What was written and has not left fails; the channel is left alone.
    package func handlerRemoved(context: ChannelHandlerContext) {
        if case .closing(let deadline) = state { endClosing(deadline) }
        state = .closed
        failPending(ChannelError.ioOnClosedChannel)
    }

    /// With implicit TLS (RFC 8314 section 3) the handshake begins here, once those behind know of the channel.
    package func channelActive(context: ChannelHandlerContext) {
        context.fireChannelActive()
        beginHandshake(context)
    }

    /// A connection that ended without close_notify was cut (RFC 8446 section 6.1): those behind are told first.
    package func channelInactive(context: ChannelHandlerContext) {
        let last = state
        state = .closed
        switch last {
        case .idle, .closed: failPending(ChannelError.ioOnClosedChannel)
        case .handshaking: report(Self.closedInHandshake, context)
        case .established:
            failPending(ChannelError.ioOnClosedChannel)
            context.fireUserInboundEventTriggered(Event.truncated)
        case .closing(let deadline): endClosing(deadline)
        }
        context.fireChannelInactive()
    }

    /// The peer closed its direction of the TCP connection: without close_notify before it, an end like any other cut.
    package func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        guard case ChannelEvent.inputClosed = event else {
            context.fireUserInboundEventTriggered(event)
            return
        }
        // Only on channels that allow half-closure.
        switch state {
        case .idle, .closing, .closed: context.fireUserInboundEventTriggered(event)
        case .handshaking: fail(Self.closedInHandshake, context)
        case .established:
            guard !isInputClosed else { return }
            isInputClosed = true
            context.fireUserInboundEventTriggered(Event.truncated)
            context.fireUserInboundEventTriggered(event)
            if !keepsWriting { close(context: context, mode: .all, promise: nil) }
        }
    }

    private static var closedInHandshake: TLSError { TLSError(.closed, "connection closed during the handshake") }

    // MARK: Reading

    /// The handlers behind want plaintext. Remembered: what is read may turn out to be none.
    package func read(context: ChannelHandlerContext) {
        wantsRead = true
        context.read()
    }

    /// Ciphertext came: for the handshake, or to be decrypted and handed on at once.
    package func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch state {
        case .handshaking:
            engine.receive(unwrapInboundIn(data))
            advanceHandshake(context)
        case .established:
            engine.receive(unwrapInboundIn(data))
            decrypt(context)
        case .idle, .closing, .closed: break
        }
    }

    /// Reads on by itself as long as the handshake lasts, and as long as a wish to read has got nothing.
    package func channelReadComplete(context: ChannelHandlerContext) {
        context.fireChannelReadComplete()
        switch state {
        case .handshaking: context.read()
        case .established: if wantsRead { context.read() }
        case .idle, .closing, .closed: break
        }
    }

    private func beginHandshake(_ context: ChannelHandlerContext) {
        guard case .idle = state else { return }
        state = .handshaking
        context.read()
        advanceHandshake(context)
    }

    private func advanceHandshake(_ context: ChannelHandlerContext) {
        do throws(TLSError) {
            guard try engine.handshake() else {
                sendCiphertext(context)
                return
            }
        } catch {
            fail(error, context)
            return
        }
        state = .established
        // First this: the greeting or EHLO written in reply goes out together with the end of the handshake.
        context.fireUserInboundEventTriggered(Event.established(engine.facts))
        encryptFlushed(context)
        // And the reply to what came with the end of the handshake goes out together with the ticket.
        decrypt(context)
        sendCiphertext(context)
    }

    private func decrypt(_ context: ChannelHandlerContext) {
        guard engine.receivedBytes > 0 else { return }
        var room = engine.receivedBytes
        // Each turn calls out, after which everything may be different.
        while case .established = state {
            var plaintext = context.channel.allocator.buffer(capacity: room)
            let outcome = Result { () throws(TLSError) in try engine.decrypt(into: &plaintext) }
            if plaintext.readableBytes > 0 {
                wantsRead = false
                context.fireChannelRead(wrapInboundOut(plaintext))
            }
            guard case .established = state else { return }
            switch outcome {
            case .success(.full): room = max(engine.receivedBytes, Self.leastRoom)
            case .success(.starved):
                answer(context)
                return
            case .success(.ended):
                guard keepsWriting else { return close(context: context, mode: .all, promise: nil) }
                guard !isInputClosed else { return }
                isInputClosed = true
                return context.fireUserInboundEventTriggered(ChannelEvent.inputClosed)
            case .failure(let error): fail(error, context)
            }
        }
    }

    /// Sends what OpenSSL itself had to say while it read: the answer to a request to update keys.
    private func answer(_ context: ChannelHandlerContext) {
        guard engine.ciphertextBytes > 0 else { return }
        unreadAnswers = context.channel.isWritable ? 0 : unreadAnswers + 1
        // Else a peer that only asks and never reads fills the memory, at no cost to itself.
        guard unreadAnswers <= Self.unreadAnswersLimit else {
            fail(TLSError(.record, "the peer asks for key updates and does not read the answers"), context)
            return
        }
        sendCiphertext(context)
    }

    // MARK: Writing

    /// Keeps the plaintext until the next flush, and until the handshake is done.
    package func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        switch state {
        case .idle, .handshaking, .established: pending.append((unwrapOutboundIn(data), promise))
        case .closing, .closed: promise?.fail(ChannelError.ioOnClosedChannel)
        }
    }

    /// Encrypts and sends what was written so far, or promises to when the handshake is done.
    package func flush(context: ChannelHandlerContext) {
        flushed = pending.count
        switch state {
        case .established: encryptFlushed(context)
        case .idle, .handshaking, .closing, .closed: break
        }
    }

    /// Encrypts and sends all that was flushed, behind what the engine has to send anyway.
    private func encryptFlushed(_ context: ChannelHandlerContext) {
        guard flushed > 0, case .established = state else { return }
        // Taken out first, because sending calls out, and what is called may write and flush.
        var batch = Array(pending[..<flushed])
        pending.removeFirst(flushed)
        flushed = 0

        var promises: [EventLoopPromise<Void>] = []
        var next = batch.startIndex
        do throws(TLSError) {
            while next < batch.endIndex {
                var plaintext = batch[next].plaintext.readableBytesView
                while !plaintext.isEmpty {
                    try engine.encrypt(plaintext.prefix(Self.encryptedAtOnce))
                    plaintext = plaintext.dropFirst(Self.encryptedAtOnce)
                    if engine.ciphertextBytes >= Self.encryptedAtOnce, let ciphertext = engine.takeCiphertext() {
                        context.write(wrapOutboundOut(ciphertext), promise: Self.joined(promises))
                        promises.removeAll()
                    }
                }
                if let promise = batch[next].promise { promises.append(promise) }
                next += 1
            }
        } catch {
            batch.removeFirst(next)
            for promise in promises + batch.compactMap(\.promise) { promise.fail(error) }
            fail(error, context)
            return
        }
        let ciphertext = engine.takeCiphertext()
        if ciphertext != nil || !promises.isEmpty {
            context.write(wrapOutboundOut(ciphertext ?? ByteBuffer()), promise: Self.joined(promises))
        }
        context.flush()
    }

    /// One promise for all of them.
    private static func joined(_ promises: [EventLoopPromise<Void>]) -> EventLoopPromise<Void>? {
        guard let first = promises.first else { return nil }
        for other in promises.dropFirst() { first.futureResult.cascade(to: other) }
        return first
    }

    private func sendCiphertext(_ context: ChannelHandlerContext) {
        guard let ciphertext = engine.takeCiphertext() else { return }
        context.writeAndFlush(wrapOutboundOut(ciphertext), promise: nil)
    }

    private func failPending(_ error: any Error) {
        let failed = pending
        pending = []
        flushed = 0
        for write in failed { write.promise?.fail(error) }
    }

    // MARK: Closing

    /// Ends with close_notify behind what was flushed, after five seconds at the latest. Fails for one direction alone.
    package func close(context: ChannelHandlerContext, mode: CloseMode, promise: EventLoopPromise<Void>?) {
        guard mode == .all else {
            promise?.fail(ChannelError.operationUnsupported)
            return
        }
        switch state {
        case .idle, .handshaking:
            state = .closed
            failPending(ChannelError.ioOnClosedChannel)
            context.close(promise: promise)
        case .established:
            state = .closing(deadline: nil)
            closePromise = promise
            failPending(ChannelError.ioOnClosedChannel)
            sendCloseNotify(context)
        case .closing:
            guard let promise else { return }
            if let closePromise { closePromise.futureResult.cascade(to: promise) } else { closePromise = promise }
        case .closed: context.close(promise: promise)
        }
    }

    private func sendCloseNotify(_ context: ChannelHandlerContext) {
        engine.shutdown()
        let sent = context.eventLoop.makePromise(of: Void.self)
        sent.futureResult.assumeIsolated().whenComplete { _ in self.closeChannel(context) }
        context.writeAndFlush(wrapOutboundOut(engine.takeCiphertext() ?? ByteBuffer()), promise: sent)
        // As a rule it is sent by now. A channel would throw away what is not.
        guard case .closing = state else { return }
        let deadline = context.eventLoop.assumeIsolated().scheduleTask(in: Self.closeTimeout) {
            self.closeChannel(context)
        }
        state = .closing(deadline: deadline)
    }

    private func closeChannel(_ context: ChannelHandlerContext) {
        guard case .closing(let deadline) = state else { return }
        state = .closed
        deadline?.cancel()
        let promise = closePromise
        closePromise = nil
        context.close(promise: promise)
    }

    /// The channel was closed before we came to it.
    private func endClosing(_ deadline: Scheduled<Void>?) {
        deadline?.cancel()
        let promise = closePromise
        closePromise = nil
        promise?.succeed()
    }

    /// Ends the connection because of `error`, with the alert that OpenSSL has for it.
    private func fail(_ error: TLSError, _ context: ChannelHandlerContext) {
        state = .closed
        sendCiphertext(context)
        report(error, context)
        context.close(promise: nil)
    }

    private func report(_ error: TLSError, _ context: ChannelHandlerContext) {
        failPending(error)
        context.fireErrorCaught(error)
    }
}
