// `slimtad passwd`: adds, changes and deletes users of the users file. What is asked on the terminal is in
// PasswordPrompt.swift; `slimtad users` looks at the same file.

import ArgumentParser
import Glibc
import SlimtaConfiguration
import SlimtaEdge
import SlimtaMail
import SlimtaSASL
import SlimtaSystem

struct PasswdCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "passwd",
        abstract: "Set a user's password, or delete a user.",
        discussion: """
            On a terminal the password is asked for twice; otherwise one line of standard input is it. A running \
            slimtad takes the change by itself within seconds. A users file with a line that is not understood is not \
            changed.
            """)

    @OptionGroup var config: ConfigurationOption

    @Argument(help: "The user's name.")
    var user: String

    @Flag(help: "Delete the user.")
    var delete = false

    @Option(
        help: """
            The addresses that the user may send as, separated by commas: a@example.com, @example.com, @.example.com for \
            all domains below it, or *. A new user whose name is an address may send as that, others as anybody.
            """)
    var senders: String?

    func run() {
        orExit { () throws(Failure) in
            let file = try ConfigurationFile.find(config.path, for: ConfigurationFile.settingsOfUsers)
            guard UsersFile.isName(user) else {
                throw Failure(.usage, "\"\(user)\" cannot be a user's name: \(UsersFile.nameRule)")
            }
            let senders = try self.senders?.split(separator: ",").map { sender throws(Failure) in
                let sender = String(sender)
                guard UsersFile.isSender(sender) else {
                    throw Failure(.usage, "\"\(sender)\" is not \(SenderPattern.allowed)")
                }
                return sender
            }
            // Before the password is asked for: nobody is to type it twice in vain.
            _ = try read(file)
            let hash = delete ? nil : try hashed()
            print(try change(file, hash, senders))
            warnOfRights(file)
        }
    }

    /// Reads, changes and writes the file under its lock; says what was done. nil as hash: delete.
    private func change(_ file: ConfigurationFile, _ hash: PasswordHash?, _ senders: [String]?) throws(Failure)
        -> String
    {
        let path = file.values.auth.users
        let done: String
        do throws(SystemError) {
            let lock = try FileLock(path) { say("somebody else changes \(path); waiting") }
            defer { withExtendedLifetime(lock) {} }
            var users: UsersFile
            do throws(Failure) { users = try read(file) } catch { throw SystemError(.invalid, error.message) }
            if let hash {
                let isNew = users.users[user] == nil
                let own = isNew && Mailbox(parsing: user) != nil && UsersFile.isSender(user) ? [user] : nil
                let wasThere = users.set(user, hash: hash, senders: senders ?? own)
                done = "user \"\(user)\" was \(wasThere ? "changed in" : "added to") \(path)"
            } else {
                guard users.delete(user) else {
                    throw SystemError(.invalid, "there is no user \"\(user)\" in \(path); nothing was changed")
                }
                done = "user \"\(user)\" was deleted from \(path)"
            }
            try SecureFile.replace(
                path, with: Array(users.text.utf8), group: Privileges.isRoot ? file.values.daemon.group : nil)
        } catch {
            throw Failure(error.code == .invalid ? .configuration : .cannotCreate, error.description)
        }
        return done + "; a running slimtad takes it within seconds, no reload is needed"
    }

    /// The file, if it may be changed.
    private func read(_ file: ConfigurationFile) throws(Failure) -> UsersFile {
        let users = try UsersFile.read(file)
        if let obstacle = users.obstacle(toChanging: user) {
            throw Failure(
                .configuration, "\(file.values.auth.users): \(obstacle); mend that line first, nothing was changed")
        }
        return users
    }

    private func hashed() throws(Failure) -> PasswordHash {
        var password = try PasswordPrompt.new()
        defer { password.wipe() }
        return PasswordHash(hashing: password)
    }

    /// Root can give the file rights with which the daemon reads it at the start, as root, and never again.
    private func warnOfRights(_ file: ConfigurationFile) {
        let path = file.values.auth.users
        var status = stat()
        guard Privileges.isRoot, let service = file.serviceUser, stat(path, &status) == 0,
            let group = getgrnam(file.values.daemon.group)?.pointee.gr_gid
        else { return }
        let isReadable =
            status.st_uid == service && status.st_mode & S_IRUSR != 0
            || status.st_gid == group && status.st_mode & S_IRGRP != 0
        guard !isReadable else { return }
        say(
            "warning: \(file.values.daemon.user) cannot read \(path), so that slimtad does not take the change; "
                + "chgrp \(file.values.daemon.group) \(path) && chmod 640 \(path)")
    }
}

extension UsersFile {
    /// The users file of a configuration, for commands; empty if there is none.
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
