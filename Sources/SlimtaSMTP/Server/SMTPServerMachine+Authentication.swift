// AUTH in SMTPServerMachine (RFC 4954 section 4): the command, the lines of the exchange in base64, and what is replied to
// each. What the octets mean is asked of the driver, step by step.

internal import NIOCore
internal import SlimtaMail
internal import SlimtaSASL

extension SMTPServerMachine {
    var offersAuthentication: Bool { mayAuthenticate && !mechanisms.isEmpty }

    private var mayAuthenticate: Bool {
        configuration.authentication != .none && (tls != nil || configuration.allowsPlaintextAuthentication)
    }

    // MARK: What the client says

    mutating func authenticate(
        _ name: String, _ initialResponse: InitialResponse?, into output: inout ByteBuffer
    ) {
        guard configuration.authentication != .none else {
            return refuse(.notImplemented, into: &output)
        }
        guard isExtended || clientName == nil else {
            // Printers do that, and their owners read it in their logs.
            return refuse(Reply(503, .init(5, 5, 1), "AUTH needs EHLO in place of HELO"), into: &output)
        }
        guard isExtended, user == nil, transaction == nil else { return refuse(.badSequence, into: &output) }
        guard mayAuthenticate else {
            return refuse(
                Reply(538, .init(5, 7, 11), "Encryption required for requested authentication mechanism"), into: &output
            )
        }
        guard let mechanism = SASLMechanism(rawValue: name), listed.contains(mechanism) else {
            return refuse(Reply(504, .init(5, 5, 4), "Invalid authentication mechanism"), into: &output)
        }
        guard initialResponse == nil || !mechanism.isServerFirst else {
            return refuse(Reply(501, .init(5, 7, 0), "\(name) has no initial response"), into: &output)
        }
        var response: SecretOctets?
        if let initialResponse {
            response = Self.decode(initialResponse.base64)
            guard response != nil else { return refuse(.invalidResponse, into: &output) }
        }
        self.mechanism = mechanism
        responses = 0
        ask(.authentication(.begin(mechanism, initialResponse: response, listed: listed)), into: &output)
    }

    mutating func responseReceived(_ received: LineReader.Line, into output: inout ByteBuffer) {
        responses += 1
        switch received {
        case .tooLong: cancel(.exchangeLineTooLong, into: &output)
        case .malformed:
            // The session ends, and with it the exchange.
            line = ByteBuffer(string: "AUTH")
            defer { line = nil }
            enter(.command)
            refuse(.invalidResponse, into: &output)
            endForLineEnds(into: &output)
        case .line(let octets):
            if octets.readableBytesView.elementsEqual(CollectionOfOne(UInt8(ascii: "*"))) {
                return cancel(Reply(501, .init(5, 7, 0), "Authentication canceled by client"), into: &output)
            }
            guard responses <= Self.responseLimit, let response = Self.decode(octets.readableBytesView) else {
                return cancel(.invalidResponse, into: &output)
            }
            ask(.authentication(.response(response)), into: &output)
        }
    }

    private mutating func cancel(_ reply: Reply, into output: inout ByteBuffer) {
        ask(.authentication(.cancelled(reply)), into: &output)
    }

    /// The octets of an initial response or a later one. "=" is the empty one (RFC 4954 section 4), as an empty line is; some
    /// send it in place of that.
    private static func decode(_ base64: some RandomAccessCollection<UInt8>) -> SecretOctets? {
        guard !base64.elementsEqual(CollectionOfOne(UInt8(ascii: "="))) else { return SecretOctets([]) }
        var decoded = Base64.decode(base64)
        defer { decoded?.wipe() }
        return decoded.map { SecretOctets($0) }
    }

    // MARK: What follows

    mutating func authenticationAnswered(
        _ step: AuthenticationStep, _ result: AuthenticationResult, into output: inout ByteBuffer
    ) {
        if case .cancelled(let reply) = step {
            refuse(.authentication(step), with: reply, into: &output)
            if result == .wrong { loginFailed(into: &output) }
            return
        }
        switch result {
        case .challenge(let challenge):
            write(Reply(334, nil, Base64.encode(challenge)), into: &output)
            enter(.authenticating)
            // The whole exchange has the time of one command.
            if responses == 0 { exchangeWait = waitNumber } else { waitNumber = exchangeWait }
        case .right(let user): ask(.login(user), into: &output)
        case .wrong:
            fail(.credentialsInvalid, into: &output)
            loginFailed(into: &output)
        case .refused(let text):
            fail(Reply(535, .init(5, 7, 8), text), into: &output)
            loginFailed(into: &output)
        case .malformed: refuse(.authentication(step), with: .invalidResponse, into: &output)
        case .unavailable: fail(.credentialsUnchecked, into: &output)
        case .undecided:
            fail(.credentialsUnchecked, into: &output)
            loginFailed(into: &output)
        case .turnedAway: end(.tooManyErrors, .init(4, 7, 0), Reply.tooManyFailedLogins.text, into: &output)
        }
    }

    mutating func loggedIn(_ user: AuthenticatedUser, into output: inout ByteBuffer) {
        self.user = user
        commands = 0
        write(Reply(235, .init(2, 7, 0), "Authentication successful"), into: &output)
    }

    private mutating func loginFailed(into output: inout ByteBuffer) {
        failedLogins += 1
        guard failedLogins >= Self.failedLoginLimit, case .command = phase else { return }
        end(.tooManyErrors, .init(4, 7, 0), "Too many failed logins", into: &output)
    }
}
