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
        case shutdown
        /// A reply of 421 from a policy or the queue.
        case refused
        /// The client broke the protocol in a way that leaves nothing to talk about.
        case protocolViolation(String)
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
        case storing
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
    var errors = 0
    var isDraining = false
    var refusals: [Reply] = []

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

    /// How many octets have come and could not be taken yet: the driver stops reading when it is much.
    package var unreadCount: Int { input.readableBytes }

    /// The 5xx replies since the last call: for the driver's log.
    package mutating func takeRefusals() -> [Reply] {
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
            write(Reply(421, .init(4, 4, 2), "\(configuration.hostname) Connection timed out"), &output)
        }
        enter(.closing(.timeout))
    }

    /// The server stops: the session ends when no transaction is open.
    package mutating func drain() { isDraining = true }

    // MARK: The next action

    /// Goes on with what has come. Replies are appended to `output`, which the driver writes when an action tells it to.
    package mutating func next(_ output: inout ByteBuffer) -> Action {
        while true {
            switch phase {
            case .tlsHandshake, .checkingPassword, .checkingRoom, .storing, .closed: return .wait
            case .closing(let reason):
                phase = .closed
                return .close(reason)
            case .command:
                if isDraining, transaction == nil {
                    write(Reply(421, .init(4, 3, 2), "\(configuration.hostname) Service shutting down"), &output)
                    enter(.closing(.shutdown))
                    continue
                }
                guard let line = lines.next(&input, limit: Self.authenticationLimit) else {
                    return violation() ?? .wait
                }
                if let action = commandReceived(line, &output) { return action }
            case .authenticating(let exchange):
                guard let line = lines.next(&input, limit: Self.authenticationLimit) else { return .wait }
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
                if !isEnd { return .wait }
            case .dataEnded(let reader):
                if let action = dataEnded(reader, &output) { return action }
            }
        }
    }

    /// The longest command but AUTH: RFC 5321 section 4.5.3.1.4 and what the extensions add to it, with room.
    static let commandLimit = 2048
    /// The longest AUTH command or response (RFC 4954 section 4).
    static let authenticationLimit = 12288

    // MARK: Replies

    mutating func enter(_ phase: Phase) {
        self.phase = phase
        deadlineNumber += 1
    }

    func write(_ reply: Reply, _ output: inout ByteBuffer) { reply.encode(into: &output) }

    /// Writes a reply of somebody else (policy, queue): a 421 ends the session.
    mutating func finish(with reply: Reply, _ output: inout ByteBuffer) {
        if reply.isPermanent { return refuse(reply, &output) }
        write(reply, &output)
        if reply.code == 421 { enter(.closing(.refused)) }
    }

    /// Writes a 5xx reply; too many of them end the session.
    mutating func refuse(_ reply: Reply, _ output: inout ByteBuffer) {
        write(reply, &output)
        refusals.append(reply)
        errors += 1
        guard errors >= configuration.errors else { return }
        write(Reply(421, .init(4, 7, 0), "\(configuration.hostname) Too many errors"), &output)
        enter(.closing(.tooManyErrors))
    }
}
