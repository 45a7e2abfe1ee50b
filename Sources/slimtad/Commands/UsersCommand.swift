// `slimtad users list|test`: looks at the users file as it is on disk, which is what a running daemon uses within seconds.

import ArgumentParser
import SlimtaConfiguration
import SlimtaControl
import SlimtaEdge
import SlimtaMail
import SlimtaNet
import SlimtaSASL
import SlimtaSMTP
import SlimtaSystem

struct UsersCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "users", abstract: "List the users, or try a password.",
        discussion: "slimtad passwd adds, changes and deletes users.", subcommands: [List.self, Test.self],
        defaultSubcommand: List.self)

    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "list", abstract: "List the users by name.",
            discussion: """
                On a terminal a table; otherwise a line for each user, with tabs between name, method of the hash, the \
                addresses that the user may send as (none: any), the SCRAM hashes with keys, whether and why logins are \
                refused, and other passwords with their last use. Lines that are not understood are told on standard \
                error, and the exit status is 78.
                """)

        @OptionGroup var config: ConfigurationOption

        @Flag(help: "Print a JSON array with an object on each line.")
        var json = false

        func run() {
            orExit { () throws(Failure) in
                let file = try ConfigurationFile.find(config.path, for: ConfigurationFile.settingsOfUsers)
                try UsersTable.print(file, json: json)
            }
        }
    }

    struct Test: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "test", abstract: "Say whether a login and a password are right.",
            discussion: """
                The password is asked for on a terminal; otherwise one line of standard input is it. The passwords of \
                the user's applications are tried too. The exit status is 0 if it is right, 77 if it is not, 78 if there \
                is no such user.
                """)

        @OptionGroup var config: ConfigurationOption

        @Argument(help: "The login, as a client would send it.")
        var name: String

        func run() {
            orExit { () throws(Failure) in
                let file = try ConfigurationFile.parse(config.path)
                let path = file.values.auth.users
                let users = try UsersFile.read(file)
                let verifier = LoginVerifier(users, foldsCase: file.values.auth.foldCase)
                let user = verifier.name(of: name)
                guard let found = verifier.entry(user) else {
                    let line = users.errors.first { $0.name == name }
                    throw Failure(
                        .configuration,
                        line.map { "\(path): \($0)" } ?? "there is no user \"\(name)\" in \(path)")
                }
                var password = try PasswordPrompt.existing()
                defer { password.wipe() }
                let credentials = Credentials(login: user, password: password)
                let app = verifier.app(credentials.password, of: user)
                if app == nil { try Self.refuseWrong(credentials, verifier, path) }
                let right = "the password\(app.map { " for \"\($0.name)\"" } ?? "") is right"
                if let obstacle = found.obstacle(at: .now()) {
                    throw Failure(.notPermitted, "\(right); \(obstacle)")
                }
                let rights = AuthenticatedUser(login: user, senders: found.senders).rights
                let senders = file.values.senders.mailFrom(of: user, rights)?.description ?? "any address"
                let networks = app?.networks.map(\.description).joined(separator: ",") ?? ""
                let places = networks.isEmpty ? "" : " from \(networks)"
                print("\(right); \"\(user)\" may send as \(senders)\(places)".visible)
                if let warning = file.values.unusedUsers { say("warning: \(warning)") }
            }
        }

        /// Throws if the password is not the user's own.
        private static func refuseWrong(
            _ credentials: Credentials, _ verifier: LoginVerifier, _ path: String
        ) throws(Failure) {
            guard let isRight = verifier.isRight(credentials, for: credentials.login) else {
                throw Failure(
                    .temporary,
                    "the password cannot be hashed: there is no memory, or the hash in \(path) is not understood")
            }
            guard isRight else {
                throw Failure(.notPermitted, "the password of \"\(credentials.login)\" is another one")
            }
        }
    }
}

/// The users as `slimtad users list` and `slimtad passwd --list` show them.
enum UsersTable {
    static func print(_ file: ConfigurationFile, json: Bool) throws(Failure) {
        let users = try UsersFile.read(file)
        let uses = AppPasswordUses.look(in: file.stateDirectory)
        var table = Table([
            .init("NAME", 32), .init("HASH", 8), .init("SENDERS", 32), .init("SCRAM", 16), .init("STATE", 24),
            .init("APPLICATIONS"),
        ])
        var isFirst = true
        for (name, user) in users.users.sorted(by: { $0.key < $1.key }) {
            let scram = SCRAMHash.allCases.filter { user.keys[$0] != nil }
            if json {
                Swift.print((isFirst ? "[" : ",") + object(name, user, scram, uses).line)
            } else {
                let apps = user.apps.map { app in
                    "\(app.name) (\(uses["\(name):\(app.name)"].map { "used \($0.isoDate.prefix(16))Z" } ?? "never used"))"
                }
                table.row([
                    name, user.hash.method, (user.senders ?? []).joined(separator: ","),
                    scram.map(\.shortName).joined(separator: ","), state(user), apps.joined(separator: ", "),
                ])
            }
            isFirst = false
        }
        if json { Swift.print(isFirst ? "[]" : "]") }
        guard users.errors.isEmpty else {
            let lines = users.errors.map { "\(file.values.auth.users): \($0)" }
            throw Failure(.configuration, lines.joined(separator: "\n"))
        }
    }

    private static func state(_ user: UsersFile.User) -> String {
        if user.isDisabled { return "disabled" }
        guard let expires = user.expires else { return "" }
        return user.obstacle(at: .now()) == nil ? "until \(expires)" : "expired \(expires)"
    }

    private static func object(
        _ name: String, _ user: UsersFile.User, _ scram: [SCRAMHash], _ uses: [String: Timestamp]
    ) -> JSON {
        .object([
            .init("name", .string(name)), .init("hash", .string(user.hash.method)),
            .init("senders", .array((user.senders ?? []).map { .string($0) })),
            .init("scram", .array(scram.map { .string(String($0.shortName)) })),
            .init("certificates", .array(user.certificates.map { .string($0.hexadecimal) })),
            .init("disabled", .bool(user.isDisabled)),
            .init("expires", user.expires.map { .string($0) } ?? .null),
            .init(
                "applications",
                .array(
                    user.apps.map { app in
                        .object([
                            .init("name", .string(app.name)),
                            .init("networks", .array(app.networks.map { .string($0.description) })),
                            .init("used", uses["\(name):\(app.name)"].map { .string($0.isoDate) } ?? .null),
                        ])
                    })),
        ])
    }
}

extension SCRAMHash {
    /// "SHA-256".
    fileprivate var shortName: Substring { rawValue.dropFirst("SCRAM-".count) }
}
