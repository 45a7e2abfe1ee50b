// The server's side of an SMTP session: RFC 5321, 1870, 1985-style pipelining (2920), 2034, 3207, 4954, 6152, 6409, 6531.
// A value without I/O: octets go in, one action at a time comes out, replies are appended to a buffer. It knows no
// channel, clock, lock or closure. SlimtaEdge's driver feeds it and performs its actions.

package import NIOCore
package import SlimtaMail

/// An SMTP session, as the server sees it.
///
///     immediate TLS ──established──▶ greeting
///     greeting ──EHLO/HELO──▶ greeted ──[STARTTLS ▶ established ▶ not greeted]──[AUTH …]──▶
///       MAIL ──room?──▶ RCPT… ──▶ DATA ──content…──▶ end ──stored?──▶ greeted
///
/// The driver calls ``received(_:)`` with what came, then ``next(_:)`` until it says ``Action/wait``. While the machine
/// has asked a question (``Action/checkPassword(_:)``, ``Action/checkRoom(size:)``, ``Action/endMessage(_:)``) it takes
/// no further command: ``next(_:)`` says `wait` until the answer is there. That is how policies can be asynchronous and
/// the machine need not be.
///
/// STARTTLS with unread octets behind it ends the session: they were sent in clear, perhaps by somebody else, and must
/// not count as said under TLS. After TLS the machine has forgotten everything said before (RFC 3207 section 4.2).
package struct SMTPServerMachine: Sendable {
    package enum Action: Equatable, Sendable {
        /// Nothing more can be done with what has come. Write the replies, and wait for octets or for an answer.
        case wait
        /// Enough for one turn: write the replies, and go on when they are written and other sessions had their turn.
        /// No octets are to be read meanwhile.
        case pause
        /// Write the replies, begin TLS as a server, and report ``tlsEstablished(_:)``.
        case startTLS
        /// Is this password right? Answer with ``passwordChecked(_:)``.
        case checkPassword(Credentials)
        /// May a message of this size (nil: not said) be taken at all now? Answer with ``roomChecked(_:)``.
        case checkRoom(size: Int?)
        /// The next octets of the message.
        case content(ByteBuffer)
        /// The message will be refused: what came of it is worth nothing.
        case discardContent
        /// The message is whole: store it. Answer with ``messageStored(_:)``.
        case endMessage(Submission)
        /// Write the replies, then close.
        case close(CloseReason)
    }

    /// Why a session ends.
    package enum CloseReason: Equatable, Sendable {
        case quit
        case timeout
        case tooManyErrors
        /// Commands without progress: ``SMTPServerConfiguration/commands``.
        case tooManyCommands
        case shutdown
        /// The client closed its side, and all that came before is done.
        case clientClosed
        /// A command or a message had a bare CR, a bare LF or a NUL: where what follows it begins is anybody's guess.
        case lineEnds
        /// A reply of 421 from a policy or the queue.
        case refused
        /// The client broke the protocol in a way that leaves nothing to talk about.
        case protocolViolation(String)

        /// Whether the client may still be sending what it was refused: if the connection were closed on it at once,
        /// it would lose the reply that says why.
        package var mayInterrupt: Bool { self == .lineEnds }
    }

    /// A reply of 4xx or 5xx, and what it was to.
    package struct Refusal: Equatable, Sendable {
        package let reply: Reply
        /// The verb; "unknown" for none of ours.
        package let command: String
        /// What MAIL or RCPT named, as it came.
        package let address: String?
        /// The reverse-path of the transaction.
        package let sender: Mailbox?
        package let login: String?
    }

    /// What the answer to ``Action/checkPassword(_:)`` can be.
    package enum PasswordResult: Equatable, Sendable {
        case right(AuthenticatedUser)
        case wrong
        /// It could not be found out now: 454 4.7.0.
        case unavailable
    }

    /// What the session waits for, and so which timeout holds.
    package enum Waiting: Equatable, Sendable {
        case tlsHandshake
        case command
        case data
        /// An answer of ours.
        case nothing
    }

    /// What a client has submitted, but for the content and the network address.
    package struct Submission: Equatable, Sendable {
        package let sender: Mailbox?
        package let recipients: [Mailbox]
        package let body: BodyType
        package let smtpUTF8: Bool
        /// EHLO's argument.
        package let clientName: String
        /// RFC 3848 and RFC 6531 section 4.3.
        package let protocolWord: String
        package let tls: TLSDescription?
        package let login: String?
    }

    enum Phase: Sendable {
        /// Octets are TLS's.
        case tlsHandshake
        case command
        case authenticating(SASLServer)
        case checkingPassword
        case checkingRoom(MailCommand)
        case data(DataReader)
        /// The end was found, and the content before it has been given out.
        case dataEnded(DataReader)
        /// The reverse-path of what is being stored.
        case storing(Mailbox?)
        case closing(CloseReason)
        case closed
    }

    struct Transaction: Sendable {
        var mail: MailCommand
        var recipients: [Mailbox] = []
        /// Whether a RCPT was refused: the text of DATA's refusal depends on it.
        var hasRefused = false
    }

    let configuration: SMTPServerConfiguration
    /// Whether the client's network may send without AUTH.
    let isTrusted: Bool
    var phase: Phase
    var input = ByteBuffer()
    var lines = LineReader()
    /// The argument of EHLO or HELO.
    var clientName: String?
    var isExtended = false
    var tls: TLSDescription?
    var transaction: Transaction?
    /// 5xx replies since the last accepted message.
    var errors = 0
    /// Commands since the last progress: an accepted recipient, DATA, a login.
    var commands = 0
    /// Commands since the machine last paused; or waited, if they lead to something.
    var turn = 0
    /// The command that is being worked on; nil between commands.
    var line: ByteBuffer?
    var isDraining = false
    var isInputClosed = false
    var refusals: [Refusal] = []

    /// Who authenticated; for the driver's log.
    package internal(set) var user: AuthenticatedUser?
    /// Grows whenever what the session waits for begins anew, and with it its deadline.
    package internal(set) var deadlineNumber: UInt64 = 0

    package init(_ configuration: SMTPServerConfiguration, isTrusted: Bool) {
        self.configuration = configuration
        self.isTrusted = isTrusted
        phase = configuration.tls == .immediate ? .tlsHandshake : .command
    }

    /// What the session waits for now.
    package var waiting: Waiting {
        switch phase {
        case .tlsHandshake: .tlsHandshake
        case .command, .authenticating: .command
        case .data: .data
        case .checkingPassword, .checkingRoom, .dataEnded, .storing, .closing, .closed: .nothing
        }
    }

    /// Whether the client has said much that led to nothing: its turns may be far between.
    package var isIdling: Bool { commands >= Self.turnLimit }

    /// How many octets have come and could not be taken yet: the driver stops reading when it is much.
    package var unreadCount: Int { input.readableBytes }

    /// How many octets of memory that takes.
    var unreadCapacity: Int { input.storageCapacity }

    /// The 4xx and 5xx replies since the last call, but for a wrong password: for the driver's log.
    package mutating func takeRefusals() -> [Refusal] {
        defer { if !refusals.isEmpty { refusals = [] } }
        return refusals
    }

    // MARK: Events

    /// The connection is there: greets, unless TLS comes first.
    package mutating func connected(_ output: inout ByteBuffer) {
        guard configuration.tls != .immediate else { return }
        write(Reply(220, nil, configuration.greeting), &output)
    }

    /// TLS is there: after STARTTLS everything said before is forgotten; with immediate TLS the session begins.
    package mutating func tlsEstablished(_ description: TLSDescription, _ output: inout ByteBuffer) {
        tls = description
        input.clear()
        lines = LineReader()
        clientName = nil
        isExtended = false
        transaction = nil
        user = nil
        enter(.command)
        if configuration.tls == .immediate { write(Reply(220, nil, configuration.greeting), &output) }
    }

    /// Octets of the client.
    package mutating func received(_ octets: ByteBuffer) {
        guard input.readableBytes > 0 else { return input = octets }
        // A buffer never gives back what was read: without this, a client that always leaves half a line makes it grow.
        if input.readerIndex > Self.commandLimit { input.discardReadBytes() }
        input.writeImmutableBuffer(octets)
    }

    /// The time for what the session waits for is over. Nothing happens if the session has ended meanwhile.
    package mutating func deadlinePassed(_ output: inout ByteBuffer) {
        switch phase {
        case .closing, .closed: return
        case .tlsHandshake: break  // Nobody could read a reply.
        case .command, .authenticating, .checkingPassword, .checkingRoom, .data, .dataEnded, .storing:
            end(.timeout, .init(4, 4, 2), "Connection timed out", &output)
            return
        }
        enter(.closing(.timeout))
    }

    /// The client has closed its side: what came before is answered, then the session ends.
    package mutating func inputClosed() { isInputClosed = true }

    /// The server stops: the session ends when no transaction is open.
    package mutating func drain() { isDraining = true }

    // MARK: The next action

    /// Goes on with what has come. Replies are appended to `output`, which the driver writes when an action tells it to.
    package mutating func next(_ output: inout ByteBuffer) -> Action {
        let action = advance(&output)
        switch action {
        case .pause: turn = 0
        case .wait: if !isIdling { turn = 0 }
        case .startTLS, .checkPassword, .checkRoom, .content, .discardContent, .endMessage, .close: break
        }
        if input.readableBytes == 0 || input.readableBytes * 2 + 512 < input.storageCapacity {
            input = input.compacted()
        }
        return action
    }

    private mutating func advance(_ output: inout ByteBuffer) -> Action {
        while true {
            switch phase {
            case .tlsHandshake, .checkingPassword, .checkingRoom, .storing, .closed: return .wait
            case .closing(let reason):
                phase = .closed
                return .close(reason)
            case .command:
                if isDraining, transaction == nil {
                    end(.shutdown, .init(4, 3, 2), "Service shutting down", &output)
                    continue
                }
                if let violation = violation() { return violation }
                if turn >= Self.turnLimit || output.readableBytes >= Self.repliesLimit { return .pause }
                guard let line = lines.next(&input, limit: lineLimit) else {
                    guard isInputClosed else { return .wait }
                    enter(.closing(.clientClosed))
                    continue
                }
                if let action = commandReceived(line, &output) { return action }
            case .authenticating(let exchange):
                guard let line = lines.next(&input, limit: Self.authenticationLimit) else {
                    guard isInputClosed else { return .wait }
                    enter(.closing(.clientClosed))
                    continue
                }
                if let action = responseReceived(line, exchange, &output) { return action }
            case .data(var reader):
                let hadFault = reader.fault != nil
                var content = ByteBuffer()
                let isEnd = reader.read(&input, into: &content)
                phase = isEnd ? .dataEnded(reader) : .data(reader)
                if reader.fault != nil {
                    if !hadFault { return .discardContent }
                } else if content.readableBytes > 0 {
                    return .content(content)
                }
                if isEnd { continue }
                guard isInputClosed else { return .wait }
                enter(.closing(.clientClosed))
            case .dataEnded(let reader):
                if let action = dataEnded(reader, &output) { return action }
            }
        }
    }

    /// The longest command but AUTH: RFC 5321 section 4.5.3.1.4 and what the extensions add to it, with room.
    static let commandLimit = 2048
    /// The longest AUTH command or response (RFC 4954 section 4).
    static let authenticationLimit = 12288
    /// The most commands of one turn: so that sessions are served by turns, however much each has sent ahead.
    static let turnLimit = 32
    /// With so many octets of replies in one turn, it ends: they are for a client that may not read them.
    static let repliesLimit = 2048

    // MARK: Replies

    mutating func enter(_ phase: Phase) {
        self.phase = phase
        deadlineNumber += 1
    }

    func write(_ reply: Reply, _ output: inout ByteBuffer) { reply.encode(into: &output) }

    /// Writes a reply of somebody else (policy, queue) to MAIL or DATA: a 421 ends the session.
    mutating func finish(with reply: Reply, to command: String, of sender: Mailbox?, _ output: inout ByteBuffer) {
        if reply.code >= 400 {
            refuse(
                Refusal(reply: reply, command: command, address: nil, sender: sender, login: user?.login), &output)
        } else {
            write(reply, &output)
        }
        if reply.code == 421 { enter(.closing(.refused)) }
    }

    /// Writes a reply of 4xx or 5xx to the command that is being worked on.
    mutating func refuse(_ reply: Reply, _ output: inout ByteBuffer) {
        let (command, address) = line.map(Self.describe) ?? ("unknown", nil)
        refuse(
            Refusal(
                reply: reply, command: command, address: address, sender: transaction?.mail.sender, login: user?.login),
            &output)
    }

    /// Writes a reply of 4xx or 5xx; too many of the latter since the last accepted message end the session.
    mutating func refuse(_ refusal: Refusal, _ output: inout ByteBuffer) {
        refusals.append(refusal)
        fail(refusal.reply, &output)
    }

    /// As `refuse`, for what the driver logs by itself.
    mutating func fail(_ reply: Reply, _ output: inout ByteBuffer) {
        write(reply, &output)
        guard reply.isPermanent else { return }
        errors += 1
        if errors >= configuration.errors { end(.tooManyErrors, .init(4, 7, 0), "Too many errors", &output) }
    }

    /// Ends the session, and says why.
    mutating func end(_ reason: CloseReason, _ status: EnhancedStatus, _ text: String, _ output: inout ByteBuffer) {
        write(Reply(421, status, "\(configuration.hostname) \(text)"), &output)
        enter(.closing(reason))
    }

    /// Ends the session behind the refusal of a bare CR, a bare LF or a NUL: two servers that read on would not read the
    /// same. Nothing if the refusal has ended it.
    mutating func endForLineEnds(_ output: inout ByteBuffer) {
        guard case .command = phase else { return }
        end(.lineEnds, .init(4, 7, 0), "Nothing is read behind a wrong line end, closing connection", &output)
    }
}

extension ByteBuffer {
    /// The same octets in a storage of their size: what was read ahead must not be kept while a client says nothing.
    fileprivate func compacted() -> ByteBuffer {
        var compact = ByteBuffer()
        if readableBytes > 0 { compact.writeImmutableBuffer(self) }
        return compact
    }
}
