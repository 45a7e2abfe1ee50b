// The keys of [relay] and [[route]] that only type "http" has: where messages are posted, and as whose. Used by RelayReader.

import SlimtaMail

/// What a table says of a server that takes messages over HTTP, or what it has inherited.
struct HTTPKeys {
    private var url: WebAddress?
    private var tokenFile: String?
    private var trustFile: String?

    /// - Parameter inherited: of `[relay]`, if that is of the same type.
    init(_ table: Section, inherited: HTTPKeys?) {
        url =
            table["url"]?.text("a URL such as \"https://mail.example.com/submit\", without user and fragment") {
                WebAddress($0)
            } ?? inherited?.url
        // What is at another place is trusted in another way, and told other secrets.
        let isElsewhere = table.has("url") || table.has("socket")
        tokenFile = table["token_file"]?.fileReference()
        if tokenFile == nil, !isElsewhere, !table.has("username"), !table.has("password_file") {
            tokenFile = inherited?.tokenFile
        }
        trustFile = table["trust_file"]?.absolutePath() ?? (isElsewhere ? nil : inherited?.trustFile)
    }

    /// The server; nil: nothing says where it is.
    func server(_ login: Configuration.Relay.Login?, socket: String?) -> Configuration.Relay.HTTP? {
        url.map { url in
            Configuration.Relay.HTTP(
                url: url, socket: socket, access: tokenFile.map { .bearer(tokenFile: $0) } ?? login.map { .basic($0) },
                trustFile: trustFile)
        }
    }

    /// Reports a secret that would be readable on its way, and what does nothing.
    func check(_ table: Section, _ login: Configuration.Relay.Login?, socket: String?) {
        for key in ["tls", "greeting_timeout", "command_timeout", "source_addresses"] where table.has(key) {
            let hint = key == "tls" ? "; https:// in url says that TLS is spoken" : ""
            table.report(key, "found with type \"http\"", "allowed is it with types that speak SMTP\(hint)")
        }
        guard let url, table.isSound("url", "socket", "token_file", "trust_file") else { return }
        // RFC 7617 section 2.
        if let login, login.username.contains(":"), table.has("username") {
            table.report("username", "found with a colon", "allowed is none with type \"http\"")
        }
        if table.has("token_file"), table.has("username") {
            table.report("token_file", "found with username", "allowed is one of them")
        }
        if table.has("trust_file"), !url.isSecure {
            table.report("trust_file", "found with a url without TLS", "allowed is it with https://")
        }
        let isPrivate = url.isSecure || socket != nil || url.isLoopback
        guard !isPrivate, login != nil || tokenFile != nil else { return }
        let key = ["token_file", "username", "password_file", "url"].first { table.has($0) } ?? "url"
        table.report(
            key, "found a login with a url without TLS: the password would be readable",
            "allowed with a login is https://, this machine (127.0.0.1, [::1], localhost), or a socket")
    }
}

extension Configuration.Relay {
    /// A server that takes messages over HTTP.
    package struct HTTP: Sendable, Equatable {
        /// How it is told who we are.
        package enum Access: Sendable, Equatable {
            /// By name and password (RFC 7617).
            case basic(Login)
            /// By a token (RFC 6750). `token_file`: an absolute path or `credential:NAME`.
            case bearer(tokenFile: String)
        }

        /// Where messages are posted.
        package var url: WebAddress
        /// The path of a UNIX socket that is connected to instead of the host of ``url``.
        package var socket: String?
        /// nil: it is not told who we are.
        package var access: Access?
        /// Certificates to trust instead of the system's: an absolute path.
        package var trustFile: String?

        var login: Login? {
            guard case .basic(let login) = access else { return nil }
            return login
        }

        /// `token_file`.
        package var tokenFile: String? {
            guard case .bearer(let tokenFile) = access else { return nil }
            return tokenFile
        }
    }
}
