// `username` and `password_file` of [relay] and [[route]]: who we are for the host that a relay goes to. Used by
// RelayReader.

import SlimtaMail

/// What a table says of a login, or what it has inherited.
struct LoginKeys {
    private var username: String?
    private var passwordFile: String?

    /// - Parameter inherited: nil where the table names a host of its own.
    init(_ table: Section, inherited: LoginKeys?) {
        username = table["username"]?.text("up to 255 characters without control characters") { name in
            (1...255).contains(name.utf8.count) && name.hasNoASCIIControl ? name : nil
        }
        passwordFile = table["password_file"]?.fileReference()
        if let inherited, username == nil, passwordFile == nil { self = inherited }
    }

    /// nil: none.
    var login: Configuration.Relay.Login? {
        guard let username, let passwordFile else { return nil }
        return Configuration.Relay.Login(username: username, passwordFile: passwordFile)
    }

    /// Reports half a login, and a password that would go over the connection in clear.
    func check(_ table: Section, _ mode: RelayTLSMode) {
        guard table.isSound("username", "password_file") else { return }
        switch (username, passwordFile) {
        case (_?, nil):
            guard table.has("username") else { return }
            table.report("username", "found without password_file", "allowed are both or none")
        case (nil, _?):
            guard table.has("password_file") else { return }
            table.report("password_file", "found without username", "allowed are both or none")
        case (_?, _?):
            guard mode == .cleartext, table.has("username") || table.has("tls"), table.isSound("tls") else { return }
            table.report(
                table.has("tls") ? "tls" : "username",
                "found a login with tls = \"none\": the password would be readable",
                "allowed is any other with a login")
        case (nil, nil): break
        }
    }
}
