// The back end `pam`: users are whom PAM knows, which a helper asks (SlimtaPAM). AuthenticationDialogue asks it.

package import NIOCore
internal import SlimtaMail
internal import SlimtaNet
internal import SlimtaPAM
package import SlimtaSASL
package import SlimtaSMTP
internal import Synchronization

/// Asks PAM's helper, over a connection for each question.
package struct PAMBackEnd: CredentialBackEnd {
    package let name = "pam"
    package let timeout: TimeAmount
    /// What all its questions share.
    private final class Shares: Sendable {
        let state = Mutex(PAMShares())
    }

    private let shares = Shares()
    private let exchange: OneShotExchange
    private let socket: String
    private let names: PAMNames
    private let systemErrorsRefuse: Bool

    /// - Parameters:
    ///   - address: the helper's socket, whose path is `socket`.
    ///   - timeout: how long the helper gives PAM.
    ///   - systemErrorsRefuse: whether PAM_SYSTEM_ERR is a "no".
    package init(
        at address: SocketAddress, socket: String, timeout: TimeAmount, names: PAMNames, systemErrorsRefuse: Bool,
        group: any EventLoopGroup
    ) {
        exchange = OneShotExchange(with: address, atOnce: PAMWorkers.connections, group: group)
        self.socket = socket
        // The helper says why there is no answer; what comes later is its own fault.
        self.timeout = timeout + .seconds(5)
        self.names = names
        self.systemErrorsRefuse = systemErrorsRefuse
    }

    /// Those that show the password.
    package func mechanisms(on facts: AuthenticationFacts) -> Set<SASLMechanism> { [.plain, .login] }

    /// What a user of PAM is called once it is in, whatever it is called before.
    package func login(of name: String) -> String { names.login(of: name) }

    /// With the domain and without it.
    package func knownNames(of user: AuthenticatedUser) -> [String] { names.all(of: user.login) }

    package func check(_ credentials: Credentials, _ facts: AuthenticationFacts) async -> CredentialVerdict {
        let login = names.user(of: credentials.login)
        let host = facts.connection.peer.address.map(\.description)
        guard var question = PAMQuestion(login: login, password: Array(credentials.password), host: host) else {
            return .wrong
        }
        // A program that is trusted, or runs here, may ask for many people.
        let peer = facts.connection.peer
        let client = facts.isTrusted || peer.address?.isLoopback == true ? nil : facts.source
        let standing = facts.standing
        guard shares.state.withLock({ $0.enter(client, standing) }) else {
            question.password.wipe()
            return .unavailable(
                "questions to PAM of this client's network, or of many who failed, wait for their answers: no more at once"
            )
        }
        defer { shares.state.withLock { $0.leave(client, standing) } }
        var octets = question.octets
        question.password.wipe()
        let sent = ByteBuffer(bytes: octets)
        octets.wipe()
        let time = Duration.nanoseconds(timeout.nanoseconds)
        let result = await exchange.run([sent], then: { nil }, limit: PAMAnswer.limit, timeout: time)
        let answer = (try? result.get()).flatMap { PAMAnswer(Array($0.readableBytesView)) }
        // It has had a process until then, and would be free to have the next one.
        if answer == nil, Task.isCancelled { return .exhausting("the client has gone while PAM was asked") }
        switch result {
        case .failure(let failure):
            return .unavailable(
                "PAM's helper at \(socket): \(failure); if it does not run, start slimtad again, or under systemd "
                    + "slimtad-pam.socket")
        case .success: return verdict(answer, login)
        }
    }

    private func verdict(_ answer: PAMAnswer?, _ login: String) -> CredentialVerdict {
        switch answer {
        case .said(let result):
            switch result.meaning(systemErrorsRefuse: systemErrorsRefuse) {
            case .right: .right(names.authenticated(result.user.isEmpty ? login : result.user))
            case .wrong: .wrong
            case .refused(let reason): .refused(reason)
            case .failed(let reason): .unavailable(reason)
            }
        case .unavailable(let reason): .unavailable(reason)
        case .late(let reason): .exhausting(reason)
        case nil: .unavailable("PAM's helper at \(socket) has ended without an answer")
        }
    }
}

/// What clients call users of PAM, and what their addresses are.
package struct PAMNames: Sendable {
    private let domain: String?
    private let hostname: String
    private let foldsCase: Bool

    /// - Parameters:
    ///   - domain: of the users' addresses, which are logins too; nil: they are of this machine.
    ///   - hostname: its name.
    ///   - foldsCase: `[auth] fold_case`: a directory behind PAM may take ALICE for alice, and does not say so.
    package init(domain: String?, hostname: String, foldsCase: Bool = false) {
        self.domain = domain
        self.hostname = hostname
        self.foldsCase = foldsCase
    }

    /// The name that PAM is asked for.
    package func user(of login: String) -> String {
        guard let domain, let at = login.lastIndex(of: "@"), at > login.startIndex,
            login[login.index(after: at)...].lowercased() == domain.lowercased()
        else { return login }
        return String(login[..<at])
    }

    /// Who has logged in: it may send as itself.
    ///
    /// - Parameter found: the name that PAM ends with, which may be the whole address.
    package func authenticated(_ found: String) -> AuthenticatedUser {
        let login = login(of: found)
        let own = Mailbox(parsing: login) ?? Mailbox(localName: login, domain: domain ?? hostname)
        // A name that no mailbox can have may not send as anybody.
        return AuthenticatedUser(login: login, senders: own.map { [$0.text] } ?? [])
    }

    /// What somebody is called who has logged in.
    func login(of found: String) -> String {
        let name = user(of: found)
        return foldsCase ? name.lowercased() : name
    }

    /// All names of who has logged in.
    func all(of login: String) -> [String] { [login] + (domain.map { ["\(login)@\($0)"] } ?? []) }
}
