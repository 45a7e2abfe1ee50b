// The commands of SMTPServerMachine that belong to no mail transaction: from a line to a command, EHLO, STARTTLS, QUIT and
// the rest (RFC 5321 section 4.1, RFC 3207).

internal import NIOCore
internal import SlimtaMail
internal import SlimtaSASL

extension SMTPServerMachine {
    /// A client that begins TLS where the session is in clear would otherwise wait for ever, as we do for its CRLF.
    mutating func violation() -> Action? {
        // What is left of a line that is too long is not its beginning.
        guard tls == nil, !lines.isTooLong, input.getInteger(at: input.readerIndex, as: UInt16.self) == 0x1603 else {
            return nil
        }
        phase = .closed
        return .close(.protocolViolation("TLS was begun where commands are expected"))
    }

    /// The longest line that may come: what is not AUTH need not be kept that long.
    var lineLimit: Int {
        guard offersAuthentication, let octets = input.getInteger(at: input.readerIndex, as: UInt32.self),
            octets & 0xDFDF_DFDF == 0x4155_5448  // "AUTH" in any case
        else { return Self.commandLimit }
        return Self.authenticationLimit
    }

    mutating func commandReceived(_ received: LineReader.Line, into output: inout ByteBuffer) {
        waitNumber += 1
        guard commands < configuration.commands else {
            return end(.tooManyCommands, .init(4, 7, 0), "Too many commands without a message", into: &output)
        }
        commands += 1
        turn += 1
        if case .line(let octets) = received { line = octets }
        defer { line = nil }
        let command: SMTPCommand
        switch received {
        case .tooLong:
            // RFC 4954 section 4 has a status of its own for AUTH.
            return refuse(
                limit == Self.commandLimit ? Reply(500, .init(5, 5, 2), "Line too long") : .exchangeLineTooLong,
                into: &output)
        case .malformed:
            refuse(Reply(500, .init(5, 5, 2), "Syntax error, lines must end with CRLF"), into: &output)
            return endForLineEnds(into: &output)
        case .line(let octets):
            do throws(SMTPSyntaxError) {
                command = try SMTPCommand(
                    parsing: octets.readableBytesUInt8Span, lenientPaths: configuration.lenientPaths)
            } catch {
                if error == .unrecognized, Self.isHTTP(octets) {
                    // Somebody's browser was made to talk to us: nothing in its request is to count as a command.
                    return enter(.closing(.protocolViolation("an HTTP request")))
                }
                switch error {
                case .badRecipient, .unknownParameter: transaction?.hasRefused = true
                default: break
                }
                return refuse(error.reply, into: &output)
            }
            if octets.readableBytes + 2 > Self.commandLimit {
                guard case .auth = command else {
                    return refuse(Reply(500, .init(5, 5, 2), "Line too long"), into: &output)
                }
            }
        }
        perform(command, into: &output)
    }

    /// What a line says, for logs: the verb if it is one of ours, and what MAIL or RCPT names. Nothing else of it: a client
    /// that is out of step sends its password where a command is expected.
    static func describe(_ line: ByteBuffer) -> (command: String, address: String?) {
        let text = String(buffer: line)
        let verb = text.prefix { $0 != " " && $0 != ":" }.uppercased()
        switch verb {
        case "MAIL", "RCPT": return (verb, text.firstIndex(of: ":").map { String(text[$0...].dropFirst().prefix(320)) })
        case "EHLO", "HELO", "STARTTLS", "AUTH", "DATA", "RSET", "NOOP", "VRFY", "EXPN", "HELP", "QUIT":
            return (verb, nil)
        default: return ("unknown", nil)
        }
    }

    static func isHTTP(_ line: ByteBuffer) -> Bool {
        line.withUnsafeReadableBytes { octets in
            ["GET ", "POST ", "PUT ", "HEAD ", "OPTIONS ", "CONNECT ", "DELETE ", "PATCH ", "TRACE "]
                .contains { octets.starts(with: $0.utf8) }
        }
    }

