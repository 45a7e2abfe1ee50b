// Names and numbers of users and groups, as the system's databases have them. Called by the control socket: may block.

import Glibc

/// The system's users and groups.
package enum Accounts {
    /// The number of a group; nil if there is none of this name.
    package static func group(named name: String) -> UInt32? { try? Privileges.groupEntry(name) }

    /// The name of a user, or its number where it has none.
    package static func userName(_ uid: UInt32) -> String {
        var entry = passwd()
        var found: UnsafeMutablePointer<passwd>?
        var buffer = [CChar](repeating: 0, count: 1 << 14)
        guard getpwuid_r(uid, &entry, &buffer, buffer.count, &found) == 0, found != nil, let name = entry.pw_name else {
            return "\(uid)"
        }
        return String(cString: name)
    }
}
