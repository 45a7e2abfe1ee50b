// What would become of a login: `slimtad explain-session`. Which back ends would be asked, in which order, and what each can
// serve there. The users file is looked at; nobody else is asked.

import SlimtaConfiguration
import SlimtaEdge
import SlimtaMail
import SlimtaRules
import SlimtaSASL
import SlimtaSMTP

/// A login of a session that was made up. What the client shows is taken to be right.
struct LoginExplanation {
    /// What an operator says of it.
    struct Choice {
        /// nil: any that there is.
        var mechanism: SASLMechanism?
        /// Whose user it is; nil: the first's that may know it.
        var backEnd: AuthenticationBackEnd?
    }

    /// In the order of what happens.
    private(set) var notes: [String] = []
    /// Who it is; nil: nobody knows as whom it may send.
    private(set) var user: AuthenticatedUser?
    /// Why that is not known; nil: it is.
    private(set) var ignorance: String?

    private let login: String
    private let choice: Choice
    private let file: ConfigurationFile
    private let edge: Configuration.Edge
    private let tls: TLSFacts?
    private let hasCertificate: Bool
    /// What the users file says, and why it says nothing; both are nil where it is not asked.
    private var users: (file: UsersFile, verifier: LoginVerifier)?
    private var usersFailure: String?

    private var auth: Configuration.Auth { file.values.auth }

    /// Looks at what would become of `login` in that session.
    init(of login: String, _ session: MadeUpSession, _ file: ConfigurationFile, _ choice: Choice) {
        (self.login, self.choice, self.file, edge) = (login, choice, file, session.edge)
        tls = session.tls
        hasCertificate = session.facts.certificate != nil
        switch edge.type {
        case .smtp, .http: ask()
        case .sendmail(let sendmail): take("it is a user of this machine, as the kernel says", sendmail.trustedUsers)
        case .directory(let directory):
            take("it is a user of this machine, whose the file is", directory.trustedUsers)
        }
    }

    /// Nobody is asked who it is.
    private mutating func take(_ note: String, _ trusted: [String]) {
        notes.append("\(note); no back end is asked")
        user = LocalUsers(hostname: file.hostname, trusted: trusted) { _ in nil }.user(named: login)
    }

    // MARK: Back ends

    private mutating func ask() {
        readUsers()
        if edge.access.auth == .off {
            notes.append("this edge has no AUTH: nobody can log in here")
        } else if tls == nil, !edge.access.plaintextAuth {
            notes.append("nobody can log in here without TLS (--tls): the edge has no plaintext_auth")
        }
        let able = auth.backends.filter { !ways(of: $0).isEmpty }
        let words = choice.mechanism.map { "with \($0.rawValue) " } ?? ""
        if able.isEmpty {
            notes.append("\(words)nobody is asked: no back end serves it here")
        } else {
            notes.append("\(words)asked in this order: \(able.map(\.rawValue).joined(separator: ", "))")
        }
        for backEnd in able { notes.append("\(backEnd.rawValue): \(said(by: backEnd))") }
        if isBarred {
            notes.append("so nobody else lets it in; what follows is as if it were in")
        }
        find(in: able)
        guard let user else { return }
        let rights = file.values.senders.mailFrom(of: user.login, user.rights)?.description ?? "anybody"
        notes.append("\(user.login)\(user.backEnd.map { " of \($0)" } ?? "") may send as \(rights)")
    }

    private mutating func readUsers() {
        guard auth.backends.contains(.file) else { return }
        do throws(Failure) {
            let users = try UsersFile.read(file)
            self.users = (
                users, LoginVerifier(users, foldsCase: auth.foldCase, certificates: auth.certificateLogin)
            )
        } catch {
            usersFailure = error.message
        }
    }

    /// Whether the users file has it as somebody who may not log in.
    private var isBarred: Bool {
        users.map { $0.verifier.bars($0.verifier.name(of: login), at: .now()) } ?? false
    }

