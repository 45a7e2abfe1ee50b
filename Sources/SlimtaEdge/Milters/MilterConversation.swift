// One connection to a milter, for one session after another: carries questions, octets and times between SessionMilters and
// MilterSessionMachine, which decides.

internal import NIOCore
internal import NIOPosix
internal import SlimtaMail
internal import SlimtaMilter
internal import SlimtaNet
internal import SlimtaQueue

/// The driver of a `MilterSessionMachine`, on the event loop of the session that asks.
final class MilterConversation {
    /// The body of a message, as far as it was not sent.
    struct Body {
        var held: ByteBuffer
        /// What is behind `held`.
        var reader: (any SpoolReader)?
    }

    /// Octets that are read at once from a file.
    private static let pieceSize = 64 << 10
    /// Octets of a milter that says much and reads nothing.
    private static let mostUnread = 1 << 20

    private let service: MilterService
    private let eventLoop: any EventLoop
    /// The name of the session that has it, for logs.
    private var session: String
    private var machine: MilterSessionMachine
    private var channel: (any Channel)?
    private var out = ByteBuffer()
    private var completion: ((MilterVerdict) -> Void)?
    private var body: Body?
    /// Which question it is: what is read for another one is not its body.
    private var number: UInt64 = 0
    private var timer = SessionTimer()
    /// What the machine waits for, and until when.
    private var waits: (number: UInt64, deadline: NIODeadline) = (0, .distantFuture)
    /// The event that it waits for, and until when in all.
    private var whole: (number: UInt64, deadline: NIODeadline) = (0, .distantFuture)
    private var idling: Scheduled<Void>?
    private var isAdvancing = false
    private var isWriting = false
    private var isReading = false
    /// Octets that came while it wrote.
    private var unread = 0
    private var hasAnswered = false
    private var hasFailed = false
    /// It was not tried: that is no failure of its own.
    private var isLeftAlone = false
    /// The connection is closed, or to be closed as soon as it is there.
    private var isOver = false

    /// Begins to connect, unless the milter is left alone.
    init(_ service: MilterService, _ session: String, on eventLoop: any EventLoop) {
        self.service = service
        self.session = session
        self.eventLoop = eventLoop
        machine = MilterSessionMachine(service.settings.session)
        if service.mayConnect(eventLoop.now) {
            connect()
        } else {
            isLeftAlone = true
            machine.ended(.unreachable("it is left alone for a while"))
        }
        advance()
    }

    /// Whether it has served a session before.
    private(set) var isKept = false
    /// Whether it can be asked about another message.
    var isUsable: Bool { machine.isUsable }

    /// Whether it wants to see recipients that others have refused.
    var wantsRejectedRecipients: Bool { isUsable && machine.negotiation?.wantsRejectedRecipients == true }

    // MARK: Of the session

    /// Another session has it.
    func begin(_ session: String) {
        self.session = session
        isKept = true
        idling?.cancel()
        idling = nil
    }

    /// Asks; the verdict comes within the call, or later, unless ``quit()`` comes first.
    func ask(
        _ event: MilterEvent, _ macros: MilterMacros, body: Body? = nil, completion: @escaping (MilterVerdict) -> Void
    ) {
        self.completion = completion
        self.body = body
        number += 1
        machine.ask(event, macros: macros)
        advance()
    }

    /// The session is over. The connection waits for another one, where that is wanted and possible; else it ends.
    func leave() {
        guard completion == nil, service.settings.reuses, machine.canBeReused, channel?.isActive == true else {
            return quit()
        }
        machine.reuse()
        advance()
        guard isUsable, service.keep(self, on: eventLoop) else { return quit() }
        idling = eventLoop.assumeIsolated().scheduleTask(in: MilterService.idleTime) { self.quit() }
    }

    /// Ends the connection. What was asked has no answer.
    func quit() {
        completion = nil
        body = nil
        machine.quit()
        isWriting = false
        advance()
    }

    // MARK: Connection

