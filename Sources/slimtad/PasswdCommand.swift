// `slimtad passwd`: adds, changes and deletes users of the users file.

import ArgumentParser
import Glibc
import SlimtaConfiguration
import SlimtaEdge
import SlimtaSystem

struct PasswdCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "passwd",
        abstract: "Set a user's password, or delete a user.",
        discussion: """
            On a terminal the password is asked for twice; otherwise one line of standard input is it. A running \
            slimtad knows of the change after a reload.
            """)

    @OptionGroup var config: ConfigurationOption

    @Argument(help: "The user's name.")
    var user: String

    @Flag(help: "Delete the user.")
    var delete = false

    @Option(help: "The addresses that the user may send as, separated by commas: a@example.com, @example.com.")
    var senders: String?

    func run() {
        orExit { () throws(Failure) in
            let file = try ConfigurationFile.parse(config.path)
            let path = file.values.auth.users
            guard UsersFile.isName(user) else {
                throw Failure(.usage, "\"\(user)\" cannot be a user's name: no colons, no control characters")
            }
            var users = try read(path)
            if delete {
                guard users.delete(user) else {
                    throw Failure(.configuration, "there is no user \"\(user)\" in \(path)")
                }
            } else {
                let senders = try self.senders?.split(separator: ",").map { sender throws(Failure) in
                    let sender = String(sender)
                    guard UsersFile.isSender(sender) else {
                        throw Failure(.usage, "\"\(sender)\" is neither an address nor @domain")
                    }
                    return sender
                }
                users.set(user, hash: PasswordHash(hashing: try password()), senders: senders)
            }
            do throws(SystemError) {
                try SecureFile.replace(
                    path, with: Array(users.text.utf8), group: Privileges.isRoot ? file.values.daemon.group : nil)
            } catch {
                throw Failure(.cannotCreate, error.description)
            }
        }
    }

    private func read(_ path: String) throws(Failure) -> UsersFile {
        let octets: [UInt8]
        do throws(SystemError) {
            octets = try SecureFile.read(path, maximum: 64 << 20, mustNotBeReadableByOthers: false)
        } catch {
            guard error.code == .notFound else { throw Failure(error) }
            return UsersFile()
        }
        guard let text = String(validating: octets, as: UTF8.self) else {
            throw Failure(.configuration, "\(path) is not UTF-8")
        }
        return UsersFile(text)
    }

    private func password() throws(Failure) -> [UInt8] {
        let password: String
        if isatty(STDIN_FILENO) == 1 {
            guard let first = prompt("Password: "), let second = prompt("Again: ") else {
                throw Failure(.usage, "no password was given")
            }
            guard first == second else { throw Failure(.usage, "the passwords are not the same; nothing was changed") }
            password = first
        } else {
            guard let line = readLine(strippingNewline: true) else { throw Failure(.usage, "no password was given") }
            password = line
        }
        guard !password.isEmpty else { throw Failure(.usage, "an empty password cannot be used") }
        guard password.utf8.count <= 500, !password.utf8.contains(0) else {
            throw Failure(.usage, "the password is longer than 500 octets")
        }
        return Array(password.utf8)
    }

    /// Asks on the terminal without showing what is typed.
    private func prompt(_ text: String) -> String? {
        var octets = Array(text.utf8)
        write(STDERR_FILENO, &octets, octets.count)
        var settings = termios()
        tcgetattr(STDIN_FILENO, &settings)
        let shown = settings
        settings.c_lflag &= ~tcflag_t(ECHO)
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &settings)
        defer {
            var shown = shown
            tcsetattr(STDIN_FILENO, TCSAFLUSH, &shown)
            var newline: UInt8 = 10
            write(STDERR_FILENO, &newline, 1)
        }
        return readLine(strippingNewline: true)
    }
}
