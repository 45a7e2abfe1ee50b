// The server's side of an SMTP session: RFC 5321, 1870, 1985-style pipelining (2920), 2034, 3207, 4954, 6152, 6409, 6531.
// A value without I/O: octets go in, one action at a time comes out, replies are appended to a buffer. It knows no
// channel, clock, lock or closure. SlimtaEdge's driver feeds it and performs its actions.

package import NIOCore
package import SlimtaMail
package import SlimtaSASL

/// An SMTP session, as the server sees it.
///
///     immediate TLS ──established──▶ greeting
///     greeting ──EHLO/HELO──▶ greeted ──[STARTTLS ▶ established ▶ not greeted]──[AUTH …]──▶
///       MAIL ──room?──▶ RCPT… ──▶ DATA ──content…──▶ end ──stored?──▶ greeted
///
/// The driver calls ``received(_:)`` with what came, then ``next(into:)`` until it says ``Action/wait``. While the machine
/// has asked a question (``Action/ask(_:)``) it takes no further command: ``next(into:)`` says `wait` until the answer is
/// there (``answered(_:into:)``). That is how policies can be asynchronous and the machine need not be. What can be asked
/// is in SMTPServerQuestions.swift; at most stages of a session nothing is, unless rules sit there.
///
/// STARTTLS with unread octets behind it ends the session: they were sent in clear, perhaps by somebody else, and must
/// not count as said under TLS. After TLS the machine has forgotten everything said before (RFC 3207 section 4.2).
package struct SMTPServerMachine: Sendable {
    /// What the driver is to do next.
    package enum Action: Equatable, Sendable {
        /// Nothing more can be done with what has come. Write the replies, and wait for octets or for an answer.
        case wait
        /// Enough for one turn: write the replies, and go on when they are written and other sessions had their turn.
        /// No octets are to be read meanwhile.
        case pause
        /// Write the replies, begin TLS as a server, and report ``tlsEstablished(_:into:)``.
        case startTLS
        /// Find out, and report ``answered(_:into:)``. The session waits for the answer, however long it takes.
        case ask(Question)
        /// The next octets of the message.
        case content(ByteBuffer)
        /// The message will be refused: what came of it is worth nothing.
        case discardContent
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
        /// BDAT without a size: where what follows it begins is anybody's guess.
        case chunkSize
        /// A reply of 421 from a policy or the queue.
        case refused
        /// The client broke the protocol in a way that leaves nothing to talk about.
        case protocolViolation(String)

        /// Whether the client may be sending while it is told why it ends: were the connection closed on what has not been
        /// read, it would be reset, and the reply lost. Who is silent, or sends without ever reading, is not waited for.
        package var mayInterrupt: Bool {
            switch self {
            case .tooManyErrors, .tooManyCommands, .shutdown, .lineEnds, .chunkSize, .refused: true
            case .quit, .timeout, .clientClosed, .protocolViolation: false
            }
        }
    }

    /// A reply of 4xx or 5xx, and what it was to.
    package struct Refusal: Equatable, Sendable {
        /// What the client was told.
        package let reply: Reply
        /// The verb; "unknown" for none of ours.
        package let command: String
        /// What MAIL or RCPT named, as it came.
        package let address: String?
        /// The reverse-path of the transaction.
        package let sender: Mailbox?
        /// Who had logged in; nil: nobody.
        package let login: String?
        /// What the login may send as, if that is the reason.
        package let allowed: String?

        /// Each is what its property says.
        package init(
            reply: Reply, command: String, address: String?, sender: Mailbox?, login: String?, allowed: String? = nil
        ) {
            self.reply = reply
            self.command = command
            self.address = address
            self.sender = sender
            self.login = login
            self.allowed = allowed
        }
    }

    /// What the session waits for, and so which timeout holds.
    package struct Wait: Hashable, Sendable {
        /// Which of the driver's timeouts holds.
        package enum Kind: Hashable, Sendable {
            case handshake
            case command
            case content
            /// For us: an answer, a turn, or that the driver closes.
            case nothing
        }

        /// What is waited for.
        package var kind: Kind
        /// Grows whenever the wait begins anew, and with it its deadline.
        package var number: UInt64
    }

    enum Phase: Sendable {
        /// STARTTLS was agreed; the driver has not been told yet.
        case startingTLS
        /// Octets are TLS's.
        case tlsHandshake
        case command
        /// The client has a challenge, and its response is waited for.
        case authenticating
        /// `isOpen`: the question has been given out, and its answer is waited for.
        case asking(Question, isOpen: Bool)
        case data(DataReader)
        /// The octets of ``chunk`` come.
        case chunk
        /// The end was found, and the content before it has been given out.
        case dataEnded(Content)
        /// The whole message was refused, and the driver has not been told yet.
        case discarding
        case closing(CloseReason)
        case closed
    }

    /// What was found out of a message that has come as a whole.
    struct Content: Sendable {
        /// Why it is refused.
        var fault: DataReader.Fault?
        var hasEightBit: Bool
        /// Nothing that comes behind it is read.
        var endsSession: Bool
    }

    struct Transaction: Sendable {
        var mail: MailCommand
        /// Of a message that comes by BDAT: from its first chunk on.
        var chunks: ChunkReader?
        var recipients: [Mailbox] = []
        /// Whether a RCPT was refused: the text of DATA's refusal depends on it.
        var hasRefused = false
    }

    let configuration: SMTPServerConfiguration
    /// Whether the client's network may send without AUTH.
    package let isTrusted: Bool
    var phase: Phase
    var input = ByteBuffer()
    var lines = LineReader()
    /// How long the command may be whose beginning has come.
    var limit = Self.commandLimit
    /// The argument of EHLO or HELO.
    var clientName: String?
    var isExtended = false
    var tls: TLSDescription?
    /// Whether the client was refused before it was greeted: all that is left to it is QUIT (RFC 5321 section 3.1).
    var isTurnedAway = false
    var transaction: Transaction?
    /// That of the last BDAT, until it is answered.
    var chunk: Chunk?
    /// Whether content of chunks may have been given out whose message has not ended.
    var hasContent = false
    /// How many transactions have been begun, or tried.
    package internal(set) var transactionNumber: UInt64 = 0
    /// 5xx replies since the last accepted message.
    var errors = 0
    /// Logins that failed since the connection began.
    var failedLogins = 0
    /// Responses of the exchange that goes on.
    var responses = 0
    /// The number of the wait for its first response.
    var exchangeWait: UInt64 = 0
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
    /// The SASL mechanisms that can be used on this connection now, in the order in which EHLO lists them. The driver says
    /// which: before the greeting, and before it reports that TLS is there.
    package var mechanisms: [SASLMechanism]
    /// Those that the last EHLO listed.
    var listed: [SASLMechanism] = []
    /// How ``user`` authenticated; how somebody tried last, if nobody did.
    var mechanism: SASLMechanism?
    var waitNumber: UInt64 = 0

    /// A session that has not begun: ``connected(into:)`` begins it.
    ///
    /// - Parameter isTrusted: whether the client may send without AUTH.
    package init(_ configuration: SMTPServerConfiguration, isTrusted: Bool) {
        self.configuration = configuration
        self.isTrusted = isTrusted
        mechanisms = configuration.mechanisms
        phase = configuration.tls == .immediate ? .tlsHandshake : .command
    }

    /// What the session waits for now.
    package var waitsFor: Wait {
        let kind: Wait.Kind =
            switch phase {
            case .startingTLS, .tlsHandshake: .handshake
            case .command, .authenticating: .command
            case .data, .chunk: .content
            case .asking, .dataEnded, .discarding, .closing, .closed: .nothing
            }
        return Wait(kind: kind, number: waitNumber)
    }

    /// Whether the client has said much that led to nothing: its turns may be far between.
    package var isIdling: Bool { commands >= Self.turnLimit }

    /// How many octets have come and could not be taken yet: the driver stops reading when it is much.
    package var unreadCount: Int { input.readableBytes }

    /// Whether nothing can come any more of what the client has said but the reply that it is owed: no other command waits, and
    /// no message.
    package var isAtItsEnd: Bool {
        if case .asking(.message, _) = phase { return false }
        return isInputClosed && input.readableBytes == 0
    }

    /// How many octets of memory that takes.
    var unreadCapacity: Int { input.storageCapacity }

    /// The 4xx and 5xx replies since the last call, but for a wrong password: for the driver's log.
    package mutating func takeRefusals() -> [Refusal] {
        defer { if !refusals.isEmpty { refusals = [] } }
        return refusals
    }

    // MARK: Events

    /// The connection is there: greets, unless TLS comes first.
    package mutating func connected(into output: inout ByteBuffer) {
        guard configuration.tls != .immediate, case .command = phase else { return }
        ask(.connect, into: &output)
    }

    /// TLS is there: after STARTTLS everything said before is forgotten; with immediate TLS the session begins.
    package mutating func tlsEstablished(_ description: TLSDescription, into output: inout ByteBuffer) {
        tls = description
        input.clear()
        lines = LineReader()
        clientName = nil
        isExtended = false
        transaction = nil
        user = nil
        listed = []
        enter(.command)
        if configuration.tls == .immediate { ask(.connect, into: &output) }
    }

    /// Octets of the client.
    package mutating func received(_ octets: ByteBuffer) {
        guard input.readableBytes > 0 else { return input = octets }
        // A buffer never gives back what was read: without this, a client that always leaves half a line makes it grow.
        if input.readerIndex > Self.commandLimit { input.discardReadBytes() }
        input.writeImmutableBuffer(octets)
    }

    /// The time for what the session waits for is over. Nothing happens if the session has ended meanwhile.
    package mutating func deadlinePassed(into output: inout ByteBuffer) {
        switch phase {
        case .closing, .closed: return
        case .startingTLS, .tlsHandshake: break  // Nobody could read a reply.
        case .command, .authenticating, .asking, .data, .chunk, .dataEnded, .discarding:
            end(.timeout, .init(4, 4, 2), "Connection timed out", into: &output)
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
    package mutating func next(into output: inout ByteBuffer) -> Action {
        let action = advance(into: &output)
        switch action {
        case .pause: turn = 0
        case .wait:
            // With a question open the client has not been waited for: its turn goes on with the answer.
            if case .asking = phase { break }
            if !isIdling { turn = 0 }
        case .startTLS, .ask, .content, .discardContent, .close: break
        }
        if input.readableBytes == 0 || input.readableBytes * 2 + 512 < input.storageCapacity {
            input = input.compacted()
        }
        return action
    }

    private mutating func advance(into output: inout ByteBuffer) -> Action {
        while true {
            switch phase {
            case .tlsHandshake, .closed: return .wait
            case .startingTLS:
                enter(.tlsHandshake)
                return .startTLS
            case .asking(.connect, _) where isDraining:
                // It may be long until the client is greeted: nobody is kept for that.
                end(.shutdown, .init(4, 3, 2), "Service shutting down", into: &output)
            case .asking(.connect, _) where isInputClosed && input.readableBytes == 0:
                enter(.closing(.clientClosed))
            case .asking(let question, let isOpen):
                guard !isOpen else { return .wait }
                phase = .asking(question, isOpen: true)
                return .ask(question)
            case .closing(let reason):
                phase = .closed
                return .close(reason)
            case .command where hasContent && transaction?.chunks == nil:
                // RSET, EHLO, or a chunk that was refused.
                hasContent = false
                return .discardContent
            case .command:
                if isDraining, transaction == nil {
                    end(.shutdown, .init(4, 3, 2), "Service shutting down", into: &output)
                    continue
                }
                if let violation = violation() { return violation }
                if turn >= Self.turnLimit || output.readableBytes >= Self.repliesLimit { return .pause }
                guard let line = nextCommand() else {
                    guard isInputClosed else { return .wait }
                    enter(.closing(.clientClosed))
                    continue
                }
                commandReceived(line, into: &output)
            case .authenticating:
                guard let line = lines.next(&input, limit: Self.authenticationLimit) else {
                    guard isInputClosed else { return .wait }
                    enter(.closing(.clientClosed))
                    continue
                }
                responseReceived(line, into: &output)
            case .data(var reader):
                let hadFault = reader.fault != nil
                var content = ByteBuffer()
                let isEnd = reader.read(&input, into: &content)
                phase = isEnd ? .dataEnded(Content(reader)) : .data(reader)
                if reader.fault != nil {
                    if !hadFault { return .discardContent }
                } else if content.readableBytes > 0 {
                    return .content(content)
                }
                if isEnd { continue }
                guard isInputClosed else { return .wait }
                enter(.closing(.clientClosed))
            case .chunk:
                if let content = readChunk() { return .content(content) }
                if chunk?.remaining == 0 {
                    if let rest = chunkEnded(into: &output) { return .content(rest) }
                    continue
                }
                guard isInputClosed else { return .wait }
                enter(.closing(.clientClosed))
            case .discarding:
                enter(.command)
                return .discardContent
            case .dataEnded(let content):
                dataEnded(content, into: &output)
            }
        }
    }

    private mutating func nextCommand() -> LineReader.Line? {
        // What is left of a line that is too long is not its beginning.
        if !lines.isTooLong { limit = lineLimit }
        return lines.next(&input, limit: limit)
    }

    /// The longest command but AUTH: RFC 5321 section 4.5.3.1.4 and what the extensions add to it, with room.
    static let commandLimit = 2048
    /// The longest AUTH command or response (RFC 4954 section 4).
    static let authenticationLimit = 12288
    /// The most responses of one exchange: no mechanism of ours has half as many.
    static let responseLimit = 8
    /// So many failed logins end the session. RFC 4954 section 4 wants three at least, and clients that try one mechanism
    /// after the other need more.
    static let failedLoginLimit = 5
    /// The most commands of one turn: so that sessions are served by turns, however much each has sent ahead.
    static let turnLimit = 32
    /// With so many octets of replies in one turn, it ends: they are for a client that may not read them.
    static let repliesLimit = 2048

    // MARK: Replies

    mutating func enter(_ phase: Phase) {
        self.phase = phase
        waitNumber += 1
    }

    func write(_ reply: Reply, into output: inout ByteBuffer) { reply.encode(into: &output) }

    /// Writes a reply of 4xx or 5xx to the command that is being worked on.
    ///
    /// - Parameter allowed: what the login may send as, if that is the reason.
    mutating func refuse(_ reply: Reply, allowed: String? = nil, into output: inout ByteBuffer) {
        let (command, address) = line.map(Self.describe) ?? ("unknown", nil)
        refuse(
            Refusal(
                reply: reply, command: command, address: address, sender: transaction?.mail.sender, login: user?.login,
                allowed: allowed),
            into: &output)
    }

    /// Writes a reply of 4xx or 5xx; too many of the latter since the last accepted message end the session.
    mutating func refuse(_ refusal: Refusal, into output: inout ByteBuffer) {
        refusals.append(refusal)
        fail(refusal.reply, into: &output)
    }

    /// As `refuse`, for what the driver logs by itself.
    mutating func fail(_ reply: Reply, into output: inout ByteBuffer) {
        write(reply, into: &output)
        guard reply.isPermanent else { return }
        errors += 1
        if errors >= configuration.errors { end(.tooManyErrors, .init(4, 7, 0), "Too many errors", into: &output) }
    }

    /// Ends the session, and says why.
    mutating func end(_ reason: CloseReason, _ status: EnhancedStatus, _ text: String, into output: inout ByteBuffer) {
        write(Reply(421, status, "\(configuration.hostname) \(text)"), into: &output)
        enter(.closing(reason))
    }

    /// Ends the session behind the refusal of a bare CR, a bare LF or a NUL: two servers that read on would not read the
    /// same. Nothing if the refusal has ended it.
    mutating func endForLineEnds(into output: inout ByteBuffer) {
        guard case .command = phase else { return }
        end(.lineEnds, .init(4, 7, 0), "Nothing is read behind a wrong line end, closing connection", into: &output)
    }
}

extension SMTPServerMachine.Content {
    /// Of DATA: two servers that read on behind a wrong line end would not read the same.
    fileprivate init(_ reader: DataReader) {
        self.init(fault: reader.fault, hasEightBit: reader.hasEightBit, endsSession: reader.hasBareLineEnd)
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
