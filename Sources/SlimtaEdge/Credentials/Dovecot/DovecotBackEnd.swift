// The back end `dovecot`: users are whom Dovecot knows, with all the passwd files, LDAP and SQL that it has. AuthenticationDialogue
// asks it.

package import NIOCore
package import SlimtaMail
package import SlimtaSASL
internal import SlimtaSMTP
import Synchronization

/// Asks Dovecot's authentication service. It is told of passwords, tokens and certificates as PLAIN, OAUTHBEARER and EXTERNAL
/// would tell it; what needs to know the user's secret, SCRAM and CRAM-MD5, it holds itself.
package struct DovecotBackEnd: CredentialBackEnd {
    package let name = "dovecot"
    /// More than the longest answer of ``DovecotMachine``, which says why there is none.
    package let timeout = TimeAmount.seconds(70)
    private let client: DovecotClient
    private let certificates: CertificateLogin
    private let pace = DovecotPace()
    private let lease: any Sendable

    /// A back end on a connection.
    ///
    /// - Parameters:
    ///   - certificates: `[auth] certificate_login`.
    ///   - lease: what keeps the connection: held for as long as somebody has the back end.
    package init(_ client: DovecotClient, certificates: CertificateLogin = .email, keeping lease: any Sendable) {
        self.client = client
        self.certificates = certificates
        self.lease = lease
    }

    /// Why Dovecot cannot be asked; nil: it can, or nobody knows yet.
    package var complaint: String? { client.complaint }

    /// Ends the connection, whoever still has the back end: at the stop of the daemon.
    package func end() async { await client.close() }

    /// What Dovecot offers. While it was never there, who has a password is to come again, and not to find no AUTH at all.
    package func mechanisms(on facts: AuthenticationFacts) -> Set<SASLMechanism> {
        guard let offered = client.mechanisms else { return [.plain, .login] }
        var served = Self.mechanisms(of: offered)
        if names(facts).isEmpty { served.remove(.external) }
        return served
    }

    /// What clients can be served where Dovecot offers these, by their names.
    package static func mechanisms(of offered: Set<String>) -> Set<SASLMechanism> {
        // Its version of the protocol knows nothing of TLS sessions.
        var served = Set(SASLMechanism.allCases.filter { offered.contains($0.rawValue) && !$0.bindsChannel })
        // Both bring a password, which it is shown by PLAIN.
        if served.contains(.plain) { served.insert(.login) } else { served.remove(.login) }
        return served
    }

    package func check(_ credentials: Credentials, _ facts: AuthenticationFacts) async -> CredentialVerdict {
        var response = [0] + Array(credentials.login.utf8) + [0] + credentials.password
        defer { response.wipe() }
        return await verdict(.plain, SecretOctets(response), facts)
    }

    package func check(
        token: SecretOctets, login: String?, _ facts: AuthenticationFacts
    ) async -> CredentialVerdict {
        let isBearer = mechanisms(on: facts).contains(.oauthBearer)
        // RFC 7628 section 3.1, with the login as RFC 5801 section 4 spells it; and what was before that.
        let name = (login ?? "").replacing("=", with: "=3D").replacing(",", with: "=2C")
        var response = Array(
            (isBearer ? "n,\(login == nil ? "" : "a=" + name),\u{1}" : "user=\(login ?? "")\u{1}").utf8)
        defer { response.wipe() }
        response += Array("auth=Bearer ".utf8) + token + [1, 1]
        return await verdict(isBearer ? .oauthBearer : .xoauth2, SecretOctets(response), facts)
    }

    package func checkCertificate(authorization: String?, _ facts: AuthenticationFacts) async -> CredentialVerdict {
        let names = names(facts)
        // Who names itself Dovecot asks whether that is one with the certificate's.
        guard let name = names.first(where: { $0 == authorization }) ?? names.first else { return .wrong }
        guard names.count == 1 || name == authorization else { return .severalLogins }
        // Dovecot believes us: the certificate was checked when TLS began.
        let said: [DovecotRequest.Parameter] = [("valid-client-cert", nil), ("cert_username", name)]
        return await verdict(.external, SecretOctets((authorization ?? "").utf8), facts, adding: said)
    }

    package func begin(_ mechanism: SASLMechanism, _ facts: AuthenticationFacts) -> (any BackEndExchange)? {
        guard mechanism.scram != nil || mechanism == .cramMD5 else { return nil }
        var request = DovecotRequest(mechanism, facts)
        let exchange = DovecotExchange(client, request)
        guard mechanism.scram != nil else { return exchange }
        request.parameters.append(("no-penalty", nil))
        return VeiledDovecotExchange(exchange, failing: DovecotExchange(client, request), pace)
    }

    /// What comes of an exchange with one response.
    private func verdict(
        _ mechanism: SASLMechanism, _ response: SecretOctets, _ facts: AuthenticationFacts,
        adding parameters: [DovecotRequest.Parameter] = []
    ) async -> CredentialVerdict {
        var request = DovecotRequest(mechanism, facts)
        request.parameters += parameters
        let exchange = DovecotExchange(client, request)
        var step = await exchange.received(response)
        // OAuth says why a token is not right, and wants an answer (RFC 7628 section 3.2.3).
        if case .challenge = step { step = await exchange.received(SecretOctets([1])) }
        if case .verdict(let verdict) = step { return verdict }
        exchange.cancel()
        return .unavailable("Dovecot asks for more than \(mechanism.rawValue) has")
    }

    /// Whom a client's certificate is for, if it is good.
    private func names(_ facts: AuthenticationFacts) -> [String] {
        facts.certificate.map { certificates.names(in: $0) } ?? []
    }
}

