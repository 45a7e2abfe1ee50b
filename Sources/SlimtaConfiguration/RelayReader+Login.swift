// Who we are for the host that a relay goes to: `auth`, `username` and what proves it, of [relay] and [[route]]. Used by
// RelayReader.

import SlimtaMail

/// What a table says of a login, or what it has inherited.
struct LoginKeys {
    /// What `auth` may say.
    private enum Way: String, CaseIterable {
        case password
        case tokens = "oauth2"
    }

    private var username: String?
    private var passwordFile: String?
    private var way: Way?
    private var tokens: TokenKeys
    private var hasCertificate: Bool

    /// - Parameters:
    ///   - inherited: nil where the table names a host of its own.
    ///   - hasCertificate: there is a certificate that proves who we are.
    init(_ table: Section, inherited: LoginKeys?, hasCertificate: Bool) {
        username = table["username"]?.text("up to 255 characters without control characters") { name in
            (1...255).contains(name.utf8.count) && name.hasNoASCIIControl ? name : nil
        }
        passwordFile = table["password_file"]?.fileReference()
        way = table["auth"]?.choice()
        tokens = TokenKeys(table)
        self.hasCertificate = hasCertificate
        let isSilent = (["auth", "username", "password_file"] + TokenKeys.names).allSatisfy { !table.has($0) }
        guard let inherited, isSilent else { return }
        self = inherited
        self.hasCertificate = hasCertificate
    }

    /// nil: none.
    ///
    /// - Parameter table: where what is missing for tokens is told; nil: it was told.
    func login(_ table: Section?) -> Configuration.Relay.Login? {
        guard let username else { return nil }
        switch way ?? .password {
        case .tokens:
            let tokens = table.flatMap { self.tokens.tokens($0) }
            return tokens.map { Configuration.Relay.Login(username: username, proof: .tokens($0)) }
        case .password:
            if let passwordFile {
                return Configuration.Relay.Login(username: username, proof: .password(file: passwordFile))
            }
            return hasCertificate ? Configuration.Relay.Login(username: username, proof: .certificate) : nil
        }
    }

    /// Reports half a login, and a password that would go over the connection in clear.
    func check(_ table: Section, _ mode: RelayTLSMode) {
        guard table.isSound("auth", "username", "password_file") else { return }
        if way == .tokens {
            if table.has("password_file") {
                table.report("password_file", "found with auth = \"oauth2\"", "allowed is it with auth = \"password\"")
            }
            if username == nil {
                return table.report("username", "missing", "required with auth = \"oauth2\" is the mailbox")
            }
        } else {
            for key in TokenKeys.names where table.has(key) {
                table.report(key, "found without auth = \"oauth2\"", "allowed is it with auth = \"oauth2\"")
            }
        }
        let isProven = passwordFile != nil || way == .tokens || hasCertificate
        switch (username, isProven) {
        case (_?, false):
            guard table.has("username") else { return }
            table.report("username", "found without password_file", "allowed are both or none")
        case (nil, true):
            guard table.has("password_file") else { return }
            table.report("password_file", "found without username", "allowed are both or none")
        case (_?, true):
            guard mode == .cleartext, table.has("username") || table.has("tls"), table.isSound("tls") else { return }
            table.report(
                table.has("tls") ? "tls" : "username",
                "found a login with tls = \"none\": the password would be readable",
                "allowed is any other with a login")
        case (nil, false): break
        }
    }
}

/// `client_certificate` and `client_key`, or what was inherited of them.
struct ClientCertificateKeys {
    private var certificate: String?
    private var key: String?

    init(_ table: Section, inherited: ClientCertificateKeys?) {
        certificate = table["client_certificate"]?.fileReference()
        key = table["client_key"]?.fileReference()
        if let inherited, certificate == nil, key == nil { self = inherited }
    }

    /// nil: none.
    var pair: Configuration.TLS.Pair? {
        guard let certificate, let key else { return nil }
        return Configuration.TLS.Pair(certificate: certificate, key: key)
    }

    /// Reports half of it, and what nobody would ever be shown.
    func check(_ table: Section, _ mode: RelayTLSMode) {
        guard table.isSound("client_certificate", "client_key", "tls") else { return }
        switch (certificate, key) {
        case (_?, nil) where table.has("client_certificate"):
            table.report("client_certificate", "found without client_key", "allowed are both or none")
        case (nil, _?) where table.has("client_key"):
            table.report("client_key", "found without client_certificate", "allowed are both or none")
        case (_?, _?) where mode == .cleartext && (table.has("client_certificate") || table.has("tls")):
            table.report(
                table.has("tls") ? "tls" : "client_certificate", "found client_certificate with tls = \"none\"",
                "allowed is it with TLS")
        default: break
        }
    }
}
