// The users file as a back end. Passwords are checked off the event loops, since a password hash is slow on purpose.

package import NIOCore
internal import SlimtaCrypto
package import SlimtaMail
package import SlimtaSASL
package import SlimtaSMTP
import Synchronization

/// The back end for a users file. The daemon has one, and gives it each new reading of the file.
package final class FileCredentials: CredentialBackEnd {
    /// One reading of the file.
    private struct Reading: Sendable {
        let verifier: LoginVerifier
        let observer: Observer
        /// Makes other passwords of those that checks have seen: one that was wrong may be right by this reading.
        let salt = UInt64.random(in: .min ... .max)
    }

    /// What happens to users, for who writes it down. Called on a thread that may wait, or on an event loop: see each.
    package struct Observer: Sendable {
        /// An application has logged in with its password; must not wait.
        package var used: @Sendable (_ login: String, _ app: String) -> Void
        /// Somebody has logged in with the user's own password; may wait. nil: nobody wants to know.
        package var learn: (@Sendable (_ login: String, _ user: UsersFile.User, _ password: SecretOctets) -> Void)?

        /// Without `learn`, SCRAM learns nothing.
        package init(
            used: @escaping @Sendable (_ login: String, _ app: String) -> Void = { _, _ in },
            learn: (@Sendable (_ login: String, _ user: UsersFile.User, _ password: SecretOctets) -> Void)? = nil
        ) {
            self.used = used
            self.learn = learn
        }
    }

    private let checks: PasswordChecks
    private let verified: VerifiedLogins
    private let reading: Mutex<Reading>

    /// - Parameter lifetime: how long a right password is remembered, as a keyed digest, so that it is not hashed again.
    package init(
        _ file: UsersFile, foldsCase: Bool = false, certificates: CertificateLogin = .email, checks: PasswordChecks,
        observer: Observer = Observer(), lifetime: Duration = .seconds(300)
    ) {
        self.checks = checks
        verified = VerifiedLogins(lifetime: lifetime)
        let verifier = LoginVerifier(file, foldsCase: foldsCase, certificates: certificates)
        reading = Mutex(Reading(verifier: verifier, observer: observer))
    }

    /// Takes a new reading of the file, for sessions that have begun as well. What was verified with the old one holds for
    /// users with the same hash.
    package func replace(
        _ file: UsersFile, foldsCase: Bool, certificates: CertificateLogin = .email, observer: Observer = Observer()
    ) {
        let verifier = LoginVerifier(file, foldsCase: foldsCase, certificates: certificates)
        reading.withLock { $0 = Reading(verifier: verifier, observer: observer) }
        verified.keep { verifier.entry($0) != nil }
    }

    /// "file".
    package var name: String { "file" }

    /// Much, since many may wait for few threads.
    package var timeout: TimeAmount { .seconds(60) }

    /// Those that show the password, SCRAM as far as users have keys for it, and EXTERNAL for who has shown a user's
    /// certificate.
    package func mechanisms(on facts: AuthenticationFacts) -> Set<SASLMechanism> {
        let verifier = reading.withLock { $0.verifier }
        let isKnown = facts.certificate.map { !verifier.owners(of: $0).isEmpty } ?? false
        return isKnown ? verifier.mechanisms.union([.external]) : verifier.mechanisms
    }

    /// The client may choose of several users whose the certificate is.
    package func checkCertificate(authorization: String?, _ facts: AuthenticationFacts) async -> CredentialVerdict {
        let verifier = reading.withLock { $0.verifier }
        let owners = facts.certificate.map { verifier.owners(of: $0) } ?? []
        let wanted = authorization.map { name in owners.filter { $0 == verifier.name(of: name) } } ?? owners
        guard let owner = wanted.first else { return .wrong }
        guard wanted.count == 1 else { return .severalLogins }
        return verifier.verdict(owner, at: .now())
    }

    /// Answers at once what was verified lately; hashes else, when the checks that wait before it are done. A login that does
    /// not exist takes as long as one that does.
    package func check(_ credentials: Credentials, _ facts: AuthenticationFacts) async -> CredentialVerdict {
        let place = Mutex<(check: PasswordChecks.Check, number: Int)?>(nil)
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let asked = check(credentials, facts) { continuation.resume(returning: $0) }
                place.withLock { $0 = asked }
                // Who was gone before has left no place.
                if Task.isCancelled { checks.leave(asked.check, asked.number) }
            }
        } onCancel: {
            if let asked = place.withLock({ $0 }) { checks.leave(asked.check, asked.number) }
        }
    }

    /// Who is disabled or has expired, or has a line that is not understood.
    package func bars(_ login: String) -> Bool {
        let verifier = reading.withLock { $0.verifier }
        return verifier.bars(verifier.name(of: login), at: .now())
    }

    /// Whom a login means, spelled as a client may spell it: the user's name, and whether there is one.
    package func user(of login: String) -> (name: String, isThere: Bool) {
        let verifier = reading.withLock { $0.verifier }
        let name = verifier.name(of: login)
        return (name, verifier.entry(name) != nil)
    }

    /// Who has no keys, and who may not log in, has the same answer.
    package func keys(
        of login: String, _ hash: SCRAMHash, _ facts: AuthenticationFacts
    ) async -> SecretAnswer<SCRAMKeys> {
        let verifier = reading.withLock { $0.verifier }
        return verifier.keys(of: verifier.name(of: login), hash, at: .now()).map { .known($0, $1) } ?? .unknown
    }

    /// Who was taken out of the file, disabled or has expired; an application whose password was taken away.
    package func obstacle(of user: AuthenticatedUser) -> String? {
        let verifier = reading.withLock { $0.verifier }
        guard let entry = verifier.entry(user.login) else { return "This login is no more" }
        if let app = user.app, !entry.apps.contains(where: { $0.name == app }) { return "This password is no more" }
        return entry.obstacle(at: .now())
    }

    /// Calls `completion` once, on any thread. Returns the place in the line.
    @discardableResult
    func check(
        _ credentials: Credentials, _ facts: AuthenticationFacts,
        completion: @escaping @Sendable (CredentialVerdict) -> Void
    ) -> (check: PasswordChecks.Check, number: Int) {
        let reading = reading.withLock { $0 }
        let (verifier, verified, observer) = (reading.verifier, verified, reading.observer)
        let login = verifier.name(of: credentials.login)
        let password = credentials.password
        let digest = verified.digest(login, verifier.entry(login)?.hash, password)
        let check = PasswordCheckMachine.Check(
            source: facts.source, standing: facts.standing, login: login.hashValue,
            password: digest.prefix ^ reading.salt)
        let known: @Sendable () -> CredentialVerdict? = {
            if let app = verifier.app(password, of: login) {
                let verdict = verifier.verdict(login, app, from: facts.connection.peer.address, at: .now())
                if case .right = verdict { observer.used(login, app.name) }
                return verdict
            }
            if verified.isRefuted(digest) { return .wrong }
            return verified.isVerified(login, digest) ? verifier.verdict(login, at: .now()) : nil
        }
        let hashed: @Sendable () -> CredentialVerdict = {
            guard let isRight = verifier.isRight(credentials, for: login) else {
                return .unavailable(
                    "the password could not be hashed: there is no memory, or the hash is not understood")
            }
            guard isRight, let user = verifier.entry(login) else {
                verified.refuted(digest)
                return .wrong
            }
            verified.verified(login, digest)
            let verdict = verifier.verdict(login, at: .now())
            if case .right = verdict { observer.learn?(login, user, password) }
            return verdict
        }
        let work = PasswordChecks.Work(known: known, hashed: hashed)
        return (check, checks.check(check, work, completion: completion))
    }
}

