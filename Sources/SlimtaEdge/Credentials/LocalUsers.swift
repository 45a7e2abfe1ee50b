// Users of this machine as logins: who submits by `sendmail` is who the kernel says, who drops a file is its owner. They need
// no password, and may not send as each other.

internal import NIOPosix
internal import SlimtaMail
package import SlimtaSMTP

/// Who the users of this machine are, and as whom each may send.
package struct LocalUsers: Sendable {
    /// What the kernel says of a process whose user has no number here: one of a container or another namespace. It is also
    /// nobody's, and anybody there could have it.
    package static let overflowID: UInt32 = 65534

    private let hostname: String
    private let trusted: Set<String>
    private let name: @Sendable (UInt32) -> String?

    /// - Parameters:
    ///   - hostname: the domain of their addresses.
    ///   - trusted: the names of those who may send as anybody.
    ///   - name: the name of the user with a number, nil where there is none. It may block.
    package init(hostname: String, trusted: [String], name: @escaping @Sendable (UInt32) -> String?) {
        self.hostname = hostname
        self.trusted = Set(trusted)
        self.name = name
    }

    /// The user with a number as a login: its name. It may send as itself here, with any extension (alice+list@host), or as
    /// anybody if it is trusted. Nil: nobody here, who may not send. The system's database may be on the network: it is asked
    /// by a thread that may wait.
    package func user(_ uid: UInt32) async -> AuthenticatedUser? {
        guard uid != Self.overflowID, uid != .max else { return nil }
        let found = try? await NIOThreadPool.singleton.runIfActive { [name] in name(uid) }
        guard let name = found ?? nil, !name.isEmpty else { return nil }
        return user(named: name)
    }

    /// As ``user(_:)``, by the name that it has.
    package func user(named name: String) -> AuthenticatedUser {
        if trusted.contains(name) { return AuthenticatedUser(login: name, senders: ["*"], isLocal: true) }
        // A name that no mailbox can have may not send as anybody.
        let mailbox = Mailbox(localName: name, domain: hostname)
        return AuthenticatedUser(login: name, senders: mailbox.map { [$0.text] } ?? [], isLocal: true)
    }
}
