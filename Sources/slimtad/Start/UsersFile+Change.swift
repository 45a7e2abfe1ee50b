// Changing the users file: under its lock, from the file as it is then, and whole or not at all. `slimtad passwd` does it, and
// a daemon that learns SCRAM keys.

import Glibc
import SlimtaConfiguration
import SlimtaEdge
import SlimtaSASL
import SlimtaSystem

extension UsersFile {
    /// Reads, changes and writes the file of a configuration. What `body` throws leaves it as it was, and so does somebody
    /// who writes to it meanwhile without the lock, as editors do.
    ///
    /// - Parameters:
    ///   - user: whose line is changed: it may be one that is not understood; all others must be.
    ///   - waiting: is called if somebody else changes the file just now.
    static func change<Result>(
        _ file: ConfigurationFile, of user: String, waiting: () -> Void = {},
        _ body: (inout UsersFile) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        let path = file.values.auth.users
        let lock: FileLock
        do throws(SystemError) { lock = try FileLock(path, waiting: waiting) } catch {
            throw Failure(.cannotCreate, error.description)
        }
        return try change(file, of: user, under: lock, body)
    }

    /// The same, by who has the lock.
    static func change<Result>(
        _ file: ConfigurationFile, of user: String, under lock: FileLock,
        _ body: (inout UsersFile) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        defer { withExtendedLifetime(lock) {} }
        let path = file.values.auth.users
        let stamp = FileStamp(of: path)
        var users = try readForChange(file, of: user)
        let result = try body(&users)
        do throws(SystemError) {
            try SecureFile.replace(
                path, with: Array(users.text.utf8), group: Privileges.isRoot ? file.values.daemon.group : nil,
                if: { FileStamp(of: path) == stamp })
        } catch {
            throw Failure(.cannotCreate, error.description)
        }
        return result
    }

    /// The file, if this user's line may be changed.
    static func readForChange(_ file: ConfigurationFile, of user: String) throws(Failure) -> UsersFile {
        let users = try read(file)
        if let obstacle = users.obstacle(toChanging: user) {
            throw Failure(
                .configuration, "\(file.values.auth.users): \(obstacle); mend that line first, nothing was changed")
        }
        return users
    }

    /// The users file of a configuration as it is on disk; empty if there is none.
    static func read(_ file: ConfigurationFile) throws(Failure) -> UsersFile {
        let path = file.values.auth.users
        let octets: [UInt8]
        do throws(SystemError) {
            octets = try SecureFile.read(path, maximum: 64 << 20, mustNotBeReadableByOthers: false)
        } catch {
            guard error.code == .notFound else { throw Failure(error) }
            return UsersFile()
        }
        guard let text = String(validating: octets, as: UTF8.self) else {
            throw Failure(.configuration, "\(path) is not UTF-8; nothing was changed")
        }
        return UsersFile(text)
    }
}

extension Configuration {
    /// Why nobody logs in by the users file; nil: it is asked.
    var unusedUsers: String? {
        guard !auth.backends.contains(.file) else { return nil }
        let names = auth.backends.map { "\"\($0.rawValue)\"" }.joined(separator: ", ")
        return "nobody can log in by it: slimtad does not ask that file, for auth.backends is [\(names)]"
    }
}

extension Configuration.Auth {
    /// The hashes for which a user needs keys to use all the mechanisms.
    var scramHashes: [SCRAMHash] {
        let needed = Set(mechanisms.compactMap(\.scram))
        return SCRAMHash.allCases.filter(needed.contains)
    }

    /// A user's keys for all of them. Slow.
    func scramKeys(_ password: some Collection<UInt8>, but known: Set<SCRAMHash> = []) -> [SCRAMKeys] {
        scramHashes.filter { !known.contains($0) }
            .map { SCRAMKeys(password: password, $0, iterations: scramIterations) }
    }
}
