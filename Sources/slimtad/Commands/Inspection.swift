// What `slimtad check` looks at beside the text of slimta.conf: would the daemon find all that it names, with the rights
// that it will have?

import Glibc
import SlimtaConfiguration
import SlimtaEdge
import SlimtaMail
import SlimtaRules
import SlimtaSASL
import SlimtaSystem
import SlimtaTLS

/// Looks at ports, files and rights. What needs root's rights comes first; then root becomes the service's user, and looks
/// at files as that does.
struct Inspection {
    /// Why slimtad would not start, with lines.
    private(set) var errors: [String] = []
    /// What is worth a look and keeps nothing from running.
    private(set) var warnings: [String] = []
    /// What was found in order.
    private(set) var facts: [String] = []

    let file: ConfigurationFile
    let unit = ServiceUnit()
    let isRoot = Privileges.isRoot
    /// Who the daemon will be.
    var user: String
    /// What systemd passes under a name, as far as it can be found.
    private var credentials: [String: Result<[UInt8], SystemError>] = [:]

    init(_ file: ConfigurationFile) {
        self.file = file
        user = Accounts.userName(geteuid())
    }

    mutating func run() {
        let unboundPaths = lookAtListeners()
        findCredentials()
        becomeService()
        if access(file.path, R_OK) != 0 {
            error("", "\(user) cannot read this file: \(reason(errno)); a reload would fail")
        }
        lookAtDirectories()
        lookAtFolders(of: unboundPaths)
        lookAtPickupFolders()
        lookAtTrustedUsers()
        if let tls = file.values.tls, file.values.edges.contains(where: { $0.access.tls != .cleartext }) {
            look(at: tls)
        }
        if file.values.hasAuth {
            if file.values.auth.backends.contains(.file) { lookAtUsers() }
            if let dovecot = file.values.auth.dovecot { ask(dovecot) }
            if let oauth = file.values.auth.usedOAuth { look(at: oauth) }
            if let pam = file.values.auth.pam { look(at: pam) }
        }
        for zone in file.values.zoneFiles { lookForText(zone) }
        lookAtSigningKeys()
        for warning in file.values.warnings { warn(warning.keyPath, warning.text) }
        lookAtLists()
        lookAtServices()
        look(at: file.values.relay, "relay")
        for (index, route) in file.values.routes.enumerated() { look(at: route.relay, "route[\(index)]") }
        for password in file.values.passwordFiles { lookForText(password) }
        lookAtRelayKeys()
        lookAtDatabase()
    }

    mutating func error(_ key: String, _ text: String) { errors.append(placed(key, text)) }

    mutating func warn(_ key: String, _ text: String) { warnings.append(placed(key, text)) }

    mutating func note(_ fact: String) { facts.append(fact) }

    private func placed(_ key: String, _ text: String) -> String {
        key.isEmpty ? "\(file.path): \(text)" : "\(file.path):\(file.line(of: key)): \(key): \(text)"
    }

    /// Whether what is looked at now is looked at as the service's user.
    var isService: Bool { file.serviceUser == nil || file.serviceUser == geteuid() }

    func reason(_ number: CInt) -> String { String(cString: strerror(number)) }

    // MARK: With the rights of who calls

    /// Credentials are there while the service runs, or in files that the unit names.
    private mutating func findCredentials() {
        for named in file.values.credentialFiles where named.reference.hasPrefix("credential:") {
            for path in named.credentialPlaces(unit) {
                do throws(SystemError) {
                    // Whose the copy is that the service gets is systemd's matter.
                    let content = try SecureFile.read(path, maximum: named.maximum, mustNotBeReadableByOthers: false)
                    credentials[named.reference] = .success(content)
                } catch {
                    guard error.code == .invalid else { continue }
                    credentials[named.reference] = .failure(error)
                }
                break
            }
        }
    }

    private mutating func becomeService() {
        let daemon = file.values.daemon
        guard Privileges.isRoot else {
            if let service = file.serviceUser, service != geteuid() {
                warn(
                    "daemon.user",
                    "looked at as \(user), not as \(daemon.user): run check as root to see what it may read")
            }
            return
        }
        do throws(SystemError) {
            let identity = try Privileges.lookUp(user: daemon.user, group: daemon.group)
            try Privileges.drop(to: identity)
            user = daemon.user
        } catch {
            self.error("daemon.user", "\(error)")
        }
    }

    // MARK: As the service's user

    /// The content of a file that a key names; nil: told.
    mutating func read(_ named: NamedFile) -> [UInt8]? {
        do throws(SystemError) {
            if let content = try find(named) { return content }
        } catch {
            self.error(named.key, "\(error)\(error.number == EACCES ? unreadable : "")")
            return nil
        }
        let name = String(named.reference.dropFirst("credential:".count))
        if unit?.lacksCredential(name, forConfiguration: file.path) == true {
            self.error(
                named.key,
                "\(named.reference): slimtad.service passes no such credential: LoadCredential=\(name):/path in a drop-in "
                    + "(systemctl edit slimtad), then a restart")
            return nil
        }
        warn(
            named.key,
            "\(named.reference) cannot be looked at: no LoadCredential= of the unit names a file that can be read here")
        return nil
    }

