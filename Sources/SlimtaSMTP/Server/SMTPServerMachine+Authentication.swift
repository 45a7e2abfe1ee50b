// AUTH in SMTPServerMachine (RFC 4954): the command, the exchange of its lines, and the answer to the question that it ends
// in.

package import NIOCore
internal import SlimtaMail

extension SMTPServerMachine {
    /// The answer to ``Action/checkPassword(_:)``.
    package mutating func passwordChecked(_ result: PasswordResult, _ output: inout ByteBuffer) {
        guard case .checkingPassword = phase else { return }
        enter(.command)
        switch result {
        case .right(let user):
            self.user = user
            commands = 0
            write(Reply(235, .init(2, 7, 0), "Authentication successful"), &output)
        case .wrong: fail(.credentialsInvalid, &output)
        case .unavailable: fail(Reply(454, .init(4, 7, 0), "Temporary authentication failure"), &output)
        }
    }

    var offersAuthentication: Bool {
        configuration.authentication != .none && (tls != nil || configuration.allowsPlaintextAuthentication)
            && !configuration.mechanisms.isEmpty
    }

    mutating func authenticate(
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
        defer { decoded?.wipe() }
        if let initialResponse {
            // "=" is the empty initial response (RFC 4954 section 4).
            let base64 = initialResponse.base64
            decoded = base64.elementsEqual(CollectionOfOne(UInt8(ascii: "="))) ? [] : Base64.decode(base64)
            guard decoded != nil else {
                refuse(.invalidResponse, &output)
                return nil
            }
        }
        let (exchange, step) = SASLServer.begin(mechanism, initialResponse: decoded)
        return perform(step, exchange, &output)
    }

    mutating func responseReceived(
        _ received: LineReader.Line, _ exchange: SASLServer, _ output: inout ByteBuffer
    ) -> Action? {
        var exchange = exchange
        line = ByteBuffer(string: "AUTH")
        defer { line = nil }
        switch received {
        case .tooLong:
            enter(.command)
            refuse(Reply(500, .init(5, 5, 6), "Authentication exchange line is too long"), &output)
            return nil
        case .malformed:
            enter(.command)
            refuse(.invalidResponse, &output)
            endForLineEnds(&output)
            return nil
        case .line(let octets):
            if octets.readableBytesView.elementsEqual(CollectionOfOne(UInt8(ascii: "*"))) {
                enter(.command)
                refuse(Reply(501, .init(5, 7, 0), "Authentication canceled by client"), &output)
                return nil
            }
            guard var response = Base64.decode(octets.readableBytesView) else {
                enter(.command)
                refuse(.invalidResponse, &output)
                return nil
            }
            defer { response.wipe() }
            let step = exchange.received(response)
            return perform(step, exchange, &output)
        }
    }

    mutating func perform(
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
}
