// `slimtad passwd`: adds, changes and deletes users of the users file. What is asked on the terminal is in
// PasswordPrompt.swift; `slimtad users` looks at the same file.

import ArgumentParser
import Glibc
import SlimtaConfiguration
import SlimtaEdge
import SlimtaMail
import SlimtaSASL
import SlimtaSMTP
import SlimtaSystem
import SlimtaTLS

struct PasswdCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "passwd",
        abstract: "Set a user's password, or change or delete a user.",
        discussion: """
            On a terminal the password is asked for twice; otherwise one line of standard input is it. Its hash is kept, \
            and for the SCRAM mechanisms of [auth] their keys. A running slimtad takes the change by itself within \
            seconds. A users file with a line that is not understood is not changed.
            """)

    @OptionGroup var config: ConfigurationOption

    @Argument(help: "The user's name.")
    var user: String?

    @Flag(help: "List the users, as slimtad users list does.")
    var list = false

    @Flag(help: "Delete the user; with --app or --certificate that alone.")
    var delete = false

    @Flag(help: "Refuse the user's logins, and keep the password.")
    var disable = false

    @Flag(help: "Take the user's logins again.")
    var enable = false

    @Option(help: "The last day on which the user may log in, in UTC: 2027-01-31; never: there is none.")
    var expires: String?

    @Option(help: "Make another password for this application of the user, and print it.")
    var app: String?

    @Option(help: "From where that password can be used, separated by commas: 192.0.2.0/24, 2001:db8::/32; or *.")
    var networks: String?

    @Option(
        help: """
            Let who has this certificate log in as the user, with [auth] certificate_login = "fingerprint": a PEM file, or \
            sha256: and its digest or that of its key.
            """)
    var certificate: String?

    @Option(
        help: """
            The addresses that the user may send as, separated by commas: a@example.com, @example.com, @.example.com for \
            all domains below it, or *. A new user whose name is an address may send as that, others as anybody.
            """)
    var senders: String?

    func validate() throws {
        let isPart = app != nil || certificate != nil
        let changes = [delete && !isPart, disable, enable, expires != nil, app != nil, certificate != nil].count { $0 }
        guard list || user != nil else { throw ValidationError("which user? Or --list.") }
        guard !list || user == nil && changes == 0 && senders == nil else {
            throw ValidationError("--list lists all users, and changes none.")
        }
        guard changes <= 1 else {
            throw ValidationError(
                "one of --delete, --disable, --enable, --expires, --app and --certificate at a time.")
        }
        guard networks == nil || app != nil && !delete else { throw ValidationError("--networks needs --app.") }
        guard senders == nil || changes == 0 else {
            throw ValidationError("--senders is set with a password, and not with other changes.")
        }
    }

    func run() {
        orExit { () throws(Failure) in
            let file = try ConfigurationFile.find(config.path, for: ConfigurationFile.settingsOfUsers)
            guard let user else { return try UsersTable.print(file, json: false) }
            guard UsersFile.isName(user) else {
                throw Failure(.usage, "\"\(user)\" cannot be a user's name: \(UsersFile.nameRule)")
            }
            print(try change(file, user))
            warnOfRights(file)
        }
    }

    /// Does what was asked for; says what that was.
    private func change(_ file: ConfigurationFile, _ user: String) throws(Failure) -> String {
        let path = file.values.auth.users
        let done: String
        if let app {
            done = try changeApp(app, file, user)
        } else if let certificate {
            done = try changeCertificate(certificate, file, user)
        } else if delete {
            done = try write(file, user) { (users) throws(Failure) in
                guard users.delete(user) else { throw Self.unknown(user, path) }
                return "user \"\(user)\" was deleted from \(path)"
            }
        } else if disable || enable {
            done = try edit(file, user) { (entry) throws(Failure) in
                entry.isDisabled = disable
                return "user \"\(user)\" was \(disable ? "disabled" : "enabled") in \(path)"
            }
        } else if let expires {
            guard expires == "never" || UsersFile.User.day(expires) != nil else {
                throw Failure(.usage, "\"\(expires)\" is neither a day, such as 2027-01-31, nor \"never\"")
            }
            done = try edit(file, user) { (entry) throws(Failure) in
                entry.expires = expires == "never" ? nil : expires
                return "user \"\(user)\" may log in \(expires == "never" ? "for ever" : "until \(expires)"), in \(path)"
            }
        } else {
            done = try setPassword(file, user)
        }
        if let unused = file.values.unusedUsers { return "\(done); \(unused)" }
        return done + "; a running slimtad takes it within seconds, no reload is needed"
    }

    private func setPassword(_ file: ConfigurationFile, _ user: String) throws(Failure) -> String {
        let senders = try Self.list(senders, "--senders")
        for sender in senders ?? [] where !UsersFile.isSender(sender) {
            throw Failure(.usage, "\"\(sender)\" is not \(SenderPattern.allowed)")
        }
        // Before the password is asked for: nobody is to type it twice in vain.
        let users = try UsersFile.readForChange(file, of: user)
        let own = Mailbox(parsing: user) != nil && UsersFile.isSender(user) ? [user] : nil
        if let error = users.errors.first(where: { $0.name == user }), senders == nil, own == nil {
            throw Failure(
                .configuration,
                "\(file.values.auth.users): \(error); nothing of that line is kept: say by --senders as whom the user may "
                    + "send, * for anybody")
        }
        var password = try PasswordPrompt.new()
        defer { password.wipe() }
        if let warning = Self.warning(of: password) { say(warning) }
        let hash = PasswordHash(hashing: password)
        let keys = file.values.auth.scramKeys(password)
        return try write(file, user) { (users) throws(Failure) in
            let isNew = users.users[user] == nil
            let wasThere = users.set(user, hash: hash, keys: keys, senders: senders ?? (isNew ? own : nil))
            return "user \"\(user)\" was \(wasThere ? "changed in" : "added to") \(file.values.auth.users)"
        }
    }

    /// Clients of SCRAM that prepare the password and those that do not would send two of them.
    private static func warning(of password: [UInt8]) -> String? {
        guard let prepared = SASLprep.prepare(password), prepared != password else { return nil }
        return "warning: mail programs differ in how they write this password; one of ASCII characters works with all"
    }

    private func changeApp(_ app: String, _ file: ConfigurationFile, _ user: String) throws(Failure) -> String {
        let path = file.values.auth.users
        guard AppPassword.isName(app) else {
            throw Failure(
                .usage, "\"\(app)\" cannot be an application's name: 1 to 64 letters, digits and signs but :;,=[]")
        }
        if delete {
            return try edit(file, user) { (entry) throws(Failure) in
                guard entry.apps.contains(where: { $0.name == app }) else {
                    throw Failure(
                        .configuration, "user \"\(user)\" has no password for \"\(app)\"; nothing was changed")
                }
                entry.apps.removeAll { $0.name == app }
                return "the password of \"\(user)\" for \"\(app)\" was deleted from \(path)"
            }
        }
        var ranges: [NetworkRange] = []
        for text in try networks == "*" ? [] : Self.list(networks, "--networks") ?? [] {
            guard let network = NetworkRange(text) else { throw Failure(.usage, "\"\(text)\" is no network") }
            ranges.append(network)
        }
        let (password, kept) = AppPassword.make(app, networks: ranges)
        let done = try edit(file, user) { (entry) throws(Failure) in
            let wasThere = entry.apps.contains { $0.name == app }
            entry.apps.removeAll { $0.name == app }
            entry.apps.append(kept)
            return "\(wasThere ? "another" : "a") password of \"\(user)\" for \"\(app)\" was written to \(path)"
        }
        print(String(decoding: password, as: UTF8.self))
        return done + "; it is shown only now"
    }

    /// The elements of an option's list. An empty one, of a variable that is not set perhaps, does not mean all.
    private static func list(_ text: String?, _ option: String) throws(Failure) -> [String]? {
        guard let text else { return nil }
        let list = text.split(separator: ",").map(String.init)
        guard !list.isEmpty else { throw Failure(.usage, "\(option) has an empty list; * stands for all") }
        return list
    }

    private func changeCertificate(
        _ certificate: String, _ file: ConfigurationFile, _ user: String
    ) throws(Failure) -> String {
        let digest = try Self.digest(of: certificate)
        return try edit(file, user) { (entry) throws(Failure) in
            let isKnown = entry.certificates.contains(digest)
            guard isKnown == delete else {
                throw Failure(
                    .configuration,
                    "user \"\(user)\" has \(delete ? "no such" : "that") certificate; nothing was changed")
            }
            entry.certificates.removeAll { $0 == digest }
            if !delete { entry.certificates.append(digest) }
            return "the certificate \(digest.hexadecimal) of \"\(user)\" was \(delete ? "deleted from" : "written to") "
                + file.values.auth.users
        }
    }

    private static func digest(of certificate: String) throws(Failure) -> [UInt8] {
        if certificate.hasPrefix("sha256:") {
            if let digest = CertificateIdentity.digest(certificate.dropFirst("sha256:".count)) { return digest }
            throw Failure(
                .usage, "behind sha256: belong 64 hexadecimal digits, as openssl x509 -fingerprint -sha256 shows them")
        }
        do {
            let octets = try SecureFile.read(certificate, maximum: 1 << 20, mustNotBeReadableByOthers: false)
            return try CertificateFacts(certificatePEM: octets).fingerprint
        } catch {
            throw Failure(.configuration, "\(certificate): \(error)")
        }
    }

    /// Changes what the file says of a user who is there.
    private func edit(
        _ file: ConfigurationFile, _ user: String, _ body: (inout UsersFile.User) throws(Failure) -> String
    ) throws(Failure) -> String {
        try write(file, user) { (users) throws(Failure) in
            guard var entry = users.users[user] else { throw Self.unknown(user, file.values.auth.users) }
            let done = try body(&entry)
            users.set(user, entry)
            return done
        }
    }

    private func write(
        _ file: ConfigurationFile, _ user: String, _ body: (inout UsersFile) throws(Failure) -> String
    ) throws(Failure) -> String {
        try UsersFile.change(
            file, of: user, waiting: { say("somebody else changes \(file.values.auth.users); waiting") }, body)
    }

    private static func unknown(_ user: String, _ path: String) -> Failure {
        Failure(.configuration, "there is no user \"\(user)\" in \(path); nothing was changed")
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
