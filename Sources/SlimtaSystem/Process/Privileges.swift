// Giving up root. Called once by the composition root, after ports and secrets and before any thread exists:
// capabilities and prctl flags are a thread's own. One thread keeps one right, for a reload that changes `listen`.

import CLinux
import Glibc

/// Who the process is to be.
package struct Identity: Hashable, Sendable {
    /// The user's name.
    package let name: String
    /// The user's number; never root's in a process that runs.
    package let uid: UInt32
    /// The number of its main group.
    package let gid: UInt32
    /// All groups, `gid` among them.
    package let groups: [UInt32]

    /// What ``Privileges/lookUp(user:group:)`` finds.
    package init(name: String, uid: UInt32, gid: UInt32, groups: [UInt32]) {
        self.name = name
        self.uid = uid
        self.gid = gid
        self.groups = groups
    }
}

/// Rights of the process: what it has, and how it gives them up for good.
package enum Privileges {
    /// Whether the process runs as root and has something to drop.
    package static var isRoot: Bool { geteuid() == 0 }

    /// Finds user and group in the system's databases. Throws `.notFound` if one does not exist.
    package static func lookUp(user: String, group: String) throws(SystemError) -> Identity {
        let (uid, _) = try passwordEntry(user)
        let gid = try groupEntry(group)
        return Identity(name: user, uid: uid, gid: gid, groups: try groupList(user, gid))
    }

    /// A user with all of its groups, and its home. Throws `.notFound` if there is none of this name.
    package static func lookUp(user: String) throws(SystemError) -> (identity: Identity, home: String) {
        let (uid, gid) = try passwordEntry(user)
        let identity = Identity(name: user, uid: uid, gid: gid, groups: try groupList(user, gid))
        return (identity, Accounts.home(of: uid))
    }

    /// Keeps of root's rights what a helper needs that runs commands as others: to become them, and to end them.
    package static func keepThoseOfPipes() throws(SystemError) {
        try check(linux_keep_capabilities_for_commands(), "cannot give up capabilities")
    }

    /// The id of a user; nil if there is none of this name.
    package static func userID(_ user: String) -> UInt32? { (try? passwordEntry(user))?.uid }

    /// Becomes `identity` for good: groups, gid, uid, in that order; no capability is left but that of the thread of
    /// ``bindingLowPorts(_:)``, no execve can bring one back, and each way back to root was tried and is closed.
    ///
    /// A process that is not root can only "become" itself. Throws `.notPermitted` if anything is not as it must be:
    /// the process must then end.
    package static func drop(to identity: Identity) throws(SystemError) {
        guard identity.uid != 0, identity.gid != 0, !identity.groups.contains(0) else {
            throw SystemError(.notPermitted, "will not run as \(identity.name): it has root's user or group id")
        }
        if isRoot {
            // Where it is refused nothing outlives the change, and low ports are had at the start only.
            let keepsRights = linux_keep_capabilities(true) == 0
            let error = linux_set_identity(identity.uid, identity.gid, identity.groups, identity.groups.count)
            if keepsRights { try check(linux_keep_capabilities(false), "cannot give up capabilities") }
            guard error == 0 else {
                throw SystemError("cannot become user \(identity.name)", number: error, code: .notPermitted)
            }
            guard Set(try currentGroups()) == Set(identity.groups) else {
                throw SystemError(.notPermitted, "the supplementary groups are not those of \(identity.name)")
            }
        }
        guard linux_has_identity(identity.uid, identity.gid) else {
            throw SystemError(.notPermitted, "cannot become user \(identity.name): not started as root")
        }
        try renounce()
    }

    /// Gives up what is left beyond an ordinary user's rights: all capabilities. The one to bind low ports, where it was
    /// had, is left to a thread of its own, in which it is in effect for ``bindingLowPorts(_:)`` alone; no program that is
    /// run gets it.
    ///
    /// For a process that was started as an ordinary user; `drop` calls it as well. As root it throws.
    package static func renounce() throws(SystemError) {
        try check(linux_set_no_new_privileges(), "cannot set no_new_privs")
        try check(linux_start_binder(), "cannot start a thread")
        try check(linux_clear_capabilities(), "cannot give up capabilities")
        guard linux_has_no_capabilities(), !linux_can_regain_root() else {
            throw SystemError(.notPermitted, "root's rights could be regained")
        }
        // The change of ids cleared it; without it Swift's crash report has addresses instead of names.
        try check(linux_set_dumpable(), "cannot make crash reports possible")
    }

    /// Runs `body` with the right to bind ports below 1024, if the process has kept it, in the thread that has; waits for
    /// it. Without that right `body` runs as well: what it may not do, the system tells it.
    package static func bindingLowPorts<Success, Failure: Error>(
        _ body: () throws(Failure) -> Success
    ) throws(Failure) -> Success {
        var result: Result<Success, Failure>?
        withoutActuallyEscaping(body) { body in
            var job = { result = Result(catching: body) }
            withUnsafeMutablePointer(to: &job) { job in
                linux_run_in_binder({ $0?.assumingMemoryBound(to: (() -> Void).self).pointee() }, job)
            }
        }
        guard let result else { preconditionFailure("a job is run before it is waited for") }
        return try result.get()
    }

    private static func check(_ error: Int32, _ what: String) throws(SystemError) {
        if error != 0 { throw SystemError(what, number: error, code: .notPermitted) }
    }

    private static func passwordEntry(_ user: String) throws(SystemError) -> (uid: UInt32, gid: UInt32) {
        var entry = passwd()
        try lookUp("user \(user)") { buffer, size in
            var found: UnsafeMutablePointer<passwd>?
            return (getpwnam_r(user, &entry, buffer, size, &found), found != nil)
        }
        return (entry.pw_uid, entry.pw_gid)
    }

    static func groupEntry(_ name: String) throws(SystemError) -> UInt32 {
        var entry = group()
        try lookUp("group \(name)") { buffer, size in
            var found: UnsafeMutablePointer<group>?
            return (getgrnam_r(name, &entry, buffer, size, &found), found != nil)
        }
        return entry.gr_gid
    }

    /// The _r calls want a buffer of unknown size: it is grown until it does. Of what they find only numbers may be used.
    private static func lookUp(
        _ what: String, _ call: (UnsafeMutablePointer<CChar>, Int) -> (error: CInt, isFound: Bool)
    ) throws(SystemError) {
        var size = 1024
        while true {
            var buffer = [CChar](repeating: 0, count: size)
            let (error, isFound) = call(&buffer, size)
            if error == ERANGE, size < 1 << 20 {
                size *= 2
                continue
            }
            guard error == 0 else { throw SystemError("cannot look up \(what)", number: error, code: .failed) }
            guard isFound else { throw SystemError(.notFound, "there is no \(what)") }
            return
        }
    }

    private static func groupList(_ user: String, _ gid: UInt32) throws(SystemError) -> [UInt32] {
        var groups = [gid_t](repeating: 0, count: 64)
        while groups.count <= 1 << 16 {
            var count = Int32(groups.count)
            if getgrouplist(user, gid, &groups, &count) >= 0 { return Array(groups.prefix(Int(count))) }
            groups = [gid_t](repeating: 0, count: max(Int(count), groups.count * 2))
        }
        throw SystemError(.failed, "user \(user) is in too many groups")
    }

    private static func currentGroups() throws(SystemError) -> [UInt32] {
        let count = getgroups(0, nil)
        guard count >= 0 else { throw SystemError("cannot read the groups", number: errno) }
        var groups = [gid_t](repeating: 0, count: Int(count))
        let got = getgroups(count, &groups)
        guard got >= 0 else { throw SystemError("cannot read the groups", number: errno) }
        return Array(groups.prefix(Int(got)))
    }
}