    /// The same without a word; nil: a credential that cannot be looked at from here.
    func find(_ named: NamedFile) throws(SystemError) -> [UInt8]? {
        guard named.reference.hasPrefix("credential:") else { return try named.read(service: file.serviceUser) }
        return try credentials[named.reference]?.get()
    }

    /// Whether there is a password or a zone in a file; what is wrong is told, what is found is not shown.
    private mutating func lookForText(_ named: NamedFile) {
        guard let content = read(named) else { return }
        do throws(SystemError) { _ = try named.text(in: content) } catch { self.error(named.key, "\(error)") }
    }

    /// What is to be done about a file that the service cannot read.
    private var unreadable: String {
        "; \(user) must be able to, at every reload: chgrp \(file.values.daemon.group), chmod 0640, and its folders"
    }

    private mutating func lookAtDirectories() {
        for (key, path) in [("state_directory", file.stateDirectory), ("runtime_directory", file.runtimeDirectory)] {
            lookForWriting(path, "daemon.\(key)", isOwn: true)
        }
    }

    /// Whether those who may send as anybody exist.
    private mutating func lookAtTrustedUsers() {
        for (index, edge) in file.values.edges.enumerated() {
            let names: [String]
            switch edge.type {
            case .sendmail(let sendmail): names = sendmail.trustedUsers
            case .directory(let directory): names = directory.ownerLogin ? directory.trustedUsers : []
            case .smtp, .http: names = []
            }
            for name in names where Privileges.userID(name) == nil {
                warn("edge[\(index)].trusted_users", "there is no user \(name.visible)")
            }
        }
    }

    private mutating func lookAtPickupFolders() {
        for (index, edge) in file.values.edges.enumerated() {
            guard case .directory(let directory) = edge.type else { continue }
            let (key, daemon) = ("edge[\(index)].path", file.values.daemon)
            // Who does not come as root looks at what the service would find, as far as that is to be seen.
            let found = FolderFindings(
                directory, user: isService ? user : daemon.user, uid: file.serviceUser ?? geteuid(), group: daemon.group
            )
            for text in found.errors { error(key, text) }
            for text in found.warnings { warn(key, text) }
            warnOfSandbox(directory.path, key)
        }
    }

    /// Whether the service can write to a folder, or make it where it is missing.
    private mutating func lookForWriting(_ path: String, _ key: String, isOwn: Bool = false) {
        var status = stat()
        if stat(path, &status) == 0 {
            if status.st_mode & S_IFMT != S_IFDIR {
                error(key, "\(path) is no folder")
            } else if access(path, W_OK | X_OK) != 0 {
                error(key, "\(user) cannot write to \(path): \(reason(errno))")
            }
        } else if errno != ENOENT {
            error(key, "\(user) cannot reach \(path): \(reason(errno))")
        } else if !isOwn {
            // Our own are made by systemd, tmpfiles.d or a start as root.
            let parent = path.lastIndex(of: "/").map { String(path[..<$0]) } ?? ""
            if access(parent.isEmpty ? "/" : parent, W_OK | X_OK) != 0 {
                error(key, "\(path) is not there, and \(user) cannot make it: \(reason(errno))")
            }
        }
        warnOfSandbox(path, key)
    }

    mutating func warnOfSandbox(_ path: String, _ key: String) {
        if let unit, !unit.mayWrite(path) {
            warn(
                key,
                "the unit's sandbox lets nobody write to \(path): ReadWritePaths=\(path) in a drop-in (systemctl edit slimtad)"
            )
        }
    }

    private mutating func look(at tls: Configuration.TLS) {
        var tls = tls
        // What is wrong with it is said once.
        if let clients = tls.clientFile, read(clients) == nil { tls.clientCA = nil }
        var names: [String] = []
        for (pair, certificateFile, keyFile) in tls.files {
            let certificate = read(certificateFile)
            let secret = read(keyFile)
            guard let certificate else { continue }
            do throws(TLSError) {
                let facts = try CertificateFacts(certificatePEM: certificate)
                names += facts.names
                tell(facts, pair, certificateFile.key)
                guard let secret else { continue }
                let context = try Certificates.context(certificate: certificate, key: secret, tls)
                guard let path = tls.clientCA, let end = context.revocationExpiry else { continue }
                let expiry = Certificates.Expiry(
                    path: path, time: Timestamp(milliseconds: end * 1000), isOfRevocations: true)
                if let warning = expiry.warning(.now()) { warn("tls.client_ca", warning) }
                tls.clientCA = nil
            } catch {
                if error.code == .trust {
                    self.error("tls.client_ca", "\(user) needs certificates in PEM there: \(error)")
                    tls.clientCA = nil
                    continue
                }
                self.error(certificateFile.key, "\(pair.certificate) and \(pair.key): \(error)")
            }
        }
        if !names.isEmpty, !names.contains(where: { CertificateFacts.matches($0, file.hostname) }) {
            warn(
                "tls.certificate",
                "no certificate is for \(file.hostname), but for \(Set(names).sorted().joined(separator: ", "))")
        }
    }

