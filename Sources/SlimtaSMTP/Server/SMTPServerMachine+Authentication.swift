// AUTH in SMTPServerMachine (RFC 4954 section 4): the command, the exchange of its lines, and the answer to the question that
// it ends in.

internal import NIOCore
internal import SlimtaMail
internal import SlimtaSASL

extension SMTPServerMachine {
    mutating func passwordChecked(_ result: PasswordResult, into output: inout ByteBuffer) {
        switch result {
        case .right(let user): ask(.login(user), into: &output)
        case .wrong: fail(.credentialsInvalid, into: &output)
        case .unavailable: fail(.credentialsUnchecked, into: &output)
        }
    }

    mutating func loggedIn(_ user: AuthenticatedUser, into output: inout ByteBuffer) {
        self.user = user
        commands = 0
        write(Reply(235, .init(2, 7, 0), "Authentication successful"), into: &output)
    }

    var offersAuthentication: Bool {
        configuration.authentication != .none && (tls != nil || configuration.allowsPlaintextAuthentication)
            && !configuration.mechanisms.isEmpty
    }

    mutating func authenticate(
        _ name: String, _ initialResponse: InitialResponse?, into output: inout ByteBuffer
    ) {
        guard configuration.authentication != .none else {
            return refuse(.notImplemented, into: &output)
        }
        guard isExtended, user == nil, transaction == nil else { return refuse(.badSequence, into: &output) }
        guard offersAuthentication else {
            return refuse(
                Reply(538, .init(5, 7, 11), "Encryption required for requested authentication mechanism"), into: &output
            )
        }
        guard let mechanism = SASLMechanism(rawValue: name), configuration.mechanisms.contains(mechanism) else {
            return refuse(Reply(504, .init(5, 5, 4), "Invalid authentication mechanism"), into: &output)
        }
        var decoded: [UInt8]?
        defer { decoded?.wipe() }
        if let initialResponse {
            // "=" is the empty initial response (RFC 4954 section 4).
            let base64 = initialResponse.base64
            decoded = base64.elementsEqual(CollectionOfOne(UInt8(ascii: "="))) ? [] : Base64.decode(base64)
            guard decoded != nil else {
                return refuse(.invalidResponse, into: &output)
            }
        }
        self.mechanism = mechanism
        let (exchange, step) = SASLServer.begin(mechanism, initialResponse: decoded)
        perform(step, exchange, into: &output)
    }

    mutating func responseReceived(
        _ received: LineReader.Line, _ exchange: SASLServer, into output: inout ByteBuffer
    ) {
        var exchange = exchange
        line = ByteBuffer(string: "AUTH")
        defer { line = nil }
        switch received {
        case .tooLong:
            enter(.command)
            return refuse(Reply(500, .init(5, 5, 6), "Authentication exchange line is too long"), into: &output)
        case .malformed:
            enter(.command)
            refuse(.invalidResponse, into: &output)
            endForLineEnds(into: &output)
        case .line(let octets):
            if octets.readableBytesView.elementsEqual(CollectionOfOne(UInt8(ascii: "*"))) {
                enter(.command)
                return refuse(Reply(501, .init(5, 7, 0), "Authentication canceled by client"), into: &output)
            }
            guard var response = Base64.decode(octets.readableBytesView) else {
                enter(.command)
                return refuse(.invalidResponse, into: &output)
            }
            defer { response.wipe() }
            let step = exchange.received(response)
            perform(step, exchange, into: &output)
        }
    }

    mutating func perform(
        _ step: SASLServer.Step, _ exchange: SASLServer, into output: inout ByteBuffer
    ) {
        switch step {
        case .challenge(let challenge):
            write(Reply(334, nil, challenge), into: &output)
            // Not `enter`: the whole exchange has the time of one command.
            phase = .authenticating(exchange)
        case .check(let credentials): ask(.credentials(credentials), into: &output)
        case .malformed:
            enter(.command)
            return refuse(.invalidResponse, into: &output)
        case .refused:
            enter(.command)
            return refuse(.credentialsInvalid, into: &output)
        }
    }
}
