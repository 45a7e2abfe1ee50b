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

    private enum Phase: Sendable {
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

    private struct Transaction: Sendable {
        var mail: MailCommand
        var recipients: [Mailbox] = []
        /// Whether a RCPT was refused: the text of DATA's refusal depends on it.
        var hasRefused = false
    }

    private let configuration: SMTPServerConfiguration
    /// Whether the client's network may send without AUTH.
    private let isTrusted: Bool
    private var phase: Phase
    private var input = ByteBuffer()
    private var lines = LineReader()
    /// The argument of EHLO or HELO.
    private var clientName: String?
    private var isExtended = false
    private var tls: TLSDescription?
    private var transaction: Transaction?
    private var errors = 0
    private var isDraining = false
    private var refusals: [Reply] = []

    /// Who authenticated; for the driver's log.
    package private(set) var user: AuthenticatedUser?
    /// Grows whenever what the session waits for begins anew, and with it its deadline.
    package private(set) var deadlineNumber: UInt64 = 0

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

    /// The answer to ``Action/checkPassword(_:)``.
    package mutating func passwordChecked(_ result: PasswordResult, _ output: inout ByteBuffer) {
        guard case .checkingPassword = phase else { return }
        enter(.command)
        switch result {
        case .right(let user):
            self.user = user
            write(Reply(235, .init(2, 7, 0), "Authentication successful"), &output)
        case .wrong: refuse(.credentialsInvalid, &output)
        case .unavailable: write(Reply(454, .init(4, 7, 0), "Temporary authentication failure"), &output)
        }
    }

    /// The answer to ``Action/checkRoom(size:)``: nil if there is room, else the reply that says that there is none.
    package mutating func roomChecked(_ refusal: Reply?, _ output: inout ByteBuffer) {
        guard case .checkingRoom(let mail) = phase else { return }
        enter(.command)
        if let refusal { return finish(with: refusal, &output) }
        transaction = Transaction(mail: mail)
        write(Reply(250, .init(2, 1, 0), "<\(mail.sender?.text ?? "")> Ok"), &output)
    }

    /// The answer to ``Action/endMessage(_:)``.
    package mutating func messageStored(_ reply: Reply, _ output: inout ByteBuffer) {
        guard case .storing = phase else { return }
        enter(.command)
        finish(with: reply, &output)
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
    private static let commandLimit = 2048
    /// The longest AUTH command or response (RFC 4954 section 4).
    private static let authenticationLimit = 12288

    /// A client that begins TLS where the session is in clear would otherwise wait for ever, as we do for its CRLF.
    private mutating func violation() -> Action? {
        guard tls == nil, input.getInteger(at: input.readerIndex, as: UInt16.self) == 0x1603 else { return nil }
        phase = .closed
        return .close(.protocolViolation("TLS was begun where commands are expected"))
    }

    private mutating func commandReceived(_ line: LineReader.Line, _ output: inout ByteBuffer) -> Action? {
        deadlineNumber += 1
        let command: SMTPCommand
        switch line {
        case .tooLong:
            refuse(Reply(500, .init(5, 5, 2), "Line too long"), &output)
            return nil
        case .malformed:
            refuse(Reply(500, .init(5, 5, 2), "Syntax error, lines must end with CRLF"), &output)
            return nil
        case .line(let octets):
            do throws(SMTPSyntaxError) {
                command = try SMTPCommand(parsing: octets.readableBytesUInt8Span)
            } catch {
                if error == .unrecognized, Self.isHTTP(octets) {
                    // Somebody's browser was made to talk to us: nothing in its request is to count as a command.
                    enter(.closing(.protocolViolation("an HTTP request")))
                    return nil
                }
                if error == .badRecipient || error == .unknownParameter { transaction?.hasRefused = true }
                refuse(error.reply, &output)
                return nil
            }
            if octets.readableBytes + 2 > Self.commandLimit {
                guard case .auth = command else {
                    refuse(Reply(500, .init(5, 5, 2), "Line too long"), &output)
                    return nil
                }
            }
        }
        return perform(command, &output)
    }

    private static func isHTTP(_ line: ByteBuffer) -> Bool {
        line.withUnsafeReadableBytes { octets in
            ["GET ", "POST ", "PUT ", "HEAD ", "OPTIONS ", "CONNECT ", "DELETE ", "PATCH ", "TRACE "]
                .contains { octets.starts(with: $0.utf8) }
        }
    }

    private mutating func perform(_ command: SMTPCommand, _ output: inout ByteBuffer) -> Action? {
        switch command {
        case .ehlo(let name):
            greeted(name, isExtended: true)
            Reply(250, nil, lines: greetingLines(to: name)).encode(into: &output)
        case .helo(let name):
            greeted(name, isExtended: false)
            write(Reply(250, nil, "\(configuration.hostname) Hello \(name)"), &output)
        case .startTLS: return startTLS(&output)
        case .auth(let mechanism, let initialResponse):
            return authenticate(mechanism, initialResponse, &output)
        case .mail(let mail): return self.mail(mail, &output)
        case .rcpt(let path): rcpt(path, &output)
        case .data: data(&output)
        case .rset:
            transaction = nil
            write(Reply(250, .init(2, 0, 0), "Ok"), &output)
        case .noop: write(Reply(250, .init(2, 0, 0), "Ok"), &output)
        case .vrfy:
            // RFC 5321 section 3.5.3. Who has a mailbox is nobody's business.
            write(Reply(252, .init(2, 1, 5), "Cannot VRFY user, but will accept message"), &output)
        case .expn: refuse(Reply(502, .init(5, 5, 1), "Command not implemented"), &output)
        case .help:
            write(
                Reply(
                    214, .init(2, 0, 0),
                    lines: [
                        "Commands: EHLO HELO STARTTLS AUTH MAIL RCPT DATA RSET NOOP VRFY HELP QUIT",
                        "Mail submission, RFC 6409",
                    ]), &output)
        case .quit:
            write(Reply(221, .init(2, 0, 0), "Bye"), &output)
            enter(.closing(.quit))
        }
        return nil
    }

    // MARK: Commands

    private mutating func greeted(_ name: String, isExtended: Bool) {
        clientName = name
        self.isExtended = isExtended
        transaction = nil  // RFC 5321 section 4.1.4
    }

    private func greetingLines(to name: String) -> [String] {
        var lines = ["\(configuration.hostname) Hello \(name)", "8BITMIME", "PIPELINING", "ENHANCEDSTATUSCODES"]
        lines.append("SMTPUTF8")
        if configuration.tls == .startTLS, tls == nil { lines.append("STARTTLS") }
        if offersAuthentication {
            lines.append("AUTH " + configuration.mechanisms.map(\.rawValue).joined(separator: " "))
        }
        lines.append("SIZE \(configuration.messageSize)")
        return lines
    }

    private var offersAuthentication: Bool {
        configuration.authentication != .none && (tls != nil || configuration.allowsPlaintextAuthentication)
            && !configuration.mechanisms.isEmpty
    }

    private mutating func startTLS(_ output: inout ByteBuffer) -> Action? {
        guard configuration.tls == .startTLS else {
            refuse(Reply(502, .init(5, 5, 1), "Command not implemented"), &output)
            return nil
        }
        guard tls == nil else {
            refuse(Reply(503, .init(5, 5, 1), "TLS is already established"), &output)
            return nil
        }
        guard isExtended else {
            refuse(.badSequence, &output)
            return nil
        }
        guard input.readableBytes == 0 else {
            write(Reply(554, .init(5, 5, 1), "Nothing may be sent behind STARTTLS before its reply"), &output)
            enter(.closing(.protocolViolation("octets in clear behind STARTTLS")))
            return nil
        }
        write(Reply(220, .init(2, 7, 0), "Go ahead"), &output)
        enter(.tlsHandshake)
        return .startTLS
    }

    private mutating func authenticate(
        _ name: String, _ initialResponse: InitialResponse?, _ output: inout ByteBuffer
    ) -> Action? {
        guard configuration.authentication != .none else {
            refuse(Reply(502, .init(5, 5, 1), "Command not implemented"), &output)
            return nil
        }
        guard isExtended, user == nil, transaction == nil else {
            refuse(.badSequence, &output)
            return nil
        }
        guard offersAuthentication else {
            refuse(
                Reply(538, .init(5, 7, 11), "Encryption required for requested authentication mechanism"), &output)
            return nil
        }
        guard let mechanism = SASLMechanism(rawValue: name), configuration.mechanisms.contains(mechanism) else {
            refuse(Reply(504, .init(5, 5, 4), "Invalid authentication mechanism"), &output)
            return nil
        }
        var decoded: [UInt8]?
        if let initialResponse {
            // "=" is the empty initial response (RFC 4954 section 4).
            let base64 = initialResponse.base64
            decoded = base64 == [UInt8(ascii: "=")] ? [] : Base64.decode(base64)
            guard decoded != nil else {
                refuse(.invalidResponse, &output)
                return nil
            }
        }
        let (exchange, step) = SASLServer.begin(mechanism, initialResponse: decoded)
        return perform(step, exchange, &output)
    }

    private mutating func responseReceived(
        _ line: LineReader.Line, _ exchange: SASLServer, _ output: inout ByteBuffer
    ) -> Action? {
        var exchange = exchange
        switch line {
        case .tooLong:
            enter(.command)
            refuse(Reply(500, .init(5, 5, 6), "Authentication exchange line is too long"), &output)
            return nil
        case .malformed:
            enter(.command)
            refuse(.invalidResponse, &output)
            return nil
        case .line(let octets):
            if octets.readableBytesView.elementsEqual(CollectionOfOne(UInt8(ascii: "*"))) {
                enter(.command)
                refuse(Reply(501, .init(5, 7, 0), "Authentication canceled by client"), &output)
                return nil
            }
            guard let response = Base64.decode(octets.readableBytesView) else {
                enter(.command)
                refuse(.invalidResponse, &output)
                return nil
            }
            let step = exchange.received(response)
            return perform(step, exchange, &output)
        }
    }

    private mutating func perform(
        _ step: SASLServer.Step, _ exchange: SASLServer, _ output: inout ByteBuffer
    ) -> Action? {
        switch step {
        case .challenge(let challenge):
            write(Reply(334, nil, challenge), &output)
            // Not `enter`: the whole exchange has the time of one command.
            phase = .authenticating(exchange)
            return nil
        case .check(let credentials):
            enter(.checkingPassword)
            return .checkPassword(credentials)
        case .malformed:
            enter(.command)
            refuse(.invalidResponse, &output)
            return nil
        case .refused:
            enter(.command)
            refuse(.credentialsInvalid, &output)
            return nil
        }
    }

    private mutating func mail(_ mail: MailCommand, _ output: inout ByteBuffer) -> Action? {
        guard clientName != nil, transaction == nil else {
            refuse(.badSequence, &output)
            return nil
        }
        guard configuration.authentication != .required || user != nil || isTrusted else {
            let isClear = configuration.tls == .startTLS && tls == nil
            refuse(
                Reply(530, .init(5, 7, 0), "Authentication required" + (isClear ? ", after STARTTLS" : "")), &output)
            return nil
        }
        guard isExtended || mail.parameterCount == 0 else {
            refuse(SMTPSyntaxError.unknownParameter.reply, &output)
            return nil
        }
        if let user, let sender = mail.sender, !user.maySend(as: sender.text) {
            refuse(Reply(550, .init(5, 7, 1), "<\(sender)> is not a sender that this login may use"), &output)
            return nil
        }
        if let size = mail.size, size > configuration.messageSize {
            refuse(
                Reply(552, .init(5, 3, 4), "Message size exceeds \(configuration.messageSize) limit"), &output)
            return nil
        }
        enter(.checkingRoom(mail))
        return .checkRoom(size: mail.size)
    }

    private mutating func rcpt(_ path: RecipientPath, _ output: inout ByteBuffer) {
        guard transaction != nil else { return refuse(.badSequence, &output) }
        let recipient: Mailbox
        let text: String
        switch path {
        case .mailbox(let mailbox):
            guard transaction?.mail.smtpUTF8 == true || !mailbox.needsSMTPUTF8 else {
                transaction?.hasRefused = true
                return refuse(SMTPSyntaxError.needsSMTPUTF8.reply, &output)
            }
            recipient = mailbox
            text = mailbox.text
        case .postmaster(let word):
            recipient = Mailbox(localPart: word, domain: configuration.hostname)
            text = word
        }
        guard (transaction?.recipients.count ?? 0) < configuration.recipients else {
            transaction?.hasRefused = true
            return write(Reply(452, .init(4, 5, 3), "Too many recipients"), &output)
        }
        transaction?.recipients.append(recipient)
        write(Reply(250, .init(2, 1, 5), "<\(text)> Ok"), &output)
    }

    private mutating func data(_ output: inout ByteBuffer) {
        guard let transaction else { return refuse(.badSequence, &output) }
        guard !transaction.recipients.isEmpty else {
            // RFC 5321 section 3.3: 554 where recipients were refused, 503 where there were none.
            return refuse(
                transaction.hasRefused
                    ? Reply(554, .init(5, 5, 1), "No valid recipients")
                    : Reply(503, .init(5, 5, 1), "No recipients given"), &output)
        }
        write(Reply(354, nil, "Start mail input; end with <CRLF>.<CRLF>"), &output)
        enter(.data(DataReader(limit: configuration.messageSize)))
    }

    private mutating func dataEnded(_ reader: DataReader, _ output: inout ByteBuffer) -> Action? {
        guard let transaction else { preconditionFailure("data without a transaction") }
        self.transaction = nil
        switch reader.fault {
        case .tooLarge:
            enter(.command)
            refuse(Reply(552, .init(5, 3, 4), "Message exceeded size limit"), &output)
            return nil
        case .bareLineEnd:
            enter(.command)
            refuse(
                Reply(554, .init(5, 6, 0), "Message has a bare CR, a bare LF or a NUL; lines must end with CRLF"),
                &output)
            return nil
        case nil:
            enter(.storing)
            return .endMessage(
                Submission(
                    sender: transaction.mail.sender, recipients: unique(transaction.recipients),
                    body: reader.hasEightBit ? .eightBitMIME : transaction.mail.body,
                    smtpUTF8: transaction.mail.smtpUTF8, clientName: clientName ?? "",
                    protocolWord: protocolWord(
                        isUTF8: transaction.mail.smtpUTF8), tls: tls, login: user?.login))
        }
    }

    /// A recipient that was given twice gets one copy.
    private func unique(_ recipients: [Mailbox]) -> [Mailbox] {
        guard recipients.count > 1 else { return recipients }
        var seen = Set<Mailbox>(minimumCapacity: recipients.count)
        return recipients.filter { recipient in
            seen.insert(Mailbox(localPart: String(recipient.localPart), domain: recipient.foldedDomain)).inserted
        }
    }

    /// RFC 3848; RFC 6531 section 4.3.
    private func protocolWord(isUTF8: Bool) -> String {
        guard isExtended else { return "SMTP" }
        return (isUTF8 ? "UTF8SMTP" : "ESMTP") + (tls == nil ? "" : "S") + (user == nil ? "" : "A")
    }

    // MARK: Replies

    private mutating func enter(_ phase: Phase) {
        self.phase = phase
        deadlineNumber += 1
    }

    private func write(_ reply: Reply, _ output: inout ByteBuffer) { reply.encode(into: &output) }

    /// Writes a reply of somebody else (policy, queue): a 421 ends the session.
    private mutating func finish(with reply: Reply, _ output: inout ByteBuffer) {
        if reply.isPermanent { return refuse(reply, &output) }
        write(reply, &output)
        if reply.code == 421 { enter(.closing(.refused)) }
    }

    /// Writes a 5xx reply; too many of them end the session.
    private mutating func refuse(_ reply: Reply, _ output: inout ByteBuffer) {
        write(reply, &output)
        refusals.append(reply)
        errors += 1
        guard errors >= configuration.errors else { return }
        write(Reply(421, .init(4, 7, 0), "\(configuration.hostname) Too many errors"), &output)
        enter(.closing(.tooManyErrors))
    }
}

extension Reply {
    fileprivate static let badSequence = Reply(503, .init(5, 5, 1), "Bad sequence of commands")
    fileprivate static let invalidResponse = Reply(501, .init(5, 5, 2), "Invalid auth response")
    fileprivate static let credentialsInvalid = Reply(535, .init(5, 7, 8), "Authentication credentials invalid")
}

extension SMTPSyntaxError {
    /// What the client is told.
    var reply: Reply {
        switch self {
        case .unrecognized: Reply(500, .init(5, 5, 2), "Syntax error, command unrecognized")
        case .badArgument: Reply(501, .init(5, 5, 4), "Syntax error in parameters or arguments")
        case .badSender: Reply(501, .init(5, 1, 7), "Bad sender address syntax")
        case .badRecipient: Reply(501, .init(5, 1, 3), "Bad recipient address syntax")
        case .unknownParameter: Reply(555, .init(5, 5, 4), "Parameter not recognized or not implemented")
        case .badParameter: Reply(501, .init(5, 5, 4), "Syntax error in parameters or arguments")
        case .needsSMTPUTF8: Reply(553, .init(5, 6, 7), "Non-ASCII address needs SMTPUTF8")
        }
    }
}