    private mutating func tell(_ certificate: CertificateFacts, _ pair: Configuration.TLS.Pair, _ key: String) {
        let end = Timestamp(milliseconds: certificate.expiry * 1000)
        let chain = certificate.chain.map(\.visible).joined(separator: ", by ")
        facts.append(
            "certificate \(pair.certificate): for \(certificate.names.map(\.visible).joined(separator: " ")), issued by "
                + "\(chain), until \(end.isoDate)")
        if pair.key.hasPrefix("credential:") { facts.append("key \(pair.key): a new one needs a restart") }
        if let warning = Certificates.Expiry(path: pair.certificate, time: end).warning(.now()) { warn(key, warning) }
        if certificate.isSelfSigned {
            warn(key, "\(pair.certificate) is self-signed: clients refuse it until they are told to trust it")
        } else if let problem = certificate.chainProblem {
            warn(
                key,
                "\(pair.certificate) leads to no root that this system knows (\(problem)): is an intermediate missing?")
        }
    }

    private mutating func lookAtUsers() {
        let (key, path) = ("auth.users", file.values.auth.users)
        if access(path, F_OK) != 0, errno == ENOENT {
            return warn(key, "\(path) does not exist; make a user with: slimtad passwd NAME")
        }
        guard let octets = read(NamedFile(.users, path, key)) else { return }
        guard let text = String(validating: octets, as: UTF8.self) else { return error(key, "\(path) is not UTF-8") }
        let users = UsersFile(text)
        warnings += Secrets.Complaint.about(users, file).map(\.description)
        warnings += Self.warnings(about: users, file)
        if file.values.auth.learnSCRAM { lookForLearning(path) }
        let unbound = users.users.filter { name, user in
            user.senders == nil && file.values.senders.isUnbound(name, nil)
        }.keys.sorted()
        let shown =
            unbound.prefix(5).joined(separator: ", ") + (unbound.count > 5 ? " and \(unbound.count - 5) more" : "")
        if !unbound.isEmpty, !file.values.signing.keys.isEmpty {
            warn(
                key,
                "\(shown): nothing says as whom they may send, and mail from every domain of [[dkim]] is signed for them: "
                    + "slimtad passwd NAME --senders, or [[senders]]")
        }
        facts.append(
            "users: \(users.users.count) in \(path)"
                + (unbound.isEmpty ? "" : "; as anybody, for neither it nor [[senders]] says as whom: \(shown)"))
    }

    /// Whether Dovecot says what it offers, and something of it is used.
    private mutating func ask(_ dovecot: ServiceAddress) {
        let key = "auth.dovecot.socket"
        guard let address = try? dovecot.socketAddress else {
            return error(key, "\(dovecot) is longer than a socket's path can be")
        }
        if case .unix(let path) = dovecot, !lookForSocket(path, key, Self.loginsWait) { return }
        switch DovecotClient.offer(at: address) {
        case .success(let names):
            facts.append("Dovecot at \(dovecot): \(names.sorted().joined(separator: " ").visible)")
            if DovecotBackEnd.mechanisms(of: names).isDisjoint(with: file.values.auth.mechanisms) {
                warn("auth.mechanisms", "Dovecot offers none of them, and nobody can log in by it")
            }
        case .failure(let error): warn(key, "\(dovecot) cannot be asked: \(error); \(Self.loginsWait)")
        }
    }

    /// The file is written anew beside the old one.
    private mutating func lookForLearning(_ path: String) {
        let folder = path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "/"
        guard access(folder, W_OK | X_OK) != 0 else { return warnOfSandbox(folder, "auth.learn_scram") }
        warn(
            "auth.learn_scram",
            "\(user) cannot write into \(folder), and learns nothing: put the users file into a folder of its own, which "
                + "is \(user)'s")
    }

    /// The lists of rules, as a reload would read them.
    private mutating func lookAtLists() {
        var seen: Set<ListReference> = []
        for (key, reference) in Lists.references(of: file.values.rules) where seen.insert(reference).inserted {
            do throws(Lists.Problem) {
                let (_, count, isMap) = try Lists.read(reference)
                let entries = count == 1 ? "1 entry" : "\(count) entries"
                facts.append("list \(reference.path): \(entries)" + (isMap ? ", on disk" : ""))
            } catch {
                let hint = error.number == EACCES ? unreadable : ""
                for line in error.lines { self.error(key, line + hint) }
            }
        }
    }

    private mutating func look(at relay: Configuration.Relay, _ key: String) {
        switch relay.type {
        case .mx, .blackhole, .smtp, .lmtp: return
        case .lmtpSocket(let path): lookForSocket(path, "\(key).socket", Self.mailWaits)
        case .maildir(let path): lookForWriting(path, "\(key).path")
        case .pipe(let pipe): look(at: pipe, key)
        case .http(let server):
            if let socket = server.socket { lookForSocket(socket, "\(key).socket", Self.mailWaits) }
            guard let file = server.trustFile else { return }
            do throws(TLSError) { _ = try TLSClientContext(verifies: true, trustFile: file) } catch {
                self.error("\(key).trust_file", "\(error)")
            }
        }
    }
}