    mutating func perform(_ command: SMTPCommand, into output: inout ByteBuffer) {
        if isTurnedAway, command != .quit { return refuse(.badSequence, into: &output) }
        switch command {
        case .ehlo(let name): ask(.hello(name: name, isExtended: true), into: &output)
        case .helo(let name): ask(.hello(name: name, isExtended: false), into: &output)
        case .startTLS: startTLS(into: &output)
        case .auth(let mechanism, let initialResponse):
            authenticate(mechanism, initialResponse, into: &output)
        case .mail(let mail): self.mail(mail, into: &output)
        case .rcpt(let path): rcpt(path, into: &output)
        case .data: data(into: &output)
        case .rset:
            transaction = nil
            write(Reply(250, .init(2, 0, 0), "Ok"), into: &output)
        case .noop: write(Reply(250, .init(2, 0, 0), "Ok"), into: &output)
        case .vrfy:
            // RFC 5321 section 3.5.3. Who has a mailbox is nobody's business.
            write(Reply(252, .init(2, 1, 5), "Cannot VRFY user, but will accept message"), into: &output)
        case .expn: refuse(.notImplemented, into: &output)
        case .help:
            write(
                Reply(
                    214, .init(2, 0, 0),
                    lines: [
                        "Commands: EHLO HELO STARTTLS AUTH MAIL RCPT DATA RSET NOOP VRFY HELP QUIT",
                        "Extensions: " + ServiceExtension.allCases.map(\.rawValue).joined(separator: " "),
                        "Mail submission, RFC 6409",
                    ]), into: &output)
        case .quit:
            write(Reply(221, .init(2, 0, 0), "Bye"), into: &output)
            enter(.closing(.quit))
        }
    }

    mutating func greeted(_ name: String, isExtended: Bool, into output: inout ByteBuffer) {
        clientName = name
        self.isExtended = isExtended
        transaction = nil  // RFC 5321 section 4.1.4
        listed = isExtended && offersAuthentication ? mechanisms : []
        let hello = "\(configuration.hostname) Hello \(name.asClientName)"
        write(Reply(250, nil, lines: isExtended ? [hello] + extensions : [hello]), into: &output)
    }

    /// EHLO's lines behind the first.
    private var extensions: [String] {
        ServiceExtension.allCases.filter(offers).map { one in
            switch one {
            case .authentication: "\(one.rawValue) \(listed.map(\.rawValue).joined(separator: " "))"
            // RFC 9422 section 4: how many recipients a transaction has; of transactions there may be any number.
            case .limits: "\(one.rawValue) RCPTMAX=\(configuration.recipients)"
            case .size: "\(one.rawValue) \(configuration.messageSize)"
            case .eightBitMIME, .pipelining, .enhancedStatusCodes, .smtpUTF8, .startTLS: one.rawValue
            }
        }
    }

    /// Whether EHLO lists it now; HELO lists nothing.
    private func offers(_ one: ServiceExtension) -> Bool {
        switch one {
        case .startTLS: isExtended && configuration.tls == .startTLS && tls == nil
        case .authentication: !listed.isEmpty
        case .eightBitMIME, .pipelining, .enhancedStatusCodes, .smtpUTF8, .limits, .size: isExtended
        }
    }

    /// Whether its parameters are taken. Who has logged in may say AUTH= (RFC 4954 section 5), though it is not listed any more.
    func takes(_ one: ServiceExtension) -> Bool { offers(one) || one == .authentication && isExtended && user != nil }

    mutating func startTLS(into output: inout ByteBuffer) {
        guard configuration.tls == .startTLS else {
            return refuse(.notImplemented, into: &output)
        }
        guard tls == nil else {
            return refuse(Reply(503, .init(5, 5, 1), "TLS is already established"), into: &output)
        }
        guard isExtended else { return refuse(.badSequence, into: &output) }
        ask(.startTLS, into: &output)
    }

    /// RFC 3207 section 4. Nothing may have come behind the command, not even while an answer was waited for.
    mutating func beginTLS(into output: inout ByteBuffer) {
        guard input.readableBytes == 0 else {
            write(Reply(554, .init(5, 5, 1), "Nothing may be sent behind STARTTLS before its reply"), into: &output)
            return enter(.closing(.protocolViolation("octets in clear behind STARTTLS")))
        }
        guard !isInputClosed else { return enter(.closing(.clientClosed)) }
        write(Reply(220, .init(2, 7, 0), "Go ahead"), into: &output)
        enter(.startingTLS)
    }
}
