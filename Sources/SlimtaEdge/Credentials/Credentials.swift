// Is this password right? Asked by sessions; answered off the event loops, since a password hash is slow on purpose.

internal import SlimtaCrypto
package import SlimtaSASL
package import SlimtaSMTP
import Synchronization

/// Checks passwords.
package protocol CredentialBackend: Sendable {
    /// Calls `completion` once, on any thread.
    ///
    /// - Parameter source: whom failures are counted for; nil: a UNIX socket.
    func check(
        _ credentials: Credentials, from source: ConnectionLimiter.Source?,
        completion: @escaping @Sendable (SMTPServerMachine.PasswordResult) -> Void)
}

/// The back end for a users file. The daemon has one, and gives it each new reading of the file.
package final class FileCredentials: CredentialBackend {
    /// One reading of the file.
    private struct Reading: Sendable {
        let verifier: LoginVerifier
        let verified: VerifiedLogins
    }

    private let checks: PasswordChecks
    private let lifetime: Duration
    private let reading: Mutex<Reading>

    /// - Parameter lifetime: how long a right password is remembered, as a keyed digest, so that it is not hashed again.
    package init(
        _ file: UsersFile, foldsCase: Bool = false, checks: PasswordChecks, lifetime: Duration = .seconds(300)
    ) {
        self.checks = checks
        self.lifetime = lifetime
        reading = Mutex(Self.read(file, foldsCase, lifetime))
    }

    /// Takes a new reading of the file, for sessions that have begun as well. Nothing that was verified with the old one
    /// holds.
    package func replace(_ file: UsersFile, foldsCase: Bool) {
        let new = Self.read(file, foldsCase, lifetime)
        reading.withLock { $0 = new }
    }

    private static func read(_ file: UsersFile, _ foldsCase: Bool, _ lifetime: Duration) -> Reading {
        Reading(verifier: LoginVerifier(file, foldsCase: foldsCase), verified: VerifiedLogins(lifetime: lifetime))
    }

    /// Answers at once what was verified lately; hashes else, when the checks that wait before it are done. A login that does
    /// not exist takes as long as one that does.
    package func check(
        _ credentials: Credentials, from source: ConnectionLimiter.Source?,
        completion: @escaping @Sendable (SMTPServerMachine.PasswordResult) -> Void
    ) {
        let reading = reading.withLock { $0 }
        let (verifier, verified) = (reading.verifier, reading.verified)
        let login = verifier.name(of: credentials.login)
        let digest = verified.digest(login, credentials.password)
        let check = PasswordCheckMachine.Check(source: source, login: login.hashValue, password: digest.prefix)
        let known: @Sendable () -> SMTPServerMachine.PasswordResult? = {
            verified.isVerified(login, digest) ? verifier.user(login).map { .right($0) } : nil
        }
        let hashed: @Sendable () -> SMTPServerMachine.PasswordResult = {
            guard verifier.isRight(credentials.password, for: login), let user = verifier.user(login) else {
                return .wrong
            }
            verified.verified(login, digest)
            return .right(user)
        }
        checks.check(check, PasswordChecks.Work(known: known, hashed: hashed), completion: completion)
    }
}

/// What a users file says of a login and its password: a value, without threads and memory of what was.
package struct LoginVerifier: Sendable {
    private let users: [String: UsersFile.User]
    /// Names by their folded form; nil: case counts.
    private let folded: [String: [String]]?
    /// A hash that no password has for each cost that the file's hashes have; by cost.
    private let decoys: [(cost: String, hash: PasswordHash)]

    /// - Parameter foldsCase: `[auth] fold_case`.
    package init(_ file: UsersFile, foldsCase: Bool) {
        users = file.users
        folded = foldsCase ? Dictionary(grouping: file.users.keys) { $0.lowercased() } : nil
        var decoys: [String: PasswordHash] = [:]
        for (_, user) in file.users where decoys[user.hash.cost] == nil {
            decoys[user.hash.cost] = user.hash.unmatchable()
        }
        if decoys.isEmpty {
            let decoy = PasswordHash(hashing: Array("decoy".utf8)).unmatchable()
            decoys[decoy.cost] = decoy
        }
        self.decoys = decoys.map { ($0.key, $0.value) }.sorted { $0.cost < $1.cost }
    }

    /// The user's name as the file spells it, for a login as a client does; the login, folded where case is, if there is
    /// none. A name that is spelled so is taken before one that differs by case.
    package func name(of login: String) -> String {
        guard let folded, users[login] == nil else { return login }
        let key = login.lowercased()
        guard let names = folded[key] else { return key }
        // Of two that differ by case only, nobody knows which is meant.
        return names.count == 1 ? names[0] : login
    }

    /// The user of that name.
    package func user(_ name: String) -> AuthenticatedUser? {
        users[name].map { AuthenticatedUser(login: name, senders: $0.senders) }
    }

    /// What is hashed for a login: one hash of each cost that the file has, the user's own among them. So all logins take
    /// as long, whether they exist or not and by whichever method their password is kept.
    func hashes(for name: String) -> [PasswordHash] {
        let own = users[name]?.hash
        return decoys.map { $0.cost == own?.cost ? own ?? $0.hash : $0.hash }
    }

    /// Whether the password is the user's. Slow.
    package func isRight(_ password: SecretOctets, for name: String) -> Bool {
        let own = users[name]?.hash
        var isRight = false
        for hash in hashes(for: name) where hash.matches(password) && hash == own { isRight = true }
        return isRight
    }
}
