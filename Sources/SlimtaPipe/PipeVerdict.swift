// What the helper does with a request, and as whom. The composition root decides by slimta.conf, PipeConnection obeys.

/// Who a command is to be.
package struct PipeAccount: Hashable, Sendable {
    /// Its name, for LOGNAME.
    package var name: String
    /// Its home, for HOME.
    package var home: String
    /// Its number.
    package var uid: UInt32
    /// Its main group.
    package var gid: UInt32
    /// All of its groups.
    package var groups: [UInt32]

    /// As the system's databases have it.
    package init(name: String, home: String, uid: UInt32, gid: UInt32, groups: [UInt32]) {
        (self.name, self.home, self.uid, self.gid, self.groups) = (name, home, uid, gid, groups)
    }
}

/// What is to be done with a request.
package enum PipeVerdict: Hashable, Sendable {
    /// Run it as this user: without `changing` that is who we are.
    case run(PipeAccount, changing: Bool)
    /// Why it is not run: in words for the operator.
    case refuse(String)
}
