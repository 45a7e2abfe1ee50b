// The client's AUTH (RFC 4954): which mechanism, what is said in it, and what it means that the server says no. A part of
// SMTPClientMachine.

package import NIOCore
import SlimtaMail
import SlimtaSASL

extension SMTPClientMachine {
    /// Octets of the longest line of AUTH (RFC 4954 section 4).
    private static let longestLine = 12_288

    /// What ``Action/compute`` asks for.
    package var computation: SMTPLoginComputation? { login.computation }

    /// The computation is done.
    package mutating func computed(_ computation: SMTPLoginComputation, into out: inout ByteBuffer) -> Action {
        guard state == .computing else { return .wait }
        login.computation = nil
        login.sasl = computation.sasl
        state = .authentication
        return respond(computation.response, into: &out) ?? next(into: &out)
    }

    mutating func authenticate(into out: inout ByteBuffer) -> Action? {
        guard let credentials = configuration.credentials else { return becomeReady() }
        // Most mechanisms show the password to whoever listens.
        guard isEncrypted else { return lacking(authenticationFailed("no authentication without TLS")) }
        let sasl = SASLClient(
            offered: extensions.mechanisms, credentials: credentials, bindings: login.bindings,
            server: configuration.server)
        guard var sasl else {
            return lacking(authenticationFailed("the server offers no AUTH for \(credentials.secret.words)"))
        }
        var line = "AUTH \(sasl.mechanism.rawValue)"
        if let initial = sasl.begin() {
            // "=" is the empty initial response (RFC 4954 section 4).
            let text = initial.isEmpty ? "=" : Base64.encode(initial)
            if line.utf8.count + 1 + text.utf8.count + 2 <= Self.longestLine {
                line += " " + text
            } else {
                login.initial = initial
            }
        }
        send(line, into: &out)
        login.sasl = sasl
        state = .authentication
        return nil
    }

    mutating func replied(toAuthenticationWith reply: Reply, into out: inout ByteBuffer) -> Action? {
        if reply.isPositive {
            guard login.sasl?.isProven == true else {
                return lacking(authenticationFailed("the server takes our login, and has not proven that it knows it"))
            }
            return becomeReady()
        }
        guard reply.code == 334 else { return refused(login: reply) }
        if let initial = login.initial {
            login.initial = nil
            send(Base64.encode(initial), into: &out)
            return nil
        }
        // LOGIN's challenges are in words of the server's own, and not always in base64.
        let challenge = Base64.decode(reply.text.utf8) ?? []
        guard var sasl = login.sasl else { return refused(login: reply) }
        if sasl.isSlow {
            login.computation = SMTPLoginComputation(sasl: sasl, challenge: challenge)
            state = .computing
            deadlineBegins()
            return .compute
        }
        let response = sasl.respond(to: challenge)
        login.sasl = sasl
        guard response != nil else { return refused(login: reply) }
        return respond(response, into: &out)
    }

    /// nil: what the server says is nothing to go on with.
    private mutating func respond(_ response: [UInt8]?, into out: inout ByteBuffer) -> Action? {
        guard let response else {
            return lacking(authenticationFailed("the server does not prove that it knows our login"))
        }
        send(Base64.encode(response), into: &out)
        return nil
    }

    /// The server says no. Who has said before what is wrong with our token (RFC 7628 section 3.2.3) may have said that no
    /// other will do; who has not, as Microsoft's, may take a newer one.
    private mutating func refused(login reply: Reply) -> Action {
        let refusal = login.sasl?.tokenRefusal
        var isStale = false
        if case .token? = configuration.credentials?.secret, reply.isPermanent { isStale = refusal?.isFinal != true }
        let why = refusal.map { " (\($0.explanation))" } ?? ""
        return lacking(
            authenticationFailed("the server refused authentication: \(shown(reply))\(why)"), isTokenStale: isStale)
    }

    /// Always temporary: it is the operator who has to do something, and no message is to bounce for it.
    private func authenticationFailed(_ text: String) -> Outcome {
        Outcome(.temporary, Reply(454, EnhancedStatus(4, 7, 0), text))
    }
}

extension SASLClient.Credentials.Secret {
    /// For an operator.
    fileprivate var words: String {
        switch self {
        case .password: "a password (SCRAM, PLAIN, LOGIN, CRAM-MD5)"
        case .token: "a token (OAUTHBEARER, XOAUTH2)"
        case .certificate: "a certificate (EXTERNAL)"
        }
    }
}
