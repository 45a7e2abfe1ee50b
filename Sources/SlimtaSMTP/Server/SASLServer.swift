// The server's side of AUTH (RFC 4954 section 4): the exchanges of PLAIN (RFC 4616 section 2) and LOGIN, as values. SMTPServerMachine runs
// them; whether a password is right is asked of the edge's credential back end.

internal import SlimtaMail
internal import SlimtaSASL

/// One AUTH exchange.
struct SASLServer {
    enum Step: Equatable {
        /// 334 with this challenge, in base64.
        case challenge(String)
        case check(Credentials)
        /// 501: the response cannot be read.
        case malformed
        /// 535: it can be read, and can never be right (no login, no password, another's authorization identity).
        case refused
    }

    private enum State {
        case plain
        case loginName
        case loginPassword(String)
    }

    private var state: State

    /// Begins an exchange; `initialResponse` is decoded.
    static func begin(_ mechanism: SASLMechanism, initialResponse: [UInt8]?) -> (exchange: SASLServer, step: Step) {
        var exchange: SASLServer
        switch mechanism {
        case .plain:
            exchange = SASLServer(state: .plain)
            guard let initialResponse else { return (exchange, .challenge("")) }
            let step = exchange.received(initialResponse)
            return (exchange, step)
        case .login:
            exchange = SASLServer(state: .loginName)
            // "Username:" and "Password:": LOGIN has no RFC, these are the challenges that clients look for.
            guard let initialResponse else { return (exchange, .challenge("VXNlcm5hbWU6")) }
            let step = exchange.received(initialResponse)
            return (exchange, step)
        // Not configured: slimta.conf has these two.
        default: return (SASLServer(state: .plain), .refused)
        }
    }

    /// Takes a decoded response.
    mutating func received(_ response: [UInt8]) -> Step {
        switch state {
        case .plain: return Self.plain(response)
        case .loginName:
            guard let login = Self.identity(response[...]) else { return .malformed }
            state = .loginPassword(login)
            return .challenge("UGFzc3dvcmQ6")
        case .loginPassword(let login):
            guard !response.contains(0), Self.isText(response) else { return .malformed }
            return Self.step(login: login, password: response[...])
        }
    }

    /// RFC 4616 section 2: `[authzid] NUL authcid NUL passwd`.
    private static func plain(_ message: [UInt8]) -> Step {
        let parts = message.split(separator: 0, omittingEmptySubsequences: false)
        guard parts.count == 3, isText(message), let login = identity(parts[1]) else {
            return .malformed
        }
        guard parts[0].isEmpty || parts[0] == parts[1] else { return .refused }
        return step(login: login, password: parts[2])
    }

    /// Whether it is UTF-8, found out where it is: a String would be a copy of the password, and not be overwritten.
    private static func isText(_ response: [UInt8]) -> Bool { (try? UTF8Span(validating: response.span)) != nil }

    private static func step(login: String, password: ArraySlice<UInt8>) -> Step {
        guard !login.isEmpty, !password.isEmpty, password.count <= 1024 else { return .refused }
        return .check(Credentials(login: login, password: password))
    }

    /// A login: up to 255 octets of UTF-8 without control characters, since it goes into logs.
    private static func identity(_ octets: ArraySlice<UInt8>) -> String? {
        guard octets.count <= 255, let login = String(validating: octets.span), !login.hasControls else { return nil }
        return login
    }
}
