// The commands of SMTPServerMachine that belong to no mail transaction: from a line to a command, EHLO, STARTTLS, QUIT and
// the rest (RFC 5321 section 4.1, RFC 3207).

internal import NIOCore
internal import SlimtaMail

extension SMTPServerMachine {
    /// A client that begins TLS where the session is in clear would otherwise wait for ever, as we do for its CRLF.
    mutating func violation() -> Action? {
        guard tls == nil, input.getInteger(at: input.readerIndex, as: UInt16.self) == 0x1603 else { return nil }
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

    mutating func commandReceived(_ received: LineReader.Line, _ output: inout ByteBuffer) -> Action? {
        deadlineNumber += 1
        guard commands < configuration.commands else {
            end(.tooManyCommands, .init(4, 7, 0), "Too many commands without a message", &output)
            return nil
        }
        commands += 1
        turn += 1
        if case .line(let octets) = received { line = octets }
        defer { line = nil }
        let command: SMTPCommand
        switch received {
        case .tooLong:
            refuse(Reply(500, .init(5, 5, 2), "Line too long"), &output)
            return nil
        case .malformed:
            refuse(Reply(500, .init(5, 5, 2), "Syntax error, lines must end with CRLF"), &output)
            endForLineEnds(&output)
            return nil
        case .line(let octets):
            do throws(SMTPSyntaxError) {
                command = try SMTPCommand(
                    parsing: octets.readableBytesUInt8Span, lenientPaths: configuration.lenientPaths)
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

    mutating func perform(_ command: SMTPCommand, _ output: inout ByteBuffer) -> Action? {
        switch command {
        case .ehlo(let name):
            greeted(name, isExtended: true)
            Reply(250, nil, lines: greetingLines(to: name)).encode(into: &output)
        case .helo(let name):
            greeted(name, isExtended: false)
            write(Reply(250, nil, "\(configuration.hostname) Hello \(name.asClientName)"), &output)
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

    mutating func greeted(_ name: String, isExtended: Bool) {
        clientName = name
        self.isExtended = isExtended
        transaction = nil  // RFC 5321 section 4.1.4
    }

    func greetingLines(to name: String) -> [String] {
        var lines = [
            "\(configuration.hostname) Hello \(name.asClientName)", "8BITMIME", "PIPELINING", "ENHANCEDSTATUSCODES",
        ]
        lines.append("SMTPUTF8")
        if configuration.tls == .startTLS, tls == nil { lines.append("STARTTLS") }
        if offersAuthentication {
            lines.append("AUTH " + configuration.mechanisms.map(\.rawValue).joined(separator: " "))
        }
        lines.append("SIZE \(configuration.messageSize)")
        return lines
    }

    mutating func startTLS(_ output: inout ByteBuffer) -> Action? {
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
}
