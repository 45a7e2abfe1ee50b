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
    private let guesses: StateFile
    private let logger: Logger

    /// Reads what is there, and makes what is not. What cannot be used begins anew: logins go on.
    init(_ directory: String, _ watch: GuessWatch, _ logger: Logger) {
        inventing = Self.secret(in: directory, logger)
        uses = AppPasswordUses(in: directory, logger)
        guesses = StateFile("guesses", in: directory, maximum: 64 << 20)
        self.logger = logger
        let path = guesses.path
        guesses.read {
            watch.restore(String(decoding: $0, as: UTF8.self))
        } lost: { why, kept in
            logger.error(
                "failed logins begin anew", metadata: ["file": "\(path)", "error": "\(why)", "kept": "\(kept)"])
            watch.recordIsLost()
        }
    }

    /// Writes where logins are familiar and who is turned away, and when passwords were used, if that has changed.
    func keep(of watch: GuessWatch) {
        uses.write()
        guesses.write {
            watch.takeRecord().map { Array($0.utf8) }
        } failed: { error, isNews in
            watch.recordIsLost()
            // Tried every ten seconds: said once, until it succeeds.
            if isNews { logger.warning("failed logins are not kept", metadata: ["error": "\(error)"]) }
        }
    }

    /// Made once: a new one at each start would tell invented salts from those of users. One that cannot be used stays where
    /// it is, for who can mend it.
    private static func secret(in directory: String, _ logger: Logger) -> SecretOctets {
        let path = "\(directory)/scram-secret"
        var fresh = RandomOctets.secret(32)
        defer { fresh.wipe() }
        do throws(SystemError) {
            do throws(SystemError) {
                var octets = try SecureFile.read(path, maximum: 64, mustNotBeReadableByOthers: true)
                defer { octets.wipe() }
                guard octets.count == 32 else { throw SystemError(.invalid, "\(path) is not 32 octets") }
                return SecretOctets(octets)
            } catch {
                guard error.code == .notFound else { throw error }
                try SecureFile.replace(path, with: fresh)
            }
        } catch {
            logger.error(
                "SCRAM secret cannot be used, another holds until the end",
                metadata: ["file": "\(path)", "error": "\(error)"])
        }
        return SecretOctets(fresh)
    }
}

/// When the passwords of applications were last used, to the minute. In a file, so that it outlives the daemon and
/// `slimtad passwd --list` sees it.
final class AppPasswordUses: Sendable {
    private struct State {
        /// By `LOGIN:APP`, neither of which has a colon.
        var uses: [String: Timestamp] = [:]
        /// Not all of it is in the file, and somebody is about to write it.
        var isNew = false
    }

    private let file: StateFile
    private let logger: Logger
    private let state = Mutex(State())

    init(in directory: String, _ logger: Logger) {
        let file = Self.file(in: directory)
        (self.file, self.logger) = (file, logger)
        file.read { octets in
            let (uses, isWhole) = Self.parse(octets)
            state.withLock { $0.uses = uses }
            return isWhole
        } lost: { why, kept in
            logger.error(
                "last uses of passwords begin anew",
                metadata: ["file": "\(file.path)", "error": "\(why)", "kept": "\(kept)"])
            state.withLock { $0.isNew = true }
        }
        write()
    }

    private static func file(in directory: String) -> StateFile {
        StateFile("app-passwords", in: directory, maximum: maximum)
    }

    private static let maximum = 64 << 20

    /// What the daemon has written, for a command: by `LOGIN:APP`. Says on standard error what it cannot read.
    static func look(in directory: String) -> [String: Timestamp] {
        let path = file(in: directory).path
        do throws(SystemError) {
            let octets = try SecureFile.read(path, maximum: maximum, mustNotBeReadableByOthers: false)
            let (uses, isWhole) = parse(octets)
            if !isWhole { say("warning: \(path) is damaged: not all uses of passwords are known") }
            return uses
        } catch {
            if error.code != .notFound { say("warning: when passwords were used is not known: \(error)") }
            return [:]
        }
    }

    private static func parse(_ octets: [UInt8]) -> (uses: [String: Timestamp], isWhole: Bool) {
        var uses: [String: Timestamp] = [:]
        guard let text = String(validating: octets, as: UTF8.self) else { return (uses, false) }
        var isWhole = true
        for line in text.split(separator: "\n") {
            guard let end = line.lastIndex(of: "="), let time = Timestamp(isoDate: String(line[end...].dropFirst()))
            else {
                isWhole = false
                continue
            }
            uses[String(line[..<end])] = time
        }
        return (uses, isWhole)
    }

    /// An application has logged in. Returns at once.
    func used(_ login: String, _ app: String) {
        let now = Timestamp.now()
        let mustWrite = state.withLock { state in
            let name = "\(login):\(app)"
            if let last = state.uses[name], now < last + .seconds(60) { return false }
            state.uses[name] = now
            defer { state.isNew = true }
            return !state.isNew
        }
        if mustWrite { NIOThreadPool.singleton.submit { _ in self.write() } }
    }

    /// Slow. What was known when it is called is in the file when it returns, if the disk works.
    func write() {
        file.write {
            let uses: [String: Timestamp]? = state.withLock { state in
                guard state.isNew else { return nil }
                state.isNew = false
                return state.uses
            }
            return uses.map { uses in
                Array(uses.sorted { $0.key < $1.key }.map { "\($0)=\($1.isoDate)\n" }.joined().utf8)
            }
        } failed: { error, isNews in
            if isNews { logger.warning("last use of passwords is not kept", metadata: ["error": "\(error)"]) }
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