    /// What a back end can serve on this edge, as clients call it.
    private func ways(of backEnd: AuthenticationBackEnd) -> [String] {
        var served: Set<SASLMechanism>
        switch backEnd {
        case .file:
            served = users?.verifier.mechanisms ?? [.plain, .login]
            if hasCertificate { served.insert(.external) }
        case .pam: served = [.plain, .login]
        case .dovecot:
            served = Set(SASLMechanism.allCases.filter { !$0.bindsChannel && ($0 != .external || hasCertificate) })
        case .oauth: served = [.oauthBearer, .xoauth2]
        }
        if let mechanism = choice.mechanism { served.formIntersection([mechanism]) }
        if case .http = edge.type {
            let isBasic = served.contains(.plain) && auth.mechanisms.contains(.plain)
            return (isBasic ? ["Basic"] : []) + (served.contains(.oauthBearer) ? ["Bearer"] : [])
        }
        return auth.mechanisms.filter { served.contains($0) && mayBind($0) }.map(\.rawValue)
    }

    /// As ``SlimtaEdge/BackEnds`` lists them.
    private func mayBind(_ mechanism: SASLMechanism) -> Bool {
        guard mechanism.scram != nil else { return true }
        guard mechanism.bindsChannel else { return auth.channelBinding != .require }
        return auth.channelBinding != .off && tls?.session.version == "TLSv1.3"
    }

    /// What is to be had of a back end, in words.
    private func said(by backEnd: AuthenticationBackEnd) -> String {
        let ways = ways(of: backEnd).joined(separator: ", ")
        switch backEnd {
        case .file: return "\(saidByUsers()) (\(ways))"
        case .pam:
            let pam = auth.pam ?? PAMSettings()
            return "service \"\(pam.service)\" is asked about \"\(file.pamNames.user(of: login))\" (\(ways))"
        case .dovecot:
            let socket = auth.dovecot.map { "\($0)" } ?? "?"
            return "the service at \(socket) is asked, by what it offers of these (\(ways))"
        case .oauth:
            let claim = auth.oauth?.claim ?? ""
            return "a token is shown whose claim \"\(claim)\" is the login (\(ways))"
        }
    }

    private func saidByUsers() -> String {
        let path = auth.users
        guard let (_, verifier) = users else { return usersFailure ?? "\(path) cannot be read" }
        let name = verifier.name(of: login)
        guard let entry = verifier.entry(name) else {
            return isBarred ? "a line of \(path) about it is not understood" : "\(path) does not have it"
        }
        if let obstacle = entry.obstacle(at: .now()) { return "\(path) has it as \"\(name)\"; \(obstacle)" }
        let offered = Set(ways(of: .file).compactMap { SASLMechanism(rawValue: $0)?.scram })
        let lacking = SCRAMHash.allCases.filter { offered.contains($0) && entry.keys[$0] == nil }.map(\.rawValue)
        return "\(path) has it as \"\(name)\""
            + (lacking.isEmpty ? "" : ", without keys for \(lacking.joined(separator: ", ")), which fails for it")
    }

    // MARK: Who it is

    /// The login as the one has it who lets it in.
    private mutating func find(in able: [AuthenticationBackEnd]) {
        let candidates = choice.backEnd.map { [$0] } ?? able
        if candidates.contains(.file) {
            if let failure = usersFailure {
                ignorance = failure
                return
            }
            if let (_, verifier) = users, let entry = verifier.entry(verifier.name(of: login)) {
                user = AuthenticatedUser(login: verifier.name(of: login), senders: entry.senders).known(to: "file")
                return
            }
        }
        guard let other = candidates.first(where: { $0 != .file }) else {
            notes.append("nobody lets it in (535); what follows is as if it were in")
            user = AuthenticatedUser(login: users.map { $0.verifier.name(of: login) } ?? login)
            return
        }
        let own = [login].filter { Mailbox(parsing: $0) != nil }
        switch other {
        case .pam: user = file.pamNames.authenticated(login).known(to: "pam")
        case .dovecot:
            notes.append("Dovecot may call it by another name, and give it other senders (senders= of its passdb)")
            user = AuthenticatedUser(login: login, senders: own).known(to: "dovecot")
        case .oauth:
            if let claim = auth.oauth?.sendersClaim {
                ignorance = "the token's claim \"\(claim)\" says it"
            } else {
                user = AuthenticatedUser(login: login, senders: own).known(to: "oauth")
            }
        case .file: break
        }
    }
}