    private func connect() {
        let this = NIOLoopBound(self, eventLoop: eventLoop)
        ClientBootstrap(group: eventLoop)
            .connectTimeout(service.settings.connectTimeout)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(MilterHandler(this.value))
                }
            }
            .connect(to: service.settings.address)
            .assumeIsolated().whenComplete { result in
                switch result {
                case .success(let channel): self.connected(channel)
                case .failure(let error): self.ended(.unreachable(error.connectionReason))
                }
            }
    }

    private func connected(_ channel: any Channel) {
        guard !isOver else { return channel.close(promise: nil) }
        self.channel = channel
        advance()
        if !isWriting { flush() }
    }

    /// Octets of the milter.
    func received(_ octets: ByteBuffer) {
        machine.received(octets)
        guard isWriting else { return advance() }
        unread += octets.readableBytes
        if unread > Self.mostUnread { ended(.broken("it says much and reads nothing")) }
    }

    /// The connection has ended, or time is over.
    func ended(_ end: MilterSessionMachine.End) {
        machine.ended(end)
        // What is not written will not be.
        isWriting = false
        advance()
    }

    /// There is no connection any more.
    func closed() {
        channel = nil
        ended(.closed)
    }

    private func flush() {
        guard out.readableBytes > 0, let channel else { return }
        channel.writeAndFlush(out, promise: nil)
        out = ByteBuffer()
    }

    // MARK: Actions

    private func advance() {
        guard !isAdvancing, !isWriting else { return }
        isAdvancing = true
        defer { isAdvancing = false }
        unread = 0
        while true {
            let action = machine.next(into: &out)
            note()
            switch action {
            case .wait:
                flush()
                return armTimer()
            case .write:
                write()
                if isWriting { return armTimer() }
            case .wantsBody:
                flush()
                guard supplyBody() else { return armTimer() }
            case .verdict(let verdict):
                flush()
                let completion = completion
                self.completion = nil
                body = nil
                completion?(verdict)
            case .close: end()
            }
        }
    }

    /// Writes what there is, and goes on when it is written.
    private func write() {
        guard let channel else { return out.clear() }
        isWriting = true
        channel.writeAndFlush(out).assumeIsolated().whenComplete { _ in
            self.isWriting = false
            self.advance()
        }
        out = ByteBuffer()
    }

    private func end() {
        flush()
        out.clear()
        timer.cancel()
        idling?.cancel()
        service.forget(self, on: eventLoop)
        if !isOver, !hasAnswered, !hasFailed, !isLeftAlone { service.abandoned(eventLoop.now) }
        isOver = true
        channel?.close(promise: nil)
    }

    /// Tells what is new of the milter.
    private func note() {
        if !hasAnswered, machine.negotiation != nil {
            hasAnswered = true
            service.answered(on: eventLoop)
        }
        for note in machine.takeNotes() { service.tell(note, session, on: eventLoop) }
        guard !hasFailed, let failure = machine.failure, !isLeftAlone else { return }
        hasFailed = true
        if !hasAnswered {
            service.unreachable(failure, session, on: eventLoop)
        } else if completion != nil {
            // Between questions a milter may close as it likes.
            service.failed(failure, session, on: eventLoop)
        }
    }

    /// Gives the machine more of the body. False: it comes later.
    private func supplyBody() -> Bool {
        guard !isReading else { return false }
        guard let reader = body?.reader, body?.held.readableBytes == 0 else {
            if let held = body?.held, held.readableBytes > 0 {
                body?.held = ByteBuffer()
                machine.body(held)
            } else {
                machine.endOfBody()
            }
            return true
        }
        isReading = true
        let this = NIOLoopBound(self, eventLoop: eventLoop)
        Self.read(reader) { [eventLoop, number] result in
            eventLoop.execute { this.value.read(result, for: number) }
        }
        return false
    }

    private static func read(
        _ reader: any SpoolReader, then take: @escaping @Sendable (Result<ByteBuffer?, StorageError>) -> Void
    ) {
        Task {
            do {
                take(.success(try await reader.next(pieceSize)))
            } catch {
                take(.failure(error as? StorageError ?? .failed("\(error)")))
            }
        }
    }

    private func read(_ result: Result<ByteBuffer?, StorageError>, for question: UInt64) {
        isReading = false
        // There is a verdict already: the milter has failed, or wanted no more of the body. The next message may wait for its own.
        guard question == number, completion != nil else { return advance() }
        switch result {
        case .success(let octets?): machine.body(octets)
        case .success(nil):
            body?.reader = nil
            machine.endOfBody()
        case .failure(let error):
            let completion = completion
            self.completion = nil
            machine.abort()
            completion?(.refused(Reply(storing: error)))
        }
        advance()
    }

    // MARK: Time

    private func armTimer() {
        guard !isOver else { return }
        let wait = machine.waitsFor
        if wait.number != waits.number {
            waits = (wait.number, wait.kind == .nothing ? .distantFuture : eventLoop.now + TimeAmount(wait.limit))
        }
        if wait.whole != whole.number {
            whole = (wait.whole, wait.kind == .nothing ? .distantFuture : eventLoop.now + TimeAmount(wait.wholeLimit))
        }
        timer.set(min(waits.deadline, whole.deadline), on: eventLoop) { self.timerFired() }
    }

    private func timerFired() {
        if timer.hasPassed(on: eventLoop, fired: { self.timerFired() }) { ended(.timedOut) }
    }
}

/// Passes on what happens to the connection.
private final class MilterHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let conversation: MilterConversation

    init(_ conversation: MilterConversation) { self.conversation = conversation }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) { conversation.received(unwrapInboundIn(data)) }

    func channelInactive(context: ChannelHandlerContext) {
        conversation.closed()
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        conversation.ended(.broken(error.connectionReason))
        context.close(promise: nil)
    }
}