/// An exchange that Dovecot holds.
private final class DovecotExchange: BackEndExchange {
    private let client: DovecotClient
    private let request: DovecotRequest
    /// Its number; nil: it has not begun, or is over.
    private let id = Mutex<DovecotMachine.ID?>(nil)

    init(_ client: DovecotClient, _ request: DovecotRequest) {
        self.client = client
        self.request = request
    }

    func received(_ response: SecretOctets?) async -> BackEndStep {
        let answer: DovecotAnswer
        if let id = id.withLock({ $0 }) {
            answer = await client.respond(id, response ?? SecretOctets([]))
        } else {
            var request = request
            request.initialResponse = response
            let (new, first) = await client.begin(request)
            id.withLock { $0 = new }
            answer = first
        }
        if case .challenge(let challenge) = answer { return .challenge(challenge) }
        id.withLock { $0 = nil }
        return .verdict(Self.verdict(answer))
    }

    private static func verdict(_ answer: DovecotAnswer) -> CredentialVerdict {
        switch answer {
        case .right(let login, let senders):
            // Whoever has no list may send as itself; what else it may, [[senders]] says.
            let own = [login].filter { Mailbox(parsing: $0) != nil }
            return .right(AuthenticatedUser(login: login, senders: senders ?? own))
        case .wrong: return .wrong
        case .refused(let reason): return .refused(reason)
        case .unavailable(let reason): return .unavailable(reason)
        case .challenge: return .unavailable("Dovecot's exchange goes on")
        }
    }

    func cancel() {
        let id = id.withLock { id in
            defer { id = nil }
            return id
        }
        if let id { client.abandon(id) }
    }
}

extension DovecotRequest {
    /// What Dovecot is told of a connection.
    fileprivate init(_ mechanism: SASLMechanism, _ facts: AuthenticationFacts) {
        // No other program of its will ask about this login.
        var parameters: [Parameter] = [("nologin", nil), ("session", facts.session)]
        if case .ip(let address, let port) = facts.connection.peer {
            parameters += [("rip", address.description), ("rport", "\(port)")]
        }
        if case .ip(let address, let port) = facts.connection.local {
            parameters += [("lip", address.description), ("lport", "\(port)")]
        }
        if let tls = facts.connection.tls {
            parameters.append(("secured", nil))
            if let name = tls.serverName { parameters.append(("local_name", name)) }
        }
        self.init(mechanism: mechanism.rawValue, parameters: parameters, initialResponse: nil)
    }
}
