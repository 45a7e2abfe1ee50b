// The client's side of SMTP AUTH (RFC 4954 section 4): what is said for a mechanism, in base64. Used by SMTPClientMachine.

internal import SlimtaMail

/// One authentication exchange of a client: PLAIN (RFC 4616 section 2) or LOGIN.
///
/// Both send the password as it is, so the machine begins an exchange only inside TLS.
package struct SASLClient: Sendable {
    /// Who we are for a server. Its description shows no password.
    package struct Credentials: Hashable, Sendable, CustomStringConvertible {
        /// The authentication identity; the authorization identity is left to the server (RFC 4616 section 2).
        package let username: String
        /// In clear, as PLAIN and LOGIN send it; not for logs.
        package let password: String

        /// What the configuration has for a host.
        package init(username: String, password: String) {
            self.username = username
            self.password = password
        }

        /// The name alone: these go into messages.
        package var description: String { username }
    }

    /// The mechanisms that are spoken here.
    package struct Mechanisms: OptionSet, Hashable, Sendable {
        /// One bit a mechanism.
        package let rawValue: UInt8

        /// The mechanisms with these bits.
        package init(rawValue: UInt8) { self.rawValue = rawValue }

        /// RFC 4616.
        package static let plain = Mechanisms(rawValue: 1)
        /// The mechanism without an RFC that older servers have.
        package static let login = Mechanisms(rawValue: 2)
    }

    private enum Step { case plain, username, password, over }

    private let credentials: Credentials
    private var step: Step

    /// Chooses the best of the mechanisms that a server offers; nil if it offers none of ours.
    package init?(offered: Mechanisms, credentials: Credentials) {
        if offered.contains(.plain) {
            step = .plain
        } else if offered.contains(.login) {
            step = .username
        } else {
            return nil
        }
        self.credentials = credentials
    }

    /// The parameters of AUTH: the mechanism, with the initial response where it has one.
    package mutating func begin() -> String {
        switch step {
        case .plain:
            step = .over
            return "PLAIN " + Base64.encode("\0\(credentials.username)\0\(credentials.password)".utf8)
        case .username, .password, .over:
            return "LOGIN"
        }
    }

    /// The answer to a 334; nil if the server asks for more than the mechanism has.
    ///
    /// LOGIN has no specification: servers ask for the name, then for the password, in words of their own.
    package mutating func respond() -> String? {
        switch step {
        case .username:
            step = .password
            return Base64.encode(credentials.username.utf8)
        case .password:
            step = .over
            return Base64.encode(credentials.password.utf8)
        case .plain, .over:
            return nil
        }
    }
}
