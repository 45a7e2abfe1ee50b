// Names and numbers of users and groups, as the system's databases have them. Called by the control socket: may block.

import Glibc

/// The system's users and groups.
package enum Accounts {
    /// The number of a group; nil if there is none of this name.
    package static func group(named name: String) -> UInt32? { try? Privileges.groupEntry(name) }

    /// A user, as the system's database has it.
    package struct User: Hashable, Sendable {
        /// What it logs in as.
        package let name: String
        /// What it is called: the first part of the GECOS field, in which "&" stands for the name. Empty: nothing is known.
        package let fullName: String
        /// Its folder.
        package let home: String
    }

    /// The user with a number; nil if there is none.
    package static func user(_ uid: UInt32) -> User? {
        var entry = passwd()
        var found: UnsafeMutablePointer<passwd>?
        var buffer = [CChar](repeating: 0, count: 1 << 14)
        guard getpwuid_r(uid, &entry, &buffer, buffer.count, &found) == 0, found != nil, let name = entry.pw_name else {
            return nil
        }
        let login = String(cString: name)
        let gecos = entry.pw_gecos.map { String(cString: $0) } ?? ""
        let full = gecos.prefix { $0 != "," }.replacing("&", with: login.prefix(1).uppercased() + login.dropFirst())
        return User(
            name: login, fullName: String(full), home: entry.pw_dir.map { String(cString: $0) } ?? "/")
    }

    /// The name of a user, or its number where it has none.
    package static func userName(_ uid: UInt32) -> String { user(uid)?.name ?? "\(uid)" }

    /// The home of a user; "/" where it has none.
    package static func home(of uid: UInt32) -> String { user(uid)?.home ?? "/" }
}
