// What the daemon keeps of logins: when the passwords of applications were last used, the secret behind the salts of users
// that do not exist, where logins are familiar and who is turned away, and SCRAM keys that it learns. `World` has one.

import Glibc
import Logging
import NIOPosix
import SlimtaConfiguration
import SlimtaCrypto
import SlimtaEdge
import SlimtaMail
import SlimtaSASL
import SlimtaSystem
import Synchronization

/// The files in the state directory that are about logins.
struct LoginRecords: Sendable {
    /// What invented SCRAM keys are derived from (RFC 5802 has none): the same as long as the state directory is.
    let inventing: SecretOctets
    let uses: AppPasswordUses
    private let guesses: String
    private let isLost = Flag()
    private let logger: Logger

    /// Reads what is there, and makes what is not.
    init(_ file: ConfigurationFile, _ guesses: GuessWatch, _ logger: Logger) throws(Failure) {
        inventing = try Self.secret(in: file.stateDirectory)
        uses = AppPasswordUses(in: file.stateDirectory, logger)
        self.guesses = "\(file.stateDirectory)/guesses"
        self.logger = logger
        if let octets = try? SecureFile.read(self.guesses, maximum: 64 << 20, mustNotBeReadableByOthers: false) {
            guesses.restore(String(decoding: octets, as: UTF8.self))
        }
    }

    /// Writes where logins are familiar and who is turned away, if that has changed.
    func keepGuesses(of watch: GuessWatch) {
        guard let record = watch.takeRecord() else { return }
        do throws(SystemError) {
            try SecureFile.replace(guesses, with: Array(record.utf8))
            _ = isLost.swap(false)
        } catch {
            watch.recordIsLost()
            // Tried every ten seconds: said once, until it succeeds.
            guard !isLost.swap(true) else { return }
            logger.warning("failed logins are not kept", metadata: ["error": "\(error)"])
        }
    }

    /// Made once: a new one at each start would tell invented salts from those of users.
    private static func secret(in directory: String) throws(Failure) -> SecretOctets {
        let path = "\(directory)/scram-secret"
        do throws(SystemError) {
            do throws(SystemError) {
                var octets = try SecureFile.read(path, maximum: 64, mustNotBeReadableByOthers: true)
                defer { octets.wipe() }
                guard octets.count == 32 else { throw SystemError(.invalid, "\(path) is not 32 octets; delete it") }
                return SecretOctets(octets)
            } catch {
                guard error.code == .notFound else { throw error }
                var octets = RandomOctets.secret(32)
                defer { octets.wipe() }
                try SecureFile.replace(path, with: octets)
                return SecretOctets(octets)
            }
        } catch {
            throw Failure(error)
        }
    }
}

/// Whether something is so, for all copies of who holds it.
private final class Flag: Sendable {
    private let isSet = Mutex(false)

    /// Sets it; returns what it was.
    func swap(_ new: Bool) -> Bool {
        isSet.withLock { isSet in
            defer { isSet = new }
            return isSet
        }
    }
}

/// When the passwords of applications were last used, to the minute. In a file, so that it outlives the daemon and
/// `slimtad passwd --list` sees it.
final class AppPasswordUses: Sendable {
    private struct State {
        /// By `LOGIN:APP`, neither of which has a colon.
        var uses: [String: Timestamp]
        var isWriting = false
    }

    private let path: String
    private let logger: Logger
    private let state: Mutex<State>

    init(in directory: String, _ logger: Logger) {
        path = Self.path(in: directory)
        self.logger = logger
        state = Mutex(State(uses: Self.read(in: directory)))
    }

    private static func path(in directory: String) -> String { "\(directory)/app-passwords" }

    /// By `LOGIN:APP`; empty if nothing can be read.
    static func read(in directory: String) -> [String: Timestamp] {
        guard
            let octets = try? SecureFile.read(
                path(in: directory), maximum: 64 << 20, mustNotBeReadableByOthers: false)
        else { return [:] }
        var uses: [String: Timestamp] = [:]
        for line in String(decoding: octets, as: UTF8.self).split(separator: "\n") {
            guard let end = line.lastIndex(of: "="), let time = Timestamp(isoDate: String(line[end...].dropFirst()))
            else { continue }
            uses[String(line[..<end])] = time
        }
        return uses
    }

    /// An application has logged in. Returns at once.
    func used(_ login: String, _ app: String) {
        let now = Timestamp.now()
        let mustWrite = state.withLock { state in
            let name = "\(login):\(app)"
            if let last = state.uses[name], now < last + .seconds(60) { return false }
            state.uses[name] = now
            defer { state.isWriting = true }
            return !state.isWriting
        }
        if mustWrite { NIOThreadPool.singleton.submit { _ in self.write() } }
    }

    private func write() {
        let uses = state.withLock { state in
            state.isWriting = false
            return state.uses
        }
        let text = uses.sorted { $0.key < $1.key }.map { "\($0)=\($1.isoDate)\n" }.joined()
        do throws(SystemError) { try SecureFile.replace(path, with: Array(text.utf8)) } catch {
            logger.warning("last use of passwords is not kept", metadata: ["error": "\(error)"])
        }
    }
}

/// Gives SCRAM keys to users whose password has just been proved.
final class SCRAMLearning: Sendable {
    private let file: ConfigurationFile
    private let logger: Logger
    /// Whose keys could not be written: said once.
    private let failed = Mutex<Set<String>>([])

    init(_ file: ConfigurationFile, _ logger: Logger) {
        self.file = file
        self.logger = logger
    }

    /// Writes the keys that are wanting, unless the password has been changed meanwhile. While somebody else changes the file
    /// there is no waiting, for others wait for their passwords to be checked: the user's next login is another time. Slow.
    func learn(_ login: String, _ user: UsersFile.User, _ password: SecretOctets) {
        let auth = file.values.auth
        guard !auth.scramHashes.allSatisfy({ user.keys[$0] != nil }), !failed.withLock({ $0.contains(login) }) else {
            return
        }
        do throws(Failure) {
            let lock: FileLock?
            do throws(SystemError) { lock = try FileLock.ifFree(auth.users) } catch { throw Failure(error) }
            guard let lock else { return }
            let keys = auth.scramKeys(password, but: Set(user.keys.keys))
            let isLearned = try UsersFile.change(file, of: login, under: lock) { (users) throws(Failure) -> Bool in
                guard var now = users.users[login], now.hash == user.hash else { return false }
                for key in keys where now.keys[key.hash] == nil { now.keys[key.hash] = key }
                users.set(login, now)
                return true
            }
            if isLearned { logger.info("SCRAM keys learned", metadata: ["login": "\(login)"]) }
        } catch {
            failed.withLock { _ = $0.insert(login) }
            logger.warning(
                "SCRAM keys cannot be written", metadata: ["login": "\(login)", "error": "\(error.message)"])
        }
    }
}