/// What a users file says of a login and its password: a value, without threads and memory of what was.
package struct LoginVerifier: Sendable {
    private let users: [String: UsersFile.User]
    /// Names by their folded form; nil: case counts.
    private let folded: [String: [String]]?
    private let certificateLogin: CertificateLogin
    /// Whose lines are not understood, folded where case is.
    private let broken: Set<String>
    /// Names by the digests of certificates and keys.
    private let pinned: [[UInt8]: [String]]
    /// A hash that no password has for each cost that the file's hashes have; by cost.
    private let decoys: [(cost: String, hash: PasswordHash)]

    /// - Parameters:
    ///   - foldsCase: `[auth] fold_case`.
    ///   - certificates: `[auth] certificate_login`.
    package init(_ file: UsersFile, foldsCase: Bool, certificates: CertificateLogin = .email) {
        users = file.users
        broken = Set(file.errors.compactMap(\.name).map { foldsCase ? $0.lowercased() : $0 })
        certificateLogin = certificates
        pinned = file.users.reduce(into: [:]) { pinned, entry in
            for digest in entry.value.certificates { pinned[digest, default: []].append(entry.key) }
        }
        mechanisms = Self.mechanisms(of: file.users.values)
        folded = foldsCase ? Dictionary(grouping: file.users.keys) { $0.lowercased() } : nil
        var decoys: [String: PasswordHash] = [:]
        for (_, user) in file.users where decoys[user.hash.cost] == nil {
            decoys[user.hash.cost] = user.hash.unmatchable()
        }
        if decoys.isEmpty, let decoy = Self.decoy { decoys[decoy.cost] = decoy }
        self.decoys = decoys.map { ($0.key, $0.value) }.sorted { $0.cost < $1.cost }
    }

    /// Of a password that nobody knows, at libxcrypt's default cost.
    private static let decoy = PasswordHash(
        "$y$j9T$HjdrUYGJlZk2Hm59iaHQb/$qfgaq/FLZoy3awB7ANuOWuv231uUt63BxyScu7Xhcs1")

    /// The user's name as the file spells it, for a login as a client does; the login, folded where case is, if there is
    /// none. A name that is spelled so is taken before one that differs by case.
    package func name(of login: String) -> String {
        guard let folded, users[login] == nil else { return login }
        let key = login.lowercased()
        guard let names = folded[key] else { return key }
        // Of two that differ by case only, nobody knows which is meant.
        return names.count == 1 ? names[0] : login
    }

    /// Whether it is a user who may not log in at this time.
    package func bars(_ name: String, at now: Timestamp) -> Bool {
        users[name].map { $0.obstacle(at: now) != nil } ?? broken.contains(folded == nil ? name : name.lowercased())
    }

    /// What the file says of the user of that name.
    package func entry(_ name: String) -> UsersFile.User? { users[name] }

    /// What can be served. SCRAM with a hash for which each user has keys that has any: a client that takes the best of
    /// the list would fail for ever else.
    package let mechanisms: Set<SASLMechanism>

    private static func mechanisms(of users: some Collection<UsersFile.User>) -> Set<SASLMechanism> {
        let kept = users.filter { !$0.isDisabled && !$0.keys.isEmpty }.map { Set($0.keys.keys) }
        let common = kept.dropFirst().reduce(kept.first ?? []) { $0.intersection($1) }
        return Set(SASLMechanism.allCases.filter { $0.scram.map { common.contains($0) } ?? false }).union([
            .plain, .login,
        ])
    }

    /// The keys of a user who may log in at this time, and who that is.
    func keys(of name: String, _ hash: SCRAMHash, at now: Timestamp) -> (SCRAMKeys, AuthenticatedUser)? {
        guard let user = users[name], user.obstacle(at: now) == nil, let keys = user.keys[hash] else { return nil }
        return (keys, AuthenticatedUser(login: name, senders: user.senders))
    }

    /// The users whose the certificate is, in order.
    func owners(of certificate: CertificateIdentity) -> [String] {
        let names =
            certificateLogin == .fingerprint
            ? [certificate.fingerprint, certificate.keyFingerprint].flatMap { pinned[$0] ?? [] }
            : certificateLogin.names(in: certificate).map { name(of: $0) }.filter { users[$0] != nil }
        return Set(names).sorted()
    }

    /// Whose password it is of a user's applications.
    package func app(_ password: SecretOctets, of name: String) -> AppPassword? {
        var found: AppPassword?
        for app in users[name]?.apps ?? [] where app.matches(password) { found = app }
        return found
    }

    /// What is said of a user whose password was right, or that of an application.
    func verdict(
        _ name: String, _ app: AppPassword? = nil, from address: IPAddress? = nil, at now: Timestamp
    ) -> CredentialVerdict {
        guard let user = users[name] else { return .wrong }
        if let obstacle = user.obstacle(at: now) { return .refused(obstacle) }
        if app?.allows(address) == false { return .refused("This password is not for use from your network") }
        return .right(AuthenticatedUser(login: name, senders: user.senders, app: app?.name))
    }

    /// What is hashed for a login: one hash of each cost that the file has, the user's own among them. So all logins take
    /// as long, whether they exist or not and by whichever method their password is kept.
    func hashes(for name: String) -> [PasswordHash] {
        let own = users[name]?.hash
        return decoys.map { $0.cost == own?.cost ? own ?? $0.hash : $0.hash }
    }

    /// Whether they are right: the password as it was typed, or in the form that all keyboards agree on; nil: it could not be
    /// hashed. Slow.
    package func isRight(_ credentials: Credentials, for name: String) -> Bool? {
        let isRight = isRight(credentials.password, for: name)
        guard isRight == false, let prepared = credentials.preparedPassword else { return isRight }
        return self.isRight(prepared, for: name)
    }

    /// Whether the password is the user's; nil: it could not be hashed. Slow.
    package func isRight(_ password: SecretOctets, for name: String) -> Bool? {
        let own = users[name]?.hash
        let answers = hashes(for: name).map { (hash: $0, isRight: $0.matches(password)) }
        if let own { return answers.first { $0.hash == own }?.isRight }
        // As of a user, where nothing can be hashed.
        return answers.allSatisfy { $0.isRight == nil } ? nil : false
    }
}
